-- Values of a run, in the order of the items.

-- inputs_in_order: Chunks of a step that have an input, in the order of the items they stem from.
SELECT p.id FROM paths($1, $2) p JOIN chunk c ON c.id = p.id AND c.instance = $1
WHERE p.step = $2 AND c.data IS NOT NULL ORDER BY p.place;

-- outputs_in_order: What a step gave: the chunk that gave it and its number there, in the order of the items.
SELECT p.id AS parent, g.seq FROM paths($1, $2) p JOIN (
    SELECT parent, seq FROM chunk WHERE instance = $1 AND step <> $2 AND seq IS NOT NULL AND data IS NOT NULL
        AND id NOT IN (FROM redone($1))
    UNION ALL
    SELECT parent, seq FROM output WHERE instance = $1
) g ON g.parent = p.id
WHERE p.step = $2 ORDER BY p.place, g.seq;

-- reduced_in_order: What the reduction at step $2 reads, as outputs_in_order.
SELECT p.id AS parent, o.seq FROM output o JOIN paths($1, $2) p ON p.id = o.parent
WHERE o.instance = $1 AND o.step = $2 ORDER BY list_append(p.place, o.seq);

-- outputs_by_parent: Stored outputs of some chunks, within bounds of their numbers.
SELECT parent, seq, data FROM chunk
WHERE instance = $1 AND parent BETWEEN $2 AND $3 AND parent IN (SELECT unnest($4::BIGINT[])) AND seq BETWEEN $5 AND $6
    AND id NOT IN (FROM redone($1))
    AND step <> (SELECT p.step FROM chunk p WHERE p.instance = $1 AND p.id = $2)
UNION ALL
SELECT parent, seq, data FROM output
WHERE instance = $1 AND parent BETWEEN $2 AND $3 AND parent IN (SELECT unnest($4::BIGINT[])) AND seq BETWEEN $5 AND $6;

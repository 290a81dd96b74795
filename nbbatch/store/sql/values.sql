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
    UNION ALL
    SELECT parent, seq FROM sealed_outputs($1) WHERE data IS NOT NULL
) g ON g.parent = p.id
WHERE p.step = $2 ORDER BY p.place, g.seq;

-- reduced_in_order: What the reduction at step $2 reads, as outputs_in_order.
SELECT p.id AS parent, o.seq FROM output o JOIN paths($1, $2) p ON p.id = o.parent
WHERE o.instance = $1 AND o.step = $2 ORDER BY list_append(p.place, o.seq);

-- references: What an instance's stored values are that lie in files.
SELECT data FROM chunk WHERE instance = $1 AND data >= '@'::BLOB AND data < 'A'::BLOB
UNION ALL SELECT data FROM output WHERE instance = $1 AND data >= '@'::BLOB AND data < 'A'::BLOB
UNION ALL SELECT data FROM staged WHERE instance = $1 AND data >= '@'::BLOB AND data < 'A'::BLOB;

-- chunk_references: Chunks whose inputs lie in files.
SELECT rowid, data FROM chunk WHERE data >= '@'::BLOB AND data < 'A'::BLOB;

-- output_references: Outputs that lie in files.
SELECT rowid, data FROM output WHERE data >= '@'::BLOB AND data < 'A'::BLOB;

-- staged_references: Outputs that are to become chunks and lie in files.
SELECT rowid, data FROM staged WHERE data >= '@'::BLOB AND data < 'A'::BLOB;

-- put_in_staged: Put an output into its row there.
UPDATE staged SET data = $2 WHERE rowid = $1;

-- put_in_chunk: Put an input into its chunk.
UPDATE chunk SET data = $2 WHERE rowid = $1;

-- put_in_output: Put an output into its row.
UPDATE output SET data = $2 WHERE rowid = $1;

-- shared_folder: Where the store has its files of values, as JSON.
SELECT value FROM meta WHERE name = 'values';

-- forget_shared_folder: Drop that note.
DELETE FROM meta WHERE name = 'values';

-- note_shared_folder: Note it.
INSERT INTO meta VALUES ('values', $1);

-- outputs_by_parent: Stored outputs of some chunks, within bounds of their numbers.
SELECT parent, seq, data FROM chunk
WHERE instance = $1 AND parent BETWEEN $2 AND $3 AND parent IN (SELECT unnest($4::BIGINT[])) AND seq BETWEEN $5 AND $6
    AND id NOT IN (FROM redone($1))
    AND step <> (SELECT p.step FROM chunk p WHERE p.instance = $1 AND p.id = $2)
UNION ALL
SELECT parent, seq, data FROM output
WHERE instance = $1 AND parent BETWEEN $2 AND $3 AND parent IN (SELECT unnest($4::BIGINT[])) AND seq BETWEEN $5 AND $6
UNION ALL
SELECT parent, seq, data FROM sealed_outputs($1) WHERE parent IN (SELECT unnest($4::BIGINT[])) AND seq BETWEEN $5 AND $6;

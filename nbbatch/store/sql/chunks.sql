-- Chunks, their inputs and their outputs.

-- chunk_instance: The instance of a chunk.
SELECT instance FROM chunk WHERE id = $1;

-- inputs_of_step: Chunks of a step in their order, each with state and input; the first one's input is the instance's parameters.
SELECT c.id, k.status, CASE WHEN c.step = 0 THEN s.params ELSE c.data END
FROM chunk c JOIN chunks_of($1, {NOW}) k ON k.id = c.id JOIN submitted s ON s.id = c.instance
WHERE c.instance = $1 AND c.step = $2 ORDER BY c.id;

-- chunks_of_step: Chunks of a step in their order.
SELECT id FROM chunk WHERE instance = $1 AND step = $2 AND id NOT IN (FROM replaced($1)) ORDER BY id;

-- outputs_of_step: What each chunk of a step gave, in its order.
SELECT parent, data FROM (
    SELECT parent, seq, data FROM chunk WHERE instance = $1 AND seq IS NOT NULL AND step <> $2
        AND id NOT IN (FROM redone($1))
    UNION ALL SELECT parent, seq, data FROM output WHERE instance = $1
    UNION ALL SELECT parent, seq, data FROM sealed_outputs($1)
) WHERE parent IN (SELECT id FROM chunk WHERE instance = $1 AND step = $2) ORDER BY parent, seq;

-- reduction_inputs: All outputs for a reduction in the order of the items they stem from, whatever ran first.
SELECT o.data FROM output o JOIN paths($1, 32767) p ON p.id = o.parent
WHERE o.instance = $1 ORDER BY list_append(p.place, o.seq);

-- chunks: Chunks $4 to $5 of an instance in order of creation, as of $6 (NULL: now).
SELECT id, step, status, attempts, errors, polls, parent, seq, created, started, ended, due, records, seconds,
    error_type, error
FROM chunks_of($1, coalesce($6, {NOW}))
WHERE ($2 IS NULL OR step = $2) AND ($3 IS NULL OR status = $3) AND id BETWEEN $4 AND $5
ORDER BY id LIMIT $7 OFFSET $8;

-- chunks_by_id: The chunks $4 of an instance, which are between $2 and $3.
SELECT id, step, status, attempts, parent, seconds, error_type, error
FROM chunks_of($1, {NOW}) WHERE id BETWEEN $2 AND $3 AND id IN (SELECT unnest($4::BIGINT[]));

-- slowest_chunks: Chunks by what their last attempt took, of a step $2 (NULL: all) in a state $3 (NULL: any).
SELECT chunk FROM standing($1, {NOW}) WHERE ($2 IS NULL OR step = $2) AND ($3 IS NULL OR status = $3)
ORDER BY ended_us - started_us DESC NULLS LAST, chunk LIMIT $4 OFFSET $5;

-- newest_chunks: The same by when that ended; those without an attempt last.
SELECT chunk FROM standing($1, {NOW}) WHERE ($2 IS NULL OR step = $2) AND ($3 IS NULL OR status = $3)
ORDER BY event DESC NULLS LAST, chunk DESC LIMIT $4 OFFSET $5;

-- chunks_before: How many chunks of a step $2 (NULL: all) come before the one after $3.
SELECT count(*) FROM present_chunks($1, {NOW}) WHERE id <= $3 AND ($2 IS NULL OR step = $2);

-- chunk_briefs: Of the chunks $4, between $2 and $3, whether each is the first, its input where it has no more than $5 bytes, how many it has,
-- and the worker of its last attempt.
SELECT c.id, c.step = 0 AND c.parent IS NULL, CASE WHEN octet_length(c.data) <= $5 THEN c.data END, octet_length(c.data), e.worker
FROM chunk c LEFT JOIN (
    SELECT chunk, arg_max(worker, id) AS worker FROM event
    WHERE instance = $1 AND chunk BETWEEN $2 AND $3 AND chunk IN (SELECT unnest($4::BIGINT[])) GROUP BY chunk
) e ON e.chunk = c.id
WHERE c.id BETWEEN $2 AND $3 AND c.instance = $1 AND c.id IN (SELECT unnest($4::BIGINT[]));

-- chunk_span: The first and the last chunk of such a frame, and how many; read first, so that the rest is joined for few.
SELECT min(id), max(id), count(*) FROM (
    SELECT id FROM present_chunks($1, coalesce($5, {NOW}))
    WHERE $2 IS NULL OR step IN (SELECT s.step FROM step s WHERE s.instance = $1 AND s.name = $2)
    ORDER BY id LIMIT $3 OFFSET $4
);

-- any_chunk: One chunk of an instance, replaced by a rerun or not.
SELECT * EXCLUDE (instance, due) FROM chunks_of($1, {NOW}) WHERE id = $2
UNION ALL
SELECT * EXCLUDE (instance) FROM superseded_chunks WHERE instance = $1 AND id = $2;

-- chunk: Step, input and parent of a chunk.
SELECT step, data, parent FROM chunk WHERE instance = $1 AND id = $2;

-- first_chunk: The chunk an instance began with.
SELECT max(id) FROM chunk WHERE instance = $1 AND step = 0;

-- children: Chunks made of a chunk's outputs, in their order. Those of a chunk that was replaced are still shown with it.
SELECT id FROM chunk WHERE instance = $1 AND parent = $2 AND seq IS NOT NULL
    AND ($2 IN (FROM replaced($1)) OR id NOT IN (FROM redone($1))) ORDER BY seq, id;

-- chunk_outputs: What a chunk gave, in its order.
SELECT data FROM (
    SELECT seq, data FROM chunk WHERE instance = $1 AND parent = $2 AND seq IS NOT NULL
        AND ($2 IN (FROM replaced($1)) OR id NOT IN (FROM redone($1))) AND step <> (SELECT step FROM chunk WHERE instance = $1 AND id = $2)
    UNION ALL SELECT seq, data FROM output WHERE instance = $1 AND parent = $2
    UNION ALL SELECT seq, data FROM sealed_outputs($1) WHERE parent = $2
) ORDER BY seq;

-- highest_chunk: The last chunk of an instance; 0 without any.
SELECT coalesce(max(id), 0) FROM chunk WHERE instance = $1;

-- Which chunks a page of the panel lists: bounded reads, in order of id.

-- chunks_after: Chunks of an instance after one, of step $3 or of any.
SELECT id FROM chunk WHERE instance = $1 AND id > $2 AND ($3 IS NULL OR step = $3)
    AND id NOT IN (FROM replaced($1)) ORDER BY id LIMIT $4;

-- chunks_once_in: The next $5 chunks that were in state $4 at some time, and whether they are.
WITH candidate AS (
    SELECT chunk FROM event WHERE instance = $1 AND chunk > $2 AND ($3 IS NULL OR step = $3) AND status = $4
    ORDER BY chunk LIMIT $5
)
SELECT chunk, arg_max(status, id) = $4 AND chunk NOT IN (FROM replaced($1)) FROM event
WHERE instance = $1 AND chunk > $2 AND chunk IN (FROM candidate) GROUP BY chunk ORDER BY chunk;

-- chunks_never_begun: Of the next $5 ids those of chunks without any event, at most $4.
SELECT c.id FROM chunk c ANTI JOIN (
    SELECT chunk FROM event WHERE instance = $1 AND chunk > $2 AND chunk <= $2 + $5
    UNION ALL (FROM replaced($1))
) e ON e.chunk = c.id
WHERE c.instance = $1 AND c.id > $2 AND c.id <= $2 + $5 AND ($3 IS NULL OR c.step = $3) ORDER BY c.id LIMIT $4;

-- highest_chunk: The last chunk of an instance; 0 without any.
SELECT coalesce(max(id), 0) FROM chunk WHERE instance = $1;

-- steps_of_chunks: The steps of some chunks.
SELECT id, step FROM chunk WHERE instance = $1 AND list_contains($2::BIGINT[], id);

-- chunk_rows: Chunks $4, which lie between $2 and $3, as the table shows them.
WITH last AS (
    SELECT chunk, arg_max(e, id) AS e FROM event e
    WHERE instance = $1 AND chunk >= $2 AND chunk <= $3 AND list_contains($4::BIGINT[], chunk) GROUP BY chunk
)
SELECT c.id, c.step, c.parent, coalesce(l.e.status, {QUEUED}), coalesce(l.e.attempt, 0), (l.e.ended_us - l.e.started_us) / 1e6,
    d.error_type, left(d.error, 300)
FROM chunk c LEFT JOIN last l ON l.chunk = c.id LEFT JOIN detail d ON d.event = l.e.id AND d.instance = $1
WHERE c.instance = $1 AND c.id >= $2 AND c.id <= $3 AND list_contains($4::BIGINT[], c.id) ORDER BY c.id;

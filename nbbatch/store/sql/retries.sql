-- Chunks that are done again.

-- plan: By step, chunks that are done again, kept and left out, the code that ran them last, preferably that which failed, and how many wait
-- for another attempt. Done again are
-- those that failed or were cancelled (of $2; NULL: all), and chunks $3 with all that came of them; without any $3 nothing is searched. Outputs
-- that are to become chunks count as such.
WITH RECURSIVE family AS (
    SELECT unnest($3::BIGINT[]) AS id
    UNION ALL
    SELECT c.id FROM chunk c JOIN family f ON c.parent = f.id WHERE c.instance = $1 AND len($3::BIGINT[]) > 0
),
open AS (
    SELECT k.step, k.code, k.status = {FAILED} AS failed, k.chunk IN (FROM family) AS again,
        k.status IN {RETRIED} AS ended_badly, k.status = {ERRORED} AS waiting, $2 IS NULL OR k.chunk IN (SELECT unnest($2::BIGINT[])) AS chosen
    FROM open_chunks($1, {NOW}) k
),
part AS (
    SELECT step, count(*) FILTER (again OR (ended_badly AND chosen)) AS again, 0 AS kept,
        count(*) FILTER (ended_badly AND NOT again AND NOT chosen) AS left_out, coalesce(mode(code) FILTER (failed), mode(code)) AS code, 0 AS rank,
        count(*) FILTER (waiting) AS waiting
    FROM open GROUP BY step
    UNION ALL
    SELECT z.step, sum(z.n) FILTER (again OR $2 IS NULL), 0, sum(z.n) FILTER (NOT again AND $2 IS NOT NULL), NULL, 4, 0 FROM (
        SELECT z.instance, z.step, z.n, z.chunk IN (FROM family) AS again FROM sealed($1, {NOW}) z
        JOIN step s ON s.instance = z.instance AND s.step = z.step AND s.kind <> 'reduction'
    ) z WHERE again OR z.instance IN (FROM cancelled($1, {NOW})) GROUP BY z.step
    UNION ALL
    SELECT k.step, count(*), 0, 0, NULL, 1, 0 FROM untouched_chunks($1, {NOW}) k SEMI JOIN family f ON f.id = k.id
    WHERE len($3::BIGINT[]) > 0 GROUP BY k.step
    UNION ALL
    SELECT step, 0, count(*), 0, arg_max(code, event), 2, 0 FROM done_chunks($1, {NOW}) GROUP BY step
    UNION ALL
    SELECT k.step, count(*), -count(*), 0, NULL, 3, 0 FROM done_chunks($1, {NOW}) k SEMI JOIN family f ON f.id = k.chunk
    WHERE len($3::BIGINT[]) > 0 GROUP BY k.step
)
SELECT step, sum(again)::BIGINT, sum(kept)::BIGINT, sum(left_out)::BIGINT, arg_min(code, rank), sum(waiting)::BIGINT FROM part GROUP BY step ORDER BY step;

-- count_stopped: How many chunks of an instance stand FAILED by a FailJob.
SELECT count(*) FROM open_chunks($1, {NOW}) o JOIN detail d ON d.event = o.event AND d.instance = $1
WHERE o.status = {FAILED} AND d.error_type = 'FailJob';

-- count_dropped: How many of some chunks have lost their input.
SELECT count(*) FROM chunk WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[])) AND data IS NULL;

-- supersede: Mark chunks $2 of an instance and all that came of them as replaced at $3; those by copies with ids after $4 (NULL: by none).
INSERT INTO superseded
WITH RECURSIVE family AS (
    SELECT unnest($2::BIGINT[]) AS id
    UNION ALL
    SELECT c.id FROM chunk c JOIN family f ON c.parent = f.id WHERE c.instance = $1
)
SELECT c.id, c.instance, $3, n.copy FROM present_chunks($1, {NOW}) c SEMI JOIN family f ON f.id = c.id
LEFT JOIN (SELECT id, $4 + row_number() OVER (ORDER BY id) AS copy FROM (SELECT unnest($2::BIGINT[]) AS id)) n ON n.id = c.id;

-- copy_chunks: Make chunks $2 of an instance anew, in their order, with ids after $3.
INSERT INTO chunk
SELECT $3 + row_number() OVER (ORDER BY id), instance, step, parent, seq, $4, data, NULL
FROM chunk WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[]));

-- completed_of: Chunks of one step of an instance that are COMPLETED, in their order.
SELECT chunk FROM done_chunks($1, {NOW}) WHERE step = $2 AND status = {COMPLETED} ORDER BY chunk;

-- some_standing: How some chunks of an instance stand, and of which kind their steps are.
SELECT k.chunk, k.step, k.status, s.kind FROM standing($1, {NOW}) k JOIN step s ON s.instance = k.instance AND s.step = k.step
WHERE k.chunk IN (SELECT unnest($2::BIGINT[]));

-- count_standing: How many chunks of an instance are in one of some states.
SELECT count(*) FROM standing($1, {NOW}) WHERE list_contains($2::TINYINT[], status);

-- change_chunks: Chunks of an instance that are in one of the states $4, and one of $5 (NULL: any), become $3 by hand: their events, with ids
-- after $2 and at $6. What runs again has a fresh budget. Returns how many.
INSERT INTO event BY NAME
SELECT $2 + row_number() OVER (ORDER BY chunk) AS id, chunk, instance, step, attempt, $3 AS status,
    CASE WHEN $3 = {QUEUED} THEN 0 ELSE errors END AS errors, polls, CASE WHEN status = {IN_PROGRESS} THEN started_us END AS started_us,
    $6 AS ended_us, 0 AS records
FROM standing($1, {NOW})
WHERE list_contains($4::TINYINT[], status) AND ($5 IS NULL OR chunk IN (SELECT unnest($5::BIGINT[])));

-- changed_chunks: The events of such a change: those with ids after $2.
SELECT chunk, step, attempt, polls FROM event WHERE instance = $1 AND id > $2 ORDER BY id;

-- note_reason: Why it was made.
INSERT INTO detail BY NAME SELECT chunk, instance, attempt, id AS event, $3 AS error FROM event WHERE instance = $1 AND id > $2;

-- inputs_with_files: Inputs of chunks $2 of an instance that name files, or may as they are references.
SELECT id, data FROM chunk
WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[])) AND (contains(data::VARCHAR, '$file') OR data[1:1] = '@'::BLOB);

-- replace_inputs: Give chunks $2 of an instance inputs $3: what they name has changed.
UPDATE chunk SET data = n.data FROM (SELECT unnest($2::BIGINT[]) AS id, unnest($3::BLOB[]) AS data) n
WHERE chunk.instance = $1 AND chunk.id = n.id;

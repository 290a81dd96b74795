-- Chunks that are done again.

-- retry_plan: By step, chunks that a retry (of chunks $2, or of all) runs again, keeps and leaves out, and the code that failed. Nearly all
-- chunks have one event, COMPLETED at the first attempt: only the others need a look for their last.
WITH mine AS (SELECT * FROM event WHERE instance = $1 AND chunk NOT IN (FROM replaced($1))),
odd AS MATERIALIZED (SELECT DISTINCT chunk FROM mine WHERE NOT (status = {COMPLETED} AND attempt = 1)),
last AS (
    SELECT arg_max(step, id) AS step, arg_max(status, id) AS status, arg_max(code, id) AS code,
        $2 IS NULL OR chunk IN (SELECT unnest($2::BIGINT[])) AS chosen
    FROM mine WHERE chunk IN (FROM odd) GROUP BY chunk
),
part AS (
    SELECT step, count(*) FILTER (status IN ({FAILED}, {CANCELLED}) AND chosen) AS again, count(*) FILTER (status IN {DONE}) AS kept,
        count(*) FILTER (status IN ({FAILED}, {CANCELLED}) AND NOT chosen) AS left_out,
        coalesce(mode(code) FILTER (status = {FAILED}), mode(code)) AS code, 0 AS rank
    FROM last GROUP BY step
    UNION ALL
    SELECT step, 0, count(*), 0, arg_max(code, id), 1 FROM mine
    WHERE status = {COMPLETED} AND attempt = 1 AND chunk NOT IN (FROM odd) GROUP BY step
)
SELECT step, sum(again)::BIGINT, sum(kept)::BIGINT, sum(left_out)::BIGINT, arg_min(code, rank) FROM part GROUP BY step ORDER BY step;

-- retry_plan_always: The same where steps $2 are always done again: what comes of their chunks is found through all descendants.
WITH RECURSIVE family AS (
    SELECT chunk AS id FROM event WHERE instance = $1 AND status = {COMPLETED} AND step IN (SELECT unnest($2::INTEGER[]))
    UNION
    SELECT c.id FROM chunk c JOIN family f ON c.parent = f.id WHERE c.instance = $1
),
last AS (SELECT chunk, arg_max(status, id) AS status, arg_max(code, id) AS code FROM event
    WHERE instance = $1 AND chunk NOT IN (FROM replaced($1)) GROUP BY chunk)
SELECT c.step, count(*) FILTER (l.status IN ({FAILED}, {CANCELLED}) OR c.id IN (FROM family)) AS again,
    count(*) FILTER (l.status IN {DONE} AND c.id NOT IN (FROM family)) AS kept, 0 AS left_out,
    coalesce(mode(l.code) FILTER (l.status = {FAILED}), mode(l.code)) AS code
FROM chunk c LEFT JOIN last l ON l.chunk = c.id
WHERE c.instance = $1 AND c.id NOT IN (FROM replaced($1))
GROUP BY c.step ORDER BY c.step;

-- requeue_ended: Queue chunks of an instance again whose last state is $4 or $5, with a fresh budget; $6: which ones, NULL: all.
INSERT INTO event
WITH last AS (SELECT chunk, max(id) AS id FROM event WHERE instance = $1 GROUP BY chunk)
SELECT $2 + row_number() OVER (ORDER BY e.chunk), e.chunk, e.instance, e.step, e.attempt,
    CASE WHEN s.gated AND s.opened_us IS NULL THEN {GATE_WAITING} ELSE {QUEUED} END, 0, e.polls, NULL, $3, NULL, 0, NULL, NULL
FROM last JOIN event e ON e.id = last.id JOIN step s ON s.instance = e.instance AND s.step = e.step
WHERE e.status IN ($4, $5) AND ($6 IS NULL OR e.chunk IN (SELECT unnest($6::BIGINT[]))) AND e.chunk NOT IN (FROM replaced($1));

-- completed_of: Chunks of one step of an instance that are COMPLETED, in their order.
SELECT e.chunk FROM event e WHERE e.instance = $1 AND e.step = $2 AND e.status = {COMPLETED}
    AND e.chunk NOT IN (FROM replaced($1)) ORDER BY e.chunk;

-- chunk_state: The present state of one chunk: step, state code (NULL: no event), attempt, errors, polls.
SELECT c.step, arg_max(e.status, e.id), coalesce(max(e.attempt), 0), arg_max(e.errors, e.id), arg_max(e.polls, e.id)
FROM chunk c LEFT JOIN event e ON e.chunk = c.id WHERE c.id = $1 AND c.instance = $2
    AND c.id NOT IN (FROM replaced($2)) GROUP BY c.step;

-- count_reductions: How many of some chunks are of a reduction.
SELECT count(*) FROM chunk c JOIN step s ON s.instance = c.instance AND s.step = c.step
WHERE c.instance = $1 AND s.instance = $1 AND c.id IN (SELECT unnest($2::BIGINT[])) AND s.kind = 'reduction';

-- count_split: How many pages of a step were split in two.
SELECT count(*) FROM chunk c JOIN chunk p ON p.id = c.parent AND p.instance = c.instance AND p.step = c.step
WHERE c.instance = $1 AND c.step = $2 AND c.seq = 0 AND c.id NOT IN (FROM replaced($1));

-- count_stopped: How many chunks of an instance stand FAILED by a FailJob.
SELECT count(*) FROM chunks WHERE instance = $1 AND status = 'FAILED' AND error_type = 'FailJob';

-- count_dropped: How many of some chunks have lost their input.
SELECT count(*) FROM chunk WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[])) AND data IS NULL;

-- supersede: Mark chunks $2 of an instance, all their descendants and the chunks of the reduction's step $3 as replaced.
INSERT INTO superseded
WITH RECURSIVE family AS (
    SELECT unnest($2::BIGINT[]) AS id
    UNION
    SELECT c.id FROM chunk c JOIN family f ON c.parent = f.id WHERE c.instance = $1
)
SELECT c.id, c.instance, $4 FROM chunk c
WHERE c.instance = $1 AND (c.step = $3 OR c.id IN (SELECT id FROM family))
    AND c.id NOT IN (FROM replaced($1));

-- copy_chunks: Make chunks $2 of an instance anew, in their order, with ids after $3.
INSERT INTO chunk
SELECT $3 + row_number() OVER (ORDER BY id), instance, step, parent, seq, $4, data, NULL
FROM chunk WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[]));

-- cancel_chunks: End every open chunk of an instance as CANCELLED; the ids of the new events begin after $2.
INSERT INTO event
WITH last AS (SELECT chunk, max(id) AS id FROM event WHERE instance = $1 GROUP BY chunk),
SELECT $2 + row_number() OVER (ORDER BY c.id), c.id, c.instance, c.step,
    greatest(coalesce(e.attempt, 0), coalesce(r.attempt, 0)), {CANCELLED}, coalesce(e.errors, 0), coalesce(e.polls, 0),
    CASE WHEN coalesce(r.attempt, 0) > coalesce(e.attempt, 0) THEN r.claimed_us END, $3, NULL, 0, NULL, NULL
FROM chunk c
LEFT JOIN last ON last.chunk = c.id
LEFT JOIN event e ON e.id = last.id
LEFT JOIN running r ON r.chunk = c.id AND r.instance = $1
WHERE c.instance = $1 AND (e.status IS NULL OR e.status NOT IN {ENDED}) AND c.id NOT IN (FROM replaced($1));

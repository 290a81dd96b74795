-- Named queries: a line "-- name: sentence", then the text. Values are bound, never formatted in; states stand by name.

-- count_chunks: Chunks of an instance per step, and the highest id of each.
SELECT step, count(*), max(id) FROM chunk c
ANTI JOIN (SELECT chunk FROM superseded WHERE instance = $1) x ON x.chunk = c.id
WHERE instance = $1 GROUP BY step;

-- count_completed: Completed chunks of an instance per step, and their records.
SELECT step, count(*), sum(records), max(ended_us) FROM event e
ANTI JOIN (SELECT chunk FROM superseded WHERE instance = $1) x ON x.chunk = e.chunk
WHERE instance = $1 AND status = {COMPLETED} GROUP BY step;

-- last_events: The last event of every chunk of an instance that has one and is not COMPLETED.
WITH last AS (SELECT chunk, max(id) AS id FROM event WHERE instance = $1 AND status <> {COMPLETED} GROUP BY chunk)
SELECT e.chunk, e.step, e.status, e.attempt, e.errors, e.polls, e.due_us
FROM last JOIN event e ON e.id = last.id AND e.instance = $1
ANTI JOIN (SELECT chunk FROM event WHERE instance = $1 AND status = {COMPLETED} UNION ALL SELECT chunk FROM superseded WHERE instance = $1) d
    ON d.chunk = e.chunk
ORDER BY e.chunk;

-- first_unclaimed: Per step the lowest id of a chunk without any event. Nothing may be claimed meanwhile.
SELECT c.step, min(c.id) FROM chunk c
ANTI JOIN (SELECT chunk FROM event WHERE instance = $1 UNION ALL SELECT chunk FROM superseded WHERE instance = $1) e
    ON e.chunk = c.id
WHERE c.instance = $1 GROUP BY c.step;

-- page: Chunks of one step in a window of ids.
SELECT id, data FROM chunk WHERE id > $3 AND id <= $4 AND instance = $1 AND step = $2 ORDER BY id;

-- page_unclaimed: As page, without chunks that have an event: for windows that earlier sessions may have worked in.
SELECT c.id, c.data FROM chunk c
ANTI JOIN (
    SELECT chunk FROM event WHERE instance = $1 AND chunk > $3 AND chunk <= $4
    UNION ALL SELECT chunk FROM superseded WHERE instance = $1
) e ON e.chunk = c.id
WHERE c.id > $3 AND c.id <= $4 AND c.instance = $1 AND c.step = $2 ORDER BY c.id;

-- inputs_by_id: Stored inputs of some chunks.
SELECT id, data FROM chunk WHERE id >= $2 AND id <= $3 AND instance = $1 AND id IN (SELECT unnest($4::BIGINT[]));

-- orphans: Chunks claimed by an earlier session whose attempt never ended, with what was counted before.
WITH latest AS (
    SELECT instance, step, chunk, max(attempt) AS attempt, max(claimed_us) AS claimed_us FROM claimed
    WHERE session = $1 - 1 GROUP BY ALL
),
last AS (
    SELECT e.chunk, max(e.id) AS id, max(e.attempt) AS attempt FROM event e
    SEMI JOIN (SELECT chunk FROM latest) l ON l.chunk = e.chunk GROUP BY e.chunk
)
SELECT l.instance, l.step, l.chunk, l.attempt, l.claimed_us, coalesce(e.errors, 0), coalesce(e.polls, 0), s.max_attempts
FROM latest l
JOIN step s ON s.instance = l.instance AND s.step = l.step
LEFT JOIN last ON last.chunk = l.chunk
LEFT JOIN event e ON e.id = last.id
WHERE l.attempt > coalesce(last.attempt, 0)
ORDER BY l.chunk;

-- move_staged_chunks: Make the staged outputs of an attempt chunks, with ids from a counter. $4 is the reduction's step or -1.
INSERT INTO chunk
SELECT $3 + row_number() OVER (ORDER BY seq), instance, step, chunk, seq, $5, data, NULL
FROM staged WHERE chunk = $1 AND attempt = $2 AND step <> $4 ORDER BY seq;

-- move_staged_outputs: Make the staged outputs of an attempt inputs of the reduction.
INSERT INTO output SELECT instance, step, chunk, seq, data
FROM staged WHERE chunk = $1 AND attempt = $2 AND step = $3 ORDER BY seq;

-- count_staged: Staged outputs of an attempt per step.
SELECT step, count(*) FROM staged WHERE chunk = $1 AND attempt = $2 GROUP BY step ORDER BY step;

-- unstage: Forget what an attempt staged.
DELETE FROM staged WHERE chunk = $1 AND attempt = $2;

-- reduction_inputs: All outputs for a reduction in the order of the items they stem from, whatever ran first.
WITH RECURSIVE path AS (
    SELECT id, []::INTEGER[] AS place FROM chunk WHERE instance = $1 AND parent IS NULL AND seq = 0
        AND id NOT IN (SELECT chunk FROM superseded WHERE instance = $1)
    UNION ALL
    SELECT c.id, list_append(p.place, c.seq) FROM chunk c JOIN path p ON c.parent = p.id
    WHERE c.instance = $1 AND c.id NOT IN (SELECT chunk FROM superseded WHERE instance = $1)
)
SELECT o.data FROM output o JOIN path p ON p.id = o.parent
WHERE o.instance = $1 ORDER BY list_append(p.place, o.seq);

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
WHERE c.instance = $1 AND (e.status IS NULL OR e.status NOT IN {ENDED}) AND c.id NOT IN (SELECT chunk FROM superseded WHERE instance = $1);

-- subjobs: Unfinished instances that chunks of an instance submitted, and theirs. $2 is what their keys begin with.
WITH RECURSIVE child AS (
    SELECT i.id, c.instance AS parent
    FROM instance i JOIN chunk c ON c.id = try_cast(substr(i.key, length($2) + 1) AS BIGINT)
    WHERE starts_with(i.key, $2) AND i.status NOT IN {INSTANCE.ENDED}
),
below AS (SELECT id FROM child WHERE parent = $1 UNION ALL SELECT c.id FROM child c JOIN below b ON c.parent = b.id)
SELECT id FROM below;

-- subjob_order: The event in which an instance last changed its state, and a chunk's last event.
SELECT (SELECT max(id) FROM life WHERE instance = $1), (SELECT max(id) FROM event WHERE chunk = $2);

-- requeue_ended: Queue chunks of an instance again whose last state is $4 or $5, with a fresh budget; $6: which ones, NULL: all.
INSERT INTO event
WITH last AS (SELECT chunk, max(id) AS id FROM event WHERE instance = $1 GROUP BY chunk)
SELECT $2 + row_number() OVER (ORDER BY e.chunk), e.chunk, e.instance, e.step, e.attempt,
    CASE WHEN s.gated AND s.opened_us IS NULL THEN {GATE_WAITING} ELSE {QUEUED} END, 0, e.polls, NULL, $3, NULL, 0, NULL, NULL
FROM last JOIN event e ON e.id = last.id JOIN step s ON s.instance = e.instance AND s.step = e.step
WHERE e.status IN ($4, $5) AND ($6 IS NULL OR e.chunk IN (SELECT unnest($6::BIGINT[]))) AND e.chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1);

-- ends: How often an instance has ended.
SELECT count(*) FROM instance_event WHERE instance = $1 AND status IN {INSTANCE.ENDED};

-- count_dropped: How many of some chunks have lost their input.
SELECT count(*) FROM chunk WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[])) AND data IS NULL;

-- completed_of: Chunks of one step of an instance that are COMPLETED, in their order.
SELECT e.chunk FROM event e WHERE e.instance = $1 AND e.step = $2 AND e.status = {COMPLETED}
    AND e.chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1) ORDER BY e.chunk;

-- chunk_state: The present state of one chunk: step, state code (NULL: no event), attempt, errors, polls.
SELECT c.step, arg_max(e.status, e.id), coalesce(max(e.attempt), 0), arg_max(e.errors, e.id), arg_max(e.polls, e.id)
FROM chunk c LEFT JOIN event e ON e.chunk = c.id WHERE c.id = $1 AND c.instance = $2
    AND c.id NOT IN (SELECT chunk FROM superseded WHERE instance = $2) GROUP BY c.step;

-- count_reductions: How many of some chunks are of a reduction.
SELECT count(*) FROM chunk c JOIN step s ON s.instance = c.instance AND s.step = c.step
WHERE c.instance = $1 AND s.instance = $1 AND c.id IN (SELECT unnest($2::BIGINT[])) AND s.kind = 'reduction';

-- count_split: How many pages of a step were split in two.
SELECT count(*) FROM chunk c JOIN chunk p ON p.id = c.parent AND p.instance = c.instance AND p.step = c.step
WHERE c.instance = $1 AND c.step = $2 AND c.seq = 0 AND c.id NOT IN (SELECT chunk FROM superseded WHERE instance = $1);

-- count_stopped: How many chunks of an instance stand FAILED by a FailJob.
SELECT count(*) FROM chunks WHERE instance = $1 AND status = 'FAILED' AND error_type = 'FailJob';

-- unclaim: Forget the claims stored together with some chunks, which no worker has begun.
UPDATE chunk SET session = NULL WHERE id >= $2 AND id <= $3 AND instance = $1 AND id IN (SELECT unnest($4::BIGINT[]));

-- supersede: Mark chunks $2 of an instance, all their descendants and the chunks of the reduction's step $3 as replaced.
INSERT INTO superseded
WITH RECURSIVE family AS (
    SELECT unnest($2::BIGINT[]) AS id
    UNION
    SELECT c.id FROM chunk c JOIN family f ON c.parent = f.id WHERE c.instance = $1
)
SELECT c.id, c.instance, $4 FROM chunk c
WHERE c.instance = $1 AND (c.step = $3 OR c.id IN (SELECT id FROM family))
    AND c.id NOT IN (SELECT chunk FROM superseded WHERE instance = $1);

-- copy_chunks: Make chunks $2 of an instance anew, in their order, with ids after $3.
INSERT INTO chunk
SELECT $3 + row_number() OVER (ORDER BY id), instance, step, parent, seq, $4, data, NULL
FROM chunk WHERE instance = $1 AND id IN (SELECT unnest($2::BIGINT[]));

-- chains: The chains that are known.
SELECT steps, id FROM chain;

-- ended_before: Instances that ended before a time in one of some states, of one job or any.
SELECT id FROM instance WHERE ended_us < $1 AND status IN (SELECT unnest($2::TINYINT[])) AND ($3 IS NULL OR job = $3);

-- drop_inputs: Forget the inputs of an instance's chunks; with $2 only of those that are COMPLETED.
UPDATE chunk SET data = NULL WHERE instance = $1 AND data IS NOT NULL
    AND (NOT $2 OR id IN (SELECT chunk FROM event WHERE instance = $1 AND status = {COMPLETED}));

-- drop_outputs: Forget what an instance's reduction has read.
DELETE FROM output WHERE instance = $1;

-- attachment_names: Attachments of an instance, in the order they were given.
SELECT name FROM attachment WHERE instance = $1 ORDER BY rowid;

-- attachment_digests: Name and digest of each.
SELECT name, digest FROM attachment WHERE instance = $1;

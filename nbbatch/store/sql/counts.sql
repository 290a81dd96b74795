-- Chunks by state.

-- made_per_step: How many chunks each step of an instance has.
SELECT s.step, count(c.id) FROM step s
LEFT JOIN (SELECT id, step FROM chunk WHERE instance = $1 AND id NOT IN (SELECT chunk FROM superseded WHERE instance = $1)) c ON c.step = s.step
WHERE s.instance = $1 GROUP BY s.step ORDER BY s.step;

-- last_per_step: Chunks with an event by step and state. Nearly all have one, COMPLETED at the first attempt: only others are looked into.
WITH odd AS MATERIALIZED (
    SELECT DISTINCT chunk FROM event WHERE instance = $1 AND NOT (status = {COMPLETED} AND attempt = 1)
        AND chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1)
), last AS (
    SELECT arg_max(step, id) AS step, arg_max(status, id) AS status
    FROM event WHERE instance = $1 AND chunk IN (FROM odd) GROUP BY chunk
)
SELECT step, status, count(*) FROM last GROUP BY ALL
UNION ALL
SELECT step, {COMPLETED}, count(*) FROM event
WHERE instance = $1 AND status = {COMPLETED} AND attempt = 1 AND chunk NOT IN (FROM odd)
    AND chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1) GROUP BY step;

-- shut_steps: Steps of an instance that wait at their gate.
SELECT step FROM step WHERE instance = $1 AND gated AND opened_us IS NULL;

-- made_at: Chunks there were at a time, by step.
SELECT step, count(*) FROM chunk WHERE instance = $1 AND created_us <= $2
    AND id NOT IN (SELECT chunk FROM superseded WHERE instance = $1 AND at_us <= $2) GROUP BY step;

-- begun_at: Chunks that were IN_PROGRESS at a time, by step.
SELECT step, {IN_PROGRESS}, count(*) FROM event
WHERE instance = $1 AND started_us <= $2 AND ended_us > $2
    AND chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1 AND at_us <= $2) GROUP BY step;

-- left_at: How often chunks had come to rest in a state by a time, by step.
SELECT step, status, count(*) FROM event
WHERE instance = $1 AND ended_us <= $2 AND status NOT IN ({QUEUED}, {GATE_WAITING}, {IN_PROGRESS})
    AND chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1 AND at_us <= $2) GROUP BY step, status;

-- again_at: How often they had left it again.
WITH odd AS (
    SELECT chunk, step, status, started_us, ended_us, id FROM event
    WHERE instance = $1 AND chunk IN (
        SELECT chunk FROM event WHERE instance = $1 AND (attempt > 1 OR status IN ({QUEUED}, {GATE_WAITING}))
            AND chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1 AND at_us <= $2)
    )
), move AS (
    SELECT step, coalesce(started_us, ended_us) AS us, lag(status) OVER (PARTITION BY chunk ORDER BY id) AS before FROM odd
)
SELECT step, before, count(*) FROM move
WHERE us <= $2 AND before IN ({POLL_WAITING}, {ERRORED}, {FAILED}, {CANCELLED}) GROUP BY ALL;

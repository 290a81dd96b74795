-- Chunks by state.

-- made_per_step: How many chunks each step of an instance has.
SELECT s.step, count(c.id) FROM step s
LEFT JOIN (SELECT id, step FROM chunk WHERE instance = $1 AND id NOT IN (FROM replaced($1))) c ON c.step = s.step
WHERE s.instance = $1 GROUP BY s.step ORDER BY s.step;

-- last_per_step: Chunks with an event by step and state. Nearly all have one, COMPLETED at the first attempt: only others are looked into.
WITH odd AS MATERIALIZED (
    SELECT DISTINCT chunk FROM event WHERE instance = $1 AND NOT (status = {COMPLETED} AND attempt = 1)
        AND chunk NOT IN (FROM replaced($1))
), last AS (
    SELECT arg_max(step, id) AS step, arg_max(status, id) AS status
    FROM event WHERE instance = $1 AND chunk IN (FROM odd) GROUP BY chunk
)
SELECT step, status, count(*) FROM last GROUP BY ALL
UNION ALL
SELECT step, {COMPLETED}, count(*) FROM event
WHERE instance = $1 AND status = {COMPLETED} AND attempt = 1 AND chunk NOT IN (FROM odd)
    AND chunk NOT IN (FROM replaced($1)) GROUP BY step;

-- shut_steps: Steps of an instance that wait at their gate.
SELECT step FROM step WHERE instance = $1 AND gated AND opened_us IS NULL;

-- made_at: Chunks there were at a time, by step.
SELECT step, count(*) FROM chunk WHERE instance = $1 AND created_us <= $2
    AND id NOT IN (FROM replaced_by($1, $2)) GROUP BY step;

-- begun_at: Chunks that were IN_PROGRESS at a time, by step.
SELECT step, {IN_PROGRESS}, count(*) FROM event
WHERE instance = $1 AND started_us <= $2 AND ended_us > $2
    AND chunk NOT IN (FROM replaced_by($1, $2)) GROUP BY step;

-- left_at: How often chunks had come to rest in a state by a time, by step.
SELECT step, status, count(*) FROM event
WHERE instance = $1 AND ended_us <= $2 AND status NOT IN ({QUEUED}, {GATE_WAITING}, {IN_PROGRESS})
    AND chunk NOT IN (FROM replaced_by($1, $2)) GROUP BY step, status;

-- again_at: How often they had left it again.
WITH odd AS (
    SELECT chunk, step, status, started_us, ended_us, id FROM event
    WHERE instance = $1 AND chunk IN (
        SELECT chunk FROM event WHERE instance = $1 AND (attempt > 1 OR status IN ({QUEUED}, {GATE_WAITING}))
            AND chunk NOT IN (FROM replaced_by($1, $2))
    )
), move AS (
    SELECT step, coalesce(started_us, ended_us) AS us, lag(status) OVER (PARTITION BY chunk ORDER BY id) AS before FROM odd
)
SELECT step, before, count(*) FROM move
WHERE us <= $2 AND before IN ({POLL_WAITING}, {ERRORED}, {FAILED}, {CANCELLED}) GROUP BY ALL;

-- steps: One row per step of an instance as of $2 (NULL: now).
SELECT step::INTEGER AS position, name AS step, kind, gated, chunks, queued, gate_waiting, in_progress, poll_waiting, errored, completed,
    failed, skipped, cancelled, records, filtered, median_seconds, p95_seconds, make_timestamptz(started_us) AS started,
    make_timestamptz(ended_us) AS ended
FROM tally($1, coalesce($2, {NOW})) ORDER BY position;

-- live_steps: The same now without counts, which the engine has: what it takes to look four times a second at a million chunks.
WITH ended AS (
    SELECT step, min(started_us) AS started_us, max(ended_us) FILTER (status IN {ENDED}) AS ended_us,
        coalesce(sum(records), 0)::BIGINT AS records, count(*) FILTER (status = {COMPLETED} AND records = 0) AS filtered,
        quantile_cont(ended_us - started_us, [0.5, 0.95]) AS took
    FROM event WHERE instance = $1 AND chunk NOT IN (FROM replaced($1)) GROUP BY step
)
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, 0 AS chunks, {ZEROS},
    coalesce(e.records, 0) AS records, CASE WHEN s.kind = 'many' THEN coalesce(e.filtered, 0) ELSE 0 END AS filtered,
    e.took[1] / 1e6 AS median_seconds, e.took[2] / 1e6 AS p95_seconds,
    make_timestamptz(e.started_us) AS started, make_timestamptz(e.ended_us) AS ended
FROM step s LEFT JOIN ended e ON e.step = s.step WHERE s.instance = $1 ORDER BY s.step;

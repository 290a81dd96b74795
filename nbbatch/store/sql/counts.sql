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

-- steps: One row per step of an instance that is not live.
WITH first_time AS (SELECT *, status = {COMPLETED} AND attempt = 1 AS good FROM event WHERE instance = $1 AND chunk NOT IN (FROM replaced($1))),
odd AS MATERIALIZED (SELECT DISTINCT chunk FROM first_time WHERE NOT good),
last AS (
    SELECT step, status, started_us, ended_us, records FROM first_time WHERE good AND chunk NOT IN (FROM odd)
    UNION ALL
    SELECT step, last.status, last.started_us, last.ended_us, last.records FROM (
        SELECT step, max_by(e, id) AS last FROM first_time e WHERE chunk IN (FROM odd) GROUP BY step, chunk
    )
),
counted AS (
    SELECT step, count(*) AS seen, {COUNTS},
        min(started_us) AS started_us, max(ended_us) FILTER (status IN {ENDED}) AS ended_us,
        coalesce(sum(records), 0)::BIGINT AS records, count(*) FILTER (status = {COMPLETED} AND records = 0) AS filtered,
        quantile_cont((ended_us - started_us) / 1e6, [0.5, 0.95]) AS seconds
    FROM last GROUP BY step
),
made AS (SELECT step, count(*) AS chunks FROM chunk WHERE instance = $1 AND id NOT IN (FROM replaced($1)) GROUP BY step),
waiting AS (
    SELECT m.step, m.chunks, coalesce(c.queued, 0) + coalesce(c.gate_waiting, 0) + m.chunks - coalesce(c.seen, 0) AS open
    FROM made m LEFT JOIN counted c ON c.step = m.step
)
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, coalesce(w.chunks, 0) AS chunks,
    CASE WHEN s.gated AND s.opened_us IS NULL THEN 0 ELSE coalesce(w.open, 0) END AS queued,
    CASE WHEN s.gated AND s.opened_us IS NULL THEN coalesce(w.open, 0) ELSE 0 END AS gate_waiting,
    coalesce(c.in_progress, 0) AS in_progress, coalesce(c.poll_waiting, 0) AS poll_waiting,
    coalesce(c.errored, 0) AS errored, coalesce(c.completed, 0) AS completed, coalesce(c.failed, 0) AS failed,
    coalesce(c.skipped, 0) AS skipped, coalesce(c.cancelled, 0) AS cancelled, coalesce(c.records, 0) AS records,
    CASE WHEN s.kind = 'many' THEN coalesce(c.filtered, 0) ELSE 0 END AS filtered, c.seconds[1] AS median_seconds, c.seconds[2] AS p95_seconds,
    make_timestamptz(c.started_us) AS started, make_timestamptz(c.ended_us) AS ended
FROM step s LEFT JOIN counted c ON c.step = s.step LEFT JOIN waiting w ON w.step = s.step
WHERE s.instance = $1 ORDER BY s.step;

-- live_steps: The same without counts, which the engine has: what it takes to look four times a second at a million chunks.
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

-- steps_at: As of a time past, from the chunks as they stood then.
WITH counted AS (
    SELECT step, count(*) AS chunks, count(*) FILTER (status = 'QUEUED') AS queued, count(*) FILTER (status = 'GATE_WAITING') AS gate_waiting,
    count(*) FILTER (status = 'IN_PROGRESS') AS in_progress, count(*) FILTER (status = 'POLL_WAITING') AS poll_waiting,
    count(*) FILTER (status = 'ERRORED') AS errored, count(*) FILTER (status = 'COMPLETED') AS completed,
    count(*) FILTER (status = 'FAILED') AS failed, count(*) FILTER (status = 'SKIPPED') AS skipped,
    count(*) FILTER (status = 'CANCELLED') AS cancelled,
        min(started) AS started, max(ended) AS ended, coalesce(sum(records), 0)::BIGINT AS records,
        count(*) FILTER (status = 'COMPLETED' AND records = 0) AS filtered, median(seconds) AS median_seconds, quantile_cont(seconds, 0.95) AS p95_seconds
    FROM chunks_at($2) WHERE instance = $1 GROUP BY step
)
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, coalesce(c.chunks, 0) AS chunks,
    coalesce(c.queued, 0) AS queued, coalesce(c.gate_waiting, 0) AS gate_waiting,
    coalesce(c.in_progress, 0) AS in_progress, coalesce(c.poll_waiting, 0) AS poll_waiting,
    coalesce(c.errored, 0) AS errored, coalesce(c.completed, 0) AS completed, coalesce(c.failed, 0) AS failed,
    coalesce(c.skipped, 0) AS skipped, coalesce(c.cancelled, 0) AS cancelled, coalesce(c.records, 0) AS records,
    CASE WHEN s.kind = 'many' THEN coalesce(c.filtered, 0) ELSE 0 END AS filtered, c.median_seconds, c.p95_seconds, c.started, c.ended
FROM step s LEFT JOIN counted c ON c.step = s.name
WHERE s.instance = $1 ORDER BY s.step;

-- What a restart needs.

-- count_chunks: Chunks of an instance per step, and the highest id of each.
SELECT step, count(*), max(id) FROM chunk c
ANTI JOIN (FROM replaced($1)) x ON x.chunk = c.id
WHERE instance = $1 GROUP BY step;

-- count_completed: Completed chunks of an instance per step, and their records.
SELECT step, count(*), sum(records), max(ended_us) FROM event e
ANTI JOIN (FROM replaced($1)) x ON x.chunk = e.chunk
WHERE instance = $1 AND status = {COMPLETED} GROUP BY step;

-- last_events: The last event of every chunk of an instance that has one and is not COMPLETED.
WITH last AS (SELECT chunk, max(id) AS id FROM event WHERE instance = $1 AND status <> {COMPLETED} GROUP BY chunk)
SELECT e.chunk, e.step, e.status, e.attempt, e.errors, e.polls, e.due_us
FROM last JOIN event e ON e.id = last.id AND e.instance = $1
ANTI JOIN (SELECT chunk FROM event WHERE instance = $1 AND status = {COMPLETED} UNION ALL FROM replaced($1)) d
    ON d.chunk = e.chunk
ORDER BY e.chunk;

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

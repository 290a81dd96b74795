-- Attempts and what they left: frames as of $4 (NULL: now), of step $2 and chunk $3 or of any.

-- attempts: One row per attempt, in order of their ends, running ones last.
SELECT * EXCLUDE (instance, traceback, log, event) FROM attempts_of($1, coalesce($4, {NOW}))
WHERE ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3)
ORDER BY event, chunk LIMIT $5 OFFSET $6;

-- errors: One row per attempt that ended in an error, which what RetryLater and a skip leave is not.
SELECT chunk, step, attempt, status, ended, error_type, error, traceback FROM attempts_of($1, coalesce($4, {NOW}))
WHERE ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3) AND error IS NOT NULL AND status IN ('ERRORED', 'FAILED')
ORDER BY event, chunk LIMIT $5 OFFSET $6;

-- first_failure: The chunk that is FAILED for longest.
SELECT s.name, o.chunk, d.error_type, d.error FROM (
    SELECT chunk, step, event FROM open_chunks($1, {NOW}) WHERE status = {FAILED} ORDER BY event LIMIT 1
) o JOIN step s ON s.instance = $1 AND s.step = o.step
LEFT JOIN detail d ON d.event = o.event AND d.instance = $1;

-- skips: One row per chunk that was left out, by hand or by its step.
SELECT e.chunk, s.name AS step, e.attempt, make_timestamptz(e.ended_us) AS skipped, e.started_us IS NULL AS by_hand,
    d.error_type, d.error AS reason
FROM done_chunks($1, coalesce($4, {NOW})) e JOIN step s ON s.instance = e.instance AND s.step = e.step
LEFT JOIN detail d ON d.event = e.event AND d.instance = e.instance
WHERE e.status = {SKIPPED} AND ($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR e.chunk = $3)
ORDER BY e.event LIMIT $5 OFFSET $6;

-- history: Every change of state of an instance and its chunks, in order of time.
SELECT happened, chunk, step, attempt, status, text FROM history
WHERE instance = $1 AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3)
    AND ($4 IS NULL OR happened <= make_timestamptz($4::BIGINT))
ORDER BY happened, event, rank, chunk LIMIT $5 OFFSET $6;

-- history_by_event: The same where the clock was set back between two openings: what followed in a chunk, or the instance, comes after.
SELECT happened, chunk, step, attempt, status, text FROM (
    SELECT *, max(happened) OVER (PARTITION BY chunk ORDER BY event, rank) AS latest FROM history
    WHERE instance = $1 AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3)
        AND ($4 IS NULL OR happened <= make_timestamptz($4::BIGINT))
) ORDER BY latest, event, rank, chunk LIMIT $5 OFFSET $6;

-- logs: What steps printed and logged, warned of and recovered from, in order of the attempts' ends.
WITH said AS (
    SELECT d.chunk, d.attempt, d.event, 0 AS place, 'log' AS kind, d.log AS text FROM detail d
    WHERE d.instance = $1 AND d.log IS NOT NULL
    UNION ALL
    SELECT d.chunk, d.attempt, d.event, i, 'warning', d.warnings[i] FROM detail d, range(1, len(d.warnings) + 1) r(i)
    WHERE d.instance = $1
    UNION ALL
    SELECT d.chunk, d.attempt, d.event, i, 'recovered', d.recovered[i] FROM detail d, range(1, len(d.recovered) + 1) r(i)
    WHERE d.instance = $1
)
SELECT l.chunk, s.name AS step, l.attempt, make_timestamptz(e.ended_us) AS ended, l.kind, l.text
FROM said l JOIN event e ON e.id = l.event AND e.instance = $1 AND e.ended_us <= coalesce($4, {NOW})
JOIN step s ON s.instance = $1 AND s.step = e.step
WHERE ($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR l.chunk = $3)
ORDER BY l.event, l.kind, l.place LIMIT $5 OFFSET $6;

-- warnings: Distinct warnings of an instance, the newest first.
SELECT DISTINCT ON (text) text FROM (
    SELECT unnest(warnings) AS text, event FROM detail WHERE instance = $1 AND warnings IS NOT NULL
) ORDER BY event DESC;

-- newest_log: What a chunk's newest attempt that said anything printed and logged.
SELECT log FROM detail WHERE instance = $1 AND chunk = $2 AND log IS NOT NULL ORDER BY event DESC LIMIT 1;

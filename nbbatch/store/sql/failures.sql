-- What went wrong, and what was left out.

-- page_errors: Errors of attempts in a page of events ($2, $3] by step, type and text without its numbers; of each the newest.
SELECT e.step, d.error_type, left(regexp_replace(
        regexp_replace(left(d.error, 300), ' \(error [0-9]+ of at most [0-9]+\)$', ''), '[0-9]+', '…', 'g'), 200) AS said, count(*), max(d.event),
    arg_max(d.chunk, d.event), arg_max(left(d.error, 300), d.event)
FROM detail d JOIN event e ON e.id = d.event
WHERE d.event > $2 AND d.event <= $3 AND d.instance = $1 AND d.error_type IS NOT NULL AND e.id > $2 AND e.id <= $3
    AND e.status IN {ERRORS}
GROUP BY ALL ORDER BY 4 DESC;

-- skips_by_reason: Chunks that are SKIPPED by step and reason, the most frequent first, each with the first of them.
SELECT e.step, coalesce(d.error, ''), count(*), min(e.chunk) FROM event e
LEFT JOIN detail d ON d.event = e.id AND d.instance = $1
WHERE e.instance = $1 AND e.status = {SKIPPED} AND e.chunk NOT IN (FROM replaced($1))
GROUP BY ALL ORDER BY 3 DESC LIMIT 20;

-- event_traceback: The traceback of the attempt that an event ended.
SELECT traceback FROM detail WHERE event = $1;

-- newest_traceback: The traceback of a chunk's newest error.
SELECT traceback FROM detail WHERE instance = $1 AND chunk = $2 AND traceback IS NOT NULL ORDER BY event DESC LIMIT 1;

-- recent_log: What the newest attempts after event $2 printed, logged and warned of.
SELECT d.chunk, e.step, d.attempt, coalesce(left(d.log, 600), ''), d.warnings[1:5], d.recovered[1:5]
FROM detail d JOIN event e ON e.id = d.event
WHERE d.instance = $1 AND (d.log IS NOT NULL OR d.warnings IS NOT NULL OR d.recovered IS NOT NULL) AND d.event > $2
ORDER BY d.event DESC LIMIT 30;

-- failed_chunks: The newest $2 chunks that are FAILED with error and input. Only events are looked through, and the rest read of those found.
WITH last AS (
    SELECT chunk, max(id) AS id, arg_max(step, id) AS step, arg_max(ended_us, id) AS ended FROM event
    WHERE instance = $1 AND status = {FAILED} AND chunk NOT IN (FROM replaced($1))
    GROUP BY chunk ORDER BY id DESC LIMIT $2
), mended AS (
    SELECT e.chunk FROM event e JOIN last l ON l.chunk = e.chunk AND e.id > l.id WHERE e.instance = $1
)
SELECT l.chunk, s.name, l.ended, coalesce(d.error_type, ''), coalesce(d.error, ''), coalesce(d.traceback, ''), c.data
FROM last l JOIN chunk c ON c.id = l.chunk AND c.instance = $1 JOIN step s ON s.instance = $1 AND s.step = l.step
LEFT JOIN detail d ON d.event = l.id AND d.instance = $1
WHERE l.chunk NOT IN (FROM mended) ORDER BY l.chunk;

-- good_inputs: Inputs of the first $3 COMPLETED chunks of a step.
SELECT data FROM chunk WHERE instance = $1 AND id IN (
    SELECT e.chunk FROM event e JOIN step s ON s.instance = $1 AND s.step = e.step AND s.name = $2
    WHERE e.instance = $1 AND e.status = {COMPLETED} AND e.chunk NOT IN (FROM replaced($1))
    ORDER BY e.chunk LIMIT $3
) ORDER BY id;

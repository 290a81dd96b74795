-- What went wrong, and what was left out.

-- page_errors: Errors of attempts in a page of events ($2, $3] by step, type, line and text without its digits, and the newest of each.
SELECT e.step, d.error_type, coalesce(arg_max(d.head, d.event), ''), coalesce(d.raised, ''), count(*), count(*) FILTER (e.status = {FAILED}),
    max(d.event), arg_max(d.chunk, d.event)
FROM detail d JOIN event e ON e.id = d.event
WHERE d.event > $2 AND d.event <= $3 AND d.instance = $1 AND d.error_type IS NOT NULL AND e.id > $2 AND e.id <= $3
    AND e.status IN {ERRORS}
GROUP BY e.step, d.error_type, d.raised, regexp_replace(left(d.head, 300), '[0-9]+', '…', 'g');

-- skips_by_reason: Chunks that are SKIPPED by step and reason, the most frequent first, each with the first of them.
SELECT e.step, coalesce(d.error, ''), count(*), min(e.chunk) FROM done_chunks($1, {NOW}) e
LEFT JOIN detail d ON d.event = e.event AND d.instance = $1
WHERE e.status = {SKIPPED} GROUP BY ALL ORDER BY 3 DESC LIMIT 20;

-- first_error: The first attempt of an instance that ended in an error, and the beginning of what it said.
SELECT e.chunk, s.name AS step, d.error_type, d.head AS error, e.id AS event
FROM detail d JOIN event e ON e.id = d.event AND e.instance = d.instance AND e.status IN {ERRORS}
JOIN step s ON s.instance = e.instance AND s.step = e.step
WHERE d.instance = $1 AND d.head IS NOT NULL ORDER BY e.id LIMIT 1;

-- event_traceback: The traceback of the attempt that an event ended.
SELECT traceback FROM detail WHERE event = $1;

-- newest_traceback: The traceback of a chunk's newest error.
SELECT traceback FROM detail WHERE instance = $1 AND chunk = $2 AND traceback IS NOT NULL ORDER BY event DESC LIMIT 1;

-- recent_log: What the newest attempts after event $2 printed, logged and warned of.
SELECT d.chunk, e.step, d.attempt, coalesce(left(d.log, 600), ''), d.warnings[1:5], d.recovered[1:5]
FROM detail d JOIN event e ON e.id = d.event
WHERE d.instance = $1 AND (d.log IS NOT NULL OR d.warnings IS NOT NULL OR d.recovered IS NOT NULL) AND d.event > $2
ORDER BY d.event DESC LIMIT 30;

-- failed_kinds: The newest $2 chunks that are FAILED by step, type, line and text without what is data; of a line the kinds after $3 as one.
WITH failed AS (
    SELECT s.name AS step, coalesce(d.error_type, '') AS type, coalesce(d.raised, '') AS raised, coalesce(d.head, '') AS head,
        l.chunk, l.ended_us
    FROM (SELECT chunk, step, ended_us, event FROM open_chunks($1, {NOW}) WHERE status = {FAILED} ORDER BY event DESC LIMIT $2) l
    JOIN step s ON s.instance = $1 AND s.step = l.step
    LEFT JOIN detail d ON d.event = l.event AND d.instance = $1
), kinds AS (
    SELECT step, type, raised, arg_min(head, chunk) AS head, list(chunk) AS chunks, min(ended_us) AS first, max(ended_us) AS last
    FROM failed GROUP BY step, type, raised, regexp_replace(
        regexp_replace(head, '(^|\W)(''[^''\n]*''|"[^"\n]*")', '\1…', 'g'), '[-+]?\w*\d\w*(?:[.,:]\d\w*)*', '…', 'g')
), placed AS (
    SELECT *, least($3, row_number() OVER (ORDER BY len(chunks) DESC, list_min(chunks))) AS place FROM kinds
)
SELECT step, type, raised, arg_min(head, list_min(chunks)), list_sort(flatten(list(chunks))), min(first), max(last), count(*) > 1
FROM placed GROUP BY step, type, raised, place;

-- inputs: Inputs of chunks.
SELECT data FROM chunk WHERE instance = $1 AND list_contains($2, id);

-- good_inputs: Inputs of the first $3 COMPLETED chunks of a step.
SELECT data FROM chunk WHERE instance = $1 AND id IN (
    SELECT e.chunk FROM done_chunks($1, {NOW}) e JOIN step s ON s.instance = $1 AND s.step = e.step AND s.name = $2
    WHERE e.status = {COMPLETED} ORDER BY e.chunk LIMIT $3
) ORDER BY id;

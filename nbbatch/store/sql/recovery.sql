-- What a restart needs.

-- step_states: By step of an instance whether its gate is shut, its first and last chunk, what they gave, the latest end, and how many
-- chunks are in each state, in the order of their codes.
SELECT k.step, k.shut, k.first, k.last, coalesce(p.records, 0), p.ended_us, k.counts
FROM tally($1, {NOW}) k LEFT JOIN spent($1, {NOW}) p ON p.step = k.step ORDER BY k.step;

-- to_run_again: Chunks of an instance that have an event and are to be claimed again. What waits since an earlier opening, by events up
-- to $3, waits no longer from this one on, at $2, than it had to altogether: the clock may have been set back between them.
SELECT chunk, step, status, attempt, errors, polls, if(event > $3, due_us, least(due_us, $2 + due_us - ended_us)) FROM undone($1, {NOW}, true)
WHERE status IN ({QUEUED}, {GATE_WAITING}, {ERRORED}, {POLL_WAITING}) ORDER BY chunk;

-- first_open: By step of an instance an id before which all its chunks have ended; no row: all have. They are compared by digests of 4,096 ids
-- each, as joining them would take more memory than all else; what ended twice, as it was retried, counts as open.
SELECT c.step, min(c.part) << 12 FROM (
    SELECT step, id >> 12 AS part, sum(hash(id)) AS digest FROM chunk WHERE instance = $1 GROUP BY ALL
) c LEFT JOIN (
    SELECT step, chunk >> 12 AS part, sum(hash(chunk)) AS digest FROM event WHERE instance = $1 AND status IN {ENDED} GROUP BY ALL
) e ON e.step = c.step AND e.part = c.part
WHERE e.digest IS DISTINCT FROM c.digest GROUP BY c.step;

-- polling_since: When the chunks of a step that poll began the first attempt that did so, since they last ended.
SELECT e.chunk, min(e.started_us) FROM event e LEFT JOIN (
    SELECT chunk, max(id) AS id FROM event WHERE instance = $1 AND step = $2 AND status IN {ENDED} GROUP BY chunk
) o ON o.chunk = e.chunk
WHERE e.instance = $1 AND e.step = $2 AND e.status = {POLL_WAITING} AND e.id > coalesce(o.id, 0) GROUP BY e.chunk;

-- orphans: Chunks that the session before $1 had claimed and whose attempt never ended, with what was counted before.
SELECT u.instance, u.step, u.chunk, u.attempt, u.claimed_us, coalesce(o.errors, 0), coalesce(o.polls, 0), s.max_attempts
FROM unended(NULL, $1 - 1) u
ANTI JOIN replaced_by(NULL, {NOW}) x ON x.chunk = u.chunk
JOIN step s ON s.instance = u.instance AND s.step = u.step
LEFT JOIN open_chunks(NULL, {NOW}) o ON o.chunk = u.chunk
ORDER BY u.chunk;

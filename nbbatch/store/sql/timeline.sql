-- What pictures of a run are drawn from. Their results do not grow with the chunks.

-- timeline_extent: Attempts of an instance, the first start, the last end, and the last event, up to which the others below read.
SELECT count(*), min(started_us), max(ended_us), max(id) FROM event WHERE instance = $1 AND started_us IS NOT NULL;

-- timeline_workers: Workers of an instance up to event $2, the busiest first, with their attempts.
SELECT coalesce(worker, ''), count(*) FROM event WHERE instance = $1 AND id <= $2 AND started_us IS NOT NULL
GROUP BY ALL ORDER BY count(*) DESC, 1;

-- timeline_attempts: Each attempt of an instance up to event $2 as a bar of its own.
SELECT coalesce(worker, ''), step, started_us, ended_us, 1.0::DOUBLE, 1, status IN {ERRORS}, chunk_status(status)
FROM event WHERE instance = $1 AND id <= $2 AND started_us IS NOT NULL ORDER BY started_us;

-- timeline_merged: Attempts up to event $5 by lane and bin of $3 microseconds from $2 on; the last of $4 lanes is of all workers left.
WITH worker AS (
    SELECT coalesce(worker, '') AS worker, count(*) AS attempts
    FROM event WHERE instance = $1 AND id <= $5 AND started_us IS NOT NULL GROUP BY ALL
), lane AS (
    SELECT worker, least(row_number() OVER (ORDER BY attempts DESC, worker), $4) - 1 AS lane FROM worker
), part AS (
    SELECT l.lane, e.step, e.status IN {ERRORS} AS failed, e.started_us AS a, e.ended_us AS z,
        unnest(range((e.started_us - $2) // $3, (e.ended_us - $2) // $3 + 1)) AS bin
    FROM event e JOIN lane l ON l.worker = coalesce(e.worker, '')
    WHERE e.instance = $1 AND e.id <= $5 AND e.started_us IS NOT NULL
), spent AS (
    SELECT lane, bin, step, sum(least(z, $2 + (bin + 1) * $3) - greatest(a, $2 + bin * $3)) AS us,
        count(*) FILTER (bin = (a - $2) // $3) AS attempts, count(*) FILTER (failed AND bin = (z - $2) // $3) AS failed
    FROM part GROUP BY lane, bin, step
)
SELECT lane, bin::BIGINT, arg_max(step, us), sum(us)::DOUBLE / $3, sum(attempts)::BIGINT, sum(failed)::BIGINT
FROM spent GROUP BY lane, bin ORDER BY lane, bin;

-- latest_moment: When the last thing happened to an instance or one of its chunks.
SELECT greatest(max(s.created_us), (SELECT max(ended_us) FROM event WHERE instance = $1),
    (SELECT max(created_us) FROM chunk WHERE instance = $1)) FROM submitted s WHERE s.id = $1;

-- state_changes: By how much the chunks in each state become more or fewer, in bins of $3 microseconds from $2 on.
WITH state AS (
    SELECT h.chunk, h.status, epoch_us(h.happened) AS us, h.rank, h.event FROM history h
    WHERE h.instance = $1 AND h.chunk IS NOT NULL
), move AS (
    SELECT status, us, lag(status) OVER (PARTITION BY chunk ORDER BY us, event, rank) AS before FROM state
)
SELECT status, greatest((us - $2) // $3, 0)::BIGINT AS bin, count(*) FROM move GROUP BY ALL
UNION ALL
SELECT before, greatest((us - $2) // $3, 0)::BIGINT, -count(*) FROM move WHERE before IS NOT NULL GROUP BY ALL;

-- first_event: The id before an instance's first event, and its first start; NULL without any attempt.
SELECT min(id) - 1, min(started_us) FROM event WHERE instance = $1;

-- newest_event: The last event after $1 in the store; 0 without any.
SELECT coalesce(max(id), 0) FROM event WHERE id > $1;

-- page_extent: The first start and the last end of the attempts in a page of events ($2, $3].
SELECT min(started_us), max(ended_us) FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND started_us > 0;

-- page_durations: Attempts of a page of events by step and length, on a scale of $4 sizes from one power of two to the next.
SELECT step, floor($4 * log2(greatest(ended_us - started_us, 1)))::INTEGER, count(*)
FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND started_us IS NOT NULL GROUP BY ALL;

-- page_spent: Microseconds, starts and errors of a page of events by worker, step and bin of $5 microseconds from $4 on.
WITH part AS (
    SELECT coalesce(worker, '') AS worker, step, status IN {ERRORS} AS failed, started_us - $4 AS a, ended_us - $4 AS z,
        unnest(range((started_us - $4) // $5, (ended_us - $4) // $5 + 1)) AS bin
    FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND started_us >= $4
)
SELECT worker, bin::BIGINT, step, sum(least(z, (bin + 1) * $5) - greatest(a, bin * $5))::BIGINT,
    count(*) FILTER (bin = a // $5), count(*) FILTER (failed AND bin = z // $5)
FROM part GROUP BY ALL;

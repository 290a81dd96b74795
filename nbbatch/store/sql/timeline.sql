-- What pictures of a run are drawn from. Their results do not grow with the chunks.

-- timeline_attempts: Each attempt of an instance up to event $2.
SELECT coalesce(worker, ''), step, started_us, ended_us, status IN {ERRORS}, chunk_status(status)
FROM event WHERE instance = $1 AND id <= $2 AND ran(started_us, ended_us, worker) ORDER BY started_us;

-- spent: Microseconds that the attempts of each step of an instance took in all.
SELECT step, sum(ended_us - started_us)::BIGINT FROM event WHERE instance = $1 AND started_us IS NOT NULL GROUP BY step;

-- first_event: The id before an instance's first event; NULL without any attempt.
SELECT CASE WHEN min(started_us) IS NOT NULL THEN min(id) - 1 END FROM event WHERE instance = $1;

-- newest_event: The last event after $1 in the store; 0 without any.
SELECT coalesce(max(id), 0) FROM event WHERE id > $1;

-- page_extent: The first start and the last end of the attempts in a page of events ($2, $3].
SELECT min(started_us), max(ended_us) FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND ran(started_us, ended_us, worker) AND started_us > 0;

-- page_durations: Attempts of a page of events by step and length, on a scale of $4 sizes from one power of two to the next.
SELECT step, floor($4 * log2(greatest(ended_us - started_us, 1)))::INTEGER, count(*)
FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND ran(started_us, ended_us, worker) GROUP BY ALL;

-- page_ended: Attempts of a page of events that ended since $4, by second and step, and the records they gave.
SELECT ended_us // 1000000, step, count(*), coalesce(sum(records), 0)::BIGINT
FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND ran(started_us, ended_us, worker) AND ended_us >= $4 GROUP BY ALL;

-- page_spent: Microseconds, starts and errors of a page of events by worker, step and bin of $5 microseconds from $4 on.
WITH part AS (
    SELECT coalesce(worker, '') AS worker, step, status IN {ERRORS} AS failed, started_us - $4 AS a, ended_us - $4 AS z,
        unnest(range((started_us - $4) // $5, (ended_us - $4) // $5 + 1)) AS bin
    FROM event WHERE id > $2 AND id <= $3 AND instance = $1 AND ran(started_us, ended_us, worker) AND started_us >= $4
)
SELECT worker, bin::BIGINT, step, sum(least(z, (bin + 1) * $5) - greatest(a, bin * $5))::BIGINT,
    count(*) FILTER (bin = a // $5), count(*) FILTER (failed AND bin = z // $5)
FROM part GROUP BY ALL;

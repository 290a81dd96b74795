-- Views for people: state names, UTC timestamps, seconds. They are what batch.sql() is meant for. All are made anew at every
-- opening, so that a corrected one reaches old stores.

CREATE OR REPLACE MACRO chunk_status(code) AS
    ({NAMES})[code];

CREATE OR REPLACE MACRO instance_status(code) AS
    ({INSTANCE.NAMES})[code];

-- What is equal for equal stored values, wherever they lie: half of a SHA-256, which the reference to a file has as it is. By way of a BLOB,
-- as DuckDB takes longer to read a UUID's text.
CREATE OR REPLACE MACRO content(data) AS
    unhex(CASE WHEN data IS NULL THEN '00000000000000000000000000000000' WHEN data >= '@'::BLOB AND data < 'A'::BLOB
        THEN left(regexp_extract(decode(data), '"sha256":"([0-9a-f]+)"', 1), 32) ELSE left(sha256(data), 32) END)::UUID;

-- Whether an attempt ran: one that took the outputs of another began and ended in one moment, and had no worker.
CREATE OR REPLACE MACRO ran(started_us, ended_us, worker) AS started_us < ended_us OR (worker IS NOT NULL AND started_us IS NOT NULL);

-- Chunks of an instance that a rerun replaced. They count for nothing, and are shown only where they themselves are asked for.
CREATE OR REPLACE MACRO replaced(i) AS TABLE SELECT chunk FROM superseded WHERE i IS NULL OR instance = i;

-- Those of them that others were made for anew: all but pages that were split, which are still what their parents gave.
CREATE OR REPLACE MACRO redone(i) AS TABLE
SELECT chunk FROM superseded WHERE (i IS NULL OR instance = i) AND chunk NOT IN (
    SELECT p.id FROM superseded x JOIN chunk p ON p.id = x.chunk AND (i IS NULL OR p.instance = i)
    JOIN chunk h ON h.parent = p.id AND h.step = p.step AND (i IS NULL OR h.instance = i) WHERE i IS NULL OR x.instance = i
);

-- Replaced chunks by a time in microseconds, of an instance or (NULL) of all.
CREATE OR REPLACE MACRO replaced_by(i, t) AS TABLE
SELECT chunk FROM superseded WHERE (i IS NULL OR instance = i) AND at_us <= t;

-- All that happened to an instance. Its state, progress, error, failing and report are the last there are.
CREATE OR REPLACE VIEW life AS
SELECT id, instance, ended_us, status, text, progress, failing, report FROM instance_event
UNION ALL SELECT 0, id, created_us, {INSTANCE.QUEUED}, NULL, NULL, NULL, NULL FROM submitted
UNION ALL SELECT 1, id, started_us, {INSTANCE.IN_PROGRESS}, NULL, NULL, NULL, NULL FROM submitted WHERE started_us IS NOT NULL;

-- Instances as they stood at a time in microseconds.
CREATE OR REPLACE MACRO instance_at(t) AS TABLE
WITH last AS (
    SELECT instance, arg_max(status, id) AS status, arg_max(failing, id) AS failing, nullif(arg_max(report, id), ''::BLOB) AS report,
        arg_max_null(text, id) FILTER (ended_us IS NOT NULL) AS error, arg_max(progress, id) AS progress,
        arg_max(ended_us, id) AS ended_us, min(ended_us) FILTER (status = {INSTANCE.IN_PROGRESS}) AS started_us
    FROM life WHERE ended_us IS NULL OR ended_us <= t GROUP BY instance
)
SELECT s.id, s.job, s.version, s.key, s.parent, s.identity, s.params, c.shape, s.retain, s.reuse, l.status, l.status = {INSTANCE.PAUSED} AS paused,
    nullif(l.failing, '') AS failing, s.created_us, l.started_us,
    CASE WHEN l.status IN {INSTANCE.ENDED} THEN l.ended_us END AS ended_us, coalesce(l.progress, 0) AS progress, l.error, l.report
FROM submitted s JOIN last l ON l.instance = s.id JOIN chain c ON c.id = s.chain
WHERE s.created_us <= t;

CREATE OR REPLACE VIEW instance AS FROM instance_at({NOW});

-- Steps of an instance (NULL: of all), and when their gates were opened last by a time; NULL where they are shut.
CREATE OR REPLACE MACRO steps_at(i, t) AS TABLE
SELECT s.id AS instance, c.step, c.name, c.kind, c.gated, c.weight, c.max_attempts, c.input_media, c.output_media, g.opened_us,
    c.gated AND g.opened_us IS NULL AS shut
FROM submitted s JOIN chain_step c ON c.chain = s.chain
LEFT JOIN (
    SELECT instance, step, arg_max_null(opened_us, id) AS opened_us FROM gate
    WHERE (i IS NULL OR instance = i) AND coalesce(opened_us, closed_us) <= t GROUP BY instance, step
) g ON g.instance = s.id AND g.step = c.step
WHERE i IS NULL OR s.id = i;

CREATE OR REPLACE VIEW step AS SELECT * EXCLUDE (shut) FROM steps_at(NULL, {NOW});

-- Stored parameters as JSON; of those with bytes beside it, such as frames, the JSON alone: 5 bytes, its length in 8 more, then it.
CREATE OR REPLACE MACRO stored_json(data) AS
    CASE WHEN data[1:5] = '\x0ANBV1'::BLOB THEN ' ' || regexp_extract(
        decode(data[14:13 + ('0x' || hex(data[9:9]) || hex(data[8:8]) || hex(data[7:7]) || hex(data[6:6]))::BIGINT]),
        '^\{"tree":(.*),"parts":', 1, 's')
    ELSE decode(data) END;

CREATE OR REPLACE MACRO instances_at(t) AS TABLE
SELECT id, job, version, key, parent, instance_status(status) AS status, progress, stored_json(params) AS params,
    make_timestamptz(created_us) AS created, make_timestamptz(started_us) AS started, make_timestamptz(ended_us) AS ended,
    if(ended_us < started_us, 0, ended_us - started_us) / 1e6 AS seconds, error
FROM instance_at(t);

CREATE OR REPLACE VIEW instances AS FROM instances_at({NOW});

-- Claims, chunk by chunk.
CREATE OR REPLACE VIEW claimed AS
SELECT session, instance, step, unnest(range(first, first + chunks)) AS chunk, attempt, claimed_us FROM claim
UNION ALL
SELECT session, instance, step, id, 1, created_us FROM chunk WHERE session IS NOT NULL;

-- Attempts that a session has claimed, of an instance (NULL: of all), and that have not ended. An ended instance has none, which is
-- found out first, as there may be many claims and events. So is where there may be any: all that was claimed has ended in a part
-- of the chunks where digests of both are equal, as nearly everywhere; only the others are compared one by one, which takes memory.
CREATE OR REPLACE MACRO unended(i, of_session) AS TABLE
WITH unfinished AS MATERIALIZED (SELECT id FROM instance WHERE status NOT IN {INSTANCE.ENDED} AND (i IS NULL OR id = i)),
odd AS MATERIALIZED (
    SELECT k.part FROM (
        SELECT k.chunk >> 12 AS part, sum(hash(k.chunk, k.attempt)) AS digest FROM claimed k SEMI JOIN unfinished u ON u.id = k.instance
        WHERE k.session = of_session AND (i IS NULL OR k.instance = i) GROUP BY ALL
    ) k LEFT JOIN (
        SELECT e.chunk >> 12 AS part, sum(hash(e.chunk, e.attempt)) AS digest FROM event e SEMI JOIN unfinished u ON u.id = e.instance
        WHERE i IS NULL OR e.instance = i GROUP BY ALL
    ) e ON e.part = k.part
    WHERE e.digest IS DISTINCT FROM k.digest
),
taken AS MATERIALIZED (  -- of `claimed`, whose claims are many more chunks than DuckDB thinks: it would join them the other way round
    SELECT instance, step, unnest(range(first, first + chunks)) AS chunk, attempt, claimed_us FROM claim c
    WHERE session = of_session AND EXISTS (FROM odd o WHERE o.part BETWEEN c.first >> 12 AND (c.first + c.chunks - 1) >> 12)
    UNION ALL
    SELECT instance, step, id, 1, created_us FROM chunk c WHERE session = of_session AND EXISTS (FROM odd o WHERE o.part = c.id >> 12)
),
over AS MATERIALIZED (
    SELECT e.chunk, e.attempt FROM event e SEMI JOIN odd o ON o.part = e.chunk >> 12 SEMI JOIN unfinished u ON u.id = e.instance
    WHERE i IS NULL OR e.instance = i
)
SELECT k.instance, k.step, k.chunk, max(k.attempt) AS attempt, max(k.claimed_us) AS claimed_us
FROM taken k SEMI JOIN odd o ON o.part = k.chunk >> 12 SEMI JOIN unfinished u ON u.id = k.instance
ANTI JOIN over e ON e.chunk = k.chunk AND e.attempt >= k.attempt
GROUP BY k.instance, k.step, k.chunk;

-- Attempts in progress.
CREATE OR REPLACE VIEW running AS SELECT * FROM unended(NULL, (SELECT max(id) FROM session));

-- How chunks stand. Everything that counts, lists, queues or draws chunks asks `standing`, or `tally` for numbers, which is made of
-- the same parts. Both take an instance (NULL: all) and a time in microseconds (see {NOW} for the present). A chunk is what its last
-- event says; IN_PROGRESS once a later attempt is claimed; QUEUED without an event; GATE_WAITING where it would be QUEUED and its
-- step's gate is shut. Superseded ones count for nothing.

-- Chunks and events that count: those of chunks that were not superseded by then.
CREATE OR REPLACE MACRO present_chunks(i, t) AS TABLE
SELECT c.* FROM chunk c ANTI JOIN replaced_by(i, t) x ON x.chunk = c.id WHERE (i IS NULL OR c.instance = i) AND c.created_us <= t;

CREATE OR REPLACE MACRO present_events(i, t) AS TABLE
SELECT e.* FROM event e ANTI JOIN replaced_by(i, t) x ON x.chunk = e.chunk WHERE (i IS NULL OR e.instance = i) AND e.ended_us <= t;

-- Attempts that were in progress then.
CREATE OR REPLACE MACRO begun(i, t) AS TABLE
SELECT k.* FROM unended(i, (SELECT max(id) FROM session)) k ANTI JOIN replaced_by(i, t) x ON x.chunk = k.chunk WHERE k.claimed_us <= t
UNION ALL
SELECT e.instance, e.step, e.chunk, e.attempt, e.started_us FROM event e ANTI JOIN replaced_by(i, t) x ON x.chunk = e.chunk
WHERE (i IS NULL OR e.instance = i) AND e.started_us <= t AND e.ended_us > t;

-- The last event of each chunk that is done: no other follows, so nothing is joined. Nearly all chunks are found here.
CREATE OR REPLACE MACRO done_chunks(i, t) AS TABLE
SELECT instance, chunk, step, status, attempt, errors, polls, started_us, ended_us, due_us, records, code, id AS event
FROM present_events(i, t) WHERE status IN {DONE};

-- The last event of each chunk that has one and is not done.
CREATE OR REPLACE MACRO open_chunks(i, t) AS TABLE
WITH odd AS MATERIALIZED (
    SELECT instance, chunk, step, status, attempt, errors, polls, started_us, ended_us, due_us, records, code, id AS event
    FROM present_events(i, t) WHERE status NOT IN {DONE}
),
done AS (  -- asked of all events that the others may have, as DuckDB thinks that those of one instance are few, and would hold them
    SELECT e.chunk FROM event e SEMI JOIN odd o ON o.chunk = e.chunk GROUP BY e.chunk
    HAVING bool_or(e.status IN {DONE} AND e.ended_us <= t)
),
last AS (  -- not max_by() of whole rows, which takes four times as long
    SELECT max(event) AS event FROM odd o ANTI JOIN done d ON d.chunk = o.chunk GROUP BY o.chunk
)
SELECT o.* FROM odd o SEMI JOIN last l ON l.event = o.event;

-- Instances that stood CANCELLED then. What had no event yet is CANCELLED with them: outputs that had not become chunks.
CREATE OR REPLACE MACRO cancelled(i, t) AS TABLE
SELECT instance FROM life WHERE (i IS NULL OR instance = i) AND status IS NOT NULL AND ended_us <= t
GROUP BY instance HAVING arg_max(status, id) = {INSTANCE.CANCELLED};

-- Chunks without an event: of any instance, as in `open_chunks`, so that of a page of them that page is held.
CREATE OR REPLACE MACRO untouched_chunks(i, t) AS TABLE
SELECT c.* FROM present_chunks(i, t) c
ANTI JOIN (SELECT chunk FROM event WHERE ended_us <= t) e ON e.chunk = c.id;

-- Chunks that are not done; those only that have an event, or all.
CREATE OR REPLACE MACRO undone(i, t, touched) AS TABLE
SELECT o.instance, o.chunk, o.step,
    CASE WHEN r.chunk IS NOT NULL THEN {IN_PROGRESS} WHEN o.status NOT IN ({QUEUED}, {GATE_WAITING}) THEN o.status
        WHEN s.shut THEN {GATE_WAITING} ELSE {QUEUED} END AS status,
    coalesce(r.attempt, o.attempt) AS attempt, o.errors, o.polls, coalesce(r.claimed_us, o.started_us) AS started_us,
    CASE WHEN r.chunk IS NULL THEN o.ended_us END AS ended_us, CASE WHEN r.chunk IS NULL THEN o.due_us END AS due_us, o.records, o.code, o.event
FROM (
    SELECT * FROM open_chunks(i, t)
    UNION ALL
    SELECT instance, id, step, CASE WHEN instance IN (FROM cancelled(i, t)) THEN {CANCELLED} ELSE {QUEUED} END, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL
    FROM untouched_chunks(i, t) WHERE NOT touched
) o
JOIN steps_at(i, t) s ON s.instance = o.instance AND s.step = o.step
LEFT JOIN begun(i, t) r ON r.chunk = o.chunk;

CREATE OR REPLACE MACRO standing(i, t) AS TABLE
SELECT * FROM done_chunks(i, t) UNION ALL SELECT * FROM undone(i, t, false);

-- Outputs of fan-outs that had COMPLETED by then and that are not chunks yet: how many, and their numbers, by attempt and the step they go to.
CREATE OR REPLACE MACRO sealed(i, t) AS TABLE
WITH part AS MATERIALIZED (
    SELECT instance, chunk, attempt, step, count(*) AS n, min(seq) AS first, max(seq) + 1 AS until
    FROM staged WHERE i IS NULL OR instance = i GROUP BY instance, chunk, attempt, step
)
SELECT p.*, e.ended_us FROM part p
JOIN event e ON e.chunk = p.chunk AND e.attempt = p.attempt AND e.status = {COMPLETED} AND e.ended_us <= t;

-- They themselves, of an instance.
CREATE OR REPLACE MACRO sealed_outputs(i) AS TABLE
SELECT s.chunk AS parent, s.step, s.seq, s.data FROM staged s SEMI JOIN sealed(i, {NOW}) z ON z.chunk = s.chunk AND z.attempt = s.attempt
WHERE s.instance = i;

-- By step how many of them there are.
CREATE OR REPLACE MACRO to_come(i, t) AS TABLE
SELECT instance, step, sum(n)::BIGINT AS n FROM sealed(i, t) GROUP BY instance, step;

-- By step how many chunks there are, how many of them in each state (in the order of their codes), and when the first of those in
-- progress began. What has no event is not looked at one by one: it is all in one state.
CREATE OR REPLACE MACRO tally(i, t) AS TABLE
WITH r AS MATERIALIZED (SELECT * FROM begun(i, t)),
open AS MATERIALIZED (SELECT * FROM open_chunks(i, t)),
seen AS (
    SELECT instance, step, status, count(*) AS n, NULL AS begun_us FROM done_chunks(i, t) GROUP BY instance, step, status
    UNION ALL
    SELECT o.instance, o.step, CASE WHEN r.chunk IS NULL THEN o.status ELSE {IN_PROGRESS} END, count(*), min(r.claimed_us)
    FROM open o LEFT JOIN r ON r.chunk = o.chunk GROUP BY ALL
    UNION ALL
    SELECT instance, step, {IN_PROGRESS}, count(*), min(claimed_us) FROM r ANTI JOIN open o ON o.chunk = r.chunk GROUP BY instance, step
),
counted AS (
    SELECT instance, step, [{SUM_EACH}] AS counts, sum(n) FILTER (status NOT IN ({QUEUED}, {GATE_WAITING})) AS moved,
        min(begun_us) AS begun_us
    FROM seen GROUP BY instance, step
),
made AS (SELECT instance, step, count(*) AS chunks, min(id) AS first, max(id) AS last FROM present_chunks(i, t) GROUP BY instance, step)
SELECT s.instance, s.step, s.name, s.kind, s.gated, s.shut, coalesce(m.chunks, 0) + coalesce(z.n, 0) AS chunks, coalesce(m.first, 1) AS first,
    coalesce(m.last, 0) AS last,
    list_transform({CODES}, lambda code:
        CASE WHEN code IN ({QUEUED}, {GATE_WAITING}) THEN 0 ELSE coalesce(c.counts[code], 0) END
        + CASE WHEN code = CASE WHEN x.instance IS NOT NULL THEN {CANCELLED} WHEN s.shut THEN {GATE_WAITING} ELSE {QUEUED} END
            THEN coalesce(m.chunks, 0) - coalesce(c.moved, 0) + coalesce(z.n, 0) ELSE 0 END)::BIGINT[] AS counts,
    c.begun_us
FROM steps_at(i, t) s
LEFT JOIN made m ON m.instance = s.instance AND m.step = s.step
LEFT JOIN counted c ON c.instance = s.instance AND c.step = s.step
LEFT JOIN to_come(i, t) z ON z.instance = s.instance AND z.step = s.step AND s.kind <> 'reduction'
LEFT JOIN cancelled(i, t) x ON x.instance = s.instance;

-- By step what its attempts that ended gave, and when.
CREATE OR REPLACE MACRO spent(i, t) AS TABLE
SELECT instance, step, coalesce(sum(records), 0)::BIGINT AS records, count(*) FILTER (status = {COMPLETED} AND records = 0) AS empty,
    min(started_us) AS started_us, max(ended_us) FILTER (status IN {ENDED}) AS ended_us
FROM present_events(i, t) GROUP BY instance, step;

-- The same for times in microseconds that differ by less than a thousandth; those below 4 ms have their own.
CREATE OR REPLACE MACRO roughly(us) AS CASE WHEN us < 4096 THEN us ELSE (1000 * ln(us))::BIGINT END;

-- By step how long its attempts took that ran: the median, and the 95th percentile. Times that are roughly the same are counted: DuckDB's
-- own quantiles keep each one, which are 200 MB for ten million.
CREATE OR REPLACE MACRO took(i, t) AS TABLE
WITH alike AS (
    SELECT instance, step, min(us) AS us, count(*) AS n
    FROM (SELECT instance, step, ended_us - started_us AS us FROM present_events(i, t) WHERE ran(started_us, ended_us, worker))
    GROUP BY instance, step, roughly(us)
),
placed AS (
    SELECT instance, step, us, share, sum(n) OVER (of_step ORDER BY us) AS upto, share * (sum(n) OVER of_step - 1)::DOUBLE AS place
    FROM alike, (VALUES (0.5), (0.95)) shares(share) WINDOW of_step AS (PARTITION BY instance, step, share)
)
SELECT instance, step, list(low + (high - low) * (place - floor(place)) ORDER BY share) AS took_us
FROM (
    SELECT instance, step, share, place, min(us) FILTER (upto > floor(place)) AS low, min(us) FILTER (upto > ceil(place)) AS high
    FROM placed GROUP BY ALL
) GROUP BY instance, step;

-- By step how many chunks of an instance had taken outputs at a time.
CREATE OR REPLACE MACRO reused_by(i, t) AS TABLE
SELECT step, count(*) AS reused FROM lookup l ANTI JOIN replaced_by(i, t) x ON x.chunk = l.chunk
WHERE instance = i AND origin IS NOT NULL AND asked_us <= t GROUP BY step;

-- Chunks of an instance (NULL: of all) as they stood at a time, for people.
CREATE OR REPLACE MACRO chunks_of(i, t) AS TABLE
SELECT c.id, c.instance, s.name AS step, c.parent, c.seq, chunk_status(k.status) AS status, k.attempt AS attempts, k.errors, k.polls,
    make_timestamptz(c.created_us) AS created, make_timestamptz(k.started_us) AS started,
    make_timestamptz(CASE WHEN k.status IN {ENDED} THEN k.ended_us END) AS ended, (k.ended_us - k.started_us) / 1e6 AS seconds,
    make_timestamptz(CASE WHEN k.status IN ({POLL_WAITING}, {ERRORED}) THEN k.due_us END) AS due, k.records, d.error_type, d.error
FROM standing(i, t) k
JOIN present_chunks(i, t) c ON c.id = k.chunk
JOIN steps_at(i, t) s ON s.instance = k.instance AND s.step = k.step
LEFT JOIN detail d ON d.event = k.event AND d.instance = k.instance;

-- Superseded chunks as they stood before.
CREATE OR REPLACE VIEW superseded_chunks AS
SELECT c.id, c.instance, s.name AS step, c.parent, c.seq, 'SUPERSEDED' AS status, coalesce(e.last.attempt, 0) AS attempts,
    coalesce(e.last.errors, 0) AS errors, coalesce(e.last.polls, 0) AS polls, make_timestamptz(c.created_us) AS created,
    make_timestamptz(e.last.started_us) AS started,
    make_timestamptz(CASE WHEN e.last.status IN {ENDED} THEN e.last.ended_us END) AS ended,
    (e.last.ended_us - e.last.started_us) / 1e6 AS seconds, e.last.records AS records, d.error_type, d.error
FROM superseded x JOIN chunk c ON c.id = x.chunk AND c.instance = x.instance
JOIN step s ON s.instance = c.instance AND s.step = c.step
LEFT JOIN (SELECT instance, chunk, max_by(e, id) AS last FROM event e GROUP BY instance, chunk) e
    ON e.instance = x.instance AND e.chunk = x.chunk
LEFT JOIN detail d ON d.event = e.last.id AND d.instance = x.instance;

CREATE OR REPLACE VIEW chunks AS FROM chunks_of(NULL, {NOW});

-- Attempts of an instance (NULL: of all) as they stood at a time; those of superseded chunks too.
CREATE OR REPLACE MACRO attempts_of(i, t) AS TABLE
SELECT e.instance, e.chunk, s.name AS step, e.attempt, chunk_status(CASE WHEN e.ended_us <= t THEN e.status ELSE {IN_PROGRESS} END) AS status,
    make_timestamptz(e.started_us) AS started, CASE WHEN e.ended_us <= t THEN make_timestamptz(e.ended_us) END AS ended,
    e.worker, e.* EXCLUDE (id, chunk, instance, step, attempt, status, errors, polls, started_us, ended_us, due_us, records, worker),
    coalesce(len(d.warnings), 0)::INTEGER AS warnings, coalesce(len(d.recovered), 0)::INTEGER AS recovered,
    CASE WHEN e.ended_us <= t THEN e.records END AS records, CASE WHEN e.ended_us <= t THEN (e.ended_us - e.started_us) / 1e6 END AS seconds,
    l.origin, d.error_type, d.error, d.traceback, d.log, e.id AS event
FROM event e
JOIN steps_at(i, t) s ON s.instance = e.instance AND s.step = e.step
LEFT JOIN detail d ON d.event = e.id AND d.instance = e.instance AND e.ended_us <= t
LEFT JOIN (SELECT chunk, instance, origin FROM lookup WHERE origin IS NOT NULL AND (i IS NULL OR instance = i)) l
    ON l.chunk = e.chunk AND l.instance = e.instance AND e.status = {COMPLETED}
WHERE (i IS NULL OR e.instance = i) AND e.started_us <= t
UNION ALL BY NAME
SELECT r.instance, r.chunk, s.name AS step, r.attempt, 'IN_PROGRESS' AS status, make_timestamptz(r.claimed_us) AS started,
    0 AS warnings, 0 AS recovered, {NOW} AS event
FROM unended(i, (SELECT max(id) FROM session)) r JOIN steps_at(i, t) s ON s.instance = r.instance AND s.step = r.step
WHERE r.claimed_us <= t;

CREATE OR REPLACE VIEW attempts AS FROM attempts_of(NULL, {NOW});

-- Times from which a chunk of a gated step stands in the queue, with the event (0: it was made), until it is claimed, changed by hand
-- or superseded.
CREATE OR REPLACE VIEW queued AS
WITH move AS (
    SELECT instance, id AS chunk, step, 0 AS event, created_us AS from_us, created_us AS us, {QUEUED} AS status FROM chunk
    UNION ALL
    SELECT instance, chunk, step, id, ended_us, coalesce(started_us, ended_us), status FROM event
),
span AS (
    SELECT instance, chunk, step, event, from_us, status, lead(us) OVER (PARTITION BY instance, chunk ORDER BY event) AS until_us
    FROM move SEMI JOIN (SELECT instance, step FROM step WHERE gated) g ON g.instance = move.instance AND g.step = move.step
)
SELECT w.instance, w.chunk, w.step, w.event, w.from_us,
    coalesce(least(w.until_us, CASE WHEN w.until_us IS NULL THEN r.claimed_us END, x.at_us), {NOW}) AS until_us
FROM span w
LEFT JOIN running r ON r.instance = w.instance AND r.chunk = w.chunk
LEFT JOIN superseded x ON x.instance = w.instance AND x.chunk = w.chunk
WHERE w.status IN ({QUEUED}, {GATE_WAITING});

-- Gates as they were opened and shut, in order of time.
CREATE OR REPLACE VIEW gates AS
SELECT instance, step, id, coalesce(opened_us, closed_us) AS at_us, opened_us IS NOT NULL AS is_open FROM gate;

-- Whether the gate is shut when a chunk is put in the queue.
CREATE OR REPLACE VIEW put_in_queue AS
SELECT q.instance, q.chunk, q.event, NOT coalesce(max_by(g.is_open, g.id), false) AS waits
FROM queued q
LEFT JOIN gates g ON g.instance = q.instance AND g.step = q.step AND CASE WHEN q.event = 0 THEN g.at_us <= q.from_us ELSE g.id < q.event END
GROUP BY q.instance, q.chunk, q.event;

-- Every change of state: of the instance (chunk is NULL) and of each chunk, from its creation on.
CREATE OR REPLACE VIEW history AS
SELECT instance, NULL::BIGINT AS chunk, NULL::VARCHAR AS step, NULL::INTEGER AS attempt, instance_status(status) AS status,
    make_timestamptz(ended_us) AS happened, text, id AS event, 9 AS rank
FROM life WHERE ended_us IS NOT NULL AND status IS NOT NULL
UNION ALL
SELECT c.instance, c.id, s.name, NULL, CASE WHEN p.waits THEN 'GATE_WAITING' ELSE 'QUEUED' END, make_timestamptz(c.created_us), NULL, 0, 0
FROM chunk c
JOIN step s ON s.instance = c.instance AND s.step = c.step
LEFT JOIN put_in_queue p ON p.instance = c.instance AND p.chunk = c.id AND p.event = 0
UNION ALL
SELECT q.instance, q.chunk, s.name, NULL, CASE WHEN g.is_open THEN 'QUEUED' ELSE 'GATE_WAITING' END, make_timestamptz(g.at_us),
    CASE WHEN g.is_open THEN 'gate opened' ELSE 'gate shut' END, g.id, 1
FROM queued q
JOIN step s ON s.instance = q.instance AND s.step = q.step
JOIN gates g ON g.instance = q.instance AND g.step = q.step
WHERE CASE WHEN g.is_open THEN g.at_us <= q.until_us ELSE g.at_us < q.until_us END
    AND CASE WHEN q.event = 0 THEN g.at_us > q.from_us ELSE g.id > q.event END
UNION ALL
SELECT e.instance, e.chunk, s.name, e.attempt, 'IN_PROGRESS', make_timestamptz(e.started_us), NULL, e.id, 2
FROM event e JOIN step s ON s.instance = e.instance AND s.step = e.step WHERE e.started_us IS NOT NULL
UNION ALL
SELECT r.instance, r.chunk, s.name, r.attempt, 'IN_PROGRESS', make_timestamptz(r.claimed_us), NULL, {NOW}, 2
FROM running r
JOIN chunk c ON c.id = r.chunk AND c.instance = r.instance
JOIN step s ON s.instance = c.instance AND s.step = c.step
UNION ALL
SELECT e.instance, e.chunk, s.name, e.attempt,
    CASE WHEN e.status IN ({QUEUED}, {GATE_WAITING}) AND p.waits THEN 'GATE_WAITING' WHEN e.status = {GATE_WAITING} THEN 'QUEUED'
        ELSE chunk_status(e.status) END,
    make_timestamptz(e.ended_us), d.error, e.id, 3
FROM event e JOIN step s ON s.instance = e.instance AND s.step = e.step
LEFT JOIN put_in_queue p ON p.instance = e.instance AND p.chunk = e.chunk AND p.event = e.id
LEFT JOIN detail d ON d.event = e.id AND d.instance = e.instance
UNION ALL
SELECT x.instance, x.chunk, s.name, NULL, 'SUPERSEDED', make_timestamptz(x.at_us),
    CASE WHEN h.parent IS NULL THEN 'replaced by a rerun' ELSE 'replaced by its halves' END, {NOW}, 8
FROM superseded x
JOIN chunk c ON c.id = x.chunk AND c.instance = x.instance
LEFT JOIN (SELECT DISTINCT instance, parent, step FROM chunk) h ON h.instance = c.instance AND h.parent = c.id AND h.step = c.step
JOIN step s ON s.instance = c.instance AND s.step = c.step;

-- Chunks of an instance up to a step, each with its place in the order of the items: the sequence numbers on the way to it.
CREATE OR REPLACE MACRO paths(of, last) AS TABLE
WITH RECURSIVE path AS (
    SELECT id, step, []::INTEGER[] AS place FROM chunk WHERE instance = of AND parent IS NULL AND seq = 0
    UNION ALL
    SELECT c.id, c.step, list_append(p.place, c.seq) FROM chunk c JOIN path p ON c.parent = p.id
    WHERE c.instance = of AND c.step <= last
)
SELECT id, step, place FROM path ANTI JOIN replaced(of) x ON x.chunk = path.id;

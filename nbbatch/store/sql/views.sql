-- Views for people: state names, UTC timestamps, seconds. They are what batch.sql() is meant for. All are made anew at every
-- opening, so that a corrected one reaches old stores.

CREATE OR REPLACE MACRO chunk_status(code) AS
    ({NAMES})[code];

CREATE OR REPLACE MACRO instance_status(code) AS
    ({INSTANCE.NAMES})[code];

-- Chunks of an instance that a rerun replaced. They count for nothing, and are shown only where they themselves are asked for.
CREATE OR REPLACE MACRO replaced(i) AS TABLE SELECT chunk FROM superseded WHERE instance = i;

-- The same by a time in microseconds.
CREATE OR REPLACE MACRO replaced_by(i, t) AS TABLE SELECT chunk FROM superseded WHERE instance = i AND at_us <= t;

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
SELECT s.id, s.job, s.version, s.key, s.identity, s.params, c.shape, s.retain, l.status, l.status = {INSTANCE.PAUSED} AS paused,
    nullif(l.failing, '') AS failing, s.created_us, l.started_us,
    CASE WHEN l.status IN {INSTANCE.ENDED} THEN l.ended_us END AS ended_us, coalesce(l.progress, 0) AS progress, l.error, l.report
FROM submitted s JOIN last l ON l.instance = s.id JOIN chain c ON c.id = s.chain
WHERE s.created_us <= t;

CREATE OR REPLACE VIEW instance AS FROM instance_at({NOW});

CREATE OR REPLACE VIEW step AS
SELECT s.id AS instance, c.step, c.name, c.kind, c.gated, c.weight, c.max_attempts, c.input_media, c.output_media, g.opened_us
FROM submitted s JOIN chain_step c ON c.chain = s.chain
LEFT JOIN (SELECT instance, step, arg_max_null(opened_us, id) AS opened_us FROM gate GROUP BY instance, step) g
    ON g.instance = s.id AND g.step = c.step;

CREATE OR REPLACE MACRO instances_at(t) AS TABLE
SELECT id, job, version, key, instance_status(status) AS status, progress, decode(params) AS params,
    make_timestamptz(created_us) AS created, make_timestamptz(started_us) AS started, make_timestamptz(ended_us) AS ended,
    (ended_us - started_us) / 1e6 AS seconds, error
FROM instance_at(t);

CREATE OR REPLACE VIEW instances AS FROM instances_at({NOW});

-- Claims, chunk by chunk.
CREATE OR REPLACE VIEW claimed AS
SELECT session, instance, step, unnest(range(first, first + chunks)) AS chunk, attempt, claimed_us FROM claim
UNION ALL
SELECT session, instance, step, id, 1, created_us FROM chunk WHERE session IS NOT NULL;

-- Attempts that are claimed and not ended.
CREATE OR REPLACE VIEW running AS
SELECT k.instance, k.chunk, max(k.attempt) AS attempt, max(k.claimed_us) AS claimed_us FROM claimed k
ANTI JOIN event e ON e.instance = k.instance AND e.chunk = k.chunk AND e.attempt >= k.attempt
WHERE k.session = (SELECT max(id) FROM session)
GROUP BY k.instance, k.chunk;

-- Chunks as they stood at a time in microseconds.
CREATE OR REPLACE MACRO all_chunks_at(t) AS TABLE
WITH last AS (SELECT instance, chunk, max(id) AS id FROM event WHERE ended_us <= t GROUP BY instance, chunk),
begun AS (
    SELECT instance, chunk, attempt, claimed_us FROM running WHERE claimed_us <= t
    UNION ALL
    SELECT instance, chunk, attempt, started_us FROM event WHERE started_us <= t AND ended_us > t
),
opened AS (
    SELECT instance, step, arg_max_null(opened_us, id) AS opened_us FROM gate
    WHERE coalesce(opened_us, closed_us) <= t GROUP BY instance, step
)
SELECT c.id, c.instance, s.name AS step, c.parent, c.seq,
    chunk_status(CASE
        WHEN r.chunk IS NOT NULL THEN {IN_PROGRESS}
        WHEN coalesce(e.status, {QUEUED}) = {QUEUED} AND s.gated AND g.opened_us IS NULL THEN {GATE_WAITING}
        WHEN e.status = {GATE_WAITING} AND g.opened_us IS NOT NULL THEN {QUEUED}
        ELSE coalesce(e.status, {QUEUED}) END) AS status,
    coalesce(r.attempt, e.attempt, 0) AS attempts, coalesce(e.errors, 0) AS errors, coalesce(e.polls, 0) AS polls,
    make_timestamptz(c.created_us) AS created,
    make_timestamptz(coalesce(r.claimed_us, e.started_us)) AS started,
    make_timestamptz(CASE WHEN r.chunk IS NULL AND e.status IN {ENDED} THEN e.ended_us END) AS ended,
    CASE WHEN r.chunk IS NULL THEN (e.ended_us - e.started_us) / 1e6 END AS seconds,
    make_timestamptz(CASE WHEN r.chunk IS NULL AND e.status IN ({POLL_WAITING}, {ERRORED}) THEN e.due_us END) AS due,
    e.records, d.error_type, d.error
FROM chunk c
JOIN step s ON s.instance = c.instance AND s.step = c.step
LEFT JOIN opened g ON g.instance = c.instance AND g.step = c.step
LEFT JOIN last ON last.instance = c.instance AND last.chunk = c.id
LEFT JOIN event e ON e.id = last.id AND e.instance = last.instance
LEFT JOIN detail d ON d.event = last.id AND d.instance = last.instance
LEFT JOIN begun r ON r.instance = c.instance AND r.chunk = c.id
WHERE c.created_us <= t;

-- The same without those superseded by then.
CREATE OR REPLACE MACRO chunks_at(t) AS TABLE
SELECT c.* FROM all_chunks_at(t) c
ANTI JOIN (SELECT instance, chunk FROM superseded WHERE at_us <= t) x ON x.instance = c.instance AND x.chunk = c.id;

CREATE OR REPLACE VIEW chunks AS SELECT * FROM chunks_at({NOW});

-- Attempts as they stood at a time; those of superseded chunks too.
CREATE OR REPLACE MACRO attempts_at(t) AS TABLE
SELECT e.instance, e.chunk, s.name AS step, e.attempt, chunk_status(CASE WHEN e.ended_us <= t THEN e.status ELSE {IN_PROGRESS} END) AS status,
    make_timestamptz(e.started_us) AS started, CASE WHEN e.ended_us <= t THEN make_timestamptz(e.ended_us) END AS ended,
    e.worker, e.code, coalesce(len(d.warnings), 0)::INTEGER AS warnings, coalesce(len(d.recovered), 0)::INTEGER AS recovered,
    CASE WHEN e.ended_us <= t THEN e.records END AS records, CASE WHEN e.ended_us <= t THEN (e.ended_us - e.started_us) / 1e6 END AS seconds,
    d.error_type, d.error, d.traceback, d.log, e.id AS event
FROM event e
JOIN step s ON s.instance = e.instance AND s.step = e.step
LEFT JOIN detail d ON d.event = e.id AND d.instance = e.instance AND e.ended_us <= t
WHERE e.started_us <= t
UNION ALL BY NAME
SELECT r.instance, r.chunk, s.name AS step, r.attempt, 'IN_PROGRESS' AS status, make_timestamptz(r.claimed_us) AS started,
    0 AS warnings, 0 AS recovered, {NOW} AS event
FROM running r
JOIN chunk c ON c.id = r.chunk AND c.instance = r.instance
JOIN step s ON s.instance = c.instance AND s.step = c.step
WHERE r.claimed_us <= t;

CREATE OR REPLACE VIEW attempts AS SELECT * FROM attempts_at({NOW});

-- Gates by the time they were opened or closed (opened_us is NULL then).
CREATE OR REPLACE VIEW gates AS
SELECT instance, step, coalesce(opened_us, closed_us) AS at_us, arg_max_null(opened_us, id) AS opened_us
FROM gate GROUP BY instance, step, coalesce(opened_us, closed_us);

-- Chunks as they were made: behind a shut gate, or not.
CREATE OR REPLACE VIEW born AS
SELECT c.instance, c.id AS chunk, c.step, c.created_us, k.gated AND g.opened_us IS NULL AS waits
FROM chunk c
JOIN submitted s ON s.id = c.instance
JOIN chain_step k ON k.chain = s.chain AND k.step = c.step
ASOF LEFT JOIN gates g ON g.instance = c.instance AND g.step = c.step AND c.created_us >= g.at_us;

-- Every change of state: of the instance (chunk is NULL) and of each chunk, from its creation on.
CREATE OR REPLACE VIEW history AS
SELECT instance, NULL::BIGINT AS chunk, NULL::VARCHAR AS step, NULL::INTEGER AS attempt, instance_status(status) AS status,
    make_timestamptz(ended_us) AS happened, text, id AS event, 9 AS rank
FROM life WHERE ended_us IS NOT NULL
UNION ALL
SELECT b.instance, b.chunk, s.name, NULL, CASE WHEN b.waits THEN 'GATE_WAITING' ELSE 'QUEUED' END,
    make_timestamptz(b.created_us), NULL, 0, 0
FROM born b JOIN step s ON s.instance = b.instance AND s.step = b.step
UNION ALL
SELECT b.instance, b.chunk, s.name, NULL, 'QUEUED', make_timestamptz(g.opened_us), 'gate opened', 0, 1
FROM born b
ASOF JOIN (SELECT instance, step, opened_us FROM gates WHERE opened_us IS NOT NULL) g
    ON g.instance = b.instance AND g.step = b.step AND b.created_us < g.opened_us
JOIN step s ON s.instance = b.instance AND s.step = b.step
LEFT JOIN superseded x ON x.instance = b.instance AND x.chunk = b.chunk
WHERE b.waits AND coalesce(x.at_us > g.opened_us, true)
UNION ALL
SELECT e.instance, e.chunk, s.name, e.attempt, 'IN_PROGRESS', make_timestamptz(e.started_us), NULL, e.id, 2
FROM event e JOIN step s ON s.instance = e.instance AND s.step = e.step WHERE e.started_us IS NOT NULL
UNION ALL
SELECT r.instance, r.chunk, s.name, r.attempt, 'IN_PROGRESS', make_timestamptz(r.claimed_us), NULL, {NOW}, 2
FROM running r
JOIN chunk c ON c.id = r.chunk AND c.instance = r.instance
JOIN step s ON s.instance = c.instance AND s.step = c.step
UNION ALL
SELECT e.instance, e.chunk, s.name, e.attempt, chunk_status(e.status), make_timestamptz(e.ended_us), d.error, e.id, 3
FROM event e JOIN step s ON s.instance = e.instance AND s.step = e.step
LEFT JOIN detail d ON d.event = e.id AND d.instance = e.instance
UNION ALL
SELECT x.instance, x.chunk, s.name, NULL, 'SUPERSEDED', make_timestamptz(x.at_us), 'replaced by a rerun', {NOW}, 8
FROM superseded x
JOIN chunk c ON c.id = x.chunk AND c.instance = x.instance
JOIN step s ON s.instance = c.instance AND s.step = c.step;

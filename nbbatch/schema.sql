-- The tables of a store, format 1. Chunks, events and outputs are only ever inserted (and purged in bulk):
-- measured, row updates cost two to six times more per commit and leave bloat. Only the two small tables,
-- instance and step, are updated. Times are microseconds since 1970 UTC; states are the codes of states.py
-- (DuckDB's enums cannot grow). A chunk's state is its last event; without one it is QUEUED, or GATE_WAITING
-- where its step is gated and not opened; a claim without an event of the same attempt means IN_PROGRESS.

CREATE TABLE meta (name VARCHAR, value VARCHAR);

-- One row per opening of the file by a process.
CREATE TABLE session (id BIGINT, opened_us BIGINT, pid BIGINT, version VARCHAR);

CREATE TABLE instance (
    id BIGINT,
    job VARCHAR,
    version INTEGER,
    key VARCHAR,             -- NULL: found by its parameters
    identity VARCHAR,        -- digest of the identifying parameters
    params BLOB,             -- JSON, secrets masked
    shape VARCHAR,           -- JSON of the chain's step names, order, types and gates
    retain VARCHAR,          -- all | failed | none
    status TINYINT,
    paused BOOLEAN,
    failing VARCHAR,         -- text of a FailJob while running chunks finish; NULL otherwise
    created_us BIGINT,
    started_us BIGINT,       -- first claim
    ended_us BIGINT,
    progress DOUBLE,         -- as of the last change of status; never falls
    error VARCHAR,           -- why it ended FAILED
    report BLOB              -- the reduction's return value
);

CREATE TABLE step (
    instance BIGINT,
    step SMALLINT,
    name VARCHAR,
    kind VARCHAR,            -- one | many | none | reduction
    gated BOOLEAN,
    weight DOUBLE,
    max_attempts INTEGER,
    input_media VARCHAR,     -- json | arrow
    output_media VARCHAR,
    opened_us BIGINT         -- when its gate opened; NULL: shut, or never gated
);

CREATE TABLE chunk (
    id BIGINT,
    instance BIGINT,
    step SMALLINT,
    parent BIGINT,           -- NULL for the first chunk of an instance
    seq INTEGER,             -- 0, 1, 2 … among its parent's outputs
    created_us BIGINT,
    data BLOB USING COMPRESSION zstd    -- its input; NULL for the first chunk (the parameters) and the reduction
);

-- What is claimed, stored before user code runs: a row per run of consecutive chunks of a micro-batch; views.sql has `claimed`.
CREATE TABLE claim (
    id BIGINT,               -- of the micro-batch
    session BIGINT,
    instance BIGINT,
    step SMALLINT,
    first BIGINT,            -- id of the first chunk
    chunks INTEGER,          -- how many
    attempt INTEGER,
    claimed_us BIGINT
);

-- One row per attempt that ended, and one per change made by hand.
CREATE TABLE event (
    id BIGINT,               -- order of all events in the store
    chunk BIGINT,
    instance BIGINT,
    step SMALLINT,
    attempt INTEGER,
    status TINYINT,
    errors INTEGER,          -- errors counted so far
    polls INTEGER,           -- RetryLater so far
    started_us BIGINT,       -- NULL for changes made by hand
    ended_us BIGINT,
    due_us BIGINT,           -- when ERRORED or POLL_WAITING is claimed again
    records INTEGER,
    code VARCHAR,            -- fingerprint of the step's code
    worker VARCHAR
);

-- What an attempt left beside its outputs; only for attempts that left something.
CREATE TABLE detail (
    chunk BIGINT,
    instance BIGINT,
    attempt INTEGER,
    event BIGINT,
    error_type VARCHAR,
    error VARCHAR,
    traceback VARCHAR,
    log VARCHAR,
    warnings VARCHAR[],
    recovered VARCHAR[]      -- errors the step survived
);

-- What the reduction will read.
CREATE TABLE output (
    instance BIGINT,
    step SMALLINT,           -- the reduction's
    parent BIGINT,
    seq INTEGER,
    data BLOB USING COMPRESSION zstd
);

-- Pages of a fan-out still running; moved to chunk and output in the transaction that completes the attempt.
CREATE TABLE staged (
    chunk BIGINT,
    instance BIGINT,
    attempt INTEGER,
    step SMALLINT,           -- where the output goes
    seq INTEGER,
    data BLOB
);

CREATE TABLE instance_event (id BIGINT, instance BIGINT, ended_us BIGINT, status TINYINT, text VARCHAR);

-- Source text of each step, once per fingerprint.
CREATE TABLE code (fingerprint VARCHAR, step VARCHAR, source VARCHAR, first_us BIGINT);

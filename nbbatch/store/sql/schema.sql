-- The tables of a store. To change one, write it here as it is to be, and at the end of this file, below a line
-- "-- from format N: sentence", what makes it of what is there. Chunks, events and outputs are only ever inserted (and purged in bulk):
-- measured, row updates cost two to six times more per commit and leave bloat. Times are microseconds since 1970 UTC;
-- states are the codes of states.py (DuckDB's enums cannot grow). A chunk's state is its last event; without one it is QUEUED, or GATE_WAITING
-- where its step is gated and not opened; a claim without an event of the same attempt means IN_PROGRESS.

CREATE TABLE meta (name VARCHAR, value VARCHAR);

-- One row per opening of the file by a process.
CREATE TABLE session (id BIGINT, opened_us BIGINT, pid BIGINT, version VARCHAR);

-- A job instance as submitted; views.sql has `instance`, which adds how it stands.
CREATE TABLE submitted (
    id BIGINT,
    job VARCHAR,
    version BIGINT,
    key VARCHAR,             -- NULL: found by its parameters, or by its parent
    identity VARCHAR,        -- digest of the identifying parameters
    params BLOB,             -- JSON, secrets masked
    chain BIGINT,
    retain VARCHAR,          -- all | failed | none
    created_us BIGINT,       -- when it was QUEUED
    started_us BIGINT,       -- when it was IN_PROGRESS, if that was within the same transaction
    parent BIGINT,           -- the chunk that submitted it as a sub-job; NULL: a person did
    reuse BIGINT             -- what its chunks may take of others: NULL: as its steps say; 0: nothing; -1: all; else: of that instance
);

-- What happens to an instance afterwards; views.sql has `life`, which adds its birth.
CREATE TABLE instance_event (
    id BIGINT,               -- order of all events in the store
    instance BIGINT,
    ended_us BIGINT,         -- when the state was entered; NULL where the state stays as it is
    status TINYINT,
    text VARCHAR,            -- why it ended FAILED
    progress DOUBLE,         -- NULL: as before
    failing VARCHAR,         -- text of a FailJob while running chunks finish; '': none
    report BLOB              -- the reduction's return value
);

-- Chains of steps, once for all instances that have them; views.sql has `step`, a row per instance and step.
CREATE TABLE chain (id BIGINT, shape VARCHAR, steps VARCHAR);

CREATE TABLE chain_step (
    chain BIGINT,
    step SMALLINT,
    name VARCHAR,
    kind VARCHAR,            -- one | many | none | reduction
    gated BOOLEAN,
    weight DOUBLE,
    max_attempts INTEGER,
    input_media VARCHAR,     -- json | arrow
    output_media VARCHAR
);

-- Gates that were opened, and those that a rerun closed again (opened_us is NULL), in the order of events.
CREATE TABLE gate (id BIGINT, instance BIGINT, step SMALLINT, opened_us BIGINT, closed_us BIGINT);

CREATE TABLE chunk (
    id BIGINT,
    instance BIGINT,
    step SMALLINT,
    parent BIGINT,           -- NULL for the first chunk of an instance
    seq INTEGER,             -- 0, 1, 2 … among its parent's outputs
    created_us BIGINT,
    data BLOB USING COMPRESSION zstd,   -- its input; NULL for the first chunk (the parameters) and the reduction
    session INTEGER          -- whose first claim was stored together with the chunk; NULL: claimed later, see `claim`
);

-- What is claimed, stored before user code runs: a row per run of consecutive chunks of a micro-batch. Chunks that are
-- claimed as they are made have no row here (see chunk.session); views.sql has `claimed`, which is both.
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
    records BIGINT,
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
    recovered VARCHAR[],     -- errors the step survived
    head VARCHAR,            -- the beginning of the error, which tells causes apart; NULL where nothing failed
    raised VARCHAR           -- function and source line that raised it
);

-- What the reduction will read.
CREATE TABLE output (
    instance BIGINT,
    step SMALLINT,           -- the reduction's
    parent BIGINT,
    seq INTEGER,
    data BLOB USING COMPRESSION zstd
);

-- Pages of a fan-out still running; moved to chunk and output in the transaction that completes the attempt, or, where they are many, a slice
-- at a time from then on: what an attempt staged that COMPLETED counts as chunks, see the macro `sealed`.
CREATE TABLE staged (
    chunk BIGINT,
    instance BIGINT,
    attempt INTEGER,
    step SMALLINT,           -- where the output goes
    seq INTEGER,
    data BLOB
);

-- Files stored with an instance.
CREATE TABLE attachment (
    instance BIGINT,
    name VARCHAR,
    digest VARCHAR,          -- SHA-256
    bytes BIGINT,
    created_us BIGINT,
    data BLOB USING COMPRESSION zstd
);

-- A JSON object of the user's own per instance; the last one counts.
CREATE TABLE user_data (id BIGINT, instance BIGINT, created_us BIGINT, data VARCHAR);

-- Chunks that a rerun replaced: they stay in the history and count for nothing else.
CREATE TABLE superseded (
    chunk BIGINT,
    instance BIGINT,
    at_us BIGINT,
    copy BIGINT              -- the chunk that was made anew in its place; NULL: what comes of others, or of its gate, is
);

-- Source text of each step, and of what it reaches, once per fingerprint.
CREATE TABLE code (
    fingerprint VARCHAR,
    step VARCHAR,
    source VARCHAR,
    first_us BIGINT,
    parts VARCHAR            -- JSON: of each name that it reaches a digest of what that means
);

-- What beside the input decides what a step gives: equal for attempts that may take each other's outputs.
CREATE TABLE reuse_key (
    id BIGINT,
    step VARCHAR,            -- its name
    code VARCHAR,            -- fingerprint of the step's code
    params VARCHAR,          -- JSON: of each parameter that it takes a digest
    ways VARCHAR             -- where its outputs go, if there is a choice
);

-- Attempts of steps with reuse that ran and COMPLETED: what they gave others may take.
CREATE TABLE reusable (
    key BIGINT,
    input UUID,              -- digest of what it took
    chunk BIGINT,
    instance BIGINT,
    event BIGINT,
    records BIGINT,
    kept BOOLEAN             -- whether its outputs stay when its instance has ended
);

-- Chunks of steps with reuse, as they were looked up before they ran: each time that they were to.
CREATE TABLE lookup (
    chunk BIGINT,
    instance BIGINT,
    step SMALLINT,
    key BIGINT,
    input UUID,              -- digest of what it takes
    asked_us BIGINT,
    origin BIGINT,           -- the chunk whose outputs it took; NULL: it runs
    origin_instance BIGINT,
    reason VARCHAR,          -- why it runs
    near BIGINT,             -- the key of what it is most like, by which what has changed is told
    until_us BIGINT          -- when it was looked up again; NULL: it was not
);

-- from format 1: Wide numbers, and whose sub-job an instance is: a column, not what its key looks like.
ALTER TABLE submitted ALTER version TYPE BIGINT;
ALTER TABLE event ALTER records TYPE BIGINT;
ALTER TABLE submitted ADD COLUMN parent BIGINT;
UPDATE submitted SET parent = try_cast(substr(key, 18) AS BIGINT), key = NULL
WHERE starts_with(key, 'sub-job of chunk ') AND try_cast(substr(key, 18) AS BIGINT) IN (SELECT id FROM chunk);

-- from format 2: What tells causes of failures apart stands by itself, so that whole texts are not read for it.
ALTER TABLE detail ADD COLUMN head VARCHAR;
ALTER TABLE detail ADD COLUMN raised VARCHAR;
UPDATE detail SET head = left(error, 600), raised = regexp_replace(coalesce(
    list_last(list_filter(regexp_extract_all(traceback, '  File "[^"\n]+", line [0-9]+, in [^\n]+\n    [^\n]+\n'),
        lambda frame: NOT regexp_matches(frame, 'site-packages|/lib/python[0-9]|<frozen'))),
    list_last(regexp_extract_all(traceback, '  File "[^"\n]+", line [0-9]+, in [^\n]+\n    [^\n]+\n')), ''),
    '^  File "[^"\n]+", line [0-9]+, in ([^\n]+)\n +([^\n]+)\n', '\1: \2')
WHERE error_type IS NOT NULL;

-- from format 3: Outputs are taken again where nothing has changed.
ALTER TABLE submitted ADD COLUMN reuse BIGINT;
ALTER TABLE code ADD COLUMN parts VARCHAR;
CREATE TABLE reuse_key (id BIGINT, step VARCHAR, code VARCHAR, params VARCHAR, ways VARCHAR);
CREATE TABLE reusable (key BIGINT, input UUID, chunk BIGINT, instance BIGINT, event BIGINT, records BIGINT, kept BOOLEAN);
CREATE TABLE lookup (
    chunk BIGINT, instance BIGINT, step SMALLINT, key BIGINT, input UUID, asked_us BIGINT, origin BIGINT, origin_instance BIGINT,
    reason VARCHAR, near BIGINT
);

-- from format 4: Chunks are looked up before each of their attempts; what a chunk is like is told by its key; what a rerun made anew is known.
ALTER TABLE superseded ADD COLUMN copy BIGINT;
ALTER TABLE lookup ADD COLUMN until_us BIGINT;
UPDATE lookup SET near = (SELECT max(key) FROM reusable WHERE reusable.chunk = lookup.near) WHERE near IS NOT NULL;

-- Instances, their chains and what is stored with them.

-- chains: The chains that are known.
SELECT steps, id FROM chain;

-- ends: How often an instance has ended.
SELECT count(*) FROM instance_event WHERE instance = $1 AND status IN {INSTANCE.ENDED};

-- subjobs: Unfinished instances that chunks of an instance submitted, and theirs.
WITH RECURSIVE child AS (
    SELECT i.id, c.instance AS parent FROM instance i JOIN chunk c ON c.id = i.parent
    WHERE i.status NOT IN {INSTANCE.ENDED}
),
below AS (SELECT id FROM child WHERE parent = $1 UNION ALL SELECT c.id FROM child c JOIN below b ON c.parent = b.id)
SELECT id FROM below;

-- replaced_subjobs: Unfinished instances that chunks of an instance submitted which were replaced by a rerun.
SELECT i.id FROM instance i JOIN superseded x ON x.chunk = i.parent WHERE x.instance = $1 AND i.status NOT IN {INSTANCE.ENDED};

-- subjobs_of_chunks: Unfinished instances that chunks $1 submitted.
SELECT id FROM instance WHERE parent IN (SELECT unnest($1::BIGINT[])) AND status NOT IN {INSTANCE.ENDED};

-- subjob_order: The event in which an instance last changed its state, and a chunk's last event.
SELECT (SELECT max(id) FROM life WHERE instance = $1), (SELECT max(id) FROM event WHERE chunk = $2);

-- paused_since: When an instance was paused last; NULL: never.
SELECT max(ended_us) FROM instance_event WHERE instance = $1 AND status = {INSTANCE.PAUSED};

-- attachment_names: Attachments of an instance, in the order they were given.
SELECT name FROM attachment WHERE instance = $1 ORDER BY rowid;

-- attachment_digests: Name and digest of each.
SELECT name, digest FROM attachment WHERE instance = $1;

-- instance: One instance.
FROM instance WHERE id = $1;

-- instances_of: Instances of a job's version, the oldest first.
FROM instance WHERE job = $1 AND version = $2 ORDER BY id;

-- instances_like: Unnamed instances of equal job, version and identifying parameters that people submitted, the newest first.
FROM instance WHERE job = $1 AND version = $2 AND identity = $3 AND key IS NULL AND parent IS NULL ORDER BY id DESC;

-- newest_shape: The newest instance of a job's version, and the chain it began with.
SELECT s.id, c.shape FROM submitted s JOIN chain c ON c.id = s.chain WHERE s.job = $1 AND s.version = $2 ORDER BY s.id DESC LIMIT 1;

-- instance_keyed: The instance of a job's version that was given a key.
FROM instance WHERE job = $1 AND version = $2 AND key = $3;

-- instance_below: The instance of a job's version that a chunk submitted.
FROM instance WHERE job = $1 AND version = $2 AND parent = $3;

-- has_unfinished: A row if any instance has not ended.
SELECT 1 FROM instance WHERE status NOT IN {INSTANCE.ENDED} LIMIT 1;

-- instances: One row per instance, the newest first, as of $4 (NULL: now).
SELECT id, job, status, progress, version, key, parent, params, created, started, ended, seconds, error
FROM instances_at(coalesce($4, {NOW}))
WHERE ($1 IS NULL OR job = $1) AND ($2 IS NULL OR status = $2) AND ($3 IS NULL OR created >= make_timestamptz($3))
ORDER BY id DESC LIMIT $5 OFFSET $6;

-- jobs: One row per job and version, as of $1 (NULL: now).
SELECT job, version, count(*) AS instances, count(*) FILTER (status = 'COMPLETED') AS completed,
    count(*) FILTER (status = 'FAILED') AS failed, count(*) FILTER (status = 'CANCELLED') AS cancelled,
    count(*) FILTER (status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')) AS unfinished, max(created) AS latest
FROM instances_at(coalesce($1, {NOW})) GROUP BY job, version ORDER BY job, version;

-- instances_in: Instances in some states, of one job or any, that were submitted by a time; with their jobs.
SELECT id, job FROM instance WHERE status IN (SELECT unnest($1::TINYINT[])) AND ($2 IS NULL OR job = $2) AND created_us <= $3 ORDER BY id;

-- overview: A page of instances in states $1, the newest first of: those at work (of $2, where that is known), failed, paused, waiting, ended.
SELECT id, job, version, key, parent, instance_status(status), progress, created_us, started_us, ended_us, error
FROM instance WHERE list_contains($1::INTEGER[], status)
ORDER BY CASE
    WHEN status IN ({INSTANCE.IN_PROGRESS}, {INSTANCE.ERRORED}, {INSTANCE.FINALIZE}) AND (len($2::BIGINT[]) = 0 OR list_contains($2::BIGINT[], id)) THEN 0
    WHEN status = {INSTANCE.FAILED} THEN 1 WHEN status = {INSTANCE.PAUSED} THEN 2
    WHEN status IN {INSTANCE.ENDED} THEN 4 ELSE 3 END, id DESC
LIMIT $3 OFFSET $4;

-- count_by_status: How many instances there are in each state.
SELECT status, count(*) FROM instances GROUP BY status ORDER BY status;

-- subjob_of: Instances that a chunk submitted, the newest first.
SELECT id FROM submitted WHERE parent = $1 ORDER BY id DESC;

-- report: What an instance's reduction returned.
SELECT report FROM instance WHERE id = $1 AND report IS NOT NULL;

-- step_names: Names of an instance's steps in chain order.
SELECT name FROM step WHERE instance = $1 ORDER BY step;

-- step: Kind of a step, and how its inputs are stored.
SELECT kind, input_media FROM step WHERE instance = $1 AND step = $2;

-- attachments: Files stored with an instance, in the order they were given, as of $2 (NULL: now).
SELECT name, bytes, digest, make_timestamptz(created_us) AS created FROM attachment
WHERE instance = $1 AND created_us <= coalesce($2, {NOW}) ORDER BY rowid;

-- attachment: The content of one of them.
SELECT data FROM attachment WHERE instance = $1 AND name = $2;

-- user_data: The user's own data that an instance was given last.
SELECT data FROM user_data WHERE instance = $1 ORDER BY id DESC LIMIT 1;

-- latest_ends: By identifying parameters of a job's version, of at most $3: the newest instance that a person submitted without a key, and its last state.
SELECT s.identity, s.id, e.status FROM submitted s JOIN instance_event e ON e.instance = s.id AND e.status IS NOT NULL
WHERE s.job = $1 AND s.version = $2 AND s.key IS NULL AND s.parent IS NULL
QUALIFY row_number() OVER (PARTITION BY s.identity ORDER BY s.id DESC, e.id DESC) = 1 LIMIT $3;

-- latest_end: The same of equal identifying parameters.
SELECT s.id, e.status FROM submitted s JOIN instance_event e ON e.instance = s.id AND e.status IS NOT NULL
WHERE s.job = $1 AND s.version = $2 AND s.identity = $3 AND s.key IS NULL AND s.parent IS NULL
ORDER BY s.id DESC, e.id DESC LIMIT 1;

-- keyed_elsewhere: Keys of other versions of a job, of at most $3: the newest instance of each, its version and its last state.
SELECT s.key, s.id, s.version, e.status FROM submitted s LEFT JOIN instance_event e ON e.instance = s.id AND e.status IS NOT NULL
WHERE s.job = $1 AND s.version <> $2 AND s.key IS NOT NULL AND s.parent IS NULL
QUALIFY row_number() OVER (PARTITION BY s.key ORDER BY s.id DESC, e.id DESC) = 1 LIMIT $3;

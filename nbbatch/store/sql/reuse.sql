-- Chunks that take the outputs of equal ones which completed before.
-- A lookup fills tables of its own transaction and no other's: part (steps), looking (their chunks), tried (those of them that have had
-- attempts), found (the origins, in the order of the chunks, and the room of those up to there for their outputs), near (what others are most like)
-- and taken (outputs, on their way to new rows; their place among them, and the chunks that they were for their origins).

-- not_found: Chunks $3 of an instance that were looked up, and that nothing with key $2 equals.
SELECT chunk FROM lookup WHERE instance = $1 AND until_us IS NULL AND chunk IN (SELECT unnest($3::BIGINT[]))
    AND input NOT IN (SELECT input FROM reusable WHERE key = $2);

-- begin_lookup: Make those of them anew that say what is looked up.
CREATE OR REPLACE TEMP TABLE part (
    part SMALLINT, instance BIGINT, step SMALLINT, key BIGINT, name VARCHAR, code VARCHAR, source BIGINT, why VARCHAR
);
CREATE OR REPLACE TEMP TABLE looking (chunk BIGINT, part SMALLINT, again BOOLEAN, input UUID, size BIGINT);
CREATE OR REPLACE TEMP TABLE tried (chunk BIGINT, attempt INTEGER, errors INTEGER, polls INTEGER);

-- begin_finding: And then the others.
CREATE OR REPLACE TEMP TABLE found (
    chunk BIGINT, part SMALLINT, input UUID, origin BIGINT, origin_instance BIGINT, records BIGINT, place BIGINT
);
CREATE OR REPLACE TEMP TABLE near (chunk BIGINT, near BIGINT, why VARCHAR);
CREATE OR REPLACE TEMP TABLE taken (
    part SMALLINT, step SMALLINT, reduces BOOLEAN, parent BIGINT, seq INTEGER, data BLOB, place BIGINT, origin BIGINT
);

-- reuse_keys: What is known to make outputs the same.
SELECT id, step, code, params, ways FROM reuse_key;

-- add_reuse_key: Add one.
INSERT INTO reuse_key VALUES ($1, $2, $3, $4, $5);

-- add_part: A step whose chunks are looked up.
INSERT INTO part VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- look_up: Chunks of a step from those between $3 and $4, without what has an event, is in $5 or was superseded.
INSERT INTO looking
SELECT c.id, $6, false, content(c.data), coalesce(octet_length(c.data), 0)
FROM chunk c
ANTI JOIN (SELECT chunk FROM event WHERE instance = $1 AND step = $2 AND chunk > $3 AND chunk <= $4) e ON e.chunk = c.id
ANTI JOIN replaced($1) x ON x.chunk = c.id
ANTI JOIN (SELECT unnest($5::BIGINT[]) AS chunk) s ON s.chunk = c.id
WHERE c.instance = $1 AND c.step = $2 AND c.id > $3 AND c.id <= $4;

-- look_up_taken: Chunks of a step between $3 and $4 that were made of what was just taken of parts $6, with ids after $1: nobody has touched
-- them yet. With $8, digests are those that equal chunks were looked up with, by the same key $7: for many that is less than to make them anew.
INSERT INTO looking
SELECT $1 + t.place, $5, false, coalesce(k.input, content(t.data)), coalesce(octet_length(t.data), 0)
FROM taken t
LEFT JOIN (
    SELECT chunk, input FROM lookup
    WHERE $8 AND key = $7 AND until_us IS NULL AND instance IN (SELECT DISTINCT origin_instance FROM found)
) k ON k.chunk = t.origin
WHERE t.step = $2 AND NOT t.reduces AND t.place > $3::BIGINT - $1 AND t.place <= $4::BIGINT - $1
    AND t.part IN (SELECT unnest($6::SMALLINT[]));

-- look_up_again: Chunks $2 of an instance, between $3 and $4.
INSERT INTO looking
SELECT c.id, $5, false, content(c.data), coalesce(octet_length(c.data), 0)
FROM chunk c WHERE c.instance = $1 AND c.id >= $3 AND c.id <= $4 AND c.id IN (SELECT unnest($2::BIGINT[]));

-- note_tried: Their next attempts, the errors so far and the polls.
INSERT INTO tried SELECT unnest($1::BIGINT[]), unnest($2::INTEGER[]), unnest($3::INTEGER[]), unnest($4::INTEGER[]);

-- find_copies: What was made anew by a rerun of an instance of $1 is to run.
UPDATE looking SET again = true
WHERE chunk IN (SELECT copy FROM superseded WHERE instance IN (SELECT unnest($1::BIGINT[])) AND copy IS NOT NULL);

-- find_begun: So are chunks of step $2 of an instance that have streamed outputs.
UPDATE looking SET again = true WHERE chunk IN (SELECT parent FROM chunk WHERE instance = $1 AND step <> $2)
    OR chunk IN (SELECT parent FROM output WHERE instance = $1);

-- look_for_reduction: What a reduction of an instance takes: all that it reads, in its order.
UPDATE looking SET input = coalesce((
    SELECT left(sha256(string_agg(content(o.data)::VARCHAR, '' ORDER BY list_append(p.place, o.seq))), 32)::UUID
    FROM output o JOIN paths($1, 32767) p ON p.id = o.parent WHERE o.instance = $1
), content(NULL)) WHERE part = $2;

-- inputs_looked_up: Stored inputs of the chunks that are looked up; without $2 only those that may hold files or sets.
SELECT l.chunk, c.data FROM looking l JOIN chunk c ON c.id = l.chunk WHERE l.part = $1
    AND ($2 OR contains(c.data::VARCHAR, '$file') OR contains(c.data::VARCHAR, '$set') OR contains(c.data::VARCHAR, '$frozenset'));

-- set_inputs: Digests $2 of what chunks $1 take.
UPDATE looking SET input = g.input FROM (SELECT unnest($1::BIGINT[]) AS chunk, unnest($2::VARCHAR[])::UUID AS input) g
WHERE g.chunk = looking.chunk;

-- end_lookups: What was found before of those that are looked up again is so no more, as of $1.
UPDATE lookup SET until_us = $1
WHERE until_us IS NULL AND instance IN (SELECT instance FROM part) AND chunk IN (SELECT chunk FROM looking);

-- count_results: How many results there are for keys $1.
SELECT count(*) FROM reusable WHERE list_contains($1::BIGINT[], key);

-- keys_of_equals: Of keys $1 those with several results for one input.
SELECT key FROM reusable WHERE list_contains($1::BIGINT[], key) GROUP BY key HAVING count(*) > count(DISTINCT input);

-- find_origins: For each chunk the newest equal one that ran, whose outputs are there. Equal inputs are sought once: many chunks times many
-- that ran with the same input would be far more than either.
INSERT INTO found
WITH sought AS (SELECT DISTINCT part, input FROM looking WHERE NOT again),
best AS (
    SELECT w.part, w.input, arg_max(k.chunk, k.event) AS origin, arg_max(k.instance, k.event) AS instance, arg_max(k.records, k.event) AS records
    FROM sought w
    JOIN part p ON p.part = w.part AND p.why IS NULL
    JOIN reusable k ON k.key = p.key AND k.input = w.input AND k.kept AND (p.source IS NULL OR k.instance = p.source)
    ANTI JOIN superseded x ON x.chunk = k.chunk
    ANTI JOIN (SELECT DISTINCT chunk FROM staged) z ON z.chunk = k.chunk  -- some of its outputs are no chunks yet
    GROUP BY w.part, w.input
)
SELECT *, sum(least(records, {MOST_OUTPUTS})) OVER (ROWS UNBOUNDED PRECEDING) FROM (
    SELECT l.chunk, l.part, l.input, b.origin, b.instance, b.records
    FROM looking l JOIN best b ON b.part = l.part AND b.input = l.input
    WHERE NOT l.again ORDER BY l.chunk
);

-- find_only_origins: The same where no key has several results for one input.
INSERT INTO found
SELECT *, sum(least(records, {MOST_OUTPUTS})) OVER (ROWS UNBOUNDED PRECEDING) FROM (
    SELECT l.chunk, l.part, l.input, k.chunk AS origin, k.instance, k.records
    FROM looking l
    JOIN part p ON p.part = l.part AND p.why IS NULL
    JOIN reusable k ON k.key = p.key AND k.input = l.input AND k.kept AND (p.source IS NULL OR k.instance = p.source)
    ANTI JOIN superseded x ON x.chunk = k.chunk
    ANTI JOIN (SELECT DISTINCT chunk FROM staged) z ON z.chunk = k.chunk
    WHERE NOT l.again ORDER BY l.chunk
);

-- take_outputs: What the origins gave, to the only step that follows: by part that step (NULL: none, or several) and whether it reduces.
-- Lists, not a table that is joined: of a fan-out DuckDB expects few rows, and would look the table's one up for each of them.
INSERT INTO taken
SELECT f.part, ($1::SMALLINT[])[f.part + 1], ($2::BOOLEAN[])[f.part + 1], f.chunk, o.seq, o.data,
    CASE WHEN o.seq < least(f.records, {MOST_OUTPUTS}) THEN f.place - least(f.records, {MOST_OUTPUTS}) + o.seq + 1 END, o.id
FROM found f
JOIN (
    SELECT id, instance, parent, seq, data FROM chunk WHERE seq IS NOT NULL UNION ALL SELECT 0, instance, parent, seq, data FROM output
) o ON o.parent = f.origin AND o.instance = f.origin_instance
ANTI JOIN redone(NULL) x ON x.chunk = o.id
WHERE ($1::SMALLINT[])[f.part + 1] IS NOT NULL;

-- take_ways: Of parts $1, which several steps follow, it goes to those of the same names.
INSERT INTO taken
SELECT f.part, m.step, m.kind = 'reduction', f.chunk, o.seq, o.data, NULL, NULL
FROM found f
JOIN (
    SELECT id, instance, step, parent, seq, data FROM chunk WHERE seq IS NOT NULL
    UNION ALL SELECT 0, instance, step, parent, seq, data FROM output
) o ON o.parent = f.origin AND o.instance = f.origin_instance
JOIN part p ON p.part = f.part
JOIN submitted s ON s.id = f.origin_instance JOIN chain_step g ON g.chain = s.chain AND g.step = o.step
JOIN submitted i ON i.id = p.instance JOIN chain_step m ON m.chain = i.chain AND m.name = g.name
ANTI JOIN redone(NULL) x ON x.chunk = o.id
WHERE f.part IN (SELECT unnest($1::SMALLINT[]));

-- taken_references: What was taken and lies in files, for each instance that takes it.
SELECT DISTINCT p.instance, t.data FROM taken t JOIN part p ON p.part = t.part WHERE t.data >= '@'::BLOB AND t.data < 'A'::BLOB;

-- taken_files: What was taken of one step and holds files.
SELECT DISTINCT data FROM taken WHERE part = $1 AND contains(data::VARCHAR, '$file');

-- move_reference: It lies in another file now.
UPDATE taken SET data = $3 WHERE data = $2 AND part IN (SELECT part FROM part WHERE instance = $1);

-- leave_dropped: What lies in a file that is gone is not taken, nor is an output without a value.
DELETE FROM found WHERE chunk IN (
    SELECT parent FROM taken WHERE data IS NULL OR (data = $2 AND part IN (SELECT part FROM part WHERE instance = $1))
);

-- leave_taken: Nor is what else their origins gave.
DELETE FROM taken WHERE parent NOT IN (SELECT chunk FROM found);

-- taken_counts: How many chunks each step gets of which, and how many outputs a reduction; how many of them are there, and their bytes; and
-- the sum of their places, where all have one.
SELECT part, step, reduces, count(*), count(data), coalesce(sum(octet_length(data)), 0)::BIGINT,
    CASE WHEN count(place) = count(*) THEN sum(place)::BIGINT END
FROM taken GROUP BY ALL;

-- likely_bytes: How many bytes chunks with key $1 gave, on average of some of them.
SELECT coalesce(sum(octet_length(o.data)), 0)::BIGINT / nullif(count(DISTINCT k.chunk), 0)
FROM (SELECT chunk, instance FROM reusable WHERE key = $1 AND kept LIMIT 500) k
LEFT JOIN (
    SELECT instance, parent, data FROM chunk WHERE seq IS NOT NULL UNION ALL SELECT instance, parent, data FROM output
) o ON o.parent = k.chunk AND o.instance = k.instance;

-- put_in_place: Make chunks of what was taken, all of which has a place, with ids after $1.
INSERT INTO chunk
SELECT $1 + t.place, p.instance, t.step, t.parent, t.seq, $2, t.data, NULL
FROM taken t JOIN part p ON p.part = t.part WHERE NOT t.reduces;

-- put_chunks: The same where not all has.
INSERT INTO chunk
SELECT $1 + row_number() OVER (ORDER BY t.parent, t.seq), p.instance, t.step, t.parent, t.seq, $2, t.data, NULL
FROM taken t JOIN part p ON p.part = t.part WHERE NOT t.reduces;

-- put_outputs: Give the rest to reductions.
INSERT INTO output SELECT p.instance, t.step, t.parent, t.seq, t.data FROM taken t JOIN part p ON p.part = t.part WHERE t.reduces;

-- put_events: The attempts that took outputs, with ids after $1.
INSERT INTO event BY NAME
SELECT $1 + row_number() OVER () AS id, f.chunk, p.instance, p.step, coalesce(t.attempt, 1) AS attempt, {COMPLETED} AS status,
    coalesce(t.errors, 0) AS errors, coalesce(t.polls, 0) AS polls, $2 AS started_us, $2 AS ended_us, f.records, p.code
FROM found f JOIN part p ON p.part = f.part LEFT JOIN tried t ON t.chunk = f.chunk;

-- found_counts: How many chunks of each step have taken outputs, and how many records these are.
SELECT part, count(*), sum(records)::BIGINT FROM found GROUP BY part;

-- found_again: Which of chunks $1 have taken outputs.
SELECT chunk FROM found WHERE chunk IN (SELECT unnest($1::BIGINT[]));

-- found_report: The report that a reduction has taken, as its instance has it.
SELECT arg_max(e.report, e.id) FROM found f JOIN instance_event e ON e.instance = f.origin_instance AND e.report IS NOT NULL
WHERE f.part = $1;

-- find_near: Of those without an origin what they are most like, and so why they run.
INSERT INTO near
WITH sought AS (SELECT DISTINCT l.part, l.input FROM looking l ANTI JOIN found f ON f.chunk = l.chunk WHERE NOT l.again),
other AS (
    SELECT w.part, w.input, o.id AS near, e.id AS event, CASE
        WHEN e.status <> {COMPLETED} THEN 'failed'
        WHEN o.params || o.ways <> m.params || m.ways AND e.code <> p.code THEN 'both'
        WHEN o.params || o.ways <> m.params || m.ways THEN 'parameter'
        WHEN e.code <> p.code THEN 'code'
        WHEN e.polls > 0 THEN 'polled'
        WHEN k.instance <> p.source THEN 'source'
        ELSE 'dropped' END AS why
    FROM sought w
    JOIN part p ON p.part = w.part AND p.why IS NULL
    JOIN reuse_key m ON m.id = p.key
    JOIN reuse_key o ON o.step = p.name
    JOIN lookup k ON k.key = o.id AND k.input = w.input AND k.until_us IS NULL
    JOIN event e ON e.chunk = k.chunk AND e.instance = k.instance AND e.status IN ({COMPLETED}, {FAILED}, {SKIPPED})
    ANTI JOIN (SELECT DISTINCT chunk FROM staged) z ON z.chunk = k.chunk
),
nearest AS (
    SELECT part, input, arg_max(near, place) AS near, arg_max(why, place) AS why FROM (
        SELECT part, input, near, why, CASE why WHEN 'failed' THEN 0 WHEN 'both' THEN 1 WHEN 'parameter' THEN 2 WHEN 'code' THEN 3 ELSE 4 END
            * 1000000000000000 + event AS place FROM other
    ) GROUP BY part, input
)
SELECT l.chunk, n.near, n.why FROM looking l ANTI JOIN found f ON f.chunk = l.chunk
JOIN nearest n ON n.part = l.part AND n.input = l.input WHERE NOT l.again;

-- note_found: Keep what took outputs.
INSERT INTO lookup
SELECT f.chunk, p.instance, p.step, p.key, f.input, $1, f.origin, f.origin_instance, NULL, NULL, NULL FROM found f JOIN part p ON p.part = f.part;

-- note_others: Keep what was looked up and runs.
INSERT INTO lookup
SELECT l.chunk, p.instance, p.step, p.key, l.input, $1, NULL, NULL, coalesce(p.why, if(l.again, 'again', n.why), 'new'), n.near, NULL
FROM looking l ANTI JOIN found f ON f.chunk = l.chunk JOIN part p ON p.part = l.part LEFT JOIN near n ON n.chunk = l.chunk;

-- looked: How many chunks of a step were looked up, and the bytes of their inputs.
SELECT part, count(*), sum(size)::BIGINT FROM looking GROUP BY part;

-- keep_reusable: Of attempts that ran and ended after $1 those that COMPLETED, by the code that ran: others may take what they gave. What came
-- of RetryLater is of its time.
INSERT INTO reusable
SELECT k.id, l.input, e.chunk, e.instance, e.id, e.records, s.retain = 'all'
FROM event e
JOIN lookup l ON l.chunk = e.chunk AND l.instance = e.instance AND l.origin IS NULL AND l.until_us IS NULL
JOIN reuse_key o ON o.id = l.key
JOIN reuse_key k ON k.step = o.step AND k.params = o.params AND k.ways = o.ways AND k.code = e.code
JOIN submitted s ON s.id = e.instance
WHERE e.id > $1 AND e.status = {COMPLETED} AND e.polls = 0;

-- hand_over: Before instances $1 are purged: what was taken of them is, where it is still there, what others may take from now on.
INSERT INTO reusable
SELECT l.key, l.input, arg_max(l.chunk, e.id), arg_max(l.instance, e.id), max(e.id), arg_max(e.records, e.id), true
FROM lookup l
SEMI JOIN (SELECT key, input FROM reusable WHERE instance IN (SELECT unnest($1::BIGINT[]))) k ON k.key = l.key AND k.input = l.input
ANTI JOIN superseded x ON x.chunk = l.chunk
JOIN event e ON e.chunk = l.chunk AND e.instance = l.instance AND e.status = {COMPLETED}
JOIN submitted s ON s.id = l.instance AND s.retain = 'all'
WHERE l.origin IS NOT NULL AND l.instance NOT IN (SELECT unnest($1::BIGINT[])) GROUP BY l.key, l.input;

-- reuse: One row per chunk as of $4 (NULL: now), of step $2 or of any: whether it took outputs, of which chunk, or why it ran, with the code
-- and what else was the same or not of it and of the chunk that it is most like.
SELECT c.id AS chunk, s.name AS step, CASE WHEN l.chunk IS NULL AND e.chunk IS NULL THEN NULL ELSE l.origin IS NOT NULL END AS reused,
    l.origin_instance AS instance, l.origin,
    CASE WHEN l.origin IS NOT NULL THEN NULL WHEN l.chunk IS NOT NULL THEN l.reason WHEN e.chunk IS NOT NULL THEN 'off' END AS reason,
    m.code, n.code AS code_before, m.params, n.params AS params_before, m.ways <> n.ways AS is_elsewhere
FROM present_chunks($1, coalesce($4, {NOW})) c
JOIN steps_at($1, {NOW}) s ON s.instance = c.instance AND s.step = c.step
LEFT JOIN lookup l ON l.chunk = c.id AND l.instance = $1 AND l.asked_us <= coalesce($4, {NOW}) AND coalesce(l.until_us > coalesce($4, {NOW}), true)
LEFT JOIN (SELECT DISTINCT chunk FROM event WHERE instance = $1 AND started_us <= coalesce($4, {NOW})) e ON e.chunk = c.id
LEFT JOIN reuse_key m ON m.id = l.key
LEFT JOIN reuse_key n ON n.id = l.near
WHERE ($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR c.id = $3) ORDER BY c.id LIMIT $5 OFFSET $6;

-- reused: How many chunks of an instance took outputs.
SELECT coalesce(sum(reused), 0)::BIGINT FROM reused_by($1, {NOW});

-- code_parts: Of some fingerprints what each name that they reach means.
SELECT fingerprint, parts FROM code WHERE fingerprint IN (SELECT unnest($1::VARCHAR[])) AND parts IS NOT NULL;

-- foreseen: Of an instance's chunks that were looked up, by step how many took outputs, or why they run; as in reuse.
SELECT l.step, l.origin IS NOT NULL AS reused, l.reason, m.code, n.code, m.params, n.params, m.ways <> n.ways, count(*)
FROM lookup l JOIN reuse_key m ON m.id = l.key LEFT JOIN reuse_key n ON n.id = l.near
WHERE l.instance = $1 GROUP BY ALL ORDER BY l.step, count(*) DESC;

-- Outputs of a fan-out that is still running, or that has COMPLETED and left so many that they become chunks a slice at a time.

-- next_slice: Of what an attempt staged, from number $3 on at most $4 outputs and about $5 bytes: how many go to each step, and which is the
-- first that is left.
SELECT step, count(*), max(seq) + 1 FROM (
    SELECT step, seq, sum(coalesce(octet_length(data), 0)) OVER (ORDER BY seq) AS bytes
    FROM staged WHERE chunk = $1 AND attempt = $2 AND seq >= $3 AND seq < $3 + $4
) WHERE bytes <= $5 OR seq = $3 GROUP BY step;

-- move_staged_chunks: Make the staged outputs $3 until $4 of an attempt chunks as of $7, with ids after $5. $6 is the reduction's step or -1.
INSERT INTO chunk
SELECT $5 + row_number() OVER (ORDER BY seq), instance, step, chunk, seq, $7, data, NULL
FROM staged WHERE chunk = $1 AND attempt = $2 AND seq >= $3 AND seq < $4 AND step <> $6 ORDER BY seq;

-- move_staged_outputs: Make those of them that go to the reduction at $5 its inputs.
INSERT INTO output SELECT instance, step, chunk, seq, data
FROM staged WHERE chunk = $1 AND attempt = $2 AND seq >= $3 AND seq < $4 AND step = $5 ORDER BY seq;

-- cancel_made: Chunks of an instance with ids from $2 to $3 are CANCELLED as of $5, by events with ids after $4.
INSERT INTO event BY NAME
SELECT $4 + row_number() OVER (ORDER BY id) AS id, id AS chunk, instance, step, 0 AS attempt, {CANCELLED} AS status, 0 AS errors, 0 AS polls,
    $5 AS ended_us, 0 AS records
FROM chunk WHERE id >= $2 AND id <= $3 AND instance = $1;

-- unstage_slice: They are staged no more.
DELETE FROM staged WHERE chunk = $1 AND attempt = $2 AND seq >= $3 AND seq < $4;

-- unstage: Forget what an attempt staged.
DELETE FROM staged WHERE chunk = $1 AND attempt = $2;

-- unstage_unended: Forget what attempts of earlier sessions staged that have not COMPLETED.
DELETE FROM staged WHERE NOT EXISTS (SELECT 1 FROM sealed(NULL, {NOW}) z WHERE z.chunk = staged.chunk AND z.attempt = staged.attempt);

-- staged_of: How many outputs attempts of an instance have staged for each step, and their bytes.
SELECT chunk, attempt, step, count(*), sum(octet_length(data))::BIGINT FROM staged WHERE instance = $1 GROUP BY chunk, attempt, step;

-- sealed_of: Attempts of an instance that have COMPLETED and whose outputs are not all chunks yet: from which number to which, and since when.
SELECT chunk, attempt, min(first), max(until), max(ended_us) FROM sealed($1, {NOW}) GROUP BY chunk, attempt ORDER BY chunk;

-- drop_staged: Forget the values of an instance's outputs that are not chunks yet.
UPDATE staged SET data = NULL WHERE instance = $1 AND data IS NOT NULL;

-- published: How many outputs chunk $2 of an instance has streamed, of step $3.
SELECT coalesce(max(seq) + 1, 0) FROM (
    SELECT seq FROM chunk WHERE instance = $1 AND parent = $2 AND seq IS NOT NULL AND step <> $3
    UNION ALL SELECT seq FROM output WHERE instance = $1 AND parent = $2
);

-- published_part: Those of them from number $4 until $5, each with where it went.
SELECT seq, step, data FROM chunk
WHERE instance = $1 AND parent = $2 AND seq >= $4 AND seq < $5 AND step <> $3 AND id NOT IN (FROM redone($1))
UNION ALL SELECT seq, step, data FROM output WHERE instance = $1 AND parent = $2 AND seq >= $4 AND seq < $5;

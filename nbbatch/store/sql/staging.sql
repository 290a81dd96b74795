-- Outputs of a fan-out that is still running.

-- move_staged_chunks: Make the staged outputs of an attempt chunks, with ids from a counter. $4 is the reduction's step or -1.
INSERT INTO chunk
SELECT $3 + row_number() OVER (ORDER BY seq), instance, step, chunk, seq, $5, data, NULL
FROM staged WHERE chunk = $1 AND attempt = $2 AND step <> $4 ORDER BY seq;

-- move_staged_outputs: Make the staged outputs of an attempt inputs of the reduction.
INSERT INTO output SELECT instance, step, chunk, seq, data
FROM staged WHERE chunk = $1 AND attempt = $2 AND step = $3 ORDER BY seq;

-- unstage: Forget what an attempt staged.
DELETE FROM staged WHERE chunk = $1 AND attempt = $2;

-- unstage_all: Forget what attempts of earlier sessions staged.
DELETE FROM staged;

-- staged_of: How many outputs attempts of an instance have staged, for each step.
SELECT chunk, attempt, step, count(*) FROM staged WHERE instance = $1 GROUP BY chunk, attempt, step;

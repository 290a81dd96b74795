-- What is forgotten.

-- ended_before: Instances that ended before a time in one of some states, of one job or any, but for the last $4 of each job and
-- for what these have submitted.
WITH RECURSIVE found AS (
    SELECT id, ended_us, row_number() OVER (PARTITION BY job ORDER BY ended_us DESC, id DESC) AS place FROM instance
    WHERE status IN (SELECT unnest($2::TINYINT[])) AND ($3 IS NULL OR job = $3)
), kept AS (
    SELECT id FROM found WHERE place <= $4
    UNION SELECT below.id FROM kept JOIN chunk ON chunk.instance = kept.id JOIN submitted below ON below.parent = chunk.id
)
SELECT id FROM found WHERE ended_us < $1 AND id NOT IN (SELECT id FROM kept);

-- drop_inputs: Forget the inputs of an instance's chunks; with $2 only of those that are COMPLETED.
UPDATE chunk SET data = NULL WHERE instance = $1 AND data IS NOT NULL
    AND (NOT $2 OR id IN (SELECT chunk FROM event WHERE instance = $1 AND status = {COMPLETED}));

-- drop_outputs: Forget what an instance's reduction has read.
DELETE FROM output WHERE instance = $1;

-- purge: Delete all rows of some instances from a table.
DELETE FROM {table} WHERE {column} IN (SELECT unnest($1::BIGINT[]));

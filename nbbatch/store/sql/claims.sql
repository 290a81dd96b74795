-- What is claimed, and what can be.

-- page: Chunks of one step in a window of ids.
SELECT id, data FROM chunk WHERE id > $3 AND id <= $4 AND instance = $1 AND step = $2 ORDER BY id;

-- page_unclaimed: As page, without chunks that have an event: for windows that earlier sessions may have worked in.
SELECT c.id, c.data FROM chunk c
ANTI JOIN (
    SELECT chunk FROM event WHERE instance = $1 AND chunk > $3 AND chunk <= $4
    UNION ALL FROM replaced($1)
) e ON e.chunk = c.id
WHERE c.id > $3 AND c.id <= $4 AND c.instance = $1 AND c.step = $2 ORDER BY c.id;

-- inputs_by_id: Stored inputs of some chunks.
SELECT id, data FROM chunk WHERE id >= $2 AND id <= $3 AND instance = $1 AND id IN (SELECT unnest($4::BIGINT[]));

-- first_unclaimed: Per step the lowest id of a chunk without any event. Nothing may be claimed meanwhile.
SELECT c.step, min(c.id) FROM chunk c
ANTI JOIN (SELECT chunk FROM event WHERE instance = $1 UNION ALL FROM replaced($1)) e
    ON e.chunk = c.id
WHERE c.instance = $1 GROUP BY c.step;

-- unclaim: Forget the claims stored together with some chunks, which no worker has begun.
UPDATE chunk SET session = NULL WHERE id >= $2 AND id <= $3 AND instance = $1 AND id IN (SELECT unnest($4::BIGINT[]));

-- drop_claim: Forget the claim of a micro-batch that no worker has begun.
DELETE FROM claim WHERE id = $1;

-- release_claims: Forget the claims of earlier sessions, once their orphans are on record.
DELETE FROM claim WHERE session < $1;

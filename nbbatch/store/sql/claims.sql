-- What is claimed, and what can be.

-- page: Chunks of one step in a window of ids, at most $5.
SELECT id, data FROM chunk WHERE id > $3 AND id <= $4 AND instance = $1 AND step = $2 ORDER BY id LIMIT $5;

-- page_untouched: As page, without chunks that have an event or were superseded: for windows that were worked in before.
SELECT c.id, c.data FROM present_chunks($1, {NOW}) c
ANTI JOIN (SELECT chunk FROM event WHERE instance = $1 AND chunk > $3 AND chunk <= $4) e ON e.chunk = c.id
WHERE c.id > $3 AND c.id <= $4 AND c.step = $2 ORDER BY c.id LIMIT $5;

-- inputs_by_id: Stored inputs of some chunks.
SELECT id, data FROM chunk WHERE id >= $2 AND id <= $3 AND instance = $1 AND id IN (SELECT unnest($4::BIGINT[]));

-- unclaim: Forget the claims stored together with some chunks, which no worker has begun.
UPDATE chunk SET session = NULL WHERE id >= $2 AND id <= $3 AND instance = $1 AND id IN (SELECT unnest($4::BIGINT[]));

-- drop_claim: Forget the claim of a micro-batch that no worker has begun.
DELETE FROM claim WHERE id = $1;

-- release_instance: Forget the claims of an instance, whose attempts are no longer waited for.
DELETE FROM claim WHERE instance = $1;

-- unclaim_instance: Forget those stored together with its chunks.
UPDATE chunk SET session = NULL WHERE instance = $1 AND session IS NOT NULL;

-- release_claims: Forget the claims of earlier sessions, once their orphans are on record.
DELETE FROM claim WHERE session < $1;

-- Chunks, their inputs and their outputs.

-- chunk_instance: The instance of a chunk, whose id may be any text.
SELECT instance FROM chunk WHERE id = try_cast($1 AS BIGINT);

-- A SELECT that a user wrote: what it consists of, and its columns under other names or as other types.

-- parsed: The tree of a SELECT as JSON.
SELECT json_serialize_sql($1);

-- plain: A SELECT without comments, from its tree.
SELECT json_deserialize_sql($1);

-- foreign: Views and macros that are not DuckDB's own.
SELECT lower(view_name) FROM duckdb_views() WHERE NOT internal
UNION SELECT lower(function_name) FROM duckdb_functions() WHERE NOT internal;

-- kept_blocks: Bytes of memory in which blocks of the file are kept.
SELECT coalesce(sum(memory_usage_bytes), 0)::BIGINT FROM duckdb_memory() WHERE tag = 'BASE_TABLE';

-- read_only: A transaction that cannot write.
BEGIN TRANSACTION READ ONLY;

-- retyped: Columns of a query by place, as other types.
SELECT {columns} FROM ({query}) AS given({names});

-- as_microseconds: An interval that is of one length.
CASE WHEN date_part('year', {column}) = 0 AND date_part('month', {column}) = 0 THEN epoch_us({column})
    WHEN {column} IS NOT NULL THEN error('a month is of no fixed length: ' || {column}::VARCHAR || '; cast it to VARCHAR') END AS {column}

-- as_type: As another type.
{column}::{type} AS {column}

-- capped: So many rows of a query at most, in its order.
FROM ({query}) LIMIT {rows};

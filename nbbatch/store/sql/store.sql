-- The store itself: its format, its sessions, and which ids were given.

-- tables: The tables there are.
SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary AND schema_name = 'main';

-- objects: What else there is, in a database that has no tables in its main schema.
SELECT 1 FROM duckdb_tables() WHERE NOT internal
UNION ALL SELECT 1 FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 1 FROM duckdb_sequences()
UNION ALL SELECT 1 FROM duckdb_types() WHERE NOT internal
UNION ALL SELECT 1 FROM duckdb_schemas() WHERE NOT internal
UNION ALL SELECT 1 FROM duckdb_functions() WHERE NOT internal;

-- constraints: Tables whose rows somebody else has made rules for.
SELECT table_name FROM duckdb_constraints() UNION SELECT table_name FROM duckdb_indexes();

-- impossible_claims: Whether more chunks are claimed than there are: each attempt that was claimed has an event, or is one chunk's last.
SELECT 1 FROM (SELECT sum(chunks) AS claimed, min(chunks) AS least FROM claim)
WHERE least < 1 OR claimed > (SELECT count(*) FROM event) + (SELECT count(*) FROM chunk);

-- format: The format of the tables.
SELECT value FROM meta WHERE name = 'format';

-- set_format: Note the format of the tables.
UPDATE meta SET value = $1 WHERE name = 'format';

-- begin_store: Note the format of a new store, and when it was made.
INSERT INTO meta VALUES ('format', $1), ('created_us', $2);

-- drops: Statements that drop all views and macros.
SELECT 'DROP VIEW "' || view_name || '"' FROM duckdb_views() WHERE NOT internal
UNION ALL
SELECT DISTINCT 'DROP MACRO ' || CASE function_type WHEN 'table_macro' THEN 'TABLE ' ELSE '' END || '"' || function_name || '"'
FROM duckdb_functions() WHERE NOT internal;

-- last_ids: The last id of each kind that was given, by the rows there are and by what was noted of those purged.
SELECT kind, coalesce(max(id), 0) FROM (
    SELECT 'instance' AS kind, max(id) AS id FROM submitted
    UNION ALL SELECT 'chunk', max(id) FROM chunk
    UNION ALL SELECT 'claim', max(id) FROM claim
    UNION ALL SELECT 'chain', max(id) FROM chain
    UNION ALL SELECT 'event', max(id) FROM event
    UNION ALL SELECT 'event', max(id) FROM instance_event
    UNION ALL SELECT 'event', max(id) FROM gate
    UNION ALL SELECT 'event', max(id) FROM user_data
    UNION ALL SELECT 'reuse_key', max(id) FROM reuse_key
    UNION ALL SELECT name[6:], value::BIGINT FROM meta WHERE name LIKE 'last\_%' ESCAPE '\'
) GROUP BY kind;

-- forget_last_ids: Drop the notes of ids that were given.
DELETE FROM meta WHERE name LIKE 'last\_%' ESCAPE '\';

-- forget_last_id: Drop the notes of those of one kind.
DELETE FROM meta WHERE name = 'last_' || $1;

-- note_last_id: Note the last id of a kind.
INSERT INTO meta VALUES ('last_' || $1, $2);

-- last_session: The last session; 0 without any.
SELECT coalesce(max(id), 0) FROM session;

-- begin_session: Note that a process has opened the store.
INSERT INTO session VALUES ($1, $2, $3, $4);

-- latest_time: The latest of the newest times there are.
SELECT coalesce(greatest(
    (SELECT max(ended_us) FROM event WHERE id > (SELECT max(id) FROM event) - 1000),
    (SELECT max(ended_us) FROM instance_event),
    (SELECT max(created_us) FROM submitted)
), 0);

-- note_set_back: Note that the clock was set back between two openings.
INSERT INTO meta SELECT 'set_back', $1 WHERE NOT EXISTS (SELECT 1 FROM meta WHERE name = 'set_back');

-- is_set_back: Whether it was.
SELECT count(*) > 0 FROM meta WHERE name = 'set_back';

-- columns: Columns of each table with their types, in order, and whether they are no more than that.
SELECT c.table_name, c.column_name, c.data_type, c.column_default IS NULL AND c.is_nullable
FROM duckdb_columns() c SEMI JOIN duckdb_tables() t ON t.table_oid = c.table_oid AND t.schema_oid = c.schema_oid
WHERE NOT c.internal AND c.schema_name = 'main' ORDER BY c.table_name, c.column_index;

-- insert: Add rows to a table.
INSERT INTO {table} VALUES {rows};

-- insert_frame: Add the rows of a frame to a table, by a plan that is kept: the first statement makes it.
PREPARE insert_{frames} AS INSERT INTO {table} FROM {frames};
EXECUTE insert_{frames};

-- count: How many rows a query has.
SELECT count(*) FROM ({query});

-- probe: A write that changes nothing.
UPDATE meta SET value = value WHERE name = 'format';

-- block_size: Bytes of a block of the file.
SELECT block_size FROM pragma_database_size();

-- catalog_blocks: Blocks that hold the catalog and what belongs to it; a checkpoint writes over those that have room left.
SELECT block_id FROM pragma_metadata_info();

-- What a file is asked and told to be written anew.

-- blocks: Blocks of the file, and those of them that are free.
SELECT total_blocks, free_blocks FROM pragma_database_size();

-- stored_rows: Groups of rows of a table, the rows that they have, and those of them that were not deleted.
SELECT count(DISTINCT row_group_id), coalesce(sum("count"), 0), (SELECT count(*) FROM {table})
FROM pragma_storage_info('{table}') WHERE column_id = 0 AND segment_type <> 'VALIDITY';

-- attach_old: Open the file that there is, for reading; nobody can write it then.
ATTACH '{path}' AS old (READ_ONLY);

-- attach_new: Open the file that takes its place.
ATTACH '{path}' AS new;

-- copy_all: Copy everything.
COPY FROM DATABASE old TO new;

-- detach_new: Let go of it, once everything is in the file.
CHECKPOINT new; DETACH new;

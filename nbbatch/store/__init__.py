"""The DuckDB file: connection, migrations, transactions, frames, and every line of SQL."""

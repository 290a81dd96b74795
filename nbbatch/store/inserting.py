"""Rows on their way to insert-only tables, and the transaction that makes them durable.

A few rows are inserted by one parsed statement for all their tables, some through DuckDB's appender, many as Arrow columns, by a plan that is
made once for each table. Few rows and nothing else are a transaction by themselves: neither BEGIN nor COMMIT is run. Together with the one statement, and a connection that does
not optimize it, that takes a third less than a statement for each table.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import duckdb

from nbbatch.base.columns import Columns
from nbbatch.store.column_frames import frame_of
from nbbatch.store.connection import close
from nbbatch.store.queries import QUERIES

if TYPE_CHECKING:
    import polars as pl

INSERT_ROWS = 4
"""Up to so many rows of a table, a parsed INSERT is cheaper than an appender that is flushed."""
ARROW_ROWS = 300
"""From this many rows on, Arrow columns are cheaper than the appender."""
IMPORT_ROWS = 10_000
"""So many such rows are worth that polars is imported for them, where nobody has: it takes a quarter of a second of a core."""


class Inserts:
    """Inserts rows, in one transaction after another."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, quick: duckdb.DuckDBPyConnection, columns: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Nothing is run before the first transaction.

        Args:
            con: Used by one thread at a time.
            quick: Another connection to the same database, for transactions that are one statement.
            columns: Of each table, by name: their types.
        """
        self._con, self._quick, self._columns = con, quick, columns
        self._begin, self._commit = con.extract_statements("BEGIN TRANSACTION; COMMIT")
        self._is_open = self._is_begun = False
        """Whether a transaction is open, and whether DuckDB was told so."""
        self._importing: threading.Thread | None = None
        self._many = 0
        """Rows so far that came as many."""
        self._appenders: dict[str, duckdb.Appender] = {}
        self._dirty: set[str] = set()
        """Tables whose appenders hold rows."""
        self._few: dict[str, list[Sequence[Any]]] = {}
        """Rows by table that wait to be inserted by one statement."""
        self._parsed: dict[tuple[tuple[str, int, int], ...], duckdb.Statement] = {}
        self._planned: dict[str, tuple[_Frames, duckdb.Statement]] = {}
        """By table: what its plan reads from, and what carries it out."""

    # --- transactions -----------------------------------------------------------------------------

    def open(self) -> None:
        """A transaction begins."""
        self._is_open = True

    def commit(self) -> None:
        """Make it durable; few rows and nothing else by the one statement that inserts them."""
        if self._is_begun:
            self._flush()
            self._con.execute(self._commit).complete()
        elif self._few:
            self._insert_few(self._quick)
        self._is_open = self._is_begun = False

    def abandon(self) -> None:
        """Undo it, but for what DuckDB holds of it."""
        self._few.clear()
        for table in self._dirty:
            self._appenders[table].clear()
        self._dirty.clear()
        self._is_open = self._is_begun = False

    def flushed(self) -> duckdb.DuckDBPyConnection:
        """The connection, in the transaction that is open, if there is one, with all rows that were added to it."""
        con = self._begun()
        self._flush()
        return con

    def _begun(self) -> duckdb.DuckDBPyConnection:
        if self._is_open and not self._is_begun:
            self._con.execute(self._begin).complete()
            self._is_begun = True
        return self._con

    def _flush(self) -> None:
        if self._few:
            self._insert_few(self._con)
        for table in self._dirty:
            self._appenders[table].flush()
        self._dirty.clear()

    def interrupt(self) -> None:
        """Have what another thread just now inserts fail."""
        self._quick.interrupt()

    def close(self) -> None:
        """Let go of all that refers to the database."""
        for appender in self._appenders.values():
            appender.clear()
        for each in (self._appenders, self._parsed, self._planned):
            each.clear()
        close(self._quick)

    # --- rows -------------------------------------------------------------------------------------

    def append(self, table: str, rows: Columns | Sequence[Sequence[Any]]) -> None:
        """Add rows within the open transaction."""
        if isinstance(rows, Columns):
            if len(rows) >= ARROW_ROWS and self._has_polars(len(rows)):
                self._append_arrow(table, rows)
                return
            rows = rows.rows()
        before = self._few.get(table, [])
        if len(before) + len(rows) <= INSERT_ROWS and table not in self._dirty:
            if rows:
                self._few[table] = [*before, *rows]
            return
        self._begun()
        if table not in self._appenders:
            self._appenders[table] = self._con.appender(table)
        self._dirty.add(table)  # first: of rows that are refused the appender keeps those before the odd one
        self._appenders[table].append_rows(rows)

    def _insert_few(self, con: duckdb.DuckDBPyConnection) -> None:
        few = list(self._few.items())
        self._few.clear()
        insert = self._insert_of(tuple((table, len(rows), len(rows[0])) for table, rows in few))
        con.execute(insert, [value for _, rows in few for row in rows for value in row]).complete()

    def _insert_of(self, tables: tuple[tuple[str, int, int], ...]) -> duckdb.Statement:
        """A statement that inserts into each table so many rows of so many columns, parsed once."""
        found = self._parsed.get(tables)
        if found is None:
            places, insert = count(1), QUERIES["insert"].rstrip(";")
            *others, last = (
                insert.format(table=table, rows=_places(rows, columns, places)) for table, rows, columns in tables
            )
            text = ", ".join(f"part_{number} AS ({other})" for number, other in enumerate(others))
            (found,) = self._con.extract_statements(f"WITH {text} {last}" if others else last)
            self._parsed[tables] = found
        return found

    def _has_polars(self, rows: int) -> bool:
        """Whether polars is imported; if not, have that done aside once there are rows enough."""
        self._many += rows
        if self._importing is None and (self._many >= IMPORT_ROWS or "polars" in sys.modules):
            self._importing = threading.Thread(target=importlib.import_module, args=("polars",), daemon=True)
            self._importing.start()
        return self._importing is not None and not self._importing.is_alive()

    def _append_arrow(self, table: str, rows: Columns) -> None:
        """Many rows at once as Arrow columns, at a third of the appender's price per row."""
        frame = frame_of(rows, self._columns[table])
        source, insert = self._plan(table, frame)
        source.frame = frame
        try:
            self._begun().execute(insert).complete()
        finally:
            source.frame = None

    def _plan(self, table: str, frame: pl.DataFrame) -> tuple[_Frames, duckdb.Statement]:
        """The plan for frames of a table, which all look alike: binding one anew takes as long as inserting a thousand rows."""
        if table not in self._planned:
            source, name = _Frames(frame), f"frames_of_{table}"
            self._con.register(name, source)
            prepare, insert = self._con.extract_statements(QUERIES["insert_frame"].format(table=table, frames=name))
            self._con.execute(prepare).complete()
            self._planned[table] = source, insert
        return self._planned[table]


class _Frames:
    """What a plan reads its rows from: the present frame."""

    def __init__(self, frame: pl.DataFrame | None) -> None:
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        assert self.frame is not None
        return self.frame.__arrow_c_stream__(requested_schema)


def _places(rows: int, columns: int, places: Iterator[int]) -> str:
    """The places of the values of rows in a statement.

    >>> _places(2, 3, count(4))
    '($4, $5, $6), ($7, $8, $9)'
    """
    return ", ".join(f"({', '.join(f'${place}' for place in islice(places, columns))})" for _ in range(rows))

"""Writing a store: transactions, rows on their way to insert-only tables, and the ids they are given.

A few rows are inserted by one parsed statement for all their tables, some through DuckDB's appender, many as Arrow columns; all of
them become durable together when the transaction is committed. Few rows and nothing else are a transaction by themselves: neither BEGIN
nor COMMIT is run, which together with the one statement takes a quarter less than a statement for each table.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

import duckdb

from nbbatch.base.errors import StoreClosed, StoreError, ValueNotStorable
from nbbatch.base.rows import ArrowStream, Columns
from nbbatch.store import checkpoint, copying, inspection, rewriting
from nbbatch.store.connection import MEMORY, close, drop_empty_log, make_log, remove
from nbbatch.store.queries import QUERIES
from nbbatch.store.reading import Reader

log = logging.getLogger("nbbatch")

COMMIT_SECONDS = 30.0
"""How long closing waits for a transaction that is being written before it interrupts it."""
INSERT_ROWS = 4
"""Up to so many rows of a table, a parsed INSERT is cheaper than an appender that is flushed."""
ARROW_ROWS = 300
"""From this many rows on, Arrow columns are cheaper than the appender."""
_VALUES = (
    duckdb.DataError, duckdb.InvalidInputException, duckdb.NotSupportedError, duckdb.IntegrityError,
    duckdb.OutOfMemoryException,
)  # fmt: skip
"""What DuckDB raises when a value is at fault. Whatever else it raises means that the store itself cannot be written."""
_POLARS = {
    "BIGINT": "Int64", "INTEGER": "Int32", "SMALLINT": "Int16", "TINYINT": "Int8", "DOUBLE": "Float64", "BOOLEAN": "Boolean",
    "VARCHAR": "String", "BLOB": "Binary",
}  # fmt: skip


class _Undone(Exception):
    """A trial is over."""


class Writer(Reader):
    """The writing half of a `Store`; one thread at a time may use it."""

    def __init__(self, path: str, con: duckdb.DuckDBPyConnection, *, is_new: bool) -> None:
        super().__init__(path)
        self._con = con
        self.closed = False
        """Nothing of it is open any more."""
        self._closing = False
        self._is_new = is_new
        self._is_changed = False
        """A session has begun; until then the files are as they were, and closing leaves them so."""
        self._is_wasteful = False
        """Closed, most of its file is waste."""
        self._file: os.stat_result | None = None
        """Which file it is; None: in memory, or not open yet."""
        self._source: copying.Source | None = None
        self._sourcing = threading.Lock()
        self._writing = threading.Lock()
        """Held by the transaction that is open."""
        self._importing: threading.Thread | None = None
        self._is_open = self._is_begun = False
        """Whether a transaction is open, and whether DuckDB was told so."""
        self._appenders: dict[str, duckdb.Appender] = {}
        self._inserts: dict[tuple[tuple[str, int, int], ...], duckdb.Statement] = {}
        self._dirty: set[str] = set()
        """Tables whose appenders hold rows."""
        self._few: dict[str, list[Sequence[Any]]] = {}
        """Rows by table that wait to be inserted by one statement."""

    def _begin_writing(self) -> None:
        """Look at the tables there are."""
        self._begin, self._commit = self._con.extract_statements("BEGIN TRANSACTION; COMMIT")
        self._columns = inspection.columns_of(self)
        self._next = inspection.last_ids(self)
        self.durable_chunk = self._next["chunk"]
        """Chunks up to this id are committed."""
        self.cursors.start(self._con)

    @contextmanager
    def transaction(self) -> Generator[None]:
        """One durable transaction: committed at the end of the block, rolled back if anything in it raises.

        Raises:
            StoreError: The store could not be written (a full disk, say); nothing of the block is stored.
            ValueNotStorable: A value of the block is at fault, not the store; nothing of the block is stored either.
        """
        with self._writing:
            if self._closing:
                raise StoreClosed(f"the batch on {self.path} is closed; nb.open() opens it again")
            try:
                self._is_open = True
                yield
                self._store()
                self._is_changed = True
                self._check_there()
                self._mind_log()
                self.durable_chunk = self._next["chunk"]
            except BaseException as error:
                self._abandon()
                if isinstance(error, duckdb.Error):
                    raise self._ours(error) from error
                raise
            finally:
                self._is_open = self._is_begun = False

    @contextmanager
    def trial(self) -> Generator[None]:
        """A transaction that is undone in any case; the ids that it has taken are given again. Errors of the block are raised."""
        before = dict(self._next)
        try:
            with suppress(_Undone), self.transaction():
                yield
                raise _Undone
        finally:
            self._next = before

    @contextmanager
    def our_errors(self) -> Generator[None]:
        """Raise errors of nbbatch in place of DuckDB's, as `transaction` does."""
        try:
            yield
        except duckdb.Error as error:
            raise self._ours(error) from error

    def _ours(self, error: duckdb.Error) -> StoreError | ValueNotStorable:
        if isinstance(error, _VALUES):
            return ValueNotStorable(f"a value cannot be stored in {self.path}, and nothing of this change is: {error}")
        return StoreError(f"{self.path} could not be written, nothing of this change is stored: {error}")

    def probe(self) -> None:
        """Write next to nothing, to learn whether the store can be written.

        Raises:
            StoreError: It cannot.
        """
        with self.transaction():
            self.run("probe")

    def displaced(self) -> str | None:
        """What became of the file while it was open; None: it is where it was."""
        if self._file is None:
            return None
        try:
            found = Path(self.path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted or moved"
        except OSError:  # it cannot be told
            return None
        return None if os.path.samestat(found, self._file) else "was replaced by another file"

    def _check_there(self) -> None:
        if why := self.displaced():
            raise StoreError(
                f"{self.path} {why} while it was open: what was stored since is not in it. Bring the file back or leave it, "
                "then batch.close(), and open a store anew"
            )

    def _mind_log(self) -> None:
        """Have the write-ahead log be there, as private as the store, before DuckDB makes it anew; write it into the file once it is long."""
        if self.path == MEMORY:
            return
        try:
            if os.stat(f"{self.path}.wal").st_size >= checkpoint.LOG_BYTES:  # noqa: PTH116 - at each commit; a Path takes twice as long
                self.checkpoint()
        except FileNotFoundError:
            make_log(self.path)

    def checkpoint(self) -> bool:
        """Write the log into the file and free what was deleted; put off while somebody reads. Returns whether it was done."""
        try:
            with nullcontext() if self.path == MEMORY else checkpoint.kept(self._con, self.source()):
                self._con.execute("CHECKPOINT").complete()
        except (duckdb.Error, StoreError, OSError):
            log.debug("%s: a checkpoint was put off", self.path, exc_info=True)
            return False
        finally:
            if self.path != MEMORY:
                make_log(self.path)
        return True

    def source(self) -> copying.Source:
        """The file, to be copied while it is open: through one descriptor, as closing any would lose DuckDB's lock on it.

        Raises:
            StoreError: It is in memory.
        """
        if self.path == MEMORY:
            raise StoreError("a store in memory has no file to copy")
        with self._sourcing:
            if self._source is None:
                self._source = copying.Source(self.path)
            return self._source

    def _store(self) -> None:
        """Make the open transaction durable; few rows and nothing else by the one statement that inserts them."""
        if self._is_begun:
            self._flush()
            self._con.execute(self._commit).complete()
        elif self._few:
            self._insert_few()

    def _begun(self) -> duckdb.DuckDBPyConnection:
        """The connection, in the transaction that is open, if there is one."""
        if self._is_open and not self._is_begun:
            self._con.execute(self._begin).complete()
            self._is_begun = True
        return self._con

    def _flushed(self) -> duckdb.DuckDBPyConnection:
        """The same, which sees all rows that were added to it."""
        con = self._begun()
        self._flush()
        return con

    def _flush(self) -> None:
        if self._few:
            self._insert_few()
        for table in self._dirty:
            self._appenders[table].flush()
        self._dirty.clear()

    def _insert_few(self) -> None:
        few = list(self._few.items())
        self._few.clear()
        insert = self._insert_of(tuple((table, len(rows), len(rows[0])) for table, rows in few))
        self._con.execute(insert, [value for _, rows in few for row in rows for value in row]).complete()

    def _abandon(self) -> None:
        self._few.clear()
        for table in self._dirty:
            self._appenders[table].clear()
        self._dirty.clear()
        with suppress(duckdb.Error):  # a failed statement or commit may have ended the transaction already
            self._con.rollback()

    def take_ids(self, kind: str, count: int) -> int:
        """Reserve ``count`` ids of a kind (instance, chunk, claim, event) and return the one before the first."""
        last = self._next[kind]
        self._next[kind] = last + count
        return last

    def append(self, table: str, rows: Columns | Sequence[Sequence[Any]]) -> None:
        """Add rows to an insert-only table within the open transaction."""
        if isinstance(rows, Columns):
            if len(rows) >= ARROW_ROWS and self._has_polars():
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

    def add(self, table: str, **fields: Any) -> None:
        """Add one row to an insert-only table, by column name, within the open transaction; what is not named is NULL."""
        self.add_all(table, [fields])

    def add_all(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, each as `add`."""
        columns = self._columns[table]
        if unknown := set[str]().union(*rows) - columns.keys():
            raise TypeError(f"table {table} has no column {', '.join(sorted(unknown))}")
        self.append(table, [tuple(row.get(column) for column in columns) for row in rows])

    def _insert_of(self, tables: tuple[tuple[str, int, int], ...]) -> duckdb.Statement:
        """A statement that inserts into each table so many rows of so many columns, parsed once."""
        found = self._inserts.get(tables)
        if found is None:
            places, insert = count(1), QUERIES["insert"].rstrip(";")
            *others, last = (
                insert.format(table=table, rows=_places(rows, columns, places)) for table, rows, columns in tables
            )
            text = ", ".join(f"part_{number} AS ({other})" for number, other in enumerate(others))
            (found,) = self._con.extract_statements(f"WITH {text} {last}" if others else last)
            self._inserts[tables] = found
        return found

    def _has_polars(self) -> bool:
        """Whether polars is imported; if not, have that done aside, as it takes a third of a second."""
        if self._importing is None:
            self._importing = threading.Thread(target=importlib.import_module, args=("polars",), daemon=True)
            self._importing.start()
        return not self._importing.is_alive()

    def _append_arrow(self, table: str, rows: Columns) -> None:
        """Many rows at once as Arrow columns, at a third of the appender's price per row."""
        import polars as pl

        schema = {name: getattr(pl, _POLARS[kind]) for name, kind in self._columns[table].items()}
        frame = pl.DataFrame(dict(zip(schema, rows.lists, strict=True)), schema=schema)
        self._begun().from_arrow(ArrowStream(frame)).insert_into(table)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a named query, on the writer's connection, seeing the open transaction."""
        return self._flushed().execute(QUERIES[query], list(values)).fetchall()

    def run(self, query: str, *values: Any) -> None:
        """Run a named statement within the open transaction."""
        self._flushed().execute(QUERIES[query], list(values)).complete()

    def run_script(self, text: str) -> None:
        """Run statements, one after another."""
        con = self._flushed()
        for statement in con.extract_statements(text):
            con.execute(statement).complete()

    def close(self) -> None:
        """Write everything into the database file and let it go; may be called twice.

        A transaction that is being written is waited for, and interrupted after `COMMIT_SECONDS`.
        """
        self._closing = True
        self.cursors.close()
        patience = COMMIT_SECONDS
        while not self._writing.acquire(timeout=patience):
            self._con.interrupt()
            patience = 0.01
        try:
            if not self.closed:
                self._let_go()
                if self._is_changed:
                    self._check_there()
        finally:
            self._writing.release()

    def _settle_files(self) -> None:
        if self._is_changed:
            if self.checkpoint():
                self._is_wasteful = (
                    self.path != MEMORY
                    and Path(self.path).stat().st_size >= rewriting.LEAST_BYTES
                    and rewriting.wasted(self._con, self._columns) >= rewriting.WORTH
                )
        elif self._is_new:
            remove(self.path)
        drop_empty_log(self.path)

    def _give_back(self) -> None:
        """Write the file anew, now that nothing here has it open, where most of it is waste."""
        if self._is_wasteful:
            self._is_wasteful = False
            rewriting.rewrite(Path(self.path))

    def _let_go(self) -> None:
        for appender in self._appenders.values():
            appender.clear()
        self._appenders.clear()
        self._inserts.clear()
        if not self.displaced():  # else it would remove the log of the file that took its place
            self._settle_files()
        close(self._con)
        self.closed = True
        # a thread that hangs keeps this store, and with it all of DuckDB: at the end of the process its bindings print that
        for name in ("_con", "_begin", "_commit"):
            self.__dict__.pop(name, None)


def _places(rows: int, columns: int, places: Iterator[int]) -> str:
    """The places of the values of rows in a statement.

    >>> _places(2, 3, count(4))
    '($4, $5, $6), ($7, $8, $9)'
    """
    return ", ".join(f"({', '.join(f'${place}' for place in islice(places, columns))})" for _ in range(rows))

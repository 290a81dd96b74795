"""Writing a store: transactions, rows on their way to insert-only tables (see `inserting`), and the ids they are given."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

from nbbatch.base.columns import Columns
from nbbatch.base.errors import StoreClosed, StoreError, ValueNotStorable
from nbbatch.base.rows import StepRow
from nbbatch.store import checkpoint, copying, inspection, rewriting
from nbbatch.store.connection import MEMORY, close, connect, drop_empty_log, lock, make_log, plain, remove
from nbbatch.store.ids import Ids
from nbbatch.store.inserting import Inserts
from nbbatch.store.last_calls import busy
from nbbatch.store.queries import QUERIES
from nbbatch.store.reading import Reader

log = logging.getLogger("nbbatch")

COMMIT_SECONDS = 30.0
"""How long closing waits for a transaction that is being written before it interrupts it."""
ROWS_AT_ONCE = 500
"""Of many rows so many are tuples at a time: with more, Python's garbage collector would look through the whole process for each page."""
_VALUES = (
    duckdb.DataError, duckdb.InvalidInputException, duckdb.NotSupportedError, duckdb.IntegrityError,
    duckdb.OutOfMemoryException,
)  # fmt: skip
"""What DuckDB raises when a value is at fault. Whatever else it raises means that the store itself cannot be written."""


class _Undone(Exception):
    """A trial is over."""


class Writer(Reader):
    """The writing half of a `Store`; one thread at a time may use it."""

    def __init__(self, path: str, *, is_new: bool) -> None:
        super().__init__(path)
        self._con, self._file = connect(path)
        """… and which file it is; None: in memory."""
        self.closed = False
        """Nothing of it is open any more."""
        self._closing = False
        self._is_new = is_new
        self._is_changed = False
        """A session has begun; until then the files are as they were, and closing leaves them so."""
        self._worth = rewriting.WORTH
        self._is_wasteful = False
        """Closed, so much of its file is waste that it is written anew."""
        self._source: copying.Source | None = None
        self._sourcing = threading.Lock()
        self._writing = threading.Lock()
        """Held by the transaction that is open."""
        self._inserts: Inserts | None = None
        """None while its tables are not known."""

    def _begin_writing(self) -> None:
        """Look at the tables there are."""
        self._columns = inspection.columns_of(self)
        self._inserts = Inserts(self._con, plain(self._con), self._columns)
        lock(self._con)
        self.ids = Ids(inspection.last_ids(self))
        self.durable_chunk = self.ids.stored()
        """Chunks up to this id are committed, but for those whose ids workers were given."""
        self.cursors.start(self._con)

    @contextmanager
    def transaction(self) -> Generator[None]:
        """One durable transaction: committed at the end of the block, rolled back if anything in it raises.

        Raises:
            StoreError: The store could not be written (a full disk, say); nothing of the block is stored.
            ValueNotStorable: A value of the block is at fault, not the store; nothing of the block is stored either.
        """
        with self._writing, busy:
            if self._closing:
                raise StoreClosed(f"the batch on {self.path} is closed; nb.open() opens it again")
            assert self._inserts is not None
            try:
                self._inserts.open()
                yield
                self._inserts.commit()
                self._is_changed = True
                self._check_there()
                self._mind_log()
                self.durable_chunk = self.ids.stored()
            except BaseException as error:
                self._abandon()
                if isinstance(error, duckdb.Error):
                    raise self._ours(error) from error
                raise

    @contextmanager
    def trial(self) -> Generator[None]:
        """A transaction that is undone in any case; the ids that it has taken are given again. Errors of the block are raised."""
        before = self.ids.snapshot()
        try:
            with suppress(_Undone), self.transaction():
                yield
                raise _Undone
        finally:
            self.ids.rewind(before)

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
            found = os.stat(self.path)  # noqa: PTH116 - at each commit; a Path takes four times as long
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
            if os.stat(f"{self.path}.wal").st_size >= checkpoint.LOG_BYTES:  # noqa: PTH116 - at each commit too
                self.checkpoint()
        except FileNotFoundError:
            make_log(self.path)

    @busy
    def checkpoint(self, *, purged: bool = False) -> bool:
        """Write the log into the file and free what was deleted; put off while somebody reads. Returns whether it was done.

        Args:
            purged: Somebody wants space back: less waste is reason enough to write the file anew when it is closed.
        """
        if purged:
            self._worth = rewriting.WORTH_PURGED
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

    def _flushed(self) -> duckdb.DuckDBPyConnection:
        """The writer's connection, which sees all that the open transaction has."""
        return self._con if self._inserts is None else self._inserts.flushed()

    def _abandon(self) -> None:
        if self._inserts is not None:
            self.ids.undone()
            self._inserts.abandon()
        with suppress(duckdb.Error):  # a failed statement or commit may have ended the transaction already
            self._con.rollback()

    def take_ids(self, kind: str, count: int) -> int:
        """Reserve ``count`` ids of a kind (instance, chunk, claim, event) and return the one before the first."""
        return self.ids.take(kind, count)

    def promise_ids(self) -> None:
        """Within the open transaction: have workers be able to take some chunk ids, once it is stored."""
        if (last := self.ids.promise()) is not None:
            self.add("meta", name="last_chunk", value=str(last))

    def append(self, table: str, rows: Columns | Sequence[Sequence[Any]]) -> None:
        """Add rows to an insert-only table within the open transaction."""
        assert self._inserts is not None
        self._inserts.append(table, rows)

    def add(self, table: str, **fields: Any) -> None:
        """Add one row to an insert-only table, by column name, within the open transaction; what is not named is NULL."""
        self.add_all(table, [fields])

    def add_all(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, each as `add`."""
        columns = self._columns[table]
        if unknown := set[str]().union(*rows) - columns.keys():
            raise TypeError(f"table {table} has no column {', '.join(sorted(unknown))}")
        self.append(table, [tuple(row.get(column) for column in columns) for row in rows])

    @busy
    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a named query, on the writer's connection, seeing the open transaction."""
        return self._flushed().execute(QUERIES[query], list(values)).fetchall()

    @busy
    def columns(self, query: str, *values: Any) -> tuple[list[Any], ...]:
        """As `rows`, column by column: for many rows."""
        found = self._flushed().execute(QUERIES[query], list(values))
        made: tuple[list[Any], ...] = tuple([] for _ in found.description or ())
        while rows := found.fetchmany(ROWS_AT_ONCE):
            for column, part in zip(made, zip(*rows, strict=True), strict=True):
                column.extend(part)
            rows.clear()
        return made

    @busy
    def run(self, query: str, *values: Any) -> None:
        """Run a named statement within the open transaction."""
        self._flushed().execute(QUERIES[query], list(values)).complete()

    @busy
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
            if self._inserts is not None:
                self._inserts.interrupt()
            patience = 0.01
        try:
            if not self.closed:
                self._let_go()
                if self._is_changed:
                    self._check_there()
        finally:
            self._writing.release()

    def _note_last_chunk(self) -> None:
        """In the place of what was promised, so that ids go on without a gap. Without it they go on behind that."""
        if (last := self.ids.shut()) is not None:
            with suppress(duckdb.Error):
                self.run_script("BEGIN TRANSACTION")
                self.run("forget_last_id", "chunk")
                self.run("note_last_id", "chunk", str(last))
                self.run_script("COMMIT")

    def _settle_files(self) -> None:
        if self._is_changed:
            self._note_last_chunk()
            if self.checkpoint():
                self._is_wasteful = (
                    self.path != MEMORY
                    and Path(self.path).stat().st_size >= rewriting.LEAST_BYTES
                    and rewriting.wasted(self._con, self._columns) >= self._worth
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
        if self._inserts is not None:
            self._inserts.close()
        if not self.displaced():  # else it would remove the log of the file that took its place
            self._settle_files()
        close(self._con)
        copying.let_go(self.path)
        self.closed = True
        # a thread that hangs keeps this store, and with it all of DuckDB: at the end of the process its bindings print that
        for name in ("_con", "_inserts"):
            self.__dict__.pop(name, None)


@lru_cache(maxsize=100)
def chain_text(shape: str, steps: tuple[StepRow, ...]) -> str:
    """A chain of steps as one text, by which equal chains are found."""
    return json.dumps([shape, *steps])

"""Connections for reading: one for each thread that looks, closed when its thread ends, or else with the store.

Whoever reads while the store closes is interrupted and hears `StoreClosed`, whatever DuckDB or polars make of that.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress

import duckdb

from nbbatch.base.errors import StoreClosed, StoreError
from nbbatch.base.interrupts import behind
from nbbatch.store.connection import close
from nbbatch.store.last_calls import busy, interrupted_by


class _Cursor:
    """A connection that is closed by hand, or when nothing refers to this any more."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.con: duckdb.DuckDBPyConnection | None = con
        self._end = weakref.finalize(self, _close, con)
        self._end.atexit = False

    def close(self) -> None:
        """May be called twice."""
        self.con = None
        self._end()


class Cursors:
    """All connections of one store but the writer's."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        self._local = threading.local()
        self._open = weakref.WeakSet[_Cursor]()

    def start(self, writer: duckdb.DuckDBPyConnection) -> None:
        """Have connections be made to the writer's database."""
        self._writer = writer
        _started.add(self)

    def mine(self) -> duckdb.DuckDBPyConnection:
        """This thread's connection.

        Raises:
            StoreClosed: The store is closed.
        """
        found: _Cursor | None = getattr(self._local, "cursor", None)
        con = found.con if found is not None else None
        return con or self._put_by()

    def _put_by(self) -> duckdb.DuckDBPyConnection:
        cursor, con = self._another()
        self._local.cursor = cursor
        return con

    @contextmanager
    def own(self) -> Generator[duckdb.DuckDBPyConnection]:
        """One more connection, for a reader who keeps a result open while others read on its thread."""
        with busy:
            cursor, con = self._another()
        try:
            with self._clear_errors():
                yield con
        finally:
            with busy:
                cursor.close()

    @contextmanager
    def reading(self) -> Generator[None]:
        """Whatever is raised because the store was closed meanwhile is a `StoreClosed`."""
        with busy, self._clear_errors():
            yield

    @contextmanager
    def _clear_errors(self) -> Generator[None]:
        try:
            yield
        except Exception as error:  # polars has errors of its own for a stream that breaks off
            if (signalled := behind(error)) is not None:
                raise signalled from None
            if self._writer is None and not isinstance(error, StoreClosed):
                raise self._closed() from error
            if isinstance(error, duckdb.Error):
                raise StoreError(
                    f"{self._path} could not be read; it may be damaged, and restoring it from a copy may be needed: {error}"
                ) from error
            raise

    @property
    def is_closed(self) -> bool:
        """Whether the store is closed, or closes just now."""
        return self._writer is None

    def close(self) -> None:
        """Interrupt who reads, close all connections, make no more. May be called twice."""
        with self._lock:
            self._writer = None
            cursors = list(self._open)
        for cursor in cursors:
            cursor.close()

    def _another(self) -> tuple[_Cursor, duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._writer is None:
                raise self._closed()
            con = self._writer.cursor()
            cursor = _Cursor(con)
            self._open.add(cursor)
            return cursor, con

    def _closed(self) -> StoreClosed:
        return StoreClosed(f"the batch on {self._path} is closed; nb.open() opens it again")


_started = weakref.WeakSet[Cursors]()


@interrupted_by
def _close_all() -> None:
    for each in tuple(_started):
        each.close()


def _close(con: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it is closed already
        close(con)

"""Reading a store: rows and frames of named queries, on a connection of the calling thread, and a user's own SELECT."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Never

import duckdb

from nbbatch.base.errors import NotFoundError, QueryRefused
from nbbatch.base.rows import ArrowStream, InstanceRow
from nbbatch.base.states import INSTANCE_BY_CODE
from nbbatch.store import user_query
from nbbatch.store.cursors import Cursors
from nbbatch.store.last_calls import busy
from nbbatch.store.queries import OURS, QUERIES
from nbbatch.store.user_query import Limits

if TYPE_CHECKING:
    import polars as pl

READ_ROWS = 500
"""Rows fetched at a time while a reduction reads its inputs."""


class Reader:
    """The reading half of a `Store`. What it gives never has half a transaction in it, and holds the engine up nowhere."""

    busy = False
    """Whether somebody else's work leaves no time for many reads just now: who draws again and again shows what is known."""
    is_set_back = False
    """Whether the clock was set back between two openings, so that times are not in the order of events."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.cursors = Cursors(path)
        self._foreign: Collection[str] | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """This thread's connection for reading.

        Raises:
            StoreClosed: The store is closed.
        """
        return self.cursors.mine()

    def fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a named query, on this thread's connection."""
        with self.cursors.reading():
            return self.cursor().execute(QUERIES[query], list(values)).fetchall()

    def stored_instance(self, instance: int) -> InstanceRow:
        """One instance as it is stored.

        Raises:
            NotFoundError: There is none of this id.
        """
        found = self.dicts("instance", instance)
        return as_instance(found[0]) if found else self.missing(instance)

    def dicts(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a named query by column name."""
        with self.cursors.reading():
            return by_name(self.cursor().execute(QUERIES[query], list(values)))

    def missing(self, instance: int) -> Never:
        """There is no such instance."""
        raise NotFoundError(f"no instance {instance} in {self.path}; batch.instances() lists those there are")

    def frame(self, query: str, *values: Any) -> pl.DataFrame:
        """Rows of a named query as a polars frame, on this thread's connection."""
        with self.cursors.reading():
            return _frame(self.cursor(), QUERIES[query], *values)

    def page(self, query: str, values: list[Any], rows: int, seconds: float) -> pl.DataFrame:
        """Rows of a named query for somebody else: in a transaction that cannot write, so many at most, within a time.

        Raises:
            QueryRefused: It took too long, or the values do not fit it.
        """
        sql = QUERIES["capped"].format(query=QUERIES[query].rstrip(";"), rows=rows)
        with busy, self.cursors.own() as cursor:
            watch = threading.Timer(seconds, cursor.interrupt)
            watch.start()
            try:
                cursor.execute(QUERIES["read_only"]).complete()
                return _frame(cursor, sql, *values)
            except duckdb.Error as error:
                raise QueryRefused(f"{query} could not be read with these arguments: {error}") from error
            finally:
                watch.cancel()

    def count(self, query: str, *values: Any) -> int:
        """How many rows a named query has."""
        counting = QUERIES["count"].format(query=QUERIES[query].rstrip(";"))
        with self.cursors.reading():
            return self.cursor().execute(counting, list(values)).fetchall()[0][0]

    def query(self, sql: str, limits: Limits) -> pl.DataFrame:
        """Rows of one SELECT that a user wrote; see `user_query.run`."""
        return user_query.run(self.cursors, sql, self._others, limits)

    def _others(self) -> Collection[str]:
        """Views and macros that nbbatch did not make: a store that somebody sent may have some."""
        if self._foreign is None:
            self._foreign = {name for (name,) in self.fetch("foreign")} - OURS
        return self._foreign

    def stream(self, query: str, *values: Any) -> Callable[[], Iterator[bytes]]:
        """A reader of one column of a named query, page by page, on a connection of its own."""

        def read() -> Iterator[bytes]:
            with self.cursors.own() as cursor:
                with busy:
                    result = cursor.execute(QUERIES[query], list(values))
                while rows := _next(result):
                    for (data,) in rows:
                        yield data

        return read


def _next(result: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    with busy:
        return result.fetchmany(READ_ROWS)


def is_read(query: str) -> bool:
    """Whether a name is that of a query which only reads.

    >>> is_read("steps"), is_read("purge"), is_read("no such")
    (True, False, False)
    """
    text = "\n".join(line for line in QUERIES.get(query, "").splitlines() if not line.startswith("--"))
    return "{" not in text and text.lstrip().split(None, 1)[:1] in (["SELECT"], ["FROM"], ["WITH"])


def by_name(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Rows of a result by column name."""
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def as_instance(fields: dict[str, Any]) -> InstanceRow:
    """An instance of the columns of the view of that name."""
    fields["status"] = INSTANCE_BY_CODE[fields["status"]]
    return InstanceRow(**fields)


def _frame(cursor: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(ArrowStream(cursor.sql(sql, params=list(values))))

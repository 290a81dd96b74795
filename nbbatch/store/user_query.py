"""One SELECT that a user wrote: checked before it runs, watched while it runs, given in types that polars has.

It runs on a thread of its own while the caller waits, so Ctrl-C, a limit and the end of the store stop it the same way.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import duckdb

from nbbatch.base.errors import QueryRefused, StoreClosed
from nbbatch.base.rows import ArrowStream
from nbbatch.store.cursors import Cursors
from nbbatch.store.last_calls import busy
from nbbatch.store.queries import OURS, QUERIES

if TYPE_CHECKING:
    import polars as pl

LOOK_SECONDS = 0.05
"""Between two looks at what a query takes."""
STOP_SECONDS = 2.0
"""How long a stopped query may take to end; within one long call DuckDB cannot be interrupted, and is left to end by itself."""
_TABLE_FUNCTIONS = {
    "range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "summary", "histogram",
    "histogram_values", "duckdb_columns", "duckdb_constraints", "duckdb_functions", "duckdb_indexes", "duckdb_keywords",
    "duckdb_memory", "duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views",
}  # fmt: skip
"""Those that compute or read the catalog. Of the others many write, or reach files or memory: checkpoint, read_csv, arrow_scan."""
_EFFECTS = {"nextval", "currval", "setval", "setseed", "sleep_ms", "pg_sleep", "write_log", "getenv"}
"""Functions that do something beside giving a value, or look outside."""
_AS_TEXT = {"interval", "union", "bit", "bignum", "time with time zone", "type", "variant", "geometry"}
"""Types that polars lacks, or would give without a part of the value."""
_WIDE = {"hugeint", "uhugeint"}
"""Types that polars has as decimals of 38 digits, if a value fits."""
_NESTED = {"list", "array", "struct", "map", "tuple"}
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_LAST_DAY = 260_000 * 365
"""Days since 1970, about, that polars can show."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a query may take; None: no limit."""

    seconds: float | None
    bytes: int | None
    """By which the process may grow while it runs."""


def run(cursors: Cursors, sql: str, foreign: Callable[[], Collection[str]], limits: Limits) -> pl.DataFrame:
    """Rows of the SELECT.

    Args:
        cursors: Of the store.
        sql: What the user wrote.
        foreign: Gives the names of views and macros in the store that are not nbbatch's.
        limits: Of time and memory.

    Raises:
        QueryRefused: It is not one SELECT, does more than read the store, takes too much, or DuckDB refuses it.
        StoreClosed: The store was closed meanwhile.
    """
    began, size = time.monotonic(), _taken(cursors)
    query = _Query(cursors, sql, foreign)
    try:
        while not query.done.wait(LOOK_SECONDS):
            if limits.seconds is not None and time.monotonic() - began > limits.seconds:
                raise QueryRefused(
                    f"the query was stopped after {limits.seconds:g} s; timeout= gives it more, None: no limit"
                )
            if limits.bytes is not None and (more := _taken(cursors) - size) > limits.bytes:
                raise QueryRefused(
                    f"the query was stopped when {more / 1e6:,.0f} MB of memory had been taken while it ran; max_bytes= gives it "
                    "more, None: no limit"
                )
    except BaseException:  # Ctrl-C too
        query.stop()
        raise
    return query.result()


class _Query(threading.Thread):
    """A thread that runs one query."""

    def __init__(self, cursors: Cursors, sql: str, foreign: Callable[[], Collection[str]]) -> None:
        super().__init__(name="nbbatch sql", daemon=True)
        self.done = threading.Event()
        self._ask = partial(_ask, cursors, sql, foreign, self._begin)
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._found: pl.DataFrame | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._found = self._ask()
        except BaseException as error:  # whoever waits hears of it
            self._found = error
        finally:
            self._cursor = None
            self.done.set()

    def _begin(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def stop(self) -> None:
        """Interrupt it, until it has ended."""
        latest = time.monotonic() + STOP_SECONDS
        while not self.done.wait(0.01) and time.monotonic() < latest:
            if (cursor := self._cursor) is not None:
                with suppress(duckdb.Error):  # it has ended just now
                    cursor.interrupt()

    def result(self) -> pl.DataFrame:
        """What it gave; raises what it raised."""
        found = self._found
        if isinstance(found, QueryRefused | StoreClosed):
            raise found
        if isinstance(found, BaseException):  # polars panics by a BaseException of its own
            raise QueryRefused(f"DuckDB refuses this query: {found}") from found
        assert found is not None
        return found


def _ask(
    cursors: Cursors,
    sql: str,
    foreign: Callable[[], Collection[str]],
    begin: Callable[[duckdb.DuckDBPyConnection], None],
) -> pl.DataFrame:
    with busy, cursors.own() as cursor:
        begin(cursor)
        try:
            tree = _parsed(cursor, sql)
            _check(tree, foreign)
            cursor.execute(QUERIES["read_only"]).complete()
            try:
                return _frame(cursor, sql, tree)
            finally:
                cursor.rollback()
        except duckdb.Error as error:
            if cursors.is_closed:
                raise
            raise QueryRefused(f"DuckDB refuses this query: {error}") from error


def _taken(cursors: Cursors) -> int:
    """Bytes of memory that this process takes beside the blocks of the file that DuckDB keeps: these it drops when it needs room."""
    with cursors.reading():
        return _resident() - cursors.mine().execute(QUERIES["kept_blocks"]).fetchall()[0][0]


def _resident() -> int:
    """Bytes of memory that this process takes; where the system does not say, the most it has taken."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


# --- what it may do ------------------------------------------------------------------------------


def _parsed(cursor: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The tree of one SELECT, as JSON."""
    statements = cursor.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefused("sql() takes exactly one SELECT; the store is changed only by running jobs")
    ((tree,),) = cursor.execute(QUERIES["parsed"], [sql]).fetchall()
    return tree


def _check(tree: str, foreign: Callable[[], Collection[str]]) -> None:
    """Raises QueryRefused where it calls or reads what it must not."""
    parsed = json.loads(tree)
    if parsed["error"]:
        raise QueryRefused(f"DuckDB cannot tell what this query does: {parsed['error_message']}")
    others = foreign()
    for kind, name in _called(parsed):
        if (kind == "TABLE_FUNCTION" and name not in _TABLE_FUNCTIONS | OURS) or name in _EFFECTS:
            raise QueryRefused(f"sql() only reads the store, and {name}() does more, or reaches outside of it")
        if name in others:
            raise QueryRefused(
                f"{name} is a view or macro that nbbatch did not make; sql() reads nbbatch's own, and tables"
            )


def _called(node: Any, parent: str = "") -> Iterator[tuple[str, str]]:
    """Each function and table of a tree: how it is used, and its name."""
    if isinstance(node, list):
        for each in cast("list[Any]", node):
            yield from _called(each, parent)
    if isinstance(node, dict):
        fields = cast("dict[str, Any]", node)
        kind = str(fields.get("type"))
        if "function_name" in fields:
            yield parent if parent == "TABLE_FUNCTION" else kind, fields["function_name"].lower()
        elif "table_name" in fields:
            yield kind, fields["table_name"].strip('"').lower()
        for key, each in fields.items():
            yield from _called(each, kind if key == "function" else "")


# --- what it gives -------------------------------------------------------------------------------


def _frame(cursor: duckdb.DuckDBPyConnection, sql: str, tree: str) -> pl.DataFrame:
    """Rows of a query, its columns under names of their own and in types that polars has."""
    import polars as pl

    asked = cursor.sql(sql)
    names, kinds = _unlike(asked.columns), [_kind(each) for each in asked.types]
    if names == asked.columns and kinds == list(map(str, asked.types)):
        return _shown(pl.DataFrame(ArrowStream(asked)))
    ((plain,),) = cursor.execute(QUERIES["plain"], [tree]).fetchall()
    places = [f"c{place}" for place in range(len(names))]
    columns = [_converted(*each) for each in zip(places, asked.types, kinds, strict=True)]
    retyped = QUERIES["retyped"].format(columns=", ".join(columns), query=plain, names=", ".join(places))
    frame = pl.DataFrame(ArrowStream(cursor.sql(retyped)))
    spans = [
        pl.col(place).cast(pl.Duration("us"))
        for place, each in zip(places, asked.types, strict=True)
        if each.id == "interval"
    ]
    return _shown(frame.with_columns(spans).rename(dict(zip(places, names, strict=True))))


def _unlike(names: list[str]) -> list[str]:
    """Names of columns, equal ones numbered.

    >>> _unlike(["id", "id_1", "id", "ID"])
    ['id', 'id_1', 'id_2', 'ID']
    """
    found: dict[str, None] = {}
    for name in names:
        others = (f"{name}_{number}" for number in count(1))
        free = name if name not in found else next(each for each in others if each not in found and each not in names)
        found[free] = None
    return list(found)


def _kind(kind: Any) -> str:
    """The type that values of a DuckDB type are given as.

    >>> from duckdb.sqltypes import DuckDBPyType
    >>> _kind(DuckDBPyType("INTERVAL[]")), _kind(DuckDBPyType("STRUCT(a BIT, b INTEGER)"))
    ('VARCHAR[]', 'STRUCT("a" VARCHAR, "b" INTEGER)')
    """
    if kind.id in _AS_TEXT:
        return "VARCHAR"
    if kind.id in _WIDE:
        return "DECIMAL(38,0)"
    if kind.id not in _NESTED or not _is_odd(kind):
        return str(kind)
    inner = {name: _kind(each) for name, each in kind.children if name != "size"}
    match kind.id:
        case "list":
            return f"{inner['child']}[]"
        case "array":
            return f"{inner['child']}[{dict(kind.children)['size']}]"
        case "struct":
            return f"STRUCT({', '.join(f'{_quoted(name)} {each}' for name, each in inner.items())})"
        case "map" if dict(kind.children)["key"].id not in _NESTED:
            return f"MAP({inner['key']}, {inner['value']})"
        case _:
            return "VARCHAR"


def _is_odd(kind: Any) -> bool:
    """Whether polars lacks the type, or one inside it."""
    if kind.id not in _NESTED:
        return kind.id in _AS_TEXT | _WIDE
    inner = [(name, each) for name, each in kind.children if name != "size"]
    return any(_is_odd(each) or (name == "key" and each.id in _NESTED) for name, each in inner)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _converted(column: str, kind: Any, wanted: str) -> str:
    """A column as the type it is given as."""
    if kind.id == "interval":
        return QUERIES["as_microseconds"].format(column=column)
    return QUERIES["as_type"].format(column=column, type=wanted) if wanted != str(kind) else column


def _shown(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, if polars can show all of it: a date beyond its calendar ends in a panic."""
    for column in frame:
        if _is_beyond(column):
            raise QueryRefused(f"column {column.name!r} holds a date that polars cannot represent; cast it to VARCHAR")
    return frame


def _is_beyond(column: pl.Series) -> bool:
    import polars as pl

    dtype = column.dtype
    if isinstance(dtype, pl.Struct):
        return any(map(_is_beyond, column.struct.unnest()))
    if isinstance(dtype, pl.List | pl.Array):
        return _is_beyond(column.explode())
    if not isinstance(dtype, pl.Date | pl.Datetime):
        return False
    per_day = _PER_DAY.get(getattr(dtype, "time_unit", ""), 1)
    numbers = column.to_physical().abs()
    return bool((numbers > _LAST_DAY * per_day).any() or (numbers < 0).any())  # the least number has no positive one

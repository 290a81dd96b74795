"""The read side: frames of what is stored, for one instance or the whole store.

Every frame has the same columns and dtypes when it is empty: names and states are strings, times are
``datetime[μs, UTC]``, durations are seconds. Each is read in one statement on a connection of the calling thread, so
it never sees half a transaction and never holds the engine up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nbbatch.base.display import warn
from nbbatch.base.errors import NotFoundError
from nbbatch.base.states import CHUNK_ENDED, CHUNK_OPEN, STACKED, ChunkStatus, by_status
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

_MAX_ID = 2**63 - 1


class Unasked(int):
    """A number of rows that nobody asked for: a frame that is cut there says so."""


ROWS: Final[int] = Unasked(100_000)
"""Rows of a frame unless ``limit=`` says otherwise."""

_LAST = [ChunkStatus.QUEUED, ChunkStatus.IN_PROGRESS]
_FIRST = [each for each in ChunkStatus if each in CHUNK_ENDED] + [
    each for each in STACKED if each in CHUNK_OPEN - {*_LAST}
]
_STEP_COLUMNS = [
    "step", "chunks", *(status.name.lower() for status in _FIRST), "records", "filtered", "reused", "position", "kind", "gated",
    "started", "ended", *(status.name.lower() for status in _LAST), "median_seconds", "p95_seconds",
]  # fmt: skip
"""Of a wide frame a terminal shows the first four and the last four."""

WARNING_CHARS = 4_000
"""Characters of an instance's warnings in all …"""
WARNING_LEAST = 100
"""… and those that are left of each, at least."""


def of_instance(
    store: Reader, query: str, instance: int, step: str | None, chosen: object, limit: int | None, offset: int,
    at_us: int | None = None,
) -> pl.DataFrame:  # fmt: skip
    """A frame of one instance; ``chosen`` is the query's second filter (a state or a chunk id)."""
    if step is not None:
        require_step(store, instance, step)
    return page(store, query, instance, step, chosen, at_us, limit=limit, offset=offset)


def page(store: Reader, query: str, *values: Any, limit: int | None, offset: int) -> pl.DataFrame:
    """Rows of a named query whose last two values are its LIMIT (None: all) and OFFSET.

    Raises:
        ValueError: ``limit`` or ``offset`` is negative, or no whole number.
    """
    check_page(limit, offset)
    frame = store.frame(query, *values, limit, offset)
    if is_cut(limit, frame.height):
        tell_cut(frame.height, store.count(query, *values, None, offset) - frame.height)
    return frame


def check_page(limit: int | None, offset: int = 0) -> None:
    """Raises ValueError where no page is meant."""
    for name, value in (("limit", 0 if limit is None else limit), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            also = ", or None for all" if name == "limit" else ""
            raise ValueError(f"{name}= takes a number of rows, 0 or more{also}; not {value!r}")


def is_cut(limit: int | None, rows: int) -> bool:
    """Whether there may be more rows than were given, and nobody asked for that."""
    return isinstance(limit, Unasked) and rows == limit


def tell_cut(rows: int, more: int) -> None:
    """Warn that rows were left out, if any were."""
    if more:
        warn(f"{rows:,} rows are given and {more:,} more left out; limit=None gives all, limit= and offset= a page")


def chunks(
    store: Reader, instance: int, step: str | None, status: str | None, limit: int | None, offset: int,
    at_us: int | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Chunks of an instance. The ids of a page are looked up first: the rest need not be joined then."""
    if step is not None:
        require_step(store, instance, step)
    if status is not None:
        return page(store, "chunks", instance, step, status, 0, _MAX_ID, at_us, limit=limit, offset=offset)
    check_page(limit, offset)
    ((first, last, rows),) = store.fetch("chunk_span", instance, step, limit, offset, at_us)
    if is_cut(limit, rows):
        tell_cut(rows, store.fetch("chunk_span", instance, step, None, offset, at_us)[0][2] - rows)
    return store.frame("chunks", instance, step, None, first or 0, last or 0, at_us, limit, 0)


def steps(store: Reader, instance: int, live: Sequence[Sequence[int]] = (), at_us: int | None = None) -> pl.DataFrame:
    """Steps of an instance.

    Args:
        store: Read from.
        instance: Its id.
        live: Chunks of each step by state code as the engine counts them; empty: the instance is not live.
        at_us: As they stood at this time; None: now.
    """
    if at_us is not None or not live:
        return store.frame("steps", instance, at_us).select(_STEP_COLUMNS)
    import polars as pl

    columns = {status.name.lower(): [counts[status.code] for counts in live] for status in ChunkStatus}
    columns["chunks"] = [sum(counts) for counts in live]
    frame = store.frame("live_steps", instance)
    return frame.with_columns(pl.Series(name, values, dtype=pl.Int64) for name, values in columns.items()).select(
        _STEP_COLUMNS
    )


def running(
    store: Reader, instance: int, attempts: Sequence[tuple[int, int, int, str, int, int | None, str]], now_us: int
) -> pl.DataFrame:  # fmt: skip
    """Attempts that run now.

    Args:
        store: Where it is read how long those of a step took.
        instance: Whose they are.
        attempts: Of each the place of its step, chunk, attempt, worker, start, outputs so far, and input in a few words.
        now_us: The present.
    """
    import polars as pl

    texts, whole, real = pl.String(), pl.Int64(), pl.Float64()
    schema: dict[str, Any] = {
        "chunk": whole, "step": texts, "attempt": whole, "worker": texts, "started": pl.Datetime("us", "UTC"), "seconds": real,
        "median_seconds": real, "p95_seconds": real, "given": whole, "input": texts,
    }  # fmt: skip
    steps = store.frame("live_steps", instance).rows(named=True) if attempts else []
    rows = [
        (
            chunk, steps[place]["step"], attempt, worker or None, started_us, max(0, now_us - started_us) / 1e6,
            steps[place]["median_seconds"], steps[place]["p95_seconds"], given, said,
        )
        for place, chunk, attempt, worker, started_us, given, said in attempts
    ]  # fmt: skip
    return pl.DataFrame(rows, schema, orient="row")


def counts(store: Reader, instance: int, at_us: int | None = None) -> list[dict[ChunkStatus, int]]:
    """Chunks of each step by state; reads all its events, a million in less than 0.1 s."""
    return [by_status((0, *codes)) for (codes,) in store.fetch("counts", instance, at_us)]


def require_step(store: Reader, instance: int, step: str) -> int:
    """Position of a step in the chain.

    Raises:
        NotFoundError: The instance has no step of this name; the text lists those it has.
    """
    names = step_names(store, instance)
    if step not in names:
        raise NotFoundError(f"instance {instance} has no step {step!r}; it has {', '.join(map(repr, names))}")
    return names.index(step)


def step_names(store: Reader, instance: int) -> list[str]:
    """Names of an instance's steps, in chain order."""
    return [name for (name,) in store.fetch("step_names", instance)]


def warnings(store: Reader, instance: int) -> list[str]:
    """Distinct warnings, newest first, as many as fit into 4,000 characters; long ones are cut, and say by how much."""
    texts: list[str] = []
    for (text,) in store.fetch("warnings", instance):
        texts.append(text)
        if sum(min(len(each), WARNING_LEAST) for each in texts) > WARNING_CHARS:
            return fitted(texts[:-1], WARNING_CHARS)
    return fitted(texts, WARNING_CHARS)


def fitted(texts: Sequence[str], room: int) -> list[str]:
    """Texts that have so many characters in all: short ones whole, long ones cut to equal shares of what is left.

    >>> fitted(["abc", "x" * 99], 40)
    ['abc', 'xxxxxxxxxxxxxxxxx… 82 more characters']
    """
    share, left = room, len(texts)
    for length in sorted(map(len, texts)):
        share = room // left
        if length > share:
            break
        room, left = room - length, left - 1
    return [text if len(text) <= share else _cut(text, share) for text in texts]


def _cut(text: str, length: int) -> str:
    kept = max(0, length - len(f"… {len(text):,} more characters"))
    return f"{text[:kept]}… {len(text) - kept:,} more characters"

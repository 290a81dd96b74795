"""Frozen rows that travel between the layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbbatch.base.states import ChunkStatus, InstanceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One job instance as stored. Times are microseconds since 1970 UTC."""

    id: int
    job: str
    version: int
    key: str | None
    """Name given by ``submit(key=)``; None: found by its parameters."""
    identity: str
    params: bytes
    shape: str
    retain: str
    status: InstanceStatus
    paused: bool
    failing: str | None
    """Text of a FailJob while running chunks finish; None otherwise."""
    created_us: int
    started_us: int | None
    """First claim; None before it."""
    ended_us: int | None
    """None while unfinished, and again after a retry."""
    progress: float
    error: str | None
    report: bytes | None


class Ended(NamedTuple):
    """How an instance ended."""

    status: InstanceStatus
    report: bytes | None
    """What its reduction returned, stored."""


class Item(NamedTuple):
    """A chunk as a worker gets it."""

    chunk: int
    attempt: int
    """Counted from 1."""
    data: bytes | None
    """Stored input; None for the first chunk and the reduction."""
    errors: int = 0
    """Errors counted before this attempt."""
    polls: int = 0


class Failure(NamedTuple):
    """An error as it is stored: text only, so that it survives pickling, closing and another machine."""

    type: str
    message: str
    traceback: str


class Outcome(NamedTuple):
    """What became of one attempt; the engine decides what to store of it."""

    status: ChunkStatus
    """COMPLETED, ERRORED (a retry may mend it), FAILED, SKIPPED or POLL_WAITING."""
    started_us: int
    ended_us: int
    outputs: list[bytes]
    """Stored values; for a reduction one, the report."""
    targets: list[int]
    """Index of the step each output goes to; -1 for the report."""
    records: int = 0
    failure: Failure | None = None
    delay: float = 0.0
    """Seconds until the next attempt, for POLL_WAITING."""
    fails_job: bool = False
    log: str = ""
    warnings: tuple[str, ...] = ()
    recovered: tuple[str, ...] = ()
    staged: int = 0
    """Outputs handed over in pages before this outcome."""
    worker: str = ""


class Results(NamedTuple):
    """What a worker returns for a micro-batch.

    Attempts that COMPLETED, gave at most one output and said nothing are columns, so that they cost no object each.
    """

    started_us: list[int]
    ended_us: list[int]
    outputs: list[bytes]
    """One per plain attempt, or none at all."""
    worker: str
    odd: dict[int, Outcome]
    """All other attempts, by their place in the micro-batch."""

    def latest_end_us(self) -> int:
        """When the last of the attempts ended."""
        return max(*self.ended_us[-1:], *(outcome.ended_us for outcome in self.odd.values()), 0, 0)

    def span_us(self) -> int:
        """From the start of the first of them to the end of the last."""
        ended = self.latest_end_us()
        return ended - min(*self.started_us[:1], *(outcome.started_us for outcome in self.odd.values()), ended)


class Columns:
    """Rows on their way to a table, as one list per column: a micro-batch is added in a few operations, not one per row."""

    __slots__ = ("lists",)

    def __init__(self, width: int) -> None:
        self.lists: tuple[list[Any], ...] = tuple([] for _ in range(width))

    def append(self, row: Sequence[Any]) -> None:
        """Add one row."""
        for column, value in zip(self.lists, row, strict=True):
            column.append(value)

    def extend(self, *columns: Iterable[Any]) -> None:
        """Add rows given as columns of equal length."""
        for column, values in zip(self.lists, columns, strict=True):
            column.extend(values)

    def rows(self) -> list[tuple[Any, ...]]:
        """The same, row by row."""
        return list(zip(*self.lists, strict=True))

    def __len__(self) -> int:
        return len(self.lists[0])


class EventRow(NamedTuple):
    """One row of the event table, in column order."""

    id: int
    chunk: int
    instance: int
    step: int
    attempt: int
    status: int
    errors: int
    polls: int
    started_us: int | None
    ended_us: int
    due_us: int | None
    records: int
    code: str | None
    worker: str | None


class Waiting(NamedTuple):
    """A chunk that is claimed again at ``due_us``; ordered by it."""

    due_us: int
    chunk: int
    step: int
    attempt: int
    """Attempts made so far."""
    errors: int
    polls: int
    status: ChunkStatus


class ArrowStream:
    """Hands an Arrow stream on under a type of our own.

    polars caches the types it was given for good; caching DuckDB's own type would keep its module alive past the
    interpreter's end, and its bindings would print pages of "leaked" then. So this module must not import duckdb.
    """

    __slots__ = ("_source",)

    def __init__(self, source: Any) -> None:
        self._source = source

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._source.__arrow_c_stream__()

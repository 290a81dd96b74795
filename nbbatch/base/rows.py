"""Frozen rows that travel between the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """Name given by ``submit(key=)``; None: found by its parameters, or by its parent."""
    parent: int | None
    """The chunk that submitted it as a sub-job; None: a person did."""
    identity: str
    params: bytes
    shape: str
    retain: str
    reuse: int | None = None
    """What its chunks may take of others; None: as its steps say, 0: nothing, -1: all, else: of that instance."""
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


WORKER_LOST = "the worker was lost while it ran this"
"""How the error of an attempt begins whose worker died."""
UNREAD = "no result of step"
"""… and of one whose worker gave something else than its results, as it could not read its code."""
DIED = "the process died while it ran"
"""… and of one whose process died that has the store."""


class Failure(NamedTuple):
    """An error as it is stored: text only, so that it survives pickling, closing and another machine."""

    type: str
    message: str
    traceback: str
    raised: str = ""
    """The function and the source line of the user's code that raised it."""


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
    skips_last: bool = False
    """Out of attempts, it is SKIPPED instead of FAILED."""


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
    logged: Sequence[Mapping[str, Any]] = ()
    """Attributes of the log records of a worker in another process."""
    targets: Sequence[int] = ()
    """The step that each output goes to; empty: to the only one that follows."""
    left: int = 0
    """So many of the last chunks were not begun, as those before them took too long."""
    followed: Followed | None = None
    """What came of the chunks that were made of all outputs, where the same worker went on with them."""

    def part(self, first: int, last: int) -> Results:
        """What the attempts from one place to another gave, without what followed them.

        >>> Results([1, 2], [3, 4], [b"a", b"b"], "", {1: Outcome(ChunkStatus.FAILED, 5, 6, [], [])}).part(1, 3)[:3]
        ([2], [4], [b'b'])
        """
        odd = {place - first: outcome for place, outcome in self.odd.items() if first <= place < last}
        before = first - sum(place < first for place in self.odd)
        plain = slice(before, before + last - first - len(odd))
        columns = self.started_us[plain], self.ended_us[plain], self.outputs[plain]
        return Results(*columns, self.worker, odd, targets=self.targets[plain])

    def latest_end_us(self) -> int:
        """When the last of the attempts ended."""
        return max(*self.ended_us[-1:], *(outcome.ended_us for outcome in self.odd.values()), 0, 0)

    def span_us(self) -> int:
        """From the start of the first of them to the end of the last."""
        ended = self.latest_end_us()
        return ended - min(*self.started_us[:1], *(outcome.started_us for outcome in self.odd.values()), ended)

    def whole_us(self) -> int:
        """The same to the end of what followed."""
        return self.span_us() + (self.followed.results.whole_us() if self.followed else 0)

    def renamed(self, name: Callable[[str], str]) -> Results:
        """With other names of workers, those of what followed too."""
        followed = self.followed and self.followed._replace(results=self.followed.results.renamed(name))
        odd = {place: outcome._replace(worker=name(outcome.worker)) for place, outcome in self.odd.items()}
        return self._replace(worker=name(self.worker), odd=odd, followed=followed)


class Followed(NamedTuple):
    """Attempts that followed at once in the worker that had made their chunks."""

    step: int
    """The index of theirs."""
    items: Sequence[Item]
    results: Results


class StepCounts(NamedTuple):
    """How the chunks of one step stand."""

    step: int
    shut: bool
    """Whether it has a gate, and that is not open."""
    first: int
    """Its first chunk."""
    last: int
    records: int
    latest_end_us: int | None
    counts: list[int]
    """Chunks by the code of their state; entry 0 is not used."""


class ChunkRow(NamedTuple):
    """One row of the chunk table. Fields are the columns in their order; it is made by field name, as all of these."""

    id: int
    instance: int
    step: int
    parent: int | None
    seq: int | None
    created_us: int
    data: bytes | None = None
    session: int | None = None


class EventRow(NamedTuple):
    """One row of the event table."""

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
    due_us: int | None = None
    records: int = 0
    code: str | None = None
    worker: str | None = None


class SupersededRow(NamedTuple):
    """One row of the superseded table."""

    chunk: int
    instance: int
    at_us: int
    copy: int | None = None


TYPES = "types of the step"
"""Beside the names of parameters, in what makes outputs the same."""
HEAD_CHARS = 600
"""Of an error's text, those that tell one cause from another."""


class DetailRow(NamedTuple):
    """One row of the detail table."""

    chunk: int
    instance: int
    attempt: int
    event: int
    error_type: str | None = None
    error: str | None = None
    traceback: str | None = None
    log: str | None = None
    warnings: list[str] | None = None
    recovered: list[str] | None = None
    head: str | None = None
    """The beginning of the error, by which failures are grouped: their whole texts may be gigabytes."""
    raised: str | None = None


class StepRow(NamedTuple):
    """One step of a chain, without its chain."""

    step: int
    name: str
    kind: str
    gated: bool
    weight: float
    max_attempts: int
    input_media: str
    output_media: str | None


class OutputRow(NamedTuple):
    """One row of the output table."""

    instance: int
    step: int
    parent: int
    seq: int
    data: bytes


class StagedRow(NamedTuple):
    """One row of the staged table."""

    chunk: int
    instance: int
    attempt: int
    step: int
    seq: int
    data: bytes


class ClaimRow(NamedTuple):
    """One row of the claim table."""

    id: int
    session: int
    instance: int
    step: int
    first: int
    chunks: int
    attempt: int
    claimed_us: int


Row = type[ChunkRow | EventRow | OutputRow | StagedRow]


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

"""What there is: steps, jobs, chunks, runs (instances), and what can be asked of them. What happens to them is `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ENDED = {"COMPLETED", "FAILED", "CANCELLED"}  # states of runs
CLOSED = {*ENDED, "SKIPPED"}  # states of chunks
CAN_RUN = {"QUEUED", "ERRORED", "POLL_WAITING"}
WAITING = {*CAN_RUN, "GATE_WAITING"}


class Refused(Exception):
    """What was asked for cannot be done; nothing has changed."""


def refuse_if(wrong: bool) -> None:
    if wrong:
        raise Refused


@dataclass(frozen=True)
class Step:
    name: str
    kind: str  # first | one | many | page | flat | sub | none | reduction
    sources: tuple[int, ...] = ()
    gated: bool = False
    attempts: int = 1
    max_failed: int = 0
    skips_odd: bool = False  # skip_on= names the class of the error "odd" …
    retries_odd: bool = False  # … and so does retry_on=: retried first
    max_skipped: int | None = None
    bisect: bool = False
    always: bool = False
    job: Job | None = None

    def skips(self, said: str) -> str:
        """Whether what an attempt raised leaves its chunk out: now, after the last attempt, or not."""
        odd = "last" if self.retries_odd else "now"
        return "now" if said == "skip" else odd if said == "odd" and self.skips_odd else ""


@dataclass(frozen=True)
class Job:
    name: str
    steps: tuple[Step, ...]
    fail_fast: bool = False


@dataclass(eq=False)
class Chunk:
    run: Run
    step: int
    value: Any
    parent: Chunk | None = None
    seq: int = 0
    state: str = "QUEUED"
    before: str = ""  # what it was when it was claimed
    attempts: int = 0
    errors: int = 0
    polls: int = 0
    due: int = 0
    outputs: list[Any] = field(default_factory=list)
    superseded: bool = False
    split: bool = False  # … by its halves
    stops: bool = False  # raised FailJob
    touched: int = 0  # when it last changed
    id: int = 0  # in the engine; the model makes no use of it

    @property
    def node(self) -> Step:
        return self.run.job.steps[self.step]

    def halves(self) -> list[Any]:
        """Of a page."""
        middle = len(self.value) // 2
        return [self.value[:middle], self.value[middle:]] if middle else []

    def is_claimable(self, now: int) -> bool:
        run, due = self.run, self.state in {"ERRORED", "POLL_WAITING"} and self.due <= now
        waits = not run.attached or run.failing or run.status in {"PAUSED", *ENDED} or self.superseded
        return not waits and run.is_open(self.step) and (self.state == "QUEUED" or due)


@dataclass(eq=False)
class Run:
    job: Job
    value: Any
    parent: Chunk | None = None  # which submitted it as a sub-job
    chunks: list[Chunk] = field(default_factory=list)  # superseded ones too, parents first
    opened: set[int] = field(default_factory=set)
    status: str = "QUEUED"
    started: bool = False  # a chunk was claimed
    attached: bool = True  # its job is known in this process
    failing: bool = False  # a FailJob was raised, or too many failed
    report: list[Any] | None = None
    touched: int = 0
    id: int = 0

    def of(self, step: int | None = None) -> list[Chunk]:
        """The chunks of a step, or all, without superseded ones."""
        return [c for c in self.chunks if not c.superseded and step in (None, c.step)]

    def has(self, *states: str) -> bool:
        return any(c.state in states for c in self.of())

    def is_open(self, step: int) -> bool:
        return step in self.opened or not self.job.steps[step].gated

    def is_ready(self, step: int) -> bool:
        """Whether all that stands before a step is done."""
        return all(map(self.is_done, self.job.steps[step].sources))

    def is_done(self, step: int) -> bool:
        """So is what stands before it, nothing is open or cancelled, no more has failed than may, a report is made."""
        chunks = self.of(step)
        ended = all(c.state in CLOSED - {"CANCELLED"} for c in chunks) and self.within_budget(step)
        return self.is_ready(step) and ended and (bool(chunks) or self.job.steps[step].kind != "reduction")

    def within_budget(self, step: int) -> bool:
        return sum(c.state == "FAILED" for c in self.of(step)) <= self.job.steps[step].max_failed

    def exceeds(self) -> bool:
        return not all(map(self.within_budget, range(len(self.job.steps))))

    def may_skip(self, step: int) -> bool:
        """Whether a step may leave out one more chunk; a reduction, which gives the report, none."""
        most, skipped = self.job.steps[step].max_skipped, sum(c.state == "SKIPPED" for c in self.of(step))
        return self.job.steps[step].kind != "reduction" and (most is None or skipped < most)

    def rests(self) -> bool:
        """Whether nothing happens by itself: it has ended, or waits for its job, or to begin."""
        begins = self.status != "PAUSED" and not self.has(*WAITING)
        return self.status in ENDED or not self.attached or not (self.started or begins)

    def stands(self) -> str:
        """The state that its chunks put it into."""
        can_run = any(c.state in CAN_RUN and self.is_open(c.step) for c in self.of()) or self.has("IN_PROGRESS")
        reduces = any(c.state == "IN_PROGRESS" and c.node.kind == "reduction" for c in self.of())
        if not self.failing and all(map(self.is_done, range(len(self.job.steps)))):
            return "COMPLETED"
        if not (self.has("IN_PROGRESS") if self.failing else can_run):
            return "FAILED"
        if self.status == "PAUSED":
            return self.status
        return "ERRORED" if self.has("ERRORED", "FAILED") else "FINALIZE" if reduces else "IN_PROGRESS"

    def family(self, chosen: list[Chunk]) -> set[Chunk]:
        """Chunks, and all that came of them."""
        found = set(chosen)
        for chunk in self.chunks:
            found |= {chunk} if chunk.parent in found else set()
        return found

    def takers(self, step: int, *, reduction: bool) -> list[int]:
        """The steps that get what a step gives: reductions, or all others."""
        steps = enumerate(self.job.steps)
        return [i for i, node in steps if step in node.sources and (node.kind == "reduction") is reduction]

    def rows(self, chunk: Chunk) -> list[Any]:
        """What a chunk and all that came of it gave to the reduction, in the order of the items."""
        given = chunk.outputs if self.takers(chunk.step, reduction=True) else []
        below = [c for c in self.chunks if c.parent is chunk and (c.split or not c.superseded)]
        below.sort(key=lambda c: c.seq)
        return given + [row for each in below for row in self.rows(each)]

    def add(self, step: int, value: Any, parent: Chunk | None = None, seq: int = 0) -> None:
        state = "QUEUED" if self.is_open(step) else "GATE_WAITING"
        self.chunks.append(Chunk(self, step, value, parent, seq, state))

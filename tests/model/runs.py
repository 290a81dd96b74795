"""Runs (instances) of the model: how one stands, and how its chunks come about. What happens to them is `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.model.chunks import Chunk
from tests.model.jobs import CAN_RUN, CLOSED, ENDED, WAITING, Job


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

    def replace(self, chosen: list[Chunk]) -> None:
        """Supersede chunks and all that came of them; those that came of no other chosen one are made anew."""
        gone = self.family(chosen)
        for chunk in gone:
            chunk.superseded = True
        for chunk in [c for c in chosen if c.parent not in gone]:
            self.add(chunk.step, chunk.value, chunk.parent, chunk.seq)

    def open(self, step: int) -> list[Chunk]:
        """Open a gate; the chunks that wait behind it. A reduction has one chunk."""
        self.opened.add(step)
        if self.job.steps[step].kind == "reduction":
            self.add(step, None)
        return [c for c in self.of(step) if c.state == "GATE_WAITING"]

    def shut(self, step: int) -> list[Chunk]:
        """Shut a gate; the chunks that wait behind it now. A report is made anew."""
        self.opened.discard(step)
        for chunk in self.of(step):
            chunk.superseded |= chunk.node.kind == "reduction"
        return [c for c in self.of(step) if c.state == "QUEUED"]

    def take(self, chunk: Chunk, outputs: list[Any]) -> None:
        """What a chunk gave: chunks of the steps behind, or the report."""
        chunk.outputs, takers = outputs, self.takers(chunk.step, reduction=False)
        for seq, (value, step) in enumerate((value, step) for value in outputs for step in takers):
            self.add(step, value, chunk, seq)
        self.report = outputs if chunk.node.kind == "reduction" else self.report

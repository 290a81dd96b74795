"""Chunks of the model: how one stands, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.model.jobs import ENDED, Step

if TYPE_CHECKING:
    from tests.model.runs import Run


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

    def becomes(self, said: str) -> str:
        """The state that the end of an attempt puts it into; an error counts."""
        if said in {"done", "later"}:
            return {"done": "COMPLETED", "later": "POLL_WAITING"}[said]
        skips, may_skip = self.node.skips(said), self.run.may_skip(self.step)
        if skips == "now" and may_skip:
            return "SKIPPED"
        self.errors, self.stops = self.errors + 1, said == "fail job"
        if said in {"error", "odd"} and skips != "now" and self.errors < self.node.attempts:
            return "ERRORED"
        return "SKIPPED" if skips == "last" and may_skip else "FAILED"

    def is_claimable(self, now: int) -> bool:
        run, due = self.run, self.state in {"ERRORED", "POLL_WAITING"} and self.due <= now
        waits = not run.attached or run.failing or run.status in {"PAUSED", *ENDED} or self.superseded
        return not waits and run.is_open(self.step) and (self.state == "QUEUED" or due)

    def claim(self, now: int) -> None:
        assert self.is_claimable(now), f"{self.state} of step {self.node.name} may not be claimed"
        self.before, self.state, self.attempts = self.state, "IN_PROGRESS", self.attempts + 1
        self.run.started = True

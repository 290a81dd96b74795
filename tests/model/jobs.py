"""Steps and jobs of the model, and the states there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BACKOFF, POLL = 10, 30  # seconds
# What became of an attempt (done, error, fatal, fail, fail job, later, skip, odd: see `skip_on=`), and its outputs.
Said = tuple[str, list[Any]]
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

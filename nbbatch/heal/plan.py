"""What a retry or a rerun would do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine.commands import check_shape
from nbbatch.engine.foresight import Foreseen
from nbbatch.heal.reasons import REASONS, Why, told
from nbbatch.store.reading import Reader


@dataclass(frozen=True, slots=True)
class Line:
    """What a retry or a rerun would do with one step."""

    step: str
    before: str | None
    """Fingerprint of the code that ran, or failed."""
    after: str
    """Fingerprint of the code that will run."""
    retried: int
    """Chunks that run again: failed and cancelled ones, and of an ended instance those of steps with ``always=True``; with
    a rerun, those that were chosen; and all that came of them. A reduction behind them runs again, too."""
    kept: int
    """Chunks that ended well and do not."""
    left: int = 0
    """Failed chunks that were not chosen, and stay so."""
    verb: str = "retry"
    waiting: int = 0
    """Chunks that wait for their next attempt anyway: it runs the new code."""
    redefined: str | None = None
    """Fingerprint of the step that its module or notebook has by now, where the job has an older one."""

    def __str__(self) -> str:
        old, new = (self.before or "")[:4], self.after[:4]
        code = f"{old} → {new}" if old and old != new else f"{new}, unchanged" if old else new
        rest = f", {self.left:,} left as they are" if self.left else ""
        if self.waiting:
            rest += f", {self.waiting:,} waiting for another attempt, which runs this code"
        if self.redefined:
            rest += f"\n{self.step} was defined again since, as {self.redefined[:4]}: run the cell of the job too, and {self.verb} with that job"
        return f"{self.step} {code}: {self.retried:,} to {self.verb}, {self.kept:,} kept{rest}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a retry or a rerun would do; one line per step with chunks to run again."""

    lines: tuple[Line, ...]

    @property
    def retried(self) -> int:
        """Number of chunks to run again."""
        return sum(line.retried for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(str(line) for line in self.lines if line.retried or line.waiting) or "nothing to retry"

    __repr__ = __str__


def plan(store: Reader, instance: int, job: JobDefinition[Any, Any], chunks: list[int] | None = None) -> Plan:
    """What retrying an instance, or some of its chunks, with a job's code would do.

    Raises:
        StateError: The job is another one than the instance's.
        ShapeError: Its chain differs from the one the instance began with.
    """
    row = store.stored_instance(instance)
    check_shape(job, row)
    ended = chunks is None and row.status in INSTANCE_ENDED
    always = [node.index for node in job.nodes if ended and node.step.options.always]
    done = [chunk for index in always for (chunk,) in store.fetch("completed_of", instance, index)]
    return _plan(store, instance, job, chunks, done, "retry")


def plan_rerun(store: Reader, instance: int, job: JobDefinition[Any, Any], chunks: list[int]) -> Plan:
    """What doing chunks again, and all that came of them, would do. Raises as `plan`."""
    check_shape(job, store.stored_instance(instance))
    return _plan(store, instance, job, [], chunks, "rerun")


def _plan(
    store: Reader, instance: int, job: JobDefinition[Any, Any], failed: list[int] | None, done: list[int], verb: str
) -> Plan:
    rows = {step: rest for step, *rest in store.fetch("plan", instance, failed, done)}
    lines: list[Line] = []
    for node in job.current():
        again, kept, left, code, waiting = rows.get(node.index, (0, 0, 0, None, 0))
        if node.step.kind is Kind.REDUCTION and any(line.retried for line in lines):
            again, kept, left = again + kept + left, 0, 0
        waiting = waiting if verb == "retry" else 0
        newer = node.step.redefined if again or waiting else None
        lines.append(
            Line(node.step.name, code, node.code, again, kept, left, verb, waiting, newer and newer.fingerprint)
        )
    return Plan(tuple(lines))


@dataclass(frozen=True, slots=True)
class ReuseLine:
    """What a submit would reuse of one step, as far as that is known before anything runs."""

    step: str
    reused: int
    """Chunks that would take outputs."""
    runs: int
    """Chunks that would run."""
    reasons: dict[str, int]
    """Why they would."""

    def __str__(self) -> str:
        whys = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.items())
        return f"{self.step}: {self.reused:,} reused, {self.runs:,} to run" + (f" ({whys})" if whys else "")


@dataclass(frozen=True, slots=True)
class ReusePlan:
    """What a submit would reuse; one line per step with chunks. What comes of a chunk that runs is not known before."""

    lines: tuple[ReuseLine, ...]

    @property
    def reused(self) -> int:
        """Number of chunks that would take outputs."""
        return sum(line.reused for line in self.lines)

    @property
    def runs(self) -> int:
        """Number of chunks that would run, without those that come of them."""
        return sum(line.runs for line in self.lines)

    def __str__(self) -> str:
        lines = [str(line) for line in self.lines]
        return "\n".join([*lines, *(["and what comes of those that run"] if self.runs else [])])

    __repr__ = __str__


def plan_reuse(store: Reader, job: JobDefinition[Any, Any], foreseen: Foreseen) -> ReusePlan:
    """What `foresee` has found, in words."""
    found, reached, parts = foreseen
    known = dict(parts)
    before = sorted({code for _, _, _, _, code, *_ in found if code} - known.keys())
    known |= {code: json.loads(each) for code, each in store.fetch("code_parts", before)} if before else {}
    lines: list[ReuseLine] = []
    for node, chunks in zip(job.nodes, reached, strict=True):
        rows = [rest for index, *rest in found if index == node.index]
        reused = sum(count for is_reused, *_, count in rows if is_reused)
        reasons = Counter[str]()
        for is_reused, *why, count in rows:
            if not is_reused:
                reasons[told(Why(*why), known) or ""] += count
        if not rows and chunks:
            reasons[REASONS["off"]] = chunks
        if chunks:
            lines.append(ReuseLine(node.step.name, reused, chunks - reused, dict(reasons)))
    return ReusePlan(tuple(lines))

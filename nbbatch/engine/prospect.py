"""How far an instance is, how fast it goes and when it is done: from what the attempts of its steps have taken. Pure.

Work is chunks × what one of their step takes. Of a step that gives more chunks while it goes on, those to come are counted
as it gave them so far. Time is that which this process worked on the instance, without pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log, sqrt
from typing import NamedTuple

from nbbatch.base.states import CHUNK_DONE
from nbbatch.definition import Kind, Node
from nbbatch.engine.decide import Counts, done_steps

MARKS = 32
"""Moments of a run that are kept to compare with."""
FIRST_MARK_US = 50_000
"""Between two of them at first; twice as much whenever they are too many."""
LATE_SHARE = 0.3
"""How fast it goes is seen from the last share of the time …"""
LATE_CHUNKS = 12
"""… in which at least so many chunks ended."""
TREND_BATCHES = 16
"""From so many micro-batches on it is asked whether the later ones took longer …"""
SURELY = 3.0
"""… by so many times what chance would do …"""
STEEPEST = 4.0
"""… and what is still to come is taken to take so many times as long at most."""
GUESSED = 0.34
"""Share of the work left that may be of steps of which nothing has ended, so that a time is told at all."""
_DONE = [status.code for status in CHUNK_DONE]


class Learned:
    """What is known of a step from all its instances in this process."""

    __slots__ = ("mean_us",)

    def __init__(self) -> None:
        self.mean_us = 0.0
        """How long a chunk took last; 0: not known."""


class Times(NamedTuple):
    """What attempts of a step took, as they came in micro-batches."""

    attempts: int = 0
    spent_us: float = 0.0
    batches: int = 0
    means: float = 0.0
    """The sum of what an attempt took on the mean, over micro-batches …"""
    squares: float = 0.0
    """… and of its square."""

    def plus(self, attempts: int, spent_us: float) -> Times:
        """With one micro-batch more."""
        mean = spent_us / attempts
        return Times(
            self.attempts + attempts, self.spent_us + spent_us, self.batches + 1, self.means + mean,
            self.squares + mean * mean,
        )  # fmt: skip

    def since(self, earlier: Times) -> Times:
        """Without what there was earlier."""
        return Times(
            self.attempts - earlier.attempts, self.spent_us - earlier.spent_us, self.batches - earlier.batches,
            self.means - earlier.means, self.squares - earlier.squares,
        )  # fmt: skip

    @property
    def mean_us(self) -> float:
        """Of one attempt; 0 while none has ended."""
        return self.spent_us / self.attempts if self.attempts else 0.0

    @property
    def spread_us(self) -> float:
        """How far attempts lie from their mean: its standard deviation."""
        mean = self.means / self.batches if self.batches else 0.0
        return sqrt(max(0.0, self.squares / self.batches - mean * mean)) if self.batches else 0.0

    @property
    def error_us(self) -> float:
        """How far the mean may be off by chance."""
        return self.spread_us / sqrt(self.batches - 1) if self.batches > 1 else inf


class Mark(NamedTuple):
    """How a run stood at a moment of the time worked."""

    worked_us: int
    times: Sequence[Times]

    @property
    def attempts(self) -> int:
        """That had ended."""
        return sum(times.attempts for times in self.times)

    @property
    def spent_us(self) -> float:
        """What they took."""
        return sum(times.spent_us for times in self.times)

    @property
    def mean_us(self) -> float:
        """Of one of them; 0 while none has ended."""
        return self.spent_us / self.attempts if self.attempts else 0.0


class Course:
    """Some moments of a run, spread over all of it."""

    def __init__(self, steps: int) -> None:
        self._marks = [Mark(0, [Times()] * steps)]
        self._every_us = self._next_us = FIRST_MARK_US

    def is_due(self, worked_us: int) -> bool:
        """Whether another moment is to be kept."""
        return worked_us >= self._next_us

    def keep(self, mark: Mark) -> None:
        """Keep a moment; where they are too many, every other one is forgotten."""
        self._marks.append(mark)
        if len(self._marks) > MARKS:
            del self._marks[1:-1:2]
            self._every_us *= 2
        self._next_us = mark.worked_us + self._every_us

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All that are kept, the earliest first. Any thread may ask."""
        return tuple(self._marks)


class Worked:
    """For how long an instance was worked on in this process: from its first claim here, without the time it was paused."""

    def __init__(self, records: int = 0, counts: Sequence[Counts] = ()) -> None:
        self.records, self.counts = records, [list(each) for each in counts]
        """What had been done before."""
        self._spent_us = 0
        self._since_us: int | None = None

    def go(self, now_us: int) -> None:
        """It is worked on from now on, if it was not."""
        if self._since_us is None:
            self._since_us = now_us

    def stop(self, now_us: int) -> None:
        """It is not worked on any more."""
        self._spent_us, self._since_us = self.until(now_us), None

    def until(self, end_us: int) -> int:
        """Microseconds worked until a time."""
        return self._spent_us + (0 if self._since_us is None else max(0, end_us - self._since_us))


def ended(counts: Counts) -> int:
    """Chunks that are done."""
    return sum(counts[code] for code in _DONE)


class StepWork(NamedTuple):
    """What is known of the work of a step."""

    node: Node
    counts: Counts
    times: Times
    done: bool
    """Whether it is wholly done."""
    before: int = 0
    """Chunks that were done before this process worked on it."""

    @property
    def ended(self) -> int:
        """Chunks that are done."""
        return ended(self.counts)

    @property
    def tries(self) -> float:
        """Attempts that a chunk takes."""
        here = self.ended - self.before
        return max(1.0, self.times.attempts / here) if here > 0 else 1.0


def steps_work(
    nodes: Sequence[Node], counts: Sequence[Counts], times: Sequence[Times], before: Sequence[int]
) -> list[StepWork]:  # fmt: skip
    """What is known of the work of each step."""
    return [StepWork(*each) for each in zip(nodes, counts, times, done_steps(nodes, counts), before, strict=True)]


def expected(steps: Sequence[StepWork]) -> list[float]:
    """Chunks that each step will have: those it has, and as many more as the steps before it have still to give, by what they gave."""
    shares: list[float] = []
    found: list[float] = []
    for step in steps:
        before = [shares[source] for source in step.node.sources]
        come = 1.0 if step.done or not before else sum(before) / len(before)
        total, least = sum(step.counts), 1.0 if step.node.step.kind is Kind.REDUCTION else 0.0
        found.append(max(total / come if come else 0.0, float(total), least))
        shares.append(1.0 if step.done else step.ended / found[-1] if found[-1] else 0.0)
    return found


def usual_us(steps: Sequence[StepWork]) -> float:
    """What a chunk takes of a step of which nothing has ended: the mean of all that has; 1 where nothing is known."""
    return Mark(0, [step.times for step in steps]).mean_us or 1.0


def share(steps: Sequence[StepWork]) -> float:
    """Share of the work that is done, of an instance that has not ended: from 0 to 0.999.

    By the weights of the steps where some were given (``nb.step(weight=)``), else by what their chunks take.
    """
    totals, usual = expected(steps), usual_us(steps)
    parts = [step.ended / total if total else 0.0 for step, total in zip(steps, totals, strict=True)]
    if any(step.node.step.options.weight is not None for step in steps):
        weights = [step.node.weight for step in steps]
    else:
        weights = [total * (step.times.mean_us or usual) for step, total in zip(steps, totals, strict=True)]
    made = sum(weight * (1.0 if step.done else part) for step, weight, part in zip(steps, weights, parts, strict=True))
    return min(made / sum(weights), 0.999) if sum(weights) else 0.0


def rate(records: int, worked_us: int) -> float | None:
    """Records per second of time worked; None while unknown.

    >>> round(rate(50, 600_000_000), 4)
    0.0833
    """
    return records / (worked_us / 1e6) if records and worked_us > 0 else None


def to_come_us(step: StepWork, left: float, marks: Sequence[Mark]) -> float:
    """What an attempt of those that are left will take: as those so far, or ever longer if those did so beyond chance."""
    times, place = step.times, step.node.index
    if times.batches < TREND_BATCHES:
        return times.mean_us
    halves = min(marks, key=lambda mark: abs(mark.times[place].attempts - times.attempts / 2)).times[place]
    later = times.since(halves)
    if not halves.batches or not later.attempts:
        return times.mean_us
    longer = later.mean_us - halves.mean_us
    if not abs(longer) > SURELY * sqrt(halves.error_us**2 + later.error_us**2):
        return times.mean_us
    slope = longer / (times.attempts / 2)
    at_end = later.mean_us + slope * (later.attempts + left) / 2
    return min(max(at_end, later.mean_us / STEEPEST), later.mean_us * STEEPEST)


def at_once(now: Mark, marks: Sequence[Mark]) -> float:
    """How many attempts went on at once of late: time they took, by time worked."""
    until, most = now.worked_us * (1 - LATE_SHARE), now.attempts - LATE_CHUNKS
    good = [mark for mark in marks if mark.worked_us <= until and mark.attempts <= most]
    since = good[-1] if good else marks[0]
    lasted = now.worked_us - since.worked_us
    return (now.spent_us - since.spent_us) / lasted if lasted > 0 else 0.0


def left_us(steps: Sequence[StepWork], marks: Sequence[Mark]) -> list[float] | None:
    """Work left of each step in microseconds; None while too much of it could only be guessed."""
    usual, guessed, found = usual_us(steps), 0.0, list[float]()
    for step, total in zip(steps, expected(steps), strict=True):
        left = 0.0 if step.done else max(0.0, total - step.ended)
        each = to_come_us(step, left, marks) if step.times.attempts else _guess(step, usual)
        found.append(left * step.tries * each)
        guessed += 0.0 if step.times.attempts else found[-1]
    return None if guessed > GUESSED * sum(found) else found


def _guess(step: StepWork, usual: float) -> float:
    """What a chunk takes of a step of which nothing has ended; a reduction is not like the others, and mostly quick."""
    return 0.0 if step.node.step.kind is Kind.REDUCTION else usual


def eta(steps: Sequence[StepWork], now: Mark, marks: Sequence[Mark], idle_us: int = 0) -> float | None:
    """Seconds left if work goes on as it went of late; None while unknown.

    Work left by attempts at once, gate by gate, but no less than a step takes whose chunks may not, or can no more, run all at
    once. It is unknown too once that time has passed since the latest end of an attempt (``idle_us``): slower work has begun.

    Args:
        steps: What is known of each.
        now: How the run stood at the latest end of an attempt.
        marks: How it stood earlier.
        idle_us: Since the latest end.
    """
    left, wide = left_us(steps, marks), at_once(now, marks)
    if left is None or wide <= 0:
        return None
    lasts = _lasts(steps, left, wide)
    return None if idle_us > lasts else (lasts - idle_us) / 1e6


def step_etas(steps: Sequence[StepWork], now: Mark, marks: Sequence[Mark]) -> list[float | None]:
    """Of each step its part of the seconds left; None while unknown."""
    left, wide = left_us(steps, marks), at_once(now, marks)
    return [None] * len(steps) if left is None or wide <= 0 else [work / wide / 1e6 for work in left]


def _lasts(steps: Sequence[StepWork], left: Sequence[float], wide: float) -> float:
    """Microseconds, gate by gate."""
    legs = _legs(steps)
    totals = expected(steps)
    alone = [work / _most(step, total) for step, work, total in zip(steps, left, totals, strict=True)]
    tails = [_tail(step, total, wide) for step, total in zip(steps, totals, strict=True)]
    return sum(
        max(sum(left[place] for place in leg) / wide, *(alone[place] for place in leg))
        + max(tails[place] for place in leg)
        for leg in ([place for place, each in enumerate(legs) if each == number] for number in sorted({*legs}))
    )


def _legs(steps: Sequence[StepWork]) -> list[int]:
    """For each step how many gates are before it."""
    legs: list[int] = []
    for step in steps:
        legs.append(max((legs[source] for source in step.node.sources), default=0) + step.node.gated)
    return legs


def _tail(step: StepWork, total: float, wide: float) -> float:
    """For how long, at the end of a step, workers wait for the last one: by how much the longest of the last chunks exceeds the mean."""
    last = max(1.0, min(round(wide), total - step.ended))
    return 0.0 if step.done else step.times.spread_us * sqrt(2 * log(last)) * (1 - 1 / last)


def _most(step: StepWork, total: float) -> float:
    """How many chunks of a step can go on at once."""
    limit = step.node.step.options.concurrency
    return max(1.0, min(inf if limit is None else limit, total - step.ended))

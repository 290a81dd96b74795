"""Progress and time left, on recorded runs: what was told from 20 % on, beside what was left in truth.

A run is played with an engine's own counters and a clock that jumps from event to event; nothing waits.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.definition import Kind
from nbbatch.engine.decide import no_chunks
from nbbatch.engine.prospect import MARKS, Course, Mark, StepWork, Times, eta, rate, share, steps_work
from nbbatch.engine.state import LiveInstance
from nbbatch.worker.context import StoredParams

QUEUED, WAITING, RUNNING, DONE = (
    status.code
    for status in (ChunkStatus.QUEUED, ChunkStatus.GATE_WAITING, ChunkStatus.IN_PROGRESS, ChunkStatus.COMPLETED)
)
SECOND = 1_000_000
Takes = Callable[[int, int], float]
"""Step and number of a chunk → seconds."""


@nb.step
def find(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def pages(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def price(n: int) -> int:
    return n


@nb.step(gate=True)
def book(n: int) -> int:
    return n


@nb.step(gate=True, concurrency=1)
def one_by_one(n: int) -> int:
    return n


@nb.step
def report(found: Iterable[int]) -> int:
    return sum(found)


class Played:
    """A run that is played: which chunk runs when is decided as the engine does, later steps first."""

    def __init__(self, job: nb.Job[Any, Any], given: Callable[[int, int], int], takes: Takes, workers: int) -> None:
        row = InstanceRow(
            id=1, job=job.name, version=1, key=None, parent=None, identity="", params=b"1", shape=job.shape, retain="all",
            status=InstanceStatus.IN_PROGRESS, paused=False, failing=None, created_us=0, started_us=0, ended_us=None, progress=0.0,
            error=None, report=None,
        )  # fmt: skip
        self.live = LiveInstance(job, row, StoredParams(job.params, b"1"))
        self.now, self.workers = 0, workers
        self._given, self._takes = given, takes
        self._running: list[tuple[int, int, int, int]] = []
        self._numbers = [count() for _ in self.live.steps]
        self._order = count()
        self.live.steps[0].counts[QUEUED] = 1
        self._limits = [step.node.step.options.concurrency or workers for step in self.live.steps]
        self.live.worked.go(0)

    def go(self) -> bool:
        """To the next end of a chunk; False: the run is over."""
        self._start()
        if not self._running:
            return False
        self.now, _, place, took = heapq.heappop(self._running)
        step = self.live.steps[place]
        step.counts[RUNNING] -= 1
        step.counts[DONE] += 1
        if step.node.step.kind is not Kind.NONE:
            outputs = self._given(place, step.counts[DONE]) if step.node.step.kind is Kind.MANY else 1
            for target in step.node.targets:
                after = self.live.steps[target] if target >= 0 else None
                if after is not None and after.node.step.kind is not Kind.REDUCTION:
                    after.counts[after.waits] += outputs
        self.live.learn(step, 1, took, self.now)
        self._open()
        return True

    def _open(self) -> None:
        for step in self.live.steps:
            before = self.live.steps[: step.node.index]
            idle = all(not any(each.counts[code] for code in (QUEUED, WAITING, RUNNING)) for each in before)
            if not step.opened and idle:
                step.open()
                step.counts[QUEUED] += step.node.step.kind is Kind.REDUCTION

    def _start(self) -> None:
        for place in reversed(range(len(self.live.steps))):
            step = self.live.steps[place]
            while (
                step.counts[QUEUED] and len(self._running) < self.workers and step.counts[RUNNING] < self._limits[place]
            ):
                step.counts[QUEUED] -= 1
                step.counts[RUNNING] += 1
                took = round(SECOND * self._takes(place, next(self._numbers[place])))
                heapq.heappush(self._running, (self.now + took, next(self._order), place, took))

    def rest(self, seconds: float) -> None:
        """Be paused for so long, from an end of all that runs on."""
        self.live.worked.stop(self.now)
        self.now += round(seconds * SECOND)
        self._running = [(at + round(seconds * SECOND), *rest) for at, *rest in self._running]  # type: ignore[misc]
        self.live.worked.go(self.now)

    def next_us(self) -> int:
        """When the next chunk ends."""
        self._start()
        return self._running[0][0] if self._running else self.now


def readings(run: Played, pauses: Iterable[float] = ()) -> tuple[list[tuple[float, float]], list[float]]:
    """From 20 % on what was told 200 times, evenly, beside what was left of the time worked; and all progress."""
    told: list[tuple[int, float | None, float]] = []
    at, rested, rests = 0.0, 0, list(pauses)
    while True:
        upto = run.next_us()
        while at < upto:
            told.append((round(at) - rested, run.live.eta(round(at)), run.live.progress()))
            at += 0.05 * SECOND
        if not run.go():
            break
        if rests and run.live.share > 0.3:
            run.rest(rests[0])
            rested += round(rests.pop() * SECOND)
            at += rested
    end = run.now - rested
    thin = max(1, len(told) // 400)
    pairs = [(eta, (end - when) / SECOND) for when, eta, share in told[::thin] if share >= 0.2 and eta is not None]
    return pairs, [share for *_, share in told]


def even(_: int, __: int) -> float:
    return 1.0


def jitter(seed: int, spread: float) -> Takes:
    chance = random.Random(seed)
    return lambda step, _: chance.lognormvariate(0, spread) if step == 1 else 0.1


def tailed(seed: int) -> Takes:
    """One in twelve takes ten times as long."""
    chance = random.Random(seed)
    return lambda step, _: (5.0 if chance.random() < 1 / 12 else 0.5) if step == 1 else 0.1


def by_step(*seconds: float) -> Takes:
    chance = random.Random(5)
    return lambda step, _: seconds[step] * chance.uniform(0.8, 1.2)


def growing(factor: float, n: int) -> Takes:
    return lambda step, number: 1.0 if step != 1 else 0.5 * (1 + (factor - 1) * number / n)


@nb.step
def six(n: int) -> None:
    pass


@nb.step(weight=0.2)
def fifth(n: int) -> Iterator[int]:
    yield from range(n)


SIX = nb.Job("six", six)
SECONDS = nb.Job("seconds", find >> six)
WEIGHED = nb.Job("weighed", fifth >> six)
JOBS = {
    "plain": nb.Job("plain", find >> price >> report),
    "gated": nb.Job("gated", find >> price >> book >> report),
    "fans": nb.Job("fans", find >> pages >> price >> report),
    "narrow": nb.Job("narrow", find >> price >> one_by_one >> report),
}
RUNS: dict[str, tuple[str, Callable[[int, int], int], Takes, int]] = {
    "even": ("plain", lambda _, __: 200, even, 4),
    "one worker": ("plain", lambda _, __: 60, even, 1),
    "few and long": ("plain", lambda _, __: 24, lambda step, _: 10.0 if step == 1 else 0.1, 4),
    "a slow listing first": ("plain", lambda _, __: 200, lambda step, _: 20.0 if step == 0 else 1.0, 4),
    "a quick listing": ("plain", lambda _, __: 400, by_step(0.01, 0.3, 0.1), 6),
    "skewed": ("plain", lambda _, __: 400, jitter(1, 1.0), 4),
    "heavy tail": ("plain", lambda _, __: 500, tailed(3), 8),
    "growing twofold": ("plain", lambda _, __: 300, growing(2, 300), 4),
    "growing fivefold": ("plain", lambda _, __: 300, growing(5, 300), 4),
    "quicker and quicker": ("plain", lambda _, __: 300, growing(0.3, 300), 4),
    "two steps": ("gated", lambda _, __: 200, by_step(0.5, 1.0, 0.4, 0.1), 4),
    "the second step is slow": ("gated", lambda _, __: 200, by_step(0.5, 0.3, 1.0, 0.1), 4),
    "fan-outs one by one": ("fans", lambda step, _: 40 if step == 0 else 8, by_step(1.0, 0.5, 0.8, 0.1), 4),
    "uneven fan-outs": ("fans", lambda step, number: 60 if step == 0 else number % 13, by_step(1.0, 0.7, 0.8, 0.1), 4),
    "a step at a time": ("narrow", lambda _, __: 100, by_step(0.5, 1.0, 0.5, 0.1), 4),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("pauses", [(), (300.0,)], ids=["straight", "paused"])
def test_from_a_fifth_on_nine_in_ten_times_left_are_near_the_truth(name: str, pauses: tuple[float, ...]) -> None:
    job, given, takes, workers = RUNS[name]
    pairs, shares = readings(Played(JOBS[job], given, takes, workers), pauses)
    good = [told for told, left in pairs if left / 1.5 - 0.1 <= told <= left * 1.5 + 0.1]

    assert len(pairs) > 100
    assert len(good) >= 0.9 * len(pairs), [
        (round(told, 1), round(left, 1)) for told, left in pairs[:: len(pairs) // 20]
    ]
    assert shares == sorted(shares)


def standing(job: nb.Job[Any, Any], counts: list[dict[int, int]], times: list[Times]) -> list[StepWork]:
    rows = [no_chunks() for _ in counts]
    for row, given in zip(rows, counts, strict=True):
        for code, chunks in given.items():
            row[code] = chunks
    return steps_work(job.current(), rows, times, [0] * len(rows))


def test_progress_rate_and_time_left_of_six_chunks_half_done() -> None:
    """L4"""
    times = Times().plus(3, 600 * SECOND)
    steps = standing(SIX, [{DONE: 3, RUNNING: 3}], [times])
    speed = rate(0 + 25 + 25, 600 * SECOND)

    assert share(steps) == 0.5
    assert speed is not None
    assert round(speed, 4) == 0.0833
    assert eta(steps, Mark(600 * SECOND, [times]), [Mark(0, [Times()])]) == 600.0


def test_time_left_counts_down_between_two_ends_and_is_unknown_once_it_is_over() -> None:
    times = Times().plus(3, 600 * SECOND)
    steps, marks = standing(SIX, [{DONE: 3, RUNNING: 3}], [times]), [Mark(0, [Times()])]
    told = [eta(steps, Mark(600 * SECOND, [times]), marks, idle * SECOND) for idle in (0, 200, 600, 601)]

    assert told == [600.0, 400.0, 0.0, None]


def test_progress_and_time_left_weigh_chunks_by_how_long_their_step_takes() -> None:
    first, second = Times().plus(1, 1_000), Times()
    for _ in range(10):
        second = second.plus(1, SECOND)
    steps = standing(SECONDS, [{DONE: 1}, {DONE: 10, QUEUED: 90}], [first, second])

    assert share(steps) == pytest.approx(0.1, rel=0.01)
    assert eta(steps, Mark(10 * SECOND, [first, second]), [Mark(0, [Times()] * 2)]) == pytest.approx(90.0, rel=0.01)


def test_a_listing_alone_is_next_to_nothing_of_the_work_and_no_time_is_told_of_what_has_not_begun() -> None:
    listed = Times().plus(1, 100_000)
    steps = standing(SECONDS, [{DONE: 1}, {QUEUED: 600}], [listed, Times()])

    assert share(steps) < 0.01
    assert eta(steps, Mark(SECOND, [listed, Times()]), [Mark(0, [Times()] * 2)]) is None


def test_a_run_of_which_little_happened_is_not_told_from_its_weights_unless_they_were_given() -> None:
    none = [Times(), Times()]

    assert share(standing(SECONDS, [{DONE: 1}, {QUEUED: 99}], none)) == 0.01
    assert share(standing(WEIGHED, [{DONE: 1}, {QUEUED: 99}], none)) == pytest.approx(0.2)


def test_moments_of_a_run_are_few_and_spread_over_all_of_it() -> None:
    course = Course(1)
    for second in range(1, 5_000):
        if course.is_due(second * SECOND):
            course.keep(Mark(second * SECOND, [Times()]))
    kept = [mark.worked_us / SECOND for mark in course.marks]

    assert len(kept) <= MARKS + 1
    assert kept[0] == 0
    assert kept[-1] > 4_000
    assert max(b - a for a, b in itertools.pairwise(kept)) < 1_000

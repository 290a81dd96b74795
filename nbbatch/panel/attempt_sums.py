"""Sums over the attempts of an instance: each event is read once, a page at a time, and only sums are kept.

So a look at a run of a million chunks costs what happened since the last look, and never more than a page of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.engine.now import Running
from nbbatch.heal.failures import Cause, alike, cause
from nbbatch.pictures.timeline import BINS, LANES, SINGLE, Bar
from nbbatch.store import frames
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

PAGE = 40_000
"""Events read in one go; some 20 ms, several times that beside busy workers."""
SECOND_US = 1_000_000
RECENT = 300
"""Seconds that rates are told of …"""
POINTS = 60
"""… in so many points at most."""
LATELY = 20
"""Seconds that the rate of a step is the mean of."""
SHARE = 0.02
"""Of a core's time that who looks again and again takes to keep up with a run that goes on."""
GROUPS = 40
"""Kinds of errors told apart; what comes later is counted together."""
_FINE = 8
"""Steps of the scale of durations from one power of two to the next: figures are right to about 5 %."""
_OTHERS = Cause("", "other errors", "", "")

Page = tuple[int, int, int]
"""An instance, and the events to read: those after the first id, up to the second."""


class Timeline:
    """How busy each worker was, and with which step, in at most so many bins, which widen as time goes on."""

    def __init__(self, bins: int = BINS, lanes: int = LANES) -> None:
        self._bins, self._lanes = bins, lanes
        self.first_us: int | None = None
        self.last_us = 0
        self._width_us = 1_000
        self._spent: dict[tuple[str, int, int], list[int]] = {}
        """(worker, bin, step) → microseconds, attempts begun, errors."""

    def add(self, store: Reader, page: Page) -> None:
        """Read the attempts in a page of events."""
        ((first, last),) = store.fetch("page_extent", *page)
        if first is None:
            return
        begun: int = first if self.first_us is None else self.first_us
        if first < begun:  # of a chunk that was begun first and ended late: all bins move, by whole ones
            by = -(-(begun - first) // self._width_us)
            begun -= by * self._width_us
            self._spent = {(worker, place + by, step): sums for (worker, place, step), sums in self._spent.items()}
        self.first_us, self.last_us = begun, max(self.last_us, last)
        while (self.last_us - begun) // self._width_us >= self._bins:
            self._widen()
        for worker, place, step, *sums in store.fetch("page_spent", *page, begun, self._width_us):
            self._put((worker, place, step), sums)

    def _widen(self) -> None:
        """Bins of twice the width."""
        before, self._spent, self._width_us = self._spent, {}, self._width_us * 2
        for (worker, place, step), sums in before.items():
            self._put((worker, place // 2, step), sums)

    def _put(self, key: tuple[str, int, int], sums: Sequence[int]) -> None:
        before = self._spent.get(key, (0, 0, 0))
        self._spent[key] = [a + b for a, b in zip(before, sums, strict=True)]

    def spent(self) -> Counter[int]:
        """Microseconds that attempts of each step took in all."""
        spent = Counter[int]()
        for (_, _, step), (micros, _, _) in self._spent.items():
            spent[step] += micros
        return spent

    def drawn(
        self, store: Reader, instance: int, upto: int, single: int = SINGLE, running: Sequence[Running] = (), now_us: int = 0
    ) -> tuple[list[str], list[Bar], float | None]:  # fmt: skip
        """The names of the lanes in order, the bars (one for each attempt where they are not too many), and when second 0 was.

        Args:
            store: Where single attempts are read.
            instance: Whose.
            upto: The last event that was added.
            single: Attempts that have bars of their own, at most.
            running: Attempts that go on; they have bars of their own in any case, but for those of very many workers.
            now_us: Until when.
        """
        going = [each for each in running if each.worker]
        starts = [each.started_us for each in going]
        began = min([self.first_us, *starts] if self.first_us is not None else starts, default=0)
        shift = ((self.first_us or began) - began) / 1e6
        workers = {worker for worker, _, _ in self._spent} | {each.worker for each in going}
        names = sorted(workers, key=lambda worker: (len(worker), worker))
        at = began / 1e6 if names else None
        if len(names) > self._lanes:
            return [f"{len(names)} workers"], self._area(len(names), shift), at
        lanes = {worker: place for place, worker in enumerate(names)}
        many = sum(begun for _, begun, _ in self._spent.values()) > single
        bars = self._merged(lanes, shift) if many else _single(store, instance, upto, lanes, began)
        for each in going:
            span = (each.started_us - began) / 1e6, (max(now_us, each.started_us) - began) / 1e6
            bars.append(Bar(lanes[each.worker], each.step, *span, 1.0, 1, 0, ChunkStatus.IN_PROGRESS.value))
        return [name or "unnamed" for name in names], bars, at

    def _merged(self, lanes: Mapping[str, int], shift: float) -> list[Bar]:
        """A bar per lane and bin: how busy it was, and with which step most."""
        merged: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        for (worker, place, step), (spent, begun, failed) in self._spent.items():
            merged.setdefault((lanes[worker], place), []).append((spent, step, begun, failed))
        found: list[Bar] = []
        for (lane, place), parts in sorted(merged.items()):
            spent, _, begun, failed = map(sum, zip(*parts, strict=True))
            busy = min(1.0, spent / self._width_us)
            found.append(Bar(lane, max(parts)[1], *self._span(place, shift), busy, begun, failed, ""))
        return found

    def _area(self, workers: int, shift: float) -> list[Bar]:
        """How many of many workers were busy, by step."""
        merged: dict[tuple[int, int], list[list[int]]] = {}
        for (_, place, step), sums in self._spent.items():
            merged.setdefault((place, step), []).append(sums)
        found: list[Bar] = []
        for (place, step), parts in sorted(merged.items()):
            spent, begun, failed = map(sum, zip(*parts, strict=True))
            busy = min(1.0, spent / self._width_us / workers)
            found.append(Bar(0, step, *self._span(place, shift), busy, begun, failed, ""))
        return found

    def _span(self, place: int, shift: float) -> tuple[float, float]:
        """From when to when a bin is."""
        return place * self._width_us / 1e6 + shift, (place + 1) * self._width_us / 1e6 + shift


def _single(store: Reader, instance: int, upto: int, lanes: Mapping[str, int], began_us: int) -> list[Bar]:
    """A bar per attempt that ended."""
    return [
        Bar(lanes[worker], step, (start - began_us) / 1e6, (end - began_us) / 1e6, 1.0, 1, int(failed), status)
        for worker, step, start, end, failed, status in store.fetch("timeline_attempts", instance, upto)
    ]


def bar_frame(steps: Sequence[str], lanes: Sequence[str], bars: Sequence[Bar]) -> pl.DataFrame:
    """Merged bars as a frame."""
    import polars as pl

    rows: list[dict[str, Any]] = [
        {"worker": lanes[bar.lane], "step": steps[bar.step], "start_seconds": bar.start, "end_seconds": bar.end,
         "busy": bar.busy, "attempts": bar.attempts, "failed": bar.failed}
        for bar in bars
    ]  # fmt: skip
    return pl.DataFrame(rows)


class Recent:
    """What ended in each of the last seconds, for rates of late."""

    def __init__(self) -> None:
        self._ended: dict[int, dict[int, tuple[int, int]]] = {}
        """Second → step → chunks, records."""

    def add(self, store: Reader, page: Page, newest_us: int) -> None:
        """Read what ended in a page of events not long before the newest; older seconds are forgotten."""
        oldest = newest_us // SECOND_US - RECENT
        for second, step, chunks, records in store.fetch("page_ended", *page, oldest * SECOND_US):
            before = self._ended.setdefault(second, {}).get(step, (0, 0))
            self._ended[second][step] = (before[0] + chunks, before[1] + records)
        for second in [each for each in self._ended if each < oldest]:
            del self._ended[second]

    def records(self, since_us: int, now_us: int) -> tuple[float, list[float]]:
        """Seconds between two points, and records per second at each, the oldest first, until now.

        Args:
            since_us: When the run began.
            now_us: The present.
        """
        now = now_us // SECOND_US
        span = max(1, min(RECENT, now - since_us // SECOND_US))
        width = -(-span // POINTS)
        first = now - span // width * width
        sums = [0] * (span // width)
        for second, steps in tuple(self._ended.items()):
            if first <= second < now:
                sums[(second - first) // width] += sum(records for _, records in steps.values())
        return float(width), [each / width for each in sums]

    def chunks(self, step: int, since_us: int, now_us: int) -> float:
        """Chunks of a step per second of late."""
        now = now_us // SECOND_US
        span = max(1, min(LATELY, now - since_us // SECOND_US))
        return sum(self._ended.get(now - back, {}).get(step, (0, 0))[0] for back in range(1, span + 1)) / span


@dataclass(slots=True)
class ErrorGroup:
    """Attempts that ended in an error of one cause."""

    cause: Cause
    count: int = 0
    failed: int = 0
    """Of these how many left their chunk FAILED."""
    event: int = 0
    """The newest one's …"""
    chunk: int = 0
    """… and its chunk, and what it said."""
    said: str = ""

    def add(self, count: int, failed: int, event: int, chunk: int, said: str) -> None:
        """Count more of them, and keep the newest."""
        self.count += count
        self.failed += failed
        if event > self.event:
            self.event, self.chunk, self.said = event, chunk, said


@dataclass(slots=True)
class AttemptSums:
    """Sums over the events of one instance, up to the event ``seen``."""

    instance: int
    timeline: Timeline = field(default_factory=lambda: Timeline(bins=72, lanes=8))  # what bounds a message
    recent: Recent = field(default_factory=Recent)
    names: list[str] = field(default_factory=list[str])
    """Of its steps."""
    seen: int = 0
    whole: bool = False
    """Whether the last `read` came to the newest event."""
    durations: dict[int, Counter[int]] = field(default_factory=dict[int, Counter[int]])
    errors: dict[Cause, ErrorGroup] = field(default_factory=dict[Cause, ErrorGroup])
    due: float = 0.0
    """When `keep_up` reads on, by the monotonic clock."""
    counted: tuple[tuple[InstanceStatus, int | None, int], list[dict[ChunkStatus, int]], int] | None = None
    """Chunks by state of an instance that is not live, and how many were reused, after its state, end and newest event then."""

    def read(self, store: Reader) -> bool:
        """Read the next page of events; returns whether there was any."""
        if not self.seen:
            ((before,),) = store.fetch("first_event", self.instance)
            if before is None:
                self.whole = True
                return False
            self.seen, self.names = before, frames.step_names(store, self.instance)
        ((newest,),) = store.fetch("newest_event", self.seen)
        self.whole = newest <= self.seen + PAGE
        if newest <= self.seen:
            return False
        page = (self.instance, self.seen, min(newest, self.seen + PAGE))
        self.timeline.add(store, page)
        self.recent.add(store, page, self.timeline.last_us)
        for step, size, count in store.fetch("page_durations", *page, _FINE):
            self.durations.setdefault(step, Counter())[size] += count
        for step, kind, head, raised, count, lost, event, chunk in store.fetch("page_errors", *page):
            found = cause(self.names[int(step)], kind, head, raised)
            found = found if found in self.errors or len(self.errors) < GROUPS else _OTHERS
            self.errors.setdefault(found, ErrorGroup(found)).add(count, lost, event, chunk, head)
        self.seen = page[2]
        return True

    def catch_up(self, store: Reader, seconds: float) -> None:
        """Read pages up to the newest event that there is by then, for so long at most; none while the store is busy."""
        if store.busy:
            return
        until = time.monotonic() + seconds
        while self.read(store) and not self.whole and time.monotonic() < until:
            pass

    def keep_up(self, store: Reader) -> None:
        """Read a page if that leaves the run its time: one that ends ten thousands of chunks a second is caught up with at its end."""
        if time.monotonic() >= self.due:
            spent = time.thread_time()
            self.catch_up(store, 0.0)
            self.due = time.monotonic() + (time.thread_time() - spent) / SHARE

    def quantile(self, step: int, share: float) -> float | None:
        """Seconds that this share of a step's attempts took at most, right to about 5 %; None without any."""
        sizes = self.durations.get(step)
        return quantile(sizes, share) if sizes else None

    def causes(self) -> int:
        """How many causes left chunks FAILED."""
        return sum(group.failed > 0 for group in self.error_groups())

    def error_groups(self) -> list[ErrorGroup]:
        """Errors by cause, the most frequent first."""
        groups: list[ErrorGroup] = []
        for each, parts in alike({each: [group] for each, group in self.errors.items()}).items():
            groups.append(ErrorGroup(each))
            for part in parts:
                groups[-1].add(part.count, part.failed, part.event, part.chunk, part.said)
        return sorted(groups, key=lambda group: (-group.count, group.event))


def quantile(sizes: Mapping[int, int], share: float) -> float:
    """The duration in seconds below which this share lies, from counts by size.

    >>> quantile({0: 1, 80: 98, 160: 1}, 0.5)
    0.0010693363532057
    """
    left = share * sum(sizes.values())
    for size in sorted(sizes):
        left -= sizes[size]
        if left <= 0:
            return round(2 ** ((size + 0.5) / _FINE) / 1e6, 16)
    return 0.0

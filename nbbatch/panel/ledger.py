"""What a panel has read of an instance's events so far: each event is read once, a page at a time, and only sums are kept.

So a look at a run of a million chunks costs what happened since the last look, and never more than a page of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.pictures.timeline import Bar
from nbbatch.store.database import Store

PAGE = 10_000
"""Events read in one go; about 5 ms, several times that beside busy workers."""
BINS = 72
"""Places across the timeline …"""
LANES = 8
"""… and its lanes, the last of which is of all workers left: their product bounds a message."""
GROUPS = 40
"""Kinds of failures told apart; what comes later is counted together."""
_FINE = 8
"""Steps of the scale of durations from one power of two to the next: figures are right to about 5 %."""


@dataclass(slots=True)
class Failures:
    """Errors of one step that say the same but for numbers."""

    step: int
    type: str
    said: str
    """Of the newest one."""
    count: int
    event: int
    """The newest one's."""
    chunk: int


@dataclass(slots=True)
class Ledger:
    """Sums over the events of one instance, up to the event ``seen``."""

    instance: int
    seen: int = 0
    whole: bool = False
    """Whether the last `read` came to the newest event."""
    first_us: int | None = None
    last_us: int = 0
    width_us: int = 1_000
    lanes: dict[str, int] = field(default_factory=dict[str, int])
    spent: dict[tuple[int, int, int], list[int]] = field(default_factory=dict[tuple[int, int, int], list[int]])
    """(lane, bin, step) → microseconds, attempts begun, errors."""
    durations: dict[int, Counter[int]] = field(default_factory=dict[int, Counter[int]])
    failures: dict[tuple[int, str, str], Failures] = field(default_factory=dict[tuple[int, str, str], Failures])
    counted: tuple[tuple[InstanceStatus, int | None, int], list[dict[ChunkStatus, int]]] | None = None
    """Chunks by state of an instance that is not live, with its state, end and newest event then."""

    def read(self, store: Store) -> bool:
        """Read the next page of events; returns whether there was any."""
        if self.first_us is None and not self._begin(store):
            return False
        ((newest,),) = store.fetch("newest_event", self.seen)
        self.whole = newest <= self.seen + PAGE
        if newest <= self.seen:
            return False
        page = (self.instance, self.seen, min(newest, self.seen + PAGE))
        self._add_times(store, page)
        for step, size, count in store.fetch("page_durations", *page, _FINE):
            self.durations.setdefault(step, Counter())[size] += count
        self._add_failures(store, page)
        self.seen = page[2]
        return True

    def _begin(self, store: Store) -> bool:
        ((before, started),) = store.fetch("first_event", self.instance)
        if started is None:
            self.whole = True
            return False
        self.seen, self.first_us, self.last_us = before, started, started
        return True

    def _add_times(self, store: Store, page: tuple[int, int, int]) -> None:
        ((first, last),) = store.fetch("page_extent", *page)
        if last is None or self.first_us is None:
            return
        if first < self.first_us:  # of a chunk that was begun first and ended late
            self._begin_at(first)
        self.last_us = max(self.last_us, last)
        while (self.last_us - self.first_us) // self.width_us >= BINS:
            self._widen()
        for worker, place, step, spent, begun, failed in store.fetch("page_spent", *page, self.first_us, self.width_us):
            lane = self.lanes.setdefault(worker, len(self.lanes))
            self._put((min(lane, LANES - 1), place, step), spent, begun, failed)

    def _begin_at(self, first: int) -> None:
        """Move all bins later, by whole ones."""
        assert self.first_us is not None
        by = -(-(self.first_us - first) // self.width_us)
        self.first_us -= by * self.width_us
        self.spent = {(lane, place + by, step): sums for (lane, place, step), sums in self.spent.items()}

    def _widen(self) -> None:
        """Bins of twice the width."""
        before, self.spent, self.width_us = self.spent, {}, self.width_us * 2
        for (lane, place, step), sums in before.items():
            self._put((lane, place // 2, step), *sums)

    def _put(self, key: tuple[int, int, int], spent: int, begun: int, failed: int) -> None:
        sums = self.spent.setdefault(key, [0, 0, 0])
        sums[0] += spent
        sums[1] += begun
        sums[2] += failed

    def _add_failures(self, store: Store, page: tuple[int, int, int]) -> None:
        for step, kind, same, count, event, chunk, said in store.fetch("page_errors", *page):
            group = self._group(step, kind, same or "")
            group.count += count
            if event > group.event:
                group.event, group.chunk, group.said = event, chunk, said or ""

    def _group(self, step: int, kind: str, same: str) -> Failures:
        key = (step, kind, same)
        if key not in self.failures and len(self.failures) >= GROUPS:
            key = (-1, "other errors", "")
        return self.failures.setdefault(key, Failures(key[0], key[1], "", 0, 0, 0))

    # --- what it says -----------------------------------------------------------------------------

    def quantile(self, step: int, share: float) -> float | None:
        """Seconds that this share of a step's attempts took at most, right to about 5 %; None without any."""
        sizes = self.durations.get(step)
        return quantile(sizes, share) if sizes else None

    def lane_names(self) -> list[str]:
        """Names of the lanes, in order."""
        names = [worker or "unnamed" for worker in self.lanes]
        return names if len(names) <= LANES else [*names[: LANES - 1], f"{len(names) - LANES + 1} others"]

    def bars(self) -> list[Bar]:
        """A bar per lane and place: how busy it was, and with which step most."""
        merged: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        for (lane, place, step), (spent, begun, failed) in self.spent.items():
            merged.setdefault((lane, place), []).append((spent, step, begun, failed))
        width = self.width_us / 1e6
        return [
            Bar(
                lane, max(parts)[1], place * width, (place + 1) * width,
                min(1.0, sum(part[0] for part in parts) / self.width_us),
                sum(part[2] for part in parts), sum(part[3] for part in parts), "",
            )
            for (lane, place), parts in sorted(merged.items())
        ]  # fmt: skip

    def groups(self) -> list[Failures]:
        """Kinds of failures, the most frequent first."""
        return sorted(self.failures.values(), key=lambda group: (-group.count, group.event))


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

"""What ``concurrency=``, ``rate=`` and ``timeout=`` of steps allow now, over all instances of a batch.

All of it belongs to the dispatcher thread, and none of it is asked for steps without such an option. Starts are kept in
memory only: what was started in the second before a restart is not counted after it.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from itertools import count
from typing import Generic, TypeVar

from nbbatch.definition import Options

Name = tuple[str, str]
"""A job's name and a step's."""
SECOND_US = 1_000_000


T = TypeVar("T")


def window(rate: float) -> tuple[int, int]:
    """The starts that a rate allows in any stretch of time, and its length in microseconds.

    >>> window(10), window(2.5), window(0.5)
    ((10, 1000000), (2, 1000000), (1, 2000000))
    """
    return (int(rate), SECOND_US) if rate >= 1 else (1, round(SECOND_US / rate))


class Limits:
    """Who may start now."""

    def __init__(self) -> None:
        self._starts: dict[Name, deque[int]] = {}
        self._promised = Counter[Name]()
        """Claimed, and to be started once that is stored."""
        self.due_us: int | None = None
        """When a start that was refused since the last `forget_refusals` is allowed; None: none was."""

    def room(self, name: Name, options: Options, running: int, now_us: int) -> int:
        """How many chunks of a step may be claimed.

        Args:
            name: Of the step.
            options: Its options.
            running: Its chunks that are claimed, in all instances.
            now_us: The present.
        """
        free = 1_000_000 if options.concurrency is None else options.concurrency - running
        return free if options.rate is None or free <= 0 else min(free, self._by_rate(name, options.rate, now_us))

    def _by_rate(self, name: Name, rate: float, now_us: int) -> int:
        most, length = window(rate)
        starts = self._starts.setdefault(name, deque())
        while starts and starts[0] <= now_us - length:
            starts.popleft()
        room = most - len(starts) - self._promised[name]
        if room <= 0 and starts:
            due = starts[0] + length
            self.due_us = due if self.due_us is None else min(due, self.due_us)
        return room

    def promise(self, name: Name, chunks: int) -> None:
        """Count chunks that are claimed and not yet started."""
        self._promised[name] += chunks

    def start(self, name: Name, chunks: int, now_us: int) -> None:
        """Count chunks that start now."""
        self._promised[name] -= chunks
        self._starts.setdefault(name, deque()).extend([now_us] * chunks)

    def forget_refusals(self) -> None:
        """Begin a new round of asking."""
        self.due_us = None

    def forget_promises(self) -> None:
        """What was claimed is not stored and will not start."""
        self._promised.clear()


class Deadlines(Generic[T]):
    """What has to end by a time; the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._order = count()

    def add(self, due_us: int, what: T) -> None:
        """Have it given by `pop` from ``due_us`` on."""
        heapq.heappush(self._heap, (due_us, next(self._order), what))

    @property
    def due_us(self) -> int | None:
        """The earliest time; None: there is none."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now_us: int) -> list[T]:
        """All that is due, taken away."""
        due: list[T] = []
        while self._heap and self._heap[0][0] <= now_us:
            due.append(heapq.heappop(self._heap)[2])
        return due

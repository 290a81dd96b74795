"""Whose turn it is to look at a store, and how much of its owner's time that may take."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

SHARE = 0.05
"""Of one core's time that looks may take while the engine works …"""
CREDIT = 0.5
"""… beyond which so many seconds may be taken at once."""
RESERVE = 0.2
"""Seconds that who draws again and again leaves to those who ask once; a round of a panel's reads takes some 0.04."""


class Meter:
    """How much time looks may take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._since, self._busy = CREDIT, clock(), False

    def wait(self, busy: bool) -> float:
        """Seconds until the next look may begin."""
        now = self._clock()
        self._left = min(CREDIT, self._left + (now - self._since) * SHARE)
        self._since, self._busy = now, busy
        return max(0.0, -self._left / SHARE) if busy else 0.0

    def is_spare(self, busy: bool) -> bool:
        """Whether a round of several looks can begin and will hardly wait in its midst."""
        self.wait(busy)
        return not busy or self._left >= RESERVE

    def took(self, seconds: float) -> None:
        """A look has taken so long; while nothing ran it cost nobody anything."""
        if self._busy:
            self._left -= seconds


class Turns:
    """One at a time, in the order in which they came: a lock of Python's lets whoever is fastest go first, again and again."""

    def __init__(self) -> None:
        self._guard, self._queue = threading.Lock(), deque[threading.Event]()

    def __enter__(self) -> None:
        mine = threading.Event()
        with self._guard:
            self._queue.append(mine)
            first = self._queue[0] is mine
        if not first:
            mine.wait()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._queue.popleft()
            if self._queue:
                self._queue[0].set()

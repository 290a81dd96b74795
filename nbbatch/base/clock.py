"""The computer's clock, as the engine and its workers read it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

LOOK_SECONDS = 0.25
"""Between two looks of somebody who waits."""
T = TypeVar("T")


class Clock(Protocol):
    """What the engine asks about time."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        ...

    def steady(self) -> int:
        """Microseconds of a clock that nobody sets: for how long something takes."""
        ...

    def until(self, due_us: int) -> float | None:
        """Seconds to sleep until then; None: until woken."""
        ...

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when time was moved by hand."""
        ...


class SystemClock:
    """Time that never goes back.

    It follows the computer's clock forward. Where that is set back, it continues from where it was: what is due in ten
    seconds is due in ten seconds, and no attempt ends before it began. Opening a store anew follows the clock again.
    """

    def __init__(self) -> None:
        self._offset = -(2**63)
        """From the steady clock to the time since 1970, in nanoseconds."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        wall, steady = time.time_ns(), time.monotonic_ns()
        if (
            offset := wall - steady
        ) > self._offset:  # a worker asks once for each attempt: max() would cost a third more
            self._offset = offset
        return (steady + self._offset) // 1000

    def steady(self) -> int:
        """Microseconds since some moment, of a clock that nobody sets: for how long something takes."""
        return steady_us()

    def until(self, due_us: int) -> float | None:
        """Seconds until then, at least 0."""
        return max(0.0, (due_us - self.now()) / 1e6)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Nothing to do: this clock is not moved by hand."""


def steady_us() -> int:
    """Microseconds since the computer started, or so; the same in all of its processes."""
    return time.monotonic_ns() // 1000


def result_of(ending: Future[T], timeout: float | None, look: Callable[[], object]) -> T:
    """Wait for a future's result, and look from time to time at what it comes of, in this thread.

    Raises:
        TimeoutError: It is not there in time.
    """
    until = float("inf") if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return ending.result(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
        except TimeoutError:
            if ending.done() or time.monotonic() >= until:
                raise
        look()

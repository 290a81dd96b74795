"""What the tests share: a clock moved by hand, and ways to wait for the engine without sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nbbatch as nb

START_US = 1_700_000_000_000_000


class HandClock:
    """Time that moves only by `advance`."""

    def __init__(self) -> None:
        self._now = START_US
        self._wakes: list[Callable[[], None]] = []

    def now(self) -> int:
        return self._now

    def until(self, due_us: int) -> float | None:
        return 0.0 if due_us <= self._now else None

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    def advance(self, seconds: float) -> None:
        self._now += round(seconds * 1e6)
        for wake in self._wakes:
            wake()


def engine(batch: nb.Batch) -> Any:
    return batch._engine


def settle(batch: nb.Batch) -> None:
    """Wait until nothing is in flight but what waits for sub-jobs, and nothing can be claimed now.

    A call is answered before the turn that takes what arrived with it, so two quiet answers in a row are needed.
    """
    quiet, inner = 0, engine(batch)
    while quiet < 2:
        busy = inner.call(
            lambda: any(each.lane is not inner._subjobs for each in inner.flights) or not inner._inbox.empty()
        )
        quiet = 0 if busy else quiet + 1


def statuses(run: nb.JobHandle[Any], step: str | None = None) -> list[str]:
    return run.chunks(step)["status"].to_list()


def count(run: nb.JobHandle[Any]) -> dict[str, int]:
    """Chunks by state."""
    frame = run.chunks()["status"].value_counts()
    return dict(frame.iter_rows())

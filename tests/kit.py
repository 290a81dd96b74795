"""What the tests share: a clock moved by hand, and ways to wait for the engine without sleeping."""

from __future__ import annotations

import subprocess
import sys
from itertools import count as count_up
from pathlib import Path
from typing import Any

import nbbatch as nb
from nbbatch.testing import VirtualClock


class HandClock(VirtualClock):
    """Time that moves only by `advance`."""

    def __init__(self) -> None:
        super().__init__(jumps=False)


class TickingClock(HandClock):
    """Moved by hand, and by a microsecond at each look: no two things happen at one time, as on a real clock."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks = count_up()

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return super().now() + next(self._ticks)


ran: list[Any] = []
"""What steps have said to `log`."""


def log(what: object) -> None:
    """For steps of other modules, whose code it is no part of: what they did."""
    ran.append(what)


def is_first_try(value: object) -> bool:
    """Whether a step has said this to `log` once since a test began."""
    return ran.count(value) == 1


troubles: dict[Any, Exception] = {}
"""What `look_for_trouble` raises, by value."""


def look_for_trouble(value: object) -> None:
    """For steps of other modules, whose code it is no part of: raise what is said of a value."""
    if value in troubles:
        raise troubles[value]


def engine(batch: nb.Batch) -> Any:
    return batch._engine


def settle(batch: nb.Batch) -> None:
    """Wait until nothing is in flight but what waits for sub-jobs, and nothing can be claimed now.

    A call is answered before the turn that takes what arrived with it, so two quiet answers in a row are needed.
    """
    quiet, inner = 0, engine(batch)
    while quiet < 2:
        busy = inner.call(
            lambda: any(each.lane is not inner._lanes.subjobs for each in inner.flights) or not inner._inbox.empty()
        )
        quiet = 0 if busy else quiet + 1


def statuses(run: nb.JobHandle[Any], step: str | None = None) -> list[str]:
    return run.chunks(step)["status"].to_list()


def count(run: nb.JobHandle[Any]) -> dict[str, int]:
    """Chunks by state."""
    frame = run.chunks()["status"].value_counts()
    return dict(frame.iter_rows())


def is_locked(store: Path) -> bool:
    """Whether DuckDB refuses it to another process."""
    opening = subprocess.run([sys.executable, "-c", f"import duckdb; duckdb.connect({str(store)!r})"], capture_output=True, text=True)  # fmt: skip
    return "Conflicting lock" in opening.stderr

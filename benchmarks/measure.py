"""What a workload gives: figures, with the values of each run, and ratios of what ran by turns."""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

WORKERS = 2


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    workload: str
    what: str
    unit: str
    values: list[float]
    bound: str = ""
    """What the project claims of the median: ``>= 1.5``."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the claim does; None where there is none."""
        if not self.bound:
            return None
        sign, limit = self.bound.split()
        return self.median >= float(limit) if sign == ">=" else self.median <= float(limit)

    def __str__(self) -> str:
        return (
            f"{self.workload:<4}{self.what:<52}{short(self.median):>10} {self.unit:<10} {self._spread:<24}{self._claim}"
        )

    def row(self) -> str:
        """As a row of a Markdown table."""
        what = f"&nbsp;&nbsp;{self.what.strip()}" if self.what.startswith(" ") else self.what
        median = f"{short(self.median)} {self.unit}"
        return f"| {self.workload} | {what} | {median} | {self._spread} | {self._claim} |"

    @property
    def _spread(self) -> str:
        return f"{short(min(self.values))} to {short(max(self.values))}" if len(self.values) > 1 else ""

    @property
    def _claim(self) -> str:
        return {None: "", True: self.bound, False: f"{self.bound} MISSED"}[self.holds]


def short(value: float) -> str:
    """A figure with three digits, or whole with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def by_turns(times: int, *sides: Callable[[], float]) -> list[list[float]]:
    """The values of each side, run one after another ``times`` times, so that a noisy moment hits all."""
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(times):
        for values, side in zip(found, sides, strict=True):
            gc.collect()
            values.append(side())
    return found


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Turn by turn."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def folder() -> Iterator[Path]:
    """A fresh folder for a store."""
    path = Path(tempfile.mkdtemp(prefix="nbbatch-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def save(figures: list[Figure], path: Path) -> None:
    """Keep the figures and where they were measured as JSON."""
    machine = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in ("nbbatch", "duckdb", "polars", "pydantic", "loky")},
    }
    rows = [{**asdict(figure), "median": figure.median, "holds": figure.holds} for figure in figures]
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=1) + "\n")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

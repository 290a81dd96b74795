"""``python -m benchmarks.cockpit [chunks]``: what the panel of a big run costs, in the kernel and in a browser.

The browser's part needs ``nbbatch[browser]`` and Chromium; without them only the kernel's part is measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbbatch as nb
from nbbatch.cockpit.session import TABS, TICK, Session

ASKED = (
    {"do": "chunks", "step": "1", "status": "FAILED", "after": 0},
    {"do": "chunks", "step": "1", "status": "QUEUED", "after": 0},
    {"do": "chunks", "step": "1", "status": "COMPLETED", "after": 0},
    {"do": "chunks", "step": "", "status": "", "after": 0},
    {"do": "inspect", "chunk": 1000},
    {"do": "close"},
    {"do": "at", "share": 0.5},
)
"""What a reader asks for, tab by tab."""


@nb.step
def find(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step(max_attempts=1, max_failed=1.0)
def work(number: int) -> int:
    if number % 1000 == 7:
        raise ValueError(f"row {number} has no id")
    return number


@nb.step
def total(numbers: Iterable[int]) -> int:
    return sum(1 for _ in numbers)


million = nb.Job("million", find >> work >> total)


class Timed:
    """A store that writes down how long each query takes."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.seconds: list[tuple[float, str]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("fetch", "frame", "rows"):
            return found

        def timed(query: str, *values: Any) -> Any:
            began = time.perf_counter()
            try:
                return found(query, *values)
            finally:
                self.seconds.append((time.perf_counter() - began, " ".join(query.split())[:90]))

        return timed

    def figures(self) -> str:
        """Median, 99th percentile and the slowest, in ms, with its words."""
        ordered = sorted(self.seconds)
        middle, late = (ordered[int(share * len(ordered))][0] for share in (0.5, 0.99))
        slowest, query = ordered[-1]
        return f"{len(ordered):,} queries of {1e3 * middle:.1f} ms, 99 % below {1e3 * late:.0f}, slowest {1e3 * slowest:.0f}: {query}"


def look(run: nb.JobHandle[Any], name: str, pace: float) -> None:
    """Open a panel and every tab, as often a second as a panel does; print what it cost."""
    store = Timed(run._store)
    began = time.perf_counter()
    panel = Session(run, store, run._engine())  # type: ignore[arg-type]
    sizes = [len(json.dumps(panel.step()))]
    first = time.perf_counter() - began
    looks: list[float] = []
    for message in [step for tab in TABS for step in ({"do": "tab", "tab": tab}, *ASKED)]:
        panel.ask(message)
        began = time.perf_counter()
        sizes.append(len(json.dumps(panel.step())))
        looks.append(time.perf_counter() - began)
        time.sleep(max(0.0, pace - looks[-1]))
    looks.sort()
    print(f"{name}: first value after {1e3 * first:.0f} ms; a look takes {1e3 * looks[len(looks) // 2]:.0f} ms"
          f" (most {1e3 * looks[-1]:.0f}); values of at most {max(sizes):,} bytes")  # fmt: skip
    print(f"  {store.figures()}")


def kernel(chunks: int, path: Path) -> None:
    """The kernel's part: sessions without a page, while the run goes on and after it."""
    with nb.open(path, workers=2) as batch:
        run = batch.submit(million, chunks)
        while run.progress < 0.1:
            time.sleep(0.1)
        look(run, f"{chunks:,} chunks, running from {run.progress:.0%} on", TICK)
        print(f"  now at {run.progress:.0%}")
        run.wait()
        look(run, f"{chunks:,} chunks, ended", 0.0)


def main() -> None:
    chunks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        kernel(chunks, Path(folder) / "kernel.duckdb")


if __name__ == "__main__":
    main()

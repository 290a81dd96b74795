"""Runs that need a process of their own: to measure its memory, or to be killed.

``python -m benchmarks.child chain N STORE`` runs W1 on a store and prints figures as JSON; ``tally N STORE`` runs W1
with a file in which each call of the middle step counts its item, and waits to be killed; ``resume N STORE`` goes on with it.
``wide N STORE``, ``streamed_wide N STORE`` and ``shared_wide N STORE`` run W16, print figures when nine tenths are done, and wait to be killed; ``reopen N STORE`` goes on
with the last.
"""

from __future__ import annotations

import json
import mmap
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbbatch as nb
from benchmarks.jobs import beside, chain, emit, last, shared_wide, streamed_wide, wide
from benchmarks.measure import WORKERS


def peak_mb() -> float:
    """Highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would be the parent's where that is higher: exec keeps it
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def chain_figures(n: int, store: Path) -> dict[str, float]:
    """Rate, memory, disk and view times of W1."""
    with nb.open(store, workers=WORKERS) as batch:
        batch.submit(chain, 10).result()
        before = peak_mb()
        started = time.perf_counter()
        run = batch.submit(chain, n)
        run.result()
        rate = 2 * n / (time.perf_counter() - started)
        peak = peak_mb() - before
        views = {name: _milliseconds(view) for name, view in _views(batch, run).items()}
    size = store.stat().st_size
    return {"rate": rate, "peak_mb": peak, "bytes_per_chunk": size / (2 * n), **views}


def _views(batch: nb.Batch, run: nb.JobHandle) -> dict[str, Callable[[], object]]:
    return {
        "steps_ms": run.steps,
        "progress_ms": lambda: run.progress,
        "instances_ms": batch.instances,
        "chunks_ms": run.chunks,
        "attempts_ms": run.attempts,
    }


def _milliseconds(view: Callable[[], object]) -> float:
    started = time.perf_counter()
    view()
    return 1e3 * (time.perf_counter() - started)


def tallied(n: int, file: Path, first: Callable[[], None]) -> nb.Job:
    """W1 whose middle step counts each call in a mapped file, which outlives a SIGKILL."""
    with file.open("a+b") as handle:
        handle.truncate(n)
        cells = mmap.mmap(handle.fileno(), n)
    seen = threading.Event()

    @nb.step
    def square(i: int) -> int:
        if not seen.is_set():
            seen.set()
            first()
        cells[i] += 1
        return i * i

    return nb.Job("w6", emit >> square >> last)


def tally(n: int, store: Path) -> None:
    """Run until killed."""
    with nb.open(store, workers=WORKERS) as batch:
        batch.submit(tallied(n, store.with_suffix(".tally"), lambda: None), n).result()


def resume(n: int, store: Path) -> dict[str, float]:
    """Go on after a kill."""
    begun: list[float] = []
    opening = time.perf_counter()
    with nb.open(store, workers=WORKERS) as batch:
        waiting = batch.sql("SELECT count(*) AS n FROM chunk").item()
        job = tallied(n, store.with_suffix(".tally"), lambda: begun.append(time.perf_counter()))
        submitting = time.perf_counter()
        batch.submit(job, n).result()
    tally = store.with_suffix(".tally").read_bytes()
    return {
        "chunks": waiting,
        "open_s": submitting - opening,
        "first_s": begun[0] - submitting,
        "never": tally.count(0),
        "again": n - tally.count(0) - tally.count(1),
        "in_flight": batch.recovered.queued,
    }


def wide_figures(job: nb.Job[int, None], n: int, store: Path) -> dict[str, float]:
    """Rate, memory, standstills of W16 and the longest time that a run of one item takes beside it; goes on until it is killed."""
    batch = nb.open(store, workers=WORKERS)
    batch.submit(job, 10).result()
    before, started = peak_mb(), time.perf_counter()
    run = batch.submit(job, n)
    since, longest, seen, early, waited = started, 0.0, (0, 0), 0, 0.0
    while seen[-1] < 0.9 * n:
        waited = max(waited, 1e-3 * _milliseconds(lambda: batch.submit(beside, 1, new=True).result()))
        steps, now = run.steps(), time.perf_counter()
        counts = *steps["queued"], *steps["completed"]
        if counts != seen:
            longest, since, seen = max(longest, now - since), now, counts
        early = counts[-1] if any(steps["queued"][:-1]) or any(steps["in_progress"][:-1]) else early
    taken = time.perf_counter() - started
    return {
        "rate": seen[-1] / taken,
        "peak_mb": peak_mb() - before,
        "still_s": longest,
        "early": early / n,
        "beside_s": waited,
    }


def reopen(n: int, store: Path) -> dict[str, float]:
    """Open W16 after a kill, and go on with it."""
    before, opening = peak_mb(), time.perf_counter()
    with nb.open(store, workers=WORKERS) as batch:
        opened = time.perf_counter()
        run = batch.submit(shared_wide, n)
        first = run.steps()["completed"][-1]
        while run.steps()["completed"][-1] == first:
            time.sleep(0.005)
        begun, peak = time.perf_counter(), peak_mb() - before
        run.result()
        open_mb = peak_mb() - before
    return {"open_s": opened - opening, "first_s": begun - opened, "peak_mb": peak, "all_mb": open_mb}


def main() -> None:
    what, n, store = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    run = {
        "chain": chain_figures,
        "tally": tally,
        "resume": resume,
        "reopen": reopen,
        "wide": partial(wide_figures, wide),
        "streamed_wide": partial(wide_figures, streamed_wide),
        "shared_wide": partial(wide_figures, shared_wide),
    }[what]
    print(json.dumps(run(n, store)), flush=True)
    if what.endswith("wide"):
        threading.Event().wait()


if __name__ == "__main__":
    main()

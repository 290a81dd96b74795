"""``make bench``: durable runs beside a bare pool doing the same, in one run, as ratios.

W1 chain: one step gives n numbers, a middle step squares each, a last step takes each; 2n chunks. The bare pool gets the
same functions through ``ThreadPoolExecutor.submit`` and remembers nothing. W5 latency: submit to result of one item through
three steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from pathlib import Path

import nbbatch as nb

WORKERS = 2


@nb.step
def emit(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def square(i: int) -> int:
    return i * i


@nb.step
def last(i: int) -> None:
    pass


chain = nb.Job("w1", emit >> square >> last)


def durable(n: int, executor: Callable[[int], Executor]) -> float:
    """Chunks per second of the chain, everything stored."""
    with (
        tempfile.TemporaryDirectory() as folder,
        executor(WORKERS) as pool,
        nb.open(Path(folder) / "bench.duckdb", executor=pool) as batch,
    ):
        started = time.perf_counter()
        batch.submit(chain, n).result()
        return 2 * n / (time.perf_counter() - started)


def bare(n: int) -> float:
    """Calls per second of the same functions in a pool that remembers nothing."""
    with ThreadPoolExecutor(WORKERS) as pool:
        started = time.perf_counter()
        squares = [pool.submit(square.function, i) for i in range(n)]
        wait([pool.submit(last.function, future.result()) for future in squares])
        return 2 * n / (time.perf_counter() - started)


def latency(times: int) -> list[float]:
    """Milliseconds from submit to result of one item through three steps, every commit included."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder, nb.open(Path(folder) / "bench.duckdb", workers=WORKERS) as batch:
        for _ in range(times):
            started = time.perf_counter()
            batch.submit(chain, 1).result()
            taken.append(1e3 * (time.perf_counter() - started))
    return taken


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):>9,.0f}  ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    n = arguments.items
    threads: list[float] = []
    processes: list[float] = []
    pool: list[float] = []
    for _ in range(arguments.runs):
        threads.append(durable(n, nb.threads))
        pool.append(bare(n))
        processes.append(durable(n, nb.processes))
    ratios = [ours / theirs for ours, theirs in zip(threads, pool, strict=True)]
    print(f"W1 chain, {2 * n:,} chunks on {WORKERS} workers, per second: median of {arguments.runs} (least to most)")
    print(f"  nbbatch, threads, durable    {spread(threads)}")
    print(f"  ThreadPoolExecutor.submit    {spread(pool)}")
    print(f"  ratio                        {statistics.median(ratios):>9.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"  nbbatch, processes, durable  {spread(processes)}")
    taken = latency(50)
    print(f"W5 latency, three steps, one item: {statistics.median(taken):.1f} ms median, {max(taken):.1f} ms at most")


if __name__ == "__main__":
    main()

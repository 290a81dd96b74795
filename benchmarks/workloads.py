"""W1 … W10, W15 and W16: each gives the figures of one workload; nbbatch and what it is compared with run by turns."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb

import nbbatch as nb
from benchmarks import jobs
from benchmarks.measure import WORKERS, Figure, by_turns, folder, ratios, seconds
from nbbatch.engine.reuse import MOST
from nbbatch.panel.poller import Poller
from nbbatch.panel.session import Session

Pool = Callable[[int], Executor]


def durable(job: nb.Job, params: object, pool: Pool = nb.threads, workers: int = WORKERS) -> float:
    """Seconds from submit to result, everything stored."""
    with folder() as path, pool(workers) as executor, nb.open(path / "bench.duckdb", executor=executor) as batch:
        return seconds(lambda: batch.submit(job, params).result())


def bare_chain(n: int, pool: Pool = ThreadPoolExecutor) -> float:
    """Seconds of W1's functions in a pool that remembers nothing."""
    with pool(WORKERS) as executor:
        started = time.perf_counter()
        squares = [executor.submit(jobs.bare_square, i) for i in range(n)]
        wait([executor.submit(jobs.bare_last, future.result()) for future in squares])
        return time.perf_counter() - started


def w1(runs: int, full: bool) -> list[Figure]:
    """A chain of no-op chunks."""
    figures: list[Figure] = []
    for n in (1_000, 10_000, 100_000):
        ours, bare = _rates(2 * n, by_turns(runs, partial(durable, jobs.chain, n), partial(bare_chain, n)))
        what = f"chain, {n:,} items, threads"
        figures.append(Figure("W1", what, "chunks/s", ours, ">= 80000" if n == 100_000 else ""))
        figures.append(Figure("W1", f"  ThreadPoolExecutor.submit, {n:,} items", "calls/s", bare))
        figures.append(Figure("W1", "  ratio", "x", ratios(ours, bare), ">= 1.5" if n == 100_000 else ""))
    n, few = 100_000, 10_000
    ours, bare = by_turns(
        runs, partial(durable, jobs.chain, n, nb.processes), partial(bare_chain, few, ProcessPoolExecutor)
    )
    ours, bare = [2 * n / value for value in ours], [2 * few / value for value in bare]
    figures.append(Figure("W1", f"chain, {n:,} items, processes", "chunks/s", ours))
    figures.append(Figure("W1", f"  ProcessPoolExecutor.submit, {few:,} items", "calls/s", bare))
    figures.append(Figure("W1", "  ratio", "x", ratios(ours, bare), ">= 5"))
    if full:
        big, small = _rates(
            1, by_turns(runs, partial(durable, jobs.chain, 1_000_000), partial(durable, jobs.chain, 100_000))
        )
        figures.append(Figure("W1", "chain, 1,000,000 items, threads", "chunks/s", [2_000_000 * v for v in big]))
        same = [10 * v for v in ratios(big, small)]
        figures.append(Figure("W1", "  ratio to 100,000 items", "x", same, ">= 0.9"))
    return figures


def _rates(chunks: int, times: list[list[float]]) -> list[list[float]]:
    return [[chunks / value for value in values] for values in times]


def w2(runs: int, full: bool) -> list[Figure]:
    """Fan-out over three steps, a gate, a reduction."""
    n = 100
    chunks = n * (1 + jobs.PAGES + jobs.PAGES * jobs.ROWS)
    ours, bare = _rates(chunks, by_turns(runs, partial(durable, jobs.fan_out, n), partial(_bare_fan_out, n)))
    return [
        Figure("W2", f"{n} ranges x {jobs.PAGES} pages x {jobs.ROWS} rows, gated, summed", "chunks/s", ours),
        Figure("W2", "  ThreadPoolExecutor.submit", "calls/s", bare),
        Figure("W2", "  ratio", "x", ratios(ours, bare), ">= 1.5"),
    ]


def _bare_fan_out(n: int) -> float:
    def fan(pool: Executor, function: Callable[[int], Any], inputs: list[int]) -> list[int]:
        futures = [pool.submit(lambda value: list(function(value)), value) for value in inputs]
        return [value for future in futures for value in future.result()]

    with ThreadPoolExecutor(WORKERS) as pool:
        started = time.perf_counter()
        found = fan(pool, jobs.ranges.function, [n])
        found = fan(pool, jobs.pages.function, found)
        found = fan(pool, jobs.rows.function, found)
        futures = [pool.submit(jobs.value.function, value) for value in found]
        jobs.total.function(future.result() for future in futures)
        return time.perf_counter() - started


def w3(runs: int, full: bool) -> list[Figure]:
    """Pure Python on two processes, beside two processes that share the items out before they start."""
    items, rounds = 200, jobs.rounds_of_a_nap()
    work = jobs.Work(items=items, rounds=rounds)
    with nb.processes(WORKERS) as pool:
        list(pool.map(jobs.spin, [rounds] * 4 * WORKERS))  # workers are up before the clock runs

        def ours() -> float:
            with folder() as path, nb.open(path / "bench.duckdb", executor=pool) as batch:
                return seconds(lambda: batch.submit(jobs.cpu, work).result())

        taken, ideal = by_turns(runs, ours, partial(_two_loops, items // WORKERS, rounds))
    share = ratios(ideal, taken)
    return [
        Figure("W3", f"{items} items of {1e3 * jobs.NAP:.0f} ms pure Python, 2 processes", "s", taken),
        Figure("W3", "  share of the ideal (two plain loops)", "x", share, ">= 0.95"),
    ]


def _two_loops(items: int, rounds: int) -> float:
    ready = get_context("fork").Barrier(WORKERS + 1)
    loops = [get_context("fork").Process(target=_loop, args=(ready, items, rounds)) for _ in range(WORKERS)]
    for loop in loops:
        loop.start()
    ready.wait()
    started = time.perf_counter()
    for loop in loops:
        loop.join()
    return time.perf_counter() - started


def _loop(ready: Any, items: int, rounds: int) -> None:
    ready.wait()
    for _ in range(items):
        jobs.spin(rounds)


def w4(runs: int, full: bool) -> list[Figure]:
    """Sleeps on 16 threads, and as an async step of which 16 run at once."""
    n = 500
    ideal = math.ceil(n / jobs.SLEEPERS) * jobs.NAP
    threads, loop, bare, bare_loop = by_turns(
        runs,
        partial(durable, jobs.io, n, nb.threads, jobs.SLEEPERS),
        partial(durable, jobs.io_async, n),
        partial(_bare_sleeps, n),
        partial(_bare_async_sleeps, n),
    )
    what = f"{n} sleeps of {1e3 * jobs.NAP:.0f} ms, {jobs.SLEEPERS} at once"
    return [
        Figure("W4", f"{what}, threads", "of ideal", [ideal / value for value in threads], ">= 0.97"),
        Figure("W4", f"{what}, async step", "of ideal", [ideal / value for value in loop], ">= 0.97"),
        Figure("W4", "  ThreadPoolExecutor.submit", "of ideal", [ideal / value for value in bare]),
        Figure("W4", "  asyncio.gather and a semaphore", "of ideal", [ideal / value for value in bare_loop]),
    ]


def _bare_sleeps(n: int) -> float:
    with ThreadPoolExecutor(jobs.SLEEPERS) as pool:
        return seconds(lambda: wait([pool.submit(jobs.sleep.function, i) for i in range(n)]))


def _bare_async_sleeps(n: int) -> float:
    async def run() -> None:
        turnstile = asyncio.Semaphore(jobs.SLEEPERS)

        async def one(i: int) -> None:
            async with turnstile:
                await jobs.sleep_async.function(i)

        await asyncio.gather(*map(one, range(n)))

    return seconds(lambda: asyncio.run(run()))


def w5(runs: int, full: bool) -> list[Figure]:
    """Submit to result of one item through three steps, every commit included; and what idling costs."""
    with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
        taken = [1e3 * seconds(lambda: batch.submit(jobs.chain, 1).result()) for _ in range(20 * runs)]
        time.sleep(0.2)  # what the last run left to its threads is over
        busy = time.process_time()
        time.sleep(1)
        idle = 1e3 * (time.process_time() - busy)
    return [
        Figure("W5", "one item through three steps: submit to result", "ms", taken, "<= 6"),
        Figure("W5", "  CPU of an idle engine", "ms/s", [idle], "<= 1"),
    ]


def child(*arguments: object) -> list[str]:
    """The command of a run in a process of its own."""
    return [sys.executable, "-m", "benchmarks.child", *map(str, arguments)]


def child_figures(*arguments: object) -> dict[str, float]:
    """What such a run gives."""
    return json.loads(subprocess.run(child(*arguments), check=True, stdout=subprocess.PIPE).stdout)


def w6(runs: int, full: bool) -> list[Figure]:
    """SIGKILL in the middle of W1, then opened again."""
    n = 600_000 if full else 100_000
    found = [_killed_and_resumed(n) for _ in range(runs)]

    def figure(what: str, unit: str, name: str, bound: str = "") -> Figure:
        return Figure("W6", what, unit, [each[name] for each in found], bound)

    return [
        figure("killed in the middle: chunks in the store", "chunks", "chunks"),
        figure("  opening the store", "s", "open_s"),
        figure("  submit to first new chunk", "s", "first_s", "<= 0.5"),
        figure("  claimed at the kill", "chunks", "in_flight"),
        figure("  items done twice, minus those", "items", "more", "<= 0"),
        figure("  items never done", "items", "never", "<= 0"),
    ]


def _killed_and_resumed(n: int) -> dict[str, float]:
    with folder() as path:
        store = path / "bench.duckdb"
        tally = store.with_suffix(".tally")
        process = subprocess.Popen(child("tally", n, store), stdout=subprocess.DEVNULL)
        while not tally.exists() or tally.stat().st_size < n or not tally.read_bytes()[int(0.7 * n)]:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = child_figures("resume", n, store)
        return {**found, "more": found["again"] - found["in_flight"]}


def w7(runs: int, full: bool) -> list[Figure]:
    """Big values: texts and DataFrames."""
    figures: list[Figure] = []
    for job, n, size in ((jobs.texts, 2_000, jobs.TEXT), (jobs.frames, 200, 16 * jobs.FRAME_ROWS)):
        found = [_watched_commits(job, n) for _ in range(runs)]
        rate = [n * size / 1e6 / took for took, _ in found]
        what = f"{n:,} {'texts' if job is jobs.texts else 'DataFrames'} of {size / 1e3:.0f} kB"
        figures.append(Figure("W7", what, "MB/s", rate))
        longest = [1e3 * most for _, most in found]
        figures.append(Figure("W7", "  longest commit", "ms", longest, "<= 250"))
    return figures


def _watched_commits(job: nb.Job, n: int) -> tuple[float, float]:
    """Seconds of the run and of its longest commit."""
    taken: list[float] = []
    with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
        engine: Any = batch._engine  # pyright: ignore[reportPrivateUsage]
        write = engine.write
        engine.write = lambda *given: taken.append(seconds(lambda: write(*given)))
        return seconds(lambda: batch.submit(job, n).result()), max(taken)


def w8(runs: int, full: bool) -> list[Figure]:
    """W1 with somebody who looks at it four times a second."""
    n = 500_000 if full else 200_000
    watched, alone = by_turns(runs, partial(_watched, n), partial(durable, jobs.chain, n))
    slower = [100 * (ratio - 1) for ratio in ratios(watched, alone)]
    return [Figure("W8", f"chain, {n:,} items, watched: slower by", "%", slower, "<= 3")]


def _watched(n: int) -> float:
    """A run with all that a live panel does in the kernel: queries, pictures and texts, four times a second."""
    with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
        started = time.perf_counter()
        run = batch.submit(jobs.chain, n)
        panel = Poller(Session(run, batch._store, batch._engine), send=_drop, at_end=_drop)
        panel.start()
        run.result()
        taken = time.perf_counter() - started
        panel.close()
        panel.wait()
        return taken


def _drop(_: object) -> None:
    """The page that a panel without a browser has."""


def w9(runs: int, full: bool) -> list[Figure]:
    """How speed, memory, disk and views grow; each size in a process of its own."""
    figures: list[Figure] = []
    for chunks in (10_000, 100_000, 1_000_000, *([3_000_000] if full else [])):
        with folder() as path:
            found = child_figures("chain", chunks // 2, path / "bench.duckdb")

        def figure(what: str, unit: str, name: str, bound: str = "", *, found: dict[str, float] = found) -> Figure:
            return Figure("W9", what, unit, [found[name]], bound)

        figures += [
            figure(f"{chunks:,} chunks", "chunks/s", "rate"),
            figure("  peak memory above imports", "MB", "peak_mb", "<= 300" if chunks <= 1_000_000 else ""),
            figure("  file per chunk", "bytes", "bytes_per_chunk", "<= 200" if chunks >= 1_000_000 else ""),
            *(figure(f"  {name[:-3]}()", "ms", name) for name in found if name.endswith("_ms")),
        ]
    return figures


def w10(runs: int, full: bool) -> list[Figure]:
    """Arrays of 1 MB through two steps, beside a plain write of the same bytes to the same disk."""
    n = 1_000 if full else 200
    megabytes = 2 * n * jobs.ARRAY / 1e6  # each array is stored twice: as what the first step gives, and the second
    ways = (partial(durable, jobs.array_chain, n), partial(_by_folder, n), partial(_plain_write, 2 * n))
    ours, by_folder, plain = ([megabytes / each for each in times] for times in by_turns(runs, *ways))
    return [
        Figure("W10", f"{n:,} numpy arrays of 1 MB through two steps", "MB/s", ours),
        Figure("W10", "  written and synced to one file", "MB/s", plain),
        Figure("W10", "  ratio", "x", ratios(ours, plain)),
        Figure("W10", "  with nb.open(values=folder)", "MB/s", by_folder),
        Figure("W10", "  ratio", "x", ratios(by_folder, plain), ">= 0.5"),
    ]


def _by_folder(n: int) -> float:
    """Seconds of the same with the arrays in a folder beside the store."""
    with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS, values=path / "values") as batch:
        return seconds(lambda: batch.submit(jobs.array_chain, n).result())


def _plain_write(n: int) -> float:
    data = os.urandom(jobs.ARRAY)
    with folder() as path, (path / "plain").open("wb") as file:

        def write() -> None:
            for _ in range(n):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())

        return seconds(write)


def w15(runs: int, full: bool) -> list[Figure]:
    """A chain whose steps reuse, all of it there from the day before, beside W1, which runs no-ops, and DuckDB, which inserts the rows of it."""
    n = 1_000_000 if full else 100_000
    ways = (partial(_taken_again, n), partial(durable, jobs.chain, n), partial(_bare_inserts, 2 * n))
    reused, ran, bare = _rates(2 * n, by_turns(runs, *ways))
    return [
        Figure("W15", f"chain, {n:,} items, everything reused", "chunks/s", reused),
        Figure("W15", "  run as no-ops, W1", "chunks/s", ran),
        Figure("W15", "  ratio", "x", ratios(reused, ran), ">= 1.4"),
        Figure("W15", "  as many rows inserted by DuckDB alone", "chunks/s", bare),
    ]


def _taken_again(n: int) -> float:
    """Seconds of the second of two equal runs, in a store that was closed in between."""
    with folder() as path:
        for _ in range(2):
            with nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
                taken = seconds(lambda batch=batch: batch.submit(jobs.chain_again, n).result())
    return taken


ROWS = {
    "chunk": "i AS id, 1 AS instance, 1 AS step, 1 AS parent, i AS seq, 1 AS created_us, encode(i::VARCHAR) AS data",
    "event": """i AS id, i AS chunk, 1 AS instance, 1 AS step, 1 AS attempt, 6 AS status, 0 AS errors, 0 AS polls, 1 AS started_us,
        1 AS ended_us, 1 AS records, '0123456789ab' AS code""",
    "lookup": """i AS chunk, 1 AS instance, 1 AS step, 1 AS key, md5_number(i::VARCHAR)::UUID AS input, 1 AS asked_us, i AS origin,
        1 AS origin_instance""",
}
"""What is stored for a chunk that is reused: itself, its attempt, and whose outputs it took."""


def _bare_inserts(chunks: int) -> float:
    """Seconds that DuckDB alone takes for the rows of reused chunks, in a store's tables and transactions of the same size."""
    with folder() as path:
        with nb.open(path / "bench.duckdb") as batch:
            batch.submit(jobs.chain, 1).result()
        settings = {"threads": 1, "checkpoint_threshold": "1000TB", "auto_checkpoint_skip_wal_threshold": 1 << 40}
        with duckdb.connect(str(path / "bench.duckdb"), config=settings) as con:

            def write() -> None:
                for first in range(0, chunks, MOST):
                    con.begin()
                    ids = f"range({first}, {min(first + MOST, chunks)}) t(i)"
                    for table, row in ROWS.items():
                        con.execute(f"INSERT INTO {table} BY NAME SELECT {row} FROM {ids}")
                    con.commit()

            return seconds(write)


def w16(runs: int, full: bool) -> list[Figure]:
    """Ten million items of one fan-out, of one that streams, and of a thousand; these killed when nine tenths are done, and opened again."""
    if not full:
        print("W16 skipped: --full runs it")
        return []
    n = 10_000_000
    with folder() as path:
        alone = _until_nine_tenths("wide", n, path / "wide.duckdb")
        streamed = _until_nine_tenths("streamed_wide", n, path / "streamed.duckdb")
        found = _until_nine_tenths("shared_wide", n, path / "bench.duckdb")
        again = child_figures("reopen", n, path / "bench.duckdb")
    return [
        *_wide(f"{n:,} items of one fan-out", alone, still=False),
        *_wide(f"{n:,} items of one that streams", streamed),
        *_wide(f"{n:,} items of {n // jobs.SHARE:,} fan-outs", found),
        Figure("W16", "  killed at nine tenths: opening", "s", [again["open_s"]], "<= 2"),
        Figure("W16", "  submit to first new chunk", "s", [again["first_s"]]),
        Figure("W16", "  peak memory above imports until then", "MB", [again["peak_mb"]], "<= 500"),
        Figure("W16", "  and until the end", "MB", [again["all_mb"]], "<= 500"),
    ]


def _until_nine_tenths(what: str, n: int, store: Path) -> dict[str, float]:
    with subprocess.Popen(child(what, n, store), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        process.kill()
    return found


def _wide(what: str, found: dict[str, float], *, still: bool = True) -> list[Figure]:
    """Of a fan-out that does not stream nothing can move before it has ended."""
    moving = [
        Figure("W16", "  longest time in which nothing moved", "s", [found["still_s"]], "<= 1"),
        Figure("W16", "  done before all were read", "of all", [found["early"]], ">= 0.5"),
    ]
    return [
        Figure("W16", what, "chunks/s", [found["rate"]]),
        Figure("W16", "  peak memory above imports", "MB", [found["peak_mb"]], "<= 500"),
        Figure("W16", "  longest run of one item beside it", "s", [found["beside_s"]], "<= 1"),
        *(moving if still else []),
    ]


ALL = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W8": w8,
    "W9": w9,
    "W10": w10,
    "W15": w15,
    "W16": w16,
}

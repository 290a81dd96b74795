"""W1 with 10,000 items on what people use now: durable peers, and pools that are not.

Each is skipped with a word where it is not installed: ``pip install 'nbbatch[peers]'``, best in an environment of their own, as
``make bench-full`` does: they want other versions than ``constraints.txt`` has. Every peer runs in the shape that is quickest for it
and still records each item, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import jobs
from benchmarks.measure import WORKERS, Figure, by_turns, folder
from benchmarks.workloads import durable

DURABLE = {
    "dbos": "DBOS, SQLite, a step per item",
    "huey": "Huey, SQLite, a task per item",
    "prefect": "Prefect, a task per item",
}
POOLS = {"dask": "Dask distributed, threads (not durable)", "joblib": "joblib, threads (not durable)"}
ITEMS = {"prefect": 100}
"""Of those for which 10,000 items would take hours."""


def measure(runs: int, full: bool, python: str = sys.executable) -> list[Figure]:
    """nbbatch beside every peer that is installed in the environment of a Python."""
    n = 10_000
    (ours,) = by_turns(runs, partial(durable, jobs.chain, n))
    rates = [2 * n / value for value in ours]
    figures = [Figure("P", f"nbbatch, {n:,} items, threads", "chunks/s", rates)]
    best = 0.0
    for name, what in {**DURABLE, **POOLS}.items():
        if not has(python, name):
            print(f"P   {what}: skipped, {name} is not installed")
            continue
        items = ITEMS.get(name, n)
        try:
            rate = 2 * items / _in_own_process(python, name, items)
        except subprocess.SubprocessError as error:
            print(f"P   {what}: could not run here: {error}")
            continue
        figures.append(Figure("P", f"{what}, {items:,} items", "calls/s", [rate]))
        best = max(best, rate) if name in DURABLE else best
    if best:
        figures.append(Figure("P", "  ratio to the best durable peer", "x", [r / best for r in rates], ">= 10"))
    return figures


def has(python: str, name: str) -> bool:
    looks = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([python, "-c", looks], check=False).returncode == 0


def _in_own_process(python: str, name: str, n: int) -> float:
    command = [python, "-m", "benchmarks.peers", name, str(n)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=600)
    return json.loads(ran.stdout.splitlines()[-1])


def dbos(n: int, path: Path) -> float:
    """One workflow whose steps are recorded in SQLite: less work for DBOS than a workflow per item."""
    from dbos import DBOS

    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}/dbos.sqlite", "run_admin_server": False})

    @DBOS.step()
    def square(i: int) -> int:
        return i * i

    @DBOS.step()
    def last(i: int) -> None:
        pass

    @DBOS.workflow()
    def chain(n: int) -> None:
        for i in range(n):
            last(square(i))

    DBOS.launch()
    started = time.perf_counter()
    chain(n)
    taken = time.perf_counter() - started
    DBOS.destroy()
    return taken


def huey(n: int, path: Path) -> float:
    """Two consumer threads on a SQLite queue; the results are stored."""
    import threading

    from huey import SqliteHuey

    app = SqliteHuey("bench", filename=str(path / "huey.sqlite"))
    left = threading.Semaphore(0)

    @app.task()
    def square(i: int) -> int:
        last(i * i)
        return i * i

    @app.task()
    def last(i: int) -> None:
        left.release()

    consumer = app.create_consumer(workers=WORKERS, periodic=False, initial_delay=0.001, max_delay=0.01)
    started = time.perf_counter()
    consumer.start()
    for i in range(n):
        square(i)
    for _ in range(n):
        left.acquire()
    taken = time.perf_counter() - started
    consumer.stop()
    return taken


def prefect(n: int, path: Path) -> float:
    """A flow that submits a task per call to threads; its server keeps the runs in SQLite."""
    import os

    os.environ |= {"PREFECT_HOME": str(path), "PREFECT_LOGGING_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    square = task(jobs.bare_square)
    last = task(jobs.bare_last)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=WORKERS))
    def chain(n: int) -> None:
        squares = [square.submit(i) for i in range(n)]
        for future in [last.submit(each) for each in squares]:
            future.result()

    chain(1)  # the server is up before the clock runs
    started = time.perf_counter()
    chain(n)
    return time.perf_counter() - started


def dask(n: int, path: Path) -> float:
    """A local cluster of threads."""
    from dask.distributed import Client

    with Client(
        processes=False, n_workers=1, threads_per_worker=WORKERS, dashboard_address=":0", local_directory=str(path)
    ) as client:
        started = time.perf_counter()
        squares = client.map(jobs.bare_square, range(n), pure=False)
        client.gather(client.map(jobs.bare_last, squares, pure=False))
        return time.perf_counter() - started


def joblib(n: int, path: Path) -> float:
    """Two threads, batches chosen by joblib."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS, prefer="threads") as parallel:
        started = time.perf_counter()
        squares = parallel(delayed(jobs.bare_square)(i) for i in range(n))
        parallel(delayed(jobs.bare_last)(i) for i in squares)
        return time.perf_counter() - started


PEERS: dict[str, Callable[[int, Path], float]] = {
    "dbos": dbos, "huey": huey, "prefect": prefect, "dask": dask, "joblib": joblib
}  # fmt: skip


if __name__ == "__main__":
    with folder() as where:
        print(json.dumps(PEERS[sys.argv[1]](int(sys.argv[2]), where)))

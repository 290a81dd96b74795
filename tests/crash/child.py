"""The process that is killed: runs one job on a store and prints what it gave."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbbatch as nb

ITEMS = 400
PAGES = 3


@nb.step(max_attempts=1000)
def items(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step(max_attempts=1000)
def pages(i: int) -> Iterator[tuple[int, int]]:
    for page in range(PAGES):
        yield i, page


@nb.step(max_attempts=1000, gate=True)
def square(at: tuple[int, int]) -> int:
    return (at[0] * PAGES + at[1]) ** 2


@nb.step(max_attempts=1000)
def listing(values: Iterable[int]) -> list[int]:
    return list(values)


job = nb.Job("crash", items >> pages >> square >> listing)


@nb.step
def forever(flag: str) -> None:
    Path(flag).touch()
    threading.Event().wait(60)


stuck = nb.Job("stuck", forever)
EXECUTORS = {"inline": nb.inline, "threads": lambda: nb.threads(3), "processes": lambda: nb.processes(2)}


def main() -> None:
    path, kind, *flag = sys.argv[1:]
    executor = EXECUTORS[kind]()
    batch = nb.open(path, executor=executor)
    print("open", batch.recovered.queued, flush=True)
    if flag:
        batch.submit(stuck, flag[0]).wait(60)
    run = batch.submit(job, ITEMS, key="crash")
    report = run.result(60)
    print(len(report), sum(report), flush=True)
    batch.close()
    executor.shutdown()


if __name__ == "__main__":
    main()

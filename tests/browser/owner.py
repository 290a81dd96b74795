"""A process that works on a store which pages and terminals look at: ``python owner.py STORE CHUNKS``.

It prints the id of its run, goes on with it when it is told to, and prints the seconds that took, and those of a core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import nbbatch as nb


@nb.step
def find(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step
def fetch(number: int) -> int:
    time.sleep(0.02)
    return number


@nb.step
def total(found: Iterable[int]) -> int:
    return sum(found)


job = nb.Job("fetching", find >> fetch >> total)


def main(path: str, count: int) -> None:
    with nb.open(path, workers=4) as batch:
        run = batch.submit(job, count).pause()
        print(run.id, flush=True)
        sys.stdin.readline()
        begun, spent = time.monotonic(), time.process_time()
        assert run.resume().result() == sum(range(count))
        print(f"{time.monotonic() - begun:.3f} {time.process_time() - spent:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""A process that owns a store, for the laws of looking: runs until it is told to end, or killed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator

import nbbatch as nb

going = threading.Event()


@nb.step
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step(max_attempts=1)
def doubled(number: int) -> int:
    if number == 7:
        raise ValueError("seven is not taken")
    return 2 * number


@nb.step(gate=True)
def held(number: int) -> int:
    going.wait()
    return number


@nb.step
def total(all_of: Iterable[int]) -> int:
    return sum(all_of)


job = nb.Job("looked at", numbers >> doubled >> held >> total, max_failed=10)


def main(path: str, serve: str) -> None:
    with nb.open(path, workers=2, serve={"yes": True, "no": False}.get(serve, serve)) as batch:
        run = batch.submit(job, 20)
        while run.steps()["in_progress"][2] == 0:
            threading.Event().wait(0.01)
        print(batch.address, flush=True)
        for line in sys.stdin:
            if line == "go\n":
                going.set()
                print(run.wait(), flush=True)
        going.set()


if __name__ == "__main__":
    main(*sys.argv[1:])

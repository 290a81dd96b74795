"""The process that is killed amid branches, sub-jobs, a gate, a reduction and retries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import nbbatch as nb

ITEMS = 40
LOST = 1000
"""Attempts a chunk has, so that kills alone fail none."""


@nb.step(max_attempts=LOST)
def mixed(n: int) -> Iterator[int | str]:
    for i in range(n):
        yield i if i % 2 else str(i)


@nb.step(max_attempts=LOST)
def parts(i: int) -> Iterator[int]:
    yield from range(i)


@nb.step(max_attempts=LOST)
def added(values: Iterable[int]) -> int:
    return sum(values)


@nb.step(max_attempts=LOST, backoff=nb.Backoff(0.001))
def flaky(text: str) -> int:
    if nb.context().attempt == 1:
        raise OSError("at first")
    return int(text)


@nb.step(max_attempts=LOST, gate=True)
def shift(i: int) -> int:
    return i + 1000


@nb.step(max_attempts=LOST)
def listing(values: Iterable[int]) -> list[int]:
    return sorted(values)


below = nb.Job("below", parts >> added)
job = nb.Job("mixed", mixed >> (below.as_step(max_attempts=LOST) | flaky) >> shift >> listing)


def expected() -> list[int]:
    """The report of an undisturbed run."""
    return sorted(1000 + (sum(range(i)) if i % 2 else i) for i in range(ITEMS))


def main() -> None:
    with nb.open(sys.argv[1], workers=3) as batch:
        print("open", batch.recovered.queued, flush=True)
        print(batch.submit(job, ITEMS, key="mixed").result(60), flush=True)


if __name__ == "__main__":
    main()

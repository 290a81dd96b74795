"""The jobs that are measured, in a module so that worker processes can import their steps.

W1 chain: one step gives n numbers, a middle step squares each, a last step takes each: 1 + 2n chunks.
W2 fan-out and reduction: ranges → pages → rows, the rows gated, their values summed.
W3 cpu: items of pure Python that takes about 20 ms. W4 io: items that sleep 20 ms.
W7 big values: texts of 100 kB; DataFrames of 10,000 rows.
W10 arrays: numpy arrays of 1 MB. W15 reuse: the chain of W1, its outputs taken again.
W16 wide: one step gives n numbers, another one takes each; the same with a step between that gives 10,000 of them each time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import polars as pl
from pydantic import BaseModel

import nbbatch as nb

PAGES, ROWS = 10, 100
NAP = 0.02
"""Seconds an item of W3 and W4 takes."""
SLEEPERS = 16
TEXT = 100_000
FRAME_ROWS = 10_000


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
chain_again = nb.Job("w15", emit >> square >> last, reuse=True)


def bare_square(i: int) -> int:
    """What `square` does, for pools of processes, which cannot pickle a decorated function."""
    return i * i


def bare_last(i: int) -> None:
    """What `last` does."""


@nb.step
def ranges(n: int) -> Iterator[int]:
    yield from range(0, n * PAGES * ROWS, PAGES * ROWS)


@nb.step
def pages(first: int) -> Iterator[int]:
    yield from range(first, first + PAGES * ROWS, ROWS)


@nb.step
def rows(first: int) -> Iterator[int]:
    yield from range(first, first + ROWS)


@nb.step(gate=True)
def value(row: int) -> int:
    return row % 7


@nb.step
def total(values: Iterable[int]) -> int:
    return sum(values)


fan_out = nb.Job("w2", ranges >> pages >> rows >> value >> total)


def spin(rounds: int) -> int:
    """Pure Python that holds the GIL."""
    found = 0
    for i in range(rounds):
        found ^= i * i
    return found


@lru_cache(maxsize=1)
def rounds_of_a_nap() -> int:
    """How much `spin` takes `NAP` on this machine, now."""
    spin(100_000)
    started = time.perf_counter()
    spin(400_000)
    return int(400_000 * NAP / (time.perf_counter() - started))


class Work(BaseModel):
    items: int
    rounds: int


@nb.step
def deal(work: Work) -> Iterator[int]:
    for _ in range(work.items):
        yield work.rounds


@nb.step
def compute(rounds: int) -> int:
    return spin(rounds)


cpu = nb.Job("w3", deal >> compute >> last)


@nb.step
def sleep(i: int) -> None:
    time.sleep(NAP)


@nb.step(concurrency=SLEEPERS)
async def sleep_async(i: int) -> None:
    await asyncio.sleep(NAP)


io = nb.Job("w4", emit >> sleep)
io_async = nb.Job("w4-async", emit >> sleep_async)


@nb.step
def text(i: int) -> str:
    return f"{i:09}" * (TEXT // 9)


@nb.step
def length(value: str) -> int:
    return len(value)


@nb.step
def frame(i: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(FRAME_ROWS), "value": [i] * FRAME_ROWS})


@nb.step
def height(value: pl.DataFrame) -> int:
    return value.height


texts = nb.Job("w7-texts", emit >> text >> length >> last)
frames = nb.Job("w7-frames", emit >> frame >> height >> last)


ARRAY = 1_000_000


@nb.step
def arrays(n: int) -> Iterator[np.ndarray]:
    noise = np.random.default_rng(1)
    for _ in range(n):
        yield noise.integers(0, 256, ARRAY, dtype=np.uint8)


@nb.step
def turn(array: np.ndarray) -> np.ndarray:
    return array[::-1]


@nb.step
def weigh(array: np.ndarray) -> None:
    assert len(array) == ARRAY


SHARE = 10_000
"""Numbers that one chunk of `shares` stands for."""


@nb.step
def shares(n: int) -> Iterator[int]:
    yield from range(0, n, SHARE)


@nb.step
def numbers_of(first: int) -> Iterator[int]:
    yield from range(first, first + SHARE)


@nb.step(stream=True)
def emit_streaming(n: int) -> Iterator[int]:
    yield from range(n)


wide = nb.Job("w16-wide", emit >> last)
streamed_wide = nb.Job("w16-streamed", emit_streaming >> last)
beside = nb.Job("w16-beside", last)
shared_wide = nb.Job("w16-shared", shares >> numbers_of >> last)
array_chain = nb.Job("arrays", arrays >> turn >> weigh)

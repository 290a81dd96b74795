"""A process that works on a store for the laws of looking: instance after instance, now and then a purge or checkpoint, until it is killed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import nbbatch as nb


@nb.step
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step
def padded(number: int) -> str:
    return f"{number}" * 300


@nb.step
def length(texts: Iterable[str]) -> int:
    return sum(map(len, texts))


job = nb.Job("working", numbers >> padded >> length)


def main(path: str, serve: str) -> None:
    with nb.open(path, workers=2, serve=serve == "yes") as batch:
        batch.resume(job)
        while True:
            run = batch.submit(job, 500, new=True)
            run.wait()
            if run.id % 10 == 0:
                batch._engine.call(batch._store.checkpoint)  # pyright: ignore[reportPrivateUsage]
            if run.id % 50 == 0:
                batch.purge(keep_last=20)
            print(run.id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

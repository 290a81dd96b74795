"""A process that works on a store for the laws of looking: instance after instance, and now and then a checkpoint, until it is killed."""

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
            batch.submit(job, 500, new=True).wait()
            done = len(batch.instances(status="COMPLETED"))
            if done % 10 == 0:
                batch._engine.call(batch._store.checkpoint)  # pyright: ignore[reportPrivateUsage]
            print(done, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process that kills itself between two slices of what a fan-out gave, or while it streams; or goes on with what such a one left."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import nbbatch as nb
from nbbatch.engine import dispatcher, settle, slices
from nbbatch.worker import attempt
from tests.jobs import double, summing, total

MANY = 100


@nb.step(stream=True)
def streaming(n: int) -> Iterator[int]:
    for i in range(n):
        if i == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield i


def main() -> None:
    store, left = sys.argv[1], int(sys.argv[2])
    if sys.argv[3:] == ["stream"]:
        attempt.PAGE_OUTPUTS = 10
        with nb.open(store, workers=2) as batch:
            print(batch.submit(nb.Job("streams", streaming >> double >> total), MANY).result(60), flush=True)
        return
    attempt.PAGE_OUTPUTS, settle.SEALED_OUTPUTS, slices.SLICE_OUTPUTS = 10, 25, 12
    real = dispatcher.move_next

    def move_next(*args: Any) -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        real(*args)

    dispatcher.move_next = move_next
    with nb.open(store, workers=2) as batch:
        print(batch.submit(summing(), MANY).result(60), flush=True)


if __name__ == "__main__":
    main()

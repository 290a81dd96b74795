"""A process that its second run kills: in an attempt that has followed at once those before it, as all its steps are known to be quick."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import nbbatch as nb

KILLS = 9


@nb.step(max_attempts=2)
def emit(n: int) -> Iterator[int]:
    yield n


@nb.step(max_attempts=2)
def same(n: int) -> int:
    return n


@nb.step(max_attempts=2)
def last(n: int) -> None:
    os.write(1, f"last {nb.context().chunk}\n".encode())
    if n == KILLS:
        os.kill(os.getpid(), signal.SIGKILL)


job = nb.Job("fused", emit >> same >> last)


def main() -> None:
    """Submit both, each once."""
    with nb.open(sys.argv[1], workers=2) as batch:
        for n in (1, 2, KILLS, 3):
            batch.submit(job, n, key=str(n)).result(20)


if __name__ == "__main__":
    main()

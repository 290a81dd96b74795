"""A process whose store cannot grow for a while: it runs a job into that, frees the room and resumes.

A limit on the size of files stands for the full disk: the system refuses the same writes. Prints one line per stage.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
from collections.abc import Iterator

import nbbatch as nb

CHUNKS = 400
ROOM_BYTES = 1_000_000


@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def noise(i: int) -> str:
    return random.Random(i).randbytes(4_000).hex()  # does not compress


@nb.step
def take(text: str) -> None: ...


JOB = nb.Job("noise", numbers >> noise >> take)


def completed(run: nb.JobHandle[None]) -> int:
    return int(run.steps()["completed"].sum())


def main(path: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    with nb.open(path, workers=2) as batch:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, usual[1]))
        run = batch.submit(JOB, CHUNKS)
        try:
            run.result(60)
        except nb.StoreError as error:
            print("refused", error)
        print("kept", completed(run), run.status)
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        print("resumed", run.resume(JOB).wait(60), completed(run))


if __name__ == "__main__":
    main(sys.argv[1])

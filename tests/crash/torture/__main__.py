"""``python -m tests.crash.torture --seconds 60 --seed 1``: lives and deaths of random chains, seed after seed.

Each seed is a chain, an executor and some lives on one store. A life is a process: it opens the store, does what a user
may do (pause, resume, cancel, retry, rerun, skip, purge), and is killed with SIGKILL at a random moment, when the store is
written, or as it does one of these. The last life is left alone, mends what is bad, retries until all is done, and what is
then stored is held against a pure evaluation of the chain. A seed draws the same chain, actions and kills each time;
which statement a kill hits is up to the machine.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.crash.torture.harness import Tally, torture


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="stop beginning seeds after that long")
    parser.add_argument("--seed", type=int, default=1, help="the first one; the others follow it")
    parser.add_argument("--seeds", type=int, default=10**9, help="how many at most")
    parser.add_argument(
        "--without", default="", help="actions, and options of steps and jobs, left out, with commas between"
    )
    parser.add_argument("--kind", default="", help="of executor: inline, threads or processes; default: drawn")
    parser.add_argument("--keep", action="store_true", help="keep the stores of seeds that failed")
    parser.add_argument("--ignore", default="", help="kinds of findings left out, with commas between")
    given = parser.parse_args()
    tally, until = Tally(), time.monotonic() + given.seconds
    for seed in range(given.seed, given.seed + given.seeds):
        if time.monotonic() > until:
            break
        torture(
            seed, tally, without=set(given.without.split(",")), ignore=set(given.ignore.split(",")), kind=given.kind,
            keep=given.keep,
        )  # fmt: skip
    print(tally.summary())
    return bool(tally.found)


if __name__ == "__main__":
    sys.exit(main())

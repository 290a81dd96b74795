"""Jobs that the browser tests run in notebooks: slow enough to be looked at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import nbbatch as nb


@nb.step
def find(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step(max_attempts=2, backoff=0.01, max_failed=1.0)
def fetch(number: int) -> int:
    time.sleep(0.05)
    print(f"fetched {number}")
    if number % 40 == 7:
        raise ValueError(f"row {number} has no id <script>window.hacked = 1</script> \u05e9\u05dc\u05d5\u05dd")
    return number


@nb.step
def clean(number: int) -> str:
    time.sleep(0.01)
    return f"<img src=x onerror='window.hacked = 2'> {number}" + "x" * (1_000_000 if number == 3 else 0)


@nb.step
def report(found: Iterable[str]) -> int:
    return sum(1 for _ in found)


orders = nb.Job("nightly-orders", find >> fetch >> clean >> report)


@nb.step(max_attempts=1)
def check(number: int) -> None:
    if number == 7:
        raise ValueError(f"row {number} has no id")


strict = nb.Job("strict-check", find >> check)

"""Small jobs that many tests run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import nbbatch as nb


@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def double(i: int) -> int:
    return 2 * i


@nb.step
def total(values: Iterable[int]) -> int:
    return sum(values)


@nb.step
def drop(i: int) -> None:
    pass


def summing(name: str = "summing") -> nb.Job[int, int]:
    """n → 0 … n-1 → doubled → their sum."""
    return nb.Job(name, numbers >> double >> total)


def one_step(function: Callable[[int], Any], name: str = "one", **options: Any) -> nb.Job[int, None]:
    """A job of a single step that takes an int; what the function returns is dropped."""

    def only(value: int) -> None:
        function(value)

    return nb.Job(name, nb.step(**options)(only))


def each(function: Callable[[int], Any], name: str = "each", **options: Any) -> nb.Job[int, None]:
    """n → 0 … n-1, each given to the function."""

    def visit(value: int) -> None:
        function(value)

    return nb.Job(name, numbers >> nb.step(**options)(visit))


def dies_once(flag: Path) -> Callable[[int], None]:
    """A step that kills its process at the value 20, the first time; the flag is a file that remembers it."""

    def die_once(value: int) -> None:
        if value == 20:
            try:
                os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    return die_once

"""Small jobs that many tests run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

"""What each name that a function reaches means, so that it can be told which of them has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbbatch.code.fingerprint import digested, reached


def marks_of(function: Callable[..., Any]) -> dict[str, str]:
    """A digest of each.

    >>> sorted(marks_of(lambda value: value))
    ['<lambda>']
    """
    marks: dict[str, list[str]] = {}
    for part in reached(function):
        marks.setdefault(part.name, []).append(part.mark)
    return {name: digested("\n".join(sorted(each))) for name, each in marks.items()}

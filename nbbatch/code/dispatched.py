"""Functions made by ``functools.singledispatch``: which functions they choose from."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from types import FunctionType
from typing import Any

_CODE: Any = getattr(singledispatch(len), "__code__", None)
"""All of them share it."""


def dispatched(value: Any) -> dict[type, Callable[..., Any]]:
    """The functions that it chooses from by type, the one for `object` included; nothing of anything else.

    >>> @singledispatch
    ... def show(value): ...
    >>> list(dispatched(show)), dispatched(len)
    ([<class 'object'>], {})
    """
    return dict(getattr(value, "registry", ())) if type(value) is FunctionType and value.__code__ is _CODE else {}


def choices(value: Any) -> list[tuple[str, Any]]:
    """What it chooses from, each under a name that says for what."""
    return [(f"for {kind.__qualname__}", function) for kind, function in dispatched(value).items()]

"""Whether a value is still the same after pydantic has read it as its declared type."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import Any, cast

from pydantic import BaseModel

from nbbatch.values.hints import SECRETS


def changed(given: Any, made: Any, path: str = "") -> str:
    """What changed, as a text; "" if nothing did.

    A model made of the dict of its fields is no change, nor a number of another type that is equal.

    >>> changed((1, 2), [1, 2])
    'the value is the tuple (1, 2), which would become the list [1, 2]'
    """
    if given is made or isinstance(given, SECRETS):  # which are refused elsewhere, and never shown
        return ""
    if _is_built_of(given, made) or _is_equal_leaf(given, made):
        return ""
    if type(given) is type(made) or (isinstance(made, dict) and isinstance(given, dict)):
        found = _inside(given, made, path)
        if found is not None:
            return found
    return (
        f"{path or 'the value'} is the {type(given).__name__} {given!r:.80}, which would become the "
        f"{type(made).__name__} {made!r:.80}"
    )


def _is_built_of(given: Any, made: Any) -> bool:
    return isinstance(given, Mapping) and (isinstance(made, BaseModel) or is_dataclass(made))


def _is_equal_leaf(given: Any, made: Any) -> bool:
    if isinstance(given, list | tuple | dict | AbstractSet):
        return False
    try:
        equal = bool(given == made)
        return (equal or (given != given and made != made)) and isinstance(given, str) == isinstance(made, str)  # noqa: PLR0124
    except Exception:  # such as arrays, whose comparison is an array
        return False


def _inside(given: Any, made: Any, path: str) -> str | None:
    """As `changed`, of containers of one type; None of what is none, or has another length."""
    if isinstance(given, dict):
        old, new = cast("dict[Any, Any]", given), cast("dict[Any, Any]", made)
        if len(old) != len(new) or any(key not in new for key in old):
            return None
        return next(
            (found for key in old if (found := changed(old[key], new[key], f"{path}.{key}" if path else str(key)))), ""
        )
    if isinstance(given, list | tuple):
        pair = cast("list[Any]", given), cast("list[Any]", made)
        if len(pair[0]) != len(pair[1]):
            return None
        each = enumerate(zip(*pair, strict=True))
        return next((found for place, two in each if (found := changed(*two, f"{path}[{place}]"))), "")
    return "" if isinstance(given, AbstractSet) and given == made else None

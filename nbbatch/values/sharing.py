"""Values that were decoded once and are given to many: what in them nobody can change is shared, the rest is copied.

Nothing here asks a value whether it was changed, which would cost as much as a copy: what is given out either cannot be changed,
is only read (`is_fixed_at`), or belongs to one receiver.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import datetime as dt
import ipaddress
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretBytes, SecretStr

from nbbatch.base.uses import EACH, GET, ITEM, Use
from nbbatch.values.files import File

_ATOMS: frozenset[type] = frozenset({
    type(None), bool, int, float, complex, str, bytes, range, Decimal, Fraction, UUID, SecretStr, SecretBytes, ZoneInfo,
    dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone, re.Pattern,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    type(pathlib.Path()), type(pathlib.PurePath()), File, pathlib.PurePosixPath, pathlib.PureWindowsPath,
})  # fmt: skip
WORTH_BYTES = 1_000
"""What is stored in fewer bytes is quickly read."""
BYTES_A_PART = 400
"""A part that is copied takes as long as reading so many bytes."""


class Uncopyable(Exception):
    """A value holds something of which it is not known how to copy it, or too many parts to be worth it."""


class Shared:
    """One stored value, for receivers who use it in several ways: each gets it as if it was read anew."""

    __slots__ = ("_known", "_ways")

    def __init__(self) -> None:
        self._known: list[Any] = []
        """The value, once it was needed; nobody gets it who might change it."""
        self._ways: dict[frozenset[Use] | None, Callable[[], Any]] = {}

    def reader(self, read: Callable[[], Any], size: int, uses: frozenset[Use] | None) -> Callable[[], Any]:
        """What gives the value to each receiver; any thread may call it.

        Args:
            read: Reads it from its stored form.
            size: Bytes of that.
            uses: What its receivers do with it; None: unknown.
        """
        if size < WORTH_BYTES:
            return read

        def given() -> Any:  # not before the first attempt asks: what reading raises is its error
            way = self._ways.get(uses) or self._way(read, size, uses)
            return way()

        return given

    def _way(self, read: Callable[[], Any], size: int, uses: frozenset[Use] | None) -> Callable[[], Any]:
        if not self._known:
            self._known.append(read())
        value = self._known[0]
        if is_fixed(value) or (uses is not None and all(is_fixed_at([value], use) for use in uses)):
            way: Callable[[], Any] = lambda: value  # noqa: E731 - one of three
        else:
            try:
                way = Copier(value, size // BYTES_A_PART).copy
            except Uncopyable:
                way = read
        self._ways[uses] = way
        return way


# --- what cannot be changed -----------------------------------------------------------------------


def is_fixed(value: Any) -> bool:
    """Whether nothing in a value can be changed.

    >>> is_fixed((1, "a")), is_fixed(([], "a"))
    (True, False)
    """
    kind: type = type(value)
    if kind in _ATOMS or isinstance(value, Enum):
        return True
    if kind in (tuple, frozenset):
        return _are_fixed(value)
    held = _held(value) if _is_frozen(kind) else None
    return held is not None and _are_fixed(held.values())


def _are_fixed(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= _ATOMS or all(map(is_fixed, values))


def _is_frozen(kind: type) -> bool:
    """Whether a class of the user's lets nothing be set, and computes nothing that it keeps."""
    if any(isinstance(each, cached_property) for base in kind.__mro__ for each in vars(base).values()):
        return False
    if issubclass(kind, BaseModel):
        return bool(kind.model_config.get("frozen")) and not kind.__private_attributes__
    return is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009 - type checkers do not know it


def _held(value: Any) -> dict[str, Any] | None:
    """The fields of a model or dataclass; None of anything else, or where it holds more than its fields."""
    kind: type = type(value)
    if isinstance(value, BaseModel):
        names = kind.model_fields.keys()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        plain = not value.__pydantic_extra__ and not value.__pydantic_private__
    elif is_dataclass(value):
        names, plain = {each.name for each in fields(value)}, True
    else:
        return None
    held: dict[str, Any] = getattr(value, "__dict__", {})
    return held if plain and held.keys() == names and kind.__getattribute__ is object.__getattribute__ else None


# --- what is only read ----------------------------------------------------------------------------


def is_fixed_at(values: list[Any], use: Use) -> bool:
    """Whether such a use of any of some values comes only by what cannot be changed, or is only looked into."""
    for place, part in enumerate(use):
        if _are_fixed(values):
            return True
        inner = [_inside(value, part, use[place + 1 :]) for value in values]
        if None in inner:
            return False
        values = [each for part in inner if part for each in part]
    return _are_fixed(values)


def _inside(value: Any, part: str, rest: Use) -> Iterable[Any] | None:
    """What a value gives where one part of a use is asked of it; None where that cannot be told."""
    if part not in (ITEM, GET, EACH):
        held = _held(value)
        return None if held is None or part not in held or _computes(type(value), part) else [held[part]]
    if type(value) is dict:
        return value.values() if _are_fixed(value) else None
    if part == GET or type(value) not in (list, tuple, set, frozenset):
        return None
    # the key may be a slice, and then the rest is asked of a list
    is_of_items = not rest or (rest[0].isidentifier() and not hasattr(list, rest[0]))
    return value if is_of_items or _are_fixed(value) else None


def _computes(kind: type, name: str) -> bool:
    """Whether a class has code of its own for an attribute."""
    return any(hasattr(type(vars(base)[name]), "__get__") for base in kind.__mro__ if name in vars(base))


# --- what is copied -------------------------------------------------------------------------------


class Copier:
    """Makes copies of one value that share what cannot be changed."""

    def __init__(self, value: Any, most: int) -> None:
        """Find out how.

        Args:
            value: Which nobody changes from here on.
            most: Parts to copy.

        Raises:
            Uncopyable: It has more parts, or one of a type that is not known.
        """
        self._left = most
        self.copy = self._of(value)

    def _of(self, value: Any) -> Callable[[], Any]:
        if is_fixed(value):
            return lambda: value
        self._left -= 1
        kind: type = type(value)
        if self._left < 0 or kind not in (dict, list, tuple, set):
            held = _held(value)
            if held is None or self._left < 0:
                raise Uncopyable
            return _shell(value, self._of(held))
        if kind is dict and not _are_fixed(value):
            raise Uncopyable
        if kind is set or (kind is not tuple and _are_fixed(value.values() if kind is dict else value)):
            return value.copy
        if kind is dict:
            return _dict([(key, self._of(each)) for key, each in value.items()])
        return _sequence(kind, [self._of(each) for each in value])


def _dict(pairs: list[tuple[Any, Callable[[], Any]]]) -> Callable[[], Any]:
    return lambda: {key: made() for key, made in pairs}


def _sequence(kind: Callable[[Iterable[Any]], Any], parts: list[Callable[[], Any]]) -> Callable[[], Any]:
    return lambda: kind([made() for made in parts])


def _shell(value: Any, held: Callable[[], Mapping[str, Any]]) -> Callable[[], Any]:
    """Copies of a model or dataclass around copies of what it holds."""
    kind: Any = type(value)
    put = object.__setattr__
    if not isinstance(value, BaseModel):

        def plain() -> Any:
            made = object.__new__(kind)
            put(made, "__dict__", held())
            return made

        return plain

    def model() -> Any:
        made = kind.__new__(kind)
        put(made, "__dict__", held())
        put(made, "__pydantic_fields_set__", value.__pydantic_fields_set__.copy())
        put(made, "__pydantic_extra__", None if value.__pydantic_extra__ is None else {})
        put(made, "__pydantic_private__", None if value.__pydantic_private__ is None else {})
        return made

    return model

"""What parameters mean, as one JSON tree that is the same in every process: by it an instance is found again.

Values that Python calls equal have one form: numbers of any type, moments in any zone, sets in any order, dicts too, 0.0 and
-0.0. Values that it calls different have another: a tuple is no list, 1 no "1".
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from numbers import Number
from pathlib import PurePath
from typing import Annotated, Any, cast, final, get_args, get_origin

from pydantic import BaseModel, RootModel

from nbbatch.values.files import File
from nbbatch.values.hints import SECRETS, UNIONS, bare, field_hints, is_typed_dict
from nbbatch.values.tree import Forms, Writer, joined, tree_of

_HUGE = 400
"""Decimal places beyond which a number is told by its digits."""


@final
class NonIdentifying:
    """Marks a parameter that does not identify the instance: ``Annotated[int, nb.NonIdentifying]``.

    Example:
        >>> class Params(BaseModel):
        ...     day: str
        ...     workers: Annotated[int, nb.NonIdentifying] = 4  # another number means the same instance
    """


def digest(value: Any, hint: Any, forms: Forms) -> str:
    """A digest that is equal for values that mean the same.

    Args:
        value: Parameters.
        hint: Their declared type, which says what is `NonIdentifying`.
        forms: Of the types in it, for those that only their stored bytes tell.
    """
    tree = meaning(value, hint, forms)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def parts(value: Any, hint: Any, forms: Forms) -> dict[str, str]:
    """Of each field that counts a digest, by which two values are told apart; of what has no fields one under "".

    Stricter than `digest`: 1, 1.0 and True are three, as code may treat them so.
    """
    kind, hints = bare(hint), field_hints(type(value))
    is_whole = not hints or isinstance(value, RootModel | tuple | dict) or getattr(value, "__pydantic_extra__", None)
    given = {"": (value, kind)} if is_whole else {name: (getattr(value, name, None), of) for name, of in hints.items()}
    exactly = _Exactly(forms)
    return {name: exactly.digest(*each) for name, each in given.items() if _counts(*each)}


def meaning(value: Any, hint: Any, forms: Forms) -> Any:
    """The value as a tree of JSON, without secrets and what is marked `NonIdentifying`."""
    return _Meaning(forms).of(value, hint)


class _Meaning:
    def __init__(self, forms: Forms) -> None:
        self._forms = forms

    def of(self, value: Any, hint: Any = Any) -> Any:
        if isinstance(value, str):
            return str.__str__(value)
        if value is None:
            return None
        if isinstance(value, Number):
            return number(value)
        if isinstance(value, BaseModel) or is_dataclass(value):
            return self._fields(value, bare(hint))
        if isinstance(value, Mapping):
            return self._table(cast("Mapping[Any, Any]", value), hint)
        if isinstance(value, list):
            return [self.of(*each) for each in _with_hints(cast("list[Any]", value), hint)]
        if isinstance(value, tuple):
            return {"$tuple": [self.of(*each) for each in _with_hints(cast("tuple[Any, ...]", value), hint)]}
        if isinstance(value, deque):
            return {"$deque": [self.of(each) for each in cast("deque[Any]", value)]}
        if isinstance(value, AbstractSet):
            items = [self.of(*each) for each in _with_hints(list(cast("AbstractSet[Any]", value)), hint)]
            return {"$set": sorted(items, key=_sortable)}
        return self._leaf(value)

    def _fields(self, value: Any, hint: Any) -> Any:
        if isinstance(value, RootModel):
            return self.of(value.root, type(value).model_fields["root"].annotation)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        hints = field_hints(type(value))
        given = {name: getattr(value, name, None) for name in hints}
        extra = cast("dict[str, Any]", getattr(value, "__pydantic_extra__", None) or {})
        found = {name: self.of(each, hints[name]) for name, each in given.items() if _counts(each, hints[name])}
        found |= {name: self.of(each) for name, each in extra.items() if _counts(each, Any)}
        kinds = [bare(each) for each in get_args(hint)] if get_origin(hint) in UNIONS else [hint]
        others = [each for each in kinds if each not in (type(value), type(None), None)]
        return {f"$:{type(value).__qualname__}": found} if others else found

    def _table(self, value: Mapping[Any, Any], hint: Any) -> Any:
        kind, args = bare(hint), get_args(bare(hint))
        kind = (
            next((each for each in map(bare, args) if is_typed_dict(each)), kind)
            if get_origin(kind) in UNIONS
            else kind
        )
        hints = field_hints(kind) if is_typed_dict(kind) else {}
        inner = args[1] if len(args) == 2 and not hints else Any
        pairs = [(key, each, hints.get(key, inner)) for key, each in value.items()]
        kept = [(key, self.of(each, of)) for key, each, of in pairs if _counts(each, of)]
        if isinstance(value, OrderedDict):
            return {"$ordered": [[self.of(key), each] for key, each in kept]}
        if all(isinstance(key, str) and key[:1] != "$" for key, _ in kept):
            return dict(kept)
        return {"$dict": sorted(([self.of(key), each] for key, each in kept), key=_sortable)}

    def _leaf(self, value: Any) -> Any:
        for kind, name, text in _LEAVES:
            if isinstance(value, kind):
                return {f"${name}": text(value)}
        tree, parts = tree_of(value, Writer(self._forms))
        return {"$stored": hashlib.sha256(joined(in_order(tree), parts)).hexdigest()}


class _Exactly(_Meaning):
    def of(self, value: Any, hint: Any = Any) -> Any:
        if isinstance(value, Number) and not isinstance(value, Enum):
            return {f"${type(value).__qualname__}": number(value)}
        return super().of(value, hint)

    def digest(self, value: Any, hint: Any) -> str:
        return hashlib.sha256(json.dumps(self.of(value, hint), sort_keys=True).encode()).hexdigest()[:32]


def number(value: Any) -> Any:
    """A number as JSON: equal numbers of any type have one form.

    >>> [number(each) for each in (1, 1.0, True, Decimal("1.00"), -0.0, 0.5, Decimal("0.1"))]
    [1, 1, 1, 1, 0, 0.5, {'$number': '1/10'}]
    """
    value = value.item() if type(value).__module__ == "numpy" else value
    if isinstance(value, complex) and not isinstance(value, float):
        return number(value.real) if value.imag == 0 else {"$complex": [number(value.real), number(value.imag)]}
    if isinstance(value, Decimal) and value.is_nan():  # a signaling one does not even compare
        return {"$number": str(value).lower()}
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return {"$number": "nan"}
    if isinstance(value, Decimal) and (not value.is_finite() or abs(value.adjusted()) > _HUGE):
        return {"$number": str(value.normalize()).lower()}
    try:
        exact = Fraction(value)
    except OverflowError:
        return {"$number": str(float(value))}
    if exact.denominator == 1:
        return exact.numerator if abs(exact.numerator) < 2**53 else {"$number": hex(exact.numerator)}
    return float(exact) if Fraction(float(exact)) == exact else {"$number": f"{exact.numerator}/{exact.denominator}"}


def _moment(value: dt.datetime) -> str:
    nanoseconds = getattr(value, "nanosecond", 0)
    plain = dt.datetime(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold
    )  # fmt: skip
    text = (plain.replace(fold=0) if plain.tzinfo is None else _utc(plain)).isoformat()
    return f"{text} {nanoseconds} ns" if nanoseconds else text


def _utc(value: dt.datetime) -> dt.datetime:
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:  # within a day of the first or last moment there is
        return value


def _time(value: dt.time) -> str:
    offset = value.utcoffset()
    if offset is None:
        return value.replace(fold=0).isoformat()
    day = dt.timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
    return f"{(day - offset).total_seconds()} UTC"


def _member(value: Enum) -> Any:
    return [type(value).__qualname__, value.name if value.name is not None else str(value.value)]  # pyright: ignore[reportUnnecessaryComparison]


def _range(value: range) -> Any:
    return [len(value), value[0] if value else 0, value.step if len(value) > 1 else 0]


_LEAVES: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (Enum, "enum", _member),
    (dt.datetime, "datetime", _moment),
    (dt.date, "date", str),
    (dt.time, "time", _time),
    (
        dt.timedelta,
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds, getattr(value, "nanoseconds", 0)],
    ),
    ((bytes, bytearray), "bytes", lambda value: hashlib.sha256(value).hexdigest()),
    (PurePath, "path", str),
    (File, "file", lambda value: [value.name, value.digest]),
    (range, "range", _range),
)


def _counts(value: Any, hint: Any) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    if any(mark is NonIdentifying or isinstance(mark, NonIdentifying) for mark in marks):
        return False
    kind = bare(hint)
    return not isinstance(value, SECRETS) and not _is_secret(kind)


def _is_secret(kind: Any) -> bool:
    kind = bare(kind)
    return kind in SECRETS or (get_origin(kind) in UNIONS and any(map(_is_secret, get_args(kind))))


def _with_hints(values: list[Any] | tuple[Any, ...], hint: Any) -> list[tuple[Any, Any]]:
    kind = bare(hint)
    if get_origin(kind) in UNIONS:
        kind = next((bare(each) for each in get_args(kind) if get_origin(bare(each)) not in (None, dict)), Any)
    hints = list(field_hints(kind).values())
    args = [each for each in get_args(kind) if each is not Ellipsis]
    given = hints or (args if len(args) == len(values) else args[:1] * len(values))
    return list(zip(values, given if len(given) == len(values) else [Any] * len(values), strict=True))


def in_order(tree: Any) -> Any:
    """JSON with tags whose sets are in an order of their own."""
    if isinstance(tree, list):
        return [in_order(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    found = {name: in_order(each) for name, each in tree.items()}
    return {
        name: sorted(each, key=_sortable) if name in ("$set", "$frozenset") else each for name, each in found.items()
    }


def _sortable(tree: Any) -> str:
    return json.dumps(tree, sort_keys=True)

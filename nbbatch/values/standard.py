"""Forms of what comes with Python: numbers, times, paths, collections."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic_core import TzInfo

from nbbatch.values.files import TAG, File, stored, unstored
from nbbatch.values.tree import Form, Reader, Unstorable, Writer

_FACTORIES: dict[Any, str] = {None: "", int: "int", list: "list", dict: "dict", set: "set", float: "float", str: "str"}


def _by_text(kind: Callable[[str], Any], text: Callable[[Any], str] = str) -> tuple[Any, Any]:
    def write(_: Writer, value: Any) -> Any:
        return text(value)

    def read(_: Reader, tree: Any) -> Any:
        return kind(tree)

    return write, read


def _items_of(kind: Callable[[list[Any]], Any]) -> tuple[Any, Any]:
    def write(writer: Writer, value: Any) -> Any:
        return writer.items(value)

    def read(reader: Reader, tree: Any) -> Any:
        return kind(reader.get(tree))

    return write, read


# --- times ----------------------------------------------------------------------------------------


def zone(value: dt.tzinfo | None) -> Any:
    """A time zone as JSON: the name of its rules, or seconds east of UTC, with a name of its own if it has one."""
    if value is None:
        return None
    if isinstance(value, ZoneInfo) and value.key:
        return value.key
    if type(value) is TzInfo:
        return [cast("dt.timedelta", value.utcoffset(None)).total_seconds(), None, 1]
    if type(value) is dt.timezone:
        offset, name = value.utcoffset(None), value.tzname(None)
        return [offset.total_seconds(), None if name == dt.timezone(offset).tzname(None) else name]
    raise Unstorable(f"is in a time zone of type {type(value).__name__}; use zoneinfo.ZoneInfo or datetime.timezone")


def zone_of(tree: Any) -> dt.tzinfo | None:
    """What `zone` wrote."""
    if tree is None:
        return None
    if isinstance(tree, str):
        return ZoneInfo(tree)
    seconds, name, *made = tree
    if made:
        return TzInfo(seconds)
    offset = dt.timedelta(seconds=seconds)
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _moment(_: Writer, value: dt.datetime | dt.time) -> Any:
    return [value.replace(tzinfo=None, fold=0).isoformat(), zone(value.tzinfo), value.fold]


def _moment_of(kind: Any) -> Callable[[Reader, Any], Any]:
    def read(_: Reader, tree: Any) -> Any:
        return kind.fromisoformat(tree[0]).replace(tzinfo=zone_of(tree[1]), fold=tree[2])

    return read


def _length(_: Writer, value: dt.timedelta) -> Any:
    return [value.days, value.seconds, value.microseconds]


# --- collections ----------------------------------------------------------------------------------


def _table(writer: Writer, value: Mapping[Any, Any]) -> Any:
    return writer.pairs(value)


def _table_of(kind: Callable[[Any], Any]) -> Callable[[Reader, Any], Any]:
    def read(reader: Reader, tree: Any) -> Any:
        return kind((reader.get(key), reader.get(value)) for key, value in tree)

    return read


def _counter(pairs: Any) -> Any:
    made: Counter[Any] = Counter()
    made.update(dict(pairs))
    return made


def _default_table(writer: Writer, value: defaultdict[Any, Any]) -> Any:
    if value.default_factory not in _FACTORIES:
        raise Unstorable(
            f"is a defaultdict of {value.default_factory!r}, which has no stored form; make it a dict: dict(value)"
        )
    return [_FACTORIES[value.default_factory], writer.pairs(value)]


def _default_table_of(reader: Reader, tree: Any) -> Any:
    factory = {name: kind for kind, name in _FACTORIES.items()}[tree[0]]
    return defaultdict(factory, ((reader.get(key), reader.get(value)) for key, value in tree[1]))


def _queue_of(reader: Reader, tree: Any) -> Any:
    return deque(reader.get(tree[1]), tree[0])


def _pattern(writer: Writer, value: re.Pattern[Any]) -> Any:
    return [writer.put(value.pattern), value.flags & ~(re.UNICODE if isinstance(value.pattern, str) else 0)]


def _slice(writer: Writer, value: slice) -> Any:
    return writer.items([value.start, value.stop, value.step])


def _complex(_: Writer, value: complex) -> Any:
    return [repr(value.real), repr(value.imag)]


_TEXTS: dict[type, tuple[str, tuple[Any, Any]]] = {
    Decimal: ("decimal", _by_text(Decimal)),
    Fraction: ("fraction", _by_text(Fraction)),
    UUID: ("uuid", _by_text(UUID)),
    dt.date: ("date", _by_text(dt.date.fromisoformat, dt.date.isoformat)),
    **{
        kind: (f"ip.{kind.__name__}", _by_text(kind))
        for kind in (
            ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
            ipaddress.IPv4Interface, ipaddress.IPv6Interface,
        )
    },
}  # fmt: skip


def _path_of(kind: type[PurePath]) -> Form:
    def write(writer: Writer, value: PurePath) -> Any:
        return writer.put(str(value))

    return Form(f"$path.{kind.__name__}", write, lambda _, tree: kind(tree))


def _range_of(reader: Reader, tree: Any) -> range:
    return range(*reader.get(tree))


_OTHERS: dict[type, Form] = {
    int: Form("$int", lambda _, value: hex(value), lambda _, tree: int(tree, 16)),
    float: Form("$float", lambda _, value: repr(value), lambda _, tree: float(tree)),
    complex: Form("$complex", _complex, lambda _, tree: complex(float(tree[0]), float(tree[1]))),
    bytes: Form("$bytes", Writer.blob, Reader.blob),
    bytearray: Form("$bytearray", lambda writer, value: writer.blob(bytes(value)), lambda reader, tree: bytearray(reader.blob(tree))),
    dict: Form("$dict", _table, _table_of(dict)),
    OrderedDict: Form("$ordered", _table, _table_of(OrderedDict)),
    Counter: Form("$counter", _table, _table_of(_counter)),
    defaultdict: Form("$defaultdict", _default_table, _default_table_of),
    tuple: Form("$tuple", *_items_of(tuple)),
    set: Form("$set", *_items_of(set)),
    frozenset: Form("$frozenset", *_items_of(frozenset)),
    deque: Form("$deque", lambda writer, value: [value.maxlen, writer.items(value)], _queue_of),
    range: Form("$range", lambda writer, value: writer.items([value.start, value.stop, value.step]), _range_of),
    slice: Form("$slice", _slice, lambda reader, tree: slice(*reader.get(tree))),
    dt.datetime: Form("$datetime", _moment, _moment_of(dt.datetime)),
    dt.time: Form("$time", _moment, _moment_of(dt.time)),
    dt.timedelta: Form("$timedelta", _length, lambda _, tree: dt.timedelta(*tree)),
    dt.timezone: Form("$zone", lambda _, value: zone(value), lambda _, tree: zone_of(tree)),
    ZoneInfo: Form("$zone", lambda _, value: zone(value), lambda _, tree: zone_of(tree)),
    File: Form(TAG, lambda writer, value: writer.items(stored(value)), lambda _, tree: unstored(tree)),
    re.Pattern: Form("$pattern", _pattern, lambda reader, tree: re.compile(reader.get(tree[0]), tree[1])),
}  # fmt: skip

STANDARD: dict[type, Form] = {
    **{kind: Form(f"${name}", *pair) for kind, (name, pair) in _TEXTS.items()},
    **{kind: _path_of(kind) for kind in (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)},
    **_OTHERS,
}
"""By type. Lists, text, whole numbers, finite floats, True, False and None need none."""
NAMED = {form.tag: form for form in STANDARD.values()}
ABSTRACT = (Path, PurePath)
"""Declared types whose values are of a type above."""

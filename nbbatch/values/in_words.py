"""Frames, arrays and numbers of numpy and pandas in a few words, from their stored form: neither library is needed, and no code runs.

Words are for people who look without the job's code. What cannot be read, as its part is not at hand or damaged, is named only.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (a stored tree is Any all the way down)

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nbbatch.values.arrow_forms import read_frame

Parts = Sequence[memoryview]
_NAMES = {
    "$polars.frame": "polars.DataFrame", "$polars.lazy": "polars.DataFrame", "$polars.series": "polars.Series",
    "$pandas.frame": "pandas.DataFrame", "$pandas.series": "pandas.Series", "$pandas.index": "pandas.Index",
    "$pyarrow.table": "pyarrow.Table", "$pyarrow.batch": "pyarrow.RecordBatch",
}  # fmt: skip
_MOST = 12
"""Columns that are named."""
_READ_BYTES = 1_000_000
"""Larger tables of Arrow are only named."""
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
_NUMBERS = {
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "b1": "?",
}
_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def said(tag: str, tree: Any, parts: Parts) -> Any:
    """What stands for a tagged value of numpy, pandas, polars or pyarrow: a number or a text; else its type and what is known of it.

    >>> said("$numpy.array", ["<f8", [3, 2], "C", True, 0], [])
    '<numpy.ndarray 3 × 2: float64>'
    >>> said("$numpy.scalar", ["<f8", "000000000000f83f"], []), said("$pandas.moment", [0, "ns", None, 0], [])
    (1.5, '1970-01-01T00:00:00')
    """
    try:
        if tag in _PLAIN:
            return _PLAIN[tag](tree)
        about = _ABOUT[tag](tree, parts) if tag in _ABOUT else ""
    except Exception:  # it is damaged or of a form to come: whoever looks is told what it is, and sees the rest
        about = ""
    return f"<{_NAMES.get(tag, 'numpy.ndarray' if tag == '$numpy.array' else tag[1:])}{about}>"


def _shape(sizes: Sequence[int], columns: Sequence[Any] = ()) -> str:
    names = ", ".join(str(each) for each in columns[:_MOST]) + (", …" if len(columns) > _MOST else "")
    return f" {' × '.join(f'{each:,}' for each in sizes)}" + (f": {names}" if names else "")


# --- numpy ----------------------------------------------------------------------------------------


def _array(tree: Any, _: Parts) -> str:
    return _shape(tree[1], [_dtype(tree[0])])


def _dtype(descr: Any) -> str:
    if not isinstance(descr, str):
        return "str" if isinstance(descr, dict) and "strings" in descr else "records"
    kind, size = descr.lstrip("<>|=")[:1], descr.lstrip("<>|=")[1:]
    return {"b": "bool", "O": "object"}.get(kind) or (f"{_KINDS[kind]}{8 * int(size)}" if kind in _KINDS else descr)


def _number(tree: Any) -> Any:
    order = ">" if tree[0][:1] == ">" else "<"
    (value,) = struct.unpack(f"{order}{_NUMBERS[tree[0][1:]]}", bytes.fromhex(tree[1]))
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


# --- Arrow ----------------------------------------------------------------------------------------


def _table(part: int, parts: Parts) -> str:
    frame = _read(part, parts)
    return _shape(frame.shape, frame.columns)


def _read(part: int, parts: Parts) -> Any:
    data = parts[part]
    if len(data) > _READ_BYTES:
        raise ValueError(f"{len(data):,} bytes are too many to be read for a few words")
    return read_frame(data)


# --- pandas ---------------------------------------------------------------------------------------


def _frame(tree: Any, parts: Parts) -> str:
    columns, index, names, _ = tree
    return _shape((_rows(index, parts), len(columns)), _labels(names, parts))


def _series(tree: Any, parts: Parts) -> str:
    return _shape((_rows(tree[1], parts),), [] if tree[2] is None else [tree[2]])


def _rows(index: Any, parts: Parts) -> int:
    kind, _, *rest = index
    if kind == "range":
        return len(range(*rest))
    return rest[1][0]["$numpy.array"][1][0] if kind == "levels" else _length(rest[0], parts)


def _length(array: Any, parts: Parts) -> int:
    kind, *rest = array
    match kind:
        case "texts":
            return len(rest[2]) if isinstance(rest[2], list) else _read(rest[2], parts).height
        case "arrow":
            return _read(rest[0], parts).height
        case "intervals":
            return _rows(rest[0], parts)
        case "sparse":
            return rest[2]
        case _:
            return rest[1 if kind == "masked" else 0]["$numpy.array"][1][0]


def _labels(index: Any, parts: Parts) -> list[Any]:
    """The names of columns; none where they are numbers, levels, or not at hand."""
    kind, _, *rest = index
    content = rest[0][-1] if kind == "values" else None
    if isinstance(content, dict):
        content = content["$numpy.array"][-1] if "$numpy.array" in content else None
    if kind == "values" and rest[0][0] == "texts" and isinstance(content, int):
        return _read(content, parts).to_series().to_list() if content < len(parts) else []
    return [each for each in content if isinstance(each, str)] if isinstance(content, list) else []


def _moment(tree: Any) -> str:
    number, unit, zone, _ = tree
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number * 10**6 // _A_SECOND[unit])
    return at.replace(tzinfo=None).isoformat() if zone is None else at.isoformat()


def _span(tree: Any) -> str:
    return str(timedelta(microseconds=tree[0] * 10**6 // _A_SECOND[tree[1]]))


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "$numpy.scalar": _number, "$pandas.moment": _moment, "$pandas.length": _span,
    "$pandas.nat": lambda _: None, "$pandas.na": lambda _: None,
}  # fmt: skip
_ABOUT: dict[str, Callable[[Any, Parts], str]] = {
    "$numpy.array": _array, "$numpy.recarray": _array, "$numpy.matrix": _array, "$numpy.masked": lambda tree, _: _array(tree[0], ()),
    "$pandas.frame": _frame, "$pandas.series": _series, "$pandas.index": lambda tree, parts: _shape((_rows(tree, parts),)),
    "$polars.frame": _table, "$polars.lazy": _table, "$polars.series": _table, "$pyarrow.table": _table, "$pyarrow.batch": _table,
}  # fmt: skip
TABLES = frozenset((*_ABOUT, "$pandas.array", "$pyarrow.array", "$pyarrow.chunked"))
"""Tags of frames, series and arrays: what JSON has no word for."""

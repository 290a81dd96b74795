"""Forms of pandas' frames, series, indexes, arrays and scalars: index, names, dtypes, order and attrs come back as they were.

Columns are taken apart into numpy arrays and Arrow columns, which go beside the JSON; only columns of Python objects are
written value by value.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# (pandas and pyarrow come without complete types)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd

from nbbatch.values import numpy_forms
from nbbatch.values.arrow_forms import read_table, write_table
from nbbatch.values.standard import zone, zone_of
from nbbatch.values.tree import Form, Reader, Unstorable, Writer

# --- arrays: what columns and indexes hold --------------------------------------------------------


def _array(writer: Writer, value: Any) -> Any:
    """Kind of array, then what that kind is made of."""
    dtype = value.dtype
    if type(value) is pd.arrays.NumpyExtensionArray or isinstance(dtype, np.dtype):
        return ["numpy", writer.put(np.asarray(value))]
    for kind, name, write, _ in _ARRAYS:
        if isinstance(dtype, kind):
            return [name, *write(writer, value)]
    if hasattr(value, "_mask") and hasattr(value, "_data"):
        return ["masked", str(dtype), writer.put(value._data), writer.put(value._mask)]
    raise Unstorable(
        f"holds values of type {dtype}, which has no stored form; cast them to another type, or tell nb.storable() how"
    )


def _array_of(reader: Reader, tree: Any) -> Any:
    name, *parts = tree
    if name == "numpy":
        return reader.get(parts[0])
    if name == "masked":
        kind: Any = cast("Any", pd.api.types.pandas_dtype(parts[0])).construct_array_type()
        return kind(reader.get(parts[1]), reader.get(parts[2]))
    return next(read for _, each, _, read in _ARRAYS if each == name)(reader, *parts)


def _whole_array_of(reader: Reader, tree: Any) -> Any:
    array = _array_of(reader, tree)
    return pd.array(array, dtype=array.dtype) if isinstance(array, np.ndarray) else array


def _categories(writer: Writer, value: Any) -> list[Any]:
    return [writer.put(np.asarray(value.codes)), _index(writer, value.categories), bool(value.ordered)]


def _categories_of(reader: Reader, codes: Any, categories: Any, ordered: bool) -> Any:
    dtype = pd.CategoricalDtype(_index_of(reader, categories), ordered)
    return pd.Categorical.from_codes(reader.get(codes), dtype=dtype)


def _zoned(writer: Writer, value: Any) -> list[Any]:
    return [writer.put(value.asi8), value.dtype.unit, zone(value.dtype.tz)]


def _zoned_of(reader: Reader, numbers: Any, unit: str, tz: Any) -> Any:
    return pd.DatetimeIndex(reader.get(numbers).view(f"M8[{unit}]")).tz_localize("UTC").tz_convert(zone_of(tz)).array


def _periods(writer: Writer, value: Any) -> list[Any]:
    return [writer.put(value.asi8), str(value.dtype)]


def _periods_of(reader: Reader, numbers: Any, dtype: str) -> Any:
    return pd.arrays.PeriodArray(reader.get(numbers), dtype=pd.api.types.pandas_dtype(dtype))


def _intervals(writer: Writer, value: Any) -> list[Any]:
    return [_index(writer, pd.Index(value.left)), _index(writer, pd.Index(value.right)), value.closed]


def _intervals_of(reader: Reader, left: Any, right: Any, closed: Any) -> Any:
    return pd.arrays.IntervalArray.from_arrays(_index_of(reader, left), _index_of(reader, right), closed)


def _texts(writer: Writer, value: Any) -> list[Any]:
    dtype = value.dtype
    if dtype.storage == "pyarrow":
        return [dtype.storage, writer.put(dtype.na_value), writer.part(_arrow(value))]
    return [dtype.storage, writer.put(dtype.na_value), writer.items(np.asarray(value, dtype=object).tolist())]


def _texts_of(reader: Reader, storage: str, missing: Any, content: Any) -> Any:
    dtype = pd.StringDtype(storage, na_value=reader.get(missing))
    if storage == "pyarrow":
        return cast("Any", dtype.construct_array_type())(read_table(reader.parts[content]).column(0), dtype=dtype)
    return pd.array(reader.get(content), dtype=dtype)


def _arrow(value: Any) -> Any:
    import pyarrow as pa

    return write_table(pa.table({"": value.__arrow_array__()}))


def _arrows_of(reader: Reader, content: int) -> Any:
    return pd.arrays.ArrowExtensionArray(read_table(reader.parts[content]).column(0))


def _sparse(writer: Writer, value: Any) -> list[Any]:
    places = np.asarray(
        value.sp_index.indices if hasattr(value.sp_index, "indices") else value.sp_index.to_int_index().indices
    )
    return [
        writer.put(np.asarray(value.sp_values)),
        writer.put(places),
        len(value),
        writer.put(value.fill_value),
        value.kind,
    ]


def _sparse_of(reader: Reader, values: Any, places: Any, size: int, fill: Any, kind: Any) -> Any:
    given, fill_value = reader.get(values), reader.get(fill)
    dense = np.full(size, fill_value, dtype=np.result_type(given.dtype, np.asarray(fill_value).dtype))
    dense[reader.get(places)] = given
    return pd.arrays.SparseArray(dense, fill_value=fill_value, kind=kind, dtype=pd.SparseDtype(given.dtype, fill_value))


_ARRAYS: tuple[tuple[type, str, Any, Any], ...] = (
    (pd.CategoricalDtype, "categories", _categories, _categories_of),
    (pd.DatetimeTZDtype, "zoned", _zoned, _zoned_of),
    (pd.PeriodDtype, "periods", _periods, _periods_of),
    (pd.IntervalDtype, "intervals", _intervals, _intervals_of),
    (pd.StringDtype, "texts", _texts, _texts_of),
    (pd.ArrowDtype, "arrow", lambda writer, value: [writer.part(_arrow(value))], _arrows_of),
    (pd.SparseDtype, "sparse", _sparse, _sparse_of),
)

# --- indexes, series, frames ----------------------------------------------------------------------


def _index(writer: Writer, value: Any) -> Any:
    names = writer.items(value.names)
    if isinstance(value, pd.RangeIndex):
        return ["range", names, value.start, value.stop, value.step]
    if isinstance(value, pd.MultiIndex):
        codes = [writer.put(np.asarray(each)) for each in value.codes]
        return ["levels", names, [_index(writer, each) for each in value.levels], codes, value.sortorder]
    return ["values", names, _array(writer, value.array), _step(value)]


def _step(value: Any) -> str | None:
    """The frequency of an index of times, by name."""
    step = getattr(value, "freq", None)
    if step is None or isinstance(value, pd.PeriodIndex):
        return None
    if pd.tseries.frequencies.to_offset(step.freqstr) != step:
        raise Unstorable(f"has an index with the frequency {step!r}, which has no name; set index.freq = None")
    return step.freqstr


def _index_of(reader: Reader, tree: Any) -> Any:
    kind, names, *parts = tree
    names = reader.get(names)
    if kind == "range":
        return pd.RangeIndex(*parts, name=names[0])
    if kind == "levels":
        levels, codes, order = parts
        given = [reader.get(each) for each in codes]
        return pd.MultiIndex([_index_of(reader, each) for each in levels], given, order, names, verify_integrity=False)
    array, step = _array_of(reader, parts[0]), parts[1]
    index = pd.Index(array, dtype=array.dtype, name=names[0], copy=False)
    if step is not None:
        index.freq = step  # pyright: ignore[reportAttributeAccessIssue]
    return index


def _part(name: str, write: Callable[[Writer, Any], Any], writer: Writer, value: Any) -> Any:
    """A part of a series or frame; what is refused in it is named by it."""
    try:
        return write(writer, value)
    except Unstorable as error:
        raise error.under(f".{name}") from None


def _facts(writer: Writer, value: Any) -> Any:
    """What a series or frame carries beside its values."""
    return [_part("attrs", Writer.put, writer, value.attrs), value.flags.allows_duplicate_labels]


def _with_facts(reader: Reader, made: Any, facts: Any) -> Any:
    made.attrs = reader.get(facts[0])
    return made if facts[1] else made.set_flags(allows_duplicate_labels=False)


def _series(writer: Writer, value: Any) -> Any:
    array = _array(writer, value.array)
    return [
        array,
        _part("index", _index, writer, value.index),
        _part("name", Writer.put, writer, value.name),
        _facts(writer, value),
    ]


def _series_of(reader: Reader, tree: Any) -> Any:
    array, index, name, facts = tree
    given = _array_of(reader, array)
    made = pd.Series(given, _index_of(reader, index), given.dtype, reader.get(name), copy=False)
    return _with_facts(reader, made, facts)


def _frame(writer: Writer, value: Any) -> Any:
    columns: list[Any] = []
    try:
        for place in range(value.shape[1]):
            columns.append(_array(writer, value.iloc[:, place].array))  # noqa: PERF401 - which one it is
    except Unstorable as error:
        raise error.under(f".{value.columns[len(columns)]}") from None
    index = _part("index", _index, writer, value.index)
    return [columns, index, _part("columns", _index, writer, value.columns), _facts(writer, value)]


def _frame_of(reader: Reader, tree: Any) -> Any:
    columns, index, names, facts = tree
    given = {place: _array_of(reader, each) for place, each in enumerate(columns)}
    series = {place: pd.Series(each, dtype=each.dtype, copy=False) for place, each in given.items()}
    made = pd.DataFrame(series, copy=False) if series else pd.DataFrame()
    if not series:
        made = pd.DataFrame(index=_index_of(reader, index))
    made.index, made.columns = _index_of(reader, index), _index_of(reader, names)
    return _with_facts(reader, made, facts)


# --- scalars --------------------------------------------------------------------------------------


def _moment(_: Writer, value: Any) -> Any:
    number = value.asm8
    return [int(number.astype("i8")), np.datetime_data(number.dtype)[0], zone(value.tzinfo), value.fold]


def _moment_of(_: Reader, tree: Any) -> Any:
    number, unit, tz, fold = tree
    made = pd.Timestamp(np.datetime64(number, unit))
    if tz is not None:
        made = made.tz_localize("UTC").tz_convert(zone_of(tz))
    return made if made.fold == fold else made.replace(fold=fold)


def _length(_: Writer, value: Any) -> Any:
    return [int(value.asm8.astype("i8")), np.datetime_data(value.asm8.dtype)[0]]


def _interval_of(reader: Reader, tree: Any) -> Any:
    return pd.Interval(reader.get(tree[0]), reader.get(tree[1]), tree[2])


_FORMS: dict[type, Form] = {
    pd.DataFrame: Form("$pandas.frame", _frame, _frame_of),
    pd.Series: Form("$pandas.series", _series, _series_of),
    pd.Timestamp: Form("$pandas.moment", _moment, _moment_of),
    pd.Timedelta: Form("$pandas.length", _length, lambda _, tree: pd.Timedelta(np.timedelta64(*tree))),
    type(pd.NaT): Form("$pandas.nat", lambda *_: None, lambda *_: pd.NaT),
    type(pd.NA): Form("$pandas.na", lambda *_: None, lambda *_: pd.NA),
    pd.Period: Form(
        "$pandas.period",
        lambda _, value: [value.ordinal, value.freqstr],
        lambda _, tree: pd.Period(ordinal=tree[0], freq=tree[1]),
    ),
    pd.Interval: Form(
        "$pandas.interval", lambda writer, value: [*writer.items([value.left, value.right]), value.closed], _interval_of
    ),
}
_INDEX = Form("$pandas.index", _index, _index_of)
_ARRAY = Form("$pandas.array", _array, _whole_array_of)
NAMED = {form.tag: form for form in (_INDEX, _ARRAY, *_FORMS.values())}


def form_for(kind: type) -> Form | None:
    """The form of one of pandas' types."""
    if issubclass(kind, pd.Index) and kind.__module__.startswith("pandas"):
        return _INDEX
    if issubclass(kind, pd.api.extensions.ExtensionArray) and kind.__module__.startswith("pandas"):
        return _ARRAY
    return _FORMS.get(kind) or numpy_forms.form_for(kind)

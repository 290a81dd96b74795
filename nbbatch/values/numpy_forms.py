"""Forms of numpy's arrays and scalars: dtype, shape, order and writability come back, and the bytes as they are.

An array that is not contiguous comes back in C order. One that was writable comes back writable, which costs a copy; one
that was not is a view of the stored bytes.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# (numpy's arrays of objects come without complete types)

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.lib import format as npy

from nbbatch.values.tree import Form, Reader, Unstorable, Writer


def _dtype(writer: Writer, dtype: np.dtype[Any]) -> Any:
    if isinstance(dtype, np.dtypes.StringDType):
        marked = hasattr(dtype, "na_object")
        return {"strings": [dtype.coerce, *([writer.put(dtype.na_object)] if marked else [])]}
    return writer.put(npy.dtype_to_descr(dtype))


def _dtype_of(reader: Reader, tree: Any) -> np.dtype[Any]:
    if isinstance(tree, dict) and "strings" in tree:
        coerce, *missing = cast("list[Any]", tree["strings"])
        if missing:
            return np.dtypes.StringDType(coerce=coerce, na_object=reader.get(missing[0]))
        return np.dtypes.StringDType(coerce=coerce)
    return npy.descr_to_dtype(reader.get(tree))


def _array(writer: Writer, value: np.ndarray[Any, Any]) -> Any:
    """dtype, shape, order, writable, content."""
    dtype, fortran = value.dtype, value.flags.fnc
    head = [_dtype(writer, dtype), list(value.shape), "F" if fortran else "C", bool(value.flags.writeable)]
    if dtype.hasobject or isinstance(dtype, np.dtypes.StringDType):
        if dtype.names is not None:
            raise Unstorable(
                "is a structured array that holds Python objects, which has no stored form; store its fields apart"
            )
        return [*head, writer.items(value.ravel("F" if fortran else "C").tolist())]
    flat = np.ascontiguousarray(value.T if fortran else value).reshape(-1)
    return [*head, writer.part(flat.view(np.uint8) if flat.size and dtype.itemsize else b"")]


def _array_of(reader: Reader, tree: Any) -> np.ndarray[Any, Any]:
    dtype, shape, order, writable, content = tree
    dtype = _dtype_of(reader, dtype)
    if isinstance(content, list):
        array = np.empty(len(content), dtype)  # pyright: ignore[reportUnknownArgumentType]
        for place, each in enumerate(reader.get(content)):  # assigned one by one: a list is no row of the array
            array[place] = each
    elif len(reader.parts[content]) == 0:
        array = np.empty(shape, dtype).reshape(-1)
    else:
        array = np.frombuffer(reader.parts[content], dtype)
        array = array.copy() if writable else array
    array = array.reshape(shape, order=order)
    array.flags.writeable = writable
    return array


def _viewed(kind: Any) -> Any:
    def read(reader: Reader, tree: Any) -> Any:
        return _array_of(reader, tree).view(kind)

    return read


def _masked(writer: Writer, value: Any) -> Any:
    mask = None if value.mask is np.ma.nomask else writer.put(np.asarray(value.mask))
    fill = None if value._fill_value is None else writer.put(np.asarray(value.fill_value))
    return [_array(writer, value.data), mask, fill, bool(value.hardmask)]


def _masked_of(reader: Reader, tree: Any) -> Any:
    data, mask, fill, hard = tree
    given = np.ma.nomask if mask is None else reader.get(mask)
    fill_value = None if fill is None else reader.get(fill)[()]
    return np.ma.MaskedArray(_array_of(reader, data), mask=given, fill_value=fill_value, hard_mask=hard)


def _scalar(writer: Writer, value: np.generic) -> Any:
    if value.dtype.hasobject:
        raise Unstorable("is a numpy scalar that holds Python objects, which has no stored form")
    whole = np.asarray(value)  # whose dtype has a size, also for an empty text
    return [_dtype(writer, whole.dtype), whole.tobytes().hex()]


def _scalar_of(reader: Reader, tree: Any) -> Any:
    return np.frombuffer(bytes.fromhex(tree[1]), _dtype_of(reader, tree[0]))[0]


_ARRAY = Form("$numpy.array", _array, _array_of)
_SCALAR = Form("$numpy.scalar", _scalar, _scalar_of)
_DTYPE = Form("$numpy.dtype", _dtype, _dtype_of)
_FORMS: dict[type, Form] = {
    np.ndarray: _ARRAY,
    np.ma.MaskedArray: Form("$numpy.masked", _masked, _masked_of),
    np.recarray: Form("$numpy.recarray", _array, _viewed(np.recarray)),
    np.matrix: Form("$numpy.matrix", _array, _viewed(np.matrix)),
}
NAMED = {form.tag: form for form in (_ARRAY, _SCALAR, _DTYPE, *_FORMS.values())}


def form_for(kind: type) -> Form | None:
    """The form of one of numpy's types."""
    if issubclass(kind, np.generic):
        return _SCALAR
    return _DTYPE if issubclass(kind, np.dtype) else _FORMS.get(kind)

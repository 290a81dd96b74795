"""Forms of what is Arrow already: polars frames and series, pyarrow tables. Their buffers go beside the JSON as they are."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# (pyarrow comes without complete types)

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from nbbatch.base.errors import ValueNotStorable
from nbbatch.values.tree import Form, Reader, Unstorable, Writer

# --- polars ---------------------------------------------------------------------------------------


SAMPLE_BYTES = 32_000
"""Of a frame so much is compressed to see whether all of it should be …"""
BIG_BYTES = 8 * SAMPLE_BYTES
"""… where it is at least this big …"""
WORTH = 0.85
"""… and that leaves no more than this share: compressing and reading 1 MB of noise takes five times as long as writing it as it is."""


_FILE, _STREAM = b"ARROW1", b"\xff\xff\xff\xff"


def is_frame(data: bytes) -> bool:
    """Whether stored bytes are what `write_frame` makes of a frame.

    >>> is_frame(b"ARROW1..."), is_frame(b'"ARROW1"')
    (True, False)
    """
    return data.startswith((_FILE, _STREAM))


def write_frame(frame: Any, compression: Any = None) -> bytes:
    """A polars frame as an Arrow file, or as an Arrow stream where it is big and does not get smaller.

    Args:
        frame: The frame.
        compression: As polars calls it; None: what suits it.

    Raises:
        ValueNotStorable: It has a column that would not come back equal.
    """
    objects = [name for name, dtype in frame.schema.items() if "Object" in str(dtype)]
    if objects:
        raise ValueNotStorable(f"column {objects[0]!r} holds Python objects, which Arrow cannot represent")
    buffer = BytesIO()
    try:
        _write(frame, buffer, compression)
        data = buffer.getvalue()
        odd = [name for name, dtype in frame.schema.items() if not _is_known(dtype)]
        if odd and not _same(frame, read_frame(data)):
            raise ValueNotStorable(_odd(odd[0], frame.schema[odd[0]]))
    except (ValueNotStorable, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # polars panics with an exception of its own, which is no Exception
        odd = [name for name, dtype in frame.schema.items() if not _is_known(dtype)]
        name = odd[0] if odd else next(iter(frame.schema), "")
        raise ValueNotStorable(f"{_odd(name, frame.schema.get(name))} ({type(error).__name__})") from error
    return data


def _write(frame: Any, buffer: BytesIO, compression: Any) -> None:
    """A stream is written by this very thread, a file by several that it has to wait for. Equal frames are written alike."""
    frame = frame.rechunk()
    if compression is None and _is_noise(frame):
        frame.write_ipc_stream(buffer, compression="uncompressed")
    else:
        frame.write_ipc(buffer, compression=compression or "zstd")


def pouring(frame: Any) -> Callable[[BinaryIO], None] | None:
    """What writes a frame straight to a file, as `write_frame` makes it; None: it is small, gets smaller, or has to be looked at first.

    Of a frame of 1 MB two copies less are made on the way, which in a worker with other threads take longer than writing it.
    """
    if frame.estimated_size() < BIG_BYTES or not all(map(_is_known, frame.dtypes)):
        return None
    frame = frame.rechunk()
    return partial(frame.write_ipc_stream, compression="uncompressed") if _is_noise(frame) else None


def draw(file: BinaryIO) -> Any:
    """The frame that wrote itself to a file by `pouring`: of its bytes no copy is made in between."""
    import polars as pl

    return pl.read_ipc_stream(file)


def _is_noise(frame: Any) -> bool:
    """Whether a frame is big, and compressing it is not worth its time; the same for equal frames."""
    size = frame.estimated_size()
    if size < BIG_BYTES or not frame.height:
        return False
    rows = max(1, frame.height * SAMPLE_BYTES // size)
    sample = frame.slice((frame.height - rows) // 2, rows)
    return _stream_bytes(sample, "zstd") > WORTH * _stream_bytes(sample, "uncompressed")


def _stream_bytes(frame: Any, compression: str) -> int:
    buffer = BytesIO()
    frame.write_ipc_stream(buffer, compression=compression)
    return buffer.tell()


def _odd(name: str, dtype: Any) -> str:
    return f"column {name!r} is of type {dtype}, which Arrow does not give back equal; cast it, or leave it out"


def read_frame(data: Any) -> Any:
    """The polars frame that an Arrow file or stream holds."""
    import polars as pl

    return (pl.read_ipc_stream if data[: len(_STREAM)] == _STREAM else pl.read_ipc)(_Bytes(data))


class _Bytes(BytesIO):
    """Bytes as a file; polars asks for the buffer to see whether it is empty, and BytesIO copies it for whoever may write to it."""

    def getbuffer(self) -> memoryview:
        return memoryview(self.getvalue())


def _same(one: Any, other: Any) -> bool:
    return one.schema == other.schema and one.equals(other, null_equal=True)


def _is_known(dtype: Any) -> bool:
    """Whether Arrow surely gives this type of column back; the others are looked at each time."""
    import polars as pl

    if isinstance(dtype, pl.Array):
        return dtype.size > 0 and _is_known(dtype.inner)
    if isinstance(dtype, pl.List):
        return _is_known(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return bool(dtype.fields) and all(_is_known(field.dtype) for field in dtype.fields)
    if isinstance(dtype, pl.Categorical):
        return dtype == pl.Categorical()
    return isinstance(dtype, (
        pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64,
        pl.String, pl.Binary, pl.Date, pl.Datetime, pl.Duration, pl.Time, pl.Decimal, pl.Enum, pl.Null,
    ))  # fmt: skip


def _frame(writer: Writer, value: Any) -> Any:
    try:
        return writer.part(write_frame(value, "uncompressed"))
    except ValueNotStorable as error:
        raise Unstorable(f"cannot be stored: {error}") from None


def _frame_of(reader: Reader, tree: Any) -> Any:
    return read_frame(reader.parts[tree])


def _polars(kind: type) -> Form | None:
    import polars as pl

    return {pl.DataFrame: _FRAME, pl.LazyFrame: _LAZY, pl.Series: _SERIES}.get(kind)


_FRAME = Form("$polars.frame", _frame, _frame_of)
_LAZY = Form(
    "$polars.lazy",
    lambda writer, value: _frame(writer, value.collect()),
    lambda reader, tree: _frame_of(reader, tree).lazy(),
)
_SERIES = Form(
    "$polars.series",
    lambda writer, value: _frame(writer, value.to_frame()),
    lambda reader, tree: _frame_of(reader, tree).to_series(),
)

# --- pyarrow --------------------------------------------------------------------------------------


def write_table(value: Any) -> Any:
    """A pyarrow table as an Arrow stream, in a buffer."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema, options=pa.ipc.IpcWriteOptions(unify_dictionaries=True)) as stream:
        stream.write_table(value) if isinstance(value, pa.Table) else stream.write_batch(value)
    return sink.getvalue()


def read_table(data: Any) -> Any:
    """The pyarrow table of an Arrow stream, whose columns are views of it."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def _table(writer: Writer, value: Any) -> Any:
    return writer.part(write_table(value))


def _table_of(reader: Reader, tree: Any) -> Any:
    return read_table(reader.parts[tree])


def _batch_of(reader: Reader, tree: Any) -> Any:
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(reader.parts[tree])).read_next_batch()


def _column(writer: Writer, value: Any) -> Any:
    import pyarrow as pa

    return writer.part(write_table(pa.table({"": value})))


def _column_of(reader: Reader, tree: Any) -> Any:
    return _table_of(reader, tree).column(0)


def _array_of(reader: Reader, tree: Any) -> Any:
    import pyarrow as pa

    column = _column_of(reader, tree)
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )


def _schema(writer: Writer, value: Any) -> Any:
    return writer.part(value.serialize())


def _schema_of(reader: Reader, tree: Any) -> Any:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(reader.parts[tree]))


_TABLE = Form("$pyarrow.table", _table, _table_of)
_BATCH = Form("$pyarrow.batch", _table, _batch_of)
_COLUMN = Form("$pyarrow.chunked", _column, _column_of)
_ARRAY = Form("$pyarrow.array", _column, _array_of)
_SCHEMA = Form("$pyarrow.schema", _schema, _schema_of)


def _pyarrow(kind: type) -> Form | None:
    import pyarrow as pa

    if issubclass(kind, pa.Array):
        return _ARRAY
    return {pa.Table: _TABLE, pa.RecordBatch: _BATCH, pa.ChunkedArray: _COLUMN, pa.Schema: _SCHEMA}.get(kind)


NAMED = {form.tag: form for form in (_FRAME, _LAZY, _SERIES, _TABLE, _BATCH, _COLUMN, _ARRAY, _SCHEMA)}


def form_for(kind: type) -> Form | None:
    """The form of one of polars's or pyarrow's types."""
    return (_polars if kind.__module__.partition(".")[0] == "polars" else _pyarrow)(kind)

"""Typed values ↔ stored bytes. JSON through pydantic, Arrow IPC for polars frames; never pickle.

A value is stored as the type that the step declares, and what that type cannot give back is refused with the field that
cannot: NaN turned into null, text that is no text, secrets. What the declared type leaves out on purpose is not kept: fields
of a subclass, fields marked ``exclude``. Secrets are refused in chunk values and kept out of stored parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from io import BytesIO
from types import UnionType
from typing import Annotated, Any, Union, cast, final, get_args, get_origin

from pydantic import (
    ConfigDict,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import to_json

from nbbatch.base.errors import ValueNotStorable

MAX_VALUE_BYTES = 256_000_000
"""The largest value one chunk may hold, in stored bytes."""
_SCALARS = {"int", "str", "bool"}
"""Types whose one JSON form needs no options, which cost more than the value."""
STORED: dict[str, Any] = {"by_alias": False, "round_trip": True}
"""By field name and without computed fields: what is stored must validate again."""
MASK = "**********"
MASK_BYTES = MASK.encode()
_WRAPPERS = {"Required", "NotRequired", "ReadOnly"}
UNIONS = (Union, UnionType)
SECRETS = (SecretStr, SecretBytes, Secret)
REFUSED = (ValueError, RecursionError)
"""What pydantic's serializer raises: its own error and UnicodeError are ValueErrors, as is a circular reference."""


@final
class Codec:
    """Encodes and decodes values of one declared type."""

    __slots__ = ("_adapter", "_to_json", "_validate", "decode", "encode", "media", "type")

    def __init__(self, annotation: Any) -> None:
        """Build the codec.

        Raises:
            pydantic.errors.PydanticUserError, TypeError: pydantic knows no form of this type.
        """
        self.type = annotation
        self.media = "arrow" if _is_frame(bare(annotation)) else "json"
        self.encode: Callable[[Any], bytes] = self._encode_frame if self.media == "arrow" else self._encode_json
        self.decode: Callable[[bytes], Any] = decode_frame
        if self.media == "json":
            self._adapter = adapter_of(annotation)
            self._validate = self._adapter.validator.validate_python
            self._to_json = self._adapter.serializer.to_json
            if self._adapter.core_schema["type"] not in _SCALARS:
                self._to_json = partial(self._to_json, **STORED, warnings="error")
            self.decode = partial(self._adapter.validator.validate_json, by_alias=True, by_name=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return codec_for, (self.type,)

    def _encode_json(self, value: Any) -> bytes:
        value = self._validate(value)
        try:
            data = self._to_json(value)
        except REFUSED as error:
            raise ValueNotStorable(why_refused(self._adapter, value, error)) from error
        if b"null" in data or MASK_BYTES in data:
            self._check_leaves(value, data)
        return _sized(data)

    def _check_leaves(self, value: Any, data: bytes) -> None:
        """Find what JSON would not give back: NaN written as null, secrets written as stars."""
        stored = dict(leaves(json.loads(data)))
        for path, leaf in leaves(tree_of(self._adapter, value)):
            if isinstance(leaf, float) and not math.isfinite(leaf) and stored.get(path) is None:
                raise ValueNotStorable(_not_finite(path, leaf))
            if isinstance(leaf, SECRETS):
                raise ValueNotStorable(
                    f"{path or 'the value'} is a secret, and secrets are not stored; "
                    "make it a field of the job's parameters and take params as the step's second argument"
                )

    def _encode_frame(self, value: Any) -> bytes:
        if not _is_frame(type(value)):
            raise TypeError(f"declared polars.DataFrame, but got {type(value).__name__}")
        objects = [name for name, dtype in value.schema.items() if "Object" in str(dtype)]
        if objects:
            raise ValueNotStorable(f"column {objects[0]!r} holds Python objects, which Arrow cannot represent")
        buffer = BytesIO()
        value.write_ipc(buffer, compression="zstd")
        return _sized(buffer.getvalue())


@lru_cache(maxsize=1024)
def _cached_codec(annotation: Any) -> Codec:
    return Codec(annotation)


def codec_for(annotation: Any) -> Codec:
    """The codec of a declared type."""
    try:
        return _cached_codec(annotation)
    except TypeError:  # an annotation that cannot be hashed, such as Annotated with a list
        return Codec(annotation)


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """pydantic's adapter; plain types keep NaN and infinities, models decide for themselves."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(ser_json_inf_nan="constants"))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(annotation)


def bare(annotation: Any) -> Any:
    """The type without ``Annotated``, ``Required`` and the like, and without a NewType's or alias's name."""
    while True:
        if getattr(get_origin(annotation), "__name__", "") in _WRAPPERS or get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif (
            inner := getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
        ) is not None:
            annotation = inner
        else:
            return annotation


def _is_frame(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and annotation.__name__ == "DataFrame"
        and annotation.__module__.partition(".")[0] == "polars"
    )


def decode_frame(data: bytes) -> Any:
    import polars as pl

    return pl.read_ipc(BytesIO(data))


def _sized(data: bytes) -> bytes:
    if len(data) > MAX_VALUE_BYTES:
        raise ValueNotStorable(
            f"the value takes {len(data):,} bytes; at most {MAX_VALUE_BYTES:,} fit into a chunk. "
            "Write it to a file and give the path, or split it"
        )
    return data


def tree_of(adapter: TypeAdapter[Any], value: Any) -> Any:
    """The value as dicts and sequences of Python values, with the keys of its stored form."""
    return adapter.dump_python(value, **STORED, warnings=False)


def _not_finite(path: str, leaf: float) -> str:
    return (
        f"{path or 'the value'} is {leaf}, which JSON would turn into null; give None, or set "
        "model_config = ConfigDict(ser_json_inf_nan='constants') on its model (__pydantic_config__ on a dataclass)"
    )


def why_refused(adapter: TypeAdapter[Any], value: Any, error: Exception, *, shown: bool = True) -> str:
    """Which field has no JSON form, and why."""
    first = _plain(str(error).partition("\n")[0])
    try:
        tree = tree_of(adapter, value)
        for path, leaf in leaves(tree):
            if reason := _unstorable(leaf, path, shown=shown):
                return f"{_plain(path) or 'the value'} {reason}"
        adapter.validate_python(tree, by_alias=True, by_name=True)
    except ValidationError as wrong:
        line = wrong.errors(include_url=False)[0]
        given = f", not {line['input']!r:.200}" if shown else ""
        return _plain(f"{'.'.join(map(str, line['loc'])) or 'the value'}: {line['msg']}{given}")
    except REFUSED:
        pass  # the search met what the serializer met, such as a circular reference
    return f"the value has no JSON form: {first}"


def _unstorable(leaf: Any, path: str, *, shown: bool) -> str:
    if not _is_text(path):
        return "has a lone surrogate in its key, which is not text; encode it first"
    if isinstance(leaf, str) and not _is_text(leaf):
        given = f", {leaf[:80]!r}" if shown else ""
        return f"holds a lone surrogate{given}, which is not text; encode it first"
    try:
        to_json(leaf)
    except REFUSED as error:
        return f"has no JSON form: {_plain(str(error).partition(chr(10))[0])}"
    return ""


def problems(error: ValidationError) -> str:
    """Field paths and messages, without the values: they may be secrets."""
    lines = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, line['loc'])) or 'the value'}: {line['msg']}" for line in lines)


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def plain(data: bytes) -> Any:
    """A stored value without its type: JSON values, or a frame.

    >>> plain(b'{"a": [1]}')
    {'a': [1]}
    """
    return decode_frame(data) if data.startswith(b"ARROW1") else json.loads(data)


def leaves(tree: Any, path: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dicts and sequences with its path, such as ``lines[2].price``; if asked, empty ones too."""
    if empty and tree in ([], {}):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(value, f"{path}.{key}" if path else str(key), empty=empty)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(tree, Sequence) and not isinstance(tree, str | bytes | bytearray):
        for index, value in enumerate(tree):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from leaves(value, f"{path}[{index}]", empty=empty)
    elif isinstance(tree, AbstractSet):
        for value in tree:  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(value, f"{path}{{}}", empty=empty)
    else:
        yield path, tree


# --- pages: what ``bisect=True`` splits ------------------------------------------------------------

_PAGES = (list, tuple, Sequence, MutableSequence)


def is_page(annotation: Any) -> bool:
    """Whether values of a type can be split: lists, tuples of any length, frames.

    >>> is_page(list[int]), is_page(tuple[int, ...]), is_page(tuple[int, str]), is_page(str)
    (True, True, False, False)
    """
    if get_origin(annotation) is Annotated:
        return is_page(get_args(annotation)[0])
    kind = get_origin(annotation) or annotation
    if kind is tuple:
        return get_args(annotation)[1:] == (Ellipsis,)
    return kind in _PAGES or codec_for(annotation).media == "arrow"


def halves(data: bytes | None) -> list[bytes]:
    """The two halves of a stored page, in order; nothing if it has fewer than two items.

    >>> halves(b"[1,2,3]"), halves(b"[1]")
    ([b'[1]', b'[2, 3]'], [])
    """
    if data is None:
        return []
    if data.startswith(b"ARROW1"):
        frame = decode_frame(data)
        encode = codec_for(type(frame)).encode
        middle = frame.height // 2
        return [encode(frame[:middle]), encode(frame[middle:])] if middle else []
    items = json.loads(data)
    if not isinstance(items, list):
        return []
    page = cast("list[Any]", items)
    middle = len(page) // 2
    return [json.dumps(half, ensure_ascii=False).encode() for half in (page[:middle], page[middle:])] if middle else []

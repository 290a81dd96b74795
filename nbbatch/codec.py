"""Typed values ↔ stored bytes. JSON through pydantic, Arrow IPC for polars frames; never pickle.

What is encoded comes back equal or is refused with the field that cannot: a retried step must see what the step before
gave. Secrets are refused in chunk values and kept out of stored parameters.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from io import BytesIO
from typing import Annotated, Any, final, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import PydanticSerializationError

from nbbatch.errors import StateError, ValueNotStorable

MAX_VALUE_BYTES = 256_000_000
"""The largest value one chunk may hold, in stored bytes."""
_STORED: dict[str, Any] = {"by_alias": False, "round_trip": True}
"""By field name and without computed fields: what is stored must validate again."""
_MASK = "**********"
_MASK_BYTES = _MASK.encode()


@final
class NonIdentifying:
    """Marks a parameter that makes no difference to which instance a submit means: ``Annotated[int, nb.NonIdentifying]``."""


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
        self.media = "arrow" if _is_frame(annotation) else "json"
        self.encode: Callable[[Any], bytes] = self._encode_frame if self.media == "arrow" else self._encode_json
        self.decode: Callable[[bytes], Any] = _decode_frame
        if self.media == "json":
            self._adapter = adapter_of(annotation)
            self._validate = self._adapter.validator.validate_python
            self._to_json = partial(self._adapter.serializer.to_json, **_STORED, warnings="error")
            self.decode = partial(self._adapter.validator.validate_json, by_alias=True, by_name=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return codec_for, (self.type,)

    def _encode_json(self, value: Any) -> bytes:
        value = self._validate(value)
        try:
            data = self._to_json(value)
        except (PydanticSerializationError, UnicodeError) as error:
            raise ValueNotStorable(self._why(value, error)) from error
        if b"null" in data or _MASK_BYTES in data:
            self._check_leaves(value, data)
        return _sized(data)

    def _why(self, value: Any, error: Exception) -> str:
        for path, leaf in _leaves(self._adapter.dump_python(value, warnings=False)):
            if isinstance(leaf, str) and not _is_text(leaf):
                return (
                    f"{path or 'the value'} holds a lone surrogate, {leaf[:80]!r}, which is not text; encode it first"
                )
        return f"the value has no JSON form: {error}"

    def _check_leaves(self, value: Any, data: bytes) -> None:
        """Find what JSON would not give back: NaN written as null, secrets written as stars."""
        stored = dict(_leaves(json.loads(data)))
        for path, leaf in _leaves(self._adapter.dump_python(value, warnings=False)):
            if isinstance(leaf, float) and not math.isfinite(leaf) and stored.get(path) is None:
                raise ValueNotStorable(
                    f"{path or 'the value'} is {leaf}, which JSON would turn into null; "
                    "set model_config = ConfigDict(ser_json_inf_nan='constants') on its model, or give None"
                )
            if isinstance(leaf, SecretStr | SecretBytes):
                raise ValueNotStorable(
                    f"{path or 'the value'} is a secret, and secrets are not stored; "
                    "make it a field of the job's parameters and take params as the step's second argument"
                )

    def _encode_frame(self, value: Any) -> bytes:
        if not _is_frame(type(value)):
            raise TypeError(f"declared polars.DataFrame, but got {type(value).__name__}")
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


def _is_frame(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and annotation.__name__ == "DataFrame"
        and annotation.__module__.partition(".")[0] == "polars"
    )


def _decode_frame(data: bytes) -> Any:
    import polars as pl

    return pl.read_ipc(BytesIO(data))


def _sized(data: bytes) -> bytes:
    if len(data) > MAX_VALUE_BYTES:
        raise ValueNotStorable(
            f"the value takes {len(data):,} bytes; at most {MAX_VALUE_BYTES:,} fit into a chunk. "
            "Write it to a file and give the path, or split it"
        )
    return data


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dicts and sequences with its path, such as ``lines[2].price``."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():  # pyright: ignore[reportUnknownVariableType]
            yield from _leaves(value, f"{path}.{key}" if path else str(key))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(tree, Sequence) and not isinstance(tree, str | bytes | bytearray):
        for index, value in enumerate(tree):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, tree


class ParamsCodec:
    """The parameters of a job: validating, storing without secrets, telling which are equal."""

    __slots__ = ("_adapter", "type")

    def __init__(self, annotation: Any) -> None:
        self.type = annotation
        self._adapter = adapter_of(annotation)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParamsCodec, (self.type,)

    def validate(self, params: Any) -> Any:
        """The parameters as their declared type; a dict is taken too, unknown fields are an error.

        Raises:
            pydantic.ValidationError: They do not fit.
        """
        return self._adapter.validate_python(params, extra="forbid")

    def dump(self, params: Any) -> bytes:
        """Their stored form, secrets masked."""
        return self._adapter.dump_json(params, **_STORED)

    def identity(self, params: Any) -> str:
        """A digest that is equal for parameters that mean the same instance."""
        tree = _identifying(json.loads(self.dump(params)), self.type)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def secrets(self, params: Any) -> dict[str, str]:
        """The secrets by path, in plain text: for memory only."""
        found: dict[str, str] = {}
        for path, leaf in _leaves(self._adapter.dump_python(params)):
            if isinstance(leaf, SecretStr):
                found[path] = leaf.get_secret_value()
            elif isinstance(leaf, SecretBytes):
                found[path] = leaf.get_secret_value().decode("latin-1")
        return found

    def load(self, data: bytes, secrets: Mapping[str, str]) -> Any:
        """The parameters from their stored form, fresh.

        Raises:
            StateError: They hold secrets that this process was not given.
        """
        if _MASK_BYTES not in data:
            return self.masked(data)
        params = self._adapter.validate_json(
            json.dumps(_unmask(json.loads(data), secrets)), by_alias=True, by_name=True
        )
        for path, leaf in _leaves(self._adapter.dump_python(params)):
            if isinstance(leaf, SecretStr | SecretBytes) and path not in secrets:
                raise StateError(
                    f"parameter {path} is a secret, and secrets are never stored: "
                    "submit the job again with the same parameters to go on"
                )
        return params

    def masked(self, data: bytes) -> Any:
        """The parameters from their stored form, secrets as stars: to look at."""
        return self._adapter.validate_json(data, by_alias=True, by_name=True)

    def difference(self, old: bytes, new: bytes) -> str:
        """The fields in which two stored forms differ, as ``field: old → new``."""
        before, after = dict(_leaves(json.loads(old))), dict(_leaves(json.loads(new)))
        paths = sorted({*before, *after})
        changed = [
            f"{path or 'value'}: {before.get(path)!r} → {after.get(path)!r}"
            for path in paths
            if before.get(path) != after.get(path)
        ]
        return ", ".join(changed) or "only in secrets or non-identifying fields"


def _unmask(tree: Any, secrets: Mapping[str, str], path: str = "") -> Any:
    if isinstance(tree, dict):
        return {key: _unmask(value, secrets, f"{path}.{key}" if path else str(key)) for key, value in tree.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(tree, list):
        return [_unmask(value, secrets, f"{path}[{index}]") for index, value in enumerate(tree)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return secrets.get(path, tree) if tree == _MASK else tree


def _identifying(tree: Any, annotation: Any) -> Any:
    """The tree without the fields that are marked NonIdentifying, at any depth."""
    if isinstance(tree, list):
        (inner, *_) = get_args(annotation) or (Any,)
        return [_identifying(value, inner) for value in tree]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(tree, dict):
        return tree
    hints = _field_hints(annotation)
    return {  # pyright: ignore[reportUnknownVariableType]
        key: _identifying(value, hints.get(key, Any))  # pyright: ignore[reportUnknownArgumentType]
        for key, value in tree.items()  # pyright: ignore[reportUnknownVariableType]
        if not _is_marked(hints.get(key))  # pyright: ignore[reportUnknownArgumentType]
    }


def _is_marked(hint: Any) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(mark is NonIdentifying or isinstance(mark, NonIdentifying) for mark in marks)


def _field_hints(annotation: Any) -> dict[str, Any]:
    if get_origin(annotation) is Annotated:
        return _field_hints(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return {name: Annotated[field.annotation, *(field.metadata or [None])] for name, field in fields}
    for inner in get_args(annotation):
        if found := _field_hints(inner):
            return found
    try:
        return get_type_hints(annotation, include_extras=True) if isinstance(annotation, type) else {}
    except NameError:
        return {}

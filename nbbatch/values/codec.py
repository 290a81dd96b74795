"""Typed values ↔ stored bytes. JSON through pydantic, Arrow IPC for polars frames; never pickle.

A value is stored as the type that the step declares, and what that type cannot give back is refused with the field that
cannot: NaN turned into null, text that is no text, secrets. What the declared type leaves out on purpose is not kept: fields
of a subclass, fields marked ``exclude``. Secrets are refused in chunk values and kept out of stored parameters.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from functools import lru_cache, partial
from io import BytesIO
from types import UnionType
from typing import Annotated, Any, Union, cast, final, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import to_json

from nbbatch.base.errors import StateError, ValueNotStorable

MAX_VALUE_BYTES = 256_000_000
"""The largest value one chunk may hold, in stored bytes."""
_SCALARS = {"int", "str", "bool"}
"""Types whose one JSON form needs no options, which cost more than the value."""
_STORED: dict[str, Any] = {"by_alias": False, "round_trip": True}
"""By field name and without computed fields: what is stored must validate again."""
MASK = "**********"
_MASK_BYTES = MASK.encode()
_WRAPPERS = {"Required", "NotRequired", "ReadOnly"}
_UNIONS = (Union, UnionType)
_SECRETS = (SecretStr, SecretBytes, Secret)
_REFUSED = (ValueError, RecursionError)
"""What pydantic's serializer raises: its own error and UnicodeError are ValueErrors, as is a circular reference."""


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
        self.media = "arrow" if _is_frame(_bare(annotation)) else "json"
        self.encode: Callable[[Any], bytes] = self._encode_frame if self.media == "arrow" else self._encode_json
        self.decode: Callable[[bytes], Any] = decode_frame
        if self.media == "json":
            self._adapter = adapter_of(annotation)
            self._validate = self._adapter.validator.validate_python
            self._to_json = self._adapter.serializer.to_json
            if self._adapter.core_schema["type"] not in _SCALARS:
                self._to_json = partial(self._to_json, **_STORED, warnings="error")
            self.decode = partial(self._adapter.validator.validate_json, by_alias=True, by_name=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return codec_for, (self.type,)

    def _encode_json(self, value: Any) -> bytes:
        value = self._validate(value)
        try:
            data = self._to_json(value)
        except _REFUSED as error:
            raise ValueNotStorable(_why(self._adapter, value, error)) from error
        if b"null" in data or _MASK_BYTES in data:
            self._check_leaves(value, data)
        return _sized(data)

    def _check_leaves(self, value: Any, data: bytes) -> None:
        """Find what JSON would not give back: NaN written as null, secrets written as stars."""
        stored = dict(leaves(json.loads(data)))
        for path, leaf in leaves(_tree(self._adapter, value)):
            if isinstance(leaf, float) and not math.isfinite(leaf) and stored.get(path) is None:
                raise ValueNotStorable(_not_finite(path, leaf))
            if isinstance(leaf, _SECRETS):
                raise ValueNotStorable(
                    f"{path or 'the value'} is a secret, and secrets are not stored; "
                    "make it a field of the job's parameters and take params as the step's second argument"
                )

    def _encode_frame(self, value: Any) -> bytes:
        if not _is_frame(type(value)):
            raise TypeError(f"declared polars.DataFrame, but got {type(value).__name__}")
        objects = [name for name, dtype in value.schema.items() if "Object" in str(dtype)]
        if objects:
            raise ValueNotStorable(f"column {objects[0]!r} holds Python objects, which Arrow has no form for")
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


def _bare(annotation: Any) -> Any:
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


def _tree(adapter: TypeAdapter[Any], value: Any) -> Any:
    """The value as dicts and sequences of Python values, with the keys of its stored form."""
    return adapter.dump_python(value, **_STORED, warnings=False)


def _not_finite(path: str, leaf: float) -> str:
    return (
        f"{path or 'the value'} is {leaf}, which JSON would turn into null; give None, or set "
        "model_config = ConfigDict(ser_json_inf_nan='constants') on its model (__pydantic_config__ on a dataclass)"
    )


def _why(adapter: TypeAdapter[Any], value: Any, error: Exception, *, shown: bool = True) -> str:
    """Which field has no JSON form, and why."""
    first = _plain(str(error).partition("\n")[0])
    try:
        tree = _tree(adapter, value)
        for path, leaf in leaves(tree):
            if reason := _unstorable(leaf, path, shown=shown):
                return f"{_plain(path) or 'the value'} {reason}"
        adapter.validate_python(tree, by_alias=True, by_name=True)
    except ValidationError as wrong:
        line = wrong.errors(include_url=False)[0]
        given = f", not {line['input']!r:.200}" if shown else ""
        return _plain(f"{'.'.join(map(str, line['loc'])) or 'the value'}: {line['msg']}{given}")
    except _REFUSED:
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
    except _REFUSED as error:
        return f"has no JSON form: {_plain(str(error).partition(chr(10))[0])}"
    return ""


def _problems(error: ValidationError) -> str:
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
        """Their stored form, secrets masked.

        Raises:
            ValueNotStorable: They would not come back equal; the text names the field.
        """
        data = self._json(params)
        secrets = self.secrets(params)
        try:
            back = self.load(data, secrets)
        except ValidationError as error:
            raise ValueNotStorable(f"parameters do not come back from their stored form: {_problems(error)}") from None
        if lost := self._lost(params, back):
            raise ValueNotStorable(f"parameter {lost} does not come back equal from its stored form")
        return data

    def _json(self, params: Any) -> bytes:
        try:
            return self._adapter.dump_json(params, **_STORED, warnings="error")
        except _REFUSED as error:
            why = _why(self._adapter, params, error, shown=False)  # a value may be a secret
            raise ValueNotStorable(f"parameter {why}") from None

    def _lost(self, before: Any, after: Any) -> str:
        """Path of the first leaf that differs; "" if there is none."""
        if before == after:
            return ""
        old, new = (list(leaves(_tree(self._adapter, each))) for each in (before, after))
        if len(old) != len(new):
            return "value"
        pairs = ((path, a, b) for (path, a), (_, b) in zip(old, new, strict=True) if "{}" not in path)
        return next((path or "value" for path, a, b in pairs if a != b and _comparable(a, b)), "")

    def identity(self, params: Any) -> str:
        """A digest that is equal for parameters that mean the same instance."""
        tree = _identifying(json.loads(self._json(params)), self.type)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def secrets(self, params: Any) -> dict[str, str]:
        """The secrets by path, in plain text: for memory only."""
        found: dict[str, str] = {}
        for path, leaf in leaves(_tree(self._adapter, params)):
            if isinstance(leaf, _SECRETS):
                found[path] = _revealed(path, leaf)
        return found

    def load(self, data: bytes, secrets: Mapping[str, str]) -> Any:
        """The parameters from their stored form, fresh.

        Raises:
            StateError: They hold secrets that this process was not given.
        """
        if _MASK_BYTES not in data:
            return self._read(data)
        tree = json.loads(data)
        missing = {path for path, leaf in leaves(tree) if leaf == MASK} - set(secrets)
        try:
            params = self._read(json.dumps(_unmask(tree, secrets)).encode())
        except ValidationError:  # stars are not what the field's constraints ask for
            if missing:
                raise _forgotten(min(missing)) from None
            raise
        for path, leaf in leaves(_tree(self._adapter, params)):
            if isinstance(leaf, _SECRETS) and path in missing:
                raise _forgotten(path)
        return params

    def masked(self, data: bytes) -> Any:
        """The parameters from their stored form, secrets as stars: to look at."""
        try:
            return self._read(data)
        except ValidationError:  # stars are not what the field's constraints ask for
            if _MASK_BYTES not in data:
                raise
            return _unchecked(json.loads(data), self.type)

    def _read(self, data: bytes) -> Any:
        return self._adapter.validate_json(data, by_alias=True, by_name=True)

    def difference(self, old: bytes, new: bytes) -> str:
        """The fields in which two stored forms differ, as ``field: old → new``."""
        before, after = dict(leaves(json.loads(old))), dict(leaves(json.loads(new)))
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
    return secrets.get(path, tree) if tree == MASK else tree


def _unchecked(tree: Any, annotation: Any) -> Any:
    """A value whose secrets are stars, without the checks of fields that hold one; as stored, where its type is not clear."""
    if tree == MASK and _is_secret(annotation):
        return SecretStr(MASK)
    if MASK not in json.dumps(tree):
        return adapter_of(annotation).validate_json(json.dumps(tree), by_alias=True, by_name=True)
    kind = _matching(tree, annotation)
    if isinstance(tree, list):
        return [_unchecked(*each) for each in zip(tree, _item_types(kind, len(tree)), strict=True)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(tree, dict):
        return tree
    hints, inner = _field_hints(kind), (get_args(kind) or (Any,))[-1]
    values = {name: _unchecked(value, hints.get(name, inner)) for name, value in tree.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not hints or _is_a(kind, Mapping):
        return values  # pyright: ignore[reportUnknownVariableType]
    made = kind.model_construct(**values) if issubclass(kind, BaseModel) else object.__new__(kind)
    for name, value in values.items():  # pyright: ignore[reportUnknownVariableType]
        object.__setattr__(made, name, value)  # pyright: ignore[reportUnknownArgumentType]
    return made


def _forgotten(path: str) -> StateError:
    return StateError(
        f"parameter {path} is a secret, and secrets are never stored: submit the job again with the same parameters; "
        "of an instance that ended, run.retry(), run.rerun() and chunk.replay() take them as params="
    )


def _revealed(path: str, secret: Any) -> str:
    if "{}" in path:
        raise ValueNotStorable(f"parameter {path} is a secret in a set, which has no order to find it by; use a list")
    value = secret.get_secret_value()
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise ValueNotStorable(
            f"parameter {path} is a SecretBytes that is not UTF-8; give it as text, in Base64"
        ) from None
    if not isinstance(text, str):
        raise ValueNotStorable(f"parameter {path} is a Secret of {type(value).__name__}; make it a SecretStr")
    return text


def _comparable(old: Any, new: Any) -> bool:
    """Whether unequal means different: not for NaN, nor for types that compare by identity."""
    is_nan = old != old and new != new  # noqa: PLR0124 - only NaN differs from itself
    return not is_nan and any("__eq__" in vars(base) for base in type(old).__mro__[:-1])


# --- which parameters mean the same instance -----------------------------------------------------


def _identifying(tree: Any, annotation: Any) -> Any:
    """The tree without secrets and fields that are marked NonIdentifying, at any depth; sets in an order of their own."""
    annotation = _matching(tree, annotation)
    if isinstance(tree, list):
        values = [_identifying(*each) for each in zip(tree, _item_types(annotation, len(tree)), strict=True)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return sorted(values, key=json.dumps) if _is_set(annotation) else values
    if not isinstance(tree, dict):
        return tree
    hints = _field_hints(annotation)
    inner = (get_args(annotation) or (Any,))[-1]
    return {  # pyright: ignore[reportUnknownVariableType]
        key: _identifying(value, hints.get(key, inner))  # pyright: ignore[reportUnknownArgumentType]
        for key, value in tree.items()  # pyright: ignore[reportUnknownVariableType]
        if not _is_marked(hints.get(key)) and not _is_secret(hints.get(key))  # pyright: ignore[reportUnknownArgumentType]
    }


def _matching(tree: Any, annotation: Any) -> Any:
    """The bare type that the tree is of; of a union, the member that looks like it."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _matching(tree, annotation.model_fields["root"].annotation)  # pyright: ignore[reportUnknownMemberType]
    if _field_hints(annotation) or _class(annotation) is not None:
        return cast("Any", annotation)
    members = [_matching(tree, member) for member in get_args(annotation)]
    return next((member for member in members if _looks_like(tree, member)), Any)


def _looks_like(tree: Any, annotation: Any) -> bool:
    if isinstance(tree, dict):
        hints = _field_hints(annotation)
        return set(tree) <= set(hints) if hints else _is_a(annotation, Mapping)  # pyright: ignore[reportUnknownArgumentType]
    listed = _is_a(annotation, AbstractSet) or _is_a(annotation, Sequence)
    return isinstance(tree, list) and listed and _class(annotation) not in (str, bytes)


def _class(annotation: Any) -> Any:
    """The class behind a type or its generic form; None of unions and special forms."""
    origin: Any = get_origin(annotation) or annotation
    return None if origin in _UNIONS or not inspect.isclass(origin) else origin


def _is_a(annotation: Any, parent: type) -> bool:
    origin = _class(annotation)
    return origin is not None and issubclass(origin, parent)


def _is_set(annotation: Any) -> bool:
    return _is_a(annotation, AbstractSet)


def _item_types(annotation: Any, count: int) -> Sequence[Any]:
    args = get_args(annotation) or (Any,)
    if _is_a(annotation, tuple) and len(args) == count and Ellipsis not in args:
        return args
    return [args[0]] * count


def _is_marked(hint: Any) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(mark is NonIdentifying or isinstance(mark, NonIdentifying) for mark in marks)


def _is_secret(hint: Any) -> bool:
    bare = _bare(hint)
    return bare in _SECRETS or (get_origin(bare) in _UNIONS and any(map(_is_secret, get_args(bare))))


def _field_hints(annotation: Any) -> dict[str, Any]:
    """Types of a model's, dataclass's or TypedDict's fields; none of anything else."""
    origin = _class(annotation)
    if origin is not None and issubclass(origin, BaseModel):
        fields = origin.model_fields.items()
        return {name: Annotated[field.annotation, *(field.metadata or [None])] for name, field in fields}
    if origin is None or not (is_dataclass(origin) or hasattr(origin, "__total__")):
        return {}
    try:
        return get_type_hints(origin, include_extras=True)
    except NameError:
        return {}

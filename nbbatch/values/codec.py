"""Typed values ↔ stored bytes; never pickle. A value comes back equal, after any number of steps, or is refused where it is given.

Types whose values JSON gives back equal pass as pydantic's JSON, polars frames as Arrow, all others by what they are (`tree`).
Secrets are refused in chunk values and kept out of stored parameters.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import json
import math
from collections.abc import Callable, MutableSequence, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Annotated, Any, BinaryIO, final, get_args, get_origin

from pydantic import (
    BaseModel,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import to_json

from nbbatch.base.errors import ValueNotStorable
from nbbatch.values.arrow_forms import draw, is_frame, pouring, read_frame, write_frame
from nbbatch.values.classes import MASK, NO_SECRETS
from nbbatch.values.declared import Declared
from nbbatch.values.files import File
from nbbatch.values.hints import SECRETS, bare
from nbbatch.values.kept import changed
from nbbatch.values.outside import drawn, is_reference, whole
from nbbatch.values.plain_json import plain_of
from nbbatch.values.storable import Storable, received, told
from nbbatch.values.tree import is_tree, read, write
from nbbatch.values.type_adapters import adapter_of
from nbbatch.values.views import leaves

MAX_VALUE_BYTES = 256_000_000
"""The largest value one chunk may hold, in stored bytes."""
STORED: dict[str, Any] = {"by_alias": False, "round_trip": True}
"""By field name and without computed fields: what is stored must validate again."""
MASK_BYTES = MASK.encode()
REFUSED = (ValueError, RecursionError)
"""What pydantic's serializer raises: its own error and UnicodeError are ValueErrors, as is a circular reference."""
_SCALARS = (int, str, bool)
_LONG = 4_300
"""Digits of the longest number that readers of JSON take."""
_EXACT = 16
"""Digits from which on a float may hold another number."""
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


@final
class Codec:
    """Encodes and decodes values of one declared type.

    A type that JSON gives back equal goes through pydantic's JSON, a polars frame is an Arrow file or stream, and all others are written by
    what they are (`tree`). So is a value that JSON would change though its type is of the first kind, such as NaN.
    """

    __slots__ = (
        "_adapter",
        "_also",
        "_kind",
        "_plain",
        "_readers",
        "_to_json",
        "_validate",
        "decode",
        "encode",
        "forms",
        "holds_files",
        "media",
        "type",
    )

    def __init__(self, annotation: Any, also: tuple[Any, ...] = ()) -> None:
        """Build the codec.

        Args:
            annotation: The declared type.
            also: Other types under which its values were stored, or will be read.

        Raises:
            pydantic.errors.PydanticUserError, TypeError: It has no stored form; the text says what in it.
        """
        self.type, self._also = annotation, also
        self._kind = bare(annotation)
        self.forms = forms_of((annotation, *also))
        self.holds_files = self.forms.is_open or self.forms.names(File)
        self._adapter = adapter_of(annotation)
        self._validate = self._adapter.validator.validate_python
        self._to_json = partial(self._adapter.serializer.to_json, **STORED, warnings="error")
        self._plain = plain_of(annotation)
        self._readers = [adapter_of(each) for each in also if Declared((each,)).names(float)]
        self.media, self.encode, self.decode = self._ways()

    def _ways(self) -> tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]:
        """Media, and the quickest way there and back."""
        by_pydantic = partial(self._adapter.validator.validate_json, by_alias=True, by_name=True)
        if _is_frame(self._kind):
            return "arrow", self._encode_frame, self._decode
        if self._plain is None or (self._also and not self._plain.native):
            return "tree", self._encode_tree, self._decode
        if self.type in _SCALARS and not self._also:
            self._to_json = (
                self._adapter.serializer.to_json
            )  # whose one JSON form needs no options, which cost more than the value
            return (
                "json",
                self._encode_scalar,
                self._decode if self.type is str else by_pydantic,
            )  # only a text may be big
        return "json", self._encode_json, self._decode

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.type, self._also, told(self.forms))

    # --- there ------------------------------------------------------------------------------------

    def _encode_scalar(self, value: Any) -> bytes:
        if type(value) is not self._kind:
            value = self._valid(value)
        try:
            data = self._to_json(value)
        except REFUSED as error:
            raise ValueNotStorable(why_refused(self._adapter, value, error)) from error
        if len(data) <= _LONG:
            return data
        if self._kind is int:
            raise ValueNotStorable(
                f"the number has {len(data):,} digits; JSON takes {_LONG:,}. Declare Any, or give it as text"
            )
        return _sized(data)

    def _encode_json(self, value: Any) -> bytes:
        plain = self._plain
        assert plain is not None
        if type(value) is not self._kind or not issubclass(self._kind, BaseModel):
            value = self._valid(value)
        if plain.odd is not None and plain.odd(value):
            return self._written(value)
        try:
            data = self._to_json(value)
        except REFUSED as error:
            raise ValueNotStorable(why_refused(self._adapter, value, error)) from error
        if (b"null" in data or MASK_BYTES in data) and not self._is_told(value, data):
            return self._written(value)
        if plain.verified or len(data) > _LONG:
            return self._verified(value, data)
        if self._readers and b"0" * _EXACT in data.translate(_DIGITS):
            self._check_readers(value, data)
        return _sized(data)

    def _verified(self, value: Any, data: bytes) -> bytes:
        """Read it again where the type refuses what an instance may hold, or digits are too many for JSON."""
        if not self._plain.verified and not has_long_number(data):  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
            return _sized(data)
        try:
            back = self.decode(data)
        except ValidationError as error:
            if has_long_number(data):
                return self._written(value)
            raise ValueNotStorable(f"{problems(error)}, in a value that was changed after it was checked") from None
        return _sized(data) if back == value else self._written(value)

    def _check_readers(self, value: Any, data: bytes) -> None:
        """Whether steps that take floats get the whole numbers that are given."""
        given = dict(leaves(python_of(self._adapter, value)))
        for reader in self._readers:
            with suppress(ValidationError):  # not for that step, as a text is not where another step takes texts
                made = reader.validate_json(data, strict=True, by_alias=True, by_name=True)
                for path, number in leaves(python_of(reader, made)):
                    was = given.get(path)
                    if isinstance(number, float) and isinstance(was, int) and given[path] != number:
                        raise ValueNotStorable(
                            f"{path or 'the value'} is the int {was}, which would become the float {number!r} in the step that "
                            "follows, which takes float: declare int there, or give a float"
                        )

    def _is_told(self, value: Any, data: bytes) -> bool:
        """Whether each null in the JSON is a None, not a NaN.

        Raises:
            ValueNotStorable: It holds a secret.
        """
        stored = dict(leaves(json.loads(data)))
        for path, leaf in leaves(python_of(self._adapter, value)):
            if isinstance(leaf, float) and not math.isfinite(leaf) and stored.get(path) is None:
                return False
            if isinstance(leaf, SECRETS):
                raise ValueNotStorable(f"{path or 'the value'} {NO_SECRETS}")
        return True

    def _encode_tree(self, value: Any) -> bytes:
        return self._written(self._valid(value))

    def _written(self, value: Any) -> bytes:
        return _sized(write(value, self.forms))

    def _encode_frame(self, value: Any) -> bytes:
        if not _is_frame(type(value)):
            raise TypeError(f"declared polars.DataFrame, but got {type(value).__name__}")
        return _sized(write_frame(value))

    def pouring(self, value: Any) -> Callable[[BinaryIO], None] | None:
        """What writes a value straight to a file, the bytes that `encode` gives of it; None: it is encoded first."""
        if self.media != "arrow" or not _is_frame(type(value)) or value.estimated_size() > MAX_VALUE_BYTES // 2:
            return None
        return pouring(value)

    def _valid(self, value: Any) -> Any:
        """The value as the declared type, unchanged.

        Raises:
            pydantic.ValidationError: It is not of that type.
            ValueNotStorable: It would be another value then.
        """
        try:
            made = self._validate(value, strict=True, extra="forbid")
        except ValidationError:
            made = self._validate(value, extra="forbid")
        if self.forms.is_mixed:
            return value
        if made is not value and (lost := changed(value, made)):
            raise ValueNotStorable(f"{lost}: give what the type says, or declare the type that is given")
        return made

    # --- and back ---------------------------------------------------------------------------------

    def _decode(self, data: bytes) -> Any:
        if is_reference(data):
            if (frame := drawn(data, draw)) is not None:
                return frame
            data = whole(data)
        if is_tree(data):
            value = read(data, self.forms)
            return self._validate(value) if self._also else value
        if is_frame(data):
            return read_frame(data)
        return self._adapter.validator.validate_json(data, by_alias=True, by_name=True)


def has_long_number(data: bytes) -> bool:
    """Whether JSON may hold a number that readers refuse for its length."""
    return b"0" * _LONG in data.translate(_DIGITS)


def _received(annotation: Any, also: tuple[Any, ...], given: tuple[Storable, ...]) -> Codec:
    """A codec in another process, which is told what this one was."""
    received(given)
    return codec_for(annotation, also)


def forms_of(annotations: tuple[Any, ...]) -> Declared:
    """Their forms.

    Raises:
        TypeError: Something in one has none.
    """
    forms = Declared(annotations)
    for path, why in forms.refused:
        raise TypeError(f"field {path} {why}" if path else f"it {why}")
    return forms


@lru_cache(maxsize=1024)
def _cached_codec(annotation: Any, also: tuple[Any, ...]) -> Codec:
    return Codec(annotation, also)


def codec_for(annotation: Any, also: tuple[Any, ...] = ()) -> Codec:
    """The codec of a declared type; arguments as `Codec`."""
    try:
        hash((annotation, also))
    except TypeError:  # such as Annotated with a list
        return Codec(annotation, also)
    return _cached_codec(annotation, also)


def _is_frame(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and annotation.__name__ == "DataFrame"
        and annotation.__module__.partition(".")[0] == "polars"
    )


def _sized(data: bytes) -> bytes:
    if len(data) > MAX_VALUE_BYTES:
        raise ValueNotStorable(
            f"the value takes {len(data):,} bytes; at most {MAX_VALUE_BYTES:,} fit into a chunk. "
            "Write it to a file and give the path, or split it"
        )
    return data


def python_of(adapter: TypeAdapter[Any], value: Any) -> Any:
    """The value as dicts and sequences of Python values, with the keys of its stored form."""
    return adapter.dump_python(value, **STORED, warnings=False)


def why_refused(adapter: TypeAdapter[Any], value: Any, error: Exception, *, shown: bool = True) -> str:
    """Which field has no JSON form, and why."""
    first = _plain(str(error).partition("\n")[0])
    try:
        tree = python_of(adapter, value)
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


_PAGES = (list, tuple, Sequence, MutableSequence)


def is_page(annotation: Any) -> bool:
    """Whether values of a type can be split: lists, tuples of any length, polars frames.

    >>> is_page(list[int]), is_page(tuple[int, ...]), is_page(tuple[int, str]), is_page(str)
    (True, True, False, False)
    """
    if get_origin(annotation) is Annotated:
        return is_page(get_args(annotation)[0])
    kind = get_origin(annotation) or annotation
    if kind is tuple:
        return get_args(annotation)[1:] == (Ellipsis,)
    return kind in _PAGES or codec_for(annotation).media == "arrow"

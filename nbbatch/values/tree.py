r"""Any value ↔ bytes by what it is, where the JSON of its declared type would change it; never pickle.

     {"size": 3, "at": {"$tuple": [1, 2]}}     JSON behind a space: what JSON has no word for is an object with one key, "$…"
    \n NBV1 · length · JSON · parts            the same, with bytes beside it (arrays, frames) that never pass through JSON

Reading makes only what this module's forms know, classes that the declared types reach, and what `storable` was told of: it
imports nothing and runs no code that a store names.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nbbatch.base.errors import ValueNotStorable

_MAGIC = b"\nNBV1"
_HEAD = struct.Struct("<5sQ")
_ALIGN = 64
_INLINE = 128
"""Fewer bytes than that stay in the JSON, as hexadecimal digits."""
_BIG = 10**300
"""Beyond it readers of JSON differ on whole numbers."""
_ATOMS = {str, int, float, bool, type(None)}


class Unstorable(Exception):
    """What cannot be stored, with the way to it, which grows on the way up."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []

    def under(self, part: str) -> Unstorable:
        """The same, seen from one level above."""
        self.path.append(part)
        return self

    def place(self) -> str:
        """The way to it, such as ``lines[2].price``; "" for the whole value."""
        return "".join(reversed(self.path)).removeprefix(".")


@dataclass(frozen=True, slots=True)
class Form:
    """How values of one type are written under a tag, and read again."""

    tag: str
    write: Callable[[Writer, Any], Any]
    read: Callable[[Reader, Any], Any]


class Forms(Protocol):
    """Where forms are found."""

    def of(self, kind: type) -> Form:
        """The form of a type.

        Raises:
            Unstorable: It has none.
        """
        ...

    def named(self, tag: str) -> Form:
        """The form behind a tag.

        Raises:
            ValueError: Nothing here knows it.
        """
        ...


class Writer:
    """Writes one value."""

    __slots__ = ("_forms", "parts", "secrets")

    def __init__(self, forms: Forms, secrets: list[str] | None = None) -> None:
        self._forms = forms
        self.parts: list[memoryview] = []
        self.secrets = secrets
        """Where secrets are noted in their order, as they are stored as stars; None: they are refused."""

    def put(self, value: Any) -> Any:
        """A value as JSON with tags."""
        kind: type = type(value)
        if kind is str:
            return value if value.isascii() else _text(value)
        if kind is int:
            return value if -_BIG < value < _BIG else {"$int": hex(value)}
        if kind is float:
            return value if value - value == 0 else {"$float": repr(value)}
        if value is None or kind is bool:
            return value
        if kind is dict:
            return self._dict(value)
        if kind is list:
            return self.items(value)
        form = self._forms.of(kind)
        return {form.tag: form.write(self, value)}

    def items(self, values: Iterable[Any]) -> list[Any]:
        """Values in their order."""
        written: list[Any] = []
        put = self.put
        try:
            for value in values:
                written.append(put(value))  # noqa: PERF401 - how many there are says where it went wrong
        except Unstorable as error:
            raise error.under(f"[{len(written)}]") from None
        return written

    def fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values under names."""
        written: dict[str, Any] = {}
        name = ""
        try:
            for name, value in values.items():
                written[name] = self.put(value)
        except Unstorable as error:
            raise error.under(f".{name}") from None
        return written

    def pairs(self, values: Mapping[Any, Any]) -> list[Any]:
        """Keys and values of a dict in their order."""
        written: list[Any] = []
        for key, value in values.items():
            try:
                written.append([self.put(key), self.put(value)])
            except Unstorable as error:
                raise error.under(f".{key!s:.80}") from None
        return written

    def _dict(self, values: dict[Any, Any]) -> Any:
        if not all(type(key) is str and key[:1] != "$" for key in values):
            return {"$dict": self.pairs(values)}
        for key in values:
            if not key.isascii() and not _is_text(key):
                raise Unstorable("has a lone surrogate in its key, which is not text; encode it first").under(f".{key}")
        return self.fields(values)

    def part(self, data: Any) -> int:
        """Bytes to store beside; any contiguous buffer, which is not copied here."""
        self.parts.append(memoryview(data).cast("B") if memoryview(data) else memoryview(b""))
        return len(self.parts) - 1

    def blob(self, data: bytes) -> Any:
        """A few bytes in place, many beside."""
        return data.hex() if len(data) < _INLINE else self.part(data)


def _text(value: str) -> str:
    if not _is_text(value):
        raise Unstorable(f"holds a lone surrogate, {value[:80]!r}, which is not text; encode it first")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Reader:
    """Reads one value."""

    __slots__ = ("_forms", "parts")

    def __init__(self, forms: Forms, parts: list[memoryview]) -> None:
        self._forms = forms
        self.parts = parts

    def get(self, tree: Any) -> Any:
        """The value behind JSON with tags."""
        kind: type = type(tree)
        if kind is list:
            get = self.get
            return [each if type(each) in _ATOMS else get(each) for each in tree]
        if kind is not dict:
            return tree
        if len(tree) == 1:
            ((tag, inner),) = tree.items()
            if tag[:1] == "$":
                return self._forms.named(tag).read(self, inner)
        return self.fields(tree)

    def fields(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Values under names."""
        get = self.get
        return {name: each if type(each) in _ATOMS else get(each) for name, each in tree.items()}

    def blob(self, given: str | int) -> bytes:
        """What `Writer.blob` wrote."""
        return bytes.fromhex(given) if isinstance(given, str) else bytes(self.parts[given])


# --- whole values ---------------------------------------------------------------------------------


def write(value: Any, forms: Forms) -> bytes:
    """A value as bytes.

    Raises:
        ValueNotStorable: Something in it has no form; the text names where.
    """
    return joined(*tree_of(value, Writer(forms)))


def tree_of(value: Any, writer: Writer) -> tuple[Any, list[memoryview]]:
    """A value as JSON with tags, and the parts beside it.

    Raises:
        ValueNotStorable: As `write`.
    """
    try:
        return writer.put(value), writer.parts
    except Unstorable as error:
        raise ValueNotStorable(f"{_shown(error.place()) or 'the value'} {_shown(error.why)}") from None
    except RecursionError:
        raise ValueNotStorable("the value has no JSON form: it holds itself, or is nested too deeply") from None


def joined(tree: Any, parts: list[memoryview]) -> bytes:
    """JSON and parts as one."""
    if not parts:
        return b" " + json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
    head = json.dumps({"tree": tree, "parts": [len(each) for each in parts]}, separators=(",", ":")).encode()
    pieces: list[bytes | memoryview] = [_HEAD.pack(_MAGIC, len(head)), head]
    place = _HEAD.size + len(head)
    for each in parts:
        pieces += [bytes(-place % _ALIGN), each]
        place += -place % _ALIGN + len(each)
    return b"".join(pieces)


def is_tree(data: bytes) -> bool:
    """Whether bytes are of this form.

    >>> is_tree(b' {"a":1}'), is_tree(b'{"a":1}')
    (True, False)
    """
    return data[:1] in (b" ", b"\n")


def head_bytes(data: bytes) -> int:
    """How long the JSON is: it is read, and the parts beside it need not be.

    >>> head_bytes(b' {"a":1}')
    8
    """
    return _HEAD.unpack_from(data)[1] if data[:1] == b"\n" else len(data)


def parted(data: bytes) -> tuple[Any, list[memoryview]]:
    """The JSON and the parts, which are views of the bytes.

    >>> parted(b' {"a":1}')
    ({'a': 1}, [])
    """
    if data[:1] == b" ":
        return json.loads(data), []
    _, length = _HEAD.unpack_from(data)
    place = _HEAD.size + length
    head, view = json.loads(data[_HEAD.size : place]), memoryview(data)
    parts: list[memoryview] = []
    for size in head["parts"]:
        place += -place % _ALIGN
        parts.append(view[place : place + size])
        place += size
    return head["tree"], parts


def read(data: bytes, forms: Forms) -> Any:
    """The value, fresh.

    Raises:
        ValueError: It holds what the forms do not know.
    """
    tree, parts = parted(data)
    return Reader(forms, parts).get(tree)


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()

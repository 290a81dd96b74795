"""Stored values without the types of their job: JSON values by path, frames, arrays; no code of a store's owner runs."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, cast

from nbbatch.base.errors import StoreUnreadable
from nbbatch.values import in_words, libraries
from nbbatch.values.arrow_forms import is_frame, read_frame
from nbbatch.values.files import TAG, Look, shown
from nbbatch.values.outside import whole
from nbbatch.values.standard import NAMED
from nbbatch.values.tree import Form, Reader, head_bytes, is_tree, joined, parted

BRIEF = 160
"""Characters of a value in a few words."""
BRIEF_BYTES = 100_000
"""Longer values are not read for it, but for the JSON of those that have parts beside it."""
_SHORT = 40
"""Fields of so many characters come first where not all find room."""
_TABLES = {"$dict", "$ordered", "$counter"}
_MADE_OF_ITEMS = {"$tuple", "$set", "$frozenset"}
_FRAMES = {"$polars.frame", "$polars.lazy"}
_LIBRARIES = ("$numpy.", "$pandas.", "$polars.", "$pyarrow.")
_Library = Callable[[str, Any, list[memoryview]], Any]
"""What stands for a tagged value of another library."""


def plain(data: bytes) -> Any:
    """A stored value without its type, for texts and lists: JSON values, other libraries' in words; or a frame.

    >>> plain(b'{"a": [1]}'), plain(b' {"a": {"$tuple": [1, {"$:Mode": "fast"}]}}')
    ({'a': [1]}, {'a': [1, 'fast']})
    """
    return _read(data, in_words.said)


def untyped(data: bytes) -> Any:
    """A stored value as who has not the job gets it: JSON values, with frames and arrays of the libraries that are installed."""
    return _read(data, _made)


def _read(data: bytes, library: _Library) -> Any:
    data = whole(data)
    if is_frame(data):
        return read_frame(data)
    if not is_tree(data):
        return json.loads(data)
    tree, parts = parted(data)
    if isinstance(tree, dict) and len(cast("dict[str, Any]", tree)) == 1 and _FRAMES & {*tree}:
        ((_, part),) = cast("dict[str, int]", tree).items()
        if part < len(parts):  # else the JSON stands alone, as in a frame of instances
            return read_frame(parts[part])
    return _seen(tree, parts, library)


class _Untyped:
    """Forms of other libraries and of what comes with Python; what is of the user's classes stays plain."""

    @staticmethod
    def of(kind: type) -> Form:
        raise TypeError(kind)

    @staticmethod
    def named(tag: str) -> Form:
        known = NAMED.get(tag) or libraries.named(tag)
        return known or Form(tag, lambda _, value: value, lambda reader, tree: _seen({tag: tree}, reader.parts, _made))


def _made(tag: str, tree: Any, parts: list[memoryview]) -> Any:
    """A frame or an array, whose form names its own kind; its words where its library is missing, or it is damaged."""
    if tag not in in_words.TABLES:
        return in_words.said(tag, tree, parts)
    try:
        return Reader(_Untyped, parts).get({tag: tree})
    except Exception:  # as in words: whoever looks is told what it is, and sees the rest
        return in_words.said(tag, tree, parts)


def _seen(tree: Any, parts: list[memoryview], library: _Library) -> Any:
    """JSON with tags as it would be without."""
    if isinstance(tree, list):
        return [_seen(each, parts, library) for each in cast("list[Any]", tree)]
    if not isinstance(tree, dict):
        return tree
    given = cast("dict[str, Any]", tree)
    if len(given) == 1:
        ((tag, inner),) = given.items()
        if tag[:1] == "$":
            return _tagged(tag, inner, parts, library)
    return {name: _seen(each, parts, library) for name, each in given.items() if name not in ("$private", "$extra")} | (
        _pairs(given.get("$extra", ()), parts, library)
    )


def _tagged(tag: str, inner: Any, parts: list[memoryview], library: _Library) -> Any:
    if tag in _TABLES:
        return _pairs(inner, parts, library)
    if tag == "$defaultdict":
        return _pairs(inner[1], parts, library)
    if tag == "$deque":
        return _seen(inner[1], parts, library)
    if tag == TAG:
        return shown(inner)
    if tag in ("$datetime", "$time"):
        return inner[0] if inner[1] is None else f"{inner[0]} {inner[1]}"
    if tag.startswith("$:") and isinstance(inner, int) and not isinstance(inner, bool) and 0 <= inner < len(parts):
        return inner
    if tag in ("$bytes", "$bytearray") and isinstance(inner, int):
        return f"<{tag[1:]}{f' {len(parts[inner]):,}' if inner < len(parts) else ''}>"
    return library(tag, inner, parts) if tag.startswith(_LIBRARIES) else _seen(inner, parts, library)


def _pairs(pairs: Any, parts: list[memoryview], library: _Library) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        shown = _seen(key, parts, library)
        found[shown if isinstance(shown, str) else json.dumps(shown)] = _seen(value, parts, library)
    return found


def text(data: bytes) -> str | None:
    """A stored value as JSON text; None of frames and arrays.

    >>> text(b' {"$set": [1]}')
    '[1]'
    """
    data = whole(data)
    if is_frame(data):
        return None
    if not is_tree(data):
        return data.decode()
    value = plain(data)
    return None if is_table(value) else json.dumps(value, ensure_ascii=False)


def brief(data: bytes) -> str:
    """A stored value in a few words, for a list of many; a file by its name.

    >>> brief(b'{"city": "lyon", "lines": [1, 2]}'), brief(b'"a.csv"'), brief(b"ARROW1...")
    ('city=lyon · lines=[1, 2]', 'a.csv', 'a table of 9 bytes')
    """
    if is_frame(data):
        return _brief_table(data)
    if head_bytes(data) > BRIEF_BYTES:
        return f"a value of {len(data):,} bytes"
    value = plain(data)
    if not isinstance(value, dict) or not value or _is_file(value):
        return _brief(value)
    fields = [f"{name}={_brief(each)}" for name, each in cast("dict[str, Any]", value).items()]
    if len(" · ".join(fields)) > BRIEF:
        fields.sort(key=lambda each: len(each) > _SHORT)
    return " · ".join(fields)[:BRIEF]


def _brief_table(data: bytes) -> str:
    with suppress(Exception):  # it is damaged
        if len(data) <= BRIEF_BYTES:
            return table(read_frame(data))
    return f"a table of {len(data):,} bytes"


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and {"name", *Look._fields} <= value.keys()


def is_table(value: Any) -> bool:
    """Whether what `plain` gave is a frame, which compares and prints as no JSON value does."""
    return hasattr(value, "height")


def table(frame: Any) -> str:
    """A frame in a few words."""
    return f"a table of {frame.height:,} × {frame.width:,}"


def _brief(value: Any) -> str:
    if is_table(value):
        return table(value)
    if _is_file(value):
        return value["name"]
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return said if len(said) <= BRIEF else said[: BRIEF - 1] + "…"


def leaves(tree: Any, path: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dicts and sequences with its path, such as ``lines[2].price``; if asked, empty ones too."""
    if empty and isinstance(tree, list | dict) and not tree:
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


def halves(data: bytes | None) -> list[bytes]:
    """The two halves of a stored page, in order; nothing if it has fewer than two items.

    >>> halves(b"[1,2,3]"), halves(b"[1]"), halves(b' {"$tuple":[1,2]}')
    ([b'[1]', b'[2, 3]'], [], [b' {"$tuple":[1]}', b' {"$tuple":[2]}'])
    """
    if data is None:
        return []
    try:
        data = whole(data)
    except StoreUnreadable:  # which the chunk fails with
        return []
    if is_frame(data):
        from nbbatch.values.arrow_forms import write_frame

        frame = read_frame(data)
        middle = frame.height // 2
        return [write_frame(frame[:middle]), write_frame(frame[middle:])] if middle else []
    if is_tree(data):
        return _tree_halves(*parted(data))
    items = json.loads(data)
    if not isinstance(items, list):
        return []
    page = cast("list[Any]", items)
    middle = len(page) // 2
    return [json.dumps(half, ensure_ascii=False).encode() for half in (page[:middle], page[middle:])] if middle else []


def _tree_halves(tree: Any, parts: list[memoryview]) -> list[bytes]:
    is_tuple = isinstance(tree, dict) and set(cast("dict[str, Any]", tree)) == {"$tuple"}
    page: Any = cast("dict[str, Any]", tree)["$tuple"] if is_tuple else tree
    if not isinstance(page, list) or len(cast("list[Any]", page)) < 2:
        return []
    items = cast("list[Any]", page)
    middle = len(items) // 2
    # Each half keeps all parts: which of them an item names, only its form knows.
    return [joined({"$tuple": half} if is_tuple else half, parts) for half in (items[:middle], items[middle:])]

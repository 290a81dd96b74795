"""Text and attributes as markup: escaped, shortened, and without characters that XML or a line cannot carry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, TypeVar, overload
from unicodedata import east_asian_width

T = TypeVar("T")

_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
"""What XML refuses or a terminal acts on, and characters that turn the direction of text or are not seen. Letters of any script stay."""


def visible(value: str) -> str:
    """Lines with a mark for each character that a page or a terminal would act on instead of showing it.

    >>> visible("a" + chr(0x1B) + "[2J" + chr(0x202E) + "b")
    'a�[2J�b'
    """
    return _UNFIT.sub("\ufffd", value)


def clip(value: Any, most: int = 200) -> str:
    """Words of at most ``most`` characters, on one line; "…" stands for the rest.

    >>> clip("a long  story", 8), clip(None), clip("x" + chr(0x202E) + "y")
    ('a long …', '', 'x�y')
    """
    if value is None:
        return ""
    words = " ".join(visible(str(value)[: 4 * most]).split())
    return words if len(words) <= most else words[: most - 1] + "…"


def text(value: Any, most: int = 200) -> str:
    """Words as markup.

    >>> text("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(clip(value, most))


def fitted(value: Any, most: int) -> str:
    """`clip` for a narrow place: letters twice as wide, as Chinese ones, count twice.

    >>> fitted("a long story", 8), fitted(chr(0x6570) * 9, 8)
    ('a long …', '数数数…')
    """
    shown = clip(value, most)
    if _wide_chars(shown) <= most:
        return shown
    shown = shown.removesuffix("…")
    while _wide_chars(shown) >= most:
        shown = shown[:-1]
    return f"{shown}…"


def _wide_chars(value: str) -> int:
    """Letters of a line, wide ones twice."""
    return sum(1 + (east_asian_width(each) in "WF") for each in value)


def block(value: str, most: int) -> str:
    """Lines as markup; of long ones the beginning and, since a traceback says most there, the end.

    >>> print(block("two <3", 40))
    two &lt;3
    """
    if len(value) > most:
        value = f"{value[: most // 3]}\n… {len(value) - most:,} characters left out …\n{value[-(most - most // 3) :]}"
    return escape(visible(value))


def pre(value: str) -> str:
    """Lines as an element, broken where they are too long for the page."""
    shown = escape(visible(value))
    return f'<pre style="white-space:pre-wrap">{shown}</pre>'


class Shown:
    """Shows itself in a notebook as in a terminal."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return pre(repr(self))


class Listed(Shown, Sequence[T]):
    """A list to be read and shown."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = list(items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)


def fitting(parts: Iterable[str], most: int, more: str = "") -> str:
    """Parts one after the other, as many as stay within ``most`` characters; ``more`` where some were left out.

    >>> fitting(["one ", "two ", "three "], 10, "…"), fitting(["one ", "two "], 10, "…")
    ('one two …', 'one two ')
    """
    shown = ""
    for part in parts:
        if len(shown) + len(part) > most:
            return shown + more
        shown += part
    return shown


def tag(name: str, *children: str, **attributes: Any) -> str:
    """An element; attributes that are None are left out, ``_`` in their names stands for ``-``, a last one is dropped.

    >>> tag("text", "hi", x=1.50, class_="a", font_size=None)
    '<text x="1.5" class="a">hi</text>'
    >>> tag("path", d="M0 0")
    '<path d="M0 0"/>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def _attribute(value: Any) -> str:
    return number(value) if isinstance(value, float) else escape(str(value))


def number(value: float) -> str:
    """A coordinate, as short as it can be.

    >>> number(3.0), number(1 / 3)
    ('3', '0.33')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")

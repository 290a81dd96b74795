"""A drawn picture as an object: shows itself in a notebook, is saved to a file, and gives its facts as a frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from nbbatch.pictures.markup import tag, text
from nbbatch.pictures.style import STYLE

if TYPE_CHECKING:
    import polars as pl


class Picture:
    """A standalone SVG with its words and its facts. Immutable: it shows what was so when it was drawn.

    Attributes:
        svg: The drawing; needs no network and no script, and follows the notebook's or the system's theme.
        text: The same in plain words, as a terminal shows it.
    """

    def __init__(self, svg: str, words: str, facts: Callable[[], pl.DataFrame]) -> None:
        self.svg = svg
        self.text = words
        self._facts = facts

    def frame(self) -> pl.DataFrame:
        """The facts that are drawn."""
        return self._facts()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing to a file, by convention ``.svg``; returns where it is.

        Raises:
            ValueError: The name ends in something else than ``.svg``: other formats need a converter.
        """
        where = Path(path).expanduser()
        if where.suffix.lower() != ".svg":
            raise ValueError(
                f"a picture is saved as .svg, not {where.suffix or 'without an ending'!r}: save('chain.svg')"
            )
        where.write_text(self.svg, encoding="utf-8")
        return where

    def __repr__(self) -> str:
        return self.text

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f"<div>{self.svg}</div>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Inline HTML first, which the notebook's theme reaches; the SVG for whoever takes no HTML."""
        bundle = {"text/plain": self.text, "text/html": self._repr_html_(), "image/svg+xml": self.svg}
        return {
            kind: data
            for kind, data in bundle.items()
            if (not include or kind in include) and kind not in (exclude or ())
        }


def drawing(width: float, height: float, title: str, about: str, body: Callable[[str], str]) -> str:
    """A whole SVG document.

    Args:
        width: In pixels; shrinks to the page it stands on.
        height: In pixels.
        title: Its name, for tooltips and screen readers.
        about: What is to be seen, in words.
        body: Draws, given a key under which ids are this picture's own.
    """
    key = f"nbp{crc32(body('').encode()):08x}"
    return tag(
        "svg",
        tag("title", text(title), id=f"{key}-t"),
        tag("desc", text(about, 2_000), id=f"{key}-d"),
        tag("style", STYLE),
        tag("rect", class_="paper", width=width, height=height, rx=8),
        body(key),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", width=width, height=height,
        class_="nbp", role="img", aria_labelledby=f"{key}-t {key}-d",
    )  # fmt: skip

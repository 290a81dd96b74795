"""A picture object: displays itself in a notebook, can be saved to a file, and has its data as a frame."""

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
    """A standalone SVG with its text and its data. Immutable: it shows the state at the time it was drawn.

    Attributes:
        svg: The drawing. It needs no network and no script, and follows the theme of the notebook or the system.
        text: The same in words, as a terminal shows it.
    """

    def __init__(self, svg: str, words: str, facts: Callable[[], pl.DataFrame]) -> None:
        self.svg = svg
        self.text = words
        self._facts = facts

    def frame(self) -> pl.DataFrame:
        """The data of the picture."""
        return self._facts()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing to a ``.svg`` file; returns its path.

        Args:
            path: The file.

        Raises:
            ValueError: The name does not end in ``.svg``. Other formats need a converter.
            OSError: The file cannot be written.
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

"""Which item a chunk is about: its input in a few words, beside its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nbbatch.store.reading import Reader
from nbbatch.values.views import BRIEF_BYTES, brief

SHORT = 80
"""Characters of an input beside other words."""
AT_ONCE = 1_000
"""Inputs that are read at once: they may be long."""


class Brief(NamedTuple):
    """What is told of a chunk that is not in its frame."""

    input: str
    worker: str
    """Of its last attempt; "": none is known."""


def briefs(store: Reader, instance: int, chunks: Sequence[int], params: bytes = b"") -> dict[int, Brief]:
    """Inputs of chunks in a few words; "" of those that have none, or none any more.

    Args:
        store: Read from.
        instance: Whose they are.
        chunks: Their ids.
        params: The stored parameters, which the first chunk is given; those without are not told.
    """
    told: dict[int, Brief] = {}
    ids = sorted(chunks)
    for start in range(0, len(ids), AT_ONCE):
        page = ids[start : start + AT_ONCE]
        for chunk, is_first, data, size, worker in store.fetch(
            "chunk_briefs", instance, page[0], page[-1], page, BRIEF_BYTES
        ):
            value = params if is_first else data
            told[chunk] = Brief(brief(value) if value else f"a value of {size:,} bytes" if size else "", worker or "")
    return told


def short(text: str) -> str:
    """An input beside other words: in one line.

    >>> short("a.csv"), len(short("x" * 99))
    ('a.csv', 80)
    """
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[: SHORT - 1]}…"

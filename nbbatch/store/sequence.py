"""Stored values of an instance as a sequence. The keys are read once, the values in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

from nbbatch.base.errors import StoreClosed
from nbbatch.store.reading import Reader

T_co = TypeVar("T_co", covariant=True)

MOST_VALUES = 10_000
"""Values of a page at most …"""
MOST_BYTES = 16_000_000
"""… and their bytes, about."""
FIRST_VALUES = 8
MOST_SHOWN = 500
"""Characters of one value in a repr."""
SHOWN = 10
"""Values in a repr."""

Keys = Any
"""A polars frame with a row per value, in order: what each is found by."""


class Values(Sequence[T_co]):
    """A sequence that reads its values in pages, so that it may be larger than memory.

    Its length and order are those of the time it was created. It equals a list of equal values; slices are lists.
    """

    __hash__ = None  # type: ignore[assignment] - as of a list

    def __init__(self, keys: Keys, read: Callable[[Keys], list[bytes]], decode: Callable[[bytes], T_co]) -> None:
        self._keys = keys
        self._read = read
        self._decode = decode
        self._page: tuple[int, list[bytes]] = (0, [])

    @staticmethod
    def of(stored: list[bytes], decode: Callable[[bytes], Any]) -> Values[Any]:
        """Values whose stored forms are at hand."""
        return Values(stored, lambda some: some, decode)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[T_co]:
        start, size = 0, FIRST_VALUES
        while start < len(self):
            page = self._read(self._keys[start : start + size])
            yield from map(self._decode, page)
            start, size = start + len(page), _next_size(page)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | list[T_co]:
        if isinstance(index, slice):
            return list(Values(self._keys[index], self._read, self._decode))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"value {index} of {len(self)}")
        return self._decode(self._at(place))

    def _at(self, place: int) -> bytes:
        """The stored value at a place; a page is kept, for those who go through it by index."""
        start, page = self._page
        if not start <= place < start + len(page):
            size = _next_size(page) if place == start + len(page) else 1
            start, page = self._page = place, self._read(self._keys[place : place + size])
        return page[place - start]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    def __add__(self, other: Sequence[Any]) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Sequence[Any]) -> list[Any]:
        return [*other, *self]

    def __repr__(self) -> str:
        try:
            shown = ", ".join(map(_in_a_line, self[:SHOWN]))
        except StoreClosed as error:
            return f"<{len(self):,} values: {error}>"
        return f"[{shown}]" if len(self) <= SHOWN else f"<{len(self):,} values: [{shown}, …]>"


def _in_a_line(value: object) -> str:
    """A value as part of a line: of frames and arrays, whose texts are pictures, type and shape."""
    text = repr(value)
    if "\n" in text and (shape := getattr(value, "shape", None)):
        return f"<{type(value).__name__} {' × '.join(f'{each:,}' for each in shape)}>"
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def _next_size(page: list[bytes]) -> int:
    """How many values the page after this one holds: twice as many, within what fits."""
    fit = MOST_BYTES * len(page) // (sum(map(len, page)) + 1)
    return max(1, min(2 * len(page) or FIRST_VALUES, fit or FIRST_VALUES, MOST_VALUES))


def inputs(opened: Callable[[], Reader], instance: int, step: int) -> tuple[Keys, Callable[[Keys], list[bytes]]]:
    """Inputs of a step's chunks in the order of the items, for `Values`; ``opened`` gives the store, or refuses."""

    def read(keys: Keys) -> list[bytes]:
        ids = keys["id"].to_list()
        found = dict(opened().fetch("inputs_by_id", instance, min(ids), max(ids), ids))
        return [found[each] for each in ids]

    return opened().frame("inputs_in_order", instance, step), read


def outputs(
    opened: Callable[[], Reader], instance: int, step: int, *, reduced: bool = False
) -> tuple[Keys, Callable[[Keys], list[bytes]]]:
    """What a step gave, or if ``reduced`` what the reduction at this step reads, in the order of the items, for `Values`."""

    def read(keys: Keys) -> list[bytes]:
        parents, seqs = keys["parent"].to_list(), keys["seq"].to_list()
        bounds = (min(parents), max(parents), parents, min(seqs), max(seqs))
        rows = opened().fetch("outputs_by_parent", instance, *bounds)
        found = {(parent, seq): data for parent, seq, data in rows}
        return [found[key] for key in zip(parents, seqs, strict=True)]

    query = "reduced_in_order" if reduced else "outputs_in_order"
    return opened().frame(query, instance, step), read

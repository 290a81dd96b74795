"""Chunks on their way to a worker: one by one, or many as columns."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, overload

from nbbatch.base.rows import Item

Items = Sequence[Item]


class Fresh(Sequence[Item]):
    """Chunks for their first attempts, as columns: a thousand of them are no more for Python's garbage collector than two lists.

    >>> fresh = Fresh(range(4, 7), [b"a", b"b", b"c"])
    >>> fresh[1], [item.chunk for item in fresh[1:]]
    (Item(chunk=5, attempt=1, data=b'b', errors=0, polls=0), [5, 6])
    """

    __slots__ = ("chunks", "inputs")

    def __init__(self, chunks: Sequence[int], inputs: Sequence[bytes | None]) -> None:
        self.chunks, self.inputs = chunks, inputs

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Item]:
        return map(Item, self.chunks, repeat(1), self.inputs)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Fresh: ...
    def __getitem__(self, place: int | slice) -> Item | Fresh:
        if isinstance(place, slice):
            return Fresh(self.chunks[place], self.inputs[place])
        return Item(self.chunks[place], 1, self.inputs[place])

    def __reduce__(self) -> tuple[Any, ...]:
        return Fresh, (self.chunks, self.inputs)


def joined(parts: Sequence[Items]) -> Items:
    """All parts in one: columns, where each of them is.

    >>> joined([Fresh([4], [b"a"]), Fresh([7], [b"b"])]).chunks
    [4, 7]
    """
    if len(parts) == 1:
        return parts[0]
    fresh = [part for part in parts if isinstance(part, Fresh)]
    if len(fresh) < len(parts):
        return [*chain.from_iterable(parts)]
    return Fresh(
        [*chain.from_iterable(part.chunks for part in fresh)], [*chain.from_iterable(part.inputs for part in fresh)]
    )


def columns(items: Items) -> tuple[Sequence[int], Sequence[bytes | None]]:
    """Ids and inputs."""
    if isinstance(items, Fresh):
        return items.chunks, items.inputs
    return [item.chunk for item in items], [item.data for item in items]


def among(items: Items, chunks: Container[int]) -> dict[int, Item]:
    """Those of some chunks, by chunk; of columns no others are made.

    >>> among(Fresh(range(4, 7), [b"a", b"b", b"c"]), {5, 9})
    {5: Item(chunk=5, attempt=1, data=b'b', errors=0, polls=0)}
    """
    return {chunk: items[place] for place, chunk in enumerate(columns(items)[0]) if chunk in chunks}


def runs(items: Items) -> list[tuple[int, int, int]]:
    """Consecutive chunks of equal attempt as (first chunk, how many, attempt).

    >>> runs([Item(4, 1, b""), Item(5, 1, b""), Item(6, 2, b""), Item(9, 2, b"")])
    [(4, 2, 1), (6, 1, 2), (9, 1, 2)]
    """
    if isinstance(items, Fresh) and isinstance(items.chunks, range):
        return [(items.chunks[0], len(items), 1)] if items else []
    found: list[tuple[int, int, int]] = []
    first = total = attempt = 0
    for item in items:
        if item.chunk == first + total and item.attempt == attempt:
            total += 1
            continue
        if total:
            found.append((first, total, attempt))
        first, total, attempt = item.chunk, 1, item.attempt
    return [*found, (first, total, attempt)] if total else found

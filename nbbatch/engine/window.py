"""Unclaimed chunks in memory: in blocks of ids and inputs as they came, so that taking a thousand costs as little as taking one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from nbbatch.base.items import Fresh, Items, joined

Ids = Sequence[int]
Inputs = Sequence[bytes | None]


class Window:
    """Chunks in the order in which they are to be claimed.

    >>> window = Window()
    >>> window.add(range(4, 7), [b"a", b"b", b"c"])
    3
    >>> [item.chunk for item in window.take(2)], len(window), window.bytes
    ([4, 5], 1, 1)
    """

    __slots__ = ("_blocks", "_count", "_taken", "bytes")

    def __init__(self) -> None:
        self._blocks: deque[tuple[Ids, Inputs]] = deque()
        self._count = self._taken = 0
        """The second: so many of the first block are gone."""
        self.bytes = 0
        """Of all inputs."""

    def __len__(self) -> int:
        return self._count

    def __copy__(self) -> Window:
        made = Window()
        made._blocks, made._count, made._taken, made.bytes = self._blocks.copy(), self._count, self._taken, self.bytes
        return made

    def add(self, ids: Ids, inputs: Inputs) -> int:
        """Put chunks behind those there are; returns the bytes of their inputs."""
        total = total_of(inputs)
        if ids:
            self._blocks.append((ids, inputs))
            self._count += len(ids)
            self.bytes += total
        return total

    def take(self, most: int) -> Items:
        """Up to so many of the first."""
        parts: list[Fresh] = []
        while most and self._blocks:
            parts.append(self._part(most))
            most -= len(parts[-1])
        for part in parts:
            self._count -= len(part)
            self.bytes -= total_of(part.inputs)
        return joined(parts)

    def _part(self, most: int) -> Fresh:
        """Of the first block."""
        ids, inputs = self._blocks[0]
        part = slice(self._taken, self._taken + most)
        self._taken = part.stop
        if self._taken >= len(ids):
            self._blocks.popleft()
            self._taken = 0
        return Fresh(ids[part], inputs[part])

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._count = self._taken = self.bytes = 0


def total_of(inputs: Inputs) -> int:
    """Bytes of inputs, of which some may be None."""
    return sum(map(len, filter(None, inputs)))

"""What may follow at once in the worker that runs a micro-batch: it is handed over with that, and `chained` goes by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nbbatch.definition import Node


class Then(NamedTuple):
    """A step whose attempts may follow at once in the same worker."""

    node: Node
    take_ids: Callable[[int], int | None]
    """Gives the id before those of so many chunks; None: nothing is to follow now."""
    least: int
    """Of no fewer chunks, but for one …"""
    most: int
    """… and of no more."""
    likely_us: float
    """How long each may take, by what came before."""
    then: Then | None = None
    """What may follow it in turn."""

    def takes(self, chunks: int) -> bool:
        """Whether so many are to follow."""
        return chunks == 1 or self.least <= chunks <= self.most

    def all(self) -> list[Then]:
        """It, and what may follow it in turn."""
        return [self, *(self.then.all() if self.then else ())]

    def of(self, index: int) -> Node:
        """The step of an index among these."""
        return next(each.node for each in self.all() if each.node.index == index)


class Behind(NamedTuple):
    """A step that may follow at once where no memory is shared. Its code is the same as where it comes by itself, so that what it has made and keeps is there once."""

    then: Then
    """Without its node, which is in the code, and what may follow in turn."""
    digest: str
    code: bytes


class Reserved(NamedTuple):
    """Ids that nobody else is given: a worker that shares no memory has them with its micro-batch. Those it does not need are nobody's."""

    before: int
    """The id before the first."""
    most: int

    def __call__(self, count: int) -> int | None:
        return self.before if count <= self.most else None

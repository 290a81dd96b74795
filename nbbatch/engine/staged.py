"""What is staged of fan-outs: of those that run, and of those that COMPLETED and gave so much that it becomes chunks a slice a turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


def chunks_of(counts: Mapping[int, int], reduction: int) -> int:
    """How many outputs become chunks, of so many for each step: those of the reduction do not.

    >>> chunks_of({1: 5, 2: 3, 3: 9}, reduction=3)
    8
    """
    return sum(counts.values()) - counts.get(reduction, 0)


class Sealed(NamedTuple):
    """What is staged of a fan-out that COMPLETED, and is to become chunks: outputs by their numbers."""

    first: int
    until: int
    ended_us: int
    """When the attempt ended: as of then they are chunks."""


@dataclass(slots=True)
class Staged:
    """What a running fan-out has handed over."""

    counts: dict[int, int] = field(default_factory=dict[int, int])
    """By the step they go to, how many outputs."""
    bytes: int = 0

    def add(self, targets: Iterable[int], size: int) -> None:
        """Count more of them."""
        for target, count in Counter(targets).items():
            self.counts[target] = self.counts.get(target, 0) + count
        self.bytes += size

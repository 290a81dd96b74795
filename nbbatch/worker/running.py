"""Which chunks were running when a process died: a small file of slots beside the store, mapped into memory.

A claim covers a micro-batch, most of which has not begun when a kill comes; charging all of it with a lost attempt would
fail chunks that never ran. So each worker writes the chunk it begins into a slot and 0 when it has ended. What is
written to a shared mapping outlives the process, SIGKILL included, and costs a fraction of a microsecond. A machine
that loses power may lose the marks; then no chunk is charged.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

SLOTS = 4096
"""Chunks that can be marked at once; what runs beyond them is not charged when it is lost."""
_SIZE = SLOTS * 16


class Marks:
    """The slots of one store; the engine hands them out, workers write them."""

    def __init__(self, path: str | None) -> None:
        """Map the file, creating it if need be; None: memory only."""
        self.path = path
        self._free = list(range(SLOTS - 1, -1, -1))
        self._map = _mapped(path) if path else mmap.mmap(-1, _SIZE)
        self._view = memoryview(self._map).cast("q")
        self.cells = self._view[:SLOTS]
        """What workers write: ``cells[slot] = chunk``; 0: none. Writing one is a single store of eight bytes."""
        self.begun_us = self._view[SLOTS:]
        """When a worker process began what a slot is for, where the step has a time limit; 0: not yet, or not asked for."""

    def take(self, count: int) -> list[int]:
        """Reserve up to ``count`` slots."""
        return [self._free.pop() for _ in range(min(count, len(self._free)))]

    def give_back(self, slots: Iterable[int]) -> None:
        """Clear slots and have them handed out again."""
        for slot in slots:
            self.cells[slot] = self.begun_us[slot] = 0
            self._free.append(slot)

    def read(self) -> set[int]:
        """The chunks that were running when an earlier process died."""
        return set(self.cells) - {0}

    def clear(self) -> None:
        """Forget them, once their lost attempts are on record."""
        self._map[:_SIZE] = bytes(_SIZE)

    def close(self) -> None:
        """Let the mapping go, and the file with it: a store that was closed has nothing running."""
        for view in (self.cells, self.begun_us, self._view):
            view.release()
        self._map.close()
        if self.path:
            Path(self.path).unlink(missing_ok=True)


def _mapped(path: str) -> mmap.mmap:
    with Path(path).open("a+b") as file:
        file.truncate(_SIZE)
        return mmap.mmap(file.fileno(), _SIZE)


@lru_cache(maxsize=16)
def marks_of(path: str) -> Marks:
    """The marks of a store as a worker process writes them."""
    return Marks(path)

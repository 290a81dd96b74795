"""The ids that a store gives: counted up from the last there are, and none is given twice.

Ids of chunks are also given to workers, whose user code may see one before its chunk is stored. So some that are to come are promised
first: a stored note of how far they reach has ids go on behind them after a kill. A clean close replaces it by the last that was given.
"""

from __future__ import annotations

import threading

FIRST_PROMISED = 1_000
"""Chunk ids that are promised at once: after a kill ids go on behind them. Four times as many each time …"""
MOST_PROMISED = 100_000
"""… up to this."""


class Ids:
    """Counters of one opening of a store."""

    def __init__(self, last: dict[str, int]) -> None:
        """Go on behind the last id of each kind."""
        self._last = last
        self._lock = threading.Lock()
        self._promised = self._to_promise = self._given = 0
        """Up to which chunk id none is given again, by what is stored and by the open transaction; and the last that a worker was given."""
        self._block = FIRST_PROMISED
        self._is_shut = False

    def take(self, kind: str, count: int) -> int:
        """Reserve ``count`` ids of a kind and return the one before the first."""
        with self._lock:
            last = self._last[kind]
            self._last[kind] = last + count
            return last

    def promise(self) -> int | None:
        """Up to where chunk ids are to be promised by the open transaction; None: enough are."""
        last = self._last["chunk"]
        if self._to_promise - last >= self._block // 2:
            return None
        self._block = min(MOST_PROMISED, 4 * self._block) if self._to_promise else FIRST_PROMISED
        self._to_promise = last + self._block
        return self._to_promise

    def take_promised(self, count: int) -> int | None:
        """As `take`, of promised chunk ids: None where too few are, and once the store closes. Any thread may ask."""
        with self._lock:
            last = self._last["chunk"]
            if self._is_shut or last + count > self._promised:
                return None
            self._given = self._last["chunk"] = last + count
            return last

    def stored(self) -> int:
        """The open transaction is stored; returns the last chunk id."""
        self._promised = self._to_promise
        return self._last["chunk"]

    def undone(self) -> None:
        """It is not."""
        self._to_promise = self._promised

    def snapshot(self) -> dict[str, int]:
        """How the counters stand, for `rewind`."""
        return dict(self._last)

    def rewind(self, before: dict[str, int]) -> None:
        """Give again what was taken since, but for what workers may know of."""
        with self._lock:
            self._last = before | {"chunk": max(before["chunk"], self._given)}

    def notes(self) -> dict[str, int]:
        """By kind behind which id it goes on when all else is forgotten."""
        return self._last | {"chunk": max(self._last["chunk"], self._to_promise)}

    def shut(self) -> int | None:
        """Workers get no more. Returns the last chunk id to be noted; None: no more were promised."""
        with self._lock:
            self._is_shut = True
            return self._last["chunk"] if self._promised else None

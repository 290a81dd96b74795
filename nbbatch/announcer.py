"""Tells people's functions what happened to an instance, once it is stored, without holding up the dispatcher.

One thread per instance that has something to tell, for as long as it has: what belongs to one instance is told in order,
and a function that takes long holds up no other instance.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class Announcer:
    """The announcements of one engine."""

    def __init__(self) -> None:
        self._calls: dict[int, deque[Callable[[], None]]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()

    def add(self, instance: int, call: Callable[[], None]) -> None:
        """Have a function that never raises be called after those of this instance that wait already; any thread."""
        with self._lock:
            self._calls.setdefault(instance, deque()).append(call)
            if instance not in self._threads:
                name = f"nbbatch-tells-of-{instance}"
                thread = self._threads[instance] = threading.Thread(
                    target=self._tell, args=(instance,), name=name, daemon=True
                )
                thread.start()

    def wait(self, timeout: float) -> None:
        """Until all is told, for so many seconds at most; a function that asks for it is not waited for."""
        until = time.monotonic() + timeout
        with self._lock:  # so that each of them has been started
            threads = list(self._threads.values())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _tell(self, instance: int) -> None:
        while call := self._next(instance):
            call()

    def _next(self, instance: int) -> Callable[[], None] | None:
        with self._lock:
            if self._calls[instance]:
                return self._calls[instance].popleft()
            del self._calls[instance], self._threads[instance]
            return None

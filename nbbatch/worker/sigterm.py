"""What becomes of open batches when the process is asked to end: SIGTERM, from a scheduler, a container, `kill`.

    nothing asked for    nothing is charged; the process ends as it would have without nbbatch
    "drain"              SystemExit(75) in the main thread: nothing new is claimed, what ends in time is stored, the rest is put back

One handler for all batches of the process, in its main thread, as Python has it. It is there while a batch is open that has a use for it, and
gives way to the one before. A second SIGTERM, or a program that goes on in spite of the first, ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from nbbatch.base.interrupts import ending
from nbbatch.base.startup import PUT_BACK
from nbbatch.base.times import Duration, patience

SPARE_SECONDS = 5.0
"""What the process may take beyond the grace before it is ended without further ado."""

_listeners: list[Listener] = []
_before: Any = None
"""The handler that ours has replaced."""


class Listener:
    """One batch's part in it."""

    def __init__(self, mode: str | None, grace: float) -> None:
        """Nothing is heard before `listen`.

        Args:
            mode: None or "drain", as checked by `checked`.
            grace: Seconds that what runs may take to end.
        """
        self.mode, self.grace = mode, grace
        self.release: Callable[[], object] = lambda: None
        self._hold: Callable[[], object] = lambda: None
        self._pid = os.getpid()
        self._until: float | None = None

    def listen(self, release: Callable[[], object], hold: Callable[[], object]) -> None:
        """Begin to hear, in the main thread; elsewhere there is no way to, and nothing is heard.

        Args:
            release: Have whatever still runs not be charged; the process ends.
            hold: Claim nothing more.
        """
        self.release, self._hold = release, hold
        if threading.current_thread() is not threading.main_thread():
            return
        taken = signal.getsignal(signal.SIGTERM)
        if taken is not _on_sigterm and (self.mode or taken is signal.SIG_DFL):
            global _before  # noqa: PLW0603 - a process has one handler
            _before = signal.signal(signal.SIGTERM, _on_sigterm)
        if self not in _listeners:
            _listeners.append(self)

    def stop(self) -> None:
        """Hear no more; may be called twice."""
        if self in _listeners:
            _listeners.remove(self)
        is_main = threading.current_thread() is threading.main_thread()
        if not _listeners and is_main and signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, _before if _before is not None else signal.SIG_DFL)

    def begin(self) -> None:
        """Claim nothing more from here on, and count the time."""
        self._until = time.monotonic() + self.grace
        self._hold()

    def within(self, left: Callable[[], float]) -> Callable[[], float]:
        """How long closing may wait: what is left of the grace once it has begun, else as long as it would."""
        until = self._until
        return left if until is None else lambda: max(0.0, until - time.monotonic())

    @property
    def has_begun(self) -> bool:
        """Whether it was told to end already."""
        return self._until is not None

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to this process: a forked one inherits handlers."""
        return self._pid == os.getpid()


def checked(mode: str | None, grace: Duration) -> tuple[str | None, float]:
    """What `nb.open` was given, the grace in seconds.

    Raises:
        ValueError: It is unknown or no time, or no handler can be set here.
    """
    if mode not in (None, "drain"):
        raise ValueError(f'on_sigterm= takes "drain" or None, not {mode!r}')
    if mode and threading.current_thread() is not threading.main_thread():
        raise ValueError('on_sigterm="drain" needs the main thread, where Python handles signals: open the store there')
    seconds = patience(grace, "grace=")
    if seconds is None:
        raise ValueError("grace= takes a time that ends: who sends SIGTERM does not wait for ever")
    return mode, seconds


def _on_sigterm(_signal: int, _frame: FrameType | None) -> None:
    mine = [each for each in _listeners if each.is_ours]
    draining = [each for each in mine if each.mode]
    if draining and not any(each.has_begun for each in draining):
        for each in draining:
            each.begin()
        _end_at_last(max(each.grace for each in draining) + SPARE_SECONDS)
        raise ending(PUT_BACK)
    for each in mine:
        each.release()
    if draining:
        os._exit(PUT_BACK)
    # as if there had never been ours; in a fork, which has inherited it, too
    signal.signal(signal.SIGTERM, signal.SIG_DFL if _before is None else _before)
    signal.raise_signal(signal.SIGTERM)
    if _before is signal.SIG_DFL:
        os._exit(128 + signal.SIGTERM)  # it goes on as process 1, which the system spares


def _end_at_last(seconds: float) -> None:
    """End the process then, whatever it does: a program may catch SystemExit, and Python waits for threads of pools."""

    def end() -> None:
        for each in _listeners:
            each.release()
        os._exit(PUT_BACK)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()

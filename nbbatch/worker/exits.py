"""What is done first when the interpreter ends."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

_calls: list[Callable[[], None]] = []


def first(call: Callable[[], None]) -> None:
    """Have a function that may run twice be called at the interpreter's end, before the pools that there are now end."""
    if call not in _calls:
        _calls.append(call)
        renew()


def renew() -> None:
    """A pool has started, which may have registered its own end: go before it again.

    ``atexit`` comes after ``concurrent.futures`` has joined its threads, and loky its processes, which wait for whatever is
    in them; the hook that those use themselves runs in reverse order of registration.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_run)
    except RuntimeError:  # the interpreter ends already
        atexit.register(_run)


def _run() -> None:
    while _calls:
        _calls.pop()()

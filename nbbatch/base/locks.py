"""Locks of a file that last until they are let go, whoever opens and closes the file meanwhile in this process.

DuckDB's own lock does not: a process loses it with the first descriptor of that file that it closes, and a program may read or copy
a store that it has open, all of its folder say. A child that is forked keeps none of these locks.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

_held = set[int]()
"""The descriptors that hold a lock."""


def locked(path: str) -> int | None:
    """Lock a file of which nobody else knows yet; returns what `let_go` takes. None where nothing can be locked."""
    with suppress(OSError):
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(number)
            raise
        _held.add(number)
        return number
    return None


def let_go(number: int | None) -> None:
    """Let a lock go. May be called twice."""
    if number in _held:
        _held.discard(number)
        os.close(number)


def is_locked(number: int) -> bool:
    """Whether somebody has the file of a descriptor locked."""
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nothing can be locked there
        return False
    fcntl.flock(number, fcntl.LOCK_UN)
    return False


def _close_in_child() -> None:
    """Else the locks would outlive this process by its children: they go with the last descriptor."""
    for number in tuple(_held):
        let_go(number)


os.register_at_fork(after_in_child=_close_in_child)

"""Who is in DuckDB when the interpreter ends: Python unwinds the threads that are left then, which C++ answers by SIGABRT.

So the last thing that is done at exit is to wait until no other thread is in DuckDB, and have none enter any more. All else that ends
a program, closing its batches too, has been done before.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import ContextDecorator

SECONDS = 4.0
"""How long those are waited for who are in DuckDB …"""
PATIENCE = 1.0
"""… and after how long they are interrupted."""

_inside: dict[int, int] = {}
"""By thread: how many calls of it, one in another, have not ended."""
_state = {"is over": False}
_interrupts: list[Callable[[], None]] = []


class _Busy(ContextDecorator):
    """The calls of a block, or of a function, go to DuckDB; does not begin once the interpreter has ended."""

    def __enter__(self) -> None:
        me = threading.get_ident()
        depth = _inside[me] = _inside.get(me, 0) + 1
        if depth == 1 and _state["is over"] and threading.current_thread().daemon:
            del _inside[me]
            threading.Event().wait()  # as all threads that are left

    def __exit__(self, *_: object) -> None:
        me = threading.get_ident()
        depth = _inside.pop(me, 1) - 1
        if depth:
            _inside[me] = depth


busy = _Busy()


def interrupted_by(interrupt: Callable[[], None]) -> None:
    """Have a function be called that interrupts those who stay in DuckDB at the end."""
    _interrupts.append(interrupt)


def _end() -> None:
    _state["is over"] = True
    began, me = time.monotonic(), threading.get_ident()
    while any(each != me for each in tuple(_inside)) and time.monotonic() - began < SECONDS:
        if time.monotonic() - began > PATIENCE:
            for interrupt in _interrupts:
                interrupt()
        time.sleep(0.005)


atexit.register(_end)
os.register_at_fork(after_in_child=_inside.clear)  # the other threads are not in the child

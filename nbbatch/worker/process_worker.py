"""What a worker process of `nb.processes` does: one call after another, until nobody is at the other end of its pipe."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from nbbatch.worker import received
from nbbatch.worker.surroundings import Change, start_others_by
from nbbatch.worker.travel import dumps

LEAVE_SECONDS = 2.0
"""What a worker may take for its exit: libraries end processes and remove files that they have made for steps."""


def serve(pipe: Connection, parent: int, method: str | None) -> None:
    """What a worker process does: one call after another, until nobody is at the other end of the pipe."""
    atexit.register(os._exit, 0)  # first, so that it comes last: what has no hooks needs no more time
    live_with(parent)
    start_others_by(method)
    received.main = sys.modules["__main__"]
    try:
        pipe.send_bytes(b"ready")
        while True:
            if answer := _answer(pipe.recv_bytes()):
                pipe.send_bytes(answer)
    except (EOFError, OSError):  # nobody waits for its result, nor for what runs beside in this process
        _leave()


def _leave() -> None:
    """What is done before a process waits for those that it has started: pools, as joblib's, have theirs exit. Not for ever."""
    limit = threading.Timer(LEAVE_SECONDS, os._exit, [0])
    limit.daemon = True
    limit.start()
    with suppress(Exception):  # a hook of a library
        getattr(threading, "_shutdown", bool)()


def _answer(data: bytes) -> bytes | None:
    """What came of a call; None: it was none."""
    try:
        given = pickle.loads(data)  # noqa: S301 - of the process that started this one
        if isinstance(given, Change):
            return given.make()
        function, args, kwargs = given
        answer = True, function(*args, **kwargs)
    except BaseException as error:
        answer = False, error
    try:
        return dumps(answer)
    except Exception as error:
        text = f"what it gave cannot be sent to the process that asked: {error!r}; it was {answer[1]!r}"
        return dumps((False, RuntimeError(text)))


def live_with(parent: int) -> None:
    """Make this worker process exit soon after its parent, however that dies, and ignore Ctrl-C.

    Ctrl-C goes to all processes of a terminal or kernel, SIGTERM to all of a unit or container, and the parent decides what to do
    about running work. The handler does nothing instead of ignoring the signal, because processes that a step starts would
    inherit that it is ignored. They are in a session of this worker's own: no Ctrl-C ends them, and they end with a worker that is killed.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _ignore)
    if sys.platform != "win32":
        os.setsid()
        os.register_at_fork(after_in_child=_hear_signals)
    threading.Thread(target=_watch, args=(parent,), name="nbbatch-parent", daemon=True).start()


def _ignore(_signal: int, _frame: object) -> None:
    pass


def _hear_signals() -> None:
    """A process that a step forks ends when it is asked to, as by the end of a ``multiprocessing.Pool``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(parent: int) -> None:
    # not by PR_SET_PDEATHSIG, which speaks of the thread that started the process: a dispatcher ends with its batch
    while os.getppid() == parent:
        time.sleep(0.5)
    end_group(os.getpid())
    os._exit(1)


def end_group(leader: int) -> None:
    """Politely, so that programs, and what joblib and the like keep for the purpose, remove what they have in files and shared memory."""
    if sys.platform != "win32":
        with suppress(OSError):  # it has not begun, or nothing is left
            os.killpg(leader, signal.SIGTERM)

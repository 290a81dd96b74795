"""SIGTERM while the command ``nbbatch`` is still being imported, which takes most of a second: nothing was begun, so it is put back.

Imported first by the package. As process 1 of a container, the signal would be lost without a handler; elsewhere the exit code
would say that the command was killed, where the same command is to be given again.
"""

from __future__ import annotations

import signal
import sys
from itertools import pairwise
from pathlib import PurePath
from types import FrameType

from nbbatch.base.interrupts import ending

PUT_BACK = 75
"""Exit status of a process whose work is put back: EX_TEMPFAIL of sysexits.h, try again later."""


def _put_back(_signal: int, _frame: FrameType | None) -> None:
    raise ending(PUT_BACK)


def hear_sigterm() -> None:
    """End by `PUT_BACK` from here on, until an open store has a handler of its own."""
    signal.signal(signal.SIGTERM, _put_back)


def is_command() -> bool:
    """Whether this process was started as the command: by its script, or by ``python -m nbbatch``. Its worker processes were not."""
    if sys.argv[:1] == ["-m"]:  # as long as Python has not come to the module
        return ("-m", "nbbatch") in pairwise(sys.orig_argv)
    return any(PurePath(word).name == "nbbatch" for word in sys.orig_argv[1:2])


if is_command():
    hear_sigterm()

"""What the exit codes of the command mean: one table, for the command, its help and the documents."""

from __future__ import annotations

from enum import IntEnum

import click

from nbbatch.base import startup
from nbbatch.base.errors import NbbatchError, NotFoundError, ParameterError, StoreLocked
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    LOCKED = 3
    PAUSED = 4
    PUT_BACK = startup.PUT_BACK


MEANS = {
    Exit.DONE: "done; of a run: it COMPLETED",
    Exit.FAILED: "the run ended FAILED or CANCELLED, or what was asked for could not be done",
    Exit.WRONG_USE: "wrong use: an option, path, id or parameter that cannot be meant; nothing was done",
    Exit.LOCKED: "another process holds the store, and what was asked for needs to hold it",
    Exit.PAUSED: "the run is PAUSED and nothing ran; `nbbatch resume` lets it go on",
    Exit.PUT_BACK: "SIGTERM, Ctrl-C or --timeout: what ran was put back; the same command goes on with it",
}


def table() -> str:
    """The codes, one a line, for ``--help``."""
    return "\n".join(f"  {code.value:<3} {said}" for code, said in MEANS.items())


def of_run(status: InstanceStatus) -> Exit:
    """The code for how a run ended; one that has not ended is nobody's failure."""
    return Exit.FAILED if status in INSTANCE_ENDED - {InstanceStatus.COMPLETED} else Exit.DONE


def of_error(error: Exception) -> Exit | None:
    """The code for what was raised; None: it is a fault of the program, whose traceback is wanted."""
    match error:
        case click.UsageError():
            return Exit.WRONG_USE
        case StoreLocked():
            return Exit.LOCKED
        case NotFoundError() | ParameterError() | ValueError():
            return Exit.WRONG_USE
        case NbbatchError() | click.ClickException() | OSError():
            return Exit.FAILED
        case _:
            return None

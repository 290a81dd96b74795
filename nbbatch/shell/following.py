"""A run that this process works on is followed to its end, and so is what others ask of this process meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from nbbatch.base.errors import JobCancelled, JobFailed
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.batch import Batch
from nbbatch.engine.state import LiveInstance
from nbbatch.run import JobHandle
from nbbatch.shell import exit_codes, printing, seeing, wording
from nbbatch.shell.exit_codes import Exit

LOOK_SECONDS = 1.0
"""How soon it is seen that one of the others was paused."""


def follow(begin: Callable[[], JobHandle[Any]], *, json: bool) -> int:
    """Have a run begin, show how it comes to its end on standard error, and say how it ended on standard output.

    What this process was asked to take up meanwhile is brought to its end too: nobody else has the store and the code.
    """
    run = begin()
    if run.status is InstanceStatus.PAUSED:
        printing.note(f"instance {run.id} is PAUSED, so nothing runs: {wording.typed('resume', run.id)} lets it go on")
        return Exit.PAUSED
    run.wait(progress=True)
    _say_end(run, json=json)
    _finish_others(run.batch)
    return exit_codes.of_run(run.status)


def _say_end(run: JobHandle[Any], *, json: bool) -> None:
    if json:
        printing.as_json(seeing.facts(run))
        return
    printing.say(wording.in_commands(repr(run)))
    error = run.exception()
    if isinstance(error, JobFailed | JobCancelled):
        errors, retry = wording.typed("errors", run.id), wording.typed("retry", run.id)
        printing.note(f"{errors} lists its errors; {retry} runs what failed again")
    elif run.report is not None:
        printing.say(seeing.report(run.report))


def say_it_was_there(run: JobHandle[Any]) -> None:
    """In one line: the key's instance has ended before, and that is all."""
    row = run._row  # pyright: ignore[reportPrivateUsage]
    at = datetime.fromtimestamp((row.ended_us or row.created_us) / 1e6, UTC).astimezone()
    advice = "" if row.status is InstanceStatus.COMPLETED else f": {wording.typed('retry', run.id)} takes it up again"
    printing.note(
        f"instance {run.id} (key {row.key!r}) {row.status} already on {at:%Y-%m-%d %H:%M:%S}; nothing was run{advice}"
    )


# --- the others -----------------------------------------------------------------------------------


def _finish_others(batch: Batch) -> None:
    while (live := next((each for each in _lives(batch) if not each.paused), None)) is not None:
        other: JobHandle[Any] = batch.instance(live.id)
        printing.note(
            f"instance {live.id} of job {live.job.name!r} was taken up here too, and goes on to its end ({other.progress:.0%}); "
            "SIGTERM or Ctrl-C puts it back"
        )
        while other.status not in INSTANCE_ENDED and other.status is not InstanceStatus.PAUSED:
            with suppress(TimeoutError):
                other.wait(LOOK_SECONDS)
        printing.note(wording.in_commands(repr(other)))
    for live in _lives(batch):
        printing.note(f"instance {live.id} is PAUSED and unfinished: {wording.typed('resume', live.id)} lets it go on")


def _lives(batch: Batch) -> list[LiveInstance]:
    """What the engine works on, but for sub-jobs, which are part of others."""
    engine = batch._access.engine()  # pyright: ignore[reportPrivateUsage]
    return [each for each in list(engine.live.values()) if each.parent is None]


# --- lines of a log -------------------------------------------------------------------------------


@contextmanager
def dated() -> Generator[None]:
    """Lines on standard error begin with date and time, unless somebody sees them as they come."""
    before = sys.stderr
    if before is not None and not before.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = Dated(before)
    try:
        yield
    finally:
        sys.stderr = before


class Dated:
    """A stream whose lines begin with the local time; in all else the stream it stands for."""

    def __init__(self, stream: TextIO, clock: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self._stream, self._clock, self._begins = stream, clock, True

    def write(self, text: str, /) -> int:
        """Write lines, or parts of one."""
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            return self._stream.write(text)  # refused as the stream does
        for part in text.splitlines(keepends=True):
            stamp = f"{self._clock():%Y-%m-%d %H:%M:%S} " if self._begins else ""
            self._stream.write(stamp + part)
            self._begins = part.endswith("\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

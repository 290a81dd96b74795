"""``nbbatch watch``: redrawn on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.look import Look, LookedRun, look
from nbbatch.panel import terminal
from nbbatch.shell import exit_codes, given, pipes, printing, seeing, wording
from nbbatch.shell.exit_codes import Exit

MOST = 20
"""Instances that are watched at once."""

_EVERY = "Seconds between two pictures; by default 0.5 on a terminal, and elsewhere 30 between two lines."


@click.command()
@given.store
@click.argument("instance", metavar="[ID]", type=given.Instance(min=0), required=False, callback=given.named("ID"))
@click.option("--every", type=click.FloatRange(min=0.05), help=_EVERY)
@given.json_option
def watch(store: Path, instance: int | None, every: float | None, json: bool) -> int:
    """Watch an instance, or all that have not ended, until the end: live on a terminal, elsewhere a line every 30 s.

    The exit code is that of the runs. Ctrl-C ends the watching, not the run.
    """
    try:
        with look(store) as looking:
            assert isinstance(looking, Look)
            runs = unfinished(looking) if instance is None else [looking.instance(instance)]
            if not runs:
                printing.note("every instance has ended")
            until_ended(runs, every, partial(is_over, looking, runs, []), json=json)
            return max((exit_codes.of_run(run.status) for run in runs), default=Exit.DONE)
    except KeyboardInterrupt:
        return Exit.DONE


def unfinished(looking: Look) -> list[LookedRun]:
    """The instances that have not ended, newest first."""
    rows = looking.instances(limit=None)
    ids = rows.filter(~rows["status"].is_in([str(each) for each in INSTANCE_ENDED]))["id"]
    return [looking.instance(each) for each in ids.head(MOST)]


def until_ended(runs: list[LookedRun], every: float | None, is_over: Callable[[], bool], *, json: bool) -> None:
    """Show how runs stand until they have ended, or it is over; the last picture is that of their end."""
    if json:
        for _ in terminal.looks(runs, every or terminal.LINE_SECONDS, until=is_over):
            for run in runs:
                printing.as_json(seeing.facts(run))
    else:
        terminal.watch(runs, every, printing.console(), is_over)


def is_over(looking: Look, runs: Sequence[LookedRun], told: list[int]) -> bool:
    """Whether nobody reads any more; says once of each run that nothing works on it, so that it isn't waited for in silence."""
    for run in runs:
        idle = run.status not in INSTANCE_ENDED and not run.attached
        if idle and run.id not in told:
            told.append(run.id)
            resume = wording.typed("resume", run.id)
            printing.note(
                f"nobody works on instance {run.id} of {looking.path} now; it is waited for. {resume} goes on with it"
            )
        elif not idle and run.id in told:
            told.remove(run.id)
    return not pipes.is_read(sys.stdout)

"""``nbbatch watch``: redrawn on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.look import Look, LookedRun, look
from nbbatch.shell import exit_codes, given, printing, seeing
from nbbatch.shell.exit_codes import Exit

DRAWN_SECONDS = 0.5
"""Between two looks on a terminal …"""
LINE_SECONDS = 30.0
"""… and elsewhere, where each is a line."""
LOOK_SECONDS = 0.5
"""How soon an end is seen, however seldom there is a line."""
MOST = 20
"""Instances that are watched at once."""

_EVERY = "Seconds between two pictures; by default 0.5 on a terminal, and elsewhere 30 between two lines."


@click.command()
@given.store
@click.argument("instance", metavar="[ID]", type=click.IntRange(min=0), required=False)
@click.option("--every", type=click.FloatRange(min=0.05), help=_EVERY)
@given.json_option
def watch(store: Path, instance: int | None, every: float | None, json: bool) -> int:
    """Watch an instance, or all that have not ended, until the end: live on a terminal, elsewhere a line every 30 s.

    The exit code is that of the runs. Ctrl-C ends the watching, not the run.
    """
    with look(store) as looking:
        assert isinstance(looking, Look)
        runs = unfinished(looking) if instance is None else [looking.instance(instance)]
        if not runs:
            printing.note("every instance has ended")
        try:
            until_ended(runs, every, json=json)
        except KeyboardInterrupt:
            return Exit.DONE
        return max((exit_codes.of_run(run.status) for run in runs), default=Exit.DONE)


def unfinished(looking: Look) -> list[LookedRun]:
    """The instances that have not ended, newest first."""
    rows = looking.instances(limit=None)
    ids = rows.filter(~rows["status"].is_in([str(each) for each in INSTANCE_ENDED]))["id"]
    return [looking.instance(each) for each in ids.head(MOST)]


def until_ended(runs: list[LookedRun], every: float | None, *, json: bool) -> None:
    """Show how runs stand until they have ended; the last picture is that of their end."""
    console = printing.console()
    if json or not console.is_terminal:
        for _ in looks(runs, every or LINE_SECONDS):
            for run in runs:
                printing.as_json(seeing.facts(run)) if json else printing.say(repr(run))
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for _ in looks(runs, every or DRAWN_SECONDS):
            live.update(Group(*(part for run in runs for part in _drawn(run))), refresh=True)


def looks(
    runs: list[LookedRun], every: float, clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[None]:  # fmt: skip
    """When to show runs: now, each so many seconds, and once they have ended."""
    due = clock()
    while True:
        ended = all(run.status in INSTANCE_ENDED for run in runs)
        if ended or clock() >= due:
            yield
            due = clock() + every
        if ended:
            return
        sleep(min(LOOK_SECONDS, max(0.0, due - clock())))


def _drawn(run: LookedRun) -> list[Any]:
    steps = run.steps()
    shown = seeing.told(steps)
    return [Text(printing.safe(repr(run))), printing.table(shown, steps.select(shown).iter_rows()), Text()]

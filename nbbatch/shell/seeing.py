"""Commands that only look: whoever holds the store works on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any, cast

import click
from pydantic import BaseModel
from rich.pretty import pretty_repr

from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.heal.inputs import briefs, short
from nbbatch.look import Look, LookedRun, look
from nbbatch.shell import given, printing
from nbbatch.shell.exit_codes import Exit
from nbbatch.shell.wording import in_commands

if TYPE_CHECKING:
    import polars as pl

ROWS = 50
"""Rows of a table unless --limit says otherwise."""

WIDE = 110
"""Characters of a line of a report."""
MOST_OF_REPORT = 4_000
HEALED = ": no chunk is FAILED by now"

_CHUNKS = ("id", "step", "input", "status", "attempts", "seconds", "due", "error_type", "error")
_ERRORS = ("chunk", "now", "step", "input", "attempt", "status", "ended", "error_type", "error")
_STEPS = (
    "step", "chunks", "completed", "failed", "skipped", "cancelled", "errored", "poll_waiting", "gate_waiting", "queued",
    "in_progress", "reused", "records", "median_seconds",
)  # fmt: skip
limited = click.option("--limit", type=click.IntRange(min=1), default=ROWS, show_default=True, help="Rows at most.")


@contextmanager
def run_of(store: Path, instance: int) -> Generator[LookedRun]:
    """An instance that is looked at."""
    with look(store) as looking:
        assert isinstance(looking, Look)
        yield looking.instance(instance)


def tell_of_more(there_are: bool) -> None:
    """Say that not all were shown."""
    if there_are:
        printing.note("there are more; a larger --limit shows them")


@click.command()
@given.instance
@given.json_option
def show(store: Path, instance: int, json: bool) -> int:
    """Show an instance: how it stands, its parameters, its steps, its warnings, its report."""
    with run_of(store, instance) as run:
        steps = run.steps()
        if json:
            printing.as_json({**facts(run), "steps": steps.to_dicts(), "warnings": run.warnings})
            return Exit.DONE
        printing.say(in_commands(repr(run)))
        printing.say(f"params: {shortened(run.params)}")
        printing.frame(steps, told(steps), json=False)
        for warning in run.warnings:
            printing.say(f"warning: {warning}")
        if run.report is not None:
            printing.say(f"report: {report(run.report)}")
        if run.errors(limit=1).height:
            healed = run.status is InstanceStatus.COMPLETED and not steps["failed"].sum()
            printing.note(f"{printing.command('errors', store, instance)} lists its errors{HEALED if healed else ''}")
    return Exit.DONE


def told(steps: pl.DataFrame) -> list[str]:
    """The columns of a frame of steps in which there is anything."""
    always = ("step", "chunks", "completed", "median_seconds")
    return [name for name in _STEPS if name in always or steps[name].sum()]


def shortened(value: Any) -> str:
    """A value in a line."""
    text = repr(value)
    return text if len(text) <= 1_000 else f"{text[:1_000]}…"


def report(value: Any) -> str:
    """A report as people read it: over several lines, where one is too short."""
    text = repr(value)
    if len(text) > WIDE and isinstance(value, dict | list | tuple | set):
        text = pformat(cast("object", value), width=WIDE, compact=True, sort_dicts=False)
    elif len(text) > WIDE and isinstance(value, BaseModel):
        text = pretty_repr(value, max_width=WIDE)
    return text if len(text) <= MOST_OF_REPORT else f"{text[:MOST_OF_REPORT]}… (--json has all)"


def facts(run: Any) -> dict[str, Any]:
    """What a program wants to know of an instance."""
    row: InstanceRow = run._row
    return {
        "id": run.id, "job": row.job, "version": row.version, "status": str(row.status), "progress": run.progress,
        "eta": run.eta, "key": row.key, "error": row.error, "params": run.params, "report": run.report,
        "user_data": run.user_data,
    }  # fmt: skip


@click.command()
@given.instance
@click.option("--step", help="Only of this step.")
@click.option("--status", type=click.Choice([each.value for each in ChunkStatus], case_sensitive=False))
@limited
@given.json_option
def chunks(store: Path, instance: int, step: str | None, status: str | None, limit: int, json: bool) -> int:
    """List the chunks of an instance."""
    with run_of(store, instance) as run:
        rows = run.chunks(step, status=status, limit=limit + 1)
        shown = _with_inputs(run, rows.head(limit), "id")
    printing.frame(shown, _CHUNKS, json=json)
    tell_of_more(rows.height > limit)
    return Exit.DONE


@click.command()
@given.instance
@click.option("--step", help="Only of this step.")
@click.option("--traceback", is_flag=True, help="With the traceback of each.")
@limited
@given.json_option
def errors(store: Path, instance: int, step: str | None, traceback: bool, limit: int, json: bool) -> int:
    """List the attempts of an instance that ended in an error, newest first."""
    with run_of(store, instance) as run:
        before = max(0, _count_errors(run, step) - limit)
        rows = run.errors(step, limit=limit, offset=before).reverse()
        rows = _with_states(run, _with_inputs(run, rows, "chunk"))
    printing.frame(rows, _ERRORS, json=json)
    if traceback and not json:
        for chunk, text in rows.select("chunk", "traceback").iter_rows():
            printing.say(f"\nchunk {chunk}\n{text}")
    tell_of_more(before > 0)
    return Exit.DONE


def _with_inputs(run: Any, rows: pl.DataFrame, chunk: str) -> pl.DataFrame:
    """Rows about chunks with a column that says in a few words which item each is."""
    import polars as pl

    told = briefs(run._store, run.id, rows[chunk].unique().to_list())
    said = [short(told[each].input) or None if each in told else None for each in rows[chunk]]
    return rows.with_columns(pl.Series("input", said, pl.String))


def _with_states(run: Any, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows about attempts with a column of the present state of their chunk: whether there is anything left to do."""
    import polars as pl

    ids = rows["chunk"].unique().to_list()
    found = run._store.frame("chunks_by_id", run.id, min(ids, default=0), max(ids, default=0), ids)
    states = dict(zip(found["id"], found["status"], strict=True))
    return rows.with_columns(pl.Series("now", [states.get(each) for each in rows["chunk"]], pl.String))


def _count_errors(run: Any, step: str | None) -> int:
    return run._store.count("errors", run.id, step, None, None, None, 0)


@click.command()
@given.instance
@click.option(
    "--step", help="Of this step; by default of the last one, whose output is the report where it is a reduction."
)
@click.option("--limit", type=click.IntRange(min=1), help=f"Values at most; by default {ROWS}, and with --json all.")
@given.json_option
def outputs(store: Path, instance: int, step: str | None, limit: int | None, json: bool) -> int:
    """List what a step gave, in the order of the items, a value a line; a frame with --json as its rows."""
    with run_of(store, instance) as run:
        values = run.outputs(step)
        most = limit or (len(values) if json else ROWS)
        for value in islice(values, most):
            if json:
                printing.as_json(value)
            else:
                printing.say(shortened(value).replace("\n", " ⏎ "))
    tell_of_more(len(values) > most)
    return Exit.DONE

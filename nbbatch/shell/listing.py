"""``nbbatch ls``: which instances a store or a folder has, and whether anybody works on them."""

from __future__ import annotations

import time
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbbatch.base.display import plural
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.base.times import moment
from nbbatch.look import Look, Looks, look
from nbbatch.shell import given, printing
from nbbatch.shell.exit_codes import Exit
from nbbatch.shell.seeing import limited, tell_of_more

if TYPE_CHECKING:
    import polars as pl

NOBODY = "nobody"
COLUMNS = (
    "store", "id", "job", "version", "status", "process", "progress", "key", "created", "seconds", "error",
)  # fmt: skip
_ENDED = {str(each) for each in INSTANCE_ENDED}
_SINCE = "Only those that are unfinished, or were created or ended since: such as '1 day', 12h, or an ISO date."


@click.command()
@click.argument("place", type=click.Path(exists=True, path_type=Path), default=".", callback=given.named("STORE"))
@click.option("--job", help="Only this job's name.")
@given.statuses_option([each.value for each in InstanceStatus])
@click.option("--since", help=_SINCE)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if any is listed, for a check.")
@limited
@given.json_option
def ls(
    place: Path, job: str | None, statuses: tuple[str, ...], since: str | None, exit_code: bool, limit: int, json: bool
) -> int:
    """List the instances of a store, or of all stores (*.duckdb) in a folder, newest first.

    PROCESS is the id of the process that works on an unfinished one, or "nobody": it goes on when its command is given again.
    """
    with look(place) as found:
        rows = _rows(found, job, statuses, since, limit + 1)
        shown = _with_process(found, rows.head(limit))
    refused = found.refused if isinstance(found, Looks) else {}
    for path, why in refused.items():
        printing.note(f"{path}: {why}")
    if json:
        printing.as_json([{**row, "params": loads(row["params"] or "null")} for row in shown.to_dicts()])
    else:
        printing.frame(shown, COLUMNS, json=False)
    tell_of_more(rows.height > limit)
    if not json:
        _tell_of_those_left(shown, place)
    failed = refused and not rows.height
    return Exit.FAILED if failed or (exit_code and rows.height) else Exit.DONE


def _tell_of_those_left(rows: pl.DataFrame, place: Path) -> None:
    """Say what goes on with unfinished instances that no process works on: theirs was killed, or ended before them."""
    left = rows.filter(rows["process"].eq_missing(NOBODY))
    if left.height:
        store = left["store"][0] if "store" in left.columns else place
        resume = printing.command("resume", store, left["id"][0], "--job")
        printing.note(
            f"nobody works on {plural(left.height, 'unfinished instance')}: what ran or submitted it goes on with it, or {resume} MODULE:JOB"
        )


def _rows(found: Any, job: str | None, statuses: tuple[str, ...], since: str | None, most: int) -> pl.DataFrame:
    """So many of the instances that are meant; all are read only where they are chosen by what the store isn't asked for."""
    if since is None and len(statuses) <= 1:
        return found.instances(job=job, status=next(iter(statuses), None), limit=most)
    import polars as pl

    rows: pl.DataFrame = found.instances(job=job, limit=None)
    if statuses:
        rows = rows.filter(pl.col("status").is_in(statuses))
    at_us = moment(since, time.time_ns() // 1000, "--since")
    if at_us is not None:
        latest = pl.when(pl.col("status").is_in(_ENDED)).then(pl.max_horizontal("created", "ended"))
        rows = rows.filter(latest.is_null() | (latest.dt.epoch("us") >= at_us))
    return rows.head(most)


def _with_process(found: Look | Looks, rows: pl.DataFrame) -> pl.DataFrame:
    """With the process that works on each that is unfinished."""
    import polars as pl

    looks = {"": found} if isinstance(found, Look) else {each.path: each for each in found}
    pairs = rows.with_columns(pl.lit("").alias("store")) if isinstance(found, Look) else rows
    at_work: list[str | None] = []
    for path, number, status in pairs.select("store", "id", "status").iter_rows():
        owner = None if status in _ENDED else looks[path].owner
        works = owner is not None and looks[path].instance(number).attached
        at_work.append(None if status in _ENDED else str(owner) if works else NOBODY)
    return rows.with_columns(pl.Series("process", at_work, pl.String))

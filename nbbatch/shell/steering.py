"""Commands that change something: asked of the process that holds the store, or done here where nobody does."""

from __future__ import annotations

import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbbatch.base.display import plural
from nbbatch.base.errors import StateError
from nbbatch.base.private_file import replaced
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.batch import open as open_store
from nbbatch.engine import purges
from nbbatch.look import Look, look
from nbbatch.run import JobHandle
from nbbatch.shell import following, given, launching, listing, printing, seeing, wording
from nbbatch.shell.exit_codes import Exit

if TYPE_CHECKING:
    import polars as pl

_SECRETS = "Its secret parameters once more, as JSON: they are not stored. Others may be left out."
FRAMES = ("steps", "chunks", "attempts", "errors", "skips", "history", "logs")
PAGE_ROWS = 100_000
"""Rows that are asked for at once."""


def asked(store: Path, instance: int, order: Callable[[Any], object], *, json: bool) -> int | None:
    """Have an order carried out by who holds the store; None: nobody does."""
    with look(store) as looking:
        assert isinstance(looking, Look)
        run = looking.instance(instance)
        if looking.owner is None:
            return None
        order(run)
        return _done(run, json=json)


def _done(run: Any, *, json: bool) -> int:
    printing.as_json({"id": run.id, "status": str(run.status)}) if json else printing.say(
        wording.in_commands(repr(run))
    )
    return Exit.DONE


def _ordered(store: Path, instance: int, order: Callable[[Any], object], *, json: bool) -> int:
    """An order that needs no code: by who holds the store, or by this process."""
    done = asked(store, instance, order, json=json)
    if done is not None:
        return done
    with open_store(store) as batch:
        run: JobHandle[Any] = batch.instance(instance)
        order(run)
        return _done(run, json=json)


@click.command()
@given.instance
@given.json_option
def pause(store: Path, instance: int, json: bool) -> int:
    """Start nothing more of an instance, until `resume`; what runs ends and is recorded."""
    return _ordered(store, instance, lambda run: run.pause(), json=json)


@click.command()
@given.instance
@given.json_option
def cancel(store: Path, instance: int, json: bool) -> int:
    """End an instance now. It is no error if it was cancelled already."""
    return _ordered(store, instance, _cancel, json=json)


def _cancel(run: Any) -> None:
    if not run.cancel() and (status := run.status) is not InstanceStatus.CANCELLED:
        raise StateError(f"instance {run.id} has ended {status}: there is nothing to cancel")


@click.command()
@given.instance
@click.argument("chunks", metavar="CHUNK...", type=click.IntRange(min=0), nargs=-1, required=True)
@click.option("--reason", required=True, help="Kept with the chunk.")
@given.json_option
def skip(store: Path, instance: int, chunks: tuple[int, ...], reason: str, json: bool) -> int:
    """Leave chunks out, for a reason; gates count them as done."""
    return _ordered(store, instance, partial(_skip, chunks=chunks, reason=reason), json=json)


def _skip(run: Any, chunks: tuple[int, ...], reason: str) -> None:
    for each in chunks:
        run.skip(each, reason)
    if run.status is InstanceStatus.FAILED:
        left = run.steps()["failed"].sum()
        what = (
            f"{plural(left, 'chunk')} FAILED still: {{}} runs what failed again"
            if left
            else "nothing is FAILED any more: {} goes on"
        )
        printing.note(
            f"instance {run.id} has ended; {what.format(wording.typed('retry', run.id))} and takes it to its end"
        )


def _resume(run: Any) -> None:
    status = run.status
    run.resume()
    if status is not InstanceStatus.PAUSED:
        printing.note(f"instance {run.id} was {status}, not PAUSED: it was being worked on already")


def _retry(run: Any) -> None:
    status, failed = run.status, run.steps()["failed"].sum()
    run.retry(quiet=True)
    if status is InstanceStatus.PAUSED:
        printing.note(f"instance {run.id} stays PAUSED: {wording.typed('resume', run.id)} lets it go on")
    if not failed and status not in INSTANCE_ENDED:
        printing.note(f"nothing of instance {run.id} had FAILED: nothing was queued again")


@click.command()
@given.instance
@given.job_option
@launching.where_it_runs
@given.json_option
def resume(store: Path, instance: int, job: str | None, json: bool, **where: Any) -> int:
    """Go on with a paused instance; or with one that nobody works on, here and to its end, with --job."""
    done = asked(store, instance, _resume, json=json)
    if done is not None:
        return done
    found = launching.job_of(job, "resume", store)
    with launching.opened(store, **where) as batch:
        return following.follow(lambda: batch.instance(instance, found).resume(), json=json)


@click.command()
@given.instance
@given.job_option
@click.option("--params", "file", metavar="FILE", type=click.File(encoding="utf-8"), help=_SECRETS)
@launching.where_it_runs
@given.json_option
def retry(store: Path, instance: int, job: str | None, file: Any, json: bool, **where: Any) -> int:
    """Run failed chunks again: by the process that holds the store, or here and to the end, with --job."""
    done = asked(store, instance, _retry, json=json)
    if done is not None:
        return done
    found, params = launching.job_of(job, "retry", store), launching.said_in(file)
    with launching.opened(store, **where) as batch:
        return following.follow(lambda: _retried(batch.instance(instance, found), params), json=json)


def _retried(run: JobHandle[Any], params: Any) -> JobHandle[Any]:
    """What it does is said beside the result."""
    with redirect_stdout(sys.stderr):
        return run.retry(params=params)


# --- the store ------------------------------------------------------------------------------------


@click.command()
@given.store
@click.option("--older-than", help="Those that ended longer ago, such as 30d or '12 hours', or before an ISO date.")
@click.option("--keep-last", type=click.IntRange(min=0), help="But never the last so many of each job.")
@click.option("--job", help="Only this job's name.")
@given.statuses_option([each.value for each in InstanceStatus])
@click.option("--dry-run", is_flag=True, help="Remove nothing: list what would go.")
@given.json_option
def purge(
    store: Path,
    older_than: str | None,
    keep_last: int | None,
    job: str | None,
    statuses: tuple[str, ...],
    dry_run: bool,
    json: bool,
) -> int:
    """Remove instances that have ended, for good, and give their space back to the disk.

    While another process holds the store, it does so: at once for the runs that come, for the disk when it closes the store.
    """
    if older_than is None and keep_last is None:
        raise click.UsageError("purge takes --older-than, such as 30d, or --keep-last, or both")
    which: dict[str, Any] = {"older_than": older_than, "keep_last": keep_last, "job": job, "status": statuses or None}
    with look(store) as looking:
        assert isinstance(looking, Look)
        if dry_run:
            return _list_purged(looking, json=json, **which)
        count = None if looking.owner is None else looking.purge(**which)
    if count is None:
        with open_store(store) as batch:
            count = batch.purge(**which)
    printing.as_json({"purged": count}) if json else printing.say(f"{plural(count, 'instance')} purged")
    return Exit.DONE


def _list_purged(looking: Look, *, json: bool, **which: Any) -> int:
    access = looking._access  # pyright: ignore[reportPrivateUsage]
    asked = purges.meant(**which, now_us=access.engine().clock.now()).asked
    ids = sorted(number for (number,) in access.store.fetch("ended_before", *asked))
    if json:
        printing.as_json({"would_purge": ids})
    else:
        rows = looking.instances(limit=None)
        printing.frame(rows.filter(rows["id"].is_in(ids)), listing.COLUMNS, json=False)
    return Exit.DONE


@click.command()
@given.store
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@given.json_option
def backup(store: Path, path: Path, overwrite: bool, json: bool) -> int:
    """Write a whole copy of a store; whoever holds it works on."""
    with look(store) as looking:
        assert isinstance(looking, Look)
        written = looking.backup(path, overwrite=overwrite)
    printing.as_json({"path": str(written)}) if json else printing.say(str(written))
    return Exit.DONE


@click.command()
@given.instance
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "kind", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--frame", "frames", multiple=True, type=click.Choice(FRAMES), help="Only this one; may be given again.")
@click.option("--values", is_flag=True, help="The report and the outputs of each step too, as JSON lines.")
@given.json_option
def export(
    store: Path, instance: int, folder: Path, kind: str, frames: tuple[str, ...], values: bool, json: bool
) -> int:
    """Write the frames of an instance into a folder, a file each: steps, chunks, attempts, errors, skips, history, logs."""
    with seeing.run_of(store, instance) as run:
        folder.mkdir(parents=True, exist_ok=True)
        written = [_written(folder / f"{name}.{kind}", whole(getattr(run, name))) for name in frames or FRAMES]
        written += _values(folder, run) if values else []
    for path in written:
        if not json:
            printing.say(str(path))
    if json:
        printing.as_json([str(path) for path in written])
    return Exit.DONE


def _values(folder: Path, run: Any) -> list[Path]:
    """Files of a step's outputs, a value a line in the order of the items; of a reduction that is its report."""
    written: list[Path] = []
    for place, step in enumerate(run.steps()["step"]):
        outputs = run.outputs(step)
        if len(outputs):
            name = re.sub(r"[^\w.-]", "_", step)[:50]  # of which some systems take 255 bytes
            path = folder / f"outputs-{place}-{name}.jsonl"
            with replaced(path) as file:
                file.writelines(printing.json_of(value) + b"\n" for value in outputs)
            written.append(path)
    return written


def whole(read: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    """A frame, read in pages where it comes in such: an owner sends so many rows at once."""
    import polars as pl

    if "limit" not in inspect.signature(read).parameters:
        return read()
    pages = [read(limit=PAGE_ROWS)]
    while pages[-1].height == PAGE_ROWS:
        pages.append(read(limit=PAGE_ROWS, offset=len(pages) * PAGE_ROWS))
    return pl.concat(pages)


def _written(path: Path, rows: pl.DataFrame) -> Path:
    """A file that is there whole, or not at all."""
    made, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(made)
    try:
        rows.write_parquet(name) if path.suffix == ".parquet" else rows.write_csv(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path

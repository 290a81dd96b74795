"""Commands that run a job here, in this process: ``run``, and ``resume`` and ``retry`` where nobody holds the store."""

from __future__ import annotations

import json as json_text
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nbbatch.base.states import InstanceStatus
from nbbatch.batch import Batch
from nbbatch.batch import open as open_store
from nbbatch.job import Job
from nbbatch.run import JobHandle
from nbbatch.shell import following, given, model_options, printing
from nbbatch.worker.processes import processes as worker_processes

GRACE_SECONDS = 10.0


class RunCommand(click.Command):
    """``run``, whose options are those of the job that is named too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the options of the job, once one is named."""
        place = next((each for each in args if ":" in each and not each.startswith("-")), None)
        if place is not None:
            job = given.job_at(place)
            taken = [flag for each in _own(self) for flag in (*each.opts, "--help")]
            self.params = [*_own(self), *model_options.options(job, taken)]
        return super().parse_args(ctx, args)


def _own(command: click.Command) -> list[click.Parameter]:
    return [each for each in command.params if not (each.name or "").startswith(model_options.PREFIX)]


def where_it_runs(command: given.F) -> given.F:
    """A command that may run steps here."""
    for option in (
        click.option("--grace", type=click.FloatRange(min=0), default=GRACE_SECONDS, show_default=True, help="Seconds that running steps have after SIGTERM."),
        click.option("--timeout", type=click.FloatRange(min=0), help="Seconds after which what is unfinished is put back, as by SIGTERM."),
        click.option("--processes", type=click.IntRange(min=1), help="Run steps in so many worker processes."),
        click.option("--workers", type=click.IntRange(min=1), help="How many chunks run at once."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=RunCommand)
@click.argument("job", metavar="MODULE:JOB", callback=given.named("JOB"))
@click.argument("store", type=given.STORE, callback=given.named("STORE"))
@click.option(
    "--params",
    "file",
    metavar="FILE",
    type=click.File(encoding="utf-8"),
    help="Parameters as JSON; - is standard input.",
)
@click.option("--set", "sets", metavar="NAME=VALUE", multiple=True, help="One parameter; may be given again.")
@click.option("--key", help="A name for the instance: with it, this command is done once, however often it is called.")
@click.option("--retry", is_flag=True, help="Of a key: if its instance FAILED, run what failed again.")
@click.option("--new", is_flag=True, help="Another instance, even if an unfinished one has equal parameters.")
@click.option(
    "--reuse/--no-reuse",
    default=None,
    help="Take outputs of completed chunks that are equal, of all steps or of none; by default as the steps say.",
)
@where_it_runs
@given.json_option
def run(
    job: str, store: Path, file: Any, sets: tuple[str, ...], key: str | None, retry: bool, new: bool, reuse: bool | None,
    workers: int | None, processes: int | None, grace: float, timeout: float | None, json: bool, **typed: str | None,
) -> int:  # fmt: skip
    """Run a job, or go on with it, and wait for its end. `nbbatch run MODULE:JOB STORE --help` lists the job's own options.

    An unfinished instance with equal parameters is gone on with, so the same command can be given again after a crash. One
    that is PAUSED stays so, and the command ends at once with code 4. What other commands have this process take up meanwhile is brought to
    its end, too.
    """
    if retry and key is None:
        raise click.UsageError("--retry needs --key: it names the instance whose failed chunks run again")
    found = given.job_at(job)
    params = model_options.params(found, said_in(file), {**_set(sets), **_typed(typed)})
    found.check(params)
    with opened(store, workers, processes, grace, timeout) as batch:
        return following.follow(
            lambda: _submitted(lambda: batch.submit(found, params, key=key, new=new, reuse=reuse), retry=retry),
            json=json,
        )


def _submitted(submit: Callable[[], JobHandle[Any]], *, retry: bool) -> JobHandle[Any]:
    """The instance that is meant, which is said where it has ended before and nothing runs."""
    run = submit()
    if run._end is None:  # pyright: ignore[reportPrivateUsage] - it had ended
        if retry and run.status is InstanceStatus.FAILED:
            printing.note(f"instance {run.id} FAILED before: what failed runs again")
            return run.retry(quiet=True)
        following.say_it_was_there(run)
    return run


def said_in(file: Any) -> Any:
    """What a file of parameters says; None without one."""
    if file is None:
        return None
    try:
        return json_text.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} holds no JSON: {error}") from None


def _set(sets: tuple[str, ...]) -> dict[str, str]:
    pairs = [each.partition("=") for each in sets]
    if wrong := [name for name, sign, _ in pairs if not sign or not name]:
        raise click.UsageError(f"--set takes NAME=VALUE, not {wrong[0]!r}")
    return {name: text for name, _, text in pairs}


def _typed(given: dict[str, str | None]) -> dict[str, str]:
    return {name.removeprefix(model_options.PREFIX): text for name, text in given.items() if text is not None}


@contextmanager
def opened(
    store: Path, workers: int | None = None, processes: int | None = None, grace: float = GRACE_SECONDS,
    timeout: float | None = None,
) -> Generator[Batch]:  # fmt: skip
    """The store, held by this process: SIGTERM, Ctrl-C and the timeout put back what runs, and the exit code tells."""
    executor = None if processes is None else worker_processes(processes)
    alarm = threading.Timer(timeout or 0, _time_is_over, [timeout])
    alarm.daemon = True
    with following.dated(), open_store(store, executor, workers=workers, on_sigterm="drain", grace=grace) as batch:
        try:
            try:
                if timeout is not None:
                    alarm.start()
                yield batch
            except KeyboardInterrupt:
                signal.raise_signal(signal.SIGTERM)
        except SystemExit:
            printing.note(f"told to end: what runs has {grace:g} s, the rest is put back; the same command goes on")
            raise
        finally:
            alarm.cancel()
            if alarm.ident is not None:
                alarm.join()  # a signal that it sends still finds the store open
            if executor is not None:
                executor.shutdown(wait=False)


def _time_is_over(seconds: float) -> None:
    printing.note(f"--timeout {seconds:g} is over")
    os.kill(os.getpid(), signal.SIGTERM)


def job_of(place: str | None, order: str, store: Path) -> Job[Any, Any]:
    """The job that an order needs here.

    Raises:
        click.UsageError: None is named.
    """
    if place is None:
        raise click.UsageError(f"nobody holds {store}, so {order} runs the job here: name it, with --job MODULE:JOB")
    return given.job_at(place)

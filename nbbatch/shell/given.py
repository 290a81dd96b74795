"""Arguments that many commands take, and the job that a command names."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from nbbatch.job import Job
from nbbatch.look import look
from nbbatch.shell import wording

F = TypeVar("F", bound=Callable[..., Any])

STORE = click.Path(dir_okay=False, path_type=Path)


class Instance(click.IntRange):
    """An instance: its id, or ``key=NAME``."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The id."""
        kind, sign, key = str(value).partition("=")
        if kind != "key" or not sign or ctx is None:
            return super().convert(value, param, ctx)
        with look(str(ctx.params["store"])) as looking:
            rows = looking.instances(limit=None)
        found = rows.filter(rows["key"].eq_missing(key)).select("id", "job", "version").rows()
        if len(found) != 1:
            some = ", ".join(f"{number} ({job} v{version})" for number, job, version in found)
            raise click.BadParameter(f"key {key!r} names {f'several: {some}; give the id' if some else 'none here'}")
        return found[0][0]


def named(word: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback of a parameter whose value hints are to name."""

    def keep(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
        wording.name(**{word: value})
        return value

    return keep


def store(command: F) -> F:
    """A command that is about one store."""
    there = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.argument("store", type=there, callback=named("STORE"))(command)


def instance(command: F) -> F:
    """A command that is about one instance of a store."""
    return store(click.argument("instance", metavar="ID", type=Instance(min=0), callback=named("ID"))(command))


def json_option(command: F) -> F:
    """A command that can answer a program."""
    return click.option("--json", "json", is_flag=True, help="JSON, for programs.")(command)


def statuses_option(states: list[str]) -> Callable[[F], F]:
    """A command that takes some of these states."""
    kind = click.Choice(states, case_sensitive=False)
    return click.option(
        "--status", "statuses", multiple=True, type=kind, help="Only in this state; may be given again."
    )


def job_option(command: F) -> F:
    """A command that needs code where no process that has it holds the store."""
    said = "The job, if no process that knows it holds the store."
    return click.option("--job", metavar="MODULE:JOB", help=said, callback=named("JOB"))(command)


def job_at(place: str) -> Job[Any, Any]:
    """The job that ``module:job`` names, imported from the current folder or wherever Python finds it.

    Raises:
        click.UsageError: There is none.
    """
    module, _, name = place.partition(":")
    if not (module and name):
        raise click.UsageError(f"a job is named MODULE:JOB, such as reports.monthly:job, not {place!r}")
    if module.endswith(".py") or "/" in module:
        raise click.UsageError(
            f"a module is named as Python imports it, not by its file: {Path(module).stem}:{name}, not {place}"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    found: Any = _imported(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Job):
        jobs = sorted(each for each, value in vars(sys.modules[module]).items() if isinstance(value, Job))
        raise click.UsageError(f"{module} has no job {name!r}; it has {', '.join(jobs) or 'none'}")
    return found  # pyright: ignore[reportUnknownVariableType]


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise click.UsageError(
                f"there is no module {module!r} here: its folder must be the current one, or in PYTHONPATH"
            ) from None
        raise click.UsageError(f"{module} could not be imported: {error}") from error
    except Exception as error:  # of the user's module: whatever it is, it is told with where it comes from
        traceback.print_exc()
        raise click.UsageError(f"{module} could not be imported: {type(error).__name__}: {error}") from error

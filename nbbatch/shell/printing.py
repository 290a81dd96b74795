"""What the command prints: tables and lines for people, JSON for programs."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbbatch.base.display import safe
from nbbatch.base.errors import StoreLocked
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.shell.wording import in_commands, typed

__all__ = ["as_json", "command", "console", "frame", "json_of", "note", "notices", "refusal", "safe", "say", "table"]

if TYPE_CHECKING:
    import polars as pl

CELL_CHARS = 120
"""Characters of a cell of a table: --json has all."""
PIPE_WIDTH = 1_000
"""Columns of what is no terminal: a table is as wide as it needs, so that a line is a row."""
_COLOURS = {each.value: each.look.colour for each in (*InstanceStatus, *ChunkStatus)}


def say(text: str) -> None:
    """A line for people."""
    click.echo(safe(text))


def note(text: str) -> None:
    """A line beside the result."""
    click.echo(safe(text), err=True)


def command(*words: object) -> str:
    """A command as it can be typed.

    >>> command("errors", "my store.duckdb", 1)
    "nbbatch errors 'my store.duckdb' 1"
    """
    return shlex.join(["nbbatch", *map(str, words)])


def refusal(error: Exception) -> None:
    """Why a command was not carried out, whoever found out; of wrong use also how it is used."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        note(error.format_message())
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        note(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n")
    note(f"nbbatch: {_words_of(error)}")


def _words_of(error: Exception) -> str:
    if isinstance(error, StoreLocked):
        holder = f"process {error.pid}" if error.pid else "another process"
        return (
            f"{error.path} is in use by {holder}, and one process at a time can hold a store: nothing was done here. {typed('ls')} lists "
            "its instances; nbbatch pause, resume, cancel, retry and skip are carried out by that process"
        )
    return error.format_message() if isinstance(error, click.ClickException) else in_commands(str(error))


@contextmanager
def notices() -> Generator[None]:
    """What the library warns of, or logs where nobody listens, is a line beside the result; warnings of others are shown as always."""
    of_others, last = warnings.showwarning, logging.lastResort

    def show(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
        if Path(filename).is_relative_to(Path(click.__file__).parent):  # the line that called nbbatch
            note(f"nbbatch: {in_commands(str(message))}")
        else:
            of_others(message, category, filename, *rest)

    warnings.showwarning, logging.lastResort = show, _Notes(logging.WARNING)
    try:
        yield
    finally:
        warnings.showwarning, logging.lastResort = of_others, last


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        ours = record.name.partition(".")[0] == "nbbatch"
        note(f"nbbatch: {in_commands(text)}" if ours else text)


def as_json(value: Any) -> None:
    """One line of JSON: what JSON has no word for is null where it is no number, and text where it is no value; a frame is its rows."""
    click.echo(json_of(value))


def json_of(value: Any) -> bytes:
    """What `as_json` prints."""
    return to_json(value, inf_nan_mode="null", bytes_mode="base64", fallback=_for_json)


def _for_json(value: Any) -> Any:
    if hasattr(value, "collect_schema") and hasattr(value, "collect"):  # a lazy frame
        value = value.collect()
    if hasattr(value, "notna") and not hasattr(value, "levels"):  # of pandas, whose missing times are no times
        value = value.astype(object).where(value.notna(), None)
    for way in ("to_dicts", "to_pylist", "tolist", "to_list"):  # of polars, pyarrow, numpy and pandas
        if hasattr(value, way):
            return getattr(value, way)()
    return value.to_dict("records") if hasattr(value, "columns") else str(value)


def frame(rows: pl.DataFrame, columns: Sequence[str], *, json: bool) -> None:
    """A frame: a table of some of its columns, or a JSON array of objects with all of them.

    Args:
        rows: The frame.
        columns: What people see, where there is any of it.
        json: As JSON.
    """
    if json:
        as_json(rows.to_dicts())
        return
    shown = [name for name in columns if name in rows.columns and not _is_empty(rows, name)]
    console().print(table(shown, rows.select(shown).iter_rows()) if rows.height else "nothing to show")


def _is_empty(rows: pl.DataFrame, name: str) -> bool:
    """Whether a column that is there for few rows has nothing for these."""
    return name not in ("id", "status", "progress") and rows[name].null_count() == rows.height


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of values."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*(_cell(name, value) for name, value in zip(columns, row, strict=True)))
    return made


def _cell(name: str, value: Any) -> Text:
    return Text(_words(name, value), style=_COLOURS.get(str(value), "") if name == "status" else "")


def _words(name: str, value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if name == "progress":
        return f"{value:.0%}"
    if isinstance(value, float):
        return f"{value:,.3f}"
    words = safe(str(value).strip().replace("\n", " ⏎ "))
    return words if len(words) <= CELL_CHARS else f"{words[: CELL_CHARS - 1]}…"


def console() -> Console:
    """Where tables go."""
    is_terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if is_terminal else PIPE_WIDTH, highlight=False, emoji=False)

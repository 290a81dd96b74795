"""Parts of the pages that are made from the code, as Markdown. Knows nothing of Sphinx, so tests and `llms` read it too.

A page asks for a part by a fence, "```{from-code} options nbbatch.open" and its end, with one of:

- ``options NAME``: a table of arguments with their defaults and what they mean
- ``api NAME…``: signature and docstring of names, with the public members of classes
- ``commands``: the command line, as its ``--help`` tells it
- ``tables``: the tables of a store, as schema.sql declares them
- ``views``: the views that ``batch.sql()`` is meant for, with the types of their columns
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import nbbatch

ROOT = Path(__file__).resolve().parents[2]
INSIDE = {"Answering", "LogBuffer"}
"""Bases whose methods are not for users."""
NOT_TOLD = {
    "Job.renew", "Job.renewed_step", "Job.current", "Job.shape_difference", "Batch.usable", "Batch.holds", "inline.submit", "File.of",
    "VirtualClock.steady", "VirtualClock.until", "VirtualClock.subscribe", "Fault.strike",
}  # fmt: skip
"""Members that nbbatch itself calls."""
FENCE = re.compile(r"^```\{from-code\} (.+)\n```$", re.MULTILINE)


def markdown(words: str) -> str:
    """The part that the words ask for, in plain Markdown."""
    kind, *names = words.split()
    return PARTS[kind](*names)


def filled(page: str) -> str:
    """A page with its parts from code filled in."""
    return FENCE.sub(lambda found: markdown(found[1]), page)


# --- names ----------------------------------------------------------------------------------------


def thing(path: str) -> Any:
    """What a dotted name stands for: ``nbbatch.Batch.submit``; of a name that a module has too, what the package means by it."""
    first, *names = path.split(".")
    try:
        return reduce(getattr, names, importlib.import_module(first))
    except AttributeError:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)


def members(kind: type) -> dict[str, Any]:
    """The public members of a class with a docstring, those of bases included that are not public themselves."""
    public = {getattr(nbbatch, name) for name in nbbatch.__all__ if inspect.isclass(getattr(nbbatch, name))}
    told_there = {base for each in kind.__mro__[1:] if each in public for base in each.__mro__}
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("nbbatch") and base.__name__ not in INSIDE and base not in told_there:
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_") and _is_told(value)}
    return {name: value for name, value in found.items() if f"{kind.__name__}.{name}" not in NOT_TOLD}


def _is_told(value: Any) -> bool:
    return bool(_function(value).__doc__) and (callable(_function(value)) or isinstance(value, property))


def _function(value: Any) -> Any:
    return getattr(value, "fget", None) or getattr(value, "__func__", None) or value


def is_made_by_users(kind: type) -> bool:
    """Whether users call a class: what it takes is told then. Others are made by functions and methods."""
    return kind.__name__ == "Fault" or bool(arguments(_doc(kind)))


def signature(value: Any) -> str:
    """How it is called, without the types."""
    if isinstance(value, property) or not callable(value) or (inspect.isclass(value) and not is_made_by_users(value)):
        return ""
    try:
        given = inspect.signature(value)
    except (ValueError, TypeError):
        return "()"
    bare = [
        each.replace(annotation=each.empty) for each in given.parameters.values() if each.name not in ("self", "cls")
    ]
    return str(inspect.Signature(bare))


# --- parts ----------------------------------------------------------------------------------------


def api(*names: str) -> str:
    """Signature and docstring of names, and of the members of classes."""
    return "\n\n".join(text for name in names for text in _told(name))


def _told(path: str) -> Iterator[str]:
    value = thing(path)
    yield f"### {path}{signature(value)}\n\n{_doc(value)}"
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return
    for name, member in members(value).items() if inspect.isclass(value) else ():
        yield f"#### {path.rsplit('.', 1)[-1]}.{name}{signature(member)}\n\n{_doc(_function(member))}"


def _doc(value: Any) -> str:
    """What is said of a name; of a class also how it is made."""
    own = inspect.getdoc(value) or ""
    init = getattr(value, "__init__", None) if inspect.isclass(value) else None
    is_ours = getattr(inspect.unwrap(init) if init else None, "__module__", "").startswith("nbbatch")
    made = inspect.cleandoc(init.__doc__ or "") if is_ours and init else ""  # its own: getdoc would give that of object
    return "\n\n".join(each for each in (own, made) if each)


def arguments(doc: str) -> dict[str, str]:
    """What a Google docstring says of each argument."""
    part = re.search(r"^Args:\n((?:    .*\n|\n)*)", f"{doc}\n", re.MULTILINE)
    entries = re.findall(r"^(\w+): (.*(?:\n    .*)*)", textwrap.dedent(part[1]) if part else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def options(path: str) -> str:
    """A table of what can be given to a function or class."""
    value = thing(path)
    told = arguments(_doc(value))
    call = type(value).__call__ if not inspect.isroutine(value) and not inspect.isclass(value) else value
    rows = [
        f"| `{each.name}` | {_default(each)} | {_cell(told[each.name])} |"
        for each in inspect.signature(call).parameters.values()
        if each.name in told
    ]
    return "\n".join(["| argument | default | meaning |", "| --- | --- | --- |", *rows])


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "*required*"
    value = parameter.default
    return "`()`" if value == () else f"`{value!r}`"


def _cell(text: str) -> str:
    text = re.sub(r"``(.+?)``", r"`\1`", text).replace("|", r"\|")
    return text[:1].upper() + text[1:]


def commands() -> str:
    """Each command of the command line with its help."""
    import click

    from nbbatch.shell.frontend import nbbatch

    whole = click.Context(nbbatch, info_name="nbbatch", max_content_width=78, terminal_width=78)
    parts = [f"```text\n{nbbatch.get_help(whole)}\n```"]
    for name, command in nbbatch.commands.items():
        context = click.Context(command, parent=whole, info_name=name, max_content_width=78, terminal_width=78)
        parts.append(f"## nbbatch {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)


def tables() -> str:
    """The tables of a store with the comments of their declarations."""
    text = (ROOT / "nbbatch" / "store" / "sql" / "schema.sql").read_text(encoding="utf-8").split("\n-- from format")[0]
    parts: list[str] = []
    for comment, name, body in re.findall(r"((?:^-- .*\n)*)^CREATE TABLE (\w+) \(((?:.|\n)*?)\);", text, re.MULTILINE):
        said = " ".join(line.removeprefix("-- ") for line in comment.splitlines())
        rows = [_column(line) for line in _lines(body)]
        parts.append("\n".join([f"### {name}\n\n{said}\n", "| column | type | |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts)


def _lines(body: str) -> list[str]:
    """A declaration's columns, a line each, with their comments."""
    if "\n" in body.strip():
        return [line.strip() for line in body.strip().splitlines()]
    return [each.strip() for each in body.split(",")]


def _column(line: str) -> str:
    declared, _, said = line.partition("--")
    name, _, kind = declared.strip().rstrip(",").partition(" ")
    return f"| `{name}` | {kind.split(' USING ')[0]} | {_cell(said.strip())} |"


VIEWS = ("instances", "chunks", "attempts", "history")


def views() -> str:
    """The views that people query, with the types of their columns."""
    from nbbatch import testing

    parts: list[str] = []
    with testing.batch() as batch:
        for name in VIEWS:
            schema = batch.sql(f"SELECT * FROM {name} LIMIT 0").schema
            rows = [f"| `{column}` | {dtype} |" for column, dtype in schema.items()]
            parts.append("\n".join([f"### {name}\n", "| column | type |", "| --- | --- |", *rows]))
    return "\n\n".join(parts)


PARTS: dict[str, Callable[..., str]] = {
    "api": api, "options": options, "commands": commands, "tables": tables, "views": views,
}  # fmt: skip

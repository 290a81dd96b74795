"""The options that a job's parameters make: a name, a type and a default for each field, and what is typed made a value."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, NamedTuple, cast, get_type_hints

import click
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic_core import PydanticUndefined

from nbbatch.base.errors import ParameterError
from nbbatch.code.signature import has_fields, type_name
from nbbatch.job import Job

_NOTHING = object()
PREFIX = "param_of_job_"
"""Of the names that such options have within the command, whose own are others."""


class Field(NamedTuple):
    """A parameter that can be given by name."""

    name: str
    type: Any
    default: str | None
    """As people read it; None: it must be given."""
    description: str = ""


def fields_of(job: Job[Any, Any]) -> list[Field]:
    """What a job's parameters are made of; those that are no model are one field, named as its first step names it."""
    if is_one_value(job):
        first = job.nodes[0].step
        names = [*inspect.signature(first.function).parameters] if first.takes_input else []
        return [Field(name, job.params.type, None if _needs(job) else "") for name in names[:1]]
    kind: Any = job.params.type
    if issubclass(kind, BaseModel):
        return [_of_model(name, each) for name, each in kind.model_fields.items()]
    hints = get_type_hints(kind, include_extras=True)
    if is_dataclass(kind):
        return [Field(each.name, hints[each.name], _default(each)) for each in fields(kind) if each.init]
    needed = getattr(kind, "__required_keys__", hints.keys() - getattr(kind, "_field_defaults", {}).keys())
    return [Field(name, hint, None if name in needed else "") for name, hint in hints.items()]


def is_one_value(job: Job[Any, Any]) -> bool:
    """Whether its parameters are no model, dataclass or TypedDict, so that one field stands for all of them."""
    kind: Any = job.params.type
    return not isinstance(kind, type) or issubclass(kind, RootModel) or not has_fields(kind)


def _needs(job: Job[Any, Any]) -> bool:
    """Whether it cannot run without parameters."""
    try:
        job.check(None)
    except ParameterError:
        return True
    return False


def _of_model(name: str, field: Any) -> Field:
    alias = field.validation_alias if isinstance(field.validation_alias, str) else name
    kind = Annotated[field.annotation, *(field.metadata or [None])]
    made = "made anew" if field.default is PydanticUndefined else str(field.default)
    return Field(alias, kind, None if field.is_required() else made, field.description or "")


def _default(field: Any) -> str | None:
    if field.default is not MISSING:
        return str(field.default)
    return None if field.default_factory is MISSING else "made anew"


def options(job: Job[Any, Any], taken: Iterable[str]) -> list[click.Option]:
    """An option for each field but those whose name the command has for itself: --set gives these."""
    taken = set(taken)
    made: list[click.Option] = []
    for field in fields_of(job):
        flag = f"--{field.name.replace('_', '-')}"
        if flag not in taken and field.name.isidentifier():
            said = f"{field.description}  " if field.description else ""
            ends = "[required]" if field.default is None else f"[default: {field.default}]" if field.default else ""
            kind = type_name(field.type)
            made.append(click.Option([flag, PREFIX + field.name], metavar=kind, help=f"{said}{ends}".strip()))
    return made


def params(job: Job[Any, Any], said: Any, given: Mapping[str, str]) -> Any:
    """Parameters of what a file says and what was typed, which goes first.

    Args:
        job: Whose.
        said: What the file says; None: there is none.
        given: Text by name.

    Raises:
        click.UsageError: There is no such parameter.
    """
    if not given:
        return said
    kinds = {field.name: field.type for field in fields_of(job)}
    if unknown := [name for name in given if name not in kinds]:
        there = f"it has {', '.join(kinds)}" if kinds else "it takes none"
        raise click.UsageError(f"job {job.name!r} has no parameter {unknown[0]!r}; {there}")
    values = {name: value(kinds[name], text) for name, text in given.items()}
    if is_one_value(job):
        return next(iter(values.values()))
    return {**cast("dict[str, Any]", said or {}), **values}


def value(kind: Any, text: str) -> Any:
    """What is typed for a parameter of this type: the text itself where the type takes it, else the JSON that it is.

    >>> value(int, "5"), value(list[int], "[1, 2]"), value(str, "5"), value(int, "five")
    ('5', [1, 2], '5', 'five')
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    for candidate in (text, _json(text)) if kind is not Any else (_json(text), text):
        try:
            adapter.validate_python(candidate)
        except ValueError:
            continue
        if candidate is not _NOTHING:
            return candidate
    return text  # the job says what is wrong with it


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _NOTHING

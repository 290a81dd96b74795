"""Parameters that are given again for their secrets: stored values stand for those that are not given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

from pydantic import AliasChoices, AliasPath, BaseModel

from nbbatch.values.masks import held


def completed(given: Any, stored: Any) -> Any:
    """A dict of parameters with the stored values of the fields that it lacks, but for secrets; anything else as it is given.

    Args:
        given: Some of the fields, by name or alias.
        stored: The parameters with stars for their secrets.

    >>> completed({"rate": 3}, {"rate": 2, "shop": "Basel"})
    {'rate': 3, 'shop': 'Basel'}
    """
    if not isinstance(given, Mapping):
        return given
    made = dict(cast("Mapping[str, Any]", given))
    for names, value in _fields(stored):
        name = next((each for each in names if each in made), None)
        if name is not None:
            made[name] = completed(made[name], value)
        elif not any(secret for _, secret in held(value)):
            made[names[0]] = value
        elif any(True for _ in _fields(value)):
            made[names[0]] = completed({}, value)
    return made


def _fields(value: Any) -> Iterator[tuple[list[str], Any]]:
    """The fields of a value that has such: under which names each may be given, and what it holds."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if hasattr(value, name):
                yield [name, *_aliases(field.alias), *_aliases(field.validation_alias)], getattr(value, name)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (([each.name], getattr(value, each.name)) for each in fields(value) if each.init)
    elif isinstance(value, Mapping):
        yield from (([name], each) for name, each in cast("Mapping[str, Any]", value).items())


def _aliases(alias: str | AliasPath | AliasChoices | None) -> list[str]:
    choices = alias.choices if isinstance(alias, AliasChoices) else [] if alias is None else [alias]
    return [str(each.path[0]) if isinstance(each, AliasPath) else each for each in choices]

"""Classes that were defined again since a step's hints were read: their cell was run again, or their module loaded again.

A step's function finds the new class under the old name when it runs; what was read from its hints is the old one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from nbbatch.base.errors import ParameterError
from nbbatch.code.signature import Signature, accepts, members, type_name, written

UNIONS = (Union, type(int | str))


def current_class(kind: type, scope: Mapping[str, Any]) -> type:
    """The class that has the place of another one by now, where code of a scope or of its module looks it up.

    One that is still to be found under some other name is meant as it is.
    """
    home = sys.modules.get(kind.__module__)
    places = scope, {} if home is None else vars(home)
    for names in places:
        found = _named(names, kind.__qualname__)
        if isinstance(found, type) and is_namesake(found, kind):
            return kind if found is not kind and any(_holds(names, kind) for names in places) else found
    return kind


def _holds(names: Mapping[str, Any], kind: type) -> bool:
    """Whether a class has a name of its own; those with an underscore are what a notebook keeps of its outputs."""
    return any(value is kind and not name.startswith("_") for name, value in tuple(names.items()))


def _named(names: Mapping[str, Any], qualified: str) -> Any:
    first, *rest = qualified.split(".")
    found = names.get(first)
    for name in rest:
        found = getattr(found, name, None)
    return found


def is_namesake(one: type, other: type) -> bool:
    """Whether two classes are called the same, in modules that are called the same."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def renewed(annotation: Any, scope: Mapping[str, Any]) -> Any:
    """A type with the present classes in it; the same object where none was defined again.

    >>> renewed(list[int], {}), renewed(int | None, {})
    (list[int], int | None)
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _renewed_class(annotation, scope) if isinstance(annotation, type) else annotation
    if origin is Literal:
        return annotation
    if origin is Annotated:
        inner = renewed(args[0], scope)
        return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
    now = tuple(renewed(each, scope) for each in args)
    base = cast("Any", current_class(origin, scope) if isinstance(origin, type) else origin)
    if base is origin and all(new is old for new, old in zip(now, args, strict=True)):
        return annotation
    return Union[now] if origin in UNIONS else base[now]  # noqa: UP007 - its members are only known here


def _renewed_class(kind: type, scope: Mapping[str, Any]) -> Any:
    generic: Mapping[str, Any] = getattr(kind, "__pydantic_generic_metadata__", {})
    origin, args = generic.get("origin"), generic.get("args", ())
    if origin is None:
        return current_class(kind, scope)
    base = cast("Any", current_class(origin, scope))
    now = tuple(renewed(each, scope) for each in args)
    if base is origin and all(new is old for new, old in zip(now, args, strict=True)):
        return kind
    renew: Callable[..., Any] = getattr(base, "__class_getitem__")  # noqa: B009 - pydantic's, which the type of a class does not tell
    return renew(now)


def renewed_signature(given: Signature, function: Callable[..., Any]) -> Signature:
    """A step's signature with the present classes in it; the same object where none was defined again."""
    scope: Mapping[str, Any] = getattr(function, "__globals__", {})
    before = given.input_type, given.output_type, given.params_type
    now = tuple(renewed(each, scope) for each in before)
    if all(new is old for new, old in zip(now, before, strict=True)):
        return given
    return replace(given, input_type=now[0], output_type=now[1], params_type=now[2])


# --- whether the new class reads what the old one had --------------------------------------------------


def unread(before: Any, after: Any) -> str:
    """Why the present classes of a type do not read all values of those before; "" where they do."""
    pairs = zip(_classes(before), _classes(after), strict=False)
    found = (f"{type_name(new)}.{why}" for old, new in pairs if new is not old and (why := _difference(old, new)))
    return next(found, "")


def _difference(old: type, new: type) -> str:
    before, after = _form(old), _form(new)
    for name, (kind, _) in before.items():
        if name not in after:
            return f"{name} is gone"
        now = after[name][0]
        if not accepts(now, kind) and type_name(now) != type_name(kind):
            return f"{name} was {type_name(kind)} and is {type_name(now)}"
    needed = [name for name, (_, is_needed) in after.items() if is_needed and name not in before]
    return f"{needed[0]} is new and has no default" if needed else ""


Form = dict[str, tuple[Any, bool]]
"""Type of each field, and whether it is needed."""


def _form(kind: Any) -> Form:
    """The fields of a model, dataclass, TypedDict or NamedTuple; the values of an Enum; none of anything else."""
    if hasattr(kind, "model_fields"):
        return {name: (each.annotation, each.is_required()) for name, each in kind.model_fields.items()}
    if is_dataclass(kind):
        needed = {each.name: each.default is MISSING and each.default_factory is MISSING for each in fields(kind)}
    elif hasattr(kind, "__total__"):
        needed = {name: name in kind.__required_keys__ for name in kind.__annotations__}
    elif hasattr(kind, "_field_defaults"):
        needed = {name: name not in kind._field_defaults for name in kind._fields}
    elif issubclass(kind, Enum):
        return {repr(each.value): (type(each.value), False) for each in kind}
    else:
        return {}
    hints = written(cast("type", kind))
    return {name: (hints.get(name, Any), is_needed) for name, is_needed in needed.items()}


# --- what holds an older class ------------------------------------------------------------------------


def outdated(
    annotation: Any, scope: Mapping[str, Any], seen: frozenset[type] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Models in a type with a field whose class was defined again since: the names of both."""
    for kind in _classes(annotation):
        for field in _fields(kind) if kind not in seen else ():
            for held in _classes(field):
                if current_class(held, scope) is not held:
                    yield type_name(kind), type_name(held)
            yield from outdated(field, scope, seen | {kind})


def _classes(annotation: Any) -> list[type]:
    """The classes that a type is made of."""
    args = get_args(annotation)
    if args:
        return [kind for each in args for kind in _classes(each)]
    return [each for each in members(annotation) if isinstance(each, type)]


def _fields(kind: type) -> list[Any]:
    fields: Mapping[str, Any] = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", {})
    return [getattr(each, "annotation", None) or getattr(each, "type", None) for each in fields.values()]


# --- values of an older class -------------------------------------------------------------------------


def namesakes(error: ValidationError) -> list[str]:
    """Names of classes of which a value was refused because it is of another class of this name."""
    found: dict[str, None] = {}
    for line in error.errors(include_url=False):
        asked: Any = line.get("ctx", {})
        name = type(line["input"]).__name__
        if name in (asked.get("class_name"), asked.get("class")):
            found[name] = None
    return list(found)


def stored_form(value: Any) -> bytes:
    """A value as its own class would have it stored."""
    return TypeAdapter[Any](Any).dump_json(value, by_alias=False, round_trip=True)


def two_classes(name: str) -> str:
    """What is said, and what to do, where two classes have one name."""
    return f"{name} was defined again since: they are two classes named {name}: run the cells of both steps again"


def checked(validate: Callable[[Any], Any], params: Any, job: str) -> Any:
    """Parameters as their declared type, wherever they are given. What is refused is never shown, as it may hold a secret.

    Args:
        validate: Raises pydantic's error.
        params: Those given. Ones of a class that was defined again since they were made are taken where they fit the new one.
        job: Whose.

    Raises:
        ParameterError: They are invalid; all problems are listed.
    """
    try:
        return validate(params)
    except ValidationError as error:
        refused, names = error, namesakes(error)
    try:
        if names:
            return validate(json.loads(stored_form(params)))
    except (ValidationError, ValueError) as error:
        refused = error if isinstance(error, ValidationError) else refused
    problems = [_problem(line) for line in refused.errors(include_input=False)]
    raise ParameterError(job, [*problems, *([two_classes(names[0])] if names else [])])


def _problem(line: Any) -> str:
    path = ".".join(str(part) for part in line["loc"]) or "parameters"
    return f"{path}: {line['msg']}"

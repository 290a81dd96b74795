"""Reading a step from its function's signature. User code is never run for it."""

from __future__ import annotations

import collections.abc as cabc
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from nbbatch.base.errors import DefinitionError

# From Python 3.14 on hints are evaluated when they are asked for, and may name what is not there.
if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations

    def written(value: Any) -> dict[str, Any]:
        """A function's or class's own hints, as text or as what they are."""
        return get_annotations(value, format=Format.STRING)

    def signature(function: Callable[..., Any]) -> inspect.Signature:
        """What it takes; hints may be text."""
        return inspect.signature(function, annotation_format=Format.STRING)

else:
    written, signature = inspect.get_annotations, inspect.signature


class Kind(StrEnum):
    """What a step gives for one input."""

    ONE = "one"
    """One value: ``-> M``."""
    MANY = "many"
    """Any number of values: ``-> Iterator[M]``."""
    NONE = "none"
    """Nothing; it ends the chain: ``-> None``."""
    REDUCTION = "reduction"
    """One report of all values of the step before: takes ``Iterable[M]``."""


_STREAMS = {cabc.Iterable, cabc.Iterator, cabc.Generator}
_ASYNC_STREAMS = {cabc.AsyncIterable, cabc.AsyncIterator, cabc.AsyncGenerator}
_HOW = "write  def step(item: In) -> Out  or  def step(item: In, params: Params) -> Iterator[Out]"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function's type hints declare."""

    kind: Kind
    input_type: Any
    output_type: Any
    """Of one value it gives; None for Kind.NONE."""
    takes_params: bool
    """Its second parameter is the job's parameters."""
    params_type: Any
    is_async: bool
    takes_input: bool = True
    """False: it has no parameters, and can only be a first step."""
    may_take_params: bool = False
    """Its second parameter has a default and a type of fields: it is the job's parameters where those are of that type."""


def read_signature(function: Callable[..., Any], name: str, local: dict[str, Any]) -> Signature:
    """The signature of a step.

    Args:
        function: Of one or two parameters with type hints, or of none; others have defaults, which they keep. A second one
            with a default keeps that too, unless its type has fields.
        name: Of the step, for errors.
        local: Names a string annotation may use, besides the function's own globals and closure.

    Raises:
        DefinitionError: A hint is missing or cannot be resolved, or there are too many parameters.
    """
    parameters = _parameters(function, name)
    hints = _hints(function, name, local)
    for parameter, has_default in parameters[:2]:
        if parameter not in hints and not (has_default and parameter != parameters[0][0]):
            raise DefinitionError(f"step {name!r}: parameter {parameter!r} has no type hint; {_HOW}")
    if "return" not in hints:
        raise DefinitionError(f"step {name!r} has no return type; {_HOW}, or  -> None  to end a chain")
    first = hints[parameters[0][0]] if parameters else None
    second, has_default = parameters[1] if len(parameters) > 1 else ("", True)
    params_type = hints.get(second)
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    kind, input_type, output_type = _kind(first, hints["return"], name)
    may_take = has_default and any(map(has_fields, members(params_type)))
    return Signature(
        kind, input_type, output_type, not has_default, params_type if may_take or not has_default else None, is_async,
        bool(parameters), may_take,
    )  # fmt: skip


def has_fields(annotation: Any) -> bool:
    """Whether a type has named fields: a model, a dataclass, a TypedDict, a NamedTuple."""
    marks = ("model_fields", "__dataclass_fields__", "__total__", "_fields")
    return isinstance(annotation, type) and any(hasattr(annotation, mark) for mark in marks)


def default_of(function: Callable[..., Any]) -> Any:
    """The default of a function's first parameter; None without."""
    first = next(iter(signature(function).parameters.values()), None)
    return None if first is None or first.default is first.empty else first.default


def _parameters(function: Callable[..., Any], name: str) -> list[tuple[str, bool]]:
    """The positional parameters, and which of them have defaults; all but the first two keep theirs."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"step {name!r}: {function!r} has no readable signature; {_HOW}") from error
    for odd in parameters:
        if odd.kind in (odd.VAR_POSITIONAL, odd.VAR_KEYWORD) or (
            odd.kind is odd.KEYWORD_ONLY and odd.default is odd.empty
        ):
            raise DefinitionError(
                f"step {name!r}: parameter {str(odd)!r} is not a plain one, and has no default; {_HOW}"
            )
    plain = [(each.name, each.default is not each.empty) for each in parameters if each.kind is not each.KEYWORD_ONLY]
    needed = [parameter for parameter, has_default in plain if not has_default]
    if len(needed) > 2:
        raise DefinitionError(
            f"step {name!r} takes its input and optionally the parameters, not {', '.join(needed)}; others need defaults; {_HOW}"
        )
    return plain


def _hints(function: Callable[..., Any], name: str, local: dict[str, Any]) -> dict[str, Any]:
    free = getattr(function, "__code__", None)
    cells = zip(free.co_freevars, function.__closure__ or (), strict=False) if free else ()
    known = {**local, **{variable: cell.cell_contents for variable, cell in cells if _is_filled(cell)}}
    try:
        return get_type_hints(function, localns=known, include_extras=True)
    except Exception as error:
        texts = {key: value for key, value in written(function).items() if isinstance(value, str)}
        guilty = next((key for key, value in texts.items() if str(getattr(error, "name", "")) in value), "a hint")
        raise DefinitionError(
            f"step {name!r}: the type of {guilty!r} cannot be resolved ({error}); define or import it before the step"
        ) from error


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - reading it is the test
    except ValueError:
        return False
    return True


def caller_locals(depth: int) -> dict[str, Any]:
    """Local names of the function that calls the decorator, for hints written as text inside it."""
    frame = sys._getframe(depth)  # pyright: ignore[reportPrivateUsage]
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _kind(first: Any, returned: Any, name: str) -> tuple[Kind, Any, Any]:
    taken, given = plain(first), plain(returned)  # Annotated[Iterator[M], ...] streams too
    streams = get_origin(given) in _STREAMS | _ASYNC_STREAMS or given in _STREAMS | _ASYNC_STREAMS
    if get_origin(taken) in {cabc.Iterable, cabc.Iterator} or taken in (cabc.Iterable, cabc.Iterator):
        item = _item(taken, name, "its input")
        if streams or given is type(None):
            raise DefinitionError(f"step {name!r} is a reduction and must return its one report; declare  -> Report")
        return Kind.REDUCTION, item, returned
    if streams:
        return Kind.MANY, first, _item(given, name, "its return type")
    if given is type(None):
        return Kind.NONE, first, None
    return Kind.ONE, first, returned


def _item(stream: Any, name: str, what: str) -> Any:
    args = get_args(stream)
    if not args:
        raise DefinitionError(f"step {name!r}: {what} is a bare {type_name(stream)}; say of what, as in Iterator[File]")
    return args[0]


# --- comparing types -----------------------------------------------------------------------------


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself.

    >>> members(int | str)
    (<class 'int'>, <class 'str'>)
    """
    annotation = plain(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for inner in get_args(annotation) for member in members(inner))
    return (annotation,)


def plain(annotation: Any) -> Any:
    """A type without Annotated's extras, NewType and TypeAliasType."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__") and type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return type(None) if annotation is None else annotation


def accepts(target: Any, source: Any) -> bool:
    """Whether a step that takes ``target`` can be given every ``source``.

    >>> accepts(int | None, int), accepts(float, int), accepts(list[int], list[str]), accepts(int, int | str)
    (True, True, False, False)
    """
    target, source = plain(target), plain(source)
    if target in (Any, object) or target == source or source is Any or isinstance(target, TypeVar):
        return True
    if len(members(source)) > 1:
        return all(accepts(target, member) for member in members(source))
    if len(members(target)) > 1:
        return any(accepts(member, source) for member in members(target))
    return _accepts_one(target, source)


def _accepts_one(target: Any, source: Any) -> bool:
    if get_origin(source) is Literal:
        values = get_args(source)
        if get_origin(target) is Literal:
            return set(values) <= set(get_args(target))
        return isinstance(target, type) and all(isinstance(value, target) for value in values)
    base, other = get_origin(target) or target, get_origin(source) or source
    if base is float and other is int:
        return True
    if not (isinstance(base, type) and isinstance(other, type)) or not _is_subclass(other, base):
        return False
    wanted, given = get_args(target), get_args(source)
    return not wanted or (len(wanted) == len(given) and all(map(accepts, wanted, given)))


def _is_subclass(child: type, parent: type) -> bool:
    try:
        return issubclass(child, parent)
    except TypeError:  # a TypedDict or protocol, which has no instances
        return False


def item_type(annotation: Any) -> Any:
    """The type of what a list, a set or the like holds; None of what holds nothing, or things of several types.

    >>> item_type(list[int]), item_type(tuple[str, ...]), item_type(dict[str, int]), item_type(str)
    (<class 'int'>, <class 'str'>, None, None)
    """
    held, base = plain(annotation), get_origin(plain(annotation))
    items = [arg for arg in get_args(held) if arg is not Ellipsis]
    return items[0] if isinstance(base, type) and issubclass(base, cabc.Iterable) and len(items) == 1 else None


def type_name(annotation: Any) -> str:
    """A type as people write it.

    >>> type_name(list[int]), type_name(int | None), type_name(str)
    ('list[int]', 'int | None', 'str')
    """
    if len(members(annotation)) > 1:
        return " | ".join(type_name(member) for member in members(annotation))
    annotation = plain(annotation)
    if annotation is type(None):
        return "None"
    base, args = get_origin(annotation), get_args(annotation)
    if base is None:
        return getattr(annotation, "__qualname__", repr(annotation)).rpartition("<locals>.")[2]
    inner = ", ".join("..." if arg is Ellipsis else type_name(arg) if _is_type(arg) else repr(arg) for arg in args)
    return f"{getattr(base, '__name__', str(base))}[{inner}]"


def _is_type(arg: Any) -> bool:
    return isinstance(arg, type) or get_origin(arg) is not None or arg is None

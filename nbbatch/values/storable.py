"""Types that users say how to store, by two functions of their own."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from nbbatch.base.errors import DefinitionError
from nbbatch.values.tree import Form, Reader, Unstorable, Writer

T = TypeVar("T")


class Storable(NamedTuple):
    """A type and its two functions."""

    kind: type
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


_KNOWN: dict[type, Storable] = {}
_TRIED: set[type] = set()
"""Types of which a value was read again once."""


def storable(kind: type[T], *, dump: Callable[[T], Any], load: Callable[[Any], T]) -> type[T]:
    """Say how values of a type pass between steps: an estimator, a model, a client's object.

    Call it before the steps that name the type are defined. Steps, and values that are asked for in a process that has the job
    (``run.outputs()``, of a look too), get what ``load`` makes; frames, pictures and panels run neither function. Values of a
    subclass pass too, if ``load`` gives them back.
    The first value of each type is loaded again at once and compared, where the type defines ``==``.

    Args:
        kind: The class.
        dump: Makes bytes of a value, or anything else that may pass between steps: a dict, an array, a frame.
        load: Makes the value of what ``dump`` gave.

    Returns:
        The class.

    Raises:
        DefinitionError: ``kind`` is no class, or one of the functions is none.

    Example:
        >>> class Money:
        ...     def __init__(self, cents: int) -> None:
        ...         self.cents = cents
        >>> _ = nb.storable(Money, dump=lambda money: money.cents, load=Money)
        >>> @nb.step
        ... def pay(money: Money) -> int:
        ...     return money.cents
    """
    if not isinstance(kind, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"nb.storable() takes a class, not {kind!r}")
    for name, function in (("dump", dump), ("load", load)):
        if not callable(function):
            raise DefinitionError(f"nb.storable({kind.__name__}): {name}= takes a function, not {function!r}")
    for other in [
        each for each in _KNOWN if (each.__module__, each.__qualname__) == (kind.__module__, kind.__qualname__)
    ]:
        del _KNOWN[other]  # its cell was run again
    _KNOWN[kind] = Storable(kind, dump, load)
    _TRIED.discard(kind)
    return kind


def known(kind: type) -> Storable | None:
    """What was said of a type, or of the nearest class that it derives from."""
    return next((_KNOWN[base] for base in kind.__mro__ if base in _KNOWN), None)


def all_known() -> tuple[Storable, ...]:
    """All that was said in this process."""
    return tuple(_KNOWN.values())


class Reach(Protocol):
    """What declared types may hold; see `declared`."""

    kinds: dict[type, Any]
    is_open: bool


def told(reach: Reach) -> tuple[Storable, ...]:
    """What another process has to be told, to read and write values of some types."""
    return all_known() if reach.is_open else tuple(filter(None, map(known, reach.kinds)))


def received(given: tuple[Storable, ...]) -> None:
    """Tell this process; what was said here stays."""
    for each in given:
        _KNOWN.setdefault(each.kind, each)


def form_of(each: Storable, tag: str) -> Form:
    """The form of a type that was told of."""

    def write(writer: Writer, value: Any) -> Any:
        told = _KNOWN.get(each.kind, each)
        dumped = told.dump(value)
        if type(value) not in _TRIED:
            _check(value, told.load(dumped), told)
            _TRIED.add(type(value))
        return writer.put(bytes(dumped) if isinstance(dumped, memoryview) else dumped)

    def read(reader: Reader, tree: Any) -> Any:
        return _KNOWN.get(each.kind, each).load(reader.get(tree))

    return Form(tag, write, read)


def _check(value: Any, back: Any, each: Storable) -> None:
    given = type(value).__name__
    if type(back) is not type(value):
        raise Unstorable(
            f"is a {given}, and load(dump(value)) of nb.storable({each.kind.__name__}) gives a {type(back).__name__}: "
            f"mend the two functions, or tell nb.storable({given}, dump=..., load=...) too"
        )
    compares = type(value).__eq__ is not object.__eq__
    if compares and (value == back) is False:
        raise Unstorable(
            f"is a {given} that load(dump(value)) of nb.storable({each.kind.__name__}) does not give back equal"
        )

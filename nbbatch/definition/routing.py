"""Which of the steps that follow gets a value: by its type, by what a decider says, or by what `to` names.

a >> (b | c) >> d                     by type: each value to every branch that accepts it
a >> nb.choose(decide, {…}) >> d      by a decider's key
a >> (b | nb.to(d)) >> d              some values of a go past b: those only d accepts, and those a names
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from nbbatch.base.errors import ValueNotStorable
from nbbatch.code.signature import members, type_name
from nbbatch.values.type_adapters import adapter_of


class To:
    """A value with the name of the step it is for; made by `to` in a step's body."""

    __slots__ = ("_step", "_value")

    def __init__(self, step: str, value: Any) -> None:
        self._step, self._value = step, value

    def read(self) -> tuple[str, Any]:
        """The name and the value."""
        return self._step, self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return To, self.read()

    def __repr__(self) -> str:
        return f"nb.to({self._step!r}, {self._value!r})"


class Choice:
    """A decider and the keys it may give."""

    def __init__(self, decider: Callable[[Any], Any], keys: Sequence[Any]) -> None:
        self.decider = decider
        self.keys = tuple(keys)
        self.name: str = getattr(decider, "__name__", repr(decider))

    def pick(self, value: Any) -> Any:
        """The key of the branch a value takes.

        Raises:
            ValueNotStorable: The decider gave a key that has no branch.
        """
        key = self.decider(value)
        if key not in self.keys:
            keys = ", ".join(map(repr, self.keys))
            raise ValueNotStorable(f"decider {self.name!r} gave {key!r}, which has no branch; the branches are {keys}")
        return key


class Condition(NamedTuple):
    """A branch of a choice is taken by the values its key was picked for."""

    choice: Choice
    key: Any


Conditions = tuple[Condition, ...]


class Way(NamedTuple):
    """One way out of a step, where there are several or one has a condition."""

    target: int
    step: str
    """Name of the target."""
    wanted: Any
    """What it takes."""
    past: bool
    """Made by `to`: for values that name it, or that no other way accepts."""
    conditions: Conditions


def ways_of(ways: Iterable[Way], value: Any) -> tuple[int, ...]:
    """The targets a value goes to, each once."""
    fitting = list(_fitting(ways, value))
    picked: dict[Choice, Any] = {}
    open_ways = [way for way in fitting if (way.conditions or not way.past) and _holds(way.conditions, value, picked)]
    return tuple(dict.fromkeys(way.target for way in open_ways or [w for w in fitting if w.past and not w.conditions]))


def _fitting(ways: Iterable[Way], value: Any) -> Iterator[Way]:
    """Ways of one type, one after another, are asked once: reading a big value takes its time."""
    wanted, is_fitting = None, False
    for way in ways:
        if way.wanted is not wanted:
            wanted, is_fitting = way.wanted, fits(value, way.wanted)
        if is_fitting:
            yield way


def _holds(conditions: Conditions, value: Any, picked: dict[Choice, Any]) -> bool:
    """Whether every decider picks this way; each is asked once per value, an inner one only where the outer one led."""
    for choice, key in conditions:
        if choice not in picked:
            picked[choice] = choice.pick(value)
        if picked[choice] != key:
            return False
    return True


def address(giver: str, ways: Sequence[Way], name: str, value: Any) -> tuple[int, ...]:
    """The target that `to` names.

    Raises:
        ValueNotStorable: It does not follow the giver, or does not take such a value.
    """
    named = [way for way in ways if way.step == name]
    if not named:
        known = ", ".join(dict.fromkeys(repr(way.step) for way in ways))
        raise ValueNotStorable(
            f"step {giver!r} gives a value to {name!r}, but what follows it is {known}; "
            f"a way past them is written {giver} >> (… | nb.to({name})) >> {name}"
        )
    if not fits(value, named[0].wanted):
        wanted = type_name(named[0].wanted)
        raise ValueNotStorable(f"step {giver!r} gives a {type(value).__name__} to {name!r}, which takes {wanted}")
    return (named[0].target,)


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of a type that a step takes.

    >>> fits(1, float), fits(True, float), fits("a", int | str), fits([1], list[str])
    (True, False, True, False)
    """
    if type(value) is wanted:
        return True
    for member in members(wanted):
        if member in (Any, object) or (member is float and type(value) is int):  # as type checkers see it
            return True
        if isinstance(member, type) and not hasattr(member, "__total__") and isinstance(value, member):
            return True
        if not isinstance(member, type) or hasattr(member, "__total__"):
            try:
                _adapter(member).validate_python(value, strict=True)
            except ValidationError:
                continue
            return True
    return False


def _adapter(member: Any) -> TypeAdapter[Any]:
    try:
        return _made_adapter(member)
    except TypeError:  # such as Annotated with a list, which has no hash
        return adapter_of(member)


_made_adapter = lru_cache(maxsize=1024)(adapter_of)
"""Made once for each type: that takes a hundred times as long as a look at a value."""

"""Steps, and the chains they form with ``>>`` and ``|``. Immutable values; every join is checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from nbbatch.base.errors import DefinitionError
from nbbatch.code.signature import Kind
from nbbatch.definition.base_step import BaseStep
from nbbatch.definition.links import Head, Links, Pass, Tail, beside, then
from nbbatch.definition.routing import Choice, Condition, To

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
J = TypeVar("J")
X = TypeVar("X")
Y = TypeVar("Y")
R = TypeVar("R")
K = TypeVar("K")


class Joining:
    """``>>`` and ``|``. Type checkers see them only where joining is possible. At run time all kinds have them, to raise a clear error."""

    if not TYPE_CHECKING:

        def __rshift__(self, other: Any) -> Any:
            return joined(then(links_of(self), links_of(other)))

        def __or__(self, other: Any) -> Any:
            return joined(beside(links_of(self), links_of(other)))


class Open(Joining, Generic[I_contra, O_co]):
    """A chain whose last step passes values on: it can be followed by a step, an end or a reduction."""

    @overload
    def __rshift__(self, other: Reduction[O_co, R, Any]) -> ClosedChain[I_contra, R]: ...
    @overload
    def __rshift__(self, other: End[O_co, Any]) -> ClosedChain[I_contra, None]: ...
    @overload
    def __rshift__(self, other: ClosedChain[O_co, R]) -> ClosedChain[I_contra, R]: ...
    @overload
    def __rshift__(self, other: Step[O_co, X, Any]) -> Chain[I_contra, X]: ...
    @overload
    def __rshift__(self, other: Chain[O_co, X]) -> Chain[I_contra, X]: ...
    def __rshift__(self, other: Any) -> Any:
        """Pass the values of this step or chain on to another one."""
        return joined(then(links_of(self), links_of(other)))

    @overload
    def __or__(self, other: Step[J, X, Any] | Chain[J, X]) -> Chain[I_contra | J, O_co | X]: ...
    @overload
    def __or__(self, other: End[J, Any] | ClosedChain[J, None]) -> Chain[I_contra | J, O_co]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return joined(beside(links_of(self), links_of(other)))


class Step(Open[I_contra, O_co], BaseStep, Generic[I_contra, O_co, C_co]):
    """A step that passes values on: one per chunk, or one per yield."""

    @overload
    def __call__(self: Step[None, Any, Any]) -> C_co: ...
    @overload
    def __call__(self: Step[X, Any, Any], value: X, /, *params: Any, **own: Any) -> C_co: ...
    def __call__(self, *args: Any, **own: Any) -> Any:
        """Call the function."""
        return self.function(*args, **own)


class End(Joining, BaseStep, Generic[I_contra, C_co]):
    """A step that returns nothing and ends the chain."""

    @overload
    def __call__(self: End[None, Any]) -> C_co: ...
    @overload
    def __call__(self: End[X, Any], value: X, /, *params: Any, **own: Any) -> C_co: ...
    def __call__(self, *args: Any, **own: Any) -> Any:
        """Call the function."""
        return self.function(*args, **own)

    @overload
    def __or__(self, other: Step[J, X, Any] | Chain[J, X]) -> Chain[I_contra | J, X]: ...
    @overload
    def __or__(self, other: End[J, Any] | ClosedChain[J, None]) -> ClosedChain[I_contra | J, None]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return joined(beside(links_of(self), links_of(other)))


class Reduction(Joining, BaseStep, Generic[I_contra, R_co, C_co]):
    """A step that takes all values of the step before and returns the report. It is the last step of a chain."""

    def __call__(self: Reduction[X, Any, Any], values: Iterable[X], /, *params: Any, **own: Any) -> C_co:
        """Call the function."""
        return self.function(values, *params, **own)


class Joined(Joining):
    """Steps joined by ``>>`` and ``|``, as described by ``links``."""

    def __init__(self, links: Links) -> None:
        self.links = links

    def __repr__(self) -> str:
        return f"<chain {' >> '.join(each.name for each in self.links.steps)}>"


class Chain(Open[I_contra, O_co], Joined):
    """A chain that passes values on: it can be followed by a step, an end or a reduction."""


class ClosedChain(Joined, Generic[I_contra, R_co]):
    """A complete chain, which `Job` takes."""

    @overload
    def __or__(self: ClosedChain[X, None], other: End[J, Any] | ClosedChain[J, None]) -> ClosedChain[X | J, None]: ...
    @overload
    def __or__(self: ClosedChain[X, None], other: Step[J, Y, Any] | Chain[J, Y]) -> Chain[X | J, Y]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return joined(beside(self.links, links_of(other)))


def joined(links: Links) -> Any:
    """A chain, open or closed as its links are."""
    return Chain[Any, Any](links) if links.open else ClosedChain[Any, Any](links)


def links_of(value: Any) -> Links:
    """The links of a chain, or of a step alone.

    Raises:
        DefinitionError: It is neither.
    """
    if isinstance(value, Joined):
        return value.links
    if not isinstance(value, BaseStep):
        hint = "; decorate it with @nb.step" if callable(value) else ""
        raise DefinitionError(f"a chain is made of steps, not {value!r}{hint}")
    value.renew()
    gives = value.kind in (Kind.ONE, Kind.MANY)
    return Links(steps=(value,), heads=(Head(0),), tails=(Tail(0),) if gives else ())


# --- ways ----------------------------------------------------------------------------------------


@overload
def to(step: Step[X, Any, Any] | End[X, Any] | Reduction[X, Any, Any], /) -> Chain[X, X]: ...
@overload
def to(step: Step[X, Any, Any] | End[X, Any] | Reduction[X, Any, Any], value: X, /) -> X: ...
@overload
def to(step: str, value: X, /) -> X: ...
def to(step: Any, *value: Any) -> Any:
    """Route a value past the steps in between: as a branch of a chain, or around a value in a step's body.

    ``a >> (b | nb.to(d)) >> d`` lets values of ``a`` go directly to ``d``: those that only ``d`` accepts, and those that ``a``
    addresses with ``yield nb.to(d, value)``. A value that is addressed goes to that step alone, which must be one of the steps
    that follow. This also chooses between branches of equal types. The return type of ``a`` covers all its values, wherever they
    go: ``Iterator[ForB | ForD]``.

    Args:
        step: The step; around a value also its name.
        value: The value for that step.

    Raises:
        DefinitionError: ``step`` is not a step. If the step does not follow, joining the chain raises it.

    Example:
        >>> @nb.step
        ... def sort(order: Order) -> Order:
        ...     return nb.to("odd" if order.id % 2 else "even", order)
        >>> @nb.step
        ... def odd(order: Order) -> str:
        ...     return "odd"
        >>> @nb.step
        ... def even(order: Order) -> str:
        ...     return "even"
        >>> @nb.step
        ... def count(kinds: Iterable[str]) -> dict[str, int]:
        ...     return dict(Counter(kinds))
        >>> batch.submit(nb.Job("kinds", read >> sort >> (odd | even) >> count), 3).result()
        {'even': 2, 'odd': 1}
    """
    name = step.name if isinstance(step, BaseStep) else step
    if not isinstance(name, str) or (not value and name is step):
        raise DefinitionError(f"nb.to() takes a step, or a step's name and a value, not {step!r}")
    return To(name, *value) if value else joined(Links(passes=(Pass(step),)))


@overload
def choose(decider: Callable[[X], K], branches: Mapping[K, Step[X, Y, Any] | Chain[X, Y]], /) -> Chain[X, Y]: ...
@overload
def choose(
    decider: Callable[[X], K], branches: Mapping[K, End[X, Any] | ClosedChain[X, None]], /
) -> ClosedChain[X, None]: ...
@overload
def choose(
    decider: Callable[[X], K],
    branches: Mapping[K, Step[X, Y, Any] | Chain[X, Y] | End[X, Any] | ClosedChain[X, None]],
    /,
) -> Chain[X, Y]: ...
def choose(decider: Callable[[Any], Any], branches: Mapping[Any, Any], /) -> Any:
    """Branches of which each value takes exactly one: ``decider(value)`` returns its key.

    ``a >> nb.choose(size, {"big": split >> load, "small": load_all, "none": nb.to(end)}) >> end``. The decider runs once per
    value, in the attempt that returned the value. An error that it raises is an error of that attempt, and a key without a branch
    fails the chunk. The decision is stored with the value.

    Args:
        decider: Takes a value and returns a key. It should be fast and free of side effects.
        branches: Maps each key to a step, a chain or `to`. All of them take the decider's input type.

    Raises:
        DefinitionError: There is no branch, or one is not a step or chain.

    Example:
        >>> @nb.step
        ... def large(order: Order) -> str:
        ...     return "large"
        >>> @nb.step
        ... def small(order: Order) -> str:
        ...     return "small"
        >>> @nb.step
        ... def count(kinds: Iterable[str]) -> dict[str, int]:
        ...     return dict(Counter(kinds))
        >>> size = nb.choose(lambda order: order.id > 1, {True: large, False: small})
        >>> batch.submit(nb.Job("sizes", read >> size >> count), 3).result()
        {'small': 2, 'large': 1}
    """
    if not callable(decider) or not branches:
        raise DefinitionError(f"nb.choose() takes a function and at least one branch, not {decider!r}, {branches!r}")
    choice = Choice(decider, tuple(branches))
    parts = [links_of(branch).under(Condition(choice, key)) for key, branch in branches.items()]
    return joined(reduce(beside, parts))

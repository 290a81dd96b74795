"""Steps and the chains they make with ``>>`` and ``|``. Immutable values; every joint is checked when it is made."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from nbbatch.codec import Codec, codec_for
from nbbatch.definition.options import Options
from nbbatch.errors import DefinitionError
from nbbatch.signature import Kind, Signature, accepts, members, type_name

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
J = TypeVar("J")
X = TypeVar("X")
Y = TypeVar("Y")
R = TypeVar("R")


class BaseStep:
    """What every step has; made by `step`.

    Attributes:
        name: Unique in its chain.
        function: The function itself, called plainly.
        options: As declared.
        kind: What it gives for one input.
        input, output: Codecs; output is None where it gives nothing.
        source: Its source text; "" where Python cannot tell.
        fingerprint: Digest of its code; comments and formatting make no difference.
    """

    def __init__(self, function: Callable[..., Any], name: str, options: Options, signature: Signature) -> None:
        self.function = function
        self.name = name
        self.options = options
        self.signature = signature
        self.kind = signature.kind
        self.input_type = signature.input_type
        self.output_types = () if signature.kind is Kind.NONE else members(signature.output_type)
        self.takes_params = signature.takes_params
        self.params_type = signature.params_type
        self.is_async = signature.is_async
        self.input = _codec(name, "takes", signature.input_type)
        self.output = None if signature.kind is Kind.NONE else _codec(name, "gives", signature.output_type)
        self.source = _source(function)
        self.fingerprint = _fingerprint(function, self.source)
        self.__name__, self.__doc__ = name, function.__doc__
        self.__wrapped__ = function

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.name, self.options, self.signature)

    if not TYPE_CHECKING:  # for checkers only the kinds that can be joined have the operators; at run time all explain

        def __rshift__(self, other: Any) -> Any:
            return chain_of(self)._then(other)

        def __or__(self, other: Any) -> Any:
            return chain_of(self)._beside(other)

    def __repr__(self) -> str:
        given = {Kind.MANY: "Iterator[{}]", Kind.NONE: "None"}.get(self.kind, "{}")
        shown = given.format(type_name(self.signature.output_type))
        taken = type_name(self.input_type)
        taken = f"Iterable[{taken}]" if self.kind is Kind.REDUCTION else taken
        return f"<step {self.name}: {taken} → {shown}>"


class Step(BaseStep, Generic[I_contra, O_co, C_co]):
    """A step that gives something to the next: one value, or one for each yield."""

    def __call__(self: Step[X, Any, Any], value: X, /, *params: Any) -> C_co:
        """Call the function plainly."""
        return self.function(value, *params)

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
        """Give what this step gives to another one."""
        return chain_of(self)._then(other)

    @overload
    def __or__(self, other: Step[J, X, Any] | Chain[J, X]) -> Chain[I_contra | J, O_co | X]: ...
    @overload
    def __or__(self, other: End[J, Any] | ClosedChain[J, None]) -> Chain[I_contra | J, O_co]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return chain_of(self)._beside(other)


class End(BaseStep, Generic[I_contra, C_co]):
    """A step that gives nothing and ends the chain."""

    def __call__(self: End[X, Any], value: X, /, *params: Any) -> C_co:
        """Call the function plainly."""
        return self.function(value, *params)

    @overload
    def __or__(self, other: Step[J, X, Any] | Chain[J, X]) -> Chain[I_contra | J, X]: ...
    @overload
    def __or__(self, other: End[J, Any] | ClosedChain[J, None]) -> ClosedChain[I_contra | J, None]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return chain_of(self)._beside(other)


class Reduction(BaseStep, Generic[I_contra, R_co, C_co]):
    """A step that takes all values of the step before and returns the report; the last one of a chain."""

    def __call__(self: Reduction[X, Any, Any], values: Iterable[X], /, *params: Any) -> C_co:
        """Call the function plainly."""
        return self.function(values, *params)


def _codec(name: str, verb: str, annotation: Any) -> Codec:
    try:
        return codec_for(annotation)
    except Exception as error:
        raise DefinitionError(
            f"step {name!r} {verb} {type_name(annotation)}, which has no stored form ({str(error).splitlines()[0]}); "
            "use pydantic models, dataclasses, TypedDicts, plain JSON types or polars.DataFrame"
        ) from error


def _source(function: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def _fingerprint(function: Callable[..., Any], source: str) -> str:
    try:
        tree = ast.parse(source).body[0]
        text = ast.dump(_bare(tree))
    except (SyntaxError, IndexError):
        code = getattr(function, "__code__", None)
        text = repr((code.co_code, code.co_consts, code.co_names)) if code else repr(function)
    defaults = repr(getattr(function, "__defaults__", None))
    return hashlib.sha256(f"{text}{defaults}".encode()).hexdigest()[:12]


def _bare(tree: ast.stmt) -> ast.stmt:
    """A function's tree without decorators and docstring: neither changes what a chunk gives."""
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        tree.decorator_list = []
        if ast.get_docstring(tree) is not None:
            tree.body = tree.body[1:] or [ast.Pass()]
    return tree


# --- chains --------------------------------------------------------------------------------------


class Links:
    """Steps and the edges between them, in topological order; immutable."""

    def __init__(
        self,
        steps: tuple[BaseStep, ...],
        edges: frozenset[tuple[int, int]],
        heads: tuple[int, ...],
        tails: tuple[int, ...],
    ) -> None:
        self.steps, self.edges, self.heads, self.tails = steps, edges, heads, tails
        names = [each.name for each in steps]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(
                    f"two steps are named {name!r}; give one of them another name: @nb.step(name=...)"
                )

    def _then(self, other: Any) -> Any:
        after = chain_of(other)
        last = self.steps[-1]
        if not self.tails:
            gives = "is a reduction, which comes last" if last.kind is Kind.REDUCTION else "gives nothing (-> None)"
            raise DefinitionError(
                f"step {last.name!r} {gives}; nothing can follow it, but {after.steps[0].name!r} does"
            )
        offset = len(self.steps)
        new = {
            (tail, offset + head) for tail in self.tails for head in after.heads if self._meet(tail, after.steps[head])
        }
        self._check_joint(after, new, offset)
        edges = self.edges | new | {(a + offset, b + offset) for a, b in after.edges}
        return _closed_or_open(
            self.steps + after.steps, frozenset(edges), self.heads, tuple(tail + offset for tail in after.tails)
        )

    def _meet(self, tail: int, head: BaseStep) -> bool:
        return any(accepts(head.input_type, given) for given in self.steps[tail].output_types)

    def _check_joint(self, after: Links, new: set[tuple[int, int]], offset: int) -> None:
        heads = [after.steps[head] for head in after.heads]
        for tail in self.tails:
            giver = self.steps[tail]
            for given in giver.output_types:
                if not any(accepts(head.input_type, given) for head in heads):
                    taken = ", ".join(f"step {head.name!r} takes {type_name(head.input_type)}" for head in heads)
                    raise DefinitionError(f"step {giver.name!r} gives {type_name(given)}, but {taken}")
        for head in after.heads:
            if not any(target == head + offset for _, target in new):
                taker = after.steps[head]
                raise DefinitionError(
                    f"step {taker.name!r} takes {type_name(taker.input_type)}, which no step before it gives "
                    f"({', '.join(repr(self.steps[tail].name) for tail in self.tails)})"
                )

    def _beside(self, other: Any) -> Any:
        second = chain_of(other)
        for branch in (self, second):
            for each in branch.steps:
                if each.kind is Kind.REDUCTION:
                    raise DefinitionError(
                        f"reduction {each.name!r} stands in a branch; a reduction comes last: (a | b) >> it"
                    )
        offset = len(self.steps)
        return _closed_or_open(
            self.steps + second.steps,
            self.edges | {(a + offset, b + offset) for a, b in second.edges},
            self.heads + tuple(head + offset for head in second.heads),
            self.tails + tuple(tail + offset for tail in second.tails),
        )

    if not TYPE_CHECKING:  # as for steps

        def __rshift__(self, other: Any) -> Any:
            return self._then(other)

        def __or__(self, other: Any) -> Any:
            return self._beside(other)

    def __repr__(self) -> str:
        return f"<chain {' >> '.join(each.name for each in self.steps)}>"


class Chain(Links, Generic[I_contra, O_co]):
    """Steps that give something on: to be followed by a step, an end or a reduction."""

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
        """Give what the chain gives to another step."""
        return self._then(other)

    @overload
    def __or__(self, other: Step[J, X, Any] | Chain[J, X]) -> Chain[I_contra | J, O_co | X]: ...
    @overload
    def __or__(self, other: End[J, Any] | ClosedChain[J, None]) -> Chain[I_contra | J, O_co]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return self._beside(other)


class ClosedChain(Links, Generic[I_contra, R_co]):
    """A chain with its end: what `Job` takes."""

    @overload
    def __or__(self: ClosedChain[X, None], other: End[J, Any] | ClosedChain[J, None]) -> ClosedChain[X | J, None]: ...
    @overload
    def __or__(self: ClosedChain[X, None], other: Step[J, Y, Any] | Chain[J, Y]) -> Chain[X | J, Y]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return self._beside(other)


def _closed_or_open(
    steps: tuple[BaseStep, ...], edges: frozenset[tuple[int, int]], heads: tuple[int, ...], tails: tuple[int, ...]
) -> Any:
    made: Any = Chain if tails else ClosedChain
    return made(steps, edges, heads, tails)


def chain_of(value: Any) -> Any:
    if isinstance(value, Links):
        return value
    if not isinstance(value, BaseStep):
        hint = "; decorate it with @nb.step" if callable(value) else ""
        raise DefinitionError(f"a chain is made of steps, not {value!r}{hint}")
    gives = value.kind in (Kind.ONE, Kind.MANY)
    return _closed_or_open((value,), frozenset(), (0,), (0,) if gives else ())

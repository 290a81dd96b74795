"""Declaring jobs: steps, chains, the job. Plain values: nothing registers anywhere, cells run in any order.

    step ──┐
    step ──┼── >>, | ──▶ Chain ──▶ Job(nodes in topological order)

Everything that can be wrong is wrong in the cell that says it: types that do not meet, names used twice, a chain
without an end. Static checkers see the same through the type parameters: ``Job[Params, Report]``.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar, cast, overload

from pydantic import ValidationError

from nbbatch.codec import Codec, ParamsCodec, adapter_of, codec_for
from nbbatch.errors import DefinitionError, ParameterError, ValueNotStorable
from nbbatch.signature import Kind, Signature, accepts, caller_locals, members, read_signature, type_name

I_contra = TypeVar("I_contra", contravariant=True)
J_contra = TypeVar("J_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
P = TypeVar("P")
I = TypeVar("I")  # noqa: E741 - input
J = TypeVar("J")
O = TypeVar("O")  # noqa: E741 - output
X = TypeVar("X")
Y = TypeVar("Y")
R = TypeVar("R")

MAX_NAME = 100
"""Characters of a job's or step's name at most."""
FATAL = (
    TypeError, NameError, AttributeError, SyntaxError, ImportError, AssertionError, ValidationError, ValueNotStorable,
    KeyboardInterrupt, SystemExit,
)  # fmt: skip
"""Errors that a retry cannot mend."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a chunk waits after an error: exponential, capped, with jitter.

    Args:
        base: Seconds before the first retry, on average; 0 or more.
        cap: Seconds at most, before jitter.
        jitter: Share by which a wait is shortened or lengthened at random, 0 to 1.
    """

    base: float = 1.0
    cap: float = 300.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.base < 0 or self.cap < 0 or not 0 <= self.jitter <= 1:
            raise DefinitionError(f"{self!r}: base and cap must be 0 or more, jitter from 0 to 1")

    def delay(self, retry: int, random: float) -> float:
        """Seconds before the n-th retry: min(cap, base · 2^(n−1)) · (1 ± jitter).

        Args:
            retry: n, from 1.
            random: 0 gives the shortest wait, 1 the longest.

        >>> [Backoff(jitter=0).delay(n, 0.5) for n in (1, 2, 3, 20)]
        [1.0, 2.0, 4.0, 300.0]
        >>> Backoff(base=10).delay(1, 0), Backoff(base=10).delay(1, 1)
        (8.0, 12.0)
        """
        wait = min(self.cap, self.base * 2.0 ** min(retry - 1, 60))
        return wait * (1 + self.jitter * (2 * random - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a step declares beside its signature; see `step`."""

    max_attempts: int = 4
    backoff: Backoff = Backoff()
    retry_on: tuple[type[BaseException], ...] = ()
    fail_on: tuple[type[BaseException], ...] = ()
    gate: bool = False
    concurrency: int | None = None
    rate: float | None = None
    timeout: float | None = None
    weight: float | None = None
    max_failed: float = 0
    description: str = ""


def retryable(options: Options, error: BaseException) -> bool:
    """Whether a retry may mend an error; ``fail_on`` wins over ``retry_on``, and that over the usual judgement.

    An error counts with its chain of causes (``raise … from``).

    >>> retryable(Options(), OSError()), retryable(Options(), TypeError()), retryable(Options(retry_on=(TypeError,)), TypeError())
    (True, False, True)
    """
    chain = list(_causes(error))
    if any(isinstance(link, options.fail_on) for link in chain):
        return False
    if any(isinstance(link, options.retry_on) for link in chain):
        return True
    return not isinstance(error, FATAL)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


# --- steps ---------------------------------------------------------------------------------------


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

    def __rshift__(self, other: Any) -> Any:
        return _chain_of(self)._then(other)  # pyright: ignore[reportPrivateUsage]

    def __or__(self, other: Any) -> Any:
        return _chain_of(self)._beside(other)  # pyright: ignore[reportPrivateUsage]

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
    def __rshift__(self, other: Reduction[O_co, R]) -> ClosedChain[I_contra, R]: ...
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
        return super().__rshift__(other)

    @overload
    def __or__(self, other: Step[J, X, Any] | Chain[J, X]) -> Chain[I_contra | J, O_co | X]: ...
    @overload
    def __or__(self, other: End[J, Any] | ClosedChain[J, None]) -> Chain[I_contra | J, O_co]: ...
    def __or__(self, other: Any) -> Any:
        """Two branches: each value goes to every branch whose input type accepts it."""
        return super().__or__(other)


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
        return super().__or__(other)


class Reduction(BaseStep, Generic[I_contra, R_co]):
    """A step that takes all values of the step before and returns the report; the last one of a chain."""

    def __call__(self: Reduction[X, Any], values: Iterable[X], /, *params: Any) -> R_co:
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


class _Decorator:
    """``@nb.step(...)`` with options: decorates as `step` does."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    @overload
    def __call__(self, function: Callable[[Iterable[I]], R], /) -> Reduction[I, R]: ...
    @overload
    def __call__(self, function: Callable[[Iterable[I], Any], R], /) -> Reduction[I, R]: ...
    @overload
    def __call__(self, function: Callable[[I], Iterator[O]], /) -> Step[I, O, Iterator[O]]: ...
    @overload
    def __call__(self, function: Callable[[I, Any], Iterator[O]], /) -> Step[I, O, Iterator[O]]: ...
    @overload
    def __call__(self, function: Callable[[I], AsyncIterable[O]], /) -> Step[I, O, AsyncIterable[O]]: ...
    @overload
    def __call__(self, function: Callable[[I, Any], AsyncIterable[O]], /) -> Step[I, O, AsyncIterable[O]]: ...
    @overload
    def __call__(self, function: Callable[[I], Awaitable[None]], /) -> End[I, Awaitable[None]]: ...
    @overload
    def __call__(self, function: Callable[[I, Any], Awaitable[None]], /) -> End[I, Awaitable[None]]: ...
    @overload
    def __call__(self, function: Callable[[I], Awaitable[O]], /) -> Step[I, O, Awaitable[O]]: ...
    @overload
    def __call__(self, function: Callable[[I, Any], Awaitable[O]], /) -> Step[I, O, Awaitable[O]]: ...
    @overload
    def __call__(self, function: Callable[[I], None], /) -> End[I, None]: ...
    @overload
    def __call__(self, function: Callable[[I, Any], None], /) -> End[I, None]: ...
    @overload
    def __call__(self, function: Callable[[I], O], /) -> Step[I, O, O]: ...
    @overload
    def __call__(self, function: Callable[[I, Any], O], /) -> Step[I, O, O]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Make the step."""
        return self.make(function, depth=3)

    def make(self, function: Callable[..., Any], depth: int) -> BaseStep:
        options = dict(self._options)
        name = _checked_name("step", options.pop("name", None) or getattr(function, "__name__", ""))
        if not callable(function):
            raise DefinitionError(f"@nb.step decorates a function, not {function!r}")
        signature = read_signature(function, name, caller_locals(depth))
        classes = {Kind.NONE: End, Kind.REDUCTION: Reduction}
        return classes.get(signature.kind, Step)(function, name, _options(name, options), signature)


@overload
def step(function: Callable[[Iterable[I]], R], /) -> Reduction[I, R]: ...
@overload
def step(function: Callable[[Iterable[I], Any], R], /) -> Reduction[I, R]: ...
@overload
def step(function: Callable[[I], Iterator[O]], /) -> Step[I, O, Iterator[O]]: ...
@overload
def step(function: Callable[[I, Any], Iterator[O]], /) -> Step[I, O, Iterator[O]]: ...
@overload
def step(function: Callable[[I], AsyncIterable[O]], /) -> Step[I, O, AsyncIterable[O]]: ...
@overload
def step(function: Callable[[I, Any], AsyncIterable[O]], /) -> Step[I, O, AsyncIterable[O]]: ...
@overload
def step(function: Callable[[I], Awaitable[None]], /) -> End[I, Awaitable[None]]: ...
@overload
def step(function: Callable[[I, Any], Awaitable[None]], /) -> End[I, Awaitable[None]]: ...
@overload
def step(function: Callable[[I], Awaitable[O]], /) -> Step[I, O, Awaitable[O]]: ...
@overload
def step(function: Callable[[I, Any], Awaitable[O]], /) -> Step[I, O, Awaitable[O]]: ...
@overload
def step(function: Callable[[I], None], /) -> End[I, None]: ...
@overload
def step(function: Callable[[I, Any], None], /) -> End[I, None]: ...
@overload
def step(function: Callable[[I], O], /) -> Step[I, O, O]: ...
@overload
def step(function: Callable[[I, Any], O], /) -> Step[I, O, O]: ...
@overload
def step(
    *,
    name: str | None = None,
    description: str = "",
    max_attempts: int = 4,
    backoff: Backoff | float | None = None,
    retry_on: type[BaseException] | Sequence[type[BaseException]] = (),
    fail_on: type[BaseException] | Sequence[type[BaseException]] = (),
    gate: bool = False,
    concurrency: int | None = None,
    rate: float | None = None,
    timeout: float | None = None,
    weight: float | None = None,
    max_failed: float = 0,
) -> _Decorator: ...
def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a step of a function; its signature is the declaration.

    ``f(input)`` or ``f(input, params)``, with type hints. ``-> M`` passes one value on, ``-> Iterator[M]`` fans out (one
    yield, one chunk), ``-> None`` ends the chain, a first parameter ``Iterable[M]`` makes a reduction. The step is
    still called like the function. User code may run more than once per chunk; its outputs appear once.

    Args:
        function: To decorate.
        name: Default: the function's name.
        description: For people.
        max_attempts: Errors after which a chunk is FAILED; 1 or more.
        backoff: A `Backoff`, or seconds before the first retry.
        retry_on: Exception classes (and subclasses, also as causes) to retry though a retry is not expected to help.
        fail_on: Exception classes to fail at once; wins over ``retry_on``.
        gate: Wait until the steps before are wholly done.
        concurrency: Chunks of this step that run at once at most, in one batch.
        rate: Starts per second at most.
        timeout: Seconds an attempt may take.
        weight: Share of the instance's progress, between 0 and 1; steps without one share the rest.
        max_failed: Failed chunks that do not fail the instance: a number, or (as a float below 1) a share.

    Raises:
        DefinitionError: The signature or an option cannot work; the text says what to write instead.
    """
    decorator = _Decorator(options)
    return decorator if function is None else decorator.make(function, depth=3)


def _checked_name(what: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise DefinitionError(f"a {what} needs a name that is not blank, not {name!r}; give name=")
    if len(name) > MAX_NAME or not name.isprintable():
        raise DefinitionError(f"{what} name {name[:120]!r}: at most {MAX_NAME} printable characters")
    return name


def _options(name: str, given: dict[str, Any]) -> Options:
    for key in ("retry_on", "fail_on"):
        classes = given.get(key, ())
        given[key] = (classes,) if isinstance(classes, type) else tuple(classes)
        if not all(isinstance(each, type) and issubclass(each, BaseException) for each in given[key]):
            raise DefinitionError(f"step {name!r}: {key}= takes exception classes, not {classes!r}")
    backoff = given.get("backoff")
    given["backoff"] = backoff if isinstance(backoff, Backoff) else Backoff() if backoff is None else Backoff(base=backoff)
    try:
        options = Options(**given)
    except TypeError as error:
        raise DefinitionError(f"step {name!r}: {error}; the options are {', '.join(Options.__slots__)} and name") from None
    _check_options(name, options)
    return options


def _check_options(name: str, options: Options) -> None:
    rules = {
        "max_attempts": (options.max_attempts >= 1, "1 or more"),
        "concurrency": (options.concurrency is None or options.concurrency >= 1, "1 or more"),
        "rate": (options.rate is None or options.rate > 0, "above 0"),
        "timeout": (options.timeout is None or options.timeout > 0, "above 0 seconds"),
        "weight": (options.weight is None or 0 < options.weight < 1, "above 0 and below 1"),
        "max_failed": (options.max_failed >= 0, "0 or more"),
    }
    for option, (holds, rule) in rules.items():
        if not holds:
            raise DefinitionError(f"step {name!r}: {option}= must be {rule}, not {getattr(options, option)!r}")


# --- chains --------------------------------------------------------------------------------------


class _Links:
    """Steps and the edges between them, in topological order; immutable."""

    def __init__(
        self, steps: tuple[BaseStep, ...], edges: frozenset[tuple[int, int]], heads: tuple[int, ...], tails: tuple[int, ...]
    ) -> None:
        self.steps, self.edges, self.heads, self.tails = steps, edges, heads, tails
        names = [each.name for each in steps]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(f"two steps are named {name!r}; give one of them another name: @nb.step(name=...)")

    def _then(self, other: Any) -> Any:
        after = _chain_of(other)
        last = self.steps[-1]
        if not self.tails:
            gives = "is a reduction, which comes last" if last.kind is Kind.REDUCTION else "gives nothing (-> None)"
            raise DefinitionError(f"step {last.name!r} {gives}; nothing can follow it, but {after.steps[0].name!r} does")
        offset = len(self.steps)
        new = {(tail, offset + head) for tail in self.tails for head in after.heads if self._meet(tail, after.steps[head])}
        self._check_joint(after, new, offset)
        edges = self.edges | new | {(a + offset, b + offset) for a, b in after.edges}
        return _closed_or_open(
            self.steps + after.steps, frozenset(edges), self.heads, tuple(tail + offset for tail in after.tails)
        )

    def _meet(self, tail: int, head: BaseStep) -> bool:
        return any(accepts(head.input_type, given) for given in self.steps[tail].output_types)

    def _check_joint(self, after: _Links, new: set[tuple[int, int]], offset: int) -> None:
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
        second = _chain_of(other)
        for branch in (self, second):
            for each in branch.steps:
                if each.kind is Kind.REDUCTION:
                    raise DefinitionError(f"reduction {each.name!r} stands in a branch; a reduction comes last: (a | b) >> it")
        offset = len(self.steps)
        return _closed_or_open(
            self.steps + second.steps,
            self.edges | {(a + offset, b + offset) for a, b in second.edges},
            self.heads + tuple(head + offset for head in second.heads),
            self.tails + tuple(tail + offset for tail in second.tails),
        )

    def __rshift__(self, other: Any) -> Any:
        return self._then(other)

    def __or__(self, other: Any) -> Any:
        return self._beside(other)

    def __repr__(self) -> str:
        return f"<chain {' >> '.join(each.name for each in self.steps)}>"


class Chain(_Links, Generic[I_contra, O_co]):
    """Steps that give something on: to be followed by a step, an end or a reduction."""

    @overload
    def __rshift__(self, other: Reduction[O_co, R]) -> ClosedChain[I_contra, R]: ...
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


class ClosedChain(_Links, Generic[I_contra, R_co]):
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
    return (Chain if tails else ClosedChain)(steps, edges, heads, tails)


def _chain_of(value: Any) -> Any:
    if isinstance(value, _Links):
        return value
    if not isinstance(value, BaseStep):
        hint = "; decorate it with @nb.step" if callable(value) else ""
        raise DefinitionError(f"a chain is made of steps, not {value!r}{hint}")
    gives = value.kind in (Kind.ONE, Kind.MANY)
    return _closed_or_open((value,), frozenset(), (0,), (0,) if gives else ())


# --- jobs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A step in its place in a job."""

    index: int
    step: BaseStep
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    gated: bool
    weight: float
    accepting: tuple[tuple[int, Any], ...]
    """Targets and their input types, where there are several."""

    def route(self, value: Any) -> tuple[int, ...]:
        """The targets that accept a value."""
        if len(self.targets) == 1:
            return self.targets
        return tuple(target for target, wanted in self.accepting if _fits(value, wanted))


def _fits(value: Any, wanted: Any) -> bool:
    for member in members(wanted):
        if member is Any or (isinstance(member, type) and not hasattr(member, "__total__") and isinstance(value, member)):
            return True
        if not isinstance(member, type) or hasattr(member, "__total__"):
            try:
                adapter_of(member).validate_python(value, strict=True)
            except ValidationError:
                continue
            return True
    return False


Problems = str | Iterable[str] | None


class Job(Generic[P, R_co]):
    """A job definition: a name, a version, and a chain of steps.

    Attributes:
        nodes: The steps in topological order; the first takes the parameters.
        params: Codec of the parameters.
        report: Codec of the reduction's return value; None without a reduction.
        shape: JSON of step names, order, types and gates: what an instance must find again to go on.
    """

    def __init__(
        self,
        name: str,
        chain: ClosedChain[P, R_co] | End[P, Any],
        version: int = 1,
        gated: bool = False,
        description: str = "",
        validate: Callable[[P], Problems] | None = None,
        on_complete: Callable[[Any], Any] | None = None,
        on_error: Callable[[Any], Any] | None = None,
    ) -> None:
        """Define a job; nothing is registered or stored.

        Args:
            name: At most 100 printable characters.
            chain: Steps joined by ``>>``, with an end (``-> None`` or a reduction).
            version: 1 or more; raise it when the chain's shape changes.
            gated: Each step waits until the steps before it are wholly done.
            description: For people.
            validate: Takes valid parameters and returns what else is wrong with them, as texts ``"field: why"``.
            on_complete: Called with the handle once COMPLETED is stored.
            on_error: Called with the handle once FAILED or CANCELLED is stored.

        Raises:
            DefinitionError: Any of it cannot work.
        """
        links = cast("_Links", _chain_of(chain))
        self.name = _checked_name("job", name)
        if not isinstance(version, int) or version < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"job {name!r}: version= must be a whole number from 1, not {version!r}")
        self.version = version
        self.description = description
        self.gated = gated
        self.validate, self.on_complete, self.on_error = validate, on_complete, on_error
        _check_chain(name, links)
        self.nodes = _nodes(name, links, gated)
        first, last = self.nodes[0].step, self.nodes[-1].step
        self.params_type = first.input_type
        self.params = ParamsCodec(first.input_type)
        self.report = last.output if last.kind is Kind.REDUCTION else None
        self.shape = json.dumps([_shape(node) for node in self.nodes], sort_keys=True)

    def check(self, params: Any) -> P:
        """The parameters as their declared type.

        Raises:
            ParameterError: They do not fit; every problem is listed.
        """
        try:
            valid = self.params.validate(params)
        except ValidationError as error:
            raise ParameterError(self.name, [_problem(line) for line in error.errors(include_input=False)]) from None
        found = self.validate(valid) if self.validate else None
        problems = [found] if isinstance(found, str) else list(found or ())
        if problems:
            raise ParameterError(self.name, problems)
        return valid

    def shape_difference(self, stored: str) -> str:
        """What differs between the shape an instance began with and this job's."""
        before, after = json.loads(stored), json.loads(self.shape)
        names = [each["name"] for each in before], [each["name"] for each in after]
        if names[0] != names[1]:
            return f"its steps were {' >> '.join(names[0])}, now they are {' >> '.join(names[1])}"
        changed = [
            f"step {old['name']!r}: {key} was {old[key]}, now {new[key]}"
            for old, new in zip(before, after, strict=True)
            for key in old
            if old[key] != new[key]
        ]
        return "; ".join(changed)

    def __repr__(self) -> str:
        chain = " >> ".join(self._words(node) for node in self.nodes)
        return f"<Job {self.name} v{self.version}: {type_name(self.params_type)} → {chain}>"

    def _words(self, node: Node) -> str:
        given = node.step.signature
        many = {Kind.MANY: "→ * {}", Kind.ONE: "→ {}", Kind.NONE: "", Kind.REDUCTION: "⇒ {}"}[node.step.kind]
        gate = "| " if node.gated else ""
        return f"{gate}{node.step.name} {many.format(type_name(given.output_type))}".rstrip()

    def _repr_html_(self) -> str:
        cell = "border:1px solid currentColor;border-radius:6px;padding:4px 10px;display:inline-block;margin:2px"
        boxes = [f"<span>{escape(type_name(self.params_type))} →</span>"]
        for node in self.nodes:
            gate = '<span title="gate: waits for all before">‖</span> ' if node.gated else ""
            shown = escape(self._words(node).removeprefix("| ").removeprefix(node.step.name))
            boxes.append(f'{gate}<span style="{cell}"><b>{escape(node.step.name)}</b></span><span>{shown}</span>')
        about = f"<div>{escape(self.description)}</div>" if self.description else ""
        return f"<div><b>{escape(self.name)}</b> v{self.version}{about}<div>{' '.join(boxes)}</div></div>"


def _check_chain(name: str, links: _Links) -> None:
    if links.tails:
        loose = links.steps[links.tails[0]]
        raise DefinitionError(
            f"job {name!r} has no end: step {loose.name!r} gives {type_name(loose.signature.output_type)} to nobody. "
            "End the chain with a step that returns None, or a reduction (a first parameter Iterable[...])"
        )
    if len(links.heads) != 1:
        heads = ", ".join(repr(links.steps[head].name) for head in links.heads)
        raise DefinitionError(f"job {name!r} needs one first step, which takes the parameters; it has {heads}")
    first = links.steps[0]
    if first.kind is Kind.REDUCTION:
        raise DefinitionError(f"job {name!r}: reduction {first.name!r} has no step before it")
    for each in links.steps:
        if each.takes_params and not accepts(each.params_type, first.input_type):
            raise DefinitionError(
                f"step {each.name!r} takes params of type {type_name(each.params_type)}, but the parameters are what the "
                f"first step {first.name!r} takes: {type_name(first.input_type)}"
            )


def _nodes(name: str, links: _Links, gated: bool) -> tuple[Node, ...]:
    weights = _weights(name, links.steps)
    nodes: list[Node] = []
    for index, each in enumerate(links.steps):
        sources = tuple(sorted(a for a, b in links.edges if b == index))
        targets = tuple(sorted(b for a, b in links.edges if a == index))
        waits = index > 0 and (gated or each.options.gate or each.kind is Kind.REDUCTION)
        accepting = tuple((target, links.steps[target].input_type) for target in targets)
        nodes.append(Node(index, each, sources, targets, waits, weights[index], accepting))
    return tuple(nodes)


def _weights(name: str, steps: Sequence[BaseStep]) -> list[float]:
    given = [each.options.weight for each in steps]
    spent = sum(weight for weight in given if weight is not None)
    free = given.count(None)
    if spent > 1 + 1e-9 or (free and spent >= 1):
        raise DefinitionError(f"job {name!r}: weights add up to {spent:g}; the steps without one need a rest above 0")
    if not free:
        return [cast("float", weight) / spent for weight in given]
    return [(1 - spent) / free if weight is None else weight for weight in given]


def _shape(node: Node) -> Mapping[str, Any]:
    step = node.step
    return {
        "name": step.name,
        "kind": step.kind.value,
        "input": type_name(step.input_type),
        "output": type_name(step.signature.output_type),
        "gated": node.gated,
        "targets": list(node.targets),
    }


def _problem(line: Any) -> str:
    path = ".".join(str(part) for part in line["loc"]) or "parameters"
    return f"{path}: {line['msg']}"

"""The decorator `step`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar, Unpack, overload

from nbbatch.base.errors import DefinitionError
from nbbatch.code.signature import Kind, caller_locals, read_signature
from nbbatch.definition.base_step import BaseStep
from nbbatch.definition.chain import End, Reduction, Step
from nbbatch.definition.options import Options, StepOptions, checked_name, named, read_options
from nbbatch.values.codec import is_page

I = TypeVar("I")  # noqa: E741 - input
O = TypeVar("O")  # noqa: E741 - output
R = TypeVar("R")


class StepDecorator:
    """Make a step of a function; its signature is the declaration.

    ``f(input)`` or ``f(input, params)``, with type hints; a first step may be ``f()``. Parameters with defaults keep them, but a
    second one whose type has fields (a model, a dataclass) is the job's parameters where these are of that type. ``-> M`` passes one value on, ``-> Iterator[M]`` fans out (one
    yield, one chunk), ``-> None`` ends the chain, a first parameter ``Iterable[M]`` makes a reduction. The step is
    still called like the function. User code may run more than once per chunk; its outputs appear once.

    Args:
        function: To decorate.
        name: Default: the function's name.
        description: For people.
        max_attempts: Errors after which a chunk is FAILED; 1 or more.
        backoff: A `Backoff`, or how long before the first retry: seconds, a timedelta or text such as "10 min".
        retry_on: Exception classes (and subclasses, also as causes) to retry though a retry is not expected to help.
        fail_on: Exception classes to fail at once; wins over ``retry_on``.
        gate: Wait until the steps before are wholly done.
        concurrency: Chunks of this step that run at once at most, in one batch.
        rate: Starts at most in any one second, in one batch; a fraction above 1 counts as the whole number below it,
            0.5 is one start in two seconds.
        timeout: Seconds (or a timedelta, or text) an attempt may take; longer ones count as an error (TimeoutError), and what
            they give later is dropped. An async step is cancelled. The workers of ``nb.processes()`` are killed and
            replaced; what the others ran is run again, without an error. A thread, or another library's worker, cannot
            be stopped: it stays taken until the step returns, for which a thread can look at ``nb.context().cancelled``.
        max_wait: How long a chunk may be put off by ``RetryLater`` in all, from the start of the first attempt that raised it:
            seconds, a timedelta or text. The last attempt is made when it is over; then the chunk is FAILED (TimeoutError).
        weight: Share of the instance's progress, between 0 and 1; steps without one share the rest.
        max_failed: Failed chunks that do not fail the instance: a number, or (as a float) a share; default: the job's,
            but for the first step 0. A reduction takes none, and is never skipped: it gives the report.
        skip_on: Exception classes (and subclasses, also as causes) that leave the chunk out at once, as SKIPPED, without
            a retry; wins over ``fail_on``. What ``retry_on`` names too is retried first, and SKIPPED after the last of
            ``max_attempts``: ``retry_on=OSError, skip_on=OSError, max_attempts=3``.
        max_skipped: Skipped chunks of an instance at most; what would be skipped beyond them is FAILED.
        bisect: Split a failed page (a list or a frame) in two chunks of this step, and those that fail again, until the
            items that cannot be done stand alone. The halves take the place of the page, which is superseded: no count,
            limit or rerun sees it any more. Errors of ``skip_on`` split too, so that they leave out items and not pages.
        always: Do the step's COMPLETED chunks again, and all that comes of them, when ``retry()`` takes an ended instance
            up again, as `JobHandle.rerun` would; for steps whose result goes stale. What goes on after a pause or a crash,
            and the retry of a group of failures, does not do them again.

    Raises:
        DefinitionError: The signature or an option cannot work; the text says what to write instead.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    @overload
    def __call__(
        self, function: Callable[[Iterable[I]], Awaitable[R]] | Callable[[Iterable[I], Any], Awaitable[R]], /
    ) -> Reduction[I, R, Awaitable[R]]: ...
    @overload
    def __call__(
        self, function: Callable[[Iterable[I]], R] | Callable[[Iterable[I], Any], R], /
    ) -> Reduction[I, R, R]: ...
    @overload
    def __call__(
        self, function: Callable[[I], Iterator[O]] | Callable[[I, Any], Iterator[O]], /
    ) -> Step[I, O, Iterator[O]]: ...
    @overload
    def __call__(
        self, function: Callable[[I], AsyncIterable[O]] | Callable[[I, Any], AsyncIterable[O]], /
    ) -> Step[I, O, AsyncIterable[O]]: ...
    @overload
    def __call__(
        self, function: Callable[[I], Awaitable[None]] | Callable[[I, Any], Awaitable[None]], /
    ) -> End[I, Awaitable[None]]: ...
    @overload
    def __call__(
        self, function: Callable[[I], Awaitable[O]] | Callable[[I, Any], Awaitable[O]], /
    ) -> Step[I, O, Awaitable[O]]: ...
    @overload
    def __call__(self, function: Callable[[I], None] | Callable[[I, Any], None], /) -> End[I, None]: ...
    @overload
    def __call__(self, function: Callable[[I], O] | Callable[[I, Any], O], /) -> Step[I, O, O]: ...
    @overload
    def __call__(self, function: Callable[[], Iterator[O]], /) -> Step[None, O, Iterator[O]]: ...
    @overload
    def __call__(self, function: Callable[[], AsyncIterable[O]], /) -> Step[None, O, AsyncIterable[O]]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[None]], /) -> End[None, Awaitable[None]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[[], Awaitable[O]], /) -> Step[None, O, Awaitable[O]]: ...
    @overload
    def __call__(self, function: Callable[[], None], /) -> End[None, None]: ...
    @overload
    def __call__(self, function: Callable[[], O], /) -> Step[None, O, O]: ...
    @overload
    def __call__(
        self, function: None = None, /, *, name: str | None = None, **options: Unpack[StepOptions]
    ) -> StepDecorator: ...
    @named(StepOptions)
    def __call__(
        self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
    ) -> Any:
        """Make the step, or with options alone what makes it."""
        given = {**self._given, **options, **({"name": name} if name is not None else {})}
        return StepDecorator(given) if function is None else _made(function, given)

    def __repr__(self) -> str:
        return f"nb.step({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


def _made(function: Callable[..., Any], given: dict[str, Any]) -> BaseStep:
    if not callable(function) or isinstance(function, BaseStep):
        raise DefinitionError(
            f"@nb.step decorates a function, not {function!r}; options go by name: @nb.step(name=...)"
        )
    name = checked_name("step", given.pop("name", None) or getattr(function, "__name__", ""))
    signature = read_signature(function, name, caller_locals(depth=3))
    read = read_options(name, given)
    if read.bisect and not is_page(signature.input_type):
        raise DefinitionError(f"step {name!r}: bisect=True needs an input that is a list or a frame, to split it")
    if signature.kind is Kind.REDUCTION:
        read = _never_left_out(name, read)
    classes: dict[Kind, type[BaseStep]] = {Kind.NONE: End, Kind.REDUCTION: Reduction}
    return classes.get(signature.kind, Step)(function, name, read, signature)


def _never_left_out(name: str, options: Options) -> Options:
    """Options of a reduction: without it there is no report."""
    if options.max_failed or options.skip_on or options.max_skipped is not None:
        raise DefinitionError(
            f"step {name!r} is a reduction, which gives the report: it takes no max_failed=, skip_on= or max_skipped="
        )
    return replace(options, max_skipped=0)


step = StepDecorator({})

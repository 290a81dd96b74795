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
    """Make a step of a function. The function's type hints declare what the step takes and returns.

    The function is ``f(input)`` or ``f(input, params)``, and a first step may be ``f()``. Parameters with defaults keep them. A
    second parameter with a default is only given the job's parameters if it has their type and that type has fields (a model, a
    dataclass). ``-> M`` passes one value on, ``-> Iterator[M]`` fans out (one chunk
    per yield), ``-> None`` ends the chain, and a first parameter ``Iterable[M]`` makes a reduction. The step can still be called
    like the function. The function may run more than once per chunk; its outputs are recorded once.

    Args:
        function: The function to decorate.
        name: Default: the function's name.
        description: Shown with the step.
        max_attempts: Number of errors after which a chunk is FAILED; 1 or more.
        backoff: A `Backoff`, or the wait before the first retry: seconds, a timedelta or text such as "10 min".
        retry_on: Exception classes to retry that are not retried by default. Subclasses and causes of an error match too.
        fail_on: Exception classes that fail the chunk at once; takes precedence over ``retry_on``.
        gate: Start only when all steps before are completely done.
        concurrency: Maximum number of chunks of this step that run at once in one batch.
        rate: Maximum number of calls of the step that begin in any one second in one batch. A fraction above 1 is rounded down; 0.5 is
            one call in two seconds. They may begin at one moment: ``rate=20`` is not a call each 50 ms. On workers of other hosts a
            call counts from when it is handed over.
        timeout: Maximum duration of an attempt: seconds, a timedelta or text. A longer attempt counts as an error
            (TimeoutError), and its late result is discarded. An async step is cancelled. A worker of ``nb.processes()`` is killed
            and replaced. A thread, or a worker of another library, cannot be stopped: it stays occupied until the step returns,
            which it can do early by checking ``nb.context().cancelled``.
        max_wait: Maximum time for which ``RetryLater`` can postpone a chunk in total, counted from the start of the first attempt
            that raised it: seconds, a timedelta or text. One last attempt is made at the end of that time. If it raises
            ``RetryLater`` too, the chunk is FAILED (TimeoutError).
        weight: Share of the instance's progress, between 0 and 1. Steps without a weight share the rest. Where no step has one,
            progress is by what their chunks take.
        max_failed: Failed chunks that do not fail the instance: a number, or a share (a float). Default: the job's value, and
            for the first step 0. A reduction takes none and is never skipped, because it returns the report.
        skip_on: Exception classes for which the chunk is SKIPPED at once. Subclasses and causes of an error match too. Takes
            precedence over ``fail_on``. An error that ``retry_on`` names too is retried first, and the chunk is SKIPPED after
            the last of ``max_attempts``: ``retry_on=OSError, skip_on=OSError, max_attempts=3``.
        max_skipped: Maximum number of chunks that ``skip_on`` and ``SkipChunk`` may skip in an instance. Further ones are FAILED.
        bisect: If a page (a list or a frame) fails, split it into two chunks of this step, repeatedly, until the items at fault
            are alone. The halves replace the page, which is superseded: it no longer counts anywhere. With ``skip_on``, pages are
            split as well, so that items are skipped and not pages.
        always: When ``retry()`` takes an ended instance up again, run the step's COMPLETED chunks and their descendants again
            too, as `JobHandle.rerun` would. For steps whose results become outdated. Resuming after a pause or a crash, and the
            retry of a group of failures, do not run them again.
        reuse: Do not run a chunk again that has COMPLETED before, in any instance of this store: if the step has the same name,
            code and input, and so have those parameters that it takes, the chunk takes the outputs as its own (see
            `JobHandle.reuse`). For steps that depend on nothing else and have no effects. False takes none even if the job says
            ``reuse=True``. What came of ``RetryLater``, was dropped (``retain=``) or purged, or may know a secret is not reused.
        executor: Name of the executor to run on, of those that ``nb.open(executors={"gpu": nb.threads(1)})`` is given. Default: the
            one of all other steps. An async step runs on the event loop, and a reduction in threads, all the same.
        stream: Of a step that fans out: its outputs become chunks while it goes on, not when its attempt has COMPLETED, so that the
            first run before the last are read. They stay and count even if the attempt fails. The next one begins anew, and
            has to yield the same outputs in the same order: the chunk is FAILED at the first that differs from what is there,
            else it goes on behind them. Such a step runs in a thread of this process, or on the event loop.

    Raises:
        DefinitionError: The signature or an option is invalid; the text says what to write instead.

    Example:
        >>> @nb.step(max_attempts=6, backoff="10 s", rate=20)
        ... def fetch(order: Order) -> str:
        ...     return order.price
        >>> fetch(Order(id=1, price="2.50"))  # a step is still a function
        '2.50'
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
        """Make the step; or, if only options are given, a decorator with these options."""
        given = {**self._given, **options, **({"name": name} if name is not None else {})}
        return StepDecorator(given) if function is None else _made(function, given)

    def __repr__(self) -> str:
        return f"nb.step({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


def _check_streams(name: str, kind: Kind, options: Options) -> None:
    if kind is not Kind.MANY:
        raise DefinitionError(f"step {name!r}: stream=True is for steps that fan out: have it yield, -> Iterator[…]")
    if options.bisect:
        raise DefinitionError(
            f"step {name!r}: bisect=True splits an input whose outputs are not there yet, stream=True has them be there at once; give one"
        )


def _made(function: Callable[..., Any], given: dict[str, Any]) -> BaseStep:
    if not hasattr(function, "__name__") or not callable(function) or isinstance(function, BaseStep):
        raise DefinitionError(
            f"@nb.step decorates a function, not {function!r}; options go by name: @nb.step(name=...)"
        )
    name = checked_name("step", given.pop("name", None) or function.__name__)
    signature = read_signature(function, name, caller_locals(depth=3))
    read = read_options(name, given)
    if read.bisect and not is_page(signature.input_type):
        raise DefinitionError(f"step {name!r}: bisect=True needs an input that is a list or a frame, to split it")
    if read.stream:
        _check_streams(name, signature.kind, read)
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

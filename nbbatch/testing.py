"""Tests of your own jobs: one step with a context, a whole job without waiting, and injected errors.

    run_step(count, File(...)).outputs              one step, in this thread, without a store
    with testing.batch() as batch: …                a whole job, in memory, on a clock that skips every wait
    inject(job, Fault("count", OSError("busy")))    the same job with an error at a given point
    with survive(faulty, params, path=…) as run: …  a job whose process dies where a fault raises `Died`

`batch` uses the real engine on a real store in memory, so a test that passes here passes on a file too.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from nbbatch.base.rows import Item, Results
from nbbatch.batch import Batch
from nbbatch.batch import open as open_store
from nbbatch.definition import Kind, Node, To
from nbbatch.job import Job
from nbbatch.run import JobHandle
from nbbatch.store.connection import MEMORY
from nbbatch.values.parameters import ParamsCodec
from nbbatch.worker import capture
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import Context, MicroBatch, StoredParams, said
from nbbatch.worker.executors import inline, run_aside

P = TypeVar("P")
R = TypeVar("R")

START_US = 1_700_000_000_000_000
"""Where a virtual clock begins: 14 November 2023, 22:13:20 UTC."""


class VirtualClock:
    """A clock that jumps to the end of the next wait once the engine has nothing else to do.

    Args:
        jumps: False: the clock moves only by `advance`.

    Example:
        >>> clock = nb.testing.VirtualClock(jumps=False)
        >>> with nb.testing.batch(clock) as batch:
        ...     waiting = batch.submit(nb.Job("poll", poll), Path("not-there"))
        ...     clock.advance(600)
    """

    def __init__(self, jumps: bool = True) -> None:
        self.jumps = jumps
        self._now = START_US
        self._wakes: list[Callable[[], None]] = []

    def now(self) -> int:
        """Microseconds since 1970 UTC.

        Example:
            >>> nb.testing.VirtualClock().now()
            1700000000000000
        """
        return self._now

    def steady(self) -> int:
        """The same as `now`, because nobody sets this clock."""
        return self._now

    def until(self, due_us: int) -> float | None:
        """Seconds to wait: 0 if the clock jumps or the time has come, otherwise None: until `advance` is called."""
        if self.jumps:
            self._now = max(self._now, due_us)
        return 0.0 if due_us <= self._now else None

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Register ``wake``, which is called after each `advance`."""
        self._wakes.append(wake)

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Args:
            seconds: By how much.

        Example:
            >>> clock = nb.testing.VirtualClock()
            >>> clock.advance(60)
            >>> clock.now()
            1700000060000000
        """
        self._now += round(seconds * 1e6)
        for wake in self._wakes:
            wake()


def batch(clock: VirtualClock | None = None) -> Batch:
    """Open a batch whose store is in memory and whose steps run one after another. Close it, or use it in a ``with``.

    Args:
        clock: Default: a clock that skips every wait, so that backoffs and ``RetryLater`` take no time.

    Example:
        >>> with nb.testing.batch() as batch:
        ...     batch.submit(job, 3).result()
        7.5
    """
    return open_store(MEMORY, inline(), clock=clock or VirtualClock())


@dataclass(frozen=True, slots=True)
class StepRun:
    """The result of `run_step`.

    Attributes:
        outputs: The outputs as the store returns them. Values wrapped by `nb.to` are returned as they are.
        log: What the step printed and logged.
        warnings: Its warnings.
        recovered: The errors that it has handled.

    Example:
        >>> nb.testing.run_step(price, Order(id=1, price="2.50"))
        StepRun(outputs=[2.5], log='', warnings=(), recovered=())
    """

    outputs: list[Any]
    log: str
    warnings: tuple[str, ...]
    recovered: tuple[str, ...]


def run_step(step: Any, value: Any = None, *, params: Any = None, attempt: int = 1) -> StepRun:
    """Run one step in this thread, with a context and without a store.

    Args:
        step: The step. An async step is run to its end.
        value: Its input; for a reduction the values it reduces. None for a step without parameters.
        params: The job's parameters, if the step takes them.
        attempt: The attempt number in the context.

    Raises:
        BaseException: What the step raises, signals (`nb.RetryLater` …) included.
        ValueNotStorable: An output cannot be stored.
        TypeError: A step that is declared ``-> None`` returned a value.

    Example:
        >>> nb.testing.run_step(price, Order(id=1, price="2.50")).outputs
        [2.5]
    """
    node = Node(1, step, (0,), (2,), False, 1.0, (), ())
    item = Item(1, attempt, None)
    context = Context(MicroBatch(1, node, StoredParams(ParamsCodec(Any), b"null"), [item]), item)
    with capture.held():
        capture.install()
        token = capture.buffer.set(context)
        try:
            first = iter(value) if step.kind is Kind.REDUCTION else value
            takes = step.takes_params or (step.may_take_params and params is not None)
            result = step.call(first, params, with_params=takes)
            outputs = [_stored(step, each) for each in _given(step, result)]
        finally:
            capture.buffer.reset(token)
    return StepRun(outputs, *said(context))


def _given(step: Any, result: Any) -> Iterable[Any]:
    if step.is_async:
        result = run_aside(_finished(result))
    if step.kind is Kind.MANY:
        return result
    if step.kind is Kind.NONE and result is not None:
        raise TypeError(f"step {step.name!r} is declared -> None but returned {type(result).__name__}")
    return () if step.kind is Kind.NONE else (result,)


async def _finished(result: Awaitable[Any] | AsyncIterator[Any]) -> Any:
    if isinstance(result, AsyncIterator):
        return [each async for each in result]
    return await result


def _stored(step: Any, value: Any) -> Any:
    return value if isinstance(value, To) else step.output.decode(step.output.encode(value))


@dataclass(slots=True)
class Fault:
    """An error to raise in a step of a job; see `inject`.

    Attributes:
        step: Name of the step.
        error: The exception or signal to raise.
        when: "before": before the step runs; "after": after it has returned all its values, which are then lost.
        times: Number of matching calls that raise it.
        where: Selects inputs; None: all.
        raised: How often it was raised so far.

    Example:
        >>> away = nb.testing.Fault("price", OSError("away"), where=lambda order: order.id == 2)
        >>> with nb.testing.batch() as batch:
        ...     run = batch.submit(nb.testing.inject(job, away), 3)
        ...     print(run.wait(), run.errors()["error"].to_list())
        FAILED ['away']
    """

    step: str
    error: BaseException
    _: KW_ONLY
    when: Literal["before", "after"] = "before"
    times: int = 1
    where: Callable[[Any], bool] | None = None
    raised: int = field(default=0, init=False)

    def strike(self, when: str, value: Any) -> None:
        """Raise the error if the call matches.

        Raises:
            BaseException: The error.
        """
        if when == self.when and self.raised < self.times and (self.where is None or self.where(value)):
            self.raised += 1
            raise self.error


class Died(BaseException):
    """The error of a fault that simulates SIGKILL at this point. For `survive`, in steps that are not async.

    Example:
        >>> deaths = nb.testing.Fault("read", nb.testing.Died(), when="after")
        >>> with nb.testing.survive(nb.testing.inject(job, deaths), 3, path="faulty.duckdb") as run:
        ...     run.result()
        7.5
    """


class _Mortal(inline):
    """Runs steps until one of them dies; from then on nothing comes back, as from a dead process."""

    def __init__(self) -> None:
        self.died = threading.Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As in `inline`, while it lives."""
        if self.died.is_set():
            return _never()
        future = super().submit(fn, *args, **kwargs)
        if fn is not run_chunks:
            return future
        micro: MicroBatch = args[0]
        chunk = _dead_chunk(micro, future.result())
        if chunk is None:
            return future
        cells, _, _, slot = micro.cell(0)
        cells[slot] = chunk  # it had begun, which a killed worker could not have taken back
        self.died.set()
        return _never()


def _dead_chunk(micro: MicroBatch, results: Results) -> int | None:
    kind = f"{Died.__module__}.{Died.__qualname__}"
    dead = [place for place, outcome in results.odd.items() if outcome.failure and outcome.failure.type == kind]
    return micro.items[dead[0]].chunk if dead else None


def _never() -> Future[Any]:
    """A future that cannot be called off and does not come."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


@contextmanager
def survive(job: Job[P, R], params: P | dict[str, Any], *, path: str | Path) -> Generator[JobHandle[R]]:
    """Run a job to its end, and open the store again each time its process "died".

    Only what was committed survives, and the chunk that was running loses an attempt. Other chunks of its micro-batch may run
    again.

    Args:
        job: A job made by `inject` with faults whose error is `Died`.
        params: Its parameters.
        path: File of the store. A store in memory would not survive.

    Raises:
        NbbatchError: As `nb.open` and `Batch.submit`.

    Example:
        >>> deaths = nb.testing.Fault("read", nb.testing.Died(), when="after")
        >>> with nb.testing.survive(nb.testing.inject(job, deaths), 3, path="faulty.duckdb") as run:
        ...     print(run.result(), run.errors()["error_type"].to_list())
        7.5 ['ProcessDied']
    """
    executor, clock = _Mortal(), VirtualClock()
    batch = open_store(path, executor, clock=clock)
    try:
        run = batch.submit(job, params, key="survive")
        while not run.done():
            if executor.died.wait(0.002):
                _let_go(batch)
                executor = _Mortal()
                batch = open_store(path, executor, clock=clock)
                run = batch.submit(job, params, key="survive")
        yield run
    finally:
        batch.close()


def _let_go(batch: Batch) -> None:
    """Leave what a killed process leaves: what is committed, claims too, and the marks of what ran."""
    engine = batch._engine  # pyright: ignore[reportPrivateUsage]
    marks = Path(f"{batch.path}.running")
    running = marks.read_bytes()
    engine.call(engine.flights.clear)
    batch.close()
    marks.write_bytes(running)


def inject(job: Job[P, R], *faults: Fault) -> Job[P, R]:
    """Copy a job, with faults that its steps raise. The job itself is not changed.

    Args:
        job: The job.
        faults: The faults.

    Raises:
        ValueError: A fault names a step that the job does not have, or a step that is a job.

    Example:
        >>> faulty = nb.testing.inject(job, nb.testing.Fault("read", OSError("away"), times=2))
        >>> with nb.testing.batch() as batch:
        ...     batch.submit(faulty, 3).result()
        7.5
    """
    _check_faults(job, faults)
    faulty = copy(job)
    faulty.listeners = copy(job.listeners)
    faulty.nodes = tuple(
        replace(node, step=_faulty(node.step, [fault for fault in faults if fault.step == node.step.name]))
        for node in job.nodes
    )
    return faulty


def _check_faults(job: Job[Any, Any], faults: Sequence[Fault]) -> None:
    steps = {node.step.name: node.step for node in job.nodes}
    for fault in faults:
        if fault.step not in steps:
            raise ValueError(f"job {job.name!r} has no step {fault.step!r}; its steps are {', '.join(steps)}")
        if steps[fault.step].job is not None:
            raise ValueError(
                f"step {fault.step!r} of job {job.name!r} is a job: inject errors into its own steps, as in "
                "inject(inner, Fault(...)).as_step()"
            )


def _faulty(step: Any, faults: list[Fault]) -> Any:
    if not faults:
        return step
    function = step.function

    def strike(when: str, value: Any) -> None:
        for fault in faults:
            fault.strike(when, value)

    def call(first: Any, *more: Any) -> Any:
        strike("before", first)
        result = function(first, *more)
        result = list(result) if step.kind is Kind.MANY else result
        strike("after", first)
        return result

    async def call_async(first: Any, *more: Any) -> Any:
        strike("before", first)
        result = await _finished(function(first, *more))
        strike("after", first)
        return result

    made = copy(step)
    made.function = call_async if step.is_async else call
    return made

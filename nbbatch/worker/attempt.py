"""One step on one chunk → `Outcome`. The only place where user code runs.

    MicroBatch ──run_chunks──▶ for each Item: decode → call → encode → Outcome

Nothing here knows the store, and time is a callable in the micro-batch. Whatever a step raises becomes an Outcome of
plain text, so nothing that user code does can break the path back. Each attempt gets a freshly decoded input and
parameters, so what an earlier attempt changed in place is never seen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, cast

from nbbatch.base.errors import FailChunk, FailJob, RetryLater, SkipChunk, ValueNotStorable
from nbbatch.base.rows import Failure, Item, Outcome, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Kind, To, retryable, skippable
from nbbatch.definition.listeners import begin
from nbbatch.worker import capture
from nbbatch.worker.context import Context, MicroBatch, Page, said
from nbbatch.worker.error_text import failure

PAGE_OUTPUTS = 5_000
"""A fan-out hands its outputs over in pages of at most this many …"""
PAGE_BYTES = 4_000_000
"""… or about this many bytes, so that a step may yield millions."""
_COMPLETED = ChunkStatus.COMPLETED


def run_chunks(micro: MicroBatch) -> Results:
    """Run every item of a micro-batch in this thread; never raises what user code raised."""
    capture.install()
    worker = threading.current_thread().name
    cells, slot = micro.cell(0)
    try:
        if micro.node.plain and micro.hooks is None:
            return _run_plain(micro, worker, cells, slot)
        outcomes: dict[int, Outcome] = {}
        for place, item in enumerate(micro.items):
            cells[slot] = item.chunk
            outcomes[place] = _run_item(micro, item, worker)
        return Results([], [], [], worker, outcomes)
    finally:
        cells[slot] = 0


async def run_chunks_async(micro: MicroBatch) -> Results:
    """Run every item of an async step's micro-batch at once on this event loop."""
    capture.install()
    runs = [asyncio.create_task(_run_item_async(micro, item, place)) for place, item in enumerate(micro.items)]
    outcomes = {place: await run for place, run in enumerate(runs)}
    return Results([], [], [], threading.current_thread().name, outcomes)


def rehearse(micro: MicroBatch, *, aloud: bool = False) -> tuple[Outcome, BaseException | None]:
    """Run a micro-batch's one item in this thread and keep what was raised, for a person to look into.

    Args:
        micro: With one item.
        aloud: What the step prints goes where it goes outside of steps, not into a log: so does a debugger's prompt.
    """
    item = micro.items[0]
    ctx, emitted, started = _listened(micro, item, aloud=aloud), _Emitted(micro, item), micro.now()
    token = capture.buffer.set(ctx)
    try:
        _execute(micro, item, emitted)
    except KeyboardInterrupt:  # the person who looks into it wants to stop
        raise
    except BaseException as error:
        return _broken(ctx, started, "", error), error
    finally:
        capture.buffer.reset(token)
    return _completed(ctx, started, micro.now(), "", emitted.outputs, emitted.targets), None


async def rehearse_async(micro: MicroBatch, *, aloud: bool = False) -> tuple[Outcome, BaseException | None]:
    """As `rehearse`, of an async step."""
    item = micro.items[0]
    ctx, emitted, started = _listened(micro, item, aloud=aloud), _Emitted(micro, item), micro.now()
    capture.buffer.set(ctx)
    try:
        await _execute_async(micro, item, emitted)
    except KeyboardInterrupt:  # the person who looks into it wants to stop
        raise
    except BaseException as error:
        return _broken(ctx, started, "", error), error
    return _completed(ctx, started, micro.now(), "", emitted.outputs, emitted.targets), None


def _listened(micro: MicroBatch, item: Item, *, aloud: bool) -> Context:
    capture.install()
    ctx = Context(micro, item)
    ctx.aloud = aloud
    return ctx


# --- one attempt ---------------------------------------------------------------------------------


def _run_plain(micro: MicroBatch, worker: str, cells: Any, slot: int) -> Results:
    """The quick way through a micro-batch of a step that gives at most one output, to one step.

    The same attempts as by `_run_item`, with everything that is equal for all of them done once: here a microsecond a
    chunk is a tenth of what it costs in all. An attempt begins when the one before it has ended.
    """
    run, now, enter = _plain_call(micro), micro.now, capture.buffer.set
    started, ended, outputs, odd = list[int](), list[int](), list[bytes](), dict[int, Outcome]()
    gives = micro.node.step.output is not None
    before = enter(None)
    begun = now()
    for place, item in enumerate(micro.items):
        cells[slot] = item.chunk
        ctx = Context(micro, item)
        enter(ctx)
        try:
            data = run(item.data)
        except BaseException as error:
            odd[place] = _broken(ctx, begun, worker, error)
            begun = now()
            continue
        end = now()
        if ctx.said:
            odd[place] = _completed(ctx, begun, end, worker, [data] if gives else [], list(micro.node.targets))
        else:
            started.append(begun)
            ended.append(end)
            if gives:
                outputs.append(data)
        begun = end
    capture.buffer.reset(before)
    return Results(started, ended, outputs, worker, odd)


def _plain_call(micro: MicroBatch) -> Callable[[Any], Any]:
    """Decode, call and encode as one function: stored input → stored output."""
    step = micro.node.step
    function, decode, load = step.function, step.input.decode, micro.params.load
    if step.output is None:
        name = step.name
        if step.takes_params:
            return lambda data: _expect_nothing(name, function(decode(data), load()))
        return lambda data: _expect_nothing(name, function(decode(data)))
    encode = step.output.encode

    def only(value: Any) -> bytes:
        """What ``nb.to`` made has no stored form; here it can name but the one step that follows."""
        if type(value) is not To:
            raise  # noqa: PLE0704 - what the caller caught
        name, value = value.read()
        micro.node.address(name, value)
        return encode(value)

    def run(data: Any) -> bytes:
        value = function(decode(data), load()) if step.takes_params else function(decode(data))
        try:
            return encode(value)
        except Exception:
            return only(value)

    return run


def _run_item(micro: MicroBatch, item: Item, worker: str) -> Outcome:
    ctx = Context(micro, item)
    token = capture.buffer.set(ctx)
    started = micro.now()
    emitted, raised = _Emitted(micro, item), None
    end = begin(micro.hooks, ctx)
    try:
        _execute(micro, item, emitted)
    except BaseException as error:
        raised = error
    try:
        return _result(ctx, started, micro.now(), worker, emitted, raised, end)
    finally:
        raised = None  # else its traceback and this frame would keep each other
        capture.buffer.reset(token)


async def _run_item_async(micro: MicroBatch, item: Item, place: int) -> Outcome:
    worker = threading.current_thread().name
    cells, slot = micro.cell(place)
    ctx = Context(micro, item)
    capture.buffer.set(ctx)  # an asyncio task has its own copy of the context: nothing to reset
    async with AsyncExitStack() as passed:
        for turnstile in micro.turnstiles:
            await passed.enter_async_context(turnstile)
        cells[slot] = item.chunk
        started = micro.now()
        emitted, raised = _Emitted(micro, item), None
        end = begin(micro.hooks, ctx)
        try:
            await _execute_async(micro, item, emitted)
        except BaseException as error:
            raised = error
        try:
            return _result(ctx, started, micro.now(), worker, emitted, raised, end)
        finally:
            raised = None
            cells[slot] = 0


class _Emitted:
    """Encoded outputs of one attempt, handed over in pages when they are many."""

    __slots__ = ("_bytes", "_encode", "_item", "_node", "_only", "_route", "_sink", "_targets", "outputs", "staged")

    def __init__(self, micro: MicroBatch, item: Item) -> None:
        step = micro.node.step
        self._encode = step.output.encode if step.output is not None else None
        self._only = micro.node.targets[0] if len(micro.node.targets) == 1 and not micro.node.ways else None
        self._route = micro.node.route
        self._node = micro.node
        self._item = item
        self._sink = micro.sink
        self._bytes = 0
        self._targets: list[int] = []
        self.outputs: list[bytes] = []
        self.staged = 0

    @property
    def targets(self) -> list[int]:
        """The step each output goes to."""
        return self._targets if self._only is None else [self._only] * len(self.outputs)

    def add(self, value: Any) -> None:
        encode = self._encode
        assert encode is not None
        try:
            data = encode(value)
        except Exception:
            data = self._add_named(value)
        else:
            self.outputs.append(data)
            if self._only is None:
                self._send_on(value, data)
        self._bytes += len(data)
        if self._sink and (len(self.outputs) >= PAGE_OUTPUTS or self._bytes >= PAGE_BYTES):
            self.flush()

    def _send_on(self, value: Any, data: bytes) -> None:
        """To each branch that accepts the value."""
        targets = self._route(value)
        if not targets:
            raise ValueNotStorable(f"no branch accepts this output of type {type(value).__name__}")
        self._targets.extend(targets)
        self.outputs.extend([data] * (len(targets) - 1))

    def _add_named(self, value: Any) -> bytes:
        """What ``nb.to`` made has no stored form: looked into only after that, so that values without it pay nothing."""
        if type(value) is not To:
            raise  # noqa: PLE0704 - what the caller caught
        assert self._encode is not None
        name, value = value.read()
        data = self._encode(value)
        if self._only is not None:
            self._targets, self._only = [self._only] * len(self.outputs), None
        self._targets.extend(self._node.address(name, value))
        self.outputs.append(data)
        return data

    def flush(self) -> None:
        assert self._sink is not None
        self._sink(Page(self._item, self.staged, self.outputs, self.targets))
        self.staged += len(self.outputs)
        self.outputs, self._targets, self._bytes = [], [], 0

    def report(self, value: Any) -> None:
        assert self._encode is not None
        self._only = -1
        self.outputs.append(self._encode(value))


def _execute(micro: MicroBatch, item: Item, emitted: _Emitted) -> None:
    step = micro.node.step
    result = step.function(*_arguments(micro, item))
    match step.kind:
        case Kind.ONE:
            emitted.add(result)
        case Kind.MANY:
            for value in cast("Iterable[Any]", result):
                emitted.add(value)
        case Kind.NONE:
            _expect_nothing(step.name, result)
        case Kind.REDUCTION:
            emitted.report(result)


async def _execute_async(micro: MicroBatch, item: Item, emitted: _Emitted) -> None:
    step = micro.node.step
    result = step.function(*_arguments(micro, item))
    if step.kind is Kind.MANY and hasattr(result, "__aiter__"):
        async for value in cast("AsyncIterator[Any]", result):
            emitted.add(value)
        return
    value = await cast("Awaitable[Any]", result)
    match step.kind:
        case Kind.ONE:
            emitted.add(value)
        case Kind.MANY:
            for each in value:
                emitted.add(each)
        case Kind.NONE:
            _expect_nothing(step.name, value)
        case Kind.REDUCTION:
            emitted.report(value)


def _arguments(micro: MicroBatch, item: Item) -> tuple[Any, ...]:
    step = micro.node.step
    if step.kind is Kind.REDUCTION:
        assert micro.inputs is not None
        first: Any = map(step.input.decode, micro.inputs())
    elif micro.node.index == 0:
        first = micro.params.load()
    else:
        assert item.data is not None
        first = step.input.decode(item.data)
    return (first, micro.params.load()) if step.takes_params else (first,)


def _expect_nothing(name: str, value: object) -> None:
    if value is not None:
        raise TypeError(
            f"step {name!r} is declared -> None but returned {type(value).__name__}; "
            "declare the type it returns, or return nothing"
        )


# --- what became of it ---------------------------------------------------------------------------


def _result(
    ctx: Context, started: int, ended: int, worker: str, emitted: _Emitted, raised: BaseException | None,
    end: Callable[[BaseException | None], None] | None,
) -> Outcome:  # fmt: skip
    if end is not None:
        end(raised)
    if raised is not None:
        return _broken(ctx, started, worker, raised)
    return _completed(ctx, started, ended, worker, emitted.outputs, emitted.targets, emitted.staged)


def _completed(
    ctx: Context, started: int, ended: int, worker: str, outputs: list[bytes], targets: list[int], staged: int = 0
) -> Outcome:
    handled = ctx._records  # pyright: ignore[reportPrivateUsage]
    records = len(outputs) + staged if handled is None else handled
    log, warnings, recovered = said(ctx)
    return Outcome(
        _COMPLETED,
        started,
        ended,
        outputs,
        targets,
        records,
        None,
        0.0,
        False,
        log,
        warnings,
        recovered,
        staged,
        worker,
    )


def _broken(ctx: Context, started: int, worker: str, error: BaseException) -> Outcome:
    """The outcome of an attempt that raised: a signal, an error that a retry may mend, or one that it cannot."""
    micro = ctx._micro  # pyright: ignore[reportPrivateUsage]
    delay, fails_job, status = 0.0, False, ChunkStatus.FAILED
    if isinstance(error, RetryLater):
        status, delay = ChunkStatus.POLL_WAITING, error.seconds
    elif isinstance(error, FailJob):
        fails_job = True
    elif isinstance(error, SkipChunk) or skippable(micro.node.step.options, error):
        status = ChunkStatus.SKIPPED
    elif not isinstance(error, FailChunk) and retryable(micro.node.step.options, error):
        status = ChunkStatus.ERRORED
    log, warnings, recovered = said(ctx)
    failed = failure(error)
    failed = failed and Failure(failed.type, *map(micro.params.hide, failed[1:]))
    return Outcome(
        status, started, micro.now(), [], [], 0, failed, delay, fails_job, log, warnings, recovered, 0, worker
    )

"""One step on one chunk → `Outcome`. Here, and in the quick way of `plain_chunks`, user code runs.

    MicroBatch ──run_chunks──▶ for each Item: decode → call → encode → Outcome

Nothing here knows the store, and time is a callable in the micro-batch. Whatever a step raises becomes an Outcome of
plain text, so nothing that user code does can break the path back. Each attempt gets a freshly decoded input, and parameters
that are its own or that it only reads (`Shared`), so what an earlier attempt changed in place is never seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import nullcontext
from time import monotonic
from typing import Any, Self, cast

from nbbatch.base.rows import Item, Outcome, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Kind, To
from nbbatch.definition.listeners import begin
from nbbatch.values.outside import MARK, Writes, size_of
from nbbatch.worker import capture
from nbbatch.worker.chained import followed
from nbbatch.worker.context import Context, MicroBatch
from nbbatch.worker.files_given import checking, confirm, taking
from nbbatch.worker.older_class import of_older_class
from nbbatch.worker.outcomes import broken, completed, expect_nothing, routed
from nbbatch.worker.pages import Page, PageSink
from nbbatch.worker.plain_chunks import run_plain, written
from nbbatch.worker.running import TOLD_EACH, TOLD_SOME, Cell

PAGE_OUTPUTS = 5_000
"""A fan-out hands its outputs over in pages of at most this many …"""
PAGE_BYTES = 4_000_000
"""… or about this many bytes, so that a step may yield millions …"""
STREAM_SECONDS = 0.05
"""… and of a step that streams with the first output that comes so long after the last page."""


def run_chunks(micro: MicroBatch) -> Results:
    """Run every item of a micro-batch in this thread, and what is to follow at once; never raises what user code raised."""
    capture.install()
    worker = micro.signed()
    if not (micro.node.plain and micro.hooks is None and micro.node.step.options.rate is None):
        return followed(micro, _run_each(micro, worker), run_chunks)
    writes = Writes(micro.writers) if micro.values and micro.writers else None
    return written(micro, followed(micro, run_plain(micro, worker, writes), run_chunks), writes)


def _run_each(micro: MicroBatch, worker: str) -> Results:
    cell = micro.cell(0)
    outcomes, until = dict[int, Outcome](), micro.now() + micro.most_us
    for place, item in enumerate(micro.items):
        outcomes[place] = run_item(micro, item, worker, cell)[0]
        is_failure = outcomes[place].status is not ChunkStatus.COMPLETED
        if outcomes[place].ended_us > until or (is_failure and micro.is_fail_fast):
            break
    return Results([], [], [], worker, outcomes, left=len(micro.items) - len(outcomes))


async def run_chunks_async(micro: MicroBatch) -> Results:
    """Run every item of an async step's micro-batch at once on this event loop."""
    capture.install()
    worker = micro.signed()
    turns = [_in_turn(micro, item, worker, place) for place, item in enumerate(micro.items)]
    # not one after another: whoever cancels this call cancels all of them. One needs no task of its own, which takes as long as the rest
    outcomes = await asyncio.gather(*turns) if len(turns) > 1 else [await turns[0]]
    return Results([], [], [], worker, dict(enumerate(outcomes)))


async def _in_turn(micro: MicroBatch, item: Item, worker: str, place: int) -> Outcome:
    """One attempt, once it is its turn. It stands QUEUED again where its task is cancelled by somebody else: that says nothing of its step."""
    started = micro.now()
    try:
        async with micro.turnstile or nullcontext():
            outcome, raised = await run_item_async(micro, item, worker, micro.cell(place))
    except asyncio.CancelledError:  # before its turn
        return Outcome(ChunkStatus.QUEUED, started, micro.now(), [], [])
    task = asyncio.current_task()
    is_called_off = isinstance(raised, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    return outcome._replace(status=ChunkStatus.QUEUED) if is_called_off else outcome


# --- one attempt ---------------------------------------------------------------------------------


Ran = tuple[Outcome, BaseException | None]
"""What became of an attempt, and what it raised."""


def run_item(micro: MicroBatch, item: Item, worker: str, cell: Cell, *, aloud: bool = False) -> Ran:
    """One attempt.

    Args:
        micro: Of which the item is.
        item: A chunk.
        worker: Who runs it.
        cell: Where to say so.
        aloud: What the step prints goes where it goes outside of steps, not into a log: so does a debugger's prompt.
    """
    with _Attempt(micro, item, worker, cell, aloud=aloud) as attempt:
        attempt.take(attempt.call(*_arguments(micro, item)))
        attempt.confirm()
    return attempt.ended()


async def run_item_async(micro: MicroBatch, item: Item, worker: str, cell: Cell, *, aloud: bool = False) -> Ran:
    """One attempt of an async step; arguments as `run_item`."""
    with _Attempt(micro, item, worker, cell, aloud=aloud) as attempt:
        result = attempt.call(*_arguments(micro, item))
        if hasattr(result, "__aiter__"):
            async for value in cast("AsyncIterator[Any]", result):
                attempt.add(value)
        else:
            attempt.take(await cast("Awaitable[Any]", result))
        attempt.confirm()
    return attempt.ended()


class _Attempt:
    """What is around the call of a step: its context, its marks and listeners, and what it gives, encoded.

    Outputs are handed over in pages when they are many. What is raised inside stays inside.
    """

    __slots__ = (
        "_bytes", "_cell", "_context", "_encode", "_end", "_flushed", "_item", "_micro", "_node", "_only", "_outcome", "_outputs", "_raised",
        "_staged", "_started", "_stream", "_targets", "_token", "_worker",
    )  # fmt: skip

    def __init__(self, micro: MicroBatch, item: Item, worker: str, cell: Cell, *, aloud: bool) -> None:
        self._micro, self._item, self._worker, self._cell = micro, item, worker, cell
        self._node = node = micro.node
        is_report, codec = node.step.kind is Kind.REDUCTION, node.output
        self._encode = None if codec is None else codec.encode if is_report else micro.kept(codec)
        self._only = node.targets[0] if len(node.targets) == 1 and not node.ways else None
        self._outputs: list[bytes] = []
        self._targets: list[int] = []
        self._bytes = self._staged = 0
        self._stream = micro.sink if node.step.options.stream else None
        self._flushed = monotonic() if self._stream else 0.0
        self._context = Context(micro, item)
        if aloud:
            self._context.aloud = True

    def __enter__(self) -> Self:
        self._token = capture.buffer.set(self._context)
        chunks, since, given, slot = self._cell
        self._started = since[slot] = self._micro.now()
        given[slot], chunks[slot] = 0, self._item.chunk
        self._end = begin(self._micro.hooks, self._context)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        ended = self._micro.now()
        try:
            if self._end is not None:
                self._end(error)
            self._raised, self._outcome = error, self._result(ended, error)
        finally:
            self._cell.chunk[self._cell.slot] = 0
            capture.buffer.reset(self._token)
        return True

    def _result(self, ended: int, error: BaseException | None) -> Outcome:
        if error is not None:
            return broken(self._context, self._started, self._worker, error)
        given = self._outputs, self._all_targets(), self._staged
        return completed(self._context, self._started, ended, self._worker, *given)

    def ended(self) -> Ran:
        """What became of it; of the error nothing is kept here, else its traceback and its frame would keep each other."""
        raised, self._raised = self._raised, None
        return self._outcome, raised

    def _all_targets(self) -> list[int]:
        """The step each output goes to."""
        return self._targets if self._only is None else [self._only] * len(self._outputs)

    def call(self, *arguments: Any) -> Any:
        """Call the step. Where it has a rate, this is the moment that counts: its arguments are read, and its listeners were told."""
        step = self._node.step
        if step.options.rate is not None:
            self._cell.since_us[self._cell.slot] = self._micro.now()
        return step.function(*arguments)

    def take(self, result: Any) -> None:
        """All that the step has returned."""
        step = self._node.step
        match step.kind:
            case Kind.ONE:
                self.add(result)
            case Kind.MANY:
                for value in result:
                    self.add(value)
            case Kind.NONE:
                expect_nothing(step.name, result)
            case Kind.REDUCTION:
                self._only = -1
                self._outputs.append(self._report(result))

    def confirm(self) -> None:
        """That it read what it was given; see `files_given`."""
        confirm(self._context)
        if self._stream is not None and (self._staged or self._stream.published(self._item)):
            if self._outputs:
                self._flush(self._stream)
            self._stream.end(self._item, self._staged)

    def _report(self, value: Any) -> bytes:
        assert self._encode is not None
        try:
            return self._encode(value)
        except Exception:
            return of_older_class(self._node.step, value)

    def add(self, value: Any) -> None:
        encode = self._encode
        assert encode is not None
        if self._only is None or type(value) is To:
            data = self._add_routed(value)
        else:
            try:
                data = encode(value)
            except Exception:
                data = of_older_class(self._node.step, value)
            self._outputs.append(data)
        self._bytes += len(data) if data[:1] != MARK else size_of(data)  # calls cost more than some steps
        many = len(self._outputs)
        if many < TOLD_EACH or not many % TOLD_SOME:
            self._cell.given[self._cell.slot] = self._staged + many
        if (many >= PAGE_OUTPUTS or self._bytes >= PAGE_BYTES) and self._micro.sink:
            self._flush(self._micro.sink)
        elif self._stream is not None and monotonic() - self._flushed >= STREAM_SECONDS:
            self._flush(self._stream)

    def _add_routed(self, value: Any) -> bytes:
        assert self._encode is not None
        data, targets = routed(self._node, self._encode, value)
        if self._only is not None:
            self._targets, self._only = [self._only] * len(self._outputs), None
        self._targets.extend(targets)
        self._outputs.extend([data] * len(targets))
        return data

    def _flush(self, sink: PageSink) -> None:
        sink(Page(self._item, self._staged, self._outputs, self._all_targets()))
        self._staged += len(self._outputs)
        self._outputs, self._targets, self._bytes = [], [], 0
        self._flushed = monotonic()


def _arguments(micro: MicroBatch, item: Item) -> tuple[Any, ...]:
    step = micro.node.step
    if not step.takes_input:
        return ()
    if step.kind is Kind.REDUCTION:
        assert micro.inputs is not None
        first: Any = map(taking(micro.node), micro.inputs())
    elif micro.node.index == 0:
        first = (checking(micro.params.load) if micro.node.input.holds_files else micro.params.load)()
    else:
        assert item.data is not None
        first = taking(micro.node)(item.data)
    return (first, micro.params.reader(micro.node)()) if micro.node.takes_params else (first,)

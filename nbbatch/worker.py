"""One step on one chunk → `Outcome`. The only place where user code runs.

    Task (a micro-batch) ──run_task──▶ for each Item: decode → call → encode → Outcome
                         └─pack / run_packed: the same for pools whose workers share no memory

Nothing here knows the store, and time is a callable in the task. Whatever a step raises becomes an Outcome of
plain text, so nothing that user code does can break the path back. Each attempt gets a freshly decoded input and
parameters, so what an earlier attempt changed in place is never seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import pickle
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from nbbatch import capture
from nbbatch.codec import ParamsCodec
from nbbatch.definition import Kind, Node, retryable
from nbbatch.errors import FailChunk, FailJob, NoContextError, RetryLater, Signal, ValueNotStorable
from nbbatch.marks import Marks, marks_of
from nbbatch.records import Failure, Item, Outcome
from nbbatch.states import ChunkStatus

PAGE_OUTPUTS = 5_000
"""A fan-out hands its outputs over in pages of at most this many …"""
PAGE_BYTES = 4_000_000
"""… or about this many bytes, so that a step may yield millions."""
_COMPLETED = ChunkStatus.COMPLETED
MAX_TEXT_CHARS = 200_000
"""Error messages and tracebacks longer than this lose their middle."""


class Cancellation:
    """A flag shared by everything that runs for one instance."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False


class Context(capture.LogBuffer):
    """What a running step can know and say beside its input; see `context`.

    Attributes:
        instance: Id of the job instance.
        chunk: Id of the work chunk.
        attempt: Number of this attempt, from 1.
        step: Name of the step.
    """

    __slots__ = (
        "_cancellation", "_records", "_recovered", "_warnings", "_worker", "attempt", "chunk", "instance", "step",
    )  # fmt: skip

    def __init__(self, instance: int, item: Item, step: str, cancellation: Cancellation, worker: str) -> None:
        super().__init__()
        self.instance = instance
        self.chunk = item.chunk
        self.attempt = item.attempt
        self.step = step
        self._cancellation = cancellation
        self._worker = worker
        self._warnings: tuple[str, ...] = ()
        self._recovered: tuple[str, ...] = ()
        self._records: int | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the instance was cancelled meanwhile; a long step may return early, its result is dropped.

        Always False in worker processes, which share no memory with the engine.
        """
        return self._cancellation.cancelled

    @property
    def log(self) -> logging.Logger:
        """A standard logger named ``nbbatch.step.<name>`` at level INFO; its records go to this attempt's log."""
        logger = logging.getLogger(f"nbbatch.step.{self.step}")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        return logger

    def warn(self, text: str) -> None:
        """Keep a warning with this attempt; the newest distinct ones show on the instance."""
        self._warnings += (clean(str(text)),)

    def recovered(self, error: BaseException | str) -> None:
        """Count an error that the step survived: it is stored with the attempt and fails nothing."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {_text_of(error)}"
        self._recovered += (clean(text),)

    def records(self, count: int) -> None:
        """Say how many records this attempt handled; without it, the number of its outputs counts."""
        self._records = int(count)

    def __repr__(self) -> str:
        return f"<context of step {self.step}: instance {self.instance}, chunk {self.chunk}, attempt {self.attempt}>"


def context() -> Context:
    """The context of the step that runs in this thread or asyncio task.

    Raises:
        NoContextError: No step runs here.
    """
    found = capture.buffer.get()
    if not isinstance(found, Context):
        raise NoContextError
    return found


@dataclass(frozen=True, slots=True)
class StoredParams:
    """Parameters as stored, with the secrets that are only ever in memory."""

    codec: ParamsCodec
    data: bytes
    secrets: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    def load(self) -> Any:
        return self.codec.load(self.data, self.secrets)


def wall_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A micro-batch: chunks of one step of one instance that one worker runs in order."""

    instance: int
    node: Node
    params: StoredParams
    items: list[Item]
    now: Callable[[], int] = wall_us
    cancellation: Cancellation = field(default_factory=Cancellation)
    sink: Callable[[Item, int, list[tuple[int, bytes]]], None] | None = None
    """Takes a page of outputs of a fan-out: the item, the sequence number of the page's first output, the outputs.
    None: outputs stay in memory until the attempt ends."""
    inputs: Callable[[], Iterator[bytes]] | None = None
    """Stored inputs of a reduction, read as they are consumed."""
    marks: Marks | None = None
    slots: Sequence[int] = ()
    """Where to say what runs: one slot for a task that runs its items in order, one per item for an async one."""

    def mark(self, slot: int, chunk: int) -> None:
        """Say which chunk runs in a slot; 0: none."""
        if self.marks is not None and slot < len(self.slots):
            self.marks.write(self.slots[slot], chunk)


def run_task(task: Task) -> list[Outcome]:
    """Run every item of a task in this thread; never raises what user code raised."""
    capture.install()
    try:
        name = threading.current_thread().name
        return [_run_item(task, item, name) for item in task.items]
    finally:
        task.mark(0, 0)


async def run_task_async(task: Task) -> list[Outcome]:
    """Run every item of an async step's task at once on this event loop."""
    capture.install()
    runs = [asyncio.create_task(_run_item_async(task, item, slot)) for slot, item in enumerate(task.items)]
    return [await run for run in runs]


# --- one attempt ---------------------------------------------------------------------------------


def _run_item(task: Task, item: Item, worker: str) -> Outcome:
    ctx = Context(task.instance, item, task.node.step.name, task.cancellation, worker)
    token = capture.buffer.set(ctx)
    task.mark(0, item.chunk)
    started = task.now()
    emitted = _Emitted(task, item)
    try:
        _execute(task, item, emitted)
        return _completed(ctx, started, task.now(), emitted)
    except BaseException as error:
        return _broken(ctx, started, task, error)
    finally:
        capture.buffer.reset(token)


async def _run_item_async(task: Task, item: Item, slot: int) -> Outcome:
    ctx = Context(task.instance, item, task.node.step.name, task.cancellation, threading.current_thread().name)
    capture.buffer.set(ctx)  # an asyncio task has its own copy of the context: nothing to reset
    task.mark(slot, item.chunk)
    started = task.now()
    emitted = _Emitted(task, item)
    try:
        await _execute_async(task, item, emitted)
        return _completed(ctx, started, task.now(), emitted)
    except BaseException as error:
        return _broken(ctx, started, task, error)
    finally:
        task.mark(slot, 0)


class _Emitted:
    """Encoded outputs of one attempt, handed over in pages when they are many."""

    __slots__ = ("_bytes", "_encode", "_item", "_route", "_sink", "outputs", "staged")

    def __init__(self, task: Task, item: Item) -> None:
        step = task.node.step
        self._encode = step.output.encode if step.output is not None else None
        self._route = task.node.route
        self._item = item
        self._sink = task.sink
        self._bytes = 0
        self.outputs: list[tuple[int, bytes]] = []
        self.staged = 0

    def add(self, value: Any) -> None:
        encode = self._encode
        assert encode is not None
        data = encode(value)
        targets = self._route(value)
        if not targets:
            raise _homeless(value)
        for target in targets:
            self.outputs.append((target, data))
        self._bytes += len(data)
        if self._sink and (len(self.outputs) >= PAGE_OUTPUTS or self._bytes >= PAGE_BYTES):
            self.flush()

    def one(self, value: Any) -> None:
        """The only output there is."""
        assert self._encode is not None
        data = self._encode(value)
        self.outputs = [(target, data) for target in self._route(value)]
        if not self.outputs:
            raise _homeless(value)

    def flush(self) -> None:
        assert self._sink is not None
        self._sink(self._item, self.staged, self.outputs)
        self.staged += len(self.outputs)
        self.outputs, self._bytes = [], 0

    def report(self, value: Any) -> None:
        assert self._encode is not None
        self.outputs.append((-1, self._encode(value)))


def _homeless(value: Any) -> ValueNotStorable:
    return ValueNotStorable(f"no branch accepts this output of type {type(value).__name__}")


def _execute(task: Task, item: Item, emitted: _Emitted) -> None:
    step = task.node.step
    result = step.function(*_arguments(task, item))
    match step.kind:
        case Kind.ONE:
            emitted.one(result)
        case Kind.MANY:
            for value in cast("Iterable[Any]", result):
                emitted.add(value)
        case Kind.NONE:
            _expect_nothing(step.name, result)
        case Kind.REDUCTION:
            emitted.report(result)


async def _execute_async(task: Task, item: Item, emitted: _Emitted) -> None:
    step = task.node.step
    result = step.function(*_arguments(task, item))
    if step.kind is Kind.MANY and hasattr(result, "__aiter__"):
        async for value in cast("AsyncIterator[Any]", result):
            emitted.add(value)
        return
    value = await cast("Awaitable[Any]", result)
    match step.kind:
        case Kind.ONE:
            emitted.one(value)
        case Kind.MANY:
            for each in value:
                emitted.add(each)
        case Kind.NONE:
            _expect_nothing(step.name, value)
        case Kind.REDUCTION:
            emitted.report(value)


def _arguments(task: Task, item: Item) -> tuple[Any, ...]:
    step = task.node.step
    if step.kind is Kind.REDUCTION:
        assert task.inputs is not None
        first: Any = map(step.input.decode, task.inputs())
    elif task.node.index == 0:
        first = task.params.load()
    else:
        assert item.data is not None
        first = step.input.decode(item.data)
    return (first, task.params.load()) if step.takes_params else (first,)


def _expect_nothing(name: str, value: object) -> None:
    if value is not None:
        raise TypeError(
            f"step {name!r} is declared -> None but returned {type(value).__name__}; "
            "declare the type it returns, or return nothing"
        )


# --- what became of it ---------------------------------------------------------------------------


def _completed(ctx: Context, started: int, ended: int, emitted: _Emitted) -> Outcome:
    handled = ctx._records  # pyright: ignore[reportPrivateUsage]
    records = len(emitted.outputs) + emitted.staged if handled is None else handled
    log, warnings, recovered, worker = _said(ctx)
    return Outcome(
        _COMPLETED, started, ended, emitted.outputs, records, None, 0.0, False, log, warnings, recovered,
        emitted.staged, worker,
    )  # fmt: skip


def _broken(ctx: Context, started: int, task: Task, error: BaseException) -> Outcome:
    """The outcome of an attempt that raised: a signal, an error that a retry may mend, or one that it cannot."""
    delay, fails_job, status = 0.0, False, ChunkStatus.FAILED
    if isinstance(error, RetryLater):
        status, delay = ChunkStatus.POLL_WAITING, error.seconds
    elif isinstance(error, FailJob):
        fails_job = True
    elif not isinstance(error, FailChunk) and retryable(task.node.step.options, error):
        status = ChunkStatus.ERRORED
    log, warnings, recovered, worker = _said(ctx)
    return Outcome(
        status, started, task.now(), [], 0, _failure(error), delay, fails_job, log, warnings, recovered, 0, worker
    )


def _said(ctx: Context) -> tuple[str, tuple[str, ...], tuple[str, ...], str]:
    log = ctx.text()
    return clean(log) if log else log, ctx._warnings, ctx._recovered, ctx._worker  # pyright: ignore[reportPrivateUsage]


def _failure(error: BaseException) -> Failure | None:
    if isinstance(error, Signal):
        reason = str(getattr(error, "reason", ""))
        return (
            None if isinstance(error, RetryLater) and not reason else Failure(type(error).__name__, clean(reason), "")
        )
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    return Failure(name, shorten(clean(_text_of(error))), shorten(clean(_traceback(error))))


def _traceback(error: BaseException) -> str:
    """The traceback from the user's own frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    try:
        lines = traceback.format_exception(type(error), error, frames or error.__traceback__)
    except Exception as other:  # an exception whose attributes raise must not hide the failure
        return f"{type(error).__name__} (its traceback could not be formatted: {type(other).__name__})"
    return "".join(lines)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as other:  # a __str__ that raises is the step's; the failure still has to be told
        return f"<{type(error).__name__} whose text could not be made: {type(other).__name__}>"


def clean(text: str) -> str:
    r"""Text that can be stored and shown: NUL and lone surrogates written as escapes.

    >>> clean("a" + chr(0) + "b" + chr(0xD800))
    'a\\x00b\\ud800'
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def shorten(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    r"""Text without its middle where it is longer than ``limit`` characters.

    >>> shorten("abcdefghij", 4)
    'ab\n… 6 characters left out …\nij'
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


# --- pools whose workers share no memory ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PackedTask:
    """A task for a worker process: the code travels once per future as bytes and is loaded once per process."""

    instance: int
    digest: str
    code: bytes = field(repr=False)
    data: bytes
    secrets: dict[str, str] = field(repr=False)
    items: list[Item]
    marks: str | None
    slots: Sequence[int]


@lru_cache(maxsize=256)
def _pickled(node: Node, codec: ParamsCodec) -> tuple[str, bytes]:
    import cloudpickle

    code = cloudpickle.dumps((node, codec))
    return hashlib.sha256(code).hexdigest(), code


def pack(task: Task) -> PackedTask:
    """The task as it travels to another process.

    Raises:
        pickle.PicklingError, TypeError: The step's function refers to something that cannot travel.
    """
    digest, code = _pickled(task.node, task.params.codec)
    marks = task.marks.path if task.marks else None
    return PackedTask(task.instance, digest, code, task.params.data, task.params.secrets, task.items, marks, task.slots)


@lru_cache(maxsize=256)
def _unpickled(digest: str, code: bytes) -> tuple[Node, ParamsCodec]:  # noqa: ARG001 - a cheap key to compare first
    return pickle.loads(code)  # noqa: S301 - made by pack() in the process that owns this pool


def run_packed(packed: PackedTask) -> list[Outcome]:
    """Run a packed task in a worker process."""
    node, codec = _unpickled(packed.digest, packed.code)
    params = StoredParams(codec, packed.data, packed.secrets)
    marks = marks_of(packed.marks) if packed.marks else None
    task = Task(packed.instance, node, params, packed.items, marks=marks, slots=packed.slots)
    name = f"process-{os.getpid()}"
    return [outcome._replace(worker=name) for outcome in run_task(task)]

"""Micro-batches, and `context`: what a running step can read and report."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from nbbatch.base import ranges
from nbbatch.base.clock import SystemClock
from nbbatch.base.errors import NoContextError, ParameterError, ValueNotStorable
from nbbatch.base.items import Items
from nbbatch.base.rows import Item
from nbbatch.code.renewal import checked
from nbbatch.definition import Node
from nbbatch.definition.listeners import Hooks
from nbbatch.values.attachments import Attachments, Carried, Files
from nbbatch.values.codec import Codec
from nbbatch.values.files import File
from nbbatch.values.outside import SharedFolder, Writes
from nbbatch.values.parameters import ParamsCodec
from nbbatch.values.sharing import Shared
from nbbatch.worker import capture
from nbbatch.worker.error_text import clean, text_of, tidy
from nbbatch.worker.hiding import Hider, hider
from nbbatch.worker.pages import PageSink
from nbbatch.worker.running import Cell, Slots, no_cell
from nbbatch.worker.successors import Then

MAX_WARNINGS = 1_000
"""Warnings that an attempt keeps."""


class Cancellation:
    """A flag shared by everything that runs for one instance.

    An attempt with a timeout has a flag of its own, which is also set if the instance's flag is.
    """

    __slots__ = ("_heard_by", "_own", "_whole")

    def __init__(self, whole: Cancellation | None = None) -> None:
        self._own = False
        self._whole = whole
        self._heard_by: set[Callable[[], object]] = set()

    @property
    def cancelled(self) -> bool:
        """Whether the result will be discarded."""
        return self._own or (self._whole is not None and self._whole.cancelled)

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._own = value
        for tell in tuple(self._heard_by) if value else ():
            tell()

    def tell(self, call: Callable[[], object]) -> None:
        """Call a function when the flag is set: for workers that do not see it."""
        flag: Cancellation | None = self
        while flag is not None:
            flag._heard_by.add(call)
            flag = flag._whole

    def tell_no_more(self, call: Callable[[], object]) -> None:
        """It is not to be called any more."""
        flag: Cancellation | None = self
        while flag is not None:
            flag._heard_by.discard(call)
            flag = flag._whole


@dataclass(frozen=True, slots=True)
class StoredParams:
    """Parameters as stored, with the secrets that are only ever in memory."""

    codec: ParamsCodec
    data: bytes
    secrets: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    shared: Shared = field(default_factory=Shared, repr=False, compare=False)
    """They as read once, for attempts that change nothing of them."""

    @classmethod
    def of(cls, codec: ParamsCodec, valid: Any) -> StoredParams:
        """Those of parameters that `ParamsCodec.validate` returned."""
        return cls(codec, codec.dump(valid), codec.secrets(valid))

    def brought(self, given: Any, job: str) -> StoredParams:
        """They as given again, for their secrets: of a dict, stored values stand for those that it lacks.

        Raises:
            ParameterError: They are invalid, or a secret is missing.
        """
        with suppress(ParameterError):
            made = self.of(self.codec, checked(self.codec.validate, given, job))
            if made.data == self.data:
                return made
        return self.of(self.codec, checked(lambda params: self.codec.completed(params, self.data), given, job))

    def load(self) -> Any:
        """They, read anew: the caller's own."""
        return self.codec.load(self.data, self.secrets)

    def reader(self, node: Node) -> Callable[[], Any]:
        """What gives them to each attempt of a step as its second argument: whatever one attempt does to them, no other sees."""
        return self.shared.reader(self.load, len(self.data), node.reads)

    def hide(self, text: str) -> str:
        """A text with stars for the secrets in it."""
        hides = self.hides()
        return hides(text) if hides else text

    def hides(self) -> Hider | None:
        """What hides its secrets; None where it has none."""
        return hider(tuple(self.secrets.values())) if self.secrets else None


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """Chunks of one step of one instance that a worker runs in order."""

    instance: int
    node: Node
    params: StoredParams
    items: Items
    now: Callable[[], int] = SystemClock().now
    cancellation: Cancellation = field(default_factory=Cancellation)
    sink: PageSink | None = None
    """Takes a page of outputs of a fan-out; None: outputs stay in memory until the attempt ends."""
    inputs: Callable[[], Iterator[bytes]] | None = None
    """Stored inputs of a reduction, read as they are consumed."""
    marks: Slots | None = None
    slots: Sequence[int] = ()
    """Where to say what runs: one slot for a micro-batch that runs its items in order, one per item for an async one."""
    turnstile: asyncio.Semaphore | None = None
    """What an item of an async step waits for before it begins: its step's limit, or the event loop's."""
    attachments: Attachments | Files | Carried | None = None
    hooks: Hooks | None = None
    """What listeners put around each attempt."""
    values: SharedFolder | None = None
    """Where big outputs go; None: into the store with all others."""
    most_us: int = 2**62
    """Once its chunks have taken so long together, those not yet begun are given back: they were thought to be quicker."""
    is_fail_fast: bool = False
    """Whether the chunks after one that did not complete are given back too, as the job may end by it."""
    writers: Executor | None = None
    """Threads that write big outputs while further attempts run; None: each attempt writes its own."""
    then: Then | None = None
    """What may follow at once; None: nothing."""
    trail: list[MicroBatch] = field(default_factory=list["MicroBatch"])
    """What has followed so far, as the worker goes on: others look on."""

    def kept(self, codec: Codec, writes: Writes | None = None) -> Callable[[Any], bytes]:
        """How outputs are stored: as by a codec, big ones as references to files, which are there then, or when ``writes`` says so."""
        write = writes.write if writes is not None else None
        return (
            codec.encode
            if self.values is None
            else self.values.keeping(self.instance, codec.encode, codec.pouring, write)
        )

    def cell(self, place: int) -> Cell:
        """Where to say which chunk runs."""
        if self.marks is None or place >= len(self.slots):
            return no_cell()
        return self.marks.cell(self.slots[place])

    def signed(self) -> str:
        """Say who runs this, unless it was said; returns the name."""
        if self.marks is not None:
            for slot in self.slots:
                self.marks.workers[slot] = self.marks.workers[slot] or threading.get_ident()
        return clean(threading.current_thread().name)


class Context(capture.LogBuffer):
    """What a running step can read and report; see `context`.

    Attributes:
        instance: Id of the job instance.
        chunk: Id of the work chunk.
        attempt: Number of this attempt, from 1.
        step: Name of the step.
    """

    _warnings: list[str] | None = None
    _heard: set[str] | None = None
    _more_warnings = 0
    _recovered: tuple[str, ...] = ()
    _records: int | None = None
    files: Sequence[File] = ()
    """Those in its input."""

    def __init__(self, micro: MicroBatch, item: Item) -> None:
        self._micro = micro
        self._item = item

    @property
    def instance(self) -> int:
        return self._micro.instance

    @property
    def chunk(self) -> int:
        return self._item.chunk

    @property
    def attempt(self) -> int:
        return self._item.attempt

    @property
    def step(self) -> str:
        return self._micro.node.step.name

    def ids(self) -> dict[str, Any]:
        """The ids that are added to each log record: those of the instance, step, chunk and attempt."""
        return {
            "nb_instance": self.instance, "nb_step": self.step, "nb_chunk": self.chunk, "nb_attempt": self.attempt,
        }  # fmt: skip

    @property
    def cancelled(self) -> bool:
        """Whether the result will be discarded, so that a long step can return early.

        True if the instance was cancelled or the attempt has exceeded ``timeout=``. Always False on workers of executors that cannot be
        told (those of ``nb.executor`` that are not local).
        """
        return self._micro.cancellation.cancelled

    @property
    def log(self) -> logging.Logger:
        """A standard logger named ``nbbatch.step.<name>`` at level INFO. Its records go to the log of this attempt."""
        logger = logging.getLogger(f"nbbatch.step.{self.step}")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        return logger

    def attachment(self, name: str) -> BinaryIO:
        """Open a file stored with the instance (``submit(attach=)``) for reading. Its ``name`` is a path.

        The file is copied out of the store when a step first opens it. The step closes it.

        Raises:
            NotFoundError: There is no attachment of this name.
        """
        return (self._micro.attachments or Files("", ())).open(name)

    def warn(self, text: str) -> None:
        """Record a warning with this attempt. ``run.warnings`` shows the newest distinct ones.

        Warnings of ``warnings.warn`` in the step are recorded too. At most 1,000 are kept per attempt.
        """
        self.said = True
        if self._warnings is None:
            self._warnings = []
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append(clean(str(text)))
        else:
            self._more_warnings += 1

    def warned(self, text: str) -> bool:
        heard = self._heard = self._heard or set()
        if text in heard:
            return False
        self.warn(text)
        has_room = len(heard) < MAX_WARNINGS
        if has_room:
            heard.add(text)
        return has_room

    def warnings(self) -> list[str]:
        """Those that are kept, and a word about those that are not."""
        more = self._more_warnings
        told = [f"… {more:,} more warnings of this attempt were left out"] if more else []
        return [*(self._warnings or ()), *told]

    def recovered(self, error: BaseException | str) -> None:
        """Record an error that the step has handled. It is stored with the attempt and fails nothing."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {text_of(error)}"
        self.said = True
        self._recovered += (clean(text),)

    def records(self, count: float) -> None:
        """Set the number of records that this attempt handled; default: the number of its outputs.

        Raises:
            ValueNotStorable: The number is not a whole number from 0 to 10**15.
        """
        try:
            number = int(count) if isinstance(count, float) and count.is_integer() else count
            self._records = ranges.whole(number, "context().records", 0, ranges.MAX_RECORDS)
        except ValueError as error:
            raise ValueNotStorable(str(error)) from None
        self.said = True

    def __repr__(self) -> str:
        return f"<context of step {self.step}: instance {self.instance}, chunk {self.chunk}, attempt {self.attempt}>"


def context() -> Context:
    r"""The context of the step that runs in this thread or asyncio task.

    Raises:
        NoContextError: No step runs here.

    Example:
        >>> @nb.step
        ... def fetch(order: Order) -> Order:
        ...     context = nb.context()
        ...     context.log.info("attempt %d", context.attempt)
        ...     return order
        >>> nb.testing.run_step(fetch, Order(id=1, price="2.50")).log
        'INFO nbbatch.step.fetch: attempt 1\n'
    """
    found = capture.buffer.get()
    if not isinstance(found, Context):
        raise NoContextError
    return found


def asking(marks: Slots) -> Context | None:
    """The attempt of an engine, by its file of marks, in which this is asked; None: in none."""
    found = capture.buffer.get()
    return found if isinstance(found, Context) and found._micro.marks is marks else None  # pyright: ignore[reportPrivateUsage]


def said(ctx: Context) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The log, the warnings and the errors survived of an attempt, secrets as stars."""
    params = ctx._micro.params  # pyright: ignore[reportPrivateUsage]
    hide, hides = params.hide, params.hides()
    log, survived = ctx.text(), ctx._recovered  # pyright: ignore[reportPrivateUsage]
    told = tuple(tidy(text, hides) for text in ctx.warnings())
    return hide(clean(log)) if log else log, told, tuple(map(hide, survived))

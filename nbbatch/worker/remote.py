"""Micro-batches for pools whose workers share no memory: the code travels as bytes, and is loaded once per process."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import secrets
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from nbbatch.base.clock import steady_us
from nbbatch.base.items import Items
from nbbatch.base.rows import Results
from nbbatch.definition import Node
from nbbatch.definition.listeners import Hooks
from nbbatch.values.attachments import Attachments, Carried, Files
from nbbatch.values.outside import SharedFolder, keep_fresh, told
from nbbatch.values.parameters import ParamsCodec
from nbbatch.worker import logs, received, travel
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import Cancellation, MicroBatch, StoredParams
from nbbatch.worker.error_text import clean
from nbbatch.worker.executors import threads
from nbbatch.worker.received import Missing
from nbbatch.worker.running import CALLED_OFF, UNKNOWN, Slots, slots_of
from nbbatch.worker.successors import Behind, Then
from nbbatch.worker.travel import dumps

log = logging.getLogger("nbbatch")


Code = tuple[Node, ParamsCodec, Hooks | None]
"""Of a step; the parameters', and listeners around attempts."""
MOST_CODE = 64
"""Code of ended instances is kept up to this, for others that have the same."""
KEPT_CODE = 256
"""Of so many steps a worker process keeps the code, and so what it has made under functools.cache."""
WRITERS = 4
"""Threads of a worker process that write big outputs to their folder: they mostly wait for the disk."""


class Line(Protocol):
    """How a worker that does not see the file of marks speaks with the engine."""

    def begin(self) -> bool:
        """Say that it begins; False: it shall not, as the engine wants its calls back."""
        ...

    def is_called_off(self) -> bool:
        """Whether nobody waits for the result any more."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """A micro-batch for a worker process: the code travels once per future as bytes and is loaded once per process."""

    call: str
    """Its name, which no other has."""
    instance: int
    digest: str
    code: bytes = field(repr=False)
    values: dict[str, str] = field(repr=False)
    """The files of the big values that the code refers to, by name."""
    is_local: bool
    data: bytes | str
    """The parameters; or the name of the value that has them, as they are big."""
    attachments: Files | str | None
    """Files on this machine; or the name of the value that has them, for another one."""
    secrets: dict[str, str] = field(repr=False)
    items: Items
    marks: tuple[str, bytes] | None
    """The file of marks, and the token of the opening that it belongs to."""
    slots: Sequence[int]
    folder: SharedFolder | None
    """Where big outputs go."""
    host: str
    """Of the process that owns the store: workers elsewhere are named with theirs."""
    levels: logs.Levels
    """Of its loggers."""
    is_timed: bool = False
    """Whether its time is limited, so that the engine has to know when it begins."""
    is_suspect: bool = False
    """Whether its worker was lost before, so that it has to be known for sure whether it began."""
    most_us: int = 2**62
    is_fail_fast: bool = False
    """As of the micro-batch, both."""
    brought: dict[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    """Values that its worker is expected to lack."""
    line: Line | None = None
    then: Sequence[Behind] = ()
    """What may follow at once, one after another."""


class Packer:
    """Packs the micro-batches of one engine."""

    def __init__(self) -> None:
        """Nothing is made before the first."""
        self.owner = secrets.token_hex(8)
        """Begins the names of its calls."""
        self._numbers = count(1)
        self._values = travel.Values()
        self._carried: dict[tuple[int, str], tuple[str, str]] = {}
        """What instances have, by what it is: the name and file of the value."""
        self._lacking = 0
        self._made = dict[Code, tuple[str, bytes, dict[str, str]]]()
        """Code that has travelled, and the files of its values by name; what was asked for last is last."""
        self._used = dict[int, set[Code]]()
        """By instances that have not ended."""

    def pack(self, micro: MicroBatch, *, is_local: bool, is_suspect: bool = False) -> Packed:
        """The micro-batch as it travels to another process.

        Raises:
            pickle.PicklingError, TypeError: The step's function refers to something that cannot travel.
        """
        digest, code, values = self._code(micro.instance, (micro.node, micro.params.codec, micro.hooks))
        values = values.copy()
        then = self._behind(micro, values)
        data = self._data(micro, values)
        marks = micro.marks.where if micro.marks and is_local else None
        attached = self._attached(micro, values, is_local=is_local)
        brought = dict[str, bytes]()
        if self._lacking and values:
            self._lacking -= 1
            brought = {name: Path(path).read_bytes() for name, path in values.items()}
        return Packed(
            f"{self.owner}-{next(self._numbers)}", micro.instance, digest, code, values, is_local, data, attached,
            micro.params.secrets, micro.items, marks, micro.slots, micro.values, socket.gethostname(), logs.levels(),
            micro.node.step.options.timeout is not None, is_suspect, micro.most_us, micro.is_fail_fast, brought,
            then=then,
        )  # fmt: skip

    def _behind(self, micro: MicroBatch, values: dict[str, str]) -> Sequence[Behind]:
        """What may follow a micro-batch at once, up to what cannot travel: that is told of its own step."""
        found = list[Behind]()
        with suppress(Exception):
            for each in micro.then.all() if micro.then else ():
                digest, code, more = self._code(micro.instance, (each.node, micro.params.codec, micro.hooks))
                values |= more
                found.append(Behind(each._replace(node=None, then=None), digest, code))
        return found

    def _data(self, micro: MicroBatch, values: dict[str, str]) -> bytes | str:
        """The parameters as they travel: big ones go to a worker once, as values do that code refers to."""
        data = micro.params.data
        if len(data) < travel.BIG:
            return data
        return self._carry(micro.instance, "parameters", lambda: pickle.PickleBuffer(data), values)

    def _attached(self, micro: MicroBatch, values: dict[str, str], *, is_local: bool) -> Files | str | None:
        found = micro.attachments
        if not isinstance(found, Attachments) or not found.names:
            return None
        if is_local:
            return found.files()
        return self._carry(micro.instance, "attachments", found.contents, values)

    def _carry(self, instance: int, what: str, give: Callable[[], Any], values: dict[str, str]) -> str:
        """The name of a value that an instance has, which travels with those of its code."""
        if (instance, what) not in self._carried:
            self._carried[instance, what] = self._values.add(give())
        name, values[name] = self._carried[instance, what]
        return name

    def forget(self, instance: int) -> None:
        """An instance has ended."""
        for key in [key for key in self._carried if key[0] == instance]:
            self._values.remove(self._carried.pop(key)[0])
        self._used.pop(instance, None)
        self._tidy()

    def _tidy(self) -> None:
        """Forget code of ended instances, the oldest first, while it is much: a table that changes is another value each time."""
        if len(self._made) <= MOST_CODE and not self._values.are_many():
            return
        used = set[Code]().union(*self._used.values())
        for key in [key for key in self._made if key not in used]:
            values = self._made.pop(key)[2]
            for name in values.keys() - {name for *_, kept in self._made.values() for name in kept}:
                self._values.remove(name)
            if len(self._made) <= MOST_CODE and not self._values.are_many():
                return

    def close(self) -> None:
        """The engine has ended."""
        self._values.close()

    def lacked(self) -> None:
        """A worker lacked values: the next micro-batch that needs any takes them along."""
        self._lacking += 1

    def _code(self, instance: int, key: Code) -> tuple[str, bytes, dict[str, str]]:
        self._used.setdefault(instance, set()).add(key)
        made = self._made[key] = self._made.pop(key, None) or self._make(*key)
        return made

    def _make(self, node: Node, codec: ParamsCodec, hooks: Hooks | None) -> tuple[str, bytes, dict[str, str]]:
        portable = hooks and _portable(hooks)
        functions: list[tuple[str, Callable[..., Any]]] = [(f"step {node.step.name!r}", node.step.function)]
        if portable is not None:
            functions += [("a listener", each) for each in (*portable.before, *portable.around, *portable.after)]
        try:
            code, values = self._values.packed((node, codec, portable), functions)
        except Exception as error:
            raise travel.with_its_place(error, [function for _, function in functions]) from None
        return hashlib.sha256(code).hexdigest(), code, values


def _portable(hooks: Hooks) -> Hooks:
    """Those that can travel: a listener that cannot must not keep the step from running."""
    return Hooks(
        tuple(filter(_travels, hooks.before)),
        tuple(filter(_travels, hooks.around)),
        tuple(filter(_travels, hooks.after)),
    )


def _travels(listener: Callable[..., Any]) -> bool:
    try:
        dumps(listener)
    except Exception as error:
        log.error("%r cannot travel to worker processes and is left out: %s", listener, error)  # noqa: TRY400 - its stack tells nothing
        return False
    return True


@lru_cache(maxsize=KEPT_CODE)
def _unpickled(digest: str, code: bytes) -> tuple[Code, list[Any]]:  # noqa: ARG001 - a cheap key to compare first
    return received.loads(code)


@lru_cache(maxsize=8)
def _params(digest: str, codec: ParamsCodec, data: bytes | str, secrets: tuple[tuple[str, str], ...]) -> StoredParams:  # noqa: ARG001 - as above
    """Once per instance and process, so that they are read once."""
    return StoredParams(codec, bytes(received.here(data)) if isinstance(data, str) else data, dict(secrets))


def run_packed(packed: Packed) -> Results | Missing | None:
    """Run a packed micro-batch in a worker process; None: it is given back undone."""
    if packed.line is not None and not packed.line.begin():
        return None
    marks = slots_of(*packed.marks) if packed.marks else None
    _mark_as_begun(marks, packed.slots)
    if packed.folder is not None:
        told(packed.folder.root)
        keep_fresh()
    try:
        node, codec, hooks = _code_of(packed)
        then = _chain(packed.then)
        params = _params(packed.digest, codec, packed.data, tuple(packed.secrets.items()))
        attached = packed.attachments
        attached = Carried(received.here(attached)) if isinstance(attached, str) else attached
    except received.Lacking:
        return Missing(received.lacking(packed.values))
    if packed.is_timed and marks and packed.slots and marks.begun_us[packed.slots[0]] != CALLED_OFF:
        marks.begun_us[packed.slots[0]] = steady_us()
    micro = MicroBatch(
        packed.instance, node, params, packed.items, cancellation=_Told(packed.line, marks, packed.slots), marks=marks,
        slots=packed.slots, attachments=attached, hooks=hooks, values=packed.folder, writers=_writers(os.getpid()),
        most_us=packed.most_us, is_fail_fast=packed.is_fail_fast, then=then,
    )  # fmt: skip
    with logs.collected(packed.levels) as kept:
        results = run_chunks(micro)
    _mark_as_begun(marks, packed.slots)  # its results are on their way
    name = _name(packed.host)
    return results.renamed(lambda _: name)._replace(logged=kept.all())


def _chain(behind: Sequence[Behind]) -> Then | None:
    """What may follow at once, with its code, up to what cannot be loaded here: that is told of its own step."""
    nodes = list[Node]()
    try:
        for each in behind:
            nodes.append(_unpickled(each.digest, each.code)[0][0])
    except received.Lacking:
        raise
    except Exception as error:
        log.debug("a step cannot follow at once: %r", error)
    found = None
    for each, node in reversed([*zip(behind, nodes, strict=False)]):
        found = each.then._replace(node=node, then=found)
    return found


def hand_on_logs(future: Future[Any]) -> None:
    """Have the loggers here handle what a worker's attempts have logged; before anything else is done with its results."""
    if not future.cancelled() and future.exception() is None and isinstance(results := future.result(), Results):
        logs.hand_on(results.logged)


def _code_of(packed: Packed) -> Code:
    if received.need(packed.values):  # code that refers to what was dropped keeps it
        _unpickled.cache_clear()
    for name, data in packed.brought.items():
        received.keep(name, data)
    if packed.is_local:
        received.find(packed.values)
    code, named = _unpickled(packed.digest, packed.code)
    received.publish(named)
    return code


@lru_cache(maxsize=1)
def _writers(pid: int) -> Executor:
    """Of a process; one that was forked has none of its parent's."""
    del pid
    return threads(WRITERS)


class _Told(Cancellation):
    """A flag that the engine sets from another process."""

    __slots__ = ("_line", "_marks", "_slots")

    def __init__(self, line: Line | None, marks: Slots | None, slots: Sequence[int]) -> None:
        super().__init__()
        self._line, self._marks, self._slots = line, marks, slots

    @property
    def cancelled(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - nobody sets it here
        if self._line is not None:
            return self._line.is_called_off()
        return self._marks is not None and any(self._marks.begun_us[slot] == CALLED_OFF for slot in self._slots)


def _name(owner: str) -> str:
    here = socket.gethostname()
    return f"process-{os.getpid()}" if here == owner else f"process-{os.getpid()}@{clean(here)}"


def _mark_as_begun(marks: Slots | None, slots: Sequence[int]) -> None:
    if marks and slots:
        marks.cells[slots[0]], marks.workers[slots[0]] = UNKNOWN, os.getpid()

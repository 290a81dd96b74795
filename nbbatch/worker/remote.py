"""Micro-batches for pools whose workers share no memory: the code travels as bytes, and is loaded once per process."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nbbatch.base.clock import steady_us
from nbbatch.base.rows import Item, Results
from nbbatch.definition import Node
from nbbatch.definition.listeners import Hooks
from nbbatch.values.attachments import Attachments, Files
from nbbatch.values.parameters import ParamsCodec
from nbbatch.worker import logs
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import MicroBatch, StoredParams
from nbbatch.worker.error_text import clean
from nbbatch.worker.running import UNKNOWN, Slots, slots_of
from nbbatch.worker.travel import dumps

log = logging.getLogger("nbbatch")


@dataclass(frozen=True, slots=True)
class Packed:
    """A micro-batch for a worker process: the code travels once per future as bytes and is loaded once per process."""

    instance: int
    digest: str
    code: bytes = field(repr=False)
    data: bytes
    attachments: Files | None
    secrets: dict[str, str] = field(repr=False)
    items: list[Item]
    marks: tuple[str, bytes] | None
    """The file of marks, and the token of the opening that it belongs to."""
    slots: Sequence[int]
    host: str
    """Of the process that owns the store: workers elsewhere are named with theirs."""
    levels: logs.Levels
    """Of its loggers."""


@lru_cache(maxsize=256)
def _pickled(node: Node, codec: ParamsCodec, hooks: Hooks | None) -> tuple[str, bytes]:
    code = dumps((node, codec, hooks and _portable(hooks)))
    return hashlib.sha256(code).hexdigest(), code


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


def pack(micro: MicroBatch) -> Packed:
    """The micro-batch as it travels to another process.

    Raises:
        pickle.PicklingError, TypeError: The step's function refers to something that cannot travel.
    """
    digest, code = _pickled(micro.node, micro.params.codec, micro.hooks)
    marks = micro.marks.where if micro.marks else None
    attached = micro.attachments.files() if isinstance(micro.attachments, Attachments) else None
    return Packed(
        micro.instance, digest, code, micro.params.data, attached, micro.params.secrets, micro.items, marks, micro.slots,
        socket.gethostname(), logs.levels(),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _unpickled(digest: str, code: bytes) -> tuple[Node, ParamsCodec, Hooks | None]:  # noqa: ARG001 - a cheap key to compare first
    return pickle.loads(code)  # noqa: S301 - made by pack() in the process that owns this pool


@lru_cache(maxsize=8)
def _params(digest: str, codec: ParamsCodec, data: bytes, secrets: tuple[tuple[str, str], ...]) -> StoredParams:  # noqa: ARG001 - as above
    """Once per instance and process, so that they are read once."""
    return StoredParams(codec, data, dict(secrets))


def run_packed(packed: Packed) -> Results:
    """Run a packed micro-batch in a worker process."""
    marks = slots_of(*packed.marks) if packed.marks else None
    _mark_as_begun(marks, packed.slots)
    node, codec, hooks = _unpickled(packed.digest, packed.code)
    params = _params(packed.digest, codec, packed.data, tuple(packed.secrets.items()))
    if marks and packed.slots and node.step.options.timeout is not None:
        marks.begun_us[packed.slots[0]] = steady_us()
    micro = MicroBatch(
        packed.instance, node, params, packed.items, marks=marks, slots=packed.slots,
        attachments=packed.attachments, hooks=hooks,
    )  # fmt: skip
    with logs.collected(packed.levels) as kept:
        results = run_chunks(micro)
    _mark_as_begun(marks, packed.slots)  # its results are on their way
    name = _name(packed.host)
    odd = {place: outcome._replace(worker=name) for place, outcome in results.odd.items()}
    return results._replace(worker=name, odd=odd, logged=kept.all())


def hand_on_logs(future: Future[Results]) -> None:
    """Have the loggers here handle what a worker's attempts have logged; before anything else is done with its results."""
    if not future.cancelled() and future.exception() is None:
        logs.hand_on(future.result().logged)


def _name(owner: str) -> str:
    here = socket.gethostname()
    return f"process-{os.getpid()}" if here == owner else f"process-{os.getpid()}@{clean(here)}"


def _mark_as_begun(marks: Slots | None, slots: Sequence[int]) -> None:
    if marks and slots:
        marks.cells[slots[0]], marks.workers[slots[0]] = UNKNOWN, os.getpid()

"""Run a stored chunk again, in this thread, with the current code. Nothing is stored."""

from __future__ import annotations

import importlib
import sys
from bdb import BdbQuit
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbbatch.base.display import plural
from nbbatch.base.errors import DefinitionError
from nbbatch.base.rows import Item, Outcome
from nbbatch.definition import Node
from nbbatch.definition.base_step import BaseStep
from nbbatch.heal.compare import Change, listed
from nbbatch.pictures.markup import pre, visible
from nbbatch.values.parameters import ParamsCodec
from nbbatch.worker import capture
from nbbatch.worker.attempt import run_item, run_item_async
from nbbatch.worker.context import MicroBatch, StoredParams
from nbbatch.worker.error_text import user_frames
from nbbatch.worker.executors import run_aside


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The result of `ChunkHandle.replay`.

    Attributes:
        outputs: What the step returns now, typed, in order; empty if it raised.
        error: What it raised; None if nothing.
        changes: The differences to the stored outputs, by field; empty if they are equal.
        log: What it printed and logged.
        seconds: Its duration.
        code: Fingerprint of the code that ran.
        stored: Number of stored outputs.
        traceback: Traceback of the error, secrets masked.
        message: Message of the error, secrets masked.

    Example:
        >>> replay = failed.chunk(10).replay()
        >>> replay.outputs, replay.error
        ([], ValueError("could not convert string to float: '2,50'"))
    """

    outputs: list[Any]
    error: BaseException | None
    changes: list[Change] = field(repr=False)
    log: str = field(repr=False)
    seconds: float = 0.0
    code: str = ""
    stored: int = 0
    traceback: str = field(default="", repr=False)
    message: str = field(default="", repr=False)

    @property
    def same(self) -> bool:
        """Whether the outputs equal the stored ones.

        Example:
            >>> run.chunk(2).replay().same
            True
        """
        return self.error is None and not self.changes

    def reraise(self) -> None:
        """Raise the step's error again, with the traceback of user code, for ``%debug``; does nothing without an error.

        Raises:
            BaseException: What the step raised.

        Example:
            >>> failed.chunk(10).replay().reraise()
            Traceback (most recent call last):
            ValueError: could not convert string to float: '2,50'
        """
        if self.error is not None:
            raise self.error.with_traceback(user_frames(self.error))

    def __str__(self) -> str:
        if self.error is not None:
            return visible(
                f"✗ raises {type(self.error).__name__}: {self.message} (code {self.code[:4]}; nothing stored)"
            )
        count = plural(len(self.outputs), "output")
        if self.same:
            return f"✓ {count}, as stored (code {self.code[:4]})"
        if not self.stored:
            return f"✓ {count}, none stored so far (code {self.code[:4]}; nothing stored)"
        lines = "".join(f"\n  {change}" for change in self.changes[:20])
        return visible(f"✓ {count}, not as stored (code {self.code[:4]}; nothing stored):{lines}")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return pre(str(self)) + (pre(self.traceback) if self.traceback else "")


def node_of(step: BaseStep, index: int) -> Node:
    """A step that stands alone, at the place it has in the instance's chain."""
    if not isinstance(step, BaseStep):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"replay() and debug() take a step, not {step!r}; put @nb.step above the function")
    return Node(
        index, step, (), (-1,), gated=False, weight=1.0, named=(), ways=(), code=step.fingerprint, takes_params=step.takes_params
    )  # fmt: skip


def replay(
    node: Node, item: Item, params: StoredParams, stored: list[bytes],
    inputs: Callable[[], Iterator[bytes]] | None = None, instance: int = 0, *, aloud: bool = False,
) -> Replay:  # fmt: skip
    """Run a step on a stored input.

    Args:
        node: With the step and its code; at index 0 the input is the parameters.
        item: The chunk's id and stored input.
        params: Of the instance.
        stored: The outputs it gave before.
        inputs: What a reduction reads.
        instance: Id of the instance, for ``nb.context()``.
        aloud: Let it print where it is run; then there is no log.
    """
    outcome, error = run(MicroBatch(instance, node, params, [item], inputs=inputs), aloud=aloud)
    given = outcome.outputs
    decode = node.output.decode if node.output else None
    return Replay(
        [decode(data) for data in given] if decode else [], error, [] if error else listed(stored, given), outcome.log,
        (outcome.ended_us - outcome.started_us) / 1e6, node.code, len(stored),
        *((outcome.failure.traceback, outcome.failure.message) if outcome.failure else ()),
    )  # fmt: skip


def run(micro: MicroBatch, *, aloud: bool = False) -> tuple[Outcome, BaseException | None]:
    """Run a micro-batch's one chunk in this thread; of an async step on an event loop of its own, in a thread beside."""
    item, cell = micro.items[0], micro.cell(0)
    with capture.held():
        capture.install()
        if micro.node.step.is_async:
            outcome, error = run_aside(run_item_async(micro, item, "", cell, aloud=aloud))
        else:
            outcome, error = run_item(micro, item, "", cell, aloud=aloud)
    if isinstance(error, KeyboardInterrupt):  # the person who looks into it wants to stop
        raise error
    return outcome, error


def params_of(
    step: BaseStep, index: int, data: bytes, live: StoredParams | None, secrets: Mapping[str, str] | None = None
) -> StoredParams:
    """The instance's parameters: those in memory with their secrets, or those stored, for the step's own type."""
    if live is not None:
        return live
    annotation = step.input_type if index == 0 else step.params_type
    return StoredParams(ParamsCodec(annotation if annotation is not None else Any), data, dict(secrets or {}))


def debug(found: Replay, post_mortem: Callable[[Any], None] | None = None) -> Replay:
    """Open the debugger where the step raised.

    Args:
        found: A replay; if it raised nothing, it is returned as it is.
        post_mortem: Takes a traceback; default: ``pdb.post_mortem``.
    """
    if found.error is None or isinstance(found.error, BdbQuit):  # the latter: somebody has left a debugger just now
        return found
    frames = user_frames(found.error)
    sys.last_type, sys.last_value, sys.last_traceback = type(found.error), found.error, frames
    (post_mortem or importlib.import_module("pdb").post_mortem)(frames)
    return found

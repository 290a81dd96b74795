"""What became of an attempt, as an `Outcome`; and where a value that a step gives goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbbatch.base.errors import FailChunk, FailJob, RetryLater, SkipChunk, ValueNotStorable
from nbbatch.base.rows import Outcome
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Node, To, judge
from nbbatch.worker.context import Context, said
from nbbatch.worker.error_text import failure
from nbbatch.worker.older_class import explained, of_older_class

_COMPLETED = ChunkStatus.COMPLETED


def routed(node: Node, encode: Callable[[Any], bytes], value: Any) -> tuple[bytes, tuple[int, ...]]:
    """The stored form of a value, and the steps that it goes to: those that accept it, or the one that ``nb.to`` names."""
    if type(value) is To:
        name, value = value.read()
        return encode(value), node.address(name, value)
    try:
        data = encode(value)
    except Exception:
        data = of_older_class(node.step, value)
    targets = node.route(value)
    if not targets:
        raise ValueNotStorable(f"no branch accepts this output of type {type(value).__name__}")
    return data, targets


def expect_nothing(name: str, value: object) -> None:
    """Raises TypeError where a step that gives nothing gave something."""
    if value is not None:
        raise TypeError(
            f"step {name!r} is declared -> None but returned {type(value).__name__}; "
            "declare the type it returns, or return nothing"
        )


def completed(
    ctx: Context, started: int, ended: int, worker: str, outputs: list[bytes], targets: list[int], staged: int = 0
) -> Outcome:
    """The outcome of an attempt that gave what it was to give."""
    handled = ctx._records  # pyright: ignore[reportPrivateUsage]
    records = len(outputs) + staged if handled is None else handled
    return Outcome(
        _COMPLETED, started, ended, outputs, targets, records, None, 0.0, False, *said(ctx), staged, worker
    )  # fmt: skip


def broken(ctx: Context, started: int, worker: str, error: BaseException) -> Outcome:
    """The outcome of an attempt that raised: a signal, an error that a retry may mend, or one that it cannot."""
    micro = ctx._micro  # pyright: ignore[reportPrivateUsage]
    delay, fails_job, skips, status = 0.0, False, False, ChunkStatus.FAILED
    if isinstance(error, RetryLater):
        status, delay = ChunkStatus.POLL_WAITING, error.seconds
    elif isinstance(error, FailJob):
        fails_job = True
    elif isinstance(error, SkipChunk):
        status = ChunkStatus.SKIPPED
    elif not isinstance(error, FailChunk):
        status, skips = judge(micro.node.step.options, error)
    failed = explained(micro.node, ctx._item.data, failure(error, micro.params.hides()))  # pyright: ignore[reportPrivateUsage]
    return Outcome(status, started, micro.now(), [], [], 0, failed, delay, fails_job, *said(ctx), 0, worker, skips)

"""Chunk counts → what may happen next. Pure functions.

Counts of one step are a list indexed by ``ChunkStatus.code`` (entry 0 is not used).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbbatch.base.states import CHUNK_ENDED, ChunkStatus, InstanceStatus
from nbbatch.definition import Kind, Node

Counts = list[int]

_UNENDED = [status.code for status in ChunkStatus if status not in CHUNK_ENDED]
_FAILED = ChunkStatus.FAILED.code
_TROUBLE = (ChunkStatus.ERRORED.code, ChunkStatus.FAILED.code)
_IN_PROGRESS = ChunkStatus.IN_PROGRESS.code
_TO_RUN = [status.code for status in (ChunkStatus.QUEUED, ChunkStatus.POLL_WAITING, ChunkStatus.ERRORED)]


def no_chunks() -> Counts:
    """Counts of a step that has no chunk yet."""
    return [0] * (len(ChunkStatus) + 1)


def has_open(counts: Counts) -> bool:
    """Whether a chunk of a step has not ended."""
    return any(counts[code] for code in _UNENDED)


def within_budget(counts: Counts, max_failed: float) -> bool:
    """Whether a step's failed chunks are within ``max_failed``: a number (int), or a fraction of its chunks (float).

    >>> counts = no_chunks(); counts[ChunkStatus.FAILED.code] = 2; counts[ChunkStatus.COMPLETED.code] = 98
    >>> within_budget(counts, 0), within_budget(counts, 2), within_budget(counts, 0.02), within_budget(counts, 0.01)
    (False, True, True, False)
    """
    allowed = max_failed * sum(counts) if isinstance(max_failed, float) else max_failed
    return counts[_FAILED] <= allowed


def done_steps(nodes: Sequence[Node], counts: Sequence[Counts]) -> list[bool]:
    """For each step whether it is wholly done: so are its sources, none of its chunks is open, failures in budget."""
    done: list[bool] = []
    for node, count in zip(nodes, counts, strict=True):
        ready = all(done[source] for source in node.sources)
        open_chunks = has_open(count)
        cancelled = count[ChunkStatus.CANCELLED.code]
        ended_well = not open_chunks and cancelled == 0 and within_budget(count, node.max_failed)
        has_run = node.step.kind is not Kind.REDUCTION or sum(count) > 0
        done.append(ready and ended_well and has_run)
    return done


def to_shut(nodes: Sequence[Node], counts: Sequence[Counts], opened: Sequence[bool]) -> list[int]:
    """Steps whose gate is open though a step before them has something to do again: after a retry or a rerun."""
    done = done_steps(nodes, counts)
    return [n.index for n in nodes if n.gated and opened[n.index] and not all(done[source] for source in n.sources)]


def over_budget(nodes: Sequence[Node], counts: Sequence[Counts]) -> Node | None:
    """The first step of which more chunks failed than it may; a share is judged once the steps before it are done."""
    exceeding = [node for node in nodes if not within_budget(counts[node.index], node.max_failed)]
    if not exceeding:
        return None
    done = done_steps(nodes, counts)
    settled = (n for n in exceeding if not isinstance(n.max_failed, float) or all(done[each] for each in n.sources))
    return next(settled, None)


def told(failed: Iterable[tuple[str, int]]) -> str:
    """How many chunks FAILED, by the names of their steps; empty: none did.

    >>> told([("price", 2), ("drop", 0), ("count", 1)])
    "2 failed in step 'price'; 1 failed in step 'count'"
    """
    return "; ".join(f"{count} failed in step {name!r}" for name, count in failed if count)


FAST = "(fail_fast)"
"""What the reason ends with of an instance that ends as soon as too many chunks have failed."""


def too_many(nodes: Sequence[Node], counts: Sequence[Counts]) -> str | None:
    """Why a job that fails fast ends, as the counts are; None: it goes on."""
    node = over_budget(nodes, counts)
    if node is None:
        return None
    options, found = node.step.options, counts[node.index]
    spent = options.max_skipped is not None and found[ChunkStatus.SKIPPED.code] >= options.max_skipped
    why = f" (max_skipped={options.max_skipped} is reached, so no more is skipped)" if spent else ""
    return (
        f"{found[_FAILED]} failed in step {node.step.name!r}{why}, more than max_failed={node.max_failed} allows {FAST}"
    )


def asks(node: Node, wish: int | None, *, has_secrets: bool) -> bool:
    """Whether chunks of a step are looked up, and may be found by others: none is that may know a secret.

    Args:
        node: The step.
        wish: What its instance was submitted with; see `InstanceRow.reuse`.
        has_secrets: Whether the parameters have any.
    """
    if node.step.options.always or (has_secrets and (node.takes_params or node.index == 0)):
        return False
    return node.reuse or bool(wish)


def reduction_of(nodes: Sequence[Node]) -> int:
    """Index of the reduction of a chain, or -1."""
    last = nodes[-1]
    return last.index if last.step.kind is Kind.REDUCTION else -1


@dataclass(frozen=True, slots=True)
class Decision:
    """What the counts of an instance allow now."""

    opens: tuple[int, ...]
    """Gated steps whose gate opens."""
    reduces: bool
    """The reduction's chunk is to be made."""
    status: InstanceStatus
    """The instance's state after that."""


def decide(
    nodes: Sequence[Node], counts: Sequence[Counts], opened: Sequence[bool], *, failing: bool, paused: bool
) -> Decision:
    """The gates that open, whether the reduction starts, and the instance's next state.

    Args:
        nodes: Steps in topological order.
        counts: Chunk counts per step.
        opened: Per step whether it has no gate, or an open one.
        failing: A FailJob was raised: nothing new starts.
        paused: pause() holds.
    """
    if failing:
        running = any(count[_IN_PROGRESS] for count in counts)
        return Decision((), False, _ongoing(nodes, counts, paused=paused) if running else InstanceStatus.FAILED)
    done = done_steps(nodes, counts)
    opens = tuple(
        node.index
        for node in nodes
        if node.gated and not opened[node.index] and all(done[source] for source in node.sources)
    )
    reduces = any(nodes[i].step.kind is Kind.REDUCTION and not sum(counts[i]) for i in opens)
    if reduces or any(counts[i][ChunkStatus.GATE_WAITING.code] for i in opens):
        return Decision(opens, reduces, _ongoing(nodes, counts, paused=paused))
    if all(done):
        return Decision(opens, False, InstanceStatus.COMPLETED)
    if any(
        _has_work(count, is_open or index in opens)
        for index, (count, is_open) in enumerate(zip(counts, opened, strict=True))
    ):
        return Decision(opens, False, _ongoing(nodes, counts, paused=paused))
    return Decision(opens, False, InstanceStatus.FAILED)


def _has_work(count: Counts, is_open: bool) -> bool:
    """Whether chunks of a step run, or will."""
    return count[_IN_PROGRESS] > 0 or (is_open and any(count[code] for code in _TO_RUN))


def _ongoing(nodes: Sequence[Node], counts: Sequence[Counts], *, paused: bool) -> InstanceStatus:
    if paused:
        return InstanceStatus.PAUSED
    if any(count[code] for count in counts for code in _TROUBLE):
        return InstanceStatus.ERRORED
    if nodes[-1].step.kind is Kind.REDUCTION and counts[-1][_IN_PROGRESS]:
        return InstanceStatus.FINALIZE
    return InstanceStatus.IN_PROGRESS


def no_such_chunk(instance: int, chunk: int) -> str:
    """What is said of a chunk that is not stored."""
    return (
        f"instance {instance} has no chunk {chunk}; run.chunks() lists those there are. One that only run.now() shows was begun "
        "together with the step before it, and is stored when its attempt ends"
    )

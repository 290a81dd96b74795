"""Chunk counts → what may happen next, progress, rate, ETA. Pure functions.

Counts of one step are a list indexed by ``ChunkStatus.code`` (entry 0 is not used).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbbatch.base.states import CHUNK_DONE, CHUNK_ENDED, ChunkStatus, InstanceStatus
from nbbatch.definition import Kind, Node

Counts = list[int]

_DONE = [status.code for status in CHUNK_DONE]
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


def progress(
    weights: Sequence[float], counts: Sequence[Counts], done: Sequence[bool], sources: Sequence[Sequence[int]] = ()
) -> float:
    """Weighted share of the work that is done, from 0 to 1: the sum over steps of weight · done chunks / chunks.

    A step without chunks counts as nothing until it is wholly done, then as all. While the steps before it
    (``sources``) go on, a step has only that share of its chunks, so its own share counts that much less. HAPI FHIR's batch2 takes completed
    over all chunks; the weights are Spring-like shares of the steps. The engine never lets the figure fall and keeps
    1.0 for an instance that COMPLETED.

    The worked example: six chunks, three of them COMPLETED.

    >>> counts = no_chunks()
    >>> counts[ChunkStatus.COMPLETED.code] = counts[ChunkStatus.IN_PROGRESS.code] = 3
    >>> progress([1.0], [counts], [False])
    0.5
    >>> after = no_chunks(); after[ChunkStatus.COMPLETED.code] = 3
    >>> progress([0.5, 0.5], [counts, after], [False, False], [(), (0,)])
    0.5
    """
    shares: list[float] = []
    for place, (count, is_done) in enumerate(zip(counts, done, strict=True)):
        total = sum(count)
        share = 1.0 if is_done else sum(count[code] for code in _DONE) / total if total else 0.0
        before = [shares[source] for source in sources[place]] if sources else []
        shares.append(share * (sum(before) / len(before) if before else 1.0))
    return min(1.0, sum(weight * share for weight, share in zip(weights, shares, strict=True)))


def share_done(nodes: Sequence[Node], counts: Sequence[Counts]) -> float:
    """`progress` of an instance that has not ended: below 1, whatever the counts say."""
    weights, sources = [node.weight for node in nodes], [node.sources for node in nodes]
    return min(progress(weights, counts, done_steps(nodes, counts), sources), 0.999)


def work(
    micros: Sequence[float], counts: Sequence[Counts], done: Sequence[bool], sources: Sequence[Sequence[int]]
) -> tuple[float, float]:
    """Work that is done and work in all, as far as it is known: chunks × the microseconds that one of their step takes.

    While the steps before a step go on, it is taken to get as many chunks more as they have still to give. Of a step without any
    time yet the mean of the others is taken.

    >>> counts = [no_chunks(), no_chunks()]
    >>> counts[0][ChunkStatus.COMPLETED.code], counts[0][ChunkStatus.QUEUED.code], counts[1][ChunkStatus.COMPLETED.code] = 5, 5, 2
    >>> work([1.0, 10.0], counts, [False, False], [(), (0,)])
    (25.0, 50.0)
    """
    known = [each for each in micros if each]
    usual = sum(known) / len(known) if known else 0.0
    ended: list[float] = []
    made = total = 0.0
    for place, (count, is_done) in enumerate(zip(counts, done, strict=True)):
        before = [ended[source] for source in sources[place]]
        come = 1.0 if is_done or not before else sum(before) / len(before)
        mine, each = sum(count[code] for code in _DONE), micros[place] or usual
        expected = max(sum(count) / come if come else 0.0, mine)
        ended.append(1.0 if is_done else mine / expected if expected else 0.0)
        made, total = made + mine * each, total + expected * each
    return made, total


def rate(records: int, worked_us: int) -> float | None:
    """Records per second of time worked; None while unknown.

    >>> round(rate(50, 600_000_000), 4)
    0.0833
    """
    return records / (worked_us / 1e6) if records and worked_us > 0 else None


def eta(made: float, before: float, total: float, worked_us: int, idle_us: int = 0) -> float | None:
    """Seconds left if work goes on as it went: time worked · work left / work done in it; None while unknown.

    It is unknown too once that time has passed since the latest end of an attempt (``idle_us``): slower work has begun.

    Args:
        made: Work that is done, as of `work`.
        before: Of it, what was done before the time that is counted.
        total: Work in all.
        worked_us: Microseconds worked.
        idle_us: Since the latest end.

    >>> eta(3, 0, 6, 600_000_000)
    600.0
    """
    if made <= before or worked_us <= 0:
        return None
    left = worked_us / 1e6 * (total - made) / (made - before)
    return None if idle_us > left * 1e6 else left

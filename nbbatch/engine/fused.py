"""Chains of quick steps: which steps follow at once in the worker of those before them, and how their chunks are born. On the dispatcher thread.

Such a chunk is claimed with the micro-batch whose outputs make it, before it has an id, and is stored together with its first attempt. So a
kill in between costs the attempts before it too: they run again, as if their results had been on their way. Hence only what may run again
follows, only what is known to be quick, and nothing where the instance was taken up again: then a chunk that kills its process is known by its claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from nbbatch.base.items import Fresh, Items
from nbbatch.base.rows import Followed, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Kind, Node
from nbbatch.engine.notifications import Notifications
from nbbatch.engine.pools import Lane
from nbbatch.engine.settle import Changes
from nbbatch.engine.state import MANY, MAX_BATCH, LiveInstance, LiveStep
from nbbatch.store.database import Store
from nbbatch.worker.chained import given, origins
from nbbatch.worker.context import MicroBatch
from nbbatch.worker.successors import Reserved, Then

IS_ON = True
"""Tests have all attempts be claimed one step after another."""
MOST_STEPS = 32
"""So many follow at once, one after another: each is called from within what ran the one before, and user code may recurse, too."""
_QUEUED, _IN_PROGRESS = ChunkStatus.QUEUED.code, ChunkStatus.IN_PROGRESS.code


class Chains:
    """Decides for one engine what follows at once."""

    def __init__(
        self, store: Store, lane_of: Callable[[Node], Lane], may_go_on: Callable[[], bool], notifications: Notifications
    ) -> None:
        """All arguments are the engine's.

        Args:
            store: Whose chunks they are.
            lane_of: Where a step's chunks run.
            may_go_on: Whether anything is to be begun; workers ask.
            notifications: Are told of steps that begin by it.
        """
        self._store, self._lane_of, self._may_go_on, self._notifications = store, lane_of, may_go_on, notifications

    def look(self, live: LiveInstance, step: LiveStep, lane: Lane) -> None:
        """Note how long it takes what may follow chunks of a step, so that no more of them travel together than the whole should take."""
        is_far = not lane.pool.shares_memory and _may_follow(live, lane)
        step.behind_us = sum(each.likely_us for each in self._successors(live, step, lane)) if is_far else 0.0

    def then(self, live: LiveInstance, step: LiveStep, items: Items, lane: Lane, changes: Changes) -> Then | None:
        """What may follow chunks that are claimed of a step, to run in a lane; None: nothing."""
        if not (isinstance(items, Fresh) and _may_follow(live, lane)):
            return None
        found = self._then(live, step, len(items), lane, self._successors(live, step, lane))
        if found is not None:
            changes.writes.append(self._store.promise_ids)
        return found

    def _then(
        self, live: LiveInstance, step: LiveStep, chunks: int, lane: Lane, behind: Iterator[LiveStep]
    ) -> Then | None:
        """What may follow some chunks of a step, of those behind it."""
        found = next(behind, None)
        if found is None:
            return None
        found.target_us = lane.target_us
        chunks = 1 if step.node.step.kind is Kind.MANY else chunks  # at most, of what follows
        least, most = _bounds(found, lane)
        take_ids = partial(self._take_ids, live, found, found.node)
        if not lane.pool.shares_memory:
            if chunks > 1 and not least <= chunks <= most:
                return None
            take_ids = Reserved(self._store.take_ids("chunk", chunks), chunks)
        return Then(found.node, take_ids, least, most, found.likely_us, self._then(live, found, chunks, lane, behind))

    def _successors(self, live: LiveInstance, step: LiveStep, lane: Lane) -> Iterator[LiveStep]:
        """The steps that may follow it at once, one after another."""
        for _ in range(MOST_STEPS):
            found = self._behind(live, step, lane)
            if found is None:
                return
            yield found
            step = found

    def _behind(self, live: LiveInstance, step: LiveStep, lane: Lane) -> LiveStep | None:
        """The only step that takes what another one gives, where nothing but the claim is between them; no chunk of it waits."""
        node = step.node
        if node.step.kind not in (Kind.ONE, Kind.MANY) or node.ways or len(node.targets) != 1 or not _is_free(step):
            return None
        found = live.steps[node.targets[0]]
        is_near = found.node.plain and not found.node.gated and _is_free(found) and self._lane_of(found.node) is lane
        is_quick = 0 < found.likely_us <= lane.target_us
        return found if is_near and is_quick and not found.counts[_QUEUED] else None

    def _take_ids(self, live: LiveInstance, step: LiveStep, node: Node, count: int) -> int | None:
        """On a worker's thread; None where a claim would not be made now, or not with this code."""
        if live.paused or live.failing is not None or step.node is not node or not self._may_go_on():
            return None
        return self._store.ids.take_promised(count)

    def begin(self, live: LiveInstance, step: LiveStep, changes: Changes) -> None:
        """Chunks of a step have followed at once: what was before them is done, then they began."""
        self._notifications.advanced(live, changes)
        self._notifications.began(live, step, changes)


def _may_follow(live: LiveInstance, lane: Lane) -> bool:
    """Not inline, where tests look between two steps; nor in worker processes here, whose marks tell which chunk of a claim they run.

    And not under listeners of attempts, nor once a worker or process has died under the instance.
    """
    pool = lane.pool
    is_meant = not (lane.is_async or pool.is_inline) if pool.shares_memory else not pool.is_local
    return IS_ON and is_meant and live.is_unharmed and live.job.listeners.hooks is None


def _is_free(step: LiveStep) -> bool:
    """Whether its attempts may start when they like, and be made again after a kill."""
    code = step.node.step
    return not (step.asks or code.options.limited or code.job or code.is_async) and code.options.max_attempts > 1


def _bounds(step: LiveStep, lane: Lane) -> tuple[int, int]:
    """How many chunks of a step may follow at once, beside one: as many as its micro-batches have."""
    if step.mean_us:
        return 1, step.size
    most = min(MAX_BATCH, int(lane.target_us / step.likely_us))
    return (MANY if lane.pool.is_local else 1), most  # elsewhere the way there takes longer than those of a few


def work_us(step: LiveStep, micro: MicroBatch) -> float:
    """How long a micro-batch may take with what follows, by what came before."""
    chunks, then, total = len(micro.items), micro.then, step.mean_us * len(micro.items)
    while then is not None:
        total, then = total + then.likely_us * min(chunks, then.most), then.then
    return total


def bear(
    live: LiveInstance, items: Items, results: Results, followed: Followed, session: int, changes: Changes
) -> None:
    """Outputs become chunks that were claimed as they were made: when the attempt ended that gave them."""
    chunks = followed.items
    parents, seqs, created = zip(*origins(items, results), strict=True)
    first = chunks[0].chunk
    changes.followed.extend(
        len(chunks), id=range(first, first + len(chunks)), instance=live.id, step=followed.step, parent=parents, seq=seqs,
        created_us=created, data=given(results), session=session,
    )  # fmt: skip
    _take_note(live.step_at(followed.step), chunks)


def _take_note(step: LiveStep, chunks: Items) -> None:
    """Of new chunks that run: no window is to hold them."""
    first, last = chunks[0].chunk, chunks[-1].chunk
    if not step.last:
        step.cursor = step.last = step.looked = first - 1
    if step.cursor == step.last:
        step.cursor = max(step.last, last)
    else:
        step.skipped.update(range(first, last + 1))
    step.last = max(step.last, last)
    step.counts[_IN_PROGRESS] += len(chunks)
    step.in_flight += len(chunks)

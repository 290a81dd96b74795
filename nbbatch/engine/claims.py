"""Which chunks a micro-batch takes, and how the claim is stored. On the dispatcher thread."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial

from nbbatch.base.items import Fresh, Items, runs
from nbbatch.base.rows import ClaimRow
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Kind
from nbbatch.engine.pools import Lane
from nbbatch.engine.settle import Changes
from nbbatch.engine.state import PAGE_CHUNKS, LiveInstance, LiveStep
from nbbatch.store.database import Store

WAYS = 3
"""What is handed over while all workers have work is not shared out below so many times the time that the way there takes."""
MOST_WINDOW = 1_000_000
"""Ids that are looked through at once."""
NO_LIMIT = 2**62
"""Where a window holds no more than a page may: sorting all of it costs a third of finding the first so many."""


class Claims:
    """Takes chunks of steps that a lane has room for."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        """Of one engine.

        Args:
            store: Where inputs are read.
            wake: Asks for another turn.
        """
        self._store = store
        self._wake = wake

    def take(self, live: LiveInstance, step: LiveStep, lane: Lane, changes: Changes) -> Items:
        """As many chunks as a micro-batch should have, with their inputs; none if none is there yet."""
        items = step.take(self._size(step, lane), partial(self._refill, live))
        return self._with_inputs(live, step, items, changes) if items else items

    def keep(self, live: LiveInstance, step: LiveStep, items: Items, changes: Changes, now: int) -> int | None:
        """Have a claim stored; of chunks that this very turn makes, in their own rows."""
        session, begins = self._store.session, items[0].chunk
        is_new = begins > self._store.durable_chunk and len(changes.chunks) > 0
        if is_new and begins >= changes.chunks.column("id")[0]:  # else it has followed at once, and is due again
            ids, sessions = changes.chunks.column("id"), changes.chunks.column("session")
            for first, total, _ in runs(items):
                place = bisect_left(ids, first)
                sessions[place : place + total] = [session] * total
            return None
        claim = self._store.take_ids("claim", 1) + 1
        index = step.node.index
        changes.claims.extend(
            ClaimRow(
                id=claim, session=session, instance=live.id, step=index, first=first, chunks=total, attempt=attempt,
                claimed_us=now,
            )
            for first, total, attempt in runs(items)
        )  # fmt: skip
        return claim

    def _size(self, step: LiveStep, lane: Lane) -> int:
        options, step.target_us = step.node.step.options, lane.target_us
        if options.paced or step.node.step.job is not None:
            return 1
        fair = -(-step.counts[ChunkStatus.QUEUED.code] // min(lane.workers, options.concurrency or lane.workers))
        if step.mean_us:
            # sharing less work than the way there takes is no gain; while all have work, more goes with less ado
            ways = 1 if lane.taken < lane.workers else WAYS
            fair = max(fair, int(ways * lane.round_us / step.mean_us))
        return max(1, min(step.likely_size, step.free(), max(fair, step.least())))

    def _refill(self, live: LiveInstance, step: LiveStep) -> None:
        """Read the next window of unclaimed chunks; windows double while they turn out empty, up to what takes little memory.

        What this very turn makes is not in the store yet: it is read in the next turn.
        """
        window = PAGE_CHUNKS
        while step.cursor < step.known_last and not step.ready:
            high = min(step.known_last, step.cursor + window, self._store.durable_chunk)
            if high <= step.cursor:
                self._wake()
                return
            is_fresh = step.cursor >= step.loaded_last and not step.looked > step.cursor
            query = "page" if is_fresh else "page_untouched"
            most = step.page_chunks()
            limit = most if most < high - step.cursor else NO_LIMIT
            ids, inputs = self._store.columns(query, live.id, step.node.index, step.cursor, high, limit)
            step.add_page(ids, inputs)
            step.cursor = high if len(ids) < most else ids[-1]
            window = min(2 * window, MOST_WINDOW)

    def _with_inputs(self, live: LiveInstance, step: LiveStep, items: Items, changes: Changes) -> Items:
        """Fetch the inputs of chunks that are claimed again, maybe in the very turn that stores them."""
        if isinstance(items, Fresh) and None not in items.inputs:
            return items
        missing = [item.chunk for item in items if item.data is None]
        if not missing or step.node.index == 0 or step.node.step.kind is Kind.REDUCTION:
            return items
        found = dict(self._store.rows("inputs_by_id", live.id, min(missing), max(missing), missing))
        if changes.followed:
            found |= zip(changes.followed.column("id"), changes.followed.column("data"), strict=True)
        return [item if item.data is not None else item._replace(data=found[item.chunk]) for item in items]

"""Outputs of a big fan-out become chunks a slice a turn, once its attempt has COMPLETED: chunks run meanwhile, and other instances go on.

All of them count from the attempt's end on. Only what is a chunk by now has an id, and can be claimed. A kill between two slices
loses nothing: what is staged of an attempt that COMPLETED is still to be moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import InstanceStatus
from nbbatch.definition import JobDefinition
from nbbatch.engine.decide import reduction_of
from nbbatch.engine.lives import Lives
from nbbatch.engine.settle import Changes
from nbbatch.engine.staged import Sealed, chunks_of
from nbbatch.engine.state import LiveInstance
from nbbatch.store.database import Store

SLICE_OUTPUTS = 50_000
"""Outputs that one transaction moves at most …"""
SLICE_BYTES = 16_000_000
"""… or about so many bytes."""

Key = tuple[int, int]
"""Chunk and attempt."""


def move_next(
    store: Store, lives: Lives, only: Sequence[LiveInstance] | None, changes: Changes, wake: Callable[[], None]
) -> None:
    """Have a slice be moved in a turn's transaction, of ``only`` some instances or (None) any, and another turn follow while any is left."""
    live = next((each for each in lives.moving.values() if only is None or each in only), None)
    if live is None:
        return
    if live.sealed:
        move_slice(store, live, changes)
    if not live.sealed:
        del lives.moving[live.id]
    changes.after.append(wake)


def move_slice(store: Store, live: LiveInstance, changes: Changes) -> None:
    """The next turn may claim what this one moves."""
    key, sealed = next(iter(live.sealed.items()))
    counts, until = _next(store, key, sealed)
    made = chunks_of(counts, live.reduction)
    before = store.take_ids("chunk", made)
    changes.writes.append(partial(_move, store, key, sealed._replace(until=until), before, live.reduction))
    for target in counts.keys() - {live.reduction}:
        live.steps[target].emit_many(before + 1, before + made, 0)
    if until < sealed.until:
        live.sealed[key] = sealed._replace(first=until)
    else:
        del live.sealed[key]
    live.changed = True  # there is more to claim; or its end, or its reduction, has waited for that


def move_all(store: Store, row: InstanceRow, job: JobDefinition[Any, Any]) -> None:
    """Within the open transaction: move what is left of an instance of a job, so that some of it can be chosen. If that was cancelled, it is."""
    for key, sealed in sealed_of(store, row.id).items():
        left = sealed
        while left.first < left.until:
            left = left._replace(first=_move_stored(store, row, job, key, left))


def move_cancelled(store: Store, row: InstanceRow, job: JobDefinition[Any, Any]) -> bool:
    """Move a slice of what is left of an instance that is CANCELLED. Returns whether there was any."""
    for key, sealed in sealed_of(store, row.id).items():
        with store.transaction():
            _move_stored(store, row, job, key, sealed)
        return True
    return False


def _move_stored(store: Store, row: InstanceRow, job: JobDefinition[Any, Any], key: Key, sealed: Sealed) -> int:
    """Within the open transaction: move a slice of an instance that is not live. Returns the number of the first output that is left."""
    counts, until = _next(store, key, sealed)
    reduction = reduction_of(job.nodes)
    made = chunks_of(counts, reduction)
    before = store.take_ids("chunk", made)
    _move(store, key, sealed._replace(until=until), before, reduction)
    if row.status is InstanceStatus.CANCELLED:
        assert row.ended_us is not None
        store.run("cancel_made", row.id, before + 1, before + made, store.take_ids("event", made), row.ended_us)
    return until


def sealed_of(store: Store, instance: int) -> dict[Key, Sealed]:
    """What is still to be moved of an instance."""
    return {(chunk, attempt): Sealed(*rest) for chunk, attempt, *rest in store.rows("sealed_of", instance)}


def _next(store: Store, key: Key, sealed: Sealed) -> tuple[dict[int, int], int]:
    """How many outputs of the next slice go to each step, and the number of the first after it."""
    rows = store.rows("next_slice", *key, sealed.first, SLICE_OUTPUTS, SLICE_BYTES)
    return {target: count for target, count, _ in rows}, max(until for *_, until in rows)


def _move(store: Store, key: Key, part: Sealed, before: int, reduction: int) -> None:
    store.run("move_staged_chunks", *key, part.first, part.until, before, reduction, part.ended_us)
    if reduction >= 0:
        store.run("move_staged_outputs", *key, part.first, part.until, reduction)
    store.run("unstage_slice", *key, part.first, part.until)

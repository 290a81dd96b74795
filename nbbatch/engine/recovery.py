"""What a restart needs: put orphans back, and rebuild in memory what the engine has to know of an instance.

The engine itself is driven by events; nothing here runs by the clock.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

from nbbatch.base.rows import EventRow, InstanceRow, Item, Waiting
from nbbatch.base.states import CHUNK_BY_CODE, ChunkStatus
from nbbatch.definition import JobDefinition
from nbbatch.engine.state import SUSPECT_ERRORS, Again, LiveInstance
from nbbatch.store.database import Store
from nbbatch.values.attachments import Attachments
from nbbatch.worker.context import StoredParams

DIED = "the process died while it ran"

_C = ChunkStatus


class Recovered(NamedTuple):
    """What `recover` did."""

    queued: int
    """Chunks that are QUEUED again."""
    lost: int
    """Those of them that had begun: each has a lost attempt on record."""
    failed: int
    """Chunks that are FAILED, as they were in progress at ``max_attempts`` crashes."""


def recover(store: Store, running: set[int], now_us: int) -> Recovered:
    """Put chunks that were claimed when an earlier process died back; those that ran, with the lost attempt on record.

    One transaction. Runs no user code and needs no job.

    Args:
        store: Just opened.
        running: Chunks that had begun and not ended (see `marks`); the others are QUEUED as if never claimed.
        now_us: The present.
    """
    with store.transaction():
        store.begin_session(now_us)
        claimed = store.rows("orphans", store.session)
        orphans = [orphan for orphan in claimed if orphan[2] in running]
        lost = _lost(store, orphans, now_us)
        store.release_claims(store.session)
    return Recovered(len(claimed) - lost, len(orphans) - lost, lost)


def _lost(store: Store, orphans: list[tuple[Any, ...]], now_us: int) -> int:
    """Put the lost attempts of some chunks on record within the open transaction.

    Returns:
        How many are FAILED by that.
    """
    failed = 0
    events: list[EventRow] = []
    details: list[tuple[Any, ...]] = []
    event = store.take_ids("event", 2 * len(orphans))
    for instance, step, chunk, attempt, claimed_us, errors, polls, most in orphans:
        is_last = errors + 1 >= most
        status = _C.FAILED if is_last else _C.ERRORED
        event += 1
        events.append(
            EventRow(event, chunk, instance, step, attempt, status.code, errors + 1, polls, claimed_us, now_us, None, 0, None, None)
        )  # fmt: skip
        text = f"{DIED} ({errors + 1} of at most {most} errors)"
        details.append((chunk, instance, attempt, event, "ProcessDied", text, None, None, None, None))
        if is_last:
            failed += 1
            continue
        event += 1
        events.append(
            EventRow(event, chunk, instance, step, attempt, _C.QUEUED.code, errors + 1, polls, None, now_us, None, 0, None, None)
        )  # fmt: skip
    store.events(events)
    if details:
        store.append("detail", details)
    return failed


def load(store: Store, job: JobDefinition[Any, Any], row: InstanceRow, params: StoredParams) -> LiveInstance:
    """Rebuild what the engine knows of an instance; no attempt of it may be running."""
    live = LiveInstance(job, row, params)
    opened = store.opened_steps(row.id)
    for step in live.steps:
        step.opened = step.opened or step.node.index in opened
    _load_counts(store, live)
    _load_troubled(store, live)
    names = [name for (name,) in store.rows("attachment_names", row.id)]
    live.attachments = attachments(store, row.id, names) if names else None
    for index, first in store.rows("first_unclaimed", row.id):
        live.steps[index].cursor = first - 1
    for step in (step for step in live.steps if step.node.step.options.bisect):
        ((step.split,),) = store.rows("count_split", row.id, step.node.index)
    return live


def attachments(store: Store, instance: int, names: list[str]) -> Attachments:
    """An instance's attachments, read from the store when a step asks for one."""

    def read(name: str) -> bytes:
        return store.fetch("attachment", instance, name)[0][0]

    return Attachments(names, read)


def _load_counts(store: Store, live: LiveInstance) -> None:
    for index, total, last in store.rows("count_chunks", live.id):
        step = live.step_at(index)
        step.counts[(_C.QUEUED if step.opened else _C.GATE_WAITING).code] = total
        step.cursor = step.last = step.loaded_last = last
    for index, completed, records, latest in store.rows("count_completed", live.id):
        counts = live.step_at(index).counts
        counts[_C.COMPLETED.code] = completed
        _take(live, index, completed)
        live.records += records
        live.latest_end_us = max(live.latest_end_us or 0, latest)


def _take(live: LiveInstance, index: int, count: int) -> None:
    step = live.steps[index]
    step.counts[(_C.QUEUED if step.opened else _C.GATE_WAITING).code] -= count


def _load_troubled(store: Store, live: LiveInstance) -> None:
    """Chunks that have a history and are not COMPLETED: count them, and queue again what is to run again."""
    rows = store.rows("last_events", live.id)
    for status_code, group in groupby(sorted(rows, key=lambda row: row[2]), key=lambda row: row[2]):
        status = CHUNK_BY_CODE[status_code]
        for chunk, index, _, attempt, errors, polls, due_us in group:
            step = live.step_at(index)
            counted = _C.QUEUED if status is _C.GATE_WAITING and step.opened else status
            _take(live, index, 1)
            step.counts[counted.code] += 1
            if counted in (_C.ERRORED, _C.POLL_WAITING):
                live.wait(Waiting(due_us, chunk, index, attempt, errors, polls, counted))
            elif counted in (_C.QUEUED, _C.GATE_WAITING):
                again = Again(Item(chunk, attempt + 1, None, errors, polls), counted.code)
                (step.suspects if errors >= SUSPECT_ERRORS else step.again).append(again)

"""What a restart needs: put orphans back, and rebuild in memory what the engine has to know of an instance.

The engine itself is driven by events; nothing here runs by the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from nbbatch.base.rows import DIED, DetailRow, EventRow, InstanceRow, Item, Waiting
from nbbatch.base.states import CHUNK_BY_CODE, ChunkStatus
from nbbatch.definition import JobDefinition
from nbbatch.engine.prospect import Worked
from nbbatch.engine.slices import sealed_of
from nbbatch.engine.staged import Staged
from nbbatch.engine.state import SUSPECT_ERRORS, Again, LiveInstance
from nbbatch.store.database import Store
from nbbatch.values.attachments import Attachments
from nbbatch.worker.context import StoredParams

MANY_IDS = 200_000
"""From so many ids of a step on, those that have ended are told at once; fewer are looked through in less time, as they are claimed."""

_C = ChunkStatus


class Recovered(NamedTuple):
    """What `recover` did."""

    queued: int
    """Chunks that are QUEUED again."""
    lost: int
    """Those of them that had begun: each has a lost attempt on record."""
    failed: int
    """Chunks that are FAILED, as they were in progress at ``max_attempts`` crashes."""


def recover(store: Store, running: Collection[int], now_us: int) -> Recovered:
    """Put chunks that were claimed when an earlier process died back; those that ran, with the lost attempt on record.

    One transaction. Runs no user code and needs no job.

    Args:
        store: Just opened.
        running: Chunks that had begun and not ended (see `running`); the others are QUEUED as if never claimed.
        now_us: The present.

    Raises:
        StoreUnreadable: The store is damaged; nothing was changed.
    """
    with store.opening():
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
    details: list[DetailRow] = []
    event = store.take_ids("event", 2 * len(orphans))
    for instance, step, chunk, attempt, claimed_us, errors, polls, most in orphans:
        is_last = errors + 1 >= most
        event += 2
        ended = EventRow(
            id=event - 1, chunk=chunk, instance=instance, step=step, attempt=attempt,
            status=(_C.FAILED if is_last else _C.ERRORED).code, errors=errors + 1, polls=polls, started_us=min(claimed_us, now_us),
            ended_us=now_us,
        )  # fmt: skip
        text = f"{DIED} ({errors + 1} of at most {most} errors)"
        details.append(
            DetailRow(
                chunk=chunk,
                instance=instance,
                attempt=attempt,
                event=ended.id,
                error_type="ProcessDied",
                error=text,
                head=text,
            )
        )
        events.append(ended)
        if is_last:
            failed += 1
        else:
            events.append(ended._replace(id=event, status=_C.QUEUED.code, started_us=None))
    store.events(events)
    if details:
        store.append("detail", details)
    return failed


def load(store: Store, job: JobDefinition[Any, Any], row: InstanceRow, params: StoredParams) -> LiveInstance:
    """Rebuild what the engine knows of an instance; no attempt of it may be running."""
    live = LiveInstance(job, row, params)
    _load_counts(store, live)
    _load_open(store, live)
    live.sealed = sealed_of(store, live.id)
    names = [name for (name,) in store.rows("attachment_names", row.id)]
    live.attachments = attachments(store, row.id, names) if names else None
    for step in live.steps:
        if step.node.step.options.max_wait is not None:
            step.polling = dict(store.rows("polling_since", row.id, step.node.index))
    if any(step.asks for step in live.steps):
        ((live.reused,),) = store.rows("reused", row.id)
    live.worked = Worked(live.records, live.counts)
    return live


def reload(store: Store, live: LiveInstance, running: Sequence[tuple[int, Item]]) -> None:
    """Bring what the engine knows of an instance back to what is stored, but for chunks that are claimed and still run.

    Args:
        store: Whose last transaction failed.
        live: The instance.
        running: Those chunks, each with the index of its step.
    """
    live.become(load(store, live.job, store.instance(live.id), live.params))
    live.hold(running)
    for chunk, attempt, step, count, size in store.rows("staged_of", live.id):
        if (chunk, attempt) not in live.sealed:
            staged = live.staged.setdefault((chunk, attempt), Staged())
            staged.counts[step] = count
            staged.bytes += size or 0


def restart(live: LiveInstance, row: InstanceRow, chunk: int) -> None:
    """Bring an instance that is not stored yet back to how it began, with its first chunk."""
    made = LiveInstance(live.job, row, live.params)
    made.steps[0].emit(chunk, [None])
    live.become(made)


def attachments(store: Store, instance: int, names: list[str]) -> Attachments:
    """An instance's attachments, read from the store when a step asks for one."""

    def read(name: str) -> bytes:
        return store.fetch("attachment", instance, name)[0][0]

    return Attachments(names, read)


def _load_counts(store: Store, live: LiveInstance) -> None:
    counts = store.counts(live.id)
    is_big = any(found.last - found.first >= MANY_IDS for found in counts)
    begins = dict(store.rows("first_open", live.id)) if is_big else None
    for found in counts:
        step = live.step_at(found.step)
        step.opened, step.counts = not found.shut, found.counts
        first = found.first if begins is None else max(found.first, begins.get(found.step, found.last + 1))
        step.cursor = step.looked = first - 1
        step.last, step.loaded_last = found.last, store.durable_chunk
        live.records += found.records
        live.latest_end_us = max(filter(None, (live.latest_end_us, found.latest_end_us)), default=None)


def _load_open(store: Store, live: LiveInstance) -> None:
    """Chunks that have a history and are to run again: have them claimed, now or when their time comes."""
    found = store.rows("to_run_again", live.id, store.opened_us, store.last_event_before)
    for chunk, index, code, attempt, errors, polls, due_us in found:
        step, status = live.step_at(index), CHUNK_BY_CODE[code]
        if status in (_C.ERRORED, _C.POLL_WAITING):
            live.wait(Waiting(due_us, chunk, index, attempt, errors, polls, status))
        else:
            step.queue(Again(Item(chunk, attempt + 1, None, errors, polls), code, errors >= SUSPECT_ERRORS))

"""Chosen chunks done again, with all that came of them. Runs on the dispatcher thread, in one transaction."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbbatch.base.errors import StateError
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import INSTANCE_ENDED, ChunkStatus, InstanceStatus
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine.changed_files import renew_inputs
from nbbatch.engine.commands import (
    attach,
    check_read,
    check_retained,
    check_shape,
    check_starts,
    known,
    let_go,
    params_of,
    retry,
    revive,
    share_stored,
    shut_gates,
    skip,
    store_cancelled,
    take_up,
)  # fmt: skip
from nbbatch.engine.decide import told, within_budget
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.slices import move_all, move_cancelled
from nbbatch.worker.context import StoredParams


def rerun(engine: Engine, instance: int, job: JobDefinition[Any, Any] | None, index: int, chunks: list[int]) -> int:
    """Supersede chunks of one step and their descendants, and make the chosen ones anew. Returns how many were chosen.

    Raises:
        StateError: The instance runs, its job is not known, or nothing was chosen.
        ShapeError: The job's chain differs from the one the instance began with.
    """
    revive(engine)
    row = engine.store.instance(instance)
    job = known(job or (engine.live[instance].job if instance in engine.live else None), row)
    check_shape(job, row)
    _check_idle(engine, row)
    if row.status in INSTANCE_ENDED:
        check_starts(engine, job, instance)
    if not chunks:
        raise StateError(
            f"instance {instance}: no chunk of step {job.nodes[index].step.name!r} is chosen; nothing was changed"
        )
    params = params_of(engine, job, row)
    check_read(row, params)  # before anything changes
    _replace(engine, row, job, index, chunks)
    _load_anew(engine, instance, job, params)
    return len(chunks)


def move_some(engine: Engine, instance: int, job: JobDefinition[Any, Any] | None) -> bool:
    """Have outputs of a cancelled instance that are no chunks yet become some, as many as one transaction takes. Returns whether there were any.

    Asked for until there are none, it leaves a `rerun` little to do at once, and others go on meanwhile.
    """
    row = engine.store.instance(instance)
    if row.status is not InstanceStatus.CANCELLED:
        return False
    job = known(job, row)
    check_retained(row)
    check_shape(job, row)
    return move_cancelled(engine.store, row, job)


def _load_anew(engine: Engine, instance: int, job: JobDefinition[Any, Any], params: StoredParams) -> None:
    """Have memory be what is stored now; whoever waits for the end, a chunk whose sub-job it is among them, goes on waiting."""
    before = engine.live.pop(instance, None)
    engine.reopened += 1
    made = attach(engine, job, engine.store.instance(instance), params)
    if before is not None:
        made.done = before.done


def _check_idle(engine: Engine, row: InstanceRow) -> None:
    live = engine.live.get(row.id)
    if live is not None and (live.in_flight or not live.paused):  # one that is not live does not run
        raise StateError(
            f"instance {row.id} is {row.status}; wait for its end, or pause() it and let running chunks finish, then rerun"
        )


def _replace(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], index: int, chunks: list[int]) -> None:
    now = engine.clock.now()
    with engine.store.transaction():
        _supersede(engine, row, job, index, chunks)
        shut_gates(engine, row, job, now)
        replaced = [child for (child,) in engine.store.rows("replaced_subjobs", row.id)]
        ended = [each for child in replaced for each in store_cancelled(engine, child)]
        if row.status is not InstanceStatus.IN_PROGRESS:
            share = share_stored(engine, row, job)
            engine.store.set_status(row.id, row.status, InstanceStatus.IN_PROGRESS, now, progress=share)
    let_go(engine, ended)


def _supersede(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], index: int, chunks: list[int]) -> None:
    """Within the open transaction."""
    now, store = engine.clock.now(), engine.store
    if row.retain != "all" and index > 0:  # the parameters are always kept
        _check_kept(engine, row, job, index, chunks)
    move_all(store, row, job)
    last = store.take_ids("chunk", len(chunks))
    store.run("supersede", row.id, chunks, now, last)
    store.run("copy_chunks", row.id, chunks, last, now)
    renew_inputs(engine, row.id, job, ((last + place, index) for place in range(1, len(chunks) + 1)))
    if job.nodes[index].step.kind is Kind.REDUCTION:
        store.set_report(row.id, b"")


def _check_kept(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], index: int, chunks: list[int]) -> None:
    """Raises StateError where what would be done again has no input left, or its reduction would miss the rest."""
    dropped = row.retain == "none" or (row.status is InstanceStatus.COMPLETED and job.report is not None)
    needed = job.nodes[index].step.kind is not Kind.REDUCTION
    if dropped or (needed and engine.store.rows("count_dropped", row.id, chunks) != [(0,)]):
        raise StateError(
            f"instance {row.id} was submitted with retain={row.retain!r}: data that step {job.nodes[index].step.name!r} "
            "needs to be done again are gone; submit it anew"
        )


def retry_all(engine: Engine, instance: int, job: JobDefinition[Any, Any] | None) -> int:
    """Retry what failed; of an ended instance, steps with ``always=True`` do what they had done anew. Returns how many failed."""
    return retry(engine, instance, job, first=partial(_always, engine))


def _always(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any]) -> None:
    for node in job.nodes:
        done = engine.store.rows("completed_of", row.id, node.index) if node.step.options.always else []
        if done:
            _supersede(engine, row, job, node.index, [chunk for (chunk,) in done])


def skip_all(
    engine: Engine, instance: int, job: JobDefinition[Any, Any] | None, chunks: list[int], reason: str
) -> None:
    """Skip chunks; if an ended instance has no more failed ones left than it may, it goes on to its end."""
    row = engine.store.instance(instance)
    if row.status is not InstanceStatus.FAILED or job is None:
        skip(engine, instance, chunks, reason)
        _set_reason(engine, row)
        return
    check_retained(row)
    check_shape(job, row)
    skip(engine, instance, chunks, reason)
    counts = [each.counts for each in engine.store.counts(instance)]
    if not _is_stopped(engine, row) and all(within_budget(counts[node.index], node.max_failed) for node in job.nodes):
        take_up(engine, row, job, [])  # it only goes on to its end: no start that `start_limit` counts
    else:
        _set_reason(engine, row)


def _is_stopped(engine: Engine, row: InstanceRow) -> bool:
    """Whether a FailJob ended it."""
    return engine.store.rows("count_stopped", row.id) != [(0,)]


def _set_reason(engine: Engine, row: InstanceRow) -> None:
    """Of an instance that stays FAILED though chunks that had failed were skipped: what is FAILED still."""
    if row.status is not InstanceStatus.FAILED or row.ended_us is None or _is_stopped(engine, row):
        return
    names = [name for (name,) in engine.store.rows("step_names", row.id)]
    text = told((names[each.step], each.counts[ChunkStatus.FAILED.code]) for each in engine.store.counts(row.id))
    with engine.store.transaction():
        engine.store.note(
            row.id, row.ended_us, None, text or "what failed was skipped by hand; run.retry(job) goes on to its end"
        )

"""Chosen chunks done again, with all that came of them. Runs on the dispatcher thread, in one transaction."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbbatch.base.errors import StateError
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine.commands import (
    attach,
    check_retained,
    check_shape,
    check_starts,
    known,
    params_of,
    retry,
    revive,
    skip,
    take_up,
)  # fmt: skip
from nbbatch.engine.decide import within_budget
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.recovery import load


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
    params.load()  # before anything changes: masked secrets have to be submitted again
    _replace(engine, row, job, index, chunks)
    engine.live.pop(instance, None)
    engine.reopened += 1
    attach(engine, job, engine.store.instance(instance), params)
    return len(chunks)


def _check_idle(engine: Engine, row: InstanceRow) -> None:
    live = engine.live.get(row.id)
    if row.status not in INSTANCE_ENDED and (live is None or live.in_flight or row.status is not InstanceStatus.PAUSED):
        raise StateError(
            f"instance {row.id} is {row.status}; wait for its end, or pause() it and let running chunks finish, then rerun"
        )


def _replace(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], index: int, chunks: list[int]) -> None:
    with engine.store.transaction():
        _supersede(engine, row, job, index, chunks)
        engine.store.set_status(row.id, row.status, InstanceStatus.IN_PROGRESS, engine.clock.now(), progress=0.0)


def _supersede(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], index: int, chunks: list[int]) -> None:
    """Within the open transaction."""
    now, store = engine.clock.now(), engine.store
    reduction = job.nodes[-1].index if job.report is not None else -1
    if row.retain != "all" and index > 0:  # the parameters are always kept
        _check_kept(engine, row, job, index, chunks)
    store.run("supersede", row.id, chunks, reduction, now)
    if index != reduction:
        _close_gates(engine, row, job, index, now)
    store.run("copy_chunks", row.id, chunks, store.take_ids("chunk", len(chunks)), now)
    if reduction >= 0 and row.report is not None:
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


def _close_gates(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], index: int, now: int) -> None:
    """Gates behind the step wait for it again."""
    opened = engine.store.opened_steps(row.id)
    behind = {index}
    for node in job.nodes:
        if behind & set(node.sources):
            behind.add(node.index)
            if node.index in opened:
                engine.store.close_gate(row.id, node.index, now)


def skip_all(
    engine: Engine, instance: int, job: JobDefinition[Any, Any] | None, chunks: list[int], reason: str
) -> None:
    """Skip chunks; if an ended instance has no more failed ones left than it may, it goes on to its end."""
    row = engine.store.instance(instance)
    if row.status is not InstanceStatus.FAILED or job is None:
        skip(engine, instance, chunks, reason)
        return
    check_retained(row)
    check_shape(job, row)
    skip(engine, instance, chunks, reason)
    steps = load(engine.store, job, row, params_of(engine, job, row)).steps
    stopped = engine.store.rows("count_stopped", instance) != [(0,)]
    if not stopped and all(within_budget(step.counts, step.node.max_failed) for step in steps):
        take_up(engine, row, job, [])  # it only goes on to its end: no start that `start_limit` counts

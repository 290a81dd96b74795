"""What a person may ask of an instance: submit, resume, pause, cancel, retry, skip, purge.

Every function runs on the dispatcher thread (through `Engine.call`), so it sees no half-done turn, and makes its
change in one transaction, guarded by the transition tables, before it touches what the engine keeps in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import ValidationError

from nbbatch.base import ranges
from nbbatch.base.errors import NotFoundError, ShapeError, StateError
from nbbatch.base.rows import ChunkRow, Ended, InstanceRow, Item, StepRow
from nbbatch.base.states import (
    CHUNK_BY_CODE,
    CHUNK_OPEN,
    CHUNK_TRANSITIONS,
    INSTANCE_ENDED,
    ChunkStatus,
    InstanceStatus,
)  # fmt: skip
from nbbatch.code.signature import type_name
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine import prospect
from nbbatch.engine.changed_files import renew_inputs
from nbbatch.engine.decide import no_such_chunk, to_shut
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.known import advice, current_form, meant, way_back
from nbbatch.engine.recovery import load, recover
from nbbatch.engine.settle import Changes
from nbbatch.engine.slices import move_all
from nbbatch.engine.state import Again, LiveInstance
from nbbatch.engine.updates import CallUpdate
from nbbatch.values.codec import problems
from nbbatch.worker.capture import hear_anew
from nbbatch.worker.context import StoredParams
from nbbatch.worker.error_text import clean

_FAILED, _QUEUED, _CANCELLED = ChunkStatus.FAILED, ChunkStatus.QUEUED, ChunkStatus.CANCELLED
_SKIPPABLE = [status for status in ChunkStatus if ChunkStatus.SKIPPED in CHUNK_TRANSITIONS[status]]
_I = InstanceStatus


def submit(
    engine: Engine,
    job: JobDefinition[Any, Any],
    params: StoredParams,
    identity: str,
    key: str | None,
    new: bool,
    retain: str,
    parent: int | None = None,
    reuse: int | None = None,
    *,
    check: Callable[[int], object] | None = None,
) -> tuple[int, Future[Ended] | None]:
    """Find the instance these parameters, this key or this chunk mean, or make one; have it run.

    Args:
        engine: Whose thread this is.
        job: What to do.
        params: Its parameters.
        identity: Digest of those that identify an instance.
        key: Names the instance.
        new: Make one in any case.
        retain: What is kept of it.
        parent: The chunk that submits it.
        reuse: What its chunks may take of others; see `InstanceRow.reuse`.
        check: Called with the id of an instance that was there already, before anything changes; may raise.

    Returns:
        Its id, and a future of its end if it is unfinished.
    """
    revive(engine)
    row = None if new else _existing(engine, job, params, identity, key, parent)
    if row is not None and check is not None:
        check(row.id)
    if row is None:
        live = _create(engine, job, params, identity, key, retain, parent, reuse)
    elif row.status in INSTANCE_ENDED:
        _keep_secrets(engine, row.id, params)
        return row.id, None
    else:
        live = attach(engine, job, row, params)
        live.identity = identity  # its parameters may have been stored in an older form
        engine.live.file(live)
    return live.id, live.done


def _existing(
    engine: Engine, job: JobDefinition[Any, Any], params: StoredParams, identity: str, key: str | None,
    parent: int | None,
) -> InstanceRow | None:  # fmt: skip
    if parent is not None:
        row = engine.store.by_parent(job.name, job.version, parent)
        named = f"chunk {parent} has submitted"
    elif key is not None:
        row = engine.store.by_key(job.name, job.version, key)
        named = f"key {key!r} of job {job.name!r} names"
    else:
        return _unfinished(engine, job, identity)
    if row is not None and row.identity != identity and meant(job, row.params)[0] != identity:
        difference = job.params.difference(row.params, params.data)
        raise StateError(f"{named} instance {row.id}, which has other parameters: {difference}. {advice(job, row)}")
    return row


def _unfinished(engine: Engine, job: JobDefinition[Any, Any], identity: str) -> InstanceRow | None:
    """The unfinished instance of equal parameters; the store is asked only where there may be one."""
    for live in engine.live.like(job, identity):
        if _means(live, job, identity):
            return engine.store.instance(live.id)
    if not engine.dormant:
        return None
    found = engine.store.unfinished(job.name, job.version, identity)
    return found or engine.known.of_older_form(engine.store, job, identity)


def _means(live: LiveInstance, job: JobDefinition[Any, Any], identity: str) -> bool:
    """Whether its parameters are equal, maybe only once they are read with the job's present type."""
    if live.identity == identity:
        return True
    return live.job.params.type != job.params.type and meant(job, live.params.data)[0] == identity


def _create(engine: Engine, job: JobDefinition[Any, Any], params: StoredParams, *more: Any) -> LiveInstance:
    """A new instance, stored by the coming turn, together with its first claim."""
    _check_version(engine, job)
    row, steps = born(engine, job, params, *more)
    chunk = engine.store.take_ids("chunk", 1) + 1
    changes = Changes(instances={row.id: (row, steps)})
    changes.chunks.append(ChunkRow(id=chunk, instance=row.id, step=0, parent=None, seq=0, created_us=row.created_us))
    live = LiveInstance(job, row, params)
    live.steps[0].emit(chunk, [None])
    live.is_unharmed = True
    _keep_secrets(engine, row.id, params)
    hear_anew()
    engine.live[row.id] = live
    engine.pending.append(CallUpdate(changes, (live, row, chunk), partial(engine.live.pop, row.id, None)))
    return live


def born(
    engine: Engine, job: JobDefinition[Any, Any], params: StoredParams, identity: str, key: str | None, retain: str,
    parent: int | None, reuse: int | None,
) -> tuple[InstanceRow, list[StepRow]]:  # fmt: skip
    """The rows of a new instance."""
    row = InstanceRow(
        id=engine.store.take_ids("instance", 1) + 1, job=job.name, version=job.version, key=key, parent=parent, identity=identity,
        params=params.data, shape=job.shape, retain=retain, status=_I.QUEUED, paused=False, failing=None,
        created_us=engine.clock.now(), started_us=None, ended_us=None, progress=0.0, error=None, report=None,
        reuse=reuse,
    )  # fmt: skip
    steps = [
        StepRow(
            step=node.index, name=node.step.name, kind=node.step.kind.value, gated=node.gated, weight=node.weight,
            max_attempts=node.step.options.max_attempts, input_media=node.input.media,
            output_media=node.output.media if node.output else None,
        )
        for node in job.nodes
    ]  # fmt: skip
    return row, steps


def attach(engine: Engine, job: JobDefinition[Any, Any], row: InstanceRow, params: StoredParams) -> LiveInstance:
    """Have an unfinished instance go on with this job's code.

    Raises:
        ShapeError: The chain differs from the one the instance began with.
    """
    check_shape(job, row)
    live = engine.live.get(row.id)
    if live is not None:
        if live.params.codec.type != params.codec.type:
            check_read(row, params)
        live.adopt(job, params)
        engine.live.file(live)
        _keep_secrets(engine, row.id, params)
        return live
    check_read(row, params)
    live = load(engine.store, job, row, params)
    _keep_secrets(engine, row.id, params)
    engine.stopped.pop(row.id, None)
    hear_anew()
    engine.live[row.id] = live
    engine.wake()
    return live


def check_read(row: InstanceRow, params: StoredParams) -> None:
    """Raises StateError where the parameters are not read: secrets are missing, or their type has changed."""
    try:
        params.load()
    except ValidationError as error:
        raise StateError(
            f"instance {row.id} has parameters that {type_name(params.codec.type)} does not read any more: {problems(error)}. "
            "Give new fields a default, bring them up to date by nb.Job(upgrade=), or submit them anew"
        ) from None


def _keep_secrets(engine: Engine, instance: int, params: StoredParams) -> None:
    if params.secrets:
        engine.secrets[instance] = params.secrets


def bring_secrets(engine: Engine, instance: int, job: JobDefinition[Any, Any] | None, params: StoredParams) -> None:
    """Take the secrets of an instance from parameters that are equal to its own in all else.

    Raises:
        StateError: They differ, or the instance's job is not known.
    """
    row = engine.store.instance(instance)
    if params.data != row.params:
        difference = known(job, row).params.difference(row.params, params.data)
        raise StateError(
            f"instance {instance} has other parameters: {difference}. params= brings secrets, no new values"
        )
    _keep_secrets(engine, instance, params)


def check_job(job: Any) -> JobDefinition[Any, Any]:
    """The job itself; raises TypeError where it is none: a chain, a step or a name, say."""
    if not isinstance(job, JobDefinition):
        raise TypeError(f"a job is needed here, not {job!r}; nb.Job(name, chain) makes one")
    return job  # pyright: ignore[reportUnknownVariableType]


def statuses(status: str | Iterable[str] | None, default: Iterable[str]) -> set[InstanceStatus]:
    """The states that somebody names: one, several, or by default."""
    return {
        InstanceStatus(each)
        for each in ([status] if isinstance(status, str) else default if status is None else status)
    }


def check_name(job: Any, row: InstanceRow) -> None:
    """Raises StateError where an instance is of another job."""
    check_job(job)
    if row.job != job.name:
        raise StateError(f"instance {row.id} is of job {row.job!r}, not of {job.name!r}")


def check_shape(job: JobDefinition[Any, Any], row: InstanceRow) -> None:
    """Raises as `check_name`, and ShapeError where the job's chain is not the one an instance began with."""
    check_name(job, row)
    if row.shape != job.shape:
        raise ShapeError(
            f"instance {row.id} of job {row.job!r} version {row.version} began with another chain: "
            f"{job.shape_difference(row.shape)}. {way_back(job, row)}"
        )


def _check_version(engine: Engine, job: JobDefinition[Any, Any]) -> None:
    """Raises ShapeError where the job's version has instances of another chain: what is called the same is the same."""
    instance, shape = engine.known.shape(engine.store, job) or (0, job.shape)
    if shape != job.shape:
        raise ShapeError(
            f"job {job.name!r} version {job.version} had another chain in instance {instance}: {job.shape_difference(shape)}. "
            "Raise the job's version=, or bring the old chain back; nothing was stored"
        )


def resume_job(engine: Engine, job: JobDefinition[Any, Any]) -> list[int]:
    """Have every unfinished instance of this job and version go on. Returns their ids, oldest first."""
    revive(engine)
    rows = engine.store.unfinished_of(job.name, job.version)
    for row in rows:
        attach(engine, job, row, params_of(engine, job, row))
    return [row.id for row in rows]


def params_of(engine: Engine, job: JobDefinition[Any, Any], row: InstanceRow) -> StoredParams:
    """The stored parameters of an instance, as a job reads them."""
    live = engine.live.get(row.id)
    if live and live.params.codec.type == job.params.type:
        return live.params
    stored = row.params
    with suppress(ValidationError):  # `attach` says so
        stored = current_form(job, stored)
    return StoredParams(job.params, stored, engine.secrets.get(row.id, {}))


def revive(engine: Engine) -> None:
    """After the store could not be written: take up again what is durable."""
    if engine.error is None:
        return
    now = engine.clock.now()
    recover(engine.store, set(), now)
    engine.error = None
    engine.dormant = True
    engine.known.forget()
    engine.reopened += 1


def pause(engine: Engine, instance: int) -> None:
    """Claim nothing more of an instance; running chunks finish and are recorded."""
    row = engine.store.instance(instance)
    if row.status is _I.PAUSED:
        return
    _set_status(engine, row, _I.PAUSED)
    if live := engine.live.get(instance):
        live.worked.stop(engine.clock.now())


def resume(engine: Engine, instance: int, job: JobDefinition[Any, Any] | None, mended: bool) -> None:
    """Let a paused instance, or one whose job was unknown in this process, go on; with a job's code where it is mended."""
    revive(engine)
    row = engine.store.instance(instance)
    if row.status in INSTANCE_ENDED:
        raise StateError(f"instance {instance} ended {row.status}; retry() takes a FAILED or CANCELLED one up again")
    live = engine.live.get(instance)
    if live is None or mended:
        job = known(job, row)
        live = attach(engine, job, row, params_of(engine, job, row))
    if row.status is _I.PAUSED:
        started = row.started_us is not None
        _set_status(engine, row, _I.IN_PROGRESS if started else _I.QUEUED)
    engine.wake()


def known(job: JobDefinition[Any, Any] | None, row: InstanceRow) -> JobDefinition[Any, Any]:
    if job is None and row.status in INSTANCE_ENDED:
        raise StateError(
            f"instance {row.id} ended {row.status}, and its job {row.job!r} version {row.version} is not known here: "
            "give it, as in run.retry(job)"
        )
    if job is None:
        raise StateError(
            f"instance {row.id} waits for its job {row.job!r} version {row.version}: define it in this notebook and "
            "call batch.resume(job), or submit it with the same parameters"
        )
    return job


def _set_status(engine: Engine, row: InstanceRow, status: InstanceStatus) -> None:
    with engine.store.transaction():
        engine.store.set_status(row.id, row.status, status, engine.clock.now())
    if live := engine.live.get(row.id):
        live.status = status
        live.changed = True


def cancel(engine: Engine, instance: int) -> bool:
    """End an instance and the sub-jobs it waits for now; False if it has ended already."""
    row = engine.store.instance(instance)
    if row.status in INSTANCE_ENDED:
        return False
    with engine.store.transaction():
        ended = store_cancelled(engine, instance)
    let_go(engine, ended)
    return True


def store_cancelled(engine: Engine, instance: int) -> list[int]:
    """Within the open transaction: end an instance and the sub-jobs it waits for. Returns their ids, for `let_go`."""
    ids = [instance, *(child for (child,) in engine.store.rows("subjobs", instance))]
    now = engine.clock.now()
    for row in map(engine.store.instance, ids):
        engine.store.change_chunks(row.id, _CANCELLED, CHUNK_OPEN, now)
        share = engine.live[row.id].progress() if row.id in engine.live else row.progress
        engine.store.set_status(row.id, row.status, _I.CANCELLED, now, progress=share)
        if row.retain != "all":
            engine.store.drop_data(row.id, row.retain, finished=False)
    return ids


def let_go(engine: Engine, cancelled: list[int]) -> None:
    """Forget instances whose end as CANCELLED is stored, and tell who waits."""
    engine.known.forget()  # ends of those that are not live too
    for instance in cancelled:
        live = engine.live.pop(instance, None)
        if live is not None:
            live.cancellation.cancelled = True
            live.status = _I.CANCELLED
            engine.end(live, _I.CANCELLED)


def retry(
    engine: Engine, instance: int, job: JobDefinition[Any, Any] | None, chunks: list[int] | None = None,
    first: Callable[[InstanceRow, JobDefinition[Any, Any]], object] | None = None,
) -> int:  # fmt: skip
    """Queue the failed (and, of a cancelled instance, the cancelled) chunks again, or some of them. Returns how many.

    Args:
        engine: Whose thread this is.
        instance: Its id.
        job: With the code to run; None: the one that is known.
        chunks: Which of them; None: all.
        first: What else is stored in the same transaction when an ended instance is taken up again.
    """
    revive(engine)
    row = engine.store.instance(instance)
    live = engine.live.get(instance)
    if row.status is _I.COMPLETED and engine.store.rows("count_standing", instance, [_FAILED.code]) == [(0,)]:
        raise StateError(f"instance {instance} ended COMPLETED; there is nothing to retry")
    if row.status in INSTANCE_ENDED:
        job = known(job, row)
        check_starts(engine, job, instance)
        return take_up(engine, row, job, chunks, first)
    job = known(job or (live.job if live else None), row)
    live = attach(engine, job, row, params_of(engine, job, row))
    return _retry_failed(engine, live, row, chunks)


def check_starts(engine: Engine, job: JobDefinition[Any, Any], instance: int) -> None:
    """Raises StateError where an ended instance may not be started again."""
    ((ends,),) = engine.store.rows("ends", instance)
    if job.start_limit is not None and ends >= job.start_limit:
        raise StateError(
            f"instance {instance} was started {ends} times, and job {job.name!r} has start_limit={job.start_limit}; "
            "raise it, or submit the parameters anew (new=True)"
        )


def take_up(
    engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], chunks: list[int] | None = None,
    first: Callable[[InstanceRow, JobDefinition[Any, Any]], object] | None = None,
) -> int:  # fmt: skip
    """Have an ended instance go on; arguments and result as of `retry`."""
    check_retained(row)
    check_shape(job, row)
    params = params_of(engine, job, row)
    engine.reopened += 1
    check_read(row, params)  # before anything changes
    now = engine.clock.now()
    with engine.store.transaction():
        if first is not None:
            first(row, job)
        if chunks is not None:
            move_all(engine.store, row, job)
        again = engine.store.change_chunks(row.id, _QUEUED, (_FAILED, _CANCELLED), now, chunks=chunks)
        renew_inputs(engine, row.id, job, ((chunk, index) for chunk, index, *_ in again))
        shut_gates(engine, row, job, now)
        share = share_stored(engine, row, job) if row.status is _I.COMPLETED else None
        engine.store.set_status(row.id, row.status, _I.IN_PROGRESS, now, progress=share)
    attach(engine, job, engine.store.instance(row.id), params)
    return len(again)


def share_stored(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any]) -> float:
    """The share of its work that is done, as the open transaction has it: where it falls, as what was done is done again."""
    counts = [each.counts for each in engine.store.counts(row.id)]
    return prospect.share(prospect.steps_work(job.nodes, counts, [prospect.Times()] * len(counts), [0] * len(counts)))


def check_retained(row: InstanceRow) -> None:
    """Raises StateError where an ended instance has nothing left to go on with."""
    if row.retain == "none":
        raise StateError(f"instance {row.id} was submitted with retain='none': its inputs are gone; submit it anew")


def shut_gates(engine: Engine, row: InstanceRow, job: JobDefinition[Any, Any], now: int) -> list[int]:
    """Within the open transaction, after chunks were queued again: gates shut that have steps before them to wait for.

    A reduction behind such a gate is made anew, whatever became of it: its report would lack what is done again.

    Returns:
        Indices of the steps.
    """
    store = engine.store
    found = store.counts(row.id)
    shut = to_shut(job.nodes, [each.counts for each in found], [not each.shut for each in found])
    for index in shut:
        store.close_gate(row.id, index, now)
        if job.nodes[index].step.kind is Kind.REDUCTION:
            reductions = [chunk for (chunk,) in store.rows("chunks_of_step", row.id, index)]
            store.change_chunks(row.id, _CANCELLED, (ChunkStatus.IN_PROGRESS,), now, chunks=reductions)
            store.run("supersede", row.id, reductions, now, None)
            store.set_report(row.id, b"")
    return shut


def _retry_failed(engine: Engine, live: LiveInstance, row: InstanceRow, chunks: list[int] | None) -> int:
    """Failed chunks of an instance that still runs."""
    now = engine.clock.now()
    with engine.store.transaction():
        rows = engine.store.change_chunks(live.id, _QUEUED, (_FAILED,), now, chunks=chunks)
        renew_inputs(engine, live.id, live.job, ((chunk, index) for chunk, index, *_ in rows))
        shut = shut_gates(engine, row, live.job, now)
    for chunk, index, attempt, polls in rows:
        step = live.step_at(index)
        step.counts[_FAILED.code] -= 1
        step.counts[step.waits] += 1
        step.queue(Again(Item(chunk, attempt + 1, None, 0, polls), _QUEUED.code))
    for index in shut:
        if index == live.reduction:
            engine.abandon(live.steps[index])
        live.shut(index)
    live.changed = True
    engine.wake()
    return len(rows)


def skip(engine: Engine, instance: int, chunks: list[int], reason: str) -> None:
    """Leave chunks out that do not run, with a reason."""
    reason = ranges.text(clean(reason) if isinstance(reason, str) else reason, "the reason")  # pyright: ignore[reportUnnecessaryIsInstance]
    if not reason.strip():
        raise ValueError(
            'skip() needs a reason that is not blank, such as "duplicate of row 7"; it is kept with the chunk'
        )
    row = engine.store.instance(instance)
    found = {chunk: rest for chunk, *rest in engine.store.rows("some_standing", instance, chunks)}
    for chunk in chunks:
        if chunk not in found:
            raise NotFoundError(no_such_chunk(row.id, chunk))
        _, code, kind = found[chunk]
        _check_skippable(chunk, CHUNK_BY_CODE[code])
        if kind == Kind.REDUCTION.value:
            raise StateError(f"a reduction of instance {instance} cannot be skipped: it gives the report; retry() it")
    with engine.store.transaction():
        engine.store.change_chunks(
            instance, ChunkStatus.SKIPPED, _SKIPPABLE, engine.clock.now(), chunks=chunks, reason=reason
        )
        children = [
            child for (child,) in engine.store.rows("subjobs_of_chunks", chunks)
        ]  # nobody waits for them any more
        ended = [each for child in children for each in store_cancelled(engine, child)]
    let_go(engine, ended)
    live = engine.live.get(instance)
    if live is not None:
        _forget(live, found)
    engine.wake()


def _check_skippable(chunk: int, status: ChunkStatus) -> None:
    if status is ChunkStatus.IN_PROGRESS:  # that table has it for steps that skip themselves
        raise StateError(f"chunk {chunk} is IN_PROGRESS and cannot be skipped; wait for its end, or cancel() the run")
    if ChunkStatus.SKIPPED not in CHUNK_TRANSITIONS[status]:
        raise StateError(f"chunk {chunk} is {status} and cannot be skipped: it has ended")


def _forget(live: LiveInstance, found: Mapping[int, Sequence[Any]]) -> None:
    """Take skipped chunks, each with its step and the state it was in, out of everything that would claim them."""
    for chunk, (index, code, *_) in found.items():
        step = live.step_at(index)
        step.counts[code] -= 1
        step.counts[ChunkStatus.SKIPPED.code] += 1
        step.skipped.add(chunk)
    for step in live.steps:
        step.drop(found)
    live.waiting[:] = sorted(waiting for waiting in live.waiting if waiting.chunk not in found)
    live.changed = True


def finished(engine: Engine, instance: int) -> Future[Ended]:
    """A future of the instance's end, done if it has ended.

    Raises:
        StateError: It is unfinished and its job is not known in this process, so that it would never end.
    """
    live = engine.live.get(instance)
    if live is not None:
        return live.done
    row = engine.store.instance(instance)
    if row.status not in INSTANCE_ENDED:
        if engine.error is not None:
            raise engine.error
        if instance in engine.stopped:
            raise engine.stopped[instance]
        known(None, row)
    end: Future[Ended] = Future()
    end.set_result(Ended(row.status, row.report))
    return end


def purge(
    engine: Engine, before_us: int, statuses: Collection[InstanceStatus], job: str | None, keep_last: int | None
) -> int:
    """Remove instances that ended before a time, but for the last ones of each job, with all their rows; returns how many."""
    codes = [status.code for status in statuses]
    gone = [instance for (instance,) in engine.store.rows("ended_before", before_us, codes, job, keep_last)]
    if not gone:
        return 0
    with engine.store.transaction():
        engine.store.purge(gone)
    engine.known.forget()
    for instance in gone:
        engine.secrets.pop(instance, None)
    engine.leftovers.end(*gone)
    engine.store.checkpoint(purged=True)
    return len(gone)


def look_again(engine: Engine) -> dict[str, int]:
    """Have all waits, gates and ends be decided once more. Returns counts of instances and chunks in memory."""
    lives = list(engine.live.values())
    for live in lives:
        live.changed = True
    engine.wake()
    return {
        "instances": len(lives),
        "in_progress": sum(live.in_flight for live in lives),
        "waiting": sum(len(live.waiting) for live in lives),
    }

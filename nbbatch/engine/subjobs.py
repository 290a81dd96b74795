"""Steps that are jobs: a chunk that submits an instance of its own and waits for its end without holding a worker.

    claim ──▶ a worker checks the parameters ──▶ instance, found by the chunk ┄┄ ends ┄┄▶ a worker gives its report on

The chunk is IN_PROGRESS meanwhile, but no thread is: its future is set by the end of the sub-instance. The column ``parent`` makes
the pair survive anything: after a kill the chunk is claimed again, finds its sub-instance and waits on. One that has
FAILED or was CANCELLED before the chunk was queued again (a retry) is taken up again.
"""

from __future__ import annotations

from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from nbbatch.base.errors import JobCancelled, JobFailed
from nbbatch.base.rows import Ended, Results
from nbbatch.base.states import InstanceStatus
from nbbatch.definition import JobDefinition
from nbbatch.engine import commands
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.rerun import retry_all
from nbbatch.engine.submit import Extras, read_extras, submit
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import MicroBatch, StoredParams

Answer = Future[Results]


def launch(engine: Engine, micro: MicroBatch) -> Answer:
    """Have a chunk's sub-instance run; the future is set when that has ended. On the dispatcher thread."""
    answer: Answer = Future()
    engine.aside(_begin, engine, micro, answer)
    return answer


def _begin(engine: Engine, micro: MicroBatch, answer: Answer) -> None:
    """On a worker, for a moment: user code may check the parameters."""
    started = micro.now()
    try:
        child, end = engine.call(_start, engine, micro, *_checked(micro))
    except BaseException as error:
        _settle(micro, answer, started, partial(_fail, error))
        return
    wake = partial(_on_end, engine, micro, answer, started, child)
    if end is None:
        wake(None)
    else:
        end.add_done_callback(wake)


def _checked(micro: MicroBatch) -> tuple[Extras | None, JobDefinition[Any, Any], StoredParams, str]:
    step, (item,) = micro.node.step, micro.items
    job: Any = step.job
    assert item.data is not None or micro.node.index == 0
    valid = job.check(micro.node.input.decode(item.data) if item.data is not None else micro.params.load())
    brought = read_extras(job, valid)
    return (
        brought,
        job,
        StoredParams.of(job.params, valid),
        job.params.identity(valid),
    )


def _start(
    engine: Engine,
    micro: MicroBatch,
    brought: Extras | None,
    job: JobDefinition[Any, Any],
    params: StoredParams,
    identity: str,
) -> tuple[int, Future[Ended] | None]:
    """The chunk's sub-instance, made, found or taken up again, and its end if it has not come. On the dispatcher thread."""
    chunk = micro.items[0].chunk
    if micro.cancellation.cancelled:
        raise JobCancelled(micro.instance, f"instance {micro.instance} was cancelled")
    above = engine.store.instance(micro.instance)
    reuse = -1 if above.reuse and above.reuse > 0 else above.reuse  # of one instance: its sub-jobs are others
    child, end = submit(engine, brought, job, params, identity, None, False, above.retain, chunk, reuse)
    if end is None and _is_to_retry(engine, child, chunk):
        retry_all(engine, child, job)
        end = commands.finished(engine, child)
    return child, end


def _is_to_retry(engine: Engine, child: int, chunk: int) -> bool:
    """Whether the sub-instance had ended without success before its chunk was queued again: that chunk knows of it."""
    if engine.store.instance(child).status is InstanceStatus.COMPLETED:
        return False
    ((ended, queued),) = engine.store.rows("subjob_order", child, chunk)
    return queued is not None and ended < queued


def _on_end(
    engine: Engine, micro: MicroBatch, answer: Answer, started: int, child: int, end: Future[Any] | None
) -> None:
    if end is not None and (end.cancelled() or end.exception() is not None):
        answer.cancel()  # the batch is closing, or has stopped: the chunk is claimed again later
        return
    engine.aside(_settle, micro, answer, started, partial(_report, engine, micro.node.step.job, child))


def _report(engine: Engine, job: Any, child: int) -> Any:
    """What the sub-instance gave."""
    row = engine.store.stored_instance(child)
    if row.status is InstanceStatus.COMPLETED:
        return None if job.report is None else job.report.decode(row.report)
    made = JobCancelled if row.status is InstanceStatus.CANCELLED else JobFailed
    why = f": {row.error}" if row.error else ""
    raise made(
        child,
        f"sub-job {job.name!r}, which is instance {child}, ended {row.status}{why}. "
        f"batch.instance({child}).errors() lists why; a retry of this chunk takes it up again",
    )


def _fail(error: BaseException) -> NoReturn:
    raise error


def _settle(micro: MicroBatch, answer: Answer, started: int, result: Any) -> None:
    """Give on what the sub-instance gave as if the step had returned it. On a worker: routing may be user code."""
    if not answer.set_running_or_notify_cancel():
        return

    def give(*_: object) -> Any:
        return result()

    step = copy(micro.node.step)
    step.function = give
    results = run_chunks(
        replace(micro, node=replace(micro.node, step=step), hooks=None)
    )  # it has waited outside of them
    odd = {place: outcome._replace(started_us=started) for place, outcome in results.odd.items()}
    answer.set_result(results._replace(started_us=[started] * len(results.started_us), odd=odd))

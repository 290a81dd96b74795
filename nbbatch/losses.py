"""Results of micro-batches that gave none: the worker was lost, the time is over, or no worker could take them."""

from __future__ import annotations

from concurrent.futures import Future

from nbbatch.records import Failure, Outcome, Results
from nbbatch.states import ChunkStatus
from nbbatch.worker import Task, clean


def lost(task: Task, error: BaseException, now: int) -> Results:
    """The worker died, or its pool broke, while it had the chunks."""
    text = f"the worker was lost while it ran this: {error}"
    return _all(task, ChunkStatus.ERRORED, Failure(type(error).__name__, clean(text), ""), now)


def timed_out(task: Task, now: int) -> Results:
    """The attempt took longer than ``timeout=`` allows."""
    step = task.node.step
    text = f"step {step.name!r} took longer than its timeout of {step.options.timeout:g} s"
    return _all(task, ChunkStatus.ERRORED, Failure("TimeoutError", text, ""), now)


def failed_future(task: Task, error: Exception, now: int) -> Future[Results]:
    """A task that could not be handed over fails its chunks, with the reason."""
    text = f"step {task.node.step.name!r} could not be handed to the executor: {error}"
    future: Future[Results] = Future()
    future.set_result(_all(task, ChunkStatus.FAILED, Failure(type(error).__name__, clean(text), ""), now))
    return future


def _all(task: Task, status: ChunkStatus, failure: Failure, now: int) -> Results:
    """One outcome for every chunk of a micro-batch."""
    outcome = Outcome(status, now, now, [], [], failure=failure)
    return Results([], [], [], "", dict.fromkeys(range(len(task.items)), outcome))

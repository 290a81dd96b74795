"""Results of micro-batches that gave none: the worker was lost, the time is over, or no worker could take them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from math import isqrt
from typing import Any, NamedTuple

from nbbatch.base.items import Items
from nbbatch.base.rows import UNREAD, WORKER_LOST, EventRow, Failure, Item, Outcome, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import judge
from nbbatch.engine.settle import Changes
from nbbatch.engine.state import Again, LiveStep
from nbbatch.worker.adapters import Refused
from nbbatch.worker.context import MicroBatch
from nbbatch.worker.error_text import clean
from nbbatch.worker.running import UNKNOWN, Marks

VAIN = 4
"""Pools lost in a row before any chunk had begun, from which on their chunks are charged: else workers that die as they
start would be tried for ever."""


FEWEST = 9
"""Chunks that are tried in lots, when any of them may have killed a worker; fewer are tried one by one."""
MOST_CALLED_OFF = 20
"""Attempts of a chunk that are called off by somebody else, from which on they are charged: a step that cancels itself would go on for ever."""


class Fate(NamedTuple):
    """What becomes of the chunks of a micro-batch whose worker was lost."""

    charged: Items
    put_back: Items = []  # noqa: RUF012 - nobody changes it
    """They had begun, maybe for no fault of theirs: on record, uncharged."""
    unclaimed: Items = []  # noqa: RUF012
    """Queued again as if never claimed."""
    alone: bool = False
    """Whether any of them may be why: each is to run where it harms no other."""


class Losses:
    """Which chunks lose an attempt when a worker dies: those that had begun, and are known to be why."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._vain = 0
        self._last: BaseException | None = None

    def judge(self, micro: MicroBatch, error: BaseException | None, *, begun: bool | None, is_suspect: bool) -> Fate:
        """What becomes of the chunks of a lost micro-batch.

        Args:
            micro: That was lost.
            error: With which; what a pool had may end with one and the same.
            begun: Whether its worker had begun it; None: not known.
            is_suspect: Whether it is a chunk that was lost before, and ran alone.
        """
        if self._marks.where is not None and micro.slots:
            return self._by_marks(micro, error)
        return self._by_trial(micro.items, begun=begun is not False, is_suspect=is_suspect)

    def _by_marks(self, micro: MicroBatch, error: BaseException | None) -> Fate:
        begun = {self._marks.cells[slot] for slot in micro.slots} - {0}
        if begun:
            self._vain = 0
        elif error is not self._last:
            self._vain += 1
        self._last = error
        if self._vain > VAIN or (begun == {UNKNOWN} and len(micro.items) == 1):
            return Fate(micro.items)
        charged = [item for item in micro.items if item.chunk in begun]
        return Fate(charged, [], [item for item in micro.items if item.chunk not in begun], alone=UNKNOWN in begun)

    def _by_trial(self, items: Items, *, begun: bool, is_suspect: bool) -> Fate:
        """A chunk that ran by itself, on a worker that may have run others: it is charged once that happens again, with no other suspect about."""
        if len(items) > 1:
            return Fate([], unclaimed=items, alone=True)
        if begun and not is_suspect:
            return Fate([], put_back=items, alone=True)
        self._vain = 0 if begun else self._vain + is_suspect
        return Fate(items) if begun or self._vain > VAIN else Fate([], unclaimed=items, alone=True)


def submitted(executor: Executor, function: Callable[..., Any], call: Any) -> Future[Any]:
    """Hand a micro-batch to an executor; one that takes none gives a future that says so."""
    try:
        return executor.submit(function, call)
    except (
        Exception
    ) as error:  # it is shut down or broken, or can start no worker: whatever it says, no chunk is to blame
        future: Future[Any] = Future()
        future.set_exception(Refused(f"{type(error).__name__}: {error}"))
        return future


def put_back(
    step: LiveStep, micro: MicroBatch, items: Items, changes: Changes, event: int, span_us: tuple[int, int], *,
    alone: bool = False,
) -> None:  # fmt: skip
    """Attempts that ended for no fault of theirs, as their workers were killed or they were called off: on record, with no error counted.

    Args:
        step: Theirs.
        micro: They were in.
        items: That had begun.
        changes: Take the rows.
        event: The id before the first of theirs.
        span_us: From when to when they ran.
        alone: Whether each is to run apart, as it may have killed its worker.
    """
    started, ended = span_us
    index, code = micro.node.index, micro.node.code
    for place, item in enumerate(items, 1):
        changes.events.append(
            EventRow(
                id=event + place, chunk=item.chunk, instance=micro.instance, step=index, attempt=item.attempt,
                status=ChunkStatus.QUEUED.code, errors=item.errors, polls=item.polls, started_us=started, ended_us=ended, code=code,
            )
        )  # fmt: skip
    requeue(step, [item._replace(attempt=item.attempt + 1) for item in items], alone=alone)


def without_called_off(items: Items, results: Results, *, failed_too: bool = False) -> tuple[Items, Items, Results]:
    """Those of a micro-batch that ran to an end, those that somebody else called off meanwhile, and the results of the former.

    With ``failed_too`` an error that would be retried counts as called off: the process is told to end.

    >>> off = Outcome(ChunkStatus.QUEUED, 0, 0, [], [])
    >>> [item.chunk for item in without_called_off([Item(7, 1, None), Item(8, 1, None)], Results([1], [2], [], "", {0: off}))[1]]
    [7]
    """
    if not results.odd:
        return items, [], results
    ends = {ChunkStatus.QUEUED, ChunkStatus.ERRORED} if failed_too else {ChunkStatus.QUEUED}
    off = {place for place, outcome in results.odd.items() if outcome.status in ends}
    tired = {place for place in off if _put_back_before(items[place]) >= MOST_CALLED_OFF}
    odd = {place: o._replace(status=ChunkStatus.ERRORED) if place in tired else o for place, o in results.odd.items()}
    off -= tired
    kept = [place for place in range(len(items)) if place not in off]
    odd = {new: odd[old] for new, old in enumerate(kept) if old in odd}
    return [items[place] for place in kept], [items[place] for place in sorted(off)], results._replace(odd=odd)


def _put_back_before(item: Item) -> int:
    return item.attempt - 1 - item.errors - item.polls


def requeue(step: LiveStep, items: Items, *, alone: bool = False) -> None:
    """Have chunks claimed again whose claim came to nothing.

    Args:
        step: Theirs.
        items: The chunks.
        alone: Whether any of them may have killed its worker. One is then to run as a suspect, and many in lots, as long as they are
            many: who kills a worker is found in three rounds, and nobody else is charged.
    """
    queued = step.waits
    step.in_flight -= len(items)
    step.counts[ChunkStatus.IN_PROGRESS.code] -= len(items)
    step.counts[queued] += len(items)
    again = [Again(item, queued) for item in items]
    if alone and len(again) >= FEWEST:
        length = isqrt(len(again))
        step.lots.extend(tuple(again[at : at + length]) for at in range(0, len(again), length))
        return
    for each in again:
        if each.item.chunk == step.suspect_in_flight:
            step.suspect_in_flight = None
            step.suspects.append(each)
        else:
            (step.suspects if alone else step.again).append(each)


def lost(micro: MicroBatch, error: BaseException, now: int, lasted_us: int) -> Results:
    """The worker died, or its pool broke, while it had the chunks."""
    text = f"{WORKER_LOST}: {error}"
    return _all(micro, ChunkStatus.ERRORED, Failure(type(error).__name__, clean(text), ""), now, lasted_us)


def unanswered(micro: MicroBatch, answer: object, now: int) -> Results:
    """The worker lives and gave an error, or something else, in place of results: nothing of it is the step's own, whose errors are results."""
    text = f"{UNREAD} {micro.node.step.name!r} came from its worker"
    if isinstance(answer, BaseException):
        text += (
            f", which could not read the step's code, types or parameters: {answer}. What they import, read and ask for must be "
            "there in the worker too; steps in threads run where they were defined"
        )
    else:
        text += f": the executor's future gave {type(answer).__name__}, not what the call that was submitted returns"
    name = (type(answer) if isinstance(answer, BaseException) else TypeError).__name__
    return _all(micro, ChunkStatus.ERRORED, Failure(name, clean(text), ""), now, 0)


def timed_out(micro: MicroBatch, now: int, lasted_us: int) -> Results:
    """The attempt took longer than ``timeout=`` allows."""
    step = micro.node.step
    text = f"step {step.name!r} took longer than its timeout of {step.options.timeout:g} s"
    status, skips = judge(step.options, TimeoutError())
    return _all(micro, status, Failure("TimeoutError", text, ""), now, lasted_us, skips_last=skips)


def failed_future(micro: MicroBatch, error: Exception, now: int) -> Future[Results]:
    """A micro-batch that could not be handed over fails its chunks, with the reason."""
    text = f"step {micro.node.step.name!r} could not be handed to the executor: {error}"
    future: Future[Results] = Future()
    future.set_result(_all(micro, ChunkStatus.FAILED, Failure(type(error).__name__, clean(text), ""), now, 0))
    return future


def _all(
    micro: MicroBatch, status: ChunkStatus, failure: Failure, now: int, lasted_us: int, *, skips_last: bool = False
) -> Results:
    """One outcome for every chunk of a micro-batch, which ran so long until now."""
    outcome = Outcome(status, now - lasted_us, now, [], [], failure=failure, skips_last=skips_last)
    return Results([], [], [], "", dict.fromkeys(range(len(micro.items)), outcome))

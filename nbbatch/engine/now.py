"""What runs now, and since when: read from the marks of workers, at no cost to them. Any thread may ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from nbbatch.base.items import among
from nbbatch.base.rows import Item
from nbbatch.definition import Kind
from nbbatch.engine.limits import Flight
from nbbatch.engine.pools import Lanes
from nbbatch.engine.state import LiveInstance
from nbbatch.values.views import brief
from nbbatch.worker.context import MicroBatch

CLUSTER = "cluster"
"""Who works elsewhere, until the result tells the worker's name."""


class Running(NamedTuple):
    """An attempt that a worker is busy with."""

    step: int
    """Place of its step in the chain."""
    chunk: int
    attempt: int
    worker: str
    """As its attempt will be stored with, or `CLUSTER`; "" of a sub-job, which holds no worker."""
    started_us: int
    given: int | None
    """Outputs so far, of a step that gives many."""
    input: str
    """What it works on, in a few words; "" of the reduction, which works on all there is."""


class Now:
    """What the workers of one engine are busy with."""

    def __init__(self, flights: set[Flight], lanes: Lanes, now: Callable[[], int], steady: Callable[[], int]) -> None:
        """Of one engine.

        Args:
            flights: What is under way, as the dispatcher keeps it.
            lanes: Where it runs.
            now: Gives the present.
            steady: Gives it by the clock that nobody sets.
        """
        self._flights, self._lanes, self._now, self._steady = flights, lanes, now, steady

    def running(self, live: LiveInstance) -> list[Running]:
        """The attempts of an instance that run now, in order of their workers' names."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        mine = [flight for flight in tuple(self._flights) if flight.live.id == live.id]
        found = [each for flight in mine for each in _of(flight, names, self._now(), self._steady())]
        return sorted(found, key=lambda each: (len(each.worker), each.worker, each.started_us))

    def workers(self, live: LiveInstance) -> int:
        """How many attempts of an instance may run at once, beside its reduction."""
        return self._lanes.workers(live.job.nodes)


def _of(flight: Flight, names: dict[int | None, str], now_us: int, steady_us: int) -> Iterator[Running]:
    step = flight.step.node.step
    if step.job is not None:  # no worker has it, and its chunk waits
        since = now_us - (steady_us - flight.launched_us)
        yield from (_running(flight.micro, item, "", since, None) for item in flight.micro.items)
        return
    if not flight.lane.pool.is_local:
        yield from _elsewhere(flight, now_us, steady_us)
        return
    for micro in (flight.micro, *flight.micro.trail):
        yield from _marked(flight, micro, names, now_us)


def _marked(flight: Flight, micro: MicroBatch, names: dict[int | None, str], now_us: int) -> Iterator[Running]:
    """What workers of this machine say that they run of a micro-batch."""
    marks = micro.marks
    if marks is None:
        return
    at = {slot: marks.cells[slot] for slot in micro.slots}
    items = among(micro.items, set(at.values()))
    for slot, chunk in at.items():
        item = items.get(chunk)  # none while a worker is between two
        if item is None:
            continue
        worker, given = marks.workers[slot], marks.given[slot] if micro.node.step.kind is Kind.MANY else None
        name = names.get(worker, "") if flight.lane.pool.shares_memory else f"process-{worker}"
        yield _running(micro, item, flight.lane.worker(name), min(marks.since_us[slot] or now_us, now_us), given)


def _elsewhere(flight: Flight, now_us: int, steady_us: int) -> Iterator[Running]:
    """What a cluster is known to be busy with: its workers tell when they begin a call of limited time, but not at which of its chunks they are."""
    begun = flight.begun_us()
    if begun and len(flight.micro.items) == 1:
        since = now_us - (steady_us - begun)
        yield _running(flight.micro, flight.micro.items[0], flight.lane.worker(CLUSTER), since, None)


def _running(micro: MicroBatch, item: Item, worker: str, since_us: int, given: int | None) -> Running:
    node = micro.node
    data = item.data
    if node.index == 0 and node.step.kind is not Kind.REDUCTION:
        data = micro.params.data
    return Running(node.index, item.chunk, item.attempt, worker, since_us, given, "" if data is None else brief(data))

"""Micro-batches under way, and the pace at which those of limited steps may start and must end.

Belongs to the dispatcher thread. A step without ``concurrency=``, ``rate=`` or ``timeout=`` costs one look at its options.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from typing import Any

from nbbatch.lanes import Lane
from nbbatch.limits import Deadlines, Limits
from nbbatch.live import LiveInstance, LiveStep
from nbbatch.worker import MicroBatch


@dataclass(slots=True, eq=False)
class Flight:
    """A micro-batch that is claimed and not settled."""

    live: LiveInstance
    step: LiveStep
    lane: Lane
    micro: MicroBatch
    claim: int | None
    """Its id; None: stored with the chunks themselves."""
    work_us: float
    """How long it takes, by what came before."""
    future: Future[Any] | None = None
    """Gives `Results`."""
    is_sacrificed: bool = False
    """Its worker was killed, because another one of its pool had to be."""

    def is_lost(self) -> bool:
        """Whether its worker died, or its pool broke."""
        future = self.future
        if future is None or future.cancelled():
            return False
        error = future.exception()
        return isinstance(error, BrokenExecutor) or (self.is_sacrificed and error is not None)

    def call_off(self) -> None:
        """Cancel it where that is possible: before it has begun, or on an event loop."""
        if self.future is not None:
            self.future.cancel()

    @property
    def name(self) -> tuple[str, str]:
        """Of the job and the step."""
        return self.live.job.name, self.step.node.step.name


class Pace:
    """What limited steps may do now, over all instances of a batch."""

    def __init__(self, flights: set[Flight]) -> None:
        self.limits = Limits()
        self._flights = flights
        self._expired: set[Flight] = set()
        """Past their time, with their workers still taken."""
        self._deadlines = Deadlines[Flight]()

    def has_room(self, live: LiveInstance, step: LiveStep, lane: Lane, now: int) -> bool:
        """Whether a lane and the step's limits let more of it be claimed."""
        options = step.node.step.options
        if not options.limited:
            return lane.has_room(step)
        has_worker = lane.taken < lane.workers if options.paced else lane.has_room(step)
        return has_worker and self.room(live, step, now) > 0

    def room(self, live: LiveInstance, step: LiveStep, now: int) -> int:
        """How many chunks of a limited step may be claimed, with those of other instances counted."""
        code = step.node.step
        if code.is_async and not code.options.paced:  # its turnstile limits it
            return step.free()
        name, taken = (live.job.name, code.name), 0
        if code.options.concurrency is not None:
            taken = sum(len(f.micro.items) for f in self._flights | self._expired if f.name == name)
        return self.limits.room(name, code.options, taken, now)

    def promise(self, flight: Flight) -> None:
        """A micro-batch is claimed and will start once that is stored."""
        if flight.step.node.step.options.rate is not None:
            self.limits.promise(flight.name, len(flight.micro.items))

    def start(self, flight: Flight, clock: Callable[[], int]) -> None:
        """It starts now."""
        options = flight.step.node.step.options
        if not options.paced:
            return
        now = clock()
        if options.rate is not None:
            self.limits.start(flight.name, len(flight.micro.items), now)
        if options.timeout is not None:
            self._deadlines.add(now + round(options.timeout * 1e6), flight)

    def due(self) -> list[int]:
        """When a start is allowed again, and when the next attempt's time is over."""
        return [at for at in (self.limits.due_us, self._deadlines.due_us) if at is not None]

    def expire(self, now: int) -> list[Flight]:
        """Take away the flights whose time is over, with word to those who run them."""
        due = [flight for flight in self._deadlines.pop(now) if flight in self._flights]
        over = [flight for flight in due if not self._goes_on(flight, now)]
        for flight in over:
            self._flights.discard(flight)
            self._expired.add(flight)
            flight.micro.cancellation.cancelled = True
        return over

    def _goes_on(self, flight: Flight, now: int) -> bool:
        """Whether a process has time left, as it had to be started first: its step's time is counted from its beginning."""
        micro, seconds = flight.micro, flight.step.node.step.options.timeout
        if not flight.lane.is_replaceable or micro.marks is None or micro.marks.path is None or not micro.slots:
            return False
        assert seconds is not None
        due = (micro.marks.begun_us[micro.slots[0]] or now) + round(seconds * 1e6)
        if due > now:
            self._deadlines.add(due, flight)
        return due > now

    def land(self, flight: Flight) -> None:
        """Its worker is free again."""
        if flight in self._expired:
            self._expired.discard(flight)
            flight.lane.taken -= 1

    def forget(self) -> None:
        """The engine stopped: nothing that was under way counts."""
        self._expired.clear()
        self.limits.forget_promises()

"""What ``concurrency=``, ``rate=`` and ``timeout=`` of steps allow now, over all instances of a batch.

All of it belongs to the dispatcher thread, and none of it is asked for steps without such an option. A rate counts calls from when
they begin, which workers of this machine stamp; until that is known a call holds its place. Beginnings are kept in memory only: what
began in the second before a restart is not counted after it.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

from nbbatch.definition import Options
from nbbatch.engine.pools import Lane
from nbbatch.engine.state import LiveInstance, LiveStep
from nbbatch.worker.context import MicroBatch
from nbbatch.worker.received import Missing
from nbbatch.worker.remote import Packed
from nbbatch.worker.running import CALLED_OFF

Name = tuple[str, str]
"""A job's name and a step's."""
SECOND_US = 1_000_000

T = TypeVar("T")


def window(rate: float) -> tuple[int, int]:
    """The starts that a rate allows in any stretch of time, and its length in microseconds.

    >>> window(10), window(2.5), window(0.5)
    ((10, 1000000), (2, 1000000), (1, 2000000))
    """
    return (int(rate), SECOND_US) if rate >= 1 else (1, round(SECOND_US / rate))


class Limits:
    """Who may start now."""

    def __init__(self) -> None:
        self._begun = defaultdict[Name, deque[int]](deque)
        """When calls that are over began, the earliest first."""
        self.due_us: int | None = None
        """When a start that was refused since the last `forget_refusals` is allowed; None: none was."""

    def room(self, name: Name, options: Options, running: int, under_way: Sequence[int], now_us: int) -> int:
        """How many micro-batches of a step may be claimed; under a rate each has one chunk.

        Args:
            name: Of the step.
            options: Its options.
            running: Those that are claimed, in all instances.
            under_way: Where it has a rate: when each of them began; the present for those that have not.
            now_us: The present.
        """
        free = 1_000_000 if options.concurrency is None else options.concurrency - running
        return (
            free
            if options.rate is None or free <= 0
            else min(free, self._by_rate(name, options.rate, under_way, now_us))
        )

    def _by_rate(self, name: Name, rate: float, under_way: Sequence[int], now_us: int) -> int:
        most, length = window(rate)
        begun = self._begun[name]
        while begun and begun[0] <= now_us - length:
            begun.popleft()
        recent = [at for at in under_way if at > now_us - length]
        room = most - len(begun) - len(recent)
        if room <= 0:
            due = min([*recent, *list(begun)[:1]]) + length
            self.due_us = due if self.due_us is None else min(due, self.due_us)
        return room

    def count(self, name: Name, begun_us: int) -> None:
        """Count a call that is over from when it began."""
        insort(self._begun[name], begun_us)

    def forget_refusals(self) -> None:
        """Begin a new round of asking."""
        self.due_us = None


class Deadlines(Generic[T]):
    """What has to end by a time; the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._order = count()

    def add(self, due_us: int, what: T) -> None:
        """Have it given by `pop` from ``due_us`` on."""
        heapq.heappush(self._heap, (due_us, next(self._order), what))

    @property
    def due_us(self) -> int | None:
        """The earliest time; None: there is none."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now_us: int) -> list[T]:
        """All that is due, taken away."""
        due: list[T] = []
        while self._heap and self._heap[0][0] <= now_us:
            due.append(heapq.heappop(self._heap)[2])
        return due


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
    launched_us: int = 0
    """When it was handed to its executor, by the steady clock."""
    call: Packed | None = None
    """As it travels to a worker that shares no memory."""
    waits: bool = False
    """Whether all workers were taken when it was claimed."""
    lasted_us: int | None = None
    """How long it had run when it was abandoned; None: it was not."""
    is_quick: bool = True
    """Whether it was known that it takes no longer than others may wait behind it."""

    def enter(self) -> None:
        """Its lane has one more."""
        self.lane.taken += 1
        self.lane.long += not self.is_quick
        self.lane.work_us += self.work_us

    def leave(self) -> None:
        """Its lane has one less."""
        self.lane.taken -= 1
        self.lane.long -= not self.is_quick

    def is_lost(self) -> bool:
        """Whether its worker died, or its pool broke."""
        future = self.future
        error = None if future is None or future.cancelled() else future.exception()
        return error is not None and self.lane.pool.is_lost(error)

    def is_called_off(self) -> bool:
        """Whether its pool gave it back undone, or somebody cancelled it."""
        future = self.future
        if future is None:
            return False
        error = None if future.cancelled() else future.exception()
        return future.cancelled() or (self.is_undone() if error is None else self.lane.pool.is_called_off(error))

    def is_undone(self) -> bool:
        """Whether its worker gave it back, as it lacked something or was told to."""
        future = self.future
        if future is None or future.cancelled() or future.exception() is not None:
            return False
        return future.result() is None or isinstance(future.result(), Missing)

    def begun_us(self) -> int | None:
        """When its worker began it, by the steady clock; 0: not yet; None: that is not known."""
        marks, slots, pool = self.micro.marks, self.micro.slots, self.lane.pool
        if pool.shares_memory:
            return None
        if pool.is_local:
            return marks.begun_us[slots[0]] if marks is not None and marks.where is not None and slots else None
        return pool.begun_us(self.call.call) if pool.tells_begin and self.call is not None else None

    def tell(self) -> None:
        """Nobody waits for its result any more: have its worker hear so. A coroutine is cancelled, as it may wait for long."""
        if self.lane.is_async:
            self.call_off()
        if self.lane.pool.shares_memory or self.call is None:
            return
        if self.micro.marks is not None and self.lane.pool.is_local:
            for slot in self.micro.slots:
                self.micro.marks.begun_us[slot] = CALLED_OFF
        else:
            self.lane.pool.call_off(self.call.call)

    def stamped_us(self, steady_us: int) -> int:
        """When its one call began, by the steady clock; 0: not yet. Where no worker stamps it: when it was handed over."""
        marks, slots = self.micro.marks, self.micro.slots
        if marks is None or not slots or self.step.node.step.job is not None:
            return self.launched_us
        begun = steady_us - (self.micro.now() - marks.since_us[slots[0]])
        return min(begun, steady_us) if begun >= self.launched_us else 0  # what an earlier call left in the slot

    def call_off(self) -> None:
        """Cancel it where that is possible: before it has begun, or on an event loop."""
        if self.future is not None:
            self.lane.pool.cancel(self.future)

    @property
    def name(self) -> tuple[str, str]:
        """Of the job and the step."""
        return self.live.job.name, self.step.node.step.name


class Pace:
    """What limited steps may do now, over all instances of a batch: by a clock that nobody sets."""

    def __init__(self, flights: set[Flight], steady: Callable[[], int]) -> None:
        self.steady = steady
        self.limits = Limits()
        self._flights = flights
        self._rated = defaultdict[Name, set[Flight]](set)
        """Claimed, of steps with a rate, and not back."""
        self._expired: set[Flight] = set()
        """Nobody waits for them, and their workers are still taken: past their time, or of a reduction that is to run anew."""
        self._deadlines = Deadlines[Flight]()

    def has_room(self, live: LiveInstance, step: LiveStep, lane: Lane) -> bool:
        """Whether a lane and the step's limits let more of it be claimed."""
        options = step.node.step.options
        if lane.retry_us and lane.retry_us > self.steady():
            return False
        if not options.limited:
            return lane.has_room(step)
        has_worker = lane.taken < lane.workers if options.paced else lane.has_room(step)
        return has_worker and self.room(live, step) > 0

    def room(self, live: LiveInstance, step: LiveStep) -> int:
        """How many micro-batches of a limited step may be claimed, with those of other instances counted; of an async one, how many chunks.

        A micro-batch runs one chunk after another, so of quick ones many count as one.
        """
        code = step.node.step
        if code.is_async and not code.options.paced:  # its turnstile limits it
            return step.free()
        name, taken = (live.job.name, code.name), 0
        if code.options.concurrency is not None:
            taken = sum(flight.name == name for flight in self._flights | self._expired)
        now = self.steady()
        under_way = (
            [] if code.options.rate is None else [self._began_us(each, now) or now for each in self._rated[name]]
        )
        return self.limits.room(name, code.options, taken, under_way, now)

    def _began_us(self, flight: Flight, now: int) -> int:
        """When its call began; 0: not yet."""
        return flight.stamped_us(now) if flight.launched_us else 0

    def promise(self, flight: Flight) -> None:
        """A micro-batch is claimed and will start once that is stored."""
        if flight.step.node.step.options.rate is not None:
            self._rated[flight.name].add(flight)

    def withdraw(self, flight: Flight) -> None:
        """It is not claimed after all."""
        if flight.step.node.step.options.rate is not None:
            self._rated[flight.name].discard(flight)

    def start(self, flight: Flight) -> None:
        """It starts now."""
        options = flight.step.node.step.options
        now = flight.launched_us = self.steady()
        if options.timeout is not None:
            self._deadlines.add(now + round(options.timeout * 1e6), flight)

    def lasted_us(self, flight: Flight) -> int:
        """How long it has run: in a worker process from the beginning of its first chunk, else since it was handed over."""
        if flight.lasted_us is not None:
            return flight.lasted_us
        begun = flight.begun_us() or 0
        return max(0, self.steady() - (begun if begun > 0 else flight.launched_us))

    def learn(self, flight: Flight, span_us: int) -> None:
        """It is back: its lane learns how long the way to and from its worker takes, beside the work itself."""
        if not (flight.waits or flight.lane.pool.shares_memory):
            flight.lane.learn(max(0, self.steady() - flight.launched_us - span_us))

    def due(self) -> list[int]:
        """When a start is allowed again, and when the next attempt's time is over."""
        return [at for at in (self.limits.due_us, self._deadlines.due_us) if at is not None]

    def is_late(self, flight: Flight, span_us: int) -> bool:
        """Whether attempts that took so long, by a clock that may have been set, are past their time."""
        most = flight.step.node.step.options.timeout
        return most is not None and min(span_us, self.steady() - flight.launched_us) > most * 1e6

    def expire(self) -> list[Flight]:
        """Take away the flights whose time is over, with word to those who run them."""
        now = self.steady()
        due = [flight for flight in self._deadlines.pop(now) if flight in self._flights]
        over = [flight for flight in due if not self._goes_on(flight, now)]
        for flight in over:
            self.abandon(flight)
        return over

    def abandon(self, flight: Flight) -> None:
        """Nobody waits for its result any more; its worker is taken until it returns."""
        self._flights.discard(flight)
        self._expired.add(flight)
        flight.lasted_us = self.lasted_us(flight)
        flight.micro.cancellation.cancelled = True

    def _goes_on(self, flight: Flight, now: int) -> bool:
        """Whether a worker elsewhere has time left, as it may have begun late: its step's time is counted from its beginning."""
        seconds, begun = flight.step.node.step.options.timeout, flight.begun_us()
        if begun is None or begun < 0:
            return False
        assert seconds is not None
        due = (begun or now) + round(seconds * 1e6)
        if due > now:
            self._deadlines.add(due, flight)
        return due > now

    def hung(self, lane: Lane) -> str | None:
        """What is said where calls that nobody waits for hold all workers of a lane; any thread may ask."""
        flights = [flight for flight in tuple(self._expired) if flight.lane is lane]
        if not flights or len(flights) < lane.workers:
            return None
        steps = ", ".join(sorted({f"{flight.name[1]!r} of job {flight.name[0]!r}" for flight in flights}))
        return (
            f"all {lane.workers} workers are taken by calls that go on past their timeout= (step {steps}): nothing else starts "
            "until one returns"
        )

    def land(self, flight: Flight) -> None:
        """Its worker is free again."""
        if flight.step.node.step.options.rate is not None:
            self._rated[flight.name].discard(flight)
            self.limits.count(flight.name, self._began_us(flight, self.steady()) or flight.launched_us)
        flight.micro.cancellation.tell_no_more(flight.tell)
        if flight.call is not None:
            flight.lane.pool.landed(flight.call.call)
        if flight in self._expired:
            self._expired.discard(flight)
            flight.leave()

    def forget(self) -> None:
        """The engine stopped: nothing that was under way counts."""
        self._expired.clear()
        self._rated.clear()

"""Where claimed chunks wait and run, and how much of it is taken: one lane per executor, and one for sub-jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbbatch.base.errors import DefinitionError
from nbbatch.definition import JobDefinition, Kind, Node
from nbbatch.engine.state import LiveInstance, LiveStep
from nbbatch.worker.adapters import Adapter, Foreign, Near, ended
from nbbatch.worker.context import MicroBatch
from nbbatch.worker.executors import EventLoop, inline, threads
from nbbatch.worker.on_dask import OnDask

log = logging.getLogger("nbbatch")

SLOW_US = 50_000
"""Micro-batches longer than this are claimed only when a worker is free …"""
AHEAD_US = 150_000
"""… and shorter ones ahead, for about this much work per worker, so that a commit takes in many of them …"""
AHEAD = 8
"""… but at most so many per worker."""
SPARE_US = 20_000
"""Work that a worker still has before it when a commit begins; with more, what arrives is waited for."""
PATIENCE = 12
"""A micro-batch that takes so many times as long as it should gives back what it has not begun …"""
PATIENCE_AT_FIRST = 3
"""… and one whose size other instances of its step have told, so many times."""
SOON_US = 1_000
"""What workers finish within this time shares the commit with what has arrived: it costs more than they lose by it."""
ROUNDS = 10
"""A micro-batch has at least so much more work than its way takes …"""
MOST_US = 500_000
"""… up to this."""
FIRST_PAUSE_US = 100_000
"""How long an executor is left alone that took no work; four times as long each time …"""
LONGEST_PAUSE_US = 60_000_000
"""… up to this."""
ANEW = "batch.close() and nb.open() with another executor"
"""What helps where a cluster or a pool is gone for good."""
SUBJOBS_AT_ONCE = 64
"""Sub-instances that chunks of one step wait for at once, unless ``concurrency=`` says otherwise; they hold no worker."""


@dataclass(slots=True, eq=False)
class Lane:
    """An executor and how much of it is taken."""

    pool: Adapter
    given: int = 0
    """How many workers the user says it has; 0: ask it, ever anew."""
    name: str | None = None
    """That steps give as ``executor=``; None: of all others."""
    is_async: bool = False
    """Whether it is the event loop."""
    taken: int = 0
    """Micro-batches in it."""
    long: int = 0
    """Those of them that take long, or nobody knows how long."""
    work_us: float = 0.0
    """What is in the pool takes about this long, by what came before."""
    was_idle: bool = False
    """Whether a worker had nothing when claiming began: then little is claimed ahead, so that the commit comes soon …"""
    is_short: bool = False
    """… and whether more would have been otherwise: it is in a turn of its own, while workers have what they need."""
    wake: Callable[[], None] = lambda: None
    """Asks for that turn."""
    refusal: str | None = None
    """Why its executor takes no work, or gave back what it had; None while it works."""
    refusals: int = 0
    """How often in a row it did so."""
    retry_us: int = 0
    """When it is asked again, by a clock that nobody sets."""
    round_us: float = 0.0
    """How long hand-over and return take, by the quickest of late."""

    @property
    def workers(self) -> int:
        """How many micro-batches run at once."""
        return self.given or max(1, self.pool.workers())

    @property
    def target_us(self) -> int:
        """How much work a micro-batch should have: much beside the time that its way takes."""
        return max(self.pool.target_us, min(MOST_US, int(ROUNDS * self.round_us)))

    def most_us(self, step: LiveStep) -> int:
        """How long a micro-batch of a step may take and still begin a further chunk."""
        return (PATIENCE if step.mean_us else PATIENCE_AT_FIRST) * self.target_us

    def learn(self, way_us: int) -> None:
        """A micro-batch was so long on its way, there and back."""
        self.round_us = min(self.round_us * 1.05 + 1, way_us) if self.round_us else max(1, way_us)

    def refuse(self, why: str, now_us: int) -> None:
        """Its executor took no work, or gave some back undone: ask again later, ever less often."""
        if now_us < self.retry_us:
            return  # what it had goes on coming back
        pause = min(LONGEST_PAUSE_US, FIRST_PAUSE_US * 4**self.refusals)
        self.refusals, self.retry_us = min(self.refusals + 1, 10), now_us + pause
        if self.refusal != why:
            self.refusal = why
            log.warning("%s", self.hindrance())

    def hindrance(self) -> str | None:
        """Why chunks wait that might run, and what to do; None: they need not."""
        if (absent := self.pool.absent()) is not None:
            return f"{self._called()} has no workers ({absent}): chunks wait, none is charged; they go on when there are any, or after {ANEW}"
        if self.refusal is None:
            return None
        again = "It stays so" if ended(self.pool) else "It is asked again from time to time"
        return f"{self._called()} takes no work ({self.refusal}): chunks wait, none is charged. {again}; {ANEW} go on"

    def worker(self, name: str) -> str:
        """What a worker of it is called in frames."""
        return name if self.name is None else f"{self.name}/{name}"

    def _called(self) -> str:
        return "the executor" if self.name is None else f"executor {self.name!r}"

    def works(self) -> None:
        """Its executor gave a result."""
        self.refusal, self.refusals, self.retry_us = None, 0, 0

    def has_room(self, step: LiveStep) -> bool:
        if self.pool.absent() is not None:
            return False
        if self.taken < self.workers:
            return True
        if self.pool.is_inline or not step.likely_us or self.long >= self.workers:
            return False  # of the last: what is claimed ahead of work that takes long can be neither skipped nor run elsewhere
        work = (step.likely_us + step.behind_us) * step.likely_size
        ahead = min(AHEAD, int(AHEAD_US / work)) if work < SLOW_US else 0
        if self.was_idle and step.likely_size == 1 and ahead > 1:
            if self.taken >= 2 * self.workers and not self.is_short:
                self.is_short = True
                self.wake()
            ahead = 1
        if work < self.pool.ahead_us:
            if ahead and (not step.mean_us or work < self.round_us / 2):
                return False  # the next results let more travel together: better than many calls that are mostly way
            ahead = max(1, ahead)
        return self.taken < (1 + ahead) * self.workers

    def is_quick(self, work_us: float) -> bool:
        """Whether others may wait behind a micro-batch of so much work (0: unknown): more of it where hand-over takes long."""
        return 0 < work_us < max(SLOW_US, self.pool.ahead_us)

    def spare(self) -> float:
        """Seconds until a worker may want for work, less a margin."""
        running = self.work_us / self.taken
        return (self.work_us / self.workers - running - max(running, SPARE_US)) / 1e6


class LimitedLane(Lane):
    """The event loop for steps that say themselves how many of their attempts run at once: as many as they say, beside all others."""

    def has_room(self, step: LiveStep) -> bool:
        return step.free() > 0


class SubjobLane(Lane):
    """Where chunks wait for instances that they submitted."""

    def has_room(self, step: LiveStep) -> bool:
        return step.in_flight < (step.node.step.options.concurrency or SUBJOBS_AT_ONCE)


class Lanes:
    """All lanes of one engine, and which step runs in which."""

    def __init__(self, executor: Executor, workers: int, executors: Mapping[str, Executor]) -> None:
        self._loop = EventLoop()
        self.main = Lane(adapted(executor), workers)
        self.named = {name: Lane(adapted(each), name=name) for name, each in executors.items()}
        """Of steps that say which executor they want."""
        self.events, self.limited = (kind(adapted(self._loop), is_async=True) for kind in (Lane, LimitedLane))
        """Of async steps, and of those that have a limit of their own."""
        self.local = self.main if self.main.pool.shares_memory else Lane(adapted(threads(2)))
        """Of this process: reductions read the store, and outputs that are streamed go into it at once."""
        self.subjobs = SubjobLane(self.local.pool, 1)
        self._turnstiles: dict[tuple[str, str, int], asyncio.Semaphore] = {}

    def all(self) -> list[Lane]:
        """Each lane with an executor of its own."""
        return list(dict.fromkeys((self.main, *self.named.values(), self.events, self.limited, self.local)))

    def open(
        self, owner: str, wake: Callable[[], None], waiting_us: Callable[[Callable[[LiveStep], bool]], float]
    ) -> None:
        """The engine, whose calls begin with ``owner``, begins to use them; ``waiting_us``: what waits of some steps takes so long."""
        for lane in self.all():
            lane.pool.open(owner, wake, partial(waiting_us, partial(self._is_in, lane)))
            lane.wake = wake

    def _is_in(self, lane: Lane, step: LiveStep) -> bool:
        return self.of(step.node) is lane

    def recall(self, owner: str, flights: Iterable[tuple[Lane, Future[Any]]]) -> None:
        """Have all that no worker has begun given back, but for coroutines, which wait for their turn on the loop."""
        futures: dict[Lane, list[Future[Any]]] = {}
        for lane, future in flights:
            futures.setdefault(lane, []).append(future)
        for lane, each in futures.items():
            if not lane.is_async:
                lane.pool.recall(owner, each)

    def of(self, node: Node) -> Lane:
        """Where a step's chunks run."""
        if node.step.is_async:
            return self.events if node.step.options.concurrency is None else self.limited
        if node.step.job is not None:
            return self.subjobs
        name = node.step.options.executor
        lane = self.main if name is None else self.named.get(name, self.main)
        if node.step.kind is Kind.REDUCTION or node.step.options.stream:
            return lane if lane.pool.shares_memory else self.local
        return lane

    def check(self, job: JobDefinition[Any, Any]) -> None:
        """Raises DefinitionError for the first step of a job, or of a job inside it, that names an executor which is not known."""
        for node in job.nodes:
            name = node.step.options.executor
            if name is not None and name not in self.named:
                known = ", ".join(map(repr, sorted(self.named))) or "none; nb.open(executors={…}) takes them"
                raise DefinitionError(
                    f"step {node.step.name!r} of job {job.name!r} wants executor {name!r}; those known here are {known}"
                )
            if node.step.job is not None:
                self.check(node.step.job)

    def workers(self, nodes: Sequence[Node]) -> int:
        """How many attempts of these steps may run at once, beside reductions and sub-jobs."""
        lanes = {lane for lane in map(self.of, nodes) if lane in (self.main, *self.named.values(), self.events)}
        limited = [node.step.options.concurrency or 0 for node in nodes if self.of(node) is self.limited]
        return sum(lane.workers for lane in lanes) + sum(limited)

    def line(self, live: LiveInstance, step: LiveStep) -> Hashable:
        """What a step waits for: its lane, and the limit of all steps of its name."""
        code = step.node.step
        limits = (live.job.name, code.name) if code.options.limited else None
        return id(self.of(step.node)), limits

    def turnstile(self, live: LiveInstance, step: LiveStep) -> asyncio.Semaphore:
        """What an attempt of an async step passes before it starts: the step's own over all instances, or the loop's."""
        limit = step.node.step.options.concurrency
        if limit is None:
            return self._loop.turnstile
        name = live.job.name, step.node.step.name, limit
        if name not in self._turnstiles:
            self._turnstiles[name] = asyncio.Semaphore(limit)
            self.limited.given += limit
        return self._turnstiles[name]

    def due(self, now_us: int) -> list[int]:
        """When executors that took no work are asked again."""
        return [lane.retry_us for lane in self.all() if lane.retry_us > now_us]

    def look(self) -> None:
        """Note which have nothing for a worker."""
        for lane in self.all():
            lane.was_idle, lane.is_short = lane.taken < lane.workers, False

    def spare(self) -> float:
        """Seconds until a worker of any lane in use may want for work; 0 where none is in use."""
        busy = [lane.spare() for lane in self.all() if lane.taken]
        return max(0.0, min(busy, default=0.0))

    def soon(self) -> float:
        """Seconds until all that workers have is done, where that is little beside a commit; 0 where it is not, or not known."""
        longest = max((lane.work_us / lane.workers for lane in self.all() if lane.work_us >= 1), default=0.0)
        return longest / 1e6 if longest <= SOON_US else 0.0

    def forget(self) -> None:
        """Whatever is in them counts no more."""
        for lane in self.all():
            lane.taken, lane.long, lane.work_us = 0, 0, 0.0

    def close(self, owner: str) -> None:
        """End the executors that are not the user's."""
        for lane in self.all():
            lane.pool.close(owner)
        self._loop.shutdown(wait=True)
        if self.local is not self.main:
            self.local.pool.shutdown(wait=False)


def adapted(given: Executor) -> Adapter:
    """The adapter of an executor."""
    if isinstance(given, Adapter):
        return given
    if isinstance(given, ThreadPoolExecutor | inline | EventLoop):
        return Near(given)
    if isinstance(given, ProcessPoolExecutor) or type(given).__module__.startswith("loky."):
        return Foreign(given, local=True)
    if type(given).__module__ == "distributed.cfexecutor":
        return OnDask.of_executor(given)
    return Foreign(given)


def no_subjobs(engine: Any, micro: MicroBatch) -> Future[Any]:
    """An engine by itself knows no commands, so it can submit nothing."""
    raise NotImplementedError(f"{engine} cannot run {micro.node.step}")

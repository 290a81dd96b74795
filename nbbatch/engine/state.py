"""What the engine keeps in memory of one unfinished instance: counts, cursors, and the few chunks in between.

Bounded however many chunks wait. Of the chunks nobody has claimed only a window is in memory (``ready``); behind it
stands a cursor, and the next window is read from the store by id. New chunks go straight into the window while it
has room, so that a short chain never reads back what it has just written.

All of this belongs to the dispatcher thread. Other threads may read single numbers, never change anything.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from copy import copy, deepcopy
from itertools import accumulate
from typing import Any, NamedTuple

from nbbatch.base.items import Items, joined
from nbbatch.base.rows import Ended, InstanceRow, Item, Waiting
from nbbatch.base.states import INSTANCE_ENDED, ChunkStatus, InstanceStatus
from nbbatch.definition import JobDefinition, Node
from nbbatch.engine import prospect
from nbbatch.engine.decide import FAST, Counts, asks, no_chunks, reduction_of, told, too_many
from nbbatch.engine.prospect import Course, Learned, Mark, StepWork, Times, Worked, steps_work
from nbbatch.engine.staged import Sealed, Staged
from nbbatch.engine.window import Window, total_of
from nbbatch.values.attachments import Attachments
from nbbatch.worker.context import Cancellation, StoredParams

WINDOW_CHUNKS = 50_000
"""Unclaimed chunks of one step held in memory …"""
WINDOW_BYTES = 16_000_000
"""… or about this many bytes of their inputs."""
PAGE_CHUNKS = 20_000
"""Unclaimed chunks read from the store at once, if their inputs are small …"""
FIRST_PAGE_CHUNKS = 50
"""… and while their size is unknown."""
TARGET_US = 8_000
"""A micro-batch grows until it is about this much work, so that hand-over costs little and no result waits long."""
MAX_BATCH = 1_000
"""Chunks in one micro-batch at most."""
TRUSTED = 16
"""… and has at most so many times the chunks that are known to take as long as thought."""
SHARES = 8
"""What is left of a step is shared out among workers down to this part of a micro-batch, but …"""
LEAST_US = 3_000
"""… not less than this, which is what a further commit takes …"""
MANY = 64
"""… where it is so many chunks: of a few, one that hangs is to keep no result waiting."""
ASYNC_AHEAD_US = 100_000
"""Attempts of an async step with a limit are claimed ahead for so much work …"""
ASYNC_AHEAD = 4
"""… but at most so many times what the limit allows."""
NOTED_US = 2_000_000
"""Between two times that the progress of an instance is stored."""
FIRST_US = 500_000
"""Time that is to be worked before rate and time left are told."""
SUSPECT_ERRORS = 2
"""A chunk lost this often runs last and apart from other suspects, so that the one that kills the process is found."""

_QUEUED = ChunkStatus.QUEUED.code
_GATE_WAITING = ChunkStatus.GATE_WAITING.code
_IN_PROGRESS = ChunkStatus.IN_PROGRESS.code


class Again(NamedTuple):
    """A chunk to be claimed again, and the state it is counted under until then."""

    item: Item
    status: int
    apart: bool = False
    """Whether it is to run as a suspect."""


_CHANGED = (
    "again", "asks", "counts", "cursor", "in_flight", "last", "loaded_last", "looked", "lots", "opened", "polling", "ready", "skipped",
    "suspect_in_flight", "suspects", "unasked",
)  # fmt: skip
"""What a turn changes in a step."""


class LiveStep:
    """One step of a live instance."""

    __slots__ = (
        "accused", "again", "asks", "behind_us", "counts", "cursor", "in_flight", "last", "learned", "loaded_last", "looked",
        "looked_bytes", "lots", "mean_bytes", "mean_us", "node", "opened", "polling", "ready", "size", "skipped", "suspect_in_flight",
        "suspects", "target_us", "times", "unasked",
    )  # fmt: skip

    def __init__(self, node: Node, *, asks: bool = False) -> None:
        self.node = node
        self.asks = asks
        """Whether its chunks are looked up before they are claimed: others may have done the same."""
        self.looked = 0
        """Highest id that was looked up."""
        self.looked_bytes: float | None = None
        """Mean size of what was taken and given by chunks that were looked up last; None: none was."""
        self.counts: Counts = no_chunks()
        self.opened = not node.gated
        self.cursor = 0
        """Highest id taken into ``ready``."""
        self.last = 0
        """Highest id there is."""
        self.loaded_last = 0
        """Highest id when the instance was loaded: up to it, a window may hold chunks that are past claiming."""
        self.ready = Window()
        self.mean_bytes: float | None = None
        """Mean size of the inputs that came into the window last; None: none has."""
        self.accused = set[int]()
        """Chunks that ran alone when their worker was lost: they run as suspects again."""
        self.again: deque[Again] = deque()
        self.lots: deque[tuple[Again, ...]] = deque()
        """Micro-batches to be claimed as they are: parts of one whose worker was lost, nobody knows by which of its chunks."""
        self.suspects: deque[Again] = deque()
        self.suspect_in_flight: int | None = None
        self.unasked: deque[Again] = deque()
        """Of a step that asks, those that are to be looked up before they are claimed again."""
        self.skipped: set[int] = set()
        """Chunks that are not to be claimed, though a window may hold them."""
        self.polling: dict[int, int] = {}
        """When chunks began the first attempt that raised RetryLater; only under a ``max_wait=``."""
        self.in_flight = 0
        self.size = 1
        self.mean_us = 0.0
        self.learned = Learned()
        self.times = Times()
        self.behind_us = 0.0  # for each of its chunks: how long it takes what may follow at once in a worker elsewhere
        self.target_us = TARGET_US
        """How much work its micro-batches should have, by where it runs."""

    def become(self, other: LiveStep) -> None:
        """Take over what another one says of the same step; its code and what was learnt of it stay."""
        for name in _CHANGED:
            setattr(self, name, getattr(other, name))

    def snapshot(self) -> LiveStep:
        """How it stands now, for `become`."""
        made = copy(self)
        for name in _CHANGED:
            setattr(made, name, copy(getattr(self, name)))
        return made

    def emit(self, first: int, inputs: Sequence[bytes | None]) -> None:
        """Take note of new chunks with ids from ``first`` on."""
        if not self.last:
            self.cursor = self.last = self.looked = first - 1
        if not self.asks and self.opened and self.has_room() and self.cursor == self.last:
            taken = inputs[: WINDOW_CHUNKS - len(self.ready)]
            if total_of(taken) > WINDOW_BYTES - self.ready.bytes:
                taken = self._fitting(taken)
            self.add_ready(range(first, first + len(taken)), taken)
            self.cursor = first + len(taken) - 1
        self.last = first + len(inputs) - 1
        self.counts[self.waits] += len(inputs)

    def add_page(self, ids: Sequence[int], inputs: Sequence[bytes | None]) -> None:
        """Put chunks that were read from the store, in the order of their ids, into the window."""
        if ids and ids[-1] - ids[0] == len(ids) - 1:
            ids = range(ids[0], ids[-1] + 1)
        self.add_ready(ids, inputs)

    def add_ready(self, ids: Sequence[int], inputs: Sequence[bytes | None]) -> None:
        """Put chunks into the window."""
        total = self.ready.add(ids, inputs)
        if inputs:
            self.mean_bytes = total / len(inputs)

    def _fitting(self, inputs: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """As many of the first inputs as the window has bytes for, and at least one."""
        room = WINDOW_BYTES - self.ready.bytes
        return inputs[: bisect_right(list(accumulate(len(data or b"") for data in inputs)), room) + 1]

    def page_chunks(self) -> int:
        """How many unclaimed chunks to read from the store at once, by the size of the last ones; few while it is unknown."""
        if self.mean_bytes is None:
            return FIRST_PAGE_CHUNKS
        return max(1, min(PAGE_CHUNKS, int(WINDOW_BYTES / (self.mean_bytes + 1))))

    def emit_many(self, first: int, last: int, total: int) -> None:
        """Take note of ``total`` new chunks that are only in the store, with ids from first to last."""
        if not self.last:
            self.cursor = self.looked = first - 1
        self.last = last
        self.expect(total)

    def expect(self, total: int) -> None:
        """Count new chunks, whose ids are not known yet."""
        self.counts[self.waits] += total

    def has_room(self) -> bool:
        """Whether the window takes more."""
        return len(self.ready) < WINDOW_CHUNKS and self.ready.bytes < WINDOW_BYTES

    @property
    def known_last(self) -> int:
        """Highest id that may be claimed: of a step that asks, it was looked up."""
        return self.looked if self.asks else self.last

    def to_look(self) -> int:
        """How many ids may be looked up now."""
        if not self.asks or not self.opened:
            return 0
        return len(self.unasked) + (self.last - self.looked if self.has_room() else 0)

    def queue(self, again: Again) -> None:
        """Have a chunk be claimed again, once it was looked up where the step asks."""
        if self.asks:
            self.unasked.append(again)
        else:
            self.line_up(again)

    def line_up(self, again: Again) -> None:
        """Have a chunk be claimed again."""
        (self.suspects if again.apart else self.again).append(again)

    @property
    def waits(self) -> int:
        """The code of the state of chunks that wait for a worker."""
        return _QUEUED if self.opened else _GATE_WAITING

    def open(self) -> None:
        """The gate opens: all waiting chunks are queued."""
        self.opened = True
        self.counts[_QUEUED] += self.counts[_GATE_WAITING]
        self.counts[_GATE_WAITING] = 0

    def shut(self) -> None:
        """The gate shuts again: all queued chunks wait, and what runs goes on."""
        self.opened = False
        self.counts[_GATE_WAITING] += self.counts[_QUEUED]
        self.counts[_QUEUED] = 0

    def forget(self) -> None:
        """All its chunks were superseded."""
        self.counts, self.in_flight = no_chunks(), 0
        self.ready.clear()
        self.cursor = self.looked = self.last
        self.again.clear()
        self.lots.clear()
        self.suspects.clear()
        self.unasked.clear()
        self.suspect_in_flight = None

    def claimable(self) -> bool:
        """Whether there is a chunk to claim now."""
        if not self.opened:
            return False
        suspect = bool(self.suspects) and self.suspect_in_flight is None
        waits = bool(self.ready) or bool(self.again) or bool(self.lots) or self.cursor < self.known_last
        return self.free() > 0 and (suspect or waits)

    def drop(self, chunks: Container[int]) -> None:
        """Some chunks are not to run again."""
        self.again = deque(again for again in self.again if again.item.chunk not in chunks)
        self.suspects = deque(again for again in self.suspects if again.item.chunk not in chunks)
        self.unasked = deque(again for again in self.unasked if again.item.chunk not in chunks)
        lots = (tuple(again for again in lot if again.item.chunk not in chunks) for lot in self.lots)
        self.lots = deque(lot for lot in lots if lot)

    def free(self) -> int:
        """How many chunks more may be claimed under an async step's limit.

        It claims more ahead, as many again or, where they are quick, for so much work: they wait at the turnstile of the event loop, so
        that the limit is made use of while a commit runs. Of other steps micro-batches are counted, by `Pace`: each runs one chunk at a time.
        """
        step = self.node.step
        if step.options.concurrency is None or not step.is_async:
            return MAX_BATCH
        ahead = min(ASYNC_AHEAD, int(ASYNC_AHEAD_US / (self.likely_us or ASYNC_AHEAD_US)))
        return step.options.concurrency * (1 + max(ahead, 1)) - self.in_flight

    def take(self, most: int, refill: Callable[[LiveStep], None]) -> Items:
        """Take up to ``most`` chunks to claim, or a lot; ``refill`` reads the next window of the store."""
        if self.lots:
            lot = self.lots.popleft()
            for again in lot:
                self._count_claim(again.status)
            return [again.item for again in lot]
        taken = [self.again.popleft() for _ in range(min(most, len(self.again)))]
        for again in taken:
            self._count_claim(again.status)
        parts: list[Items] = [[again.item for again in taken]] if taken else []
        while (more := most - sum(map(len, parts))) > 0 and (self.ready or self.cursor < self.known_last):
            if not self.ready:
                refill(self)
            if not self.ready:
                break
            parts.append(self._fresh(more))
        return joined(parts) or self._suspect()

    def _suspect(self) -> Items:
        """The next suspect, alone: last of all, so that what it may kill is little."""
        if not self.suspects or self.suspect_in_flight is not None:
            return []
        suspect = self.suspects.popleft()
        self.suspect_in_flight = suspect.item.chunk
        self._count_claim(suspect.status)
        return [suspect.item]

    def _fresh(self, most: int) -> Items:
        items: Items = self.ready.take(most)
        if self.skipped:
            items = [item for item in items if item.chunk not in self.skipped]
        self.counts[_QUEUED] -= len(items)
        self.counts[_IN_PROGRESS] += len(items)
        self.in_flight += len(items)
        return items

    def leave(self, again: Again) -> None:
        """A chunk that was to be claimed again need not: it counts as one that waits for its first attempt."""
        self.polling.pop(again.item.chunk, None)
        self.counts[self._counted(again.status)] -= 1
        self.counts[self.waits] += 1

    def _counted(self, status: int) -> int:
        """Under what a chunk counts that is to be claimed again: its gate may have moved since."""
        return self.waits if status in (_QUEUED, _GATE_WAITING) else status

    def _count_claim(self, status: int) -> None:
        self.counts[self._counted(status)] -= 1
        self.counts[_IN_PROGRESS] += 1
        self.in_flight += 1

    @property
    def likely_us(self) -> float:
        """How long a chunk takes, by what came before in this instance or, first, in another; 0: not known."""
        return self.mean_us or self.learned.mean_us

    @property
    def likely_size(self) -> int:
        """How many chunks a micro-batch should have. What another instance took counts where there are many, so that few results wait for one."""
        if self.mean_us or not self.learned.mean_us or self.counts[_QUEUED] + self.in_flight < MANY:
            return self.size
        return max(1, min(MAX_BATCH, int(self.target_us / (self.learned.mean_us + self.behind_us))))

    def learn(self, chunks: int, spent_us: int) -> None:
        """Adapt the size of micro-batches to what the last one took."""
        self.times = self.times.plus(chunks, spent_us)
        mean = self.learned.mean_us = spent_us / chunks + 1
        self.mean_us = mean if not self.mean_us else 0.5 * (self.mean_us + mean)
        trusted, fitting = TRUSTED * self.times.attempts, int(self.target_us / (self.mean_us + self.behind_us))
        self.size = max(1, min(trusted, MAX_BATCH, fitting))

    def least(self) -> int:
        """How many chunks are too little work to be shared out among workers."""
        is_many = self.likely_us and self.counts[_QUEUED] >= MANY
        return int(max(LEAST_US, self.target_us / SHARES) / self.likely_us) if is_many else 1


_DECIDED = (
    "waiting",
    "staged",
    "sealed",
    "status",
    "failing",
    "report",
    "started_us",
    "latest_end_us",
    "records",
    "reused",
)
"""What a turn changes in an instance beside its steps."""


class LiveInstance:
    """One unfinished instance whose job is known in this process."""

    def __init__(self, job: JobDefinition[Any, Any], row: InstanceRow, params: StoredParams) -> None:
        self.id = row.id
        self.key = row.key
        self.parent = row.parent
        self.retain = row.retain
        self.identity = row.identity
        self.job = job
        self.params = params
        self.status = row.status
        self.failing = row.failing
        self.started_us = row.started_us
        self.latest_end_us: int | None = None
        self.records = self.reused = 0
        """Records that were given, and chunks that took the outputs of others."""
        self.worked = Worked()
        self.best = row.progress
        self.noted_us = 0  # when its progress was stored last
        self.report = row.report
        self.reuse = row.reuse
        self.steps = [
            LiveStep(node, asks=asks(node, row.reuse, has_secrets=bool(params.secrets))) for node in job.current()
        ]
        self.course = Course(len(self.steps))
        self.waiting: list[Waiting] = []
        self.cancellation = Cancellation()
        self.done: Future[Ended] = Future()
        self.stored_counts: tuple[tuple[int, ...], ...] = ()
        """Counts of each step as of the last commit, for other threads."""
        self.attachments: Attachments | None = None
        self.notified: set[tuple[str, int]] = set()
        """Events that listeners were notified of, by step."""
        self.touched: dict[int, LiveInstance] | None = None
        """Where it says that it has changed; None: it is not live."""
        self.changed = True
        self.is_unharmed = False  # until it is submitted, and from when on a worker or process has died under it
        self.staged: dict[tuple[int, int], Staged] = {}
        """Outputs that running fan-outs have handed over, by chunk and attempt."""
        self.sealed: dict[tuple[int, int], Sealed] = {}
        """Those of fan-outs that COMPLETED and that are not chunks yet."""
        self.streamed = set[int]()  # chunks that have given outputs while they ran, since it was loaded

    @property
    def life(self) -> int:
        """Tells it from the same instance when it is taken up again later."""
        return id(self)

    @property
    def changed(self) -> bool:
        """Whether something happened since the last decision."""
        return self._changed

    @changed.setter
    def changed(self, value: bool) -> None:
        self._changed = value
        if value and self.touched is not None:
            self.touched[self.id] = self

    @property
    def paused(self) -> bool:
        return self.status is InstanceStatus.PAUSED

    @property
    def counts(self) -> list[Counts]:
        return [step.counts for step in self.steps]

    def show(self) -> None:
        """The present counts are stored now."""
        self.stored_counts = tuple(tuple(step.counts) for step in self.steps)

    def step_at(self, index: int) -> LiveStep:
        """The step at a position of the chain."""
        return self.steps[index]

    @property
    def in_flight(self) -> int:
        return sum(step.in_flight for step in self.steps)

    def wait(self, waiting: Waiting) -> None:
        """Put a chunk aside until its time."""
        heapq.heappush(self.waiting, waiting)

    def release(self, now_us: int) -> None:
        """Make waiting chunks whose time has come claimable."""
        while self.waiting and self.waiting[0].due_us <= now_us:
            due = heapq.heappop(self.waiting)
            item = Item(due.chunk, due.attempt + 1, None, due.errors, due.polls)
            step = self.steps[due.step]
            step.queue(Again(item, due.status.code, due.chunk in step.accused))

    def shut(self, index: int) -> None:
        """The gate of a step is shut; a reduction has no chunks any more, and no report."""
        step = self.steps[index]
        if index == self.reduction:
            step.forget()
            self.waiting[:] = sorted(waiting for waiting in self.waiting if waiting.step != index)
            self.report = None
        step.shut()
        self.changed = True

    def progress(self) -> float:
        """Share of the work done; it never falls, and is below 1 until the instance COMPLETED."""
        self.best = max(self.best, prospect.share(self.work()))
        return self.best

    def is_to_note(self, now_us: int) -> bool:
        """Whether its progress is to be stored: now and then, for those who see it after a kill or in a copy."""
        if self.noted_us + NOTED_US > now_us or self.status in INSTANCE_ENDED:
            return False
        before, self.noted_us = self.noted_us, now_us
        return bool(before)  # not with its first change: short ones need none

    @property
    def share(self) -> float:
        """As `progress`; any thread may ask, and sees that of the last decision while another is due."""
        return self.best if self.changed else self.progress()

    def rate(self) -> float | None:
        """Records per second of the time that it was worked on here; None while unknown. Any thread may ask."""
        worked_us = self.worked.until(self.latest_end_us or 0)
        return prospect.rate(self.records - self.worked.records, worked_us) if worked_us >= FIRST_US else None

    def eta(self, now_us: int) -> float | None:
        """Seconds left; None while unknown or paused, and in the first moments. Any thread may ask."""
        now, idle_us = self._stands(), now_us - (self.latest_end_us or 0)
        return None if now is None else prospect.eta(self.work(), now, self.course.marks, idle_us)

    def step_etas(self) -> list[float | None]:
        """Of each step its part of the seconds left. Any thread may ask."""
        now = self._stands()
        return [None] * len(self.steps) if now is None else prospect.step_etas(self.work(), now, self.course.marks)

    def _stands(self) -> Mark | None:
        """How it stood at the latest end of an attempt; None while it is paused, and in the first moments."""
        worked_us = self.worked.until(self.latest_end_us or 0)
        return None if self.paused or worked_us < FIRST_US else self._mark(worked_us)

    def _mark(self, worked_us: int) -> Mark:
        return Mark(worked_us, [step.times for step in self.steps])

    def work(self) -> list[StepWork]:
        """What is known of the work of each step."""
        counts = [list(each) for each in self.counts]
        before = [prospect.ended(each) for each in self.worked.counts] or [0] * len(counts)
        return steps_work(self.job.nodes, counts, [step.times for step in self.steps], before)

    def learn(self, step: LiveStep, attempts: int, spent_us: int, end_us: int) -> None:
        """Take note of what attempts took that ended."""
        self.latest_end_us = max(self.latest_end_us or 0, end_us)
        step.learn(attempts, spent_us)
        worked_us = self.worked.until(self.latest_end_us)
        if self.course.is_due(worked_us):
            self.course.keep(self._mark(worked_us))

    def adopt(self, job: JobDefinition[Any, Any], params: StoredParams) -> None:
        """Go on with this job's code; attempts that run finish with the old one."""
        nodes = job.current()  # first: it looks at objects of the user's
        self.job, self.params = job, params
        for step, node in zip(self.steps, nodes, strict=True):
            step.node = node
        self.changed = True

    def become(self, other: LiveInstance) -> None:
        """Forget what was decided since the last commit: take over what another one says of the same instance."""
        for mine, its in zip(self.steps, other.steps, strict=True):
            mine.become(its)
        for name in _DECIDED:
            setattr(self, name, getattr(other, name))
        self.changed = True

    def snapshot(self) -> LiveInstance:
        """How it stands now, for `become`."""
        made = copy(self)
        made.steps = [step.snapshot() for step in self.steps]
        made.waiting = self.waiting.copy()
        made.staged, made.sealed = deepcopy(self.staged), self.sealed.copy()
        return made

    def hold(self, running: Iterable[tuple[int, Item]]) -> None:
        """Take note of claimed chunks, each with the index of its step: nothing else may claim them."""
        for index, item in running:
            step = self.steps[index]
            step.in_flight += 1
            step.skipped.add(item.chunk)
            if item.errors >= SUSPECT_ERRORS:
                step.suspect_in_flight = item.chunk

    def failed_steps(self) -> dict[str, int]:
        """How many chunks FAILED, of the steps that have any."""
        failed = {step.node.step.name: step.counts[ChunkStatus.FAILED.code] for step in self.steps}
        return {name: count for name, count in failed.items() if count}

    def why_failed(self) -> str:
        """What is said of an instance that ends FAILED."""
        if self.failing is not None:
            is_fast = self.failing.endswith(FAST)  # since then others that ran have failed, too
            return (too_many(self.job.nodes, self.counts) if is_fast else None) or self.failing
        return told(self.failed_steps().items())

    @property
    def reduction(self) -> int:
        """Index of the reduction, or -1."""
        return reduction_of(self.job.nodes)


def resolve(future: Future[Ended], end: Ended | None = None, error: BaseException | None = None) -> None:
    """Tell who waits for an instance, unless they were told."""
    with suppress(InvalidStateError):
        future.set_result(end) if end is not None else future.set_exception(error)

"""The live instances of one engine, and which of them a turn has to look at.

What a turn costs depends on how many instances have something to do, not on how many there are: of thousands that wait for a
worker, a turn looks at the oldest ones. All of this belongs to the dispatcher thread.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from nbbatch.base.states import INSTANCE_ENDED, ChunkStatus
from nbbatch.definition import JobDefinition
from nbbatch.definition.base_step import BaseStep
from nbbatch.engine.prospect import Learned
from nbbatch.engine.state import LiveInstance, LiveStep

REFUSED = 16
"""Steps of one line that are asked though those before them found no room: theirs may be quicker."""
UNKNOWN_US = 100_000
"""What a chunk is taken for of whose step nothing has run yet, where a cluster asks how much work there is."""
_LEARNED = WeakKeyDictionary[BaseStep, Learned]()
"""What is known of a step from other batches of this process."""
Place = tuple[int, int]
"""Instance and minus the index of a step: the oldest instance first, and of it the last step."""


class Lines:
    """Steps with chunks to claim, in one line for each thing that they may wait for: a lane, a limit."""

    def __init__(
        self, line_of: Callable[[LiveInstance, LiveStep], Hashable], lives: Iterable[LiveInstance] = ()
    ) -> None:
        self._line_of = line_of
        self._lines: dict[Hashable, list[Place]] = {}
        self._steps: dict[Place, tuple[LiveInstance, LiveStep]] = {}
        for live in lives:
            self.add(live)

    def add(self, live: LiveInstance) -> None:
        """Have the steps of an instance that have chunks to claim stand in line, each once."""
        for step in live.steps:
            if step.claimable():
                place = live.id, -step.node.index
                if place not in self._steps:
                    heapq.heappush(self._lines.setdefault(self._line_of(live, step), []), place)
                self._steps[place] = live, step  # of an instance that was loaded anew, the new one

    def rounds(self, claim: Callable[[LiveInstance, LiveStep], bool]) -> None:
        """One `round` after another, as long as any claim is taken up."""
        while self.round(claim):
            pass

    def round(self, claim: Callable[[LiveInstance, LiveStep], bool]) -> bool:
        """Offer one claim to each instance that stands in line. Returns whether any was taken up.

        Args:
            claim: Claims chunks of a step, and returns whether there was room for any.
        """
        refused, claimed, kept = Counter[Hashable](), set[int](), list[tuple[Hashable, Place]]()
        try:
            while (line := self._next(refused)) is not None:
                place = heapq.heappop(self._lines[line])
                live, step = self._steps[place]
                if not _may_claim(live, step):
                    del self._steps[place]
                    continue
                kept.append((line, place))
                if live.id in claimed:
                    continue
                if claim(live, step):
                    claimed.add(live.id)
                else:
                    refused[line] += 1
        finally:
            for line, place in kept:
                heapq.heappush(self._lines[line], place)
        return bool(claimed)

    def _next(self, refused: Counter[Hashable]) -> Hashable | None:
        """The line whose first step is that of the oldest instance; None: there is none left that may find room."""
        heads = ((line[0], name) for name, line in self._lines.items() if line and refused[name] < REFUSED)
        first = min(heads, key=lambda head: head[0], default=None)
        return None if first is None else first[1]


def _may_claim(live: LiveInstance, step: LiveStep) -> bool:
    ended = live.paused or live.failing is not None or live.status in INSTANCE_ENDED
    return live.touched is not None and not ended and step.claimable()


def _waiting_us(step: LiveStep) -> float:
    """How long that takes of one step which waits, or as much of it as may run at once."""
    waiting, most = step.counts[ChunkStatus.QUEUED.code], step.node.step.options.concurrency
    return (waiting if most is None else min(waiting, most)) * (step.likely_us or UNKNOWN_US)


class Lives(dict[int, LiveInstance]):
    """Live instances by id."""

    def __init__(self, line_of: Callable[[LiveInstance, LiveStep], Hashable]) -> None:
        super().__init__()
        self.lines = Lines(line_of)
        self.unshown: dict[int, LiveInstance] = {}
        """Those whose counts may be others than they show; see `LiveInstance.show`."""
        self.asking: dict[int, LiveInstance] = {}
        """Those with steps whose chunks are looked up before they run."""
        self.moving: dict[int, LiveInstance] = {}
        """Those with outputs that are to become chunks; see `slices`."""
        self._touched: dict[int, LiveInstance] = {}
        self._alarms: list[tuple[int, int]] = []
        """When chunks of an instance are due that wait for their time; at least the first of each that has any."""
        self._alarm_of: dict[int, int] = {}
        self._learned: dict[tuple[str, int, str], Learned] = {}
        self._jobs: dict[tuple[str, int, bool], _Namesakes] = {}
        """By job, version, and whether they have a key."""
        self._job_of: dict[int, tuple[str, int, bool]] = {}

    def __setitem__(self, instance: int, live: LiveInstance) -> None:
        self.pop(instance)
        super().__setitem__(instance, live)
        for step in live.steps:
            name = live.job.name, live.job.version, step.node.step.name
            step.learned = self._learned.setdefault(name, _LEARNED.setdefault(step.node.step, step.learned))
        if any(step.asks for step in live.steps):
            self.asking[instance] = live
        live.touched = self._touched
        live.changed = True
        self.file(live)

    def pop(self, instance: int, default: Any = None) -> Any:
        """Forget an instance."""
        live = super().pop(instance, None)
        if live is None:
            return default
        live.touched = None
        for known in (self._touched, self.unshown, self.asking, self.moving, self._alarm_of):
            known.pop(instance, None)
        self._unfile(instance)
        return live

    def clear(self) -> None:
        """Forget all."""
        for instance in list(self):
            self.pop(instance)

    def waiting_us(self, is_meant: Callable[[LiveStep], bool]) -> float:
        """How long that takes which may be claimed of some steps; any thread may ask."""
        steps = ((live, step) for live in tuple(self.values()) for step in live.steps if is_meant(step))
        return sum(_waiting_us(step) for live, step in steps if _may_claim(live, step))

    # --- what a turn looks at ---------------------------------------------------------------------

    def to_decide(self, now_us: int) -> list[LiveInstance]:
        """Those that have changed since this was asked last, or of which chunks are due."""
        while self._alarms and self._alarms[0][0] <= now_us:
            self._drop_alarm()
        taken = list(self._touched.values())
        self._touched.clear()
        self.unshown.update((live.id, live) for live in taken)
        return taken

    def decided(self, live: LiveInstance) -> None:
        """Have it stand in line, and be looked at when its next chunk is due."""
        self.lines.add(live)
        if live.sealed:
            self.moving[live.id] = live
        if live.waiting and not live.paused and self._alarm_of.get(live.id) != live.waiting[0].due_us:
            self._alarm_of[live.id] = live.waiting[0].due_us
            heapq.heappush(self._alarms, (live.waiting[0].due_us, live.id))

    def due_us(self) -> int | None:
        """When the next chunk is due that waits for its time; None: there is none."""
        while self._alarms:
            due, instance = self._alarms[0]
            live = self.get(instance)
            if live is not None and not live.paused and live.waiting and live.waiting[0].due_us == due:
                return due
            self._drop_alarm()
        return None

    def _drop_alarm(self) -> None:
        due, instance = heapq.heappop(self._alarms)
        if self._alarm_of.get(instance) == due:
            del self._alarm_of[instance]
        if instance in self:
            self._touched[instance] = self[instance]

    def show(self, *, all_of_them: bool) -> None:
        """What was decided is stored now: of those that a turn looked at, or of all."""
        for live in (self if all_of_them else self.unshown).values():
            live.show()
        self.unshown.clear()

    # --- what they mean ---------------------------------------------------------------------------

    def file(self, live: LiveInstance) -> None:
        """Have it be found by its job and what its parameters mean, as they are now."""
        self._unfile(live.id)
        if live.parent is None:
            named = self._job_of[live.id] = live.job.name, live.job.version, live.key is not None
            self._jobs.setdefault(named, _Namesakes()).add(live)

    def _unfile(self, instance: int) -> None:
        named = self._job_of.pop(instance, None)
        if named is not None:
            self._jobs[named].remove(instance)
            if not self._jobs[named]:
                del self._jobs[named]

    def like(self, job: JobDefinition[Any, Any], identity: str, *, keyed: bool = False) -> Iterator[LiveInstance]:
        """Those that people submitted, with or without a key, whose parameters may mean this, the newest first."""
        found = self._jobs.get((job.name, job.version, keyed))
        return iter(()) if found is None else found.like(job.params.type, identity)


class _Namesakes(dict[int, LiveInstance]):
    """Live instances of one job and version."""

    def __init__(self) -> None:
        super().__init__()
        self._meant: dict[str, dict[int, LiveInstance]] = {}
        self._filed: dict[int, tuple[str, int]] = {}
        """Under what each was filed: its identity, and the id of its parameters' type."""
        self._types: dict[int, tuple[Any, set[int]]] = {}

    def add(self, live: LiveInstance) -> None:
        kind = live.job.params.type
        self[live.id] = live
        self._filed[live.id] = live.identity, id(kind)
        self._meant.setdefault(live.identity, {})[live.id] = live
        self._types.setdefault(id(kind), (kind, set()))[1].add(live.id)

    def remove(self, instance: int) -> None:
        identity, kind = self._filed.pop(instance)
        del self[instance]
        meant, of_type = self._meant[identity], self._types[kind][1]
        del meant[instance]
        of_type.discard(instance)
        if not meant:
            del self._meant[identity]
        if not of_type:
            del self._types[kind]

    def like(self, kind: Any, identity: str) -> Iterator[LiveInstance]:
        """Those whose parameters are of another type have to be read to know what they mean."""
        if any(other != kind for other, _ in self._types.values()):
            return reversed(self.values())
        return reversed(self._meant.get(identity, {}).values())

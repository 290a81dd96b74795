"""What a panel shows at one moment, as a frozen value: facts only, drawn elsewhere.

Built from the engine's counters (of a live run) and `AttemptSums`; no query in it grows with the number of chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import CHUNK_ENDED, INSTANCE_ENDED, ChunkStatus, InstanceStatus
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.now import Running
from nbbatch.engine.state import LiveInstance
from nbbatch.panel import run_pages
from nbbatch.panel.attempt_sums import AttemptSums
from nbbatch.pictures.chain_picture import StepFacts, from_shape
from nbbatch.pictures.markup import clip
from nbbatch.store.reading import Reader
from nbbatch.values.views import brief


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How a run stands."""

    id: int
    job: str
    version: int
    key: str | None
    status: InstanceStatus
    known: bool
    """Whether this process works on it (or it has ended); False: it waits for its job."""
    share: float
    """Done, 0 to 1."""
    elapsed: float | None
    """Seconds from the first claim until now, or the end."""
    rate: float | None
    """Records per second; None while unknown, or nobody works on it."""
    eta: float | None
    """Seconds left; None while unknown."""
    steps: tuple[StepFacts, ...]
    errors: int
    """Attempts that ended in an error, those mended since included."""
    error: str | None
    """Why it ended FAILED."""
    reused: int
    """Chunks that took the outputs of others."""
    waits: str | None
    """What is in the way of chunks that might run: hung calls, an executor that takes no work; None: nothing."""
    whole: bool
    """Whether all events are in; False while a panel catches up."""
    at_us: int
    """Of when this is."""
    running: tuple[Running, ...]
    """What workers are busy with, in order of their names."""
    workers: int | None
    """How many attempts may run at once; None where nobody works on it."""
    rates: tuple[float, ...]
    """Records per second of the last minutes, the oldest first, `rates_every` seconds apart."""
    rates_every: float
    causes: int
    """Different causes of what is FAILED."""
    slowest: tuple[str, float] | None
    """The step that took most of the attempts' time, and its share of it; None before anything ended."""
    report: str | None
    """The beginning of what the reduction gave."""
    started_us: int | None
    """First claim; None before it."""
    ended_us: int | None
    paused_us: int | None
    """When it was paused; None unless it is."""

    @property
    def done_us(self) -> int | None:
        """When it will be done if work goes on as it went; None while unknown."""
        return None if self.eta is None or self.ended else self.at_us + round(self.eta * 1e6)

    @property
    def states(self) -> dict[ChunkStatus, int]:
        """Chunks by state, of all steps together."""
        found = Counter[ChunkStatus]()
        for step in self.steps:
            found.update(step.counts)
        return {status: found[status] for status in ChunkStatus if found[status]}

    @property
    def growing(self) -> bool:
        """Whether steps may still give chunks: the number of all is that so far."""
        return any(step.growing for step in self.steps)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.status in INSTANCE_ENDED

    @property
    def chunks(self) -> int:
        """All its chunks."""
        return sum(step.total for step in self.steps)

    @property
    def done(self) -> int:
        """Chunks that have ended, well or not; those that were cancelled were not worked off."""
        return sum(step.counts.get(status, 0) for step in self.steps for status in CHUNK_ENDED) - self.cancelled

    @property
    def cancelled(self) -> int:
        """Chunks that are CANCELLED."""
        return sum(step.counts.get(ChunkStatus.CANCELLED, 0) for step in self.steps)

    @property
    def failed(self) -> int:
        """Chunks that are FAILED."""
        return sum(step.counts.get(ChunkStatus.FAILED, 0) for step in self.steps)


def take(store: Reader, engine: Engine, sums: AttemptSums, row: InstanceRow, now_us: int) -> Snapshot:
    """How an instance stands now.

    Args:
        store: Read on the calling thread's connection.
        engine: Asked for its counters.
        sums: What was read of its events so far.
        row: As stored; of a live instance the state in memory counts.
        now_us: The present.
    """
    live = engine.live.get(row.id)
    status = live.status if live else row.status
    until = now_us if live else row.ended_us or sums.timeline.last_us
    started = live.started_us if live else row.started_us
    share = live.share if live else row.progress
    read = until if sums.whole else min(until, sums.timeline.last_us)  # what is not read yet was no pause
    every, rates = sums.recent.records(started or read, read)
    eta = live.eta(now_us) if live else None
    counts, reused = (run_pages.counts(store, live, row), live.reused) if live else _at_rest(store, row, sums)
    return Snapshot(
        id=row.id, job=row.job, version=row.version, key=row.key, status=status,
        known=live is not None or status in INSTANCE_ENDED,
        share=share,
        elapsed=None if started is None else max(0, until - started) / 1e6,
        rate=live.rate() if live else None, eta=eta,
        steps=_steps(row, sums, until, live, counts),
        errors=sum(group.count for group in sums.errors.values()),
        reused=reused,
        error=None if live else row.error, waits=(engine.hung() or engine.hindrance(live)) if live else None, whole=sums.whole,
        at_us=now_us, running=tuple(engine.now.running(live)) if live else (), workers=engine.now.workers(live) if live else None,
        rates=tuple(rates), rates_every=every, causes=sums.causes(), slowest=_slowest(sums),
        report=None if row.report is None or live else clip(brief(row.report), 300),
        started_us=started, ended_us=None if live else row.ended_us, paused_us=_paused(store, row, status),
    )  # fmt: skip


def plain(store: Reader, engine: Engine, row: InstanceRow, now_us: int) -> Snapshot:
    """How an instance stands now, for a page that is drawn once: read in a few statements instead of event by event.

    Causes of errors and rates of late are left out.
    """
    facts = run_pages.steps(store, engine, row)
    sums = AttemptSums(row.id, whole=True)
    reused = 0 if engine.live.get(row.id) else _reused(store, row)
    sums.counted = ((row.status, row.ended_us, 0), [dict(each.counts) for each in facts], reused)
    found = take(store, engine, sums, row, now_us)
    steps = [replace(each, growing=known.growing) for each, known in zip(facts, found.steps, strict=True)]
    spent = Counter[int](dict(store.fetch("spent", row.id)))
    moves = row.id in engine.live or row.ended_us is not None
    return replace(
        found, steps=tuple(steps), errors=found.failed, slowest=_most(spent, [each.name for each in steps]),
        elapsed=found.elapsed if moves else None,
    )  # fmt: skip


def _slowest(sums: AttemptSums) -> tuple[str, float] | None:
    return _most(sums.timeline.spent(), sums.names)


def _most(spent: Counter[int], names: Sequence[str]) -> tuple[str, float] | None:
    most = max(spent, key=lambda step: spent[step], default=None)
    return None if most is None or not spent[most] else (names[most], spent[most] / spent.total())


def _paused(store: Reader, row: InstanceRow, status: InstanceStatus) -> int | None:
    """None too while chunks that run finish and there is no time to read it."""
    asked = status is InstanceStatus.PAUSED and not store.busy
    return store.fetch("paused_since", row.id)[0][0] if asked else None


def _steps(
    row: InstanceRow, sums: AttemptSums, until_us: int, live: LiveInstance | None, counted: Sequence[dict[ChunkStatus, int]]
) -> tuple[StepFacts, ...]:  # fmt: skip
    facts, started = from_shape(row.shape), row.started_us or until_us
    etas = live.step_etas() if live else [None] * len(facts)
    grow = growing([each.targets for each in facts], counted) if row.ended_us is None else [False] * len(facts)
    return tuple(
        replace(
            each, counts=counted[place], median=sums.quantile(place, 0.5), p95=sums.quantile(place, 0.95), growing=grow[place],
            left=etas[place],
            rate=(sums.recent.chunks(place, started, until_us) or None) if live else None,
        )
        for place, each in enumerate(facts)
    )  # fmt: skip


def growing(targets: Sequence[Sequence[int]], counts: Sequence[Mapping[ChunkStatus, int]]) -> list[bool]:
    """For each step whether steps before it may still give it chunks.

    Args:
        targets: For each step, in topological order, which steps get its outputs.
        counts: Its chunks by state.

    >>> growing([[1], [2], []], [{ChunkStatus.COMPLETED: 1}, {ChunkStatus.QUEUED: 2}, {}])
    [False, False, True]
    """
    found = [False] * len(targets)
    for place, (to, count) in enumerate(zip(targets, counts, strict=True)):
        gives = found[place] or any(n for status, n in count.items() if status not in CHUNK_ENDED)
        for target in to:
            found[target] = found[target] or gives
    return found


def _at_rest(store: Reader, row: InstanceRow, sums: AttemptSums) -> tuple[list[dict[ChunkStatus, int]], int]:
    """Counts of an instance that is not live, and how many chunks were reused: read again only when something has changed."""
    key = (row.status, row.ended_us, sums.seen if sums.whole else 0)
    if sums.counted is None or sums.counted[0] != key:
        sums.counted = (key, run_pages.counts(store, None, row), _reused(store, row))
    return sums.counted[1:]


def _reused(store: Reader, row: InstanceRow) -> int:
    return store.fetch("reused", row.id)[0][0]

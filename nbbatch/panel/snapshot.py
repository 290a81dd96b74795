"""What a panel shows at one moment, as a frozen value: facts only, drawn elsewhere.

Built from the engine's counters (of a live run) and `AttemptSums`; no query in it grows with the number of chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import CHUNK_ENDED, INSTANCE_ENDED, ChunkStatus, InstanceStatus
from nbbatch.engine.dispatcher import Engine
from nbbatch.panel.attempt_sums import AttemptSums
from nbbatch.panel.run_pages import counts
from nbbatch.pictures.chain_picture import StepFacts, from_shape
from nbbatch.store.reading import Reader


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
    waits: str | None
    """What is in the way of chunks that might run: hung calls, an executor that takes no work; None: nothing."""
    whole: bool
    """Whether all events are in; False while a panel catches up."""

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
    return Snapshot(
        id=row.id, job=row.job, version=row.version, key=row.key, status=status,
        known=live is not None or status in INSTANCE_ENDED,
        share=share,
        elapsed=None if started is None else max(0, until - started) / 1e6,
        rate=live.rate() if live else None, eta=live.eta(now_us) if live else None,
        steps=_steps(store, engine, row, sums),
        errors=sum(group.count for group in sums.errors.values()),
        error=None if live else row.error, waits=(engine.hung() or engine.hindrance(live)) if live else None, whole=sums.whole,
    )  # fmt: skip


def _steps(store: Reader, engine: Engine, row: InstanceRow, sums: AttemptSums) -> tuple[StepFacts, ...]:
    return tuple(
        replace(facts, counts=count, median=sums.quantile(place, 0.5), p95=sums.quantile(place, 0.95))
        for place, (facts, count) in enumerate(
            zip(from_shape(row.shape), _counts(store, engine, row, sums), strict=True)
        )
    )


def _counts(store: Reader, engine: Engine, row: InstanceRow, sums: AttemptSums) -> list[dict[ChunkStatus, int]]:
    """Counts of an instance that is not live are read again only when something has changed."""
    if row.id in engine.live:
        return counts(store, engine, row)
    key = (row.status, row.ended_us, sums.seen if sums.whole else 0)
    if sums.counted is None or sums.counted[0] != key:
        sums.counted = (key, counts(store, engine, row))
    return sums.counted[1]

"""What pictures show, read from a store: facts in, drawings out. Nothing here starts or changes work.

Each picture reads in a few statements whose results do not grow with the chunks, so it costs what a scan of an
instance's events costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import CHUNK_BY_CODE, CHUNK_ENDED, ChunkStatus
from nbbatch.engine.decide import eta
from nbbatch.engine.dispatcher import Engine
from nbbatch.pictures import chain_picture, static
from nbbatch.pictures import history as history_picture
from nbbatch.pictures import timeline as timeline_picture
from nbbatch.pictures.chain_picture import StepFacts, from_shape
from nbbatch.pictures.picture import Picture
from nbbatch.pictures.progress_line import Reading
from nbbatch.pictures.style import duration
from nbbatch.pictures.timeline import BINS, LANES, SINGLE, Bar
from nbbatch.store import frames
from nbbatch.store.database import Store

if TYPE_CHECKING:
    import polars as pl

# --- the chain ------------------------------------------------------------------------------------


def steps(store: Store, engine: Engine, row: InstanceRow) -> list[StepFacts]:
    """The steps of an instance with their chunks by state; counts of a live one are those in memory."""
    live = engine.live.get(row.id)
    frame = frames.steps(store, row.id, live.stored_counts if live else ())
    return [
        replace(facts, counts=_counts(line), median=line["median_seconds"], p95=line["p95_seconds"])
        for facts, line in zip(from_shape(row.shape), frame.iter_rows(named=True), strict=True)
    ]


def _counts(line: dict[str, Any]) -> dict[ChunkStatus, int]:
    return {status: count for status in ChunkStatus if (count := line[status.name.lower()])}


def chain(store: Store, engine: Engine, row: InstanceRow) -> Picture:
    """The chain of an instance, and how the chunks of each step stand."""
    return chain_picture.chain(_title(row), steps(store, engine, row))


def _title(row: InstanceRow) -> str:
    return f"{row.status.look.named} · {row.job} v{row.version} #{row.id}"


# --- time -----------------------------------------------------------------------------------------


def timeline(store: Store, row: InstanceRow) -> Picture:
    """The attempts of an instance that have ended, by worker; merged when there are many."""
    ((attempts, first, last, event),) = store.fetch("timeline_extent", row.id)
    names = [facts.name for facts in from_shape(row.shape)]
    workers = [worker for worker, _ in store.fetch("timeline_workers", row.id, event)]
    lanes = _lanes(workers)
    single = attempts <= SINGLE
    bars = _single(store, row, workers, event) if single else _merged(store, row, first, last, event)

    def facts() -> pl.DataFrame:
        return (
            store.frame("attempts", row.id, None, None, None, frames.ROWS, 0)
            if single
            else _bar_frame(names, lanes, bars)
        )

    return timeline_picture.timeline(_title(row), names, lanes, bars, facts)


def _lanes(workers: list[str]) -> list[str]:
    if len(workers) <= LANES:
        return [worker or "unnamed" for worker in workers]
    return [*(worker or "unnamed" for worker in workers[: LANES - 1]), f"{len(workers) - LANES + 1} others"]


def _single(store: Store, row: InstanceRow, workers: list[str], event: int | None) -> list[Bar]:
    place = {worker: min(lane, LANES - 1) for lane, worker in enumerate(workers)}
    rows = store.fetch("timeline_attempts", row.id, event)
    first = rows[0][2] if rows else 0
    return [
        Bar(place[worker], step, (start - first) / 1e6, (end - first) / 1e6, busy, count, int(failed), status)
        for worker, step, start, end, busy, count, failed, status in rows
    ]


def _merged(store: Store, row: InstanceRow, first: int, last: int, event: int) -> list[Bar]:
    width = max(1, -(-(last - first + 1) // BINS))
    rows = store.fetch("timeline_merged", row.id, first, width, LANES, event)
    return [
        Bar(lane, step, start * width / 1e6, (start + 1) * width / 1e6, min(1.0, busy), attempts, failed, "")
        for lane, start, step, busy, attempts, failed in rows
    ]


def _bar_frame(names: list[str], lanes: list[str], bars: list[Bar]) -> pl.DataFrame:
    import polars as pl

    rows: list[dict[str, Any]] = [
        {"worker": lanes[bar.lane], "step": names[bar.step], "start_seconds": bar.start, "end_seconds": bar.end,
         "busy": bar.busy, "attempts": bar.attempts, "failed": bar.failed}
        for bar in bars
    ]  # fmt: skip
    return pl.DataFrame(rows)


def history(store: Store, row: InstanceRow) -> Picture:
    """The chunks of an instance by state over time, from its making to the last thing that happened."""
    ((last,),) = store.fetch("latest_moment", row.id)
    width = max(1, -(-(last - row.created_us + 1) // history_picture.POINTS))
    moves: dict[int, dict[ChunkStatus, int]] = {}
    for status, place, change in store.fetch("state_changes", row.id, row.created_us, width):
        at = moves.setdefault(place, {})
        at[ChunkStatus[status]] = at.get(ChunkStatus[status], 0) + change
    counts = _running_sums(moves, max(moves, default=-1) + 1)
    moments = [(place + 1) * width / 1e6 for place in range(len(counts))]
    return history_picture.history(_title(row), moments, counts, lambda: _count_frame(moments, counts))


def _running_sums(moves: dict[int, dict[ChunkStatus, int]], points: int) -> list[dict[ChunkStatus, int]]:
    now: dict[ChunkStatus, int] = {}
    found: list[dict[ChunkStatus, int]] = []
    for place in range(points):
        for status, change in moves.get(place, {}).items():
            now[status] = now.get(status, 0) + change
        found.append({status: count for status, count in now.items() if count})
    return found


def _count_frame(moments: list[float], counts: list[dict[ChunkStatus, int]]) -> pl.DataFrame:
    import polars as pl

    columns = {status.value.lower(): [count.get(status, 0) for count in counts] for status in ChunkStatus}
    schema = {"seconds": pl.Float64, **dict.fromkeys(columns, pl.Int64)}
    return pl.DataFrame({"seconds": moments, **columns}, schema=schema)


# --- plain pages ----------------------------------------------------------------------------------


def run_page(
    store: Store, engine: Engine, row: InstanceRow, head: Callable[[list[tuple[str, int]]], str]
) -> str:  # fmt: skip
    """A run as plain HTML; ``head`` makes its line from chunks by state."""
    facts = steps(store, engine, row)
    totals = [(status.value, sum(each.counts.get(status, 0) for each in facts)) for status in ChunkStatus]
    errors = store.frame("errors", row.id, None, None, None, 1, 0)
    first = None if errors.is_empty() else errors.row(0, named=True)
    return static.run(head([each for each in totals if each[1]]), row, facts, first, frames.warnings(store, row.id))


def chunk_page(store: Store, row: InstanceRow, chunk: dict[str, Any], traceback: str | None, log: str | None) -> str:
    """A chunk as plain HTML."""
    attempts = store.frame("attempts", row.id, None, chunk["id"], None, static.MAX_ROWS + 1, 0)
    return static.chunk(chunk, _input(store, row, chunk["id"]), attempts, traceback, log)


def _input(store: Store, row: InstanceRow, chunk: int) -> str | None:
    """The stored input as text, without running anybody's code; None for the reduction's, which is that of many."""
    ((step, data, parent),) = store.fetch("chunk", row.id, chunk)
    if step == 0 and parent is None:
        data = row.params
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"a table of {len(data):,} bytes; run.chunk({chunk}).input reads it"


def reading(store: Store, engine: Engine, row: InstanceRow) -> Reading:
    """How an instance stands, for a progress line."""
    live = engine.live.get(row.id)
    label = f"{row.job} #{row.id}"
    if live is None:
        counts = [facts.counts for facts in steps(store, engine, row)]
        return Reading(f"{label} {row.status}", *_totals(counts), row.progress, "")
    counts = [{CHUNK_BY_CODE[code]: n for code, n in enumerate(each) if n} for each in live.counts]
    left = eta(live.progress(), live.started_us, live.latest_end_us)
    words = "" if left is None else f"about {duration(left)} left"
    return Reading(label, *_totals(counts), live.progress(), words)


def _totals(counts: Iterable[Mapping[ChunkStatus, int]]) -> tuple[int, int]:
    """Chunks that ended, and all."""
    every = [each for step in counts for each in step.items()]
    return sum(count for status, count in every if status in CHUNK_ENDED), sum(count for _, count in every)

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

_EXTENT = """
SELECT count(*), min(started_us), max(ended_us), max(id) FROM event WHERE instance = $1 AND started_us IS NOT NULL
"""
"""What follows reads up to this last event, so that the parts of a picture are of one moment while the run goes on."""

_WORKERS = """
SELECT coalesce(worker, ''), count(*) FROM event WHERE instance = $1 AND id <= $2 AND started_us IS NOT NULL
GROUP BY ALL ORDER BY count(*) DESC, 1
"""

_BARS = """
SELECT coalesce(worker, ''), step, started_us, ended_us, 1.0::DOUBLE, 1, status IN (5, 7), chunk_status(status)
FROM event WHERE instance = $1 AND id <= $2 AND started_us IS NOT NULL ORDER BY started_us
"""

_MERGED = """
WITH worker AS (
    SELECT coalesce(worker, '') AS worker, count(*) AS attempts
    FROM event WHERE instance = $1 AND id <= $5 AND started_us IS NOT NULL GROUP BY ALL
), lane AS (
    SELECT worker, least(row_number() OVER (ORDER BY attempts DESC, worker), $4) - 1 AS lane FROM worker
), part AS (
    SELECT l.lane, e.step, e.status IN (5, 7) AS failed, e.started_us AS a, e.ended_us AS z,
        unnest(range((e.started_us - $2) // $3, (e.ended_us - $2) // $3 + 1)) AS bin
    FROM event e JOIN lane l ON l.worker = coalesce(e.worker, '')
    WHERE e.instance = $1 AND e.id <= $5 AND e.started_us IS NOT NULL
), spent AS (
    SELECT lane, bin, step, sum(least(z, $2 + (bin + 1) * $3) - greatest(a, $2 + bin * $3)) AS us,
        count(*) FILTER (bin = (a - $2) // $3) AS attempts, count(*) FILTER (failed AND bin = (z - $2) // $3) AS failed
    FROM part GROUP BY lane, bin, step
)
SELECT lane, bin::BIGINT, arg_max(step, us), sum(us)::DOUBLE / $3, sum(attempts)::BIGINT, sum(failed)::BIGINT
FROM spent GROUP BY lane, bin ORDER BY lane, bin
"""
"""$2: the first start; $3: microseconds of a bin; $4: lanes, the last of which is of all workers left; $5: the last event."""

_LATEST = """
SELECT greatest(max(s.created_us), (SELECT max(ended_us) FROM event WHERE instance = $1),
    (SELECT max(created_us) FROM chunk WHERE instance = $1)) FROM submitted s WHERE s.id = $1
"""

_MOVES = """
WITH state AS (
    SELECT h.chunk, h.status, epoch_us(h.happened) AS us, h.rank, h.event FROM history h
    WHERE h.instance = $1 AND h.chunk IS NOT NULL
), move AS (
    SELECT status, us, lag(status) OVER (PARTITION BY chunk ORDER BY us, rank, event) AS before FROM state
)
SELECT status, greatest((us - $2) // $3, 0)::BIGINT AS bin, count(*) FROM move GROUP BY ALL
UNION ALL
SELECT before, greatest((us - $2) // $3, 0)::BIGINT, -count(*) FROM move WHERE before IS NOT NULL GROUP BY ALL
"""


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
    return f"{static.worded(row.status)} · {row.job} v{row.version} #{row.id}"


# --- time -----------------------------------------------------------------------------------------


def timeline(store: Store, row: InstanceRow) -> Picture:
    """The attempts of an instance that have ended, by worker; merged when there are many."""
    ((attempts, first, last, event),) = store.fetch(_EXTENT, row.id)
    names = [facts.name for facts in from_shape(row.shape)]
    workers = [worker for worker, _ in store.fetch(_WORKERS, row.id, event)]
    lanes = _lanes(workers)
    single = attempts <= SINGLE
    bars = _single(store, row, workers, event) if single else _merged(store, row, first, last, event)

    def facts() -> pl.DataFrame:
        return (
            store.frame(frames.ATTEMPTS, row.id, None, None, frames.ROWS, 0)
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
    rows = store.fetch(_BARS, row.id, event)
    first = rows[0][2] if rows else 0
    return [
        Bar(place[worker], step, (start - first) / 1e6, (end - first) / 1e6, busy, count, int(failed), status)
        for worker, step, start, end, busy, count, failed, status in rows
    ]


def _merged(store: Store, row: InstanceRow, first: int, last: int, event: int) -> list[Bar]:
    width = max(1, -(-(last - first + 1) // BINS))
    rows = store.fetch(_MERGED, row.id, first, width, LANES, event)
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
    ((last,),) = store.fetch(_LATEST, row.id)
    width = max(1, -(-(last - row.created_us + 1) // history_picture.POINTS))
    moves: dict[int, dict[ChunkStatus, int]] = {}
    for status, place, change in store.fetch(_MOVES, row.id, row.created_us, width):
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
    errors = store.frame(frames.ERRORS, row.id, None, None, 1, 0)
    first = None if errors.is_empty() else errors.row(0, named=True)
    return static.run(head([each for each in totals if each[1]]), row, facts, first, frames.warnings(store, row.id))


def chunk_page(store: Store, row: InstanceRow, chunk: dict[str, Any], traceback: str | None, log: str | None) -> str:
    """A chunk as plain HTML."""
    attempts = store.frame(frames.ATTEMPTS, row.id, None, chunk["id"], static.MAX_ROWS + 1, 0)
    return static.chunk(chunk, _input(store, row, chunk["id"]), attempts, traceback, log)


def _input(store: Store, row: InstanceRow, chunk: int) -> str | None:
    """The stored input as text, without running anybody's code; None for the reduction's, which is that of many."""
    ((step, data, parent),) = store.fetch(frames.CHUNK, row.id, chunk)
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

"""Pictures and plain pages of a run, read from a store. Nothing here starts or changes work.

Each picture reads in a few statements whose results do not grow with the chunks, so it costs what a scan of an
instance's events costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import CHUNK_ENDED, ChunkStatus, by_status
from nbbatch.base.times import in_words
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.state import LiveInstance
from nbbatch.panel.attempt_sums import Timeline, bar_frame
from nbbatch.pictures import chain_picture, static
from nbbatch.pictures import timeline as timeline_picture
from nbbatch.pictures.chain_picture import StepFacts, from_shape
from nbbatch.pictures.picture import Picture
from nbbatch.pictures.progress_line import Reading
from nbbatch.pictures.style import duration, lasted
from nbbatch.store import frames
from nbbatch.store.reading import Reader
from nbbatch.values.outside import is_reference, size_of

if TYPE_CHECKING:
    import polars as pl

# --- the chain ------------------------------------------------------------------------------------


def steps(store: Reader, engine: Engine, row: InstanceRow) -> list[StepFacts]:
    """The steps of an instance with their chunks by state; counts of a live one are those in memory."""
    live = engine.live.get(row.id)
    lines = frames.steps(store, row.id, live.stored_counts if live else ()).rows(named=True)
    return [
        replace(
            facts, counts={status: n for status in ChunkStatus if (n := line[status.name.lower()])},
            median=line["median_seconds"], p95=line["p95_seconds"],
        )
        for facts, line in zip(from_shape(row.shape), lines, strict=True)
    ]  # fmt: skip


def counts(store: Reader, live: LiveInstance | None, row: InstanceRow) -> list[dict[ChunkStatus, int]]:
    """Chunks of each step by state: of a live instance those in memory, as of the last commit."""
    return list(map(by_status, live.stored_counts)) if live and live.stored_counts else frames.counts(store, row.id)


def chain(store: Reader, engine: Engine, row: InstanceRow) -> Picture:
    """The chain of an instance, and how the chunks of each step stand."""
    return chain_picture.chain(_title(row), steps(store, engine, row))


def _title(row: InstanceRow) -> str:
    return f"{row.status.look.named} · {row.job} v{row.version} #{row.id}"


# --- time -----------------------------------------------------------------------------------------


def timeline(store: Reader, engine: Engine, row: InstanceRow) -> Picture:
    """The attempts of an instance, by worker; merged when there are many."""
    ((newest,),) = store.fetch("newest_event", 0)
    read = Timeline()
    read.add(store, (row.id, 0, newest))
    names = [facts.name for facts in from_shape(row.shape)]
    live = engine.live.get(row.id)
    running = engine.now.running(live) if live else ()
    lanes, bars, at = read.drawn(store, row.id, newest, running=running, now_us=engine.clock.now())

    def facts() -> pl.DataFrame:
        if any(not bar.status for bar in bars):
            return bar_frame(names, lanes, bars)
        return store.frame("attempts", row.id, None, None, None, frames.ROWS, 0)

    return timeline_picture.timeline(_title(row), names, lanes, bars, facts, at)


# --- plain pages ----------------------------------------------------------------------------------


def run_page(store: Reader, engine: Engine, row: InstanceRow, head: static.Head, steps: Sequence[StepFacts]) -> str:
    """A run as plain HTML, with what its head says of it."""
    first, now = _first_error(store, row.id), engine.clock.now()
    return static.run(head, steps, first, frames.warnings(store, row.id), in_words(now), _busy(engine, row, steps, now))


def _busy(engine: Engine, row: InstanceRow, facts: Sequence[StepFacts], now_us: int) -> list[list[Any]]:
    """What workers are busy with, as rows of a table."""
    live = engine.live.get(row.id)
    running = engine.now.running(live) if live else ()
    steps = [facts[each.step] for each in running]
    return [
        [
            str(each.chunk), step.name, each.input or ("all there is" if step.kind == "reduction" else ""),
            lasted((now_us - each.started_us) / 1e6, step.median, step.p95, each.given), str(each.attempt), each.worker,
        ]
        for each, step in zip(running, steps, strict=True)
    ]  # fmt: skip


def _first_error(store: Reader, instance: int) -> dict[str, Any] | None:
    """Of an instance, in two steps: read with all others, tracebacks may be gigabytes."""
    for error in store.dicts("first_error", instance):
        ((traceback,),) = store.fetch("event_traceback", error["event"])
        return {**error, "traceback": traceback}
    return None


def chunk_page(store: Reader, row: InstanceRow, chunk: dict[str, Any], traceback: str | None, log: str | None) -> str:
    """A chunk as plain HTML."""
    attempts = store.frame("attempts", row.id, None, chunk["id"], None, static.MAX_ROWS + 1, 0)
    return static.chunk(chunk, _input(store, row, chunk["id"]), attempts, traceback, log)


def _input(store: Reader, row: InstanceRow, chunk: int) -> str | None:
    """The stored input as text, without running anybody's code; None for the reduction's, which is that of many."""
    ((step, data, parent),) = store.fetch("chunk", row.id, chunk)
    if step == 0 and parent is None:
        data = row.params
    if data is None:
        return None
    if is_reference(data):
        return f"a value of {size_of(data):,} bytes, in a file; run.chunk({chunk}).input reads it"
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"a table of {len(data):,} bytes; run.chunk({chunk}).input reads it"


def reading(store: Reader, engine: Engine, row: InstanceRow) -> Reading:
    """How an instance stands, for a progress line."""
    live, label = engine.live.get(row.id), f"{row.job} #{row.id}"
    every = [each for step in counts(store, live, row) for each in step.items()]
    done, total = sum(n for status, n in every if status in CHUNK_ENDED), sum(n for _, n in every)
    if live is None:
        return Reading(f"{label} {row.status}", done, total, row.progress, "")
    left = live.eta(engine.clock.now())
    if left is not None:
        return Reading(label, done, total, live.share, f"about {duration(max(left, 1))} left")
    return Reading(label, done, total, live.share, "", sum(each.given or 0 for each in engine.now.running(live)))

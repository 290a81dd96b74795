"""Which chunks a page of the panel lists: few bounded reads, however many chunks there are and wherever they lie.

filter ─▶ candidates by id ─▶ those whose last event says so ─▶ one page, and where the next begins
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbbatch.base.states import CHUNK_BY_CODE, ChunkStatus
from nbbatch.engine.dispatcher import Engine
from nbbatch.store.database import Store

ROWS = 20
"""Chunks of a page."""
LOOKED = 100_000
"""Chunks looked at in one read for queued ones; events, for those in another state, a five-hundredth of it."""
READS = 12
"""Reads for one page; what they do not reach, the next page goes on from."""

_C = ChunkStatus
_UNTOUCHED = frozenset({_C.QUEUED, _C.GATE_WAITING})


@dataclass(frozen=True, slots=True)
class Filter:
    """Which chunks a page shows."""

    step: int | None = None
    status: ChunkStatus | None = None
    after: int = 0
    """Id of the chunk before the first."""

    @property
    def told(self) -> list[Any]:
        """Step, state and place as the page has them."""
        return ["" if self.step is None else self.step, self.status.value if self.status else "", self.after]


@dataclass(frozen=True, slots=True)
class Page:
    """Chunks as (id, step, parent, state, attempts, seconds, error type, error)."""

    rows: list[tuple[Any, ...]]
    next: int | None
    """What the next page's `Filter.after` is; None on the last."""


def page(store: Store, engine: Engine, instance: int, chosen: Filter) -> Page:
    """The chunks of an instance that meet a filter, in order of id, from a place on."""
    busy = running(engine, instance)
    ids, following = _ids(store, engine, instance, chosen, busy)
    return Page(_rows(store, engine, instance, ids, set(busy)), following)


def running(engine: Engine, instance: int) -> list[int]:
    """Chunks of an instance that are claimed now, in order of id."""

    def look() -> list[int]:
        live = engine.live.get(instance)  # what still runs of a cancelled one is dropped when it ends
        return [item.chunk for flight in engine.flights if flight.live is live for item in flight.micro.items]

    return sorted(engine.call(look))


def _ids(store: Store, engine: Engine, instance: int, chosen: Filter, busy: list[int]) -> tuple[list[int], int | None]:
    if chosen.status is _C.IN_PROGRESS:
        steps = dict(store.fetch("steps_of_chunks", instance, busy))
        mine = [chunk for chunk in busy if chunk > chosen.after and chosen.step in (None, steps.get(chunk))]
        return _cut(mine)
    if chosen.status is None:
        return _cut([chunk for (chunk,) in store.fetch("chunks_after", instance, chosen.after, chosen.step, ROWS + 1)])
    if chosen.status in _UNTOUCHED:
        return _untouched(store, engine, instance, chosen, set(busy))
    return _in_state(store, instance, chosen)


def _cut(ids: list[int]) -> tuple[list[int], int | None]:
    found = ids[:ROWS]
    return found, found[-1] if len(ids) > ROWS else None


def _in_state(store: Store, instance: int, chosen: Filter) -> tuple[list[int], int | None]:
    """Chunks whose last event has the state; each read goes on after the last candidate."""
    assert chosen.status is not None
    found: list[int] = []
    after = chosen.after
    for _ in range(READS):
        candidates = store.fetch("chunks_once_in", instance, after, chosen.step, chosen.status.code, LOOKED // 500)
        found += [chunk for chunk, holds in candidates if holds]
        if not candidates or len(found) > ROWS:
            return _cut(found)
        after = candidates[-1][0]
    return found, after


def _untouched(
    store: Store, engine: Engine, instance: int, chosen: Filter, busy: set[int]
) -> tuple[list[int], int | None]:
    """Chunks that nobody has begun, and those queued again."""
    again, more = _in_state(store, instance, Filter(chosen.step, _C.QUEUED, chosen.after))
    fresh, after = _never(store, engine, instance, chosen, busy)
    ids, following = _cut(sorted({*(chunk for chunk in again if chunk not in busy), *fresh}))
    return ids, following or min(filter(None, (more, after)), default=None)


def _never(store: Store, engine: Engine, instance: int, chosen: Filter, busy: set[int]) -> tuple[list[int], int | None]:
    ((highest,),) = store.fetch("highest_chunk", instance)
    found: list[int] = []
    after = max(chosen.after, _first_unclaimed(engine, instance, chosen.step) - 1)
    for _ in range(READS):
        rows = store.fetch("chunks_never_begun", instance, after, chosen.step, ROWS + 1 + len(busy), LOOKED)
        found += [chunk for (chunk,) in rows if chunk not in busy]
        after += LOOKED
        if len(found) > ROWS or after >= highest:
            return _cut(found)
    return found, after


def _first_unclaimed(engine: Engine, instance: int, step: int | None) -> int:
    """Below this id nothing is unclaimed that was not begun before; 0 where that is not known."""

    def look() -> int:
        live = engine.live.get(instance)
        steps = [] if live is None else [each for each in live.steps if step in (None, each.node.index)]
        open_ = [
            each.ready[0][0] if each.ready else each.cursor + 1
            for each in steps
            if each.cursor < each.last or each.ready
        ]
        return min(open_, default=0)

    return engine.call(look)


def _rows(store: Store, engine: Engine, instance: int, ids: list[int], busy: set[int]) -> list[tuple[Any, ...]]:
    if not ids:
        return []
    shut = _shut(engine, instance)
    return [
        (chunk, step, parent, _state(CHUNK_BY_CODE[code], chunk in busy, step in shut), *rest)
        for chunk, step, parent, code, *rest in store.fetch("chunk_rows", instance, ids[0], ids[-1], ids)
    ]


def _shut(engine: Engine, instance: int) -> set[int]:
    live = engine.live.get(instance)
    return {place for place, step in enumerate(live.steps) if not step.opened} if live else set()


def _state(stored: ChunkStatus, busy: bool, shut: bool) -> ChunkStatus:
    if busy:
        return _C.IN_PROGRESS
    return _C.GATE_WAITING if shut and stored is _C.QUEUED else stored

"""Which chunks a page of the panel lists, and in which order.

In order of id they are read in ranges, so that a page costs little however many chunks there are; the slowest and the newest are
looked for among all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbbatch.base.states import ChunkStatus
from nbbatch.heal.inputs import briefs
from nbbatch.store import frames
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

ROWS = 40
"""Chunks of a page."""
RANGE = 20_000
"""Ids looked through at first; four times as many each time that they do not fill the page."""
ORDERS = {"id": "in order of creation", "slowest": "slowest first", "newest": "newest first"}
COLUMNS = ("id", "step", "parent", "status", "attempts", "seconds", "error_type", "error")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which chunks a page shows."""

    step: int | None = None
    status: ChunkStatus | None = None
    after: int = 0
    """In order of id: the id of the chunk before the first."""
    order: str = "id"
    offset: int | None = 0
    """How many chunks there are before the first; None: not known."""

    @property
    def told(self) -> list[Any]:
        """Step, state, place and order as the page has them."""
        return [
            "" if self.step is None else self.step,
            self.status.value if self.status else "",
            self.after,
            self.order,
        ]


@dataclass(frozen=True, slots=True)
class Page:
    """Some chunks, in the order that was asked for."""

    rows: pl.DataFrame
    next: tuple[int, int | None] | None
    """What the next page's `Filter.after` and `Filter.offset` are; None on the last."""
    inputs: Mapping[int, str] = field(default_factory=dict[int, str])
    """What each works on, in a few words."""
    workers: Mapping[int, str] = field(default_factory=dict[int, str])
    """Who made the last attempt at each."""


def asked(message: Mapping[str, Any], store: Reader, instance: int) -> Filter:
    """The filter that a page asks for; ``jump``: to a chunk of this id, or the next one there is."""
    step, status, order = message.get("step"), message.get("status"), str(message.get("order") or "id")
    place = int(step) if step not in (None, "") else None
    state = ChunkStatus(status) if status else None
    if message.get("jump") is not None:
        after = max(0, int(message["jump"]) - 1)
        before = store.fetch("chunks_before", instance, place, after)[0][0] if state is None else None
        return Filter(place, state, after, "id", before)
    offset = message.get("offset", 0)
    return Filter(
        place, state, int(message.get("after") or 0), order if order in ORDERS else "id",
        None if offset is None else max(0, int(offset)),
    )  # fmt: skip


def page(store: Reader, instance: int, chosen: Filter, params: bytes = b"") -> Page:
    """The chunks of an instance that meet a filter, from a place on; the input of the first step's are the parameters."""
    rows = _in_order(store, instance, chosen) if chosen.order == "id" else _sorted(store, instance, chosen)
    shown = rows.head(ROWS)
    ids: list[int] = shown["id"].to_list()
    next_ = None
    if rows.height > ROWS:
        next_ = (ids[-1], None if chosen.offset is None else chosen.offset + ROWS)
    told = briefs(store, instance, ids, params)
    return Page(
        shown,
        next_,
        {chunk: each.input for chunk, each in told.items()},
        {chunk: each.worker for chunk, each in told.items()},
    )


def _in_order(store: Reader, instance: int, chosen: Filter) -> pl.DataFrame:
    """One more than a page has, if there are so many."""
    step = None if chosen.step is None else frames.step_names(store, instance)[chosen.step]
    ((highest,),) = store.fetch("highest_chunk", instance)
    low, width = chosen.after + 1, RANGE
    found = _read(store, instance, step, chosen, low, width)
    while found.height <= ROWS and low + width <= highest:
        low, width = low + width, width * 4
        found.extend(_read(store, instance, step, chosen, low, width))
    return found


def _read(store: Reader, instance: int, step: str | None, chosen: Filter, low: int, width: int) -> pl.DataFrame:
    return store.frame(
        "chunks", instance, step, chosen.status and chosen.status.value, low, low + width - 1, None, ROWS + 1, 0
    ).select(COLUMNS)


def _sorted(store: Reader, instance: int, chosen: Filter) -> pl.DataFrame:
    """As many of the slowest, or of those whose last attempt ended last."""
    query = "slowest_chunks" if chosen.order == "slowest" else "newest_chunks"
    code = None if chosen.status is None else chosen.status.code
    ids = [chunk for (chunk,) in store.fetch(query, instance, chosen.step, code, ROWS + 1, chosen.offset or 0)]
    rows = store.frame("chunks_by_id", instance, min(ids, default=0), max(ids, default=0), ids).select(COLUMNS)
    places = {chunk: place for place, chunk in enumerate(ids)}
    return rows[sorted(range(rows.height), key=lambda row: places[rows["id"][row]])]

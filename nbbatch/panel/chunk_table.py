"""Which chunks a page of the panel lists: read in ranges of ids, so that a page costs little however many chunks there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbbatch.base.states import ChunkStatus
from nbbatch.store import frames
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

ROWS = 20
"""Chunks of a page."""
RANGE = 20_000
"""Ids looked through at first; four times as many each time that they do not fill the page."""
COLUMNS = ("id", "step", "parent", "status", "attempts", "seconds", "error_type", "error")


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
    """Chunks in order of id."""

    rows: pl.DataFrame
    next: int | None
    """What the next page's `Filter.after` is; None on the last."""


def page(store: Reader, instance: int, chosen: Filter) -> Page:
    """The chunks of an instance that meet a filter, in order of id, from a place on."""
    step = None if chosen.step is None else frames.step_names(store, instance)[chosen.step]
    ((highest,),) = store.fetch("highest_chunk", instance)
    low, width = chosen.after + 1, RANGE
    found = _read(store, instance, step, chosen, low, width)
    while found.height <= ROWS and low + width <= highest:
        low, width = low + width, width * 4
        found.extend(_read(store, instance, step, chosen, low, width))
    rows = found.head(ROWS)
    return Page(rows, rows["id"][-1] if found.height > ROWS else None)


def _read(store: Reader, instance: int, step: str | None, chosen: Filter, low: int, width: int) -> pl.DataFrame:
    return store.frame(
        "chunks", instance, step, chosen.status and chosen.status.value, low, low + width - 1, None, ROWS + 1, 0
    ).select(COLUMNS)

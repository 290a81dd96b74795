"""What a step gave in two runs, item by item."""

from __future__ import annotations

import json
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

from nbbatch.heal.compare import listed
from nbbatch.store.database import Store

if TYPE_CHECKING:
    import polars as pl

Row = tuple[str, str, int | None, int | None, str, str | None, str | None]


class Diff:
    """Differences of a step's outputs between two runs.

    Attributes:
        added, removed: Inputs that only the other run has, only this one.
        changed: Inputs of both for which the outputs or the state differ.
        same: Inputs of both with equal outputs.
    """

    def __init__(self, step: str, rows: list[Row], same: int) -> None:
        self.step = step
        self._rows = rows
        kinds = defaultdict[str, set[tuple[int | None, int | None]]](set)
        for kind, _, here, there, *_ in rows:
            kinds[kind].add((here, there))
        self.added, self.removed, self.changed = (len(kinds[kind]) for kind in ("added", "removed", "changed"))
        self.same = same

    def frame(self) -> pl.DataFrame:
        """One row per field that differs.

        Columns: change ("added", "removed" or "changed"), input (JSON text), chunk, other_chunk, field, before, after (JSON
        text; of an added or removed item null).
        """
        import polars as pl

        text, number = pl.String, pl.Int64
        schema = {
            "change": text, "input": text, "chunk": number, "other_chunk": number, "field": text, "before": text, "after": text,
        }  # fmt: skip
        return pl.DataFrame(self._rows, schema=schema, orient="row")

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __repr__(self) -> str:
        head = f"step {self.step}: {self.changed:,} changed, {self.added:,} added, {self.removed:,} removed, {self.same:,} the same"
        lines = [f"  {row[0]} {row[1][:80]}: {row[4]} {row[5]} → {row[6]}" for row in self._rows[:10]]
        return "\n".join([head, *lines, *(["  …"] if len(self._rows) > 10 else [])])

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{escape(repr(self))}</pre>'


def compare(
    store: Store, instance: int, index: int, other_store: Store, other: int, other_index: int, step: str
) -> Diff:
    """The outputs of one step in two instances; equal inputs that come several times are matched in their order."""
    here, there = _items(store, instance, index), _items(other_store, other, other_index)
    rows: list[Row] = []
    same = 0
    for data in here.keys() | there.keys():
        mine, theirs = here.get(data, []), there.get(data, [])
        pairs = list(zip(mine, theirs, strict=False))
        if len(mine) == len(theirs) and all(a[1:] == b[1:] for a, b in pairs):
            same += len(pairs)
            continue
        shown = _shown(data)
        for (a, was, before), (b, now, after) in pairs:
            found = [(each.path, each.before, each.after) for each in listed(before, after)]
            if was != now:
                found.insert(0, ("status", was, now))
            same += not found
            rows.extend(("changed", shown, a, b, *each) for each in found)
        rows.extend(("removed", shown, a, None, "status", was, None) for a, was, _ in mine[len(pairs) :])
        rows.extend(("added", shown, None, b, "status", None, now) for b, now, _ in theirs[len(pairs) :])
    rows.sort(key=lambda row: (row[2] is None, row[2] or row[3]))
    return Diff(step, rows, same)


def _items(store: Store, instance: int, index: int) -> dict[bytes, list[tuple[int, str, list[bytes]]]]:
    """By input: chunk, state and outputs."""
    given = defaultdict[int, list[bytes]](list)
    for parent, data in store.fetch("outputs_of_step", instance, index):
        given[parent].append(data)
    rows = store.fetch("inputs_of_step", instance, index)
    if store.fetch("step", instance, index)[0][0] == "reduction":
        report = [data for (data,) in store.fetch("report", instance)]
        given = defaultdict[int, list[bytes]](list, {row[0]: report for row in rows})
    found = defaultdict[bytes, list[tuple[int, str, list[bytes]]]](list)
    for chunk, status, data in rows:
        found[data or b""].append((chunk, status, given[chunk]))
    return found


def _shown(data: bytes) -> str:
    if data.startswith(b"ARROW1"):
        return f"<frame of {len(data):,} bytes>"
    value: Any = json.loads(data) if data else None
    return json.dumps(value, ensure_ascii=False)

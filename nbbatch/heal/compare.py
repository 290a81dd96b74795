"""Stored values field by field: the differences of two, of a step's outputs in two runs, and inputs as a frame to choose from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbbatch.base.errors import NotFoundError
from nbbatch.pictures.markup import Shown
from nbbatch.store.reading import Reader
from nbbatch.values.outside import content_of, is_reference
from nbbatch.values.views import is_table, leaves, plain, text

if TYPE_CHECKING:
    import polars as pl


class Change(NamedTuple):
    """One field that differs; of a field that is missing, the text is None."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        shown = ["(none)" if each is None else each for each in (self.before, self.after)]
        return f"{self.path}: {shown[0]} → {shown[1]}"


def changes(before: bytes | None, after: bytes | None) -> list[Change]:
    """The fields in which two stored values differ, in order of their paths.

    >>> [str(each) for each in changes(b'{"a": 1, "b": [2]}', b'{"a": 1, "b": [3, 4]}')]
    ['b[0]: 2 → 3', 'b[1]: (none) → 4']
    """
    if before == after:
        return []
    old, new = fields(before), fields(after)
    return [
        Change(path or "value", old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


def listed(before: Sequence[bytes], after: Sequence[bytes]) -> list[Change]:
    """The differences of two lists of outputs, by place; a single output is named by its fields alone."""
    if len(before) <= 1 and len(after) <= 1:
        return changes(before[0] if before else None, after[0] if after else None)
    found: list[Change] = []
    for place in range(max(len(before), len(after))):
        old, new = (each[place] if place < len(each) else None for each in (before, after))
        found.extend(
            change._replace(path=f"[{place}]" if change.path == "value" else f"[{place}].{change.path}")
            for change in changes(old, new)
        )
    return found


def fields(data: bytes | None) -> dict[str, str]:
    """Every leaf and empty container of a stored value as JSON text, by path; of a frame, every column as text.

    >>> fields(b'{"a": null, "b": ["x"], "c": []}')
    {'a': 'null', 'b[0]': '"x"', 'c': '[]'}
    """
    if data is None:
        return {}
    value = plain(data)
    if is_table(value):
        return _columns(value)
    return {path: json.dumps(leaf, ensure_ascii=False) for path, leaf in leaves(value, empty=True)}


def _columns(frame: Any) -> dict[str, str]:
    return {column.name: f"{column.dtype}, {len(column)} rows: {column.to_list()!r:.500}" for column in frame}


# --- two runs -------------------------------------------------------------------------------------

Row = tuple[str, str, int | None, int | None, str, str | None, str | None]


class Diff(Shown):
    """Differences between the outputs of a step in two runs.

    Attributes:
        added: Number of inputs that only the other run has.
        removed: Number of inputs that only this run has.
        changed: Number of inputs of both runs with different outputs or states.
        same: Number of inputs of both runs with equal outputs.
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
        text; null for an added or removed item).
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


def compare(
    store: Reader, instance: int, index: int, other_store: Reader, other: int, other_index: int, step: str
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


def _items(store: Reader, instance: int, index: int) -> dict[bytes, list[tuple[int, str, list[bytes]]]]:
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
        found[content_of(data or b"")].append((chunk, status, given[chunk]))
    return found


def _shown(data: bytes) -> str:
    if not data:
        return "null"
    if is_reference(data):
        return f"<a value of SHA-256 {data[1:13].decode()}…>"
    shown = text(data)
    return f"<frame of {len(data):,} bytes>" if shown is None else json.dumps(json.loads(shown), ensure_ascii=False)


# --- inputs to choose from ------------------------------------------------------------------------


_ROW = "\0row"
"""A name that no field has."""


def _row_of(chunk: int, status: str, data: bytes | None) -> dict[str, Any]:
    """A chunk as a row: ``chunk`` (its id), ``status``, and its input's fields (a plain input as ``value``), which win over these names."""
    value = None if data is None else plain(data)
    value = None if is_table(value) else value
    return {"chunk": chunk, "status": status, **(value if isinstance(value, dict) else {"value": value})}


def chosen(store: Reader, instance: int, index: int, where: pl.Expr | None) -> list[int]:
    """Ids of a step's chunks that match a condition on their inputs; all if there is none.

    Raises:
        NotFoundError: The condition names a column that the inputs do not have.
        ValueError: It is not a condition, or does not fit the columns.
    """
    import polars as pl

    if where is None:
        return [chunk for (chunk,) in store.fetch("chunks_of_step", instance, index)]
    rows = store.fetch("inputs_of_step", instance, index)
    if not rows:
        return []
    inputs = pl.DataFrame([_row_of(*row) for row in rows], infer_schema_length=None, strict=False)
    try:
        return [rows[place][0] for place in inputs.with_row_index(_ROW).filter(where)[_ROW]]
    except pl.exceptions.ColumnNotFoundError as error:
        missing = str(error).split(";")[0]
        raise NotFoundError(f"where= {missing} in the inputs; they have {', '.join(inputs.columns)}") from None
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ValueError(
            f"where= takes a condition on the inputs, such as pl.col('size') > 3, not {where}: {error}"
        ) from None

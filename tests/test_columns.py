"""Columns on their way to a table: whatever way rows were added, they are the same rows, in frames too."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from nbbatch.base.columns import Columns
from nbbatch.base.rows import StagedRow
from nbbatch.store.column_frames import frame_of

TYPES = {
    "chunk": "BIGINT",
    "instance": "BIGINT",
    "attempt": "INTEGER",
    "step": "SMALLINT",
    "seq": "INTEGER",
    "data": "BLOB",
}
WHOLE = st.integers(0, 3)


@st.composite
def added(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """Rows that are added at once: each column one value, a range, a list or a tuple."""
    total = draw(st.sampled_from([0, 1, 2, 250]))
    first = draw(WHOLE)
    numbers = st.one_of(
        WHOLE, st.just(range(first, first + total)), st.lists(WHOLE, min_size=total, max_size=total).map(tuple)
    )
    data = st.lists(st.sampled_from([b"", b"x"]), min_size=total, max_size=total)
    return total, {**{name: draw(numbers) for name in list(TYPES)[:-1]}, "data": draw(data)}


def rows_of(total: int, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    spread = [value if isinstance(value, list | tuple | range) else [value] * total for value in given.values()]
    return list(zip(*spread, strict=True))


@given(st.lists(added(), max_size=6), st.booleans(), st.booleans())
def test_rows_are_the_same_however_they_were_added(
    parts: list[tuple[int, dict[str, Any]]], one_by_one: bool, by_others: bool
) -> None:
    columns, expected = Columns(StagedRow), list[tuple[Any, ...]]()
    for place, (total, values) in enumerate(parts):
        more = Columns(StagedRow) if by_others else columns
        if one_by_one and place % 2:
            for row in rows_of(total, values):
                more.append(row)
        else:
            more.extend(total, **values)
        if by_others:
            columns.add(more)
        expected += rows_of(total, values)
    frame = frame_of(columns, TYPES)

    assert frame.rows() == expected
    assert frame.dtypes == [pl.Int64, pl.Int64, pl.Int32, pl.Int16, pl.Int32, pl.Binary]
    assert len(columns) == len(expected)
    assert columns.rows() == expected


def test_what_is_changed_in_a_column_is_stored_so() -> None:
    columns = Columns(StagedRow)
    columns.extend(3, chunk=range(4, 7), instance=1, attempt=1, step=0, seq=0, data=[b"a"] * 3)
    columns.column("attempt")[1:3] = [2, 2]
    columns.extend(1, chunk=range(7, 8), instance=1, attempt=1, step=0, seq=0, data=[b"b"])

    assert [row[:3] for row in columns.rows()] == [(4, 1, 1), (5, 1, 2), (6, 1, 2), (7, 1, 1)]

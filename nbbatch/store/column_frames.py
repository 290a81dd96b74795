"""Columns as polars frames, to be handed on as Arrow: what many rows share need not be made of as many Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbbatch.base.columns import Column, Columns, Same

if TYPE_CHECKING:
    import polars as pl

_POLARS = {
    "BIGINT": "Int64", "INTEGER": "Int32", "SMALLINT": "Int16", "TINYINT": "Int8", "DOUBLE": "Float64", "BOOLEAN": "Boolean",
    "VARCHAR": "String", "BLOB": "Binary",
}  # fmt: skip


def frame_of(rows: Columns, types: Mapping[str, str]) -> pl.DataFrame:
    """Rows of a table whose columns have these types of DuckDB."""
    import polars as pl

    named = zip(types.items(), rows.columns, strict=True)
    return pl.DataFrame([_series(name, getattr(pl, _POLARS[kind]), column) for (name, kind), column in named])


def _series(name: str, kind: Any, column: Column) -> pl.Series:
    import polars as pl

    def made(part: Same | range | list[Any]) -> pl.Series:
        if isinstance(part, Same):  # pl.repeat takes ten times as long
            return pl.Series([part.value], dtype=kind).new_from_index(0, part.total)
        return pl.Series(part, dtype=kind)

    if column.is_worth_parts():
        return pl.concat(map(made, column.parts)).alias(name)
    return pl.Series(name, column.flat(), kind)

"""Chunks of a step chosen by a condition on the fields of their inputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbbatch.base.errors import NotFoundError
from nbbatch.store.database import Store

if TYPE_CHECKING:
    import polars as pl


_ROW = "\0row"
"""A name that no field has."""


def row_of(chunk: int, status: str, data: bytes | None) -> dict[str, Any]:
    """A chunk as a row: ``chunk`` (its id), ``status``, and its input's fields (a plain value as ``value``), which win over these names."""
    value = None if data is None or data.startswith(b"ARROW1") else json.loads(data)
    return {"chunk": chunk, "status": status, **(value if isinstance(value, dict) else {"value": value})}


def chosen(store: Store, instance: int, index: int, where: pl.Expr | None) -> list[int]:
    """Ids of a step's chunks, or of those whose input meets a condition.

    Raises:
        NotFoundError: The condition names a column that the inputs have not.
        ValueError: It is no condition, or does not fit the columns.
    """
    import polars as pl

    if where is None:
        return [chunk for (chunk,) in store.fetch("chunks_of_step", instance, index)]
    rows = store.fetch("inputs_of_step", instance, index)
    if not rows:
        return []
    inputs = pl.DataFrame([row_of(*row) for row in rows], infer_schema_length=None, strict=False)
    try:
        return [rows[place][0] for place in inputs.with_row_index(_ROW).filter(where)[_ROW]]
    except pl.exceptions.ColumnNotFoundError as error:
        missing = str(error).split(";")[0]
        raise NotFoundError(f"where= {missing} in the inputs; they have {', '.join(inputs.columns)}") from None
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ValueError(
            f"where= takes a condition on the inputs, such as pl.col('size') > 3, not {where}: {error}"
        ) from None

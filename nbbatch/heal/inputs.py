"""The inputs of a step's chunks as a frame, one column per field: what a filter or a comparison asks about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbbatch.base.errors import NotFoundError
from nbbatch.store.database import Store

if TYPE_CHECKING:
    import polars as pl


def frame(store: Store, instance: int, index: int) -> pl.DataFrame:
    """One row per chunk: ``id``, ``status``, then its input's fields (a plain value as ``value``); a field wins over a name here."""
    import polars as pl

    rows = store.fetch("inputs_of_step", instance, index)
    ids = pl.DataFrame({"chunk_id": [row[0] for row in rows]}, schema={"chunk_id": pl.Int64})
    fields = pl.DataFrame([row_of(data, status) for _, status, data in rows], infer_schema_length=None, strict=False)
    return pl.concat([ids, fields], how="horizontal") if rows else ids


def row_of(data: bytes | None, status: str) -> dict[str, Any]:
    """A stored input as a row."""
    value = None if data is None or data.startswith(b"ARROW1") else json.loads(data)
    return {"status": status, **(value if isinstance(value, dict) else {"value": value})}


def chosen(store: Store, instance: int, index: int, where: pl.Expr | None) -> list[int]:
    """Ids of a step's chunks, or of those whose input meets a condition.

    Raises:
        NotFoundError: The condition names a column that the inputs have not.
        ValueError: It is no condition, or does not fit the columns.
    """
    import polars as pl

    if where is None:
        return [chunk for (chunk,) in store.fetch("chunks_of_step", instance, index)]
    inputs = frame(store, instance, index)
    try:
        return inputs.filter(where)["chunk_id"].to_list()
    except pl.exceptions.ColumnNotFoundError as error:
        missing = str(error).split(";")[0]
        raise NotFoundError(f"where= {missing} in the inputs; they have {', '.join(inputs.columns)}") from None
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ValueError(
            f"where= takes a condition on the inputs, such as pl.col('size') > 3, not {where}: {error}"
        ) from None

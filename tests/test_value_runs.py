"""Types and values through real runs: in memory and in files, on threads and in worker processes, one to five steps."""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from polars.testing.parametric import dataframes, series

import nbbatch as nb
from tests.test_values import EXAMPLES, MOMENTS, TEXT, TYPED, kind

MOST = 29
"""Values of one run; it has five on average."""
RUNS = EXAMPLES // 5 if EXAMPLES >= 1_000 else 10

# --- frames and arrays ----------------------------------------------------------------------------

ODD_POLARS = [pl.Object, pl.Unknown, pl.Decimal, pl.Categorical]
"""What polars' own strategies do not make at all, or not in every process alike; `test_types` has them."""
DTYPES = (
    arrays.scalar_dtypes()
    | arrays.unicode_string_dtypes()
    | arrays.byte_string_dtypes()
    | arrays.array_dtypes(max_size=3)
)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
ORDERS = st.sampled_from([np.asarray, np.asfortranarray, np.flip])
ARRAYS = st.builds(lambda order, array: np.asarray(order(array)), ORDERS, arrays.arrays(DTYPES, SHAPES))
COLUMNS: list[st.SearchStrategy[Any]] = [
    st.just([1, 2]), st.lists(st.floats(), min_size=2, max_size=2), st.lists(TEXT | st.none(), min_size=2, max_size=2),
    st.lists(st.integers(), min_size=2, max_size=2).map(partial(pd.Series, dtype=object)),
    st.lists(st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)), min_size=2, max_size=2).map(pd.DatetimeIndex),
    st.lists(st.integers(-(2**50), 2**50), min_size=2, max_size=2).map(lambda us: pd.DatetimeIndex(np.array(us, "M8[us]")).tz_localize("UTC").tz_convert("Asia/Tokyo")),
    st.lists(st.sampled_from("ab") | st.none(), min_size=2, max_size=2).map(pd.Categorical),
    st.lists(st.integers(0, 9) | st.none(), min_size=2, max_size=2).map(lambda whole: pd.array(whole, dtype="Int64")),
    st.lists(MOMENTS, min_size=2, max_size=2).map(partial(pd.Series, dtype=object)),
]  # fmt: skip
FRAMES = st.dictionaries(TEXT | st.integers(0, 9), st.one_of(COLUMNS), max_size=3).map(pd.DataFrame)
TABLES = dataframes(max_cols=3, max_size=3, excluded_dtypes=ODD_POLARS)
LIBRARIES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (np.ndarray, ARRAYS),
    (dict[str, np.ndarray], st.dictionaries(TEXT, ARRAYS, max_size=2)),
    (pd.DataFrame, FRAMES),
    (tuple[pd.DataFrame, str], st.tuples(FRAMES, TEXT)),
    (pl.DataFrame, TABLES),
    (list[pl.DataFrame | None], st.lists(TABLES | st.none(), max_size=2)),
    (pl.Series, series(max_size=3, excluded_dtypes=ODD_POLARS)),
    (pa.Table, dataframes(max_cols=3, max_size=3, excluded_dtypes=[*ODD_POLARS, pl.Int128, pl.UInt128, pl.Float16]).map(pl.DataFrame.to_arrow)),
]  # fmt: skip


def exact(value: Any) -> Any:
    """As `kind`, of frames and arrays too: all that `docs/values.md` promises of them."""
    match value:
        case list() | tuple():
            return type(value), list(map(exact, value))
        case np.ndarray():
            order = value.flags.f_contiguous and not value.flags.c_contiguous
            return value.dtype, value.shape, order, value.flags.writeable, repr(value.tolist())
        case pd.DataFrame():
            cells = [[kind(each) for each in column.array] for _, column in value.items()]
            return kind(list(value.columns)), list(value.dtypes), repr(value.index), repr(cells)
        case pl.DataFrame() | pl.Series():
            frame = value.to_frame() if isinstance(value, pl.Series) else value
            return type(value), frame.schema, repr(frame.rows())
        case pa.Table():
            return value.schema, value.to_pylist()
        case dict() if any(isinstance(each, np.ndarray) for each in value.values()):
            return {name: exact(each) for name, each in value.items()}
        case _:
            return kind(value)


# --- runs -----------------------------------------------------------------------------------------


def chain_of(annotation: Any, values: list[Any], hops: int, name: str) -> nb.Job[Any, Any]:
    """A job that passes each value on so many times, and gives the list back."""

    def give() -> Any:
        yield from values

    def pass_on(each: Any) -> Any:
        return each

    def take(each: Any) -> Any:
        return list(each)

    give.__annotations__ = {"return": Iterator[annotation]}
    pass_on.__annotations__ = {"each": annotation, "return": annotation}
    take.__annotations__ = {"each": Iterable[annotation], "return": list[annotation]}
    chain: Any = nb.step(give, name="give", max_attempts=1)
    for place in range(hops):
        chain = chain >> nb.step(pass_on, name=f"hop{place}", max_attempts=1)
    return nb.Job(name, chain >> nb.step(take, name="take", max_attempts=1))


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[nb.Batch]]:
    folder = tmp_path_factory.mktemp("runs")
    with (
        nb.processes(1) as pool,
        nb.open(":memory:", workers=2) as one,
        nb.open(folder / "threads.duckdb", workers=2) as two,
        nb.open(":memory:", executor=pool) as three,
        nb.open(folder / "processes.duckdb", executor=pool) as four,
    ):
        yield [one, two, three, four]


NUMBERS = count()


@st.composite
def packs(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    """A type and many of its values."""
    annotation, values = draw(st.sampled_from([*TYPED, *LIBRARIES]))
    return annotation, draw(st.lists(values, min_size=1, max_size=MOST))


@pytest.mark.timeout(60 + EXAMPLES // 4)
@settings(
    max_examples=RUNS,
    deadline=None,
    derandomize=EXAMPLES < 1_000,
    suppress_health_check=list(HealthCheck),
)
@given(packs(), st.integers(1, 5), st.integers(0, 3))
def test_values_of_every_type_come_out_of_a_run_as_they_went_in(
    batches: list[nb.Batch], drawn: tuple[Any, list[Any]], hops: int, place: int
) -> None:
    """C12, C13, C18"""
    annotation, values = drawn
    if place >= 2:  # as pickle brings them to the worker that gives them: of numpy's dates it changes the byte order
        values = pickle.loads(pickle.dumps(values))
    before = exact(values)
    run = batches[place].submit(chain_of(annotation, values, hops, f"chain{next(NUMBERS)}"))

    assert exact(run.result(600)) == before
    assert exact(list(run.outputs(f"hop{hops - 1}"))) == before

"""Frames, arrays and types that users say how to store, passed on as people who work with them write it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict

import nbbatch as nb
from nbbatch.values import in_words, storable
from nbbatch.values.codec import codec_for
from nbbatch.values.views import BRIEF, brief, plain, untyped


def there_and_back(annotation: Any, value: Any, hops: int = 2) -> Any:
    codec = codec_for(annotation)
    for _ in range(hops):
        value = codec.decode(codec.encode(value))
    return value


# --- numpy ----------------------------------------------------------------------------------------

ARRAYS = [
    np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((3, 4), "f4")), np.arange(10)[::3], np.array(5), np.zeros((0, 3)),
    np.zeros((3, 0), "U4"), np.array(["a", "bc"]), np.array(["2024", "NaT"], "M8[D]"), np.array([b"a\0b"], "S4"),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", ">f8")]), np.array([[1, None], [{"a": (1,)}, 3]], dtype=object),
    np.array([1 + 2j, np.nan]), np.array([True]), np.arange(3, dtype=">i2"), np.array(["a", "é"], dtype=np.dtypes.StringDType()),
    np.ma.array([1, 2], mask=[0, 1], fill_value=9), np.ma.array([1, 2]), np.rec.array([(1, "a")], dtype=[("x", int), ("y", "U3")]),
    np.array(None, dtype=object), np.float16([1.5]), np.array([], dtype="m8[s]"),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype} {array.shape}"[:30])
def test_an_array_comes_back_as_it_was(array: np.ndarray[Any, Any]) -> None:
    """C18"""
    back = there_and_back(type(array), array)

    assert (type(back), back.dtype, back.shape, repr(back)) == (type(array), array.dtype, array.shape, repr(array))
    assert back.flags.writeable == array.flags.writeable
    assert back.flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous


SEEN = [
    ({"a": np.zeros((3, 2), "f4")}, {"a": "<numpy.ndarray 3 × 2: float32>"}),
    ([np.float64(1.5), np.int16(-3), np.bool_(True), np.float64("nan")], [1.5, -3, True, "nan"]),
    (pd.DataFrame({"id": [1, 2], "name": ["a", "b"]}), "<pandas.DataFrame 2 × 2: id, name>"),
    (pd.DataFrame([[1, 2]], index=["x"]), "<pandas.DataFrame 1 × 2>"),
    (pd.DataFrame({f"c{place}": [1] for place in range(20)}, index=pd.MultiIndex.from_tuples([("a", 1)])),
     f"<pandas.DataFrame 1 × 20: {', '.join(f'c{place}' for place in range(12))}, …>"),
    (pd.DataFrame({"a": [1, 2]}, index=pd.IntervalIndex.from_breaks([0, 1, 2])), "<pandas.DataFrame 2 × 1: a>"),
    (pd.Series([1, 2, 3], index=pd.date_range("2026", periods=3, tz="UTC"), name="size"), "<pandas.Series 3: size>"),
    ([pd.Timestamp("2026-01-02 03:04"), pd.Timedelta("1h"), pd.NaT], ["2026-01-02T03:04:00", "1:00:00", None]),
    ((pl.DataFrame({"x": [1, 2]}), pa.table({"y": [1]})), ["<polars.DataFrame 2 × 1: x>", "<pyarrow.Table 1 × 1: y>"]),
    ({"b": bytes(1000)}, {"b": "<bytes 1,000>"}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "seen"), SEEN, ids=lambda each: str(each)[:30])
def test_who_looks_without_the_job_s_code_sees_what_it_is_and_how_big(value: Any, seen: Any) -> None:
    assert plain(codec_for(Any).encode(value)) == seen


class Fit(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    depth: int
    held: Any


HELD = [
    pd.DataFrame({"id": [1, 2], "at": pd.date_range("2026", periods=2)}, index=["x", "y"]), pd.Series([1.5], name="a"), pd.Index([3]),
    pl.DataFrame({"x": [1]}), pl.Series("s", [1]), pa.table({"y": [1]}), pa.array([1, None]), np.arange(6).reshape(2, 3),
]  # fmt: skip


def test_a_big_value_is_told_by_its_short_fields_and_the_sizes_of_its_frames() -> None:
    class Task(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        train: pd.DataFrame
        note: str
        depth: int

    train = pd.DataFrame(
        np.random.default_rng(1).random((1000, 21)), columns=[f"column_{place}" for place in range(21)]
    )
    said = brief(codec_for(Task).encode(Task(train=train, note="n" * 60, depth=4)))
    assert said.startswith("depth=4 · train=<pandas.DataFrame 1,000 × 21: column_0, column_1")
    assert len(said) <= BRIEF


def test_a_large_table_of_arrow_is_not_read_for_a_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = codec_for(Any).encode({"a": 1, "table": pl.DataFrame({"x": range(1000)})})
    assert brief(stored) == "a=1 · table=<polars.DataFrame 1,000 × 1: x>"
    monkeypatch.setattr(in_words, "_READ_BYTES", 1000)
    assert brief(stored) == "a=1 · table=<polars.DataFrame>"
    assert brief(codec_for(pl.DataFrame).encode(pl.DataFrame({"x": range(1000)}))) == "a table of 1,000 × 1"


@pytest.mark.parametrize("held", HELD, ids=lambda each: type(each).__name__)
def test_who_has_not_the_job_reads_frames_and_arrays_all_the_same(held: Any) -> None:
    codec = codec_for(Fit)
    seen = untyped(codec.encode(Fit(depth=2, held=held)))

    assert seen["depth"] == 2
    assert type(seen["held"]) is type(held)
    assert str(seen["held"]) == str(held)
    assert str(untyped(codec_for(Any).encode(held))) == str(held)


def test_what_of_a_frame_is_of_the_user_s_classes_is_plain_to_who_has_them_not() -> None:
    stored = codec_for(Any | Fit).encode(
        pd.DataFrame({"fit": [Fit(depth=1, held=None)], "pair": [(1, 2)]}, dtype=object)
    )

    assert untyped(stored).to_dict("records") == [{"fit": {"depth": 1, "held": None}, "pair": (1, 2)}]


@pytest.mark.parametrize("read", [plain, untyped])
def test_what_is_damaged_is_named_all_the_same(read: Any) -> None:
    assert read(
        b' {"a": {"$pandas.frame": [7]}, "b": {"$numpy.scalar": []}, "c": {"$numpy.array": ["<f8", [2], "C", 1, 0]}}'
    ) == {
        "a": "<pandas.DataFrame>",
        "b": "<numpy.scalar>",
        "c": "<numpy.ndarray 2: float64>",
    }


def test_an_array_is_as_writable_as_it_was() -> None:
    fixed = np.arange(3)
    fixed.flags.writeable = False

    assert not there_and_back(np.ndarray, fixed).flags.writeable
    assert there_and_back(np.ndarray, np.arange(3)).flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5),
        np.float32("nan"),
        np.int8(3),
        np.bool_(True),
        np.str_("ab"),
        np.datetime64("2024-01-01", "D"),
        np.timedelta64(3, "s"),
    ],
    ids=repr,
)
def test_a_numpy_scalar_comes_back_as_it_was(scalar: np.generic) -> None:
    """C18"""
    for annotation in (type(scalar), Any):
        back = there_and_back(annotation, scalar)

        assert (type(back), back.dtype, repr(back)) == (type(scalar), scalar.dtype, repr(scalar))


# --- pandas ---------------------------------------------------------------------------------------

FRAME = pd.DataFrame({
    "text": ["x", None], "category": pd.Categorical(["b", None], categories=["b", "a"], ordered=True), "whole": pd.array([1, None], dtype="Int64"),
    "zoned": pd.date_range("2024", periods=2, tz="Europe/Zurich"), "moment": pd.to_datetime(["2024-01-01", None]), "period": pd.period_range("2024", periods=2, freq="M"),
    "interval": pd.interval_range(0, 2), "sparse": pd.arrays.SparseArray([0, 1]), "arrow": pd.array([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    "length": pd.to_timedelta([1, 2]), "objects": [(1, 2), pd.NaT], "truth": pd.array([True, None], dtype="boolean"), "float": [1.5, np.nan],
    "python": pd.array(["a", None], dtype=pd.StringDtype("python", na_value=pd.NA)),
})  # fmt: skip
FRAMES = [
    FRAME, FRAME.iloc[::-1], FRAME.iloc[:0], pd.DataFrame(), pd.DataFrame(index=[1, 2]), pd.DataFrame(columns=["a", "b"]),
    pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), pd.DataFrame(np.ones((2, 3))), pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
    pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", None])),
    pd.DataFrame({"x": [1, 2]}, index=pd.date_range("2024", periods=2, freq="ME", name="day")),
]  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_a_pandas_frame_comes_back_as_it_was(frame: pd.DataFrame) -> None:
    """C18"""
    frame = frame.copy()
    frame.attrs = {"source": ("a", 1)}
    back = there_and_back(pd.DataFrame, frame)

    pd.testing.assert_frame_equal(
        back, frame, check_exact=True, check_freq=True, check_flags=True, check_column_type=True
    )
    assert (list(back.dtypes), back.attrs) == (list(frame.dtypes), frame.attrs)


def test_series_and_indexes_of_pandas_come_back_as_they_were() -> None:
    """C18"""
    for name in FRAME:
        pd.testing.assert_series_equal(there_and_back(pd.Series, FRAME[name]), FRAME[name], check_exact=True)
    for index in (
        pd.RangeIndex(1, 9, 2, name="q"),
        pd.Index(["a"]),
        pd.date_range("2024", periods=3, freq="h", tz="UTC"),
        pd.Index([1, "a"]),
    ):
        pd.testing.assert_index_equal(there_and_back(pd.Index, index), index, exact=True)


@pytest.mark.parametrize(
    "scalar",
    [pd.Timestamp("2024-01-01 00:00:00.123456789"), pd.Timestamp("2025-10-26 01:30", tz="UTC").tz_convert("Europe/Zurich"), pd.Timedelta(5, "ns"), pd.Period("2024Q1"), pd.Interval(0, 1), pd.NaT, pd.NA],
    ids=repr,
)  # fmt: skip
def test_a_pandas_scalar_comes_back_as_it_was(scalar: Any) -> None:
    """C18"""
    back = there_and_back(Any, scalar)

    assert (type(back), repr(back)) == (type(scalar), repr(scalar))


def test_a_frame_with_what_cannot_be_stored_names_the_column() -> None:
    with pytest.raises(nb.ValueNotStorable, match=r"^odd\[1\] is a object"):
        codec_for(pd.DataFrame).encode(pd.DataFrame({"fine": [1, 2], "odd": ["a", object()]}))


# --- Arrow ----------------------------------------------------------------------------------------


def test_tables_of_pyarrow_come_back_as_they_were() -> None:
    """C18"""
    table = pa.table(
        {"a": [1, None], "b": pa.array(["x", "y"]).dictionary_encode(), "c": [[1], []]}, metadata={"k": "v"}
    )
    for each in (table, table.slice(1), table.slice(0, 0), pa.concat_tables([table, table])):
        assert there_and_back(pa.Table, each).equals(each, check_metadata=True)
    for part in (table.to_batches()[0], table["a"], table["b"].chunk(0), table.schema):
        assert there_and_back(type(part), part).equals(part)


DTYPES = [
    pl.Array(pl.Int64, 0), pl.Struct([]), pl.Int128, pl.Categorical, pl.Categorical(pl.Categories("q")), pl.Enum(["a"]), pl.Enum([]),
    pl.Decimal(38, 3), pl.Null, pl.List(pl.Array(pl.Int8, 0)), pl.Array(pl.Int8, 2), pl.List(pl.Categorical), pl.Datetime("ns", "Europe/Zurich"),
    pl.Duration("ms"), pl.Time, pl.Binary, pl.Boolean, pl.Struct({"a": pl.Array(pl.Int8, 0)}), pl.List(pl.Null), pl.Object, pl.Float16, pl.UInt128,
]  # fmt: skip


@pytest.mark.parametrize("annotation", [pl.DataFrame, pl.LazyFrame, pl.Series, dict[str, pl.DataFrame]], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_polars_column_of_any_type_comes_back_equal_or_is_refused(annotation: Any, dtype: Any) -> None:
    """C18"""
    for values in ([], [None, None]):
        series = pl.Series("s", values, dtype=dtype)
        frame = series.to_frame()
        given: Any = {pl.DataFrame: frame, pl.LazyFrame: frame.lazy(), pl.Series: series}.get(annotation, {"k": frame})
        try:
            back = there_and_back(annotation, given)
        except nb.ValueNotStorable as error:
            assert "column 's'" in str(error)  # noqa: PT017 - equal or refused
            continue
        seen = back["k"] if isinstance(back, dict) else back.collect() if isinstance(back, pl.LazyFrame) else back
        seen = seen.to_frame() if isinstance(seen, pl.Series) else seen

        assert seen.schema == frame.schema
        assert seen.equals(frame, null_equal=True)


# --- inside of others -----------------------------------------------------------------------------


class Fold(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    name: str
    rows: pd.DataFrame
    weights: dict[str, np.ndarray] = {}


@dataclass
class Split:
    train: pl.DataFrame
    test: tuple[np.ndarray, pa.Table]


def test_frames_and_arrays_pass_inside_models_dataclasses_and_containers(batch: nb.Batch) -> None:
    """C12, C18"""
    seen: list[Any] = []

    @nb.step
    def split(n: int) -> Iterator[Split]:
        yield Split(pl.DataFrame({"a": [n]}), (np.arange(n), pa.table({"b": [n]})))

    @nb.step
    def fold(split: Split) -> list[Fold]:
        return [Fold(name="f", rows=split.train.to_pandas(), weights={"w": split.test[0] / 2})]

    @nb.step
    def keep(folds: list[Fold]) -> dict[str, pl.Series]:
        seen.append(folds[0])
        return {"s": pl.Series("s", folds[0].weights["w"])}

    @nb.step
    def join(kept: Iterable[dict[str, pl.Series]]) -> pd.Series:
        return pd.concat([each["s"].to_pandas() for each in kept])

    report = batch.submit(nb.Job("inside", split >> fold >> keep >> join), 3).result(30)

    pd.testing.assert_series_equal(report, pd.Series([0.0, 0.5, 1.0], name="s"))
    pd.testing.assert_frame_equal(seen[0].rows, pd.DataFrame({"a": [3]}))


def test_a_large_array_is_no_json() -> None:
    array = np.random.default_rng(1).bytes(1_000_000)
    data = codec_for(np.ndarray).encode(np.frombuffer(array, "u1"))

    assert len(data) < 1_000_500
    assert array in data


def test_importing_nbbatch_imports_none_of_the_libraries() -> None:
    code = "import nbbatch, sys; print([each for each in ('numpy', 'pandas', 'pyarrow', 'polars', 'sklearn') if each in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# --- types of one's own ---------------------------------------------------------------------------


class Curve:
    def __init__(self, points: list[int]) -> None:
        self.points = points

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.points == other.points

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def _told() -> Iterator[None]:
    before = dict(storable._KNOWN), set(storable._TRIED)
    yield
    for known, was in zip((storable._KNOWN, storable._TRIED), before, strict=True):
        known.clear()
        known.update(was)  # type: ignore[arg-type]


LOADED: list[bytes] = []


def _load(data: bytes) -> Curve:
    LOADED.append(data)
    return Curve(json.loads(data))


@pytest.mark.usefixtures("_told")
def test_a_type_passes_by_its_own_two_functions_and_looking_at_the_store_runs_neither(tmp_path: Path) -> None:
    """C12"""
    nb.storable(Curve, dump=lambda curve: json.dumps(curve.points).encode(), load=_load)

    @nb.step
    def fit(n: int) -> Curve:
        return Curve(list(range(n)))

    @nb.step
    def area(curve: Curve) -> dict[str, Curve]:
        return {"same": curve}

    @nb.step
    def all_of(given: Iterable[dict[str, Curve]]) -> list[Curve]:
        return [each["same"] for each in given]

    job = nb.Job("curves", fit >> area >> all_of)
    with nb.open(tmp_path / "s.duckdb") as batch:
        run = batch.submit(job, 3)
        assert run.result(30) == run.outputs("fit") == [Curve([0, 1, 2])]
    with nb.open(tmp_path / "s.duckdb") as batch:
        assert batch.instance(1, job).outputs("fit") == [Curve([0, 1, 2])]
    data = codec_for(Curve).encode(Curve([0]))
    LOADED.clear()

    assert plain(data) == "5b305d"
    with nb.look(tmp_path / "s.duckdb") as look:
        seen = look.instance(1)
        assert seen.chunks().height == 3
        assert "curves" in seen._repr_html_()
        assert "curves" in look._repr_html_()
        assert not LOADED
        assert seen.outputs("fit") == [
            Curve([0, 1, 2])
        ]  # who asks for values where the job is known gets those of its types
        assert LOADED


@pytest.mark.usefixtures("_told")
def test_two_functions_that_do_not_fit_are_told_at_the_first_value() -> None:
    nb.storable(Curve, dump=lambda curve: json.dumps(curve.points).encode(), load=lambda data: Curve([]))
    with pytest.raises(nb.ValueNotStorable, match="does not give back equal"):
        codec_for(Curve).encode(Curve([1]))

    nb.storable(Curve, dump=lambda curve: b"", load=lambda data: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(nb.ValueNotStorable, match="gives a NoneType: mend the two functions"):
        codec_for(Curve).encode(Curve([1]))
    with pytest.raises(nb.DefinitionError, match="takes a class"):
        nb.storable(3, dump=str, load=int)  # type: ignore[type-var]


# --- as users write it ----------------------------------------------------------------------------


class Grid(BaseModel):
    depths: list[int]
    folds: int = 3


class Trial(BaseModel):
    depth: int
    fold: int


class Score(BaseModel):
    depth: int
    fold: int
    accuracy: float


@pytest.mark.usefixtures("_told")
def test_a_grid_search_of_scikit_learn(batch: nb.Batch) -> None:
    """C12, C18"""
    from io import BytesIO

    import joblib
    from sklearn.datasets import load_iris
    from sklearn.model_selection import KFold
    from sklearn.tree import DecisionTreeClassifier

    def dump(model: DecisionTreeClassifier) -> bytes:
        buffer = BytesIO()
        joblib.dump(model, buffer)
        return buffer.getvalue()

    nb.storable(DecisionTreeClassifier, dump=dump, load=lambda data: joblib.load(BytesIO(data)))
    features, classes = load_iris(return_X_y=True)

    @nb.step
    def trials(grid: Grid) -> Iterator[Trial]:
        for depth in grid.depths:
            for fold in range(grid.folds):
                yield Trial(depth=depth, fold=fold)

    @nb.step
    def fit(trial: Trial, grid: Grid) -> tuple[Trial, DecisionTreeClassifier, np.ndarray]:
        train, test = list(KFold(grid.folds, shuffle=True, random_state=0).split(features))[trial.fold]
        return (
            trial,
            DecisionTreeClassifier(max_depth=trial.depth, random_state=0).fit(features[train], classes[train]),
            test,
        )

    @nb.step
    def score(fitted: tuple[Trial, DecisionTreeClassifier, np.ndarray]) -> Score:
        trial, model, test = fitted
        return Score(depth=trial.depth, fold=trial.fold, accuracy=model.score(features[test], classes[test]))

    @nb.step
    def best(scores: Iterable[Score]) -> pd.Series:
        frame = pd.DataFrame([each.model_dump() for each in scores])
        return frame.groupby("depth")["accuracy"].mean().sort_values(ascending=False)

    table = batch.submit(nb.Job("grid", trials >> fit >> score >> best), Grid(depths=[1, 3])).result(50)

    assert table.index.tolist() == [3, 1]
    assert table.index.name == "depth"
    assert table.iloc[0] > 0.9


def test_a_group_by_chain_of_pandas(batch: nb.Batch, tmp_path: Path) -> None:
    """C12, C18"""
    for month in (1, 2):
        rows = {"day": pd.date_range(f"2024-0{month}-01", periods=4), "shop": list("abab"), "sold": [1, 2, 3, month]}
        pd.DataFrame(rows).to_csv(tmp_path / f"{month}.csv", index=False)

    @nb.step
    def read(folder: Path) -> Iterator[pd.DataFrame]:
        for path in sorted(folder.glob("*.csv")):
            yield pd.read_csv(path, parse_dates=["day"], dtype={"shop": "category"})

    @nb.step
    def per_shop(sales: pd.DataFrame) -> pd.DataFrame:
        sales["sold"] *= 10
        return sales.groupby([sales["day"].dt.to_period("M"), "shop"], observed=True)["sold"].agg(["sum", "mean"])

    @nb.step
    def total(months: Iterable[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(months).unstack("shop")  # noqa: PD010

    table = batch.submit(nb.Job("sales", read >> per_shop >> total), tmp_path).result(30)

    assert table.loc["2024-02", ("sum", "b")] == 40
    assert isinstance(table.index, pd.PeriodIndex)
    assert table.columns.names == [None, "shop"]


def test_an_image_chain_of_numpy(batch: nb.Batch) -> None:
    """C12, C18"""

    @nb.step
    def load(seed: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng(seed)
        for _ in range(3):
            yield random.integers(0, 256, (8, 8, 3), dtype=np.uint8)

    @nb.step
    def grey(image: np.ndarray) -> np.ndarray:
        image[0] = 0  # in place, as people do
        return image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)

    @nb.step
    def edges(image: np.ndarray) -> tuple[np.ndarray, np.float32]:
        steps = np.abs(np.diff(image, axis=0))
        return steps, steps.max()

    @nb.step
    def strongest(found: Iterable[tuple[np.ndarray, np.float32]]) -> np.ndarray:
        return np.stack([steps for steps, _ in sorted(found, key=lambda pair: pair[1])])

    stack = batch.submit(nb.Job("images", load >> grey >> edges >> strongest), 7).result(30)

    assert (stack.shape, stack.dtype) == ((3, 7, 8), np.float32)
    assert np.all(np.diff(stack.max(axis=(1, 2))) >= 0)


@pytest.mark.parametrize(
    ("frame", "place"),
    [
        (pd.DataFrame({"c": pd.Series(["a", "\ud800"], dtype=object)}), r"c\[1\]"),
        (pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)), r"columns\[0\]"),
        (pd.DataFrame([[1]], index=pd.Index(["\ud800"], dtype=object)), r"index\[0\]"),
        (pd.Series([1], name="\ud800"), "name"),
    ],
)
def test_what_pandas_holds_that_is_no_text_is_refused_by_its_place(frame: Any, place: str) -> None:
    with pytest.raises(nb.ValueNotStorable, match=f"^{place} holds a lone surrogate"):
        codec_for(type(frame)).encode(frame)

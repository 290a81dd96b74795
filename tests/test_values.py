"""Whatever passes between steps comes back equal, with its types, after any number of them; or it is refused where it is given."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    RootModel,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict

import nbbatch as nb
from nbbatch.values.codec import codec_for
from nbbatch.values.parameters import ParamsCodec
from nbbatch.values.views import halves, plain

EXAMPLES = int(os.environ.get("NBBATCH_VALUE_EXAMPLES", "150"))
"""Of the law about all types; a long run takes 10,000 and more."""
ZURICH = ZoneInfo("Europe/Zurich")


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Kind(enum.Enum):
    NUMBER = 1
    TEXT = "1"
    PAIR = (1, 2)


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    tags: frozenset[str] = frozenset()


class Row(TypedDict, total=False):
    a: int
    b: tuple[int, ...]


class Tag(BaseModel, frozen=True):
    name: str
    rank: int | None = None


class Rate(BaseModel):
    """Its validator converts."""

    pct: float

    @field_validator("pct")
    @classmethod
    def fraction(cls, value: float) -> float:
        return value / 100


class Blob(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="utf8")
    data: bytes


class Shown(BaseModel):
    """Its serializer shows something else."""

    size: int

    @field_serializer("size")
    def shown(self, value: int) -> str:
        return f"{value} bytes"


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    anything: Any = None
    rows: list = []  # type: ignore[type-arg]
    table: dict = {}  # type: ignore[type-arg]
    pair: Sequence[int] = ()
    mode: Mode | str = "fast"


class Counter(BaseModel):
    n: int = 0
    _seen: set[str] = PrivateAttr(default_factory=set)


class Swapped(BaseModel):
    """Each field has the other's name for an alias."""

    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(0, alias="b")
    b: int = Field(0, alias="a")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Names(RootModel[dict[int | str, str]]):
    pass


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


@dataclasses.dataclass
class Card:
    number: int
    when: dt.datetime | dt.date | str = ""
    shown: str = dataclasses.field(default="", init=False)

    def __post_init__(self) -> None:
        self.number += 1


def kind(value: Any) -> Any:
    """A value with all its types, so that 1 is no True, a tuple no list, and -0.0 not 0.0."""
    if isinstance(value, BaseModel):
        private = value.__pydantic_private__ or {}
        return (
            type(value),
            [(name, kind(each)) for name, each in value],
            sorted((name, kind(each)) for name, each in private.items()),
        )
    if dataclasses.is_dataclass(value):
        return type(value), [kind(getattr(value, each.name)) for each in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        pairs = [(kind(key), kind(each)) for key, each in value.items()]
        return type(value), sorted(pairs, key=repr) if type(
            value
        ) is dict else pairs  # a TypedDict has an order of its own
    if isinstance(value, list | tuple | collections.deque):
        return type(value), [kind(each) for each in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, map(kind, value)))
    if isinstance(value, dt.datetime | dt.time):
        return (
            type(value),
            value.replace(tzinfo=None),
            value.fold,
            value.utcoffset(),
            getattr(value.tzinfo, "key", None),
        )
    return type(value), repr(value)


# --- all types ------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
ZONES = st.sampled_from([
    None, dt.UTC, ZURICH, ZoneInfo("Europe/Amsterdam"), dt.timezone(dt.timedelta(hours=-3, minutes=-30)),
    dt.timezone(dt.timedelta(seconds=1_172)), dt.timezone(dt.timedelta(hours=1), "mine"),
])  # fmt: skip
MOMENTS = st.datetimes(timezones=ZONES, allow_imaginary=True) | st.builds(
    lambda minute, fold: dt.datetime(2025, 10, 26, 2, minute, tzinfo=ZURICH, fold=fold),
    st.integers(0, 59),
    st.integers(0, 1),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(2**60, 2**70), st.just(-(10**4_000)), st.floats(), st.complex_numbers(),
    TEXT, st.binary(max_size=200), st.binary(max_size=9).map(bytearray), MOMENTS, st.dates(), st.times(timezones=ZONES), st.timedeltas(), st.decimals(),
    st.fractions(), st.uuids(), st.sampled_from([*Mode, *Kind, *Right, Right.READ | Right.WRITE, Right(0)]),
    st.sampled_from([Path("a/ü"), PurePosixPath("b"), IPv4Address("10.0.0.1"), re.compile("a+", re.IGNORECASE), range(3), ZURICH, dt.UTC]),
    st.builds(Point, st.integers(), st.frozensets(TEXT)), st.builds(Tag, name=TEXT, rank=st.none() | st.integers()),
    st.builds(Rate, pct=st.floats(0, 100)), st.builds(Blob, data=st.binary(max_size=9)), st.builds(Shown, size=st.integers()),
    st.builds(Card, st.integers(), MOMENTS), st.builds(Swapped, a=st.integers(), b=st.integers()),
)  # fmt: skip
KEYS = st.one_of(
    TEXT, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.dates(), st.sampled_from([*Mode, *Kind]),
    st.just("$tuple"), st.tuples(st.integers(), TEXT), st.builds(Tag, name=TEXT),
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.sets(KEYS, max_size=3), st.frozensets(KEYS, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=2).map(collections.OrderedDict), st.lists(inner, max_size=2).map(collections.deque),
        st.builds(Loose, anything=inner, rows=st.lists(inner, max_size=2), table=st.dictionaries(KEYS, inner, max_size=2), extra=inner),
    ),
    max_leaves=6,
)  # fmt: skip
CLASSES = Mode | Kind | Right | Point | Tag | Rate | Blob | Shown | Card | Swapped | Loose
"""Named beside Any, so that their values may stand in it."""
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Any, st.recursive(st.integers() | TEXT | st.floats() | MOMENTS, lambda inner: st.tuples(inner, inner) | st.lists(inner), max_leaves=4)),
    (CLASSES | Any, ANYTHING),
    (dict[str, CLASSES | Any], st.dictionaries(TEXT, ANYTHING, max_size=2)),
    (list[CLASSES | Any], st.lists(ANYTHING, max_size=3)),
    (int, st.integers()),
    (int, st.just(10**4_000)),
    (float, st.floats()),
    (str, TEXT),
    (bytes, st.binary()),
    (Mode | str, st.sampled_from(Mode) | TEXT),
    (dict[int | str, str], st.dictionaries(st.integers(0, 9) | st.integers(0, 9).map(str), TEXT)),
    (dict[Kind, int], st.dictionaries(st.sampled_from(Kind), st.integers())),
    (dict[float, int], st.dictionaries(st.floats(allow_nan=False), st.integers())),
    (dt.datetime, MOMENTS),
    (dt.date | dt.datetime | None, MOMENTS | st.dates() | st.none()),
    (list[dt.datetime | None], st.lists(MOMENTS | st.none(), max_size=3)),
    (dict[str, dt.time], st.dictionaries(TEXT, st.times(timezones=ZONES), max_size=3)),
    (dt.timedelta, st.timedeltas()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (set[Tag], st.sets(st.builds(Tag, name=TEXT))),
    (tuple[int, str], st.tuples(st.integers(), TEXT)),
    (tuple[dt.datetime, ...], st.lists(MOMENTS, max_size=3).map(tuple)),
    (Sequence[int], st.lists(st.integers()) | st.lists(st.integers()).map(tuple)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (bool | int | float | None, st.booleans() | st.integers() | st.floats() | st.none()),
    (str | int | list[str] | None, TEXT | st.integers() | st.lists(TEXT) | st.none()),
    (Row, st.fixed_dictionaries({}, optional={"a": st.integers(), "b": st.lists(st.integers()).map(tuple)})),
    (Names, st.builds(Names, st.dictionaries(st.integers(0, 9) | st.integers(0, 9).map(str), TEXT))),
    (Cat | Dog, st.builds(Cat, name=TEXT) | st.builds(Dog, name=TEXT)),
    (Tree, st.recursive(st.builds(Tree, value=st.integers()), lambda inner: st.builds(Tree, value=st.integers(), children=st.lists(inner, max_size=2)))),
    (list[Tag], st.lists(st.builds(Tag, name=TEXT, rank=st.none() | st.integers()))),
    (Rate, st.builds(Rate, pct=st.floats())),
    (HttpUrl, st.sampled_from([HttpUrl("https://a.example/ü"), HttpUrl("http://b.example:8080/?q=1")])),
]  # fmt: skip


@st.composite
def typed(draw: st.DrawFn) -> tuple[Any, Any]:
    annotation, values = draw(st.sampled_from(TYPED))
    return annotation, draw(values)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(typed(), st.integers(1, 5))
def test_a_value_comes_back_equal_after_any_number_of_hops(drawn: tuple[Any, Any], hops: int) -> None:
    """C12, C13"""
    annotation, value = drawn
    codec = codec_for(annotation)
    back = value
    for _ in range(hops):
        back = codec.decode(codec.encode(back))

    assert kind(back) == kind(value)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(typed())
def test_parameters_come_back_equal_whatever_they_hold(drawn: tuple[Any, Any]) -> None:
    """S3, S5"""
    annotation, value = drawn
    codec = ParamsCodec(annotation)
    back = codec.load(codec.dump(value), {})

    assert kind(back) == kind(value)
    assert codec.identity(back) == codec.identity(value)


# --- through an engine ----------------------------------------------------------------------------

SOME: list[tuple[Any, Any]] = [
    (CLASSES | Any, {1: (1, {2}), "1": [dt.datetime(2025, 10, 26, 2, 30, tzinfo=ZURICH, fold=1), Decimal("1.10")], Mode.FAST: b"\xff"}),
    (dict, {"when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "price": Decimal("1.10"), "id": UUID(int=5), "path": Path("a/b"), "nan": [-0.0, 10**400]}),
    (Loose, Loose(anything=(1, 2), rows=[(1,)], table={1: {2}}, pair=(1, 2), mode=Mode.SLOW, extra={3})),
    (Rate, Rate(pct=50)),
    (list[Card], [Card(1, dt.date(2024, 1, 1)), Card(2, dt.datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")))]),
    (set[Tag], {Tag(name="a"), Tag(name="b", rank=1)}),
]  # fmt: skip


def _hops(
    annotation: Any, value: Any, hops: int, seen: list[Any] | None = None, name: str = "hops"
) -> nb.Job[Any, Any]:
    def give(_: int) -> Any:
        return value

    def pass_on(each: Any) -> Any:
        return each

    def take(each: Any) -> Any:
        given = list(each)
        if seen is not None:
            seen.extend(given)
        return given[0]

    give.__annotations__ = {"_": int, "return": annotation}
    pass_on.__annotations__ = {"each": annotation, "return": annotation}
    take.__annotations__ = {"each": Iterable[annotation], "return": annotation}
    chain: Any = nb.step(give, name="give", max_attempts=1)
    for place in range(hops):
        chain = chain >> nb.step(pass_on, name=f"hop{place}", max_attempts=1)
    return nb.Job(name, chain >> nb.step(take, name="take", max_attempts=1))


@pytest.mark.parametrize(("annotation", "value"), SOME)
def test_a_value_passes_through_steps_and_a_file(tmp_path: Path, annotation: Any, value: Any) -> None:
    """C12"""
    seen: list[Any] = []
    job = _hops(annotation, value, 3, seen)
    with nb.open(tmp_path / "s.duckdb") as batch:
        run = batch.submit(job, 1)

        assert kind(run.result(30)) == kind(value)
        assert [kind(each) for each in (*seen, *run.outputs("give"), *run.inputs("hop2"))] == [kind(value)] * 3


def test_values_pass_through_worker_processes() -> None:
    """C12"""
    with nb.processes(1) as pool, nb.open(":memory:", executor=pool) as batch:
        for place, (annotation, value) in enumerate(SOME):
            run = batch.submit(_hops(annotation, value, 2, name=f"hops{place}"), 1)

            assert kind(run.result(60)) == kind(value)


# --- a step may take another type than the one before it gives --------------------------------------


@pytest.mark.parametrize(
    ("gives", "takes", "value"),
    [
        (Mode, Mode | str, Mode.FAST),
        (dt.datetime, Any, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (tuple[int, int], object, (1, 2)),
        (Cat, Any, Cat(name="a")),
        (Any, Cat, Cat(name="a")),
        (int, int | float, 2**60 + 1),
        (Card, Card | None, Card(1)),
    ],
)
def test_what_one_type_wrote_another_reads_unchanged(batch: nb.Batch, gives: Any, takes: Any, value: Any) -> None:
    """C12"""
    seen: list[Any] = []

    def give(_: int) -> Any:
        return value

    def take(each: Any) -> None:
        seen.append(each)

    give.__annotations__ = {"_": int, "return": gives}
    take.__annotations__ = {"each": takes, "return": None}
    batch.submit(nb.Job("types", nb.step(give, name="give") >> nb.step(take, name="take")), 1).result()

    assert [kind(each) for each in seen] == [kind(value)]


def test_a_whole_number_that_no_float_holds_is_refused_where_floats_are_taken(batch: nb.Batch) -> None:
    @nb.step(max_attempts=1)
    def give(n: int) -> int:
        return 2**60 + n

    @nb.step
    def take(value: float) -> None:
        assert value

    run = batch.submit(nb.Job("big", give >> take), 1)
    run.wait(30)

    assert "which takes float" in run.errors()["error"][0]


# --- refused where it is given ----------------------------------------------------------------------


class Siamese(Cat):
    blue: bool = True


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (list[int], (1, 2), r"the tuple \(1, 2\), which would become the list"),
        (int, "5", "the str '5', which would become the int 5"),
        (Path, "a", "the str 'a'"),
        (Row, {"a": 1, "c": 2}, "c"),
        (Cat, Siamese(name="a"), r"is a Siamese, and would come back as a plain Cat: declare Siamese too"),
        (list[Cat], [Siamese(name="a")], r"\[0\] is a Siamese"),
        (Any, [Cat(name="a")], r"\[0\] is a Cat, which the declared type does not name"),
        (dict[str, Any], {"k": object()}, r"k is a object.*nb\.storable"),
        (Annotated[float, AfterValidator(lambda value: value / 100)], 50.0, "50.0, which would become"),
        (Any, collections.defaultdict(lambda: 1), "make it a dict"),
        (Any, lambda: 1, "function"),
    ],
)
def test_what_would_come_back_changed_is_refused(annotation: Any, value: Any, said: str) -> None:
    """C12, C13"""
    with pytest.raises(ValueError, match=said):
        codec_for(annotation).encode(value)


def test_an_instance_that_was_changed_into_what_its_type_refuses_is_refused() -> None:
    """C12"""

    class Sized(BaseModel):
        size: int = Field(ge=0)

    wrong = Sized(size=1)
    wrong.size = -1

    with pytest.raises(nb.ValueNotStorable, match=r"size: .*greater than or equal to 0, in a value that was changed"):
        codec_for(Sized).encode(wrong)


class Thing:
    def __init__(self, n: int) -> None:
        self.n = n


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Thing | None = None


@dataclasses.dataclass
class Parts:
    items: list[Iterator[int]]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Thing, r"it is a Thing, which has no stored form; .*nb\.storable\(Thing, dump=\.\.\., load=\.\.\.\)"),
        (Holder, "field thing is a Thing"),
        (dict[str, list[Holder]], "field thing is a Thing"),
        (Parts, r"field items is Iterator\[int\], which is used up"),
        (list[Callable[[], int]], "used up or called"),
    ],
)
def test_a_type_that_cannot_be_stored_is_refused_where_the_step_is_defined(annotation: Any, said: str) -> None:
    """C12"""

    def give(n: int) -> Any: ...

    give.__annotations__["return"] = annotation

    with pytest.raises(nb.DefinitionError, match=said) as caught:
        nb.step(give, name="give")
    assert "arbitrary_types_allowed" not in str(caught.value)


# --- other kinds ----------------------------------------------------------------------------------


def test_private_attributes_come_back() -> None:
    given = Counter(n=1)
    given._seen.add("x")
    codec = codec_for(Counter)

    assert codec.decode(codec.encode(given)) == given


def test_a_field_with_a_new_default_is_put_in_and_one_without_is_named() -> None:
    def version(**fields: Any) -> Any:
        return type(
            "Item",
            (BaseModel,),
            {"__annotations__": {name: each for name, (each, _) in fields.items()}}
            | {name: value for name, (_, value) in fields.items() if value is not None},
        )

    old = codec_for(version(a=(tuple[int, ...] | list[int], None)))
    data = old.encode(old.type(a=(1,)))

    assert codec_for(version(a=(tuple[int, ...] | list[int], None), b=(int, 5))).decode(data).b == 5
    with pytest.raises(ValueError, match="field 'b' of Item is not in what was stored"):
        codec_for(version(a=(tuple[int, ...] | list[int], None), b=(int, None))).decode(data)


def test_values_can_be_looked_at_without_their_types() -> None:
    value = Loose(anything={1: Mode.FAST}, rows=[(1, 2)], mode=Mode.SLOW, more=b"x")

    shown = plain(codec_for(Loose | Mode).encode(value))
    assert shown == {"anything": {"1": "fast"}, "rows": [[1, 2]], "table": {}, "pair": [], "mode": "slow", "more": "78"}


def test_pages_of_any_form_are_split() -> None:
    codec = codec_for(list[Any])
    page = [(1,), b"x" * 1_000, {2}]

    assert [each for half in halves(codec.encode(page)) for each in codec.decode(half)] == page


# --- what means the same --------------------------------------------------------------------------

SAME = """
import datetime as dt, enum
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo
from pydantic import BaseModel, ConfigDict
from nbbatch.values.parameters import ParamsCodec
class Mode(enum.Enum):
    FAST = "fast"
class Filter(NamedTuple):
    tags: frozenset[str]
    kinds: set[Mode]
class Params(BaseModel):
    model_config = ConfigDict(extra="allow")
    chosen: Filter
    anything: Any
    at: dt.datetime
words = set("alpha beta gamma delta".split())
params = Params(chosen=Filter(frozenset(words), {Mode.FAST}), anything={"x": words, 1: [words]}, extra={("a", w) for w in words},
                at=dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Zurich")))
print(ParamsCodec(Params).identity(params))
"""


def test_parameters_mean_the_same_in_every_process() -> None:
    """S5"""
    seen = {
        subprocess.check_output([sys.executable, "-c", SAME], env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone})
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"), ("3", "America/Lima"))
    }

    assert len(seen) == 1


UTC_NOON, ZURICH_NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, 13, tzinfo=ZURICH)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0), (1, True), (1, Decimal("1.00")), (Decimal("0.5"), 0.5), (Fraction(1, 2), 0.5), (UTC_NOON, ZURICH_NOON),
        ({1, 2}, frozenset({2, 1})), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (Point(1), (1, frozenset())), (b"x", bytearray(b"x")),
        (range(0), range(5, 2)), (Decimal("1e600"), Decimal("10e599")),
    ],
)  # fmt: skip
def test_equal_values_mean_the_same(one: Any, other: Any) -> None:
    """S5"""
    codec = ParamsCodec(Point | Any)

    assert one == other
    assert codec.identity(one) == codec.identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]), ({1: "a"}, {"1": "a"}), ({None: 1}, {"None": 1}), ("1", 1), (Mode.FAST, "fast"), ([1], {1}), (0.1, Decimal("0.1")),
        (dt.date(2024, 1, 1), "2024-01-01"), (Cat(name="a"), Dog(name="a")), (Cat(name="a"), {"name": "a"}), ({"$set": [1]}, {1}),
        (dt.datetime(2025, 10, 26, 2, tzinfo=ZURICH), dt.datetime(2025, 10, 26, 2, tzinfo=ZURICH, fold=1)), (b"x", "x"),
        (Decimal("1e600"), Decimal("1e601")), (2**53, 2**53 + 1),
    ],
)  # fmt: skip
def test_different_values_mean_something_else(one: Any, other: Any) -> None:
    """S5"""
    codec = ParamsCodec(Mode | Cat | Dog | Any)

    assert codec.identity(one) != codec.identity(other)


def test_frames_are_compared_by_what_they_hold() -> None:
    """S5"""
    codec = ParamsCodec(dict[str, pl.DataFrame])

    one, same, other = ({"a": pl.DataFrame({"x": [each]})} for each in (1, 1, 2))
    assert codec.identity(one) == codec.identity(same) != codec.identity(other)

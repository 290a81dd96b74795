"""Values and parameters: what is stored comes back equal, or is refused with its field."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import randbytes
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, Secret, SecretBytes, SecretStr, ValidationError
from typing_extensions import TypedDict

import nbbatch as nb
from nbbatch.heal.compare import fields
from nbbatch.values import codec, views
from nbbatch.values.codec import Codec, codec_for
from nbbatch.values.parameters import ParamsCodec
from nbbatch.values.views import brief, text


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Part(BaseModel):
    name: str
    size: int = 1


class Thing(BaseModel):
    path: Path
    day: dt.date
    moment: dt.datetime
    price: Decimal
    colour: Colour
    parts: list[Part]
    note: str | None


class Row(TypedDict):
    a: int
    b: str


@dataclass
class Point:
    x: float
    tags: tuple[str, ...] = ()


class Measure(BaseModel):
    values: list[float | None]


class Loose(BaseModel):
    value: Any


class Login(BaseModel):
    user: str
    password: SecretStr = SecretStr("")


class Tune(BaseModel):
    quality: int = 0
    speed: Annotated[int, nb.NonIdentifying] = 1


class Params(BaseModel):
    folder: Path
    limit: int = 10
    tags: set[str] = set()
    tunes: dict[str, Tune] = {}
    either: Tune | list[Tune] | None = None
    pair: tuple[int, Tune] | None = None
    logins: list[Login] = []


TEXT = st.text(st.characters(codec="utf-8"))
THINGS = st.builds(
    Thing,
    path=st.sampled_from([Path("a"), Path("data/ü ö.ndjson")]),
    day=st.dates(),
    moment=st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    colour=st.sampled_from(Colour),
    parts=st.lists(st.builds(Part, name=TEXT, size=st.integers(-(2**70), 2**70)), max_size=3),
    note=st.none() | TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def there_and_back(annotation: Any, value: Any) -> Any:
    made = codec_for(annotation)
    return made.decode(made.encode(value))


def refusal(annotation: Any, value: Any) -> str:
    with pytest.raises(nb.ValueNotStorable) as caught:
        codec_for(annotation).encode(value)
    return str(caught.value)


def identity(params: Any, annotation: Any = Params) -> str:
    made = ParamsCodec(annotation)
    return made.identity(made.validate(params))


# --- values --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(THINGS)
def test_a_model_comes_back_equal(thing: Thing) -> None:
    assert there_and_back(Thing, thing) == thing


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_a_plain_json_value_comes_back_equal(value: Any) -> None:
    assert there_and_back(Any, value) == value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Point, Point(1.5, ("a",))),
        (Row, {"a": 1, "b": "x"}),
        (dict[int, UUID], {1: UUID(int=7)}),
        (int | str, "1"),
        (dt.date | dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        (set[int], {1, 2}),
        (list[float], [math.inf, -math.inf]),
        (None, None),
    ],
)
def test_other_types_come_back_equal(annotation: Any, value: Any) -> None:
    back = there_and_back(annotation, value)

    assert back == value
    assert type(back) is type(value)


def test_a_model_with_aliases_and_computed_defaults_comes_back_equal() -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)
        inner: int = Field(alias="outer")

    assert there_and_back(Aliased, Aliased(outer=1)) == Aliased(outer=1)


def test_each_decoding_gives_a_fresh_value() -> None:
    """C14"""
    made = codec_for(Measure)
    data = made.encode(Measure(values=[1.0]))
    made.decode(data).values.append(2.0)

    assert made.decode(data).values == [1.0]


def test_one_type_has_one_codec() -> None:
    assert codec_for(Thing) is codec_for(Thing)
    assert isinstance(codec_for(Annotated[int, []]), Codec)


@pytest.mark.parametrize(("annotation", "value"), [(Part, {"name": 5}), (list[int], [1, "x"]), (Row, {"a": 1})])
def test_a_value_of_another_type_is_refused_with_field_and_value(annotation: Any, value: Any) -> None:
    """C12"""
    with pytest.raises(ValidationError, match=r"name[\s\S]*5|1[\s\S]*'x'|b[\s\S]*required"):
        codec_for(annotation).encode(value)


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (Part, Part.model_construct(name="n", size="big"), "size: .*, not 'big'"),
        (list[Part], [Part(name="n"), Part.model_construct(name="n", size="big")], r"1\.size: .*'big'"),
        (Point, Point("far"), "x: .*'far'"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_inside_a_built_one_is_found(annotation: Any, value: Any, found: str) -> None:
    """C12"""
    with pytest.raises(nb.ValueNotStorable, match=found):
        codec_for(annotation).encode(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_no_word_for_comes_back(number: float) -> None:
    """C13"""
    back = there_and_back(Measure, Measure(values=[1.0, None, number])).values

    assert [back[:2], repr(back[2])] == [[1.0, None], repr(number)]
    assert repr(there_and_back(Loose, Loose(value={"k": {number}})).value) == repr({"k": {number}})


def test_a_model_that_allows_such_numbers_keeps_them() -> None:
    """C13"""

    class Open(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants", serialize_by_alias=True)
        x: float = Field(alias="X")
        y: None = None

    assert math.isnan(there_and_back(Open, Open(X=math.nan)).x)
    assert math.isnan(there_and_back(list[float], [math.nan])[0])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"k": [object()]}, r"value\.k\[0\] is a object, which has no stored form.*nb\.storable"),
        ({"k": ["\ud800"]}, r"value\.k\[0\] holds a lone surrogate"),
        ({"\ud800": 1}, r"value\.\\ud800 has a lone surrogate in its key"),
    ],
)
def test_a_value_without_a_json_form_names_its_field(value: Any, found: str) -> None:
    """C13"""
    with pytest.raises(nb.ValueNotStorable, match=found) as caught:
        codec_for(Loose).encode(Loose(value=value))

    assert str(caught.value).encode()


def test_a_value_that_holds_itself_is_refused() -> None:
    """C13"""
    ring: list[Any] = []
    ring.append(ring)

    assert "no JSON form" in refusal(Any, ring)


def test_a_value_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """C13"""
    monkeypatch.setattr(codec, "MAX_VALUE_BYTES", 5_000)

    assert "at most 5,000 fit" in refusal(str, "x" * 5_001)
    assert "at most 5,000 fit" in refusal(pl.DataFrame, pl.DataFrame({"a": [randbytes(5_000)]}))


@pytest.mark.parametrize("kind", [SecretStr, SecretBytes, Secret[int]])
def test_a_secret_in_a_chunk_is_refused_and_not_shown(kind: Any) -> None:
    """S4"""
    shown = refusal(list[kind], [kind(b"4711" if kind is SecretBytes else 4711 if kind is Secret[int] else "4711")])

    assert shown.startswith("[0] is a secret")
    assert "4711" not in shown


def test_text_that_looks_like_a_masked_secret_is_only_text() -> None:
    assert there_and_back(str, "**********") == "**********"


# --- frames --------------------------------------------------------------------------------------

FRAME = pl.DataFrame(
    {
        "whole": [1, None],
        "category": ["a", None],
        "enum": ["x", "y"],
        "list": [[1, None], []],
        "struct": [{"a": 1, "b": ["q"]}, None],
        "decimal": [Decimal("1.10"), None],
        "moment": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None],
        "length": [dt.timedelta(1), None],
        "float": [0.5, None],
        "bytes": [b"\xff", None],
        "nothing": [None, None],
    },
    schema_overrides={"category": pl.Categorical, "enum": pl.Enum(["x", "y"]), "decimal": pl.Decimal(10, 2)},
)


@pytest.mark.parametrize("frame", [FRAME, FRAME.clear(), pl.DataFrame()], ids=["full", "zero rows", "no columns"])
def test_a_frame_comes_back_equal(frame: pl.DataFrame) -> None:
    """C18"""
    back = there_and_back(pl.DataFrame, frame)

    assert back.schema == frame.schema
    assert back.equals(frame)


def test_a_big_frame_of_noise_is_written_as_it_is_and_equal_ones_alike() -> None:
    """C18"""
    random, frames = np.random.default_rng(0), codec_for(pl.DataFrame)
    noise = pl.DataFrame({"x": random.random(100_000), "y": random.random(100_000) < 0.5})
    regular = pl.DataFrame({"x": range(100_000)})
    data = frames.encode(noise)

    assert len(data) > 800_000
    assert len(frames.encode(regular)) < 400_000
    assert frames.decode(data).equals(noise)
    for frame in (noise, regular):
        assert frames.encode(pl.concat([frame[:100], frame[100:]], rechunk=False)) == frames.encode(frame)
    assert views.plain(data).equals(noise)
    assert views.brief(data).startswith("a table")
    assert [views.plain(half).height for half in views.halves(data)] == [50_000, 50_000]


def test_a_frame_is_arrow_under_any_annotation() -> None:
    """C18"""
    assert [codec_for(each).media for each in (pl.DataFrame, Annotated[pl.DataFrame, "x"], Part)] == [
        "arrow", "arrow", "json",
    ]  # fmt: skip


def test_what_is_no_frame_is_refused_where_one_is_declared() -> None:
    """C12"""
    with pytest.raises(TypeError, match=r"declared polars\.DataFrame, but got list"):
        codec_for(pl.DataFrame).encode([1])


def test_a_frame_of_python_objects_names_its_column() -> None:
    """C13"""
    assert refusal(pl.DataFrame, pl.DataFrame({"a": [1], "o": [object()]})).startswith("column 'o'")


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "params", "found"),
    [
        (Params, {"folder": "a", "limt": 1}, "limt"),
        (Params, {"folder": "a", "tunes": {"x": {"sped": 1}}}, r"tunes\.x\.sped"),
        (Point, {"x": 1, "y": 2}, "y"),
        (Row, {"a": 1, "b": "x", "c": 1}, "c"),
    ],
)
def test_an_unknown_field_is_an_error(annotation: Any, params: Any, found: str) -> None:
    """S1"""
    with pytest.raises(ValidationError, match=found):
        ParamsCodec(annotation).validate(params)


@settings(max_examples=40, deadline=None)
@given(THINGS)
def test_parameters_come_back_equal(thing: Thing) -> None:
    """S3"""
    made = ParamsCodec(Thing)

    assert made.load(made.dump(thing), {}) == thing


@pytest.mark.parametrize(
    ("params", "found"),
    [
        (Loose(value=object()), "parameter value is a object, which has no stored form"),
        (Loose(value={"k": Part(name="n")}), r"parameter value\.k is a Part, which the declared type does not name"),
        (Part(name="\ud800"), "name holds a lone surrogate"),
        (Part.model_construct(name="n", size="big"), "size: Input should be"),
    ],
)
def test_parameters_that_would_not_come_back_equal_are_refused(params: Any, found: str) -> None:
    """S3"""
    with pytest.raises(nb.ValueNotStorable, match=found):
        ParamsCodec(type(params)).dump(params)


def test_parameters_may_hold_what_their_model_lets_through() -> None:
    """S3"""

    class Open(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants")
        x: float

    made = ParamsCodec(Open)
    assert math.isnan(made.load(made.dump(Open(x=math.nan)), {}).x)


def test_secrets_are_masked_in_store_and_given_back_from_memory() -> None:
    """S4"""
    made, params = (
        ParamsCodec(Params),
        Params(folder=Path("a"), logins=[Login(user="u", password=SecretStr("hunter2"))]),
    )
    data = made.dump(params)

    assert b"hunter2" not in data
    assert made.secrets(params) == {"logins[0].password": "hunter2"}
    assert made.load(data, made.secrets(params)) == params


def test_a_masked_secret_that_is_not_in_memory_is_asked_for() -> None:
    """S4"""

    class Strict(BaseModel):
        password: SecretStr = Field(min_length=12)

    for annotation, params in (
        (Login, Login(user="u", password=SecretStr("hunter2"))),
        (Strict, Strict(password=SecretStr("x" * 12))),
    ):
        made = ParamsCodec(annotation)
        with pytest.raises(nb.StateError, match=r"parameter password is a secret.* submit the job again"):
            made.load(made.dump(params), {})


@pytest.mark.parametrize(
    ("annotation", "params", "found"),
    [
        (Secret[int], Secret[int](4711), "make it a SecretStr"),
        (SecretBytes, SecretBytes(b"\xff4711"), "not UTF-8"),
        (set[SecretStr], {SecretStr("4711")}, "use a list"),
    ],
)
def test_a_secret_that_would_not_come_back_is_refused_and_not_shown(annotation: Any, params: Any, found: str) -> None:
    """S4"""
    with pytest.raises(nb.ValueNotStorable, match=found) as caught:
        ParamsCodec(annotation).dump(params)

    assert "4711" not in str(caught.value)


def test_a_wrong_parameter_is_refused_without_its_value() -> None:
    """S4"""
    with pytest.raises(nb.ValueNotStorable) as caught:
        ParamsCodec(Login).dump(Login.model_construct(user="u", password="hunter2"))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"folder": "a", "limit": 10}, {"limit": 10, "folder": "a"}),
        ({"folder": "a"}, {"folder": "a", "limit": 10, "tags": []}),
        ({"folder": "a", "tunes": {"x": {"speed": 1}}}, {"folder": "a", "tunes": {"x": {"speed": 2}}}),
        ({"folder": "a", "either": {"speed": 1}}, {"folder": "a", "either": {"speed": 2}}),
        ({"folder": "a", "either": [{"speed": 1}]}, {"folder": "a", "either": [{"speed": 2}]}),
        ({"folder": "a", "pair": (1, {"speed": 1})}, {"folder": "a", "pair": (1, {"speed": 2})}),
        (
            {"folder": "a", "logins": [{"user": "u"}]},
            {"folder": "a", "logins": [{"user": "u", "password": "x"}]},
        ),
    ],
)
def test_order_defaults_secrets_and_marked_fields_make_no_difference(one: Any, other: Any) -> None:
    """S5"""
    assert identity(one) == identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"folder": "a"}, {"folder": "b"}),
        ({"folder": "a", "tunes": {"speed": {"quality": 1}}}, {"folder": "a", "tunes": {"speed": {"quality": 2}}}),
        ({"folder": "a", "pair": (1, {})}, {"folder": "a", "pair": (2, {})}),
        ({"folder": "a", "tags": ["x"]}, {"folder": "a", "tags": ["y"]}),
    ],
)
def test_every_other_field_makes_a_difference(one: Any, other: Any) -> None:
    """S5"""
    assert identity(one) != identity(other)


def test_a_marked_field_of_a_dataclass_makes_no_difference() -> None:
    """S5"""

    @dataclass
    class Plain:
        a: int
        speed: Annotated[int, nb.NonIdentifying] = field(default=1)

    Plain.__annotations__ = {"a": int, "speed": Annotated[int, nb.NonIdentifying]}

    assert identity(Plain(1, 1), Plain) == identity(Plain(1, 2), Plain) != identity(Plain(2), Plain)


def test_a_set_has_the_same_identity_in_every_process() -> None:
    """S5"""
    code = "from nbbatch.values.parameters import ParamsCodec as C; print(C(set[str]).identity(set('abcdef')))"
    digests = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in "12"
    }

    assert len(digests) == 1


def test_a_difference_names_each_field() -> None:
    """S6"""
    made = ParamsCodec(Params)
    old, new = made.dump(Params(folder=Path("a"))), made.dump(Params(folder=Path("b"), tunes={"x": Tune()}))

    assert made.difference(old, new).startswith("folder: 'a' → 'b', tunes")
    assert made.difference(old, old) == "only in secrets or non-identifying fields"


@pytest.mark.parametrize("make", [codec_for, ParamsCodec])
def test_a_codec_survives_a_pickle(make: Callable[[Any], Any]) -> None:
    import pickle

    assert pickle.loads(pickle.dumps(make(Part))).type is Part


def test_stored_json_is_utf8_by_field_name() -> None:
    assert json.loads(codec_for(Part).encode(Part(name="ü")).decode()) == {"name": "ü", "size": 1}


class Token(BaseModel):
    model_config = ConfigDict(frozen=True)
    value: SecretStr = Field(min_length=20, alias="token")
    day: dt.date


class Vault(BaseModel):
    tokens: list[Token]
    keys: dict[str, Annotated[SecretStr, Field(max_length=4)]] = {}
    size: int = 3


@dataclass(frozen=True, slots=True)
class Safe:
    key: Annotated[SecretStr, Field(max_length=5)]
    day: dt.date


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Vault, {"tokens": [{"token": "x" * 22, "day": "2024-02-29"}], "keys": {"a": "sk-1"}}),
        (Safe, {"key": "12345", "day": "2024-02-29"}),
    ],
)
def test_masked_parameters_can_be_looked_at_whatever_their_secrets_have_to_meet(kind: Any, given: Any) -> None:
    """S4"""
    codec = ParamsCodec(kind)
    params = codec.validate(given)
    masked = codec.masked(codec.dump(params))

    assert isinstance(masked, kind)
    assert codec.load(codec.dump(params), codec.secrets(params)) == params
    if isinstance(masked, Vault):
        assert masked.tokens[0].day == dt.date(2024, 2, 29)
        assert {each.get_secret_value() for each in (masked.tokens[0].value, masked.keys["a"])} == {"**********"}
        assert masked.size == 3
    else:
        assert (masked.key.get_secret_value(), masked.day) == ("**********", dt.date(2024, 2, 29))


def test_a_run_whose_parameters_hold_a_frame_is_listed(inline: nb.Batch) -> None:
    @nb.step
    def look(frame: pl.DataFrame) -> None:
        assert frame.height == 1_000

    frame = pl.DataFrame({"x": range(1_000), "text": ["é"] * 1_000})
    inline.submit(nb.Job("frame", look), frame).wait()

    assert inline.instances()["params"].to_list() == ['"<polars.DataFrame>"']


@pytest.mark.parametrize("kind", [Part | Any, pl.DataFrame | Part, Part | dict | Any])
def test_a_frame_in_the_place_of_a_model_is_compared_and_listed_like_one(inline: nb.Batch, kind: Any) -> None:
    def take(value: Any) -> None:
        assert value.equals(frames[0])

    take.__annotations__ = {"value": kind, "return": None}
    job = nb.Job("either", nb.step(take))
    frames = [pl.DataFrame({"name": ["a"]}), pl.DataFrame({"name": ["b"]}), pl.DataFrame({"n": [1.5, 2.5]})]

    assert inline.submit(job, frames[0], key="k").wait() is nb.InstanceStatus.COMPLETED
    for other, shown in (
        (frames[1], "1 × 1 → another one"),
        (frames[2], "1 × 1 → a table of 2 × 1"),
        (Part(name="a"), "→ {'name': 'a', 'size': 1}"),
    ):
        with pytest.raises(nb.StateError, match=shown):
            inline.submit(job, other, key="k")


def test_a_stored_frame_without_its_type_is_a_table() -> None:
    data = codec_for(Any).encode(pl.DataFrame({"x": [1, 2]}))

    assert data[:5] == b"\nNBV1"
    assert fields(data) == {"x": "Int64, 2 rows: [1, 2]"}
    assert text(data) is None
    assert brief(data) == "a table of 2 × 1"

"""What failed inputs are said to have in common, and which failures count as one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
import pytest

from nbbatch.heal.failures import Kind, grouped
from nbbatch.heal.traits import common_traits
from nbbatch.values.codec import Codec

Row = dict[str, Any]


def dumped(rows: Iterable[Any]) -> list[bytes | None]:
    return [json.dumps(row).encode() for row in rows]


def order(number: int) -> Row:
    """Unlike in its number, amount, mail and day, like others in the rest."""
    return {
        "number": number, "amount": number * 1.25, "day": f"2024-03-{1 + number % 28:02}", "mail": f"a{number}@b.org",
        "currency": "EUR", "unit price": 1, "unit size": 1, "lines": [{"qty": 1 + k} for k in range(1 + number % 3)],
    }  # fmt: skip


CHANGES: list[tuple[str, Callable[[int], Row]]] = [
    ("currency missing", lambda _: {"currency": ...}),
    ("currency an object", lambda i: {"currency": {"code": i}}),
    ("amount a text", lambda i: {"amount": str(i)}),
    ("amount below 0", lambda i: {"amount": -1 - i}),
    ("lines empty", lambda _: {"lines": []}),
    ("lines with more than 3 members", lambda i: {"lines": [{"qty": 1}] * (i + 4)}),
    ("lines[].qty null", lambda i: {"lines": [{"qty": 1}, {"qty": None}]}),
    ("lines[].qty above 3", lambda i: {"lines": [{"qty": 1}, {"qty": 70 + i}]}),
    ("lines[].qty missing", lambda _: {"lines": [{"qty": 1}, {}]}),
    ('day with "/"', lambda i: {"day": f"{i % 28}/3/2024"}),
    ("day after 2024-03-28", lambda i: {"day": f"{2031 + i}-01-01"}),
    ('mail without "@"', lambda i: {"mail": f"nobody{i}.org"}),
    ("mail with blanks around it", lambda i: {"mail": f" a{i}@b.org"}),
]


@pytest.mark.parametrize(("told", "change"), CHANGES)
def test_what_sets_failed_inputs_apart_is_told_and_nothing_else(told: str, change: Callable[[int], Row]) -> None:
    failed = [order(i) | change(i) for i in range(0, 240, 20)]
    failed = [{key: value for key, value in row.items() if value is not ...} for row in failed]
    traits = [trait.text for trait in common_traits(dumped(failed), dumped(order(i) for i in range(240) if i % 20))]
    assert told in traits
    assert {trait.split(" ")[0].split("[")[0].split(".")[0] for trait in traits} == set(change(0))


def test_fields_whose_names_begin_alike_are_told_apart() -> None:
    failed = [order(i) | {"unit price": None, "unit size": None} for i in range(0, 50, 10)]
    traits = common_traits(dumped(failed), dumped(order(i) for i in range(50) if i % 10))
    assert {trait.text for trait in traits} == {"unit price null", "unit size null"}


def test_a_lone_failure_is_not_told_by_what_only_names_it() -> None:
    assert common_traits(dumped([order(77)]), dumped(order(i) for i in range(200) if i != 77)) == []


@pytest.mark.parametrize("size", [1, 2, 3])
def test_few_failures_are_not_told_by_what_they_may_share_by_chance(size: int) -> None:
    rows = [{"side": "left" if i % 3 else "right"} for i in range(60)]
    assert common_traits(dumped(rows[:1] * size), dumped(rows)) == []


def test_without_a_good_input_there_is_nothing_to_tell_failed_ones_from() -> None:
    assert common_traits(dumped(order(i) for i in range(50)), []) == []


def test_of_a_frame_its_columns_are_told() -> None:
    codec = Codec(pl.DataFrame)
    failed = [codec.encode(pl.DataFrame({"a": [None, i], "b": ["1", "2"]})) for i in range(10)]
    good = [codec.encode(pl.DataFrame({"a": [1, i], "b": [1, 2]})) for i in range(10)]
    assert {trait.text for trait in common_traits(failed, good)} == {
        "columns.a.nulls = true",
        'columns.b.type = "String"',
    }


@pytest.mark.parametrize("wording", ["can't read '{}'", "no customer {}", "patient p{}7 is not here", "{}: unknown"])
def test_messages_that_differ_in_their_data_are_one_cause(wording: str) -> None:
    names = [f"{a}{b}" for a in "abcdefgh" for b in "pqrstuvw"]
    rows = [Kind("read", "ValueError", "", wording.format(name), [i], i, i) for i, name in enumerate(names)]
    assert len(grouped(rows)) == 1


def test_few_wordings_of_one_line_stay_causes_of_their_own() -> None:
    said = ["the file is empty", "the file is locked", *(f"no customer {chr(97 + i)}" for i in range(26))]
    rows = [Kind("read", "ValueError", "", each, [i], i, i) for i, each in enumerate(said)]
    assert [cause.message for cause in grouped(rows)] == ["no customer …", "the file is empty", "the file is locked"]


def test_a_message_of_any_length_is_normalised_at_once() -> None:
    rows = [Kind("read", "ValueError", "", text * 100_000, [1], 1, 1) for text in ("x", "'", "/a", "1.")]
    assert len(grouped(rows)) == 4

"""Parameters are read once for many attempts, and every attempt gets them as they were given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from pydantic import BaseModel, ConfigDict, field_validator

import nbbatch as nb
from nbbatch.code.reads import reads_of
from nbbatch.values.sharing import Shared
from nbbatch.worker.context import StoredParams

ODD = "x" * 10_000
"""Makes parameters big enough to be worth sharing."""


class Line(BaseModel):
    price: int
    tags: list[str]


class Fixed(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str


@dataclass
class Place:
    row: int
    cells: list[int]


class Params(BaseModel):
    rates: dict[str, int] = {"chf": 1, "eur": 2}
    rows: list[list[int]] = [[1, 2], [3, 4]]
    lines: list[Line] = [Line(price=1, tags=["a"]), Line(price=2, tags=["b"])]
    names: list[str] = ["anna", "bo"]
    folder: Path = Path("data")
    fixed: Fixed = Fixed(name="f")
    place: Place = Place(1, [2])
    append: int = 1
    odd: str = ODD

    @property
    def first(self) -> list[int]:
        return self.rows[0]


def helper(value: Any) -> None:
    value.rates.clear()


def reads_a_field(i: int, params: Params) -> Path:
    return params.folder / params.fixed.name / str(params.append)


def looks_up(i: int, params: Params) -> int:
    return params.rates["chf"] + params.rates.get("eur", 0) + params.place.row


def reads_of_items(i: int, params: Params) -> int:
    return params.lines[i].price + len(params.names[i]) + params.names.count("bo")


def iterates(i: int, params: Params) -> list[Any]:
    found = [name.upper() for name in params.names if name in params.rates]
    return [*found, len(params.rates), [key for key, _ in params.rates.items()]]


def reads_inside(i: int, params: Params) -> Callable[[], int]:
    return lambda: params.rates["chf"]


READING = [reads_a_field, looks_up, iterates, reads_inside]


def sets_a_field(i: int, params: Params) -> None:
    params.append = 2


def sets_an_item(i: int, params: Params) -> None:
    params.rates["chf"] += 1


def deletes(i: int, params: Params) -> None:
    del params.rates["chf"]


def calls_a_method(i: int, params: Params) -> None:
    params.names.append("carl")


def names_it_anew(i: int, params: Params) -> None:
    (other := params).rates.clear()
    other.rates["a"] = 1


def names_a_part_anew(i: int, params: Params) -> None:
    rates = params.rates
    rates.clear()


def hands_it_on(i: int, params: Params) -> None:
    helper(params)


def hands_a_part_on(i: int, params: Params) -> list[Any]:
    return list(map(list.pop, params.rows))


def by_a_slice(i: int, params: Params) -> None:
    every = slice(None)
    params.rows[every][0].append(9)


def iterates_and_changes(i: int, params: Params) -> None:
    for row in params.rows:
        row.append(5)


def by_a_property(i: int, params: Params) -> None:
    params.first.append(7)


def by_values(i: int, params: Params) -> None:
    next(iter(params.lines)).tags.append("c")


def inside(i: int, params: Params) -> None:
    def change() -> None:
        params.rates.clear()

    change()


def unseen(i: int, params: Params) -> None:
    locals()["params"].rates.clear()


def of_a_dataclass(i: int, params: Params) -> None:
    params.place.cells[0] += 1


def past_the_model(i: int, params: Params) -> None:
    vars(params)["names"] = []


CHANGING = [
    sets_a_field, sets_an_item, deletes, calls_a_method, names_it_anew, names_a_part_anew, hands_it_on, hands_a_part_on, by_a_slice,
    iterates_and_changes, by_a_property, by_values, inside, unseen, of_a_dataclass, past_the_model,
]  # fmt: skip


def _reader(step: Callable[..., Any], params: Any = None) -> Callable[[], Any]:
    stored = StoredParams.of(nb.Job("a", nb.step(_take)).params, Params() if params is None else params)
    return Shared().reader(stored.load, len(stored.data), reads_of(step, 1))


def _take(params: Params) -> None: ...


@pytest.mark.parametrize("step", READING)
def test_a_step_that_only_reads_shares_what_is_read_once(step: Callable[..., Any]) -> None:
    reader = _reader(step)
    step(0, reader())

    assert reader() is reader()


@pytest.mark.parametrize("step", [*CHANGING, *READING, reads_of_items])
def test_whatever_an_attempt_does_the_next_one_gets_what_was_given(step: Callable[..., Any]) -> None:
    reader = _reader(step)
    for _ in range(3):
        given = reader()
        assert given == Params()
        assert given.model_fields_set == set(Params.model_fields)
        step(0, given)


@pytest.mark.parametrize("step", CHANGING)
def test_a_step_that_may_change_parameters_has_its_own(step: Callable[..., Any]) -> None:
    reader = _reader(step)

    assert reader() is not reader()
    assert reader().rates is not reader().rates
    assert reader().lines[0] is not reader().lines[0]
    assert reader().fixed is reader().fixed  # it cannot be changed


def test_a_class_that_computes_its_attributes_is_never_shared() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(extra="allow")
        text: str = ODD
        _cache: list[int] = [1]

        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

    shared = Shared()
    reader = shared.reader(lambda: Odd(more=[1]), 5_000, reads_of(lambda i, params: params.text, 1))

    assert reader() is not reader()
    assert reader().more is not reader().more


def test_what_stands_in_another_text_than_what_runs_proves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    file.write_text("def step(i, params):\n    params.rates.clear()\n")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    file.write_text("def step(i, params):\n    params.rates['chf']\n")

    assert reads_of(scope["step"], 1) is None


class Counted(BaseModel):
    reads: ClassVar[list[int]] = []
    codes: dict[str, str]
    table: list[str] = []

    @field_validator("codes")
    @classmethod
    def _count(cls, codes: dict[str, str]) -> dict[str, str]:
        cls.reads.append(1)
        return codes


@nb.step
def numbers(params: Counted) -> Iterator[int]:
    yield from range(100)


@nb.step
def reading(i: int, params: Counted) -> int:
    return len(params.codes[str(i)])


@nb.step
def changing(i: int, params: Counted) -> int:
    params.table.append("seen")
    params.codes.pop(str(i))
    return len(params.codes) + len(params.table)


@nb.step
async def waiting(i: int, params: Counted) -> int:
    params.codes.popitem()
    return len(params.codes)


@nb.step
def collect(found: Iterable[int]) -> list[int]:
    return sorted(set(found))


@pytest.mark.parametrize(("step", "found"), [(reading, [10_000]), (changing, [100]), (waiting, [99])])
def test_big_parameters_are_read_a_few_times_not_once_a_chunk(batch: nb.Batch, step: Any, found: list[int]) -> None:
    """C14"""
    params = Counted(codes={str(i): ODD for i in range(100)})
    Counted.reads.clear()
    run = batch.submit(nb.Job("counted", numbers >> step >> collect), params)

    assert run.result() == found
    assert len(Counted.reads) <= 10


def test_what_cannot_be_copied_is_read_for_each_attempt() -> None:
    class Framed(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        frame: pl.DataFrame
        text: str = ODD

    def change(i: int, params: Framed) -> None:
        params.frame[0, "a"] = 9

    def read(i: int, params: Framed) -> str:
        return params.text

    def made() -> Framed:
        return Framed(frame=pl.DataFrame({"a": [1]}))

    changed, shared = Shared().reader(made, 5_000, reads_of(change, 1)), Shared().reader(made, 5_000, reads_of(read, 1))
    change(0, changed())

    assert changed().frame["a"].to_list() == [1]
    assert shared() is shared()

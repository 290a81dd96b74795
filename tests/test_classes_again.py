"""Classes that are defined again: a cell that is run once more, a module that is loaded once more."""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import nbbatch as nb

STEPS = """
import nbbatch as nb
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypedDict
from pydantic import BaseModel
class Params(BaseModel):
    n: int
{item}
@nb.step
def find(params: Params) -> Iterator[list[Item]]:
    for i in range(params.n):
        yield [{made}]
@nb.step(max_attempts=1)
def work(items: list[Item]) -> Item | None:
    return items[0]
@nb.step
def total(found: Iterable[Item | None]) -> int:
    return sum(1 for _ in found)
"""
KINDS = {
    "model": ("class Item(BaseModel):\n    n: int", "Item(n=i)", "\n    m: int = 0"),
    "dataclass": ("@dataclass\nclass Item:\n    n: int", "Item(n=i)", "\n    m: int = 0"),
    "named": ("class Item(NamedTuple):\n    n: int", "Item(n=i)", "\n    m: int = 0"),
    "enum": ("class Item(Enum):\n    A = 1", "Item.A", "\n    B = 2"),
    "same": ("class Item(BaseModel):\n    n: int", "Item(n=i)", ""),
}
_numbers = count()


class Notebook(dict[str, Any]):
    """Cells that are run one after another in one namespace."""

    def __init__(self) -> None:
        super().__init__(__name__=f"notebook_{next(_numbers)}")

    def run(self, cell: str) -> Notebook:
        exec(compile(dedent(cell), "<cell>", "exec", dont_inherit=True), self)
        return self

    def job(self) -> Any:
        return nb.Job("models", self["find"] >> self["work"] >> self["total"])


def notebook(kind: str = "model") -> Notebook:
    item, made, _ = KINDS[kind]
    return Notebook().run(STEPS.format(item=item, made=made))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("defined", ["before", "after"])
def test_a_class_that_reads_what_the_one_before_had_goes_on(inline: nb.Batch, kind: str, defined: str) -> None:
    """D2"""
    book = notebook(kind)
    job = book.job() if defined == "before" else None
    item, _, more = KINDS[kind]
    book.run(item + more)
    run = inline.submit(job or book.job(), book["Params"](n=3))

    assert run.result(10) == 3
    assert [type(each) for each in run.outputs("work")] == [book["Item"]] * 3


def test_parameters_go_on_with_the_class_that_was_defined_again(inline: nb.Batch) -> None:
    """D2"""
    book = notebook()
    job, old = book.job(), book["Params"](n=2)
    book.run("class Params(BaseModel):\n    n: int\n    lang: str = 'de'")
    run = inline.submit(job, book["Params"](n=3, lang="fr"))

    assert run.result(10) == 3
    assert run.params.lang == "fr"
    assert inline.submit(book.job(), old).result(10) == 2


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("class Item(BaseModel):\n    n: int\n    m: int", "Item.m is new and has no default"),
        ("class Item(BaseModel):\n    m: int = 0", "Item.n is gone"),
        ("class Item(BaseModel):\n    n: str", "Item.n was int and is str"),
    ],
)
@pytest.mark.parametrize("defined", ["before", "after"])
def test_a_class_of_another_form_is_told_with_the_cells_to_run(
    inline: nb.Batch, item: str, why: str, defined: str
) -> None:
    """D2"""
    book = notebook()
    job = book.job() if defined == "before" else None
    book.run(item)

    with pytest.raises(nb.DefinitionError, match="two classes named Item: run the cells of both steps again") as told:
        inline.submit(job or book.job(), book["Params"](n=3))
    assert why in str(told.value)
    assert inline.instances().height == 0


def test_parameters_of_an_older_class_that_do_not_fit_are_told(inline: nb.Batch) -> None:
    book = notebook()
    old = book["Params"](n=2)
    book.run(
        "class Params(BaseModel):\n    n: int\n    lang: str\n"
        "@nb.step\ndef find(params: Params) -> Iterator[list[Item]]:\n    yield [Item(n=1)]"
    )

    with pytest.raises(nb.ParameterError, match=r"lang: Field required(.|\n)*two classes named Params"):
        inline.submit(book.job(), old)


def test_a_class_that_has_another_name_by_now_is_meant_as_it_is(inline: nb.Batch) -> None:
    book = notebook()
    book.run("Old = Item\nclass Item(BaseModel):\n    other: str")
    book.run(
        """
        @nb.step
        def find(params: Params) -> Iterator[list[Old]]:
            yield [Old(n=1)]
        @nb.step
        def work(items: list[Old]) -> Old | None:
            return items[0]
        @nb.step
        def total(found: Iterable[Old | None]) -> int:
            return sum(1 for _ in found)
        """
    )

    assert inline.submit(book.job(), {"n": 1}).result(10) == 1


def test_a_class_that_is_defined_again_while_the_run_goes_on_changes_nothing(store: Path) -> None:
    began, goes_on = threading.Event(), threading.Event()
    book = notebook()
    book["wait"] = lambda: (began.set(), goes_on.wait(20))
    book.run(
        """
        @nb.step
        def find(params: Params) -> Iterator[list[Item]]:
            wait()
            for i in range(params.n):
                yield [Item(n=i)]
        """
    )
    with nb.open(store) as batch:
        run = batch.submit(book.job(), book["Params"](n=3))
        assert began.wait(20)
        book.run("class Item(BaseModel):\n    n: int\n    m: int = 0")
        goes_on.set()

        assert run.result(20) == 3


def test_values_that_were_made_before_are_given_on(inline: nb.Batch) -> None:
    book = notebook()
    book.run(
        """
        ready = [Item(n=i) for i in range(3)]
        class Item(BaseModel):
            n: int
            m: int = 7
        @nb.step
        def find(params: Params) -> Iterator[list[Item]]:
            for item in ready:
                yield [item]
        """
    )
    run = inline.submit(book.job(), {"n": 3})

    assert run.result(10) == 3
    assert [each.m for each in run.outputs("work")] == [7, 7, 7]


def test_values_of_an_older_class_that_do_not_fit_say_so(inline: nb.Batch) -> None:
    book = notebook()
    book.run(
        """
        ready = Item(n=1)
        class Item(BaseModel):
            m: int
        @nb.step(max_attempts=1)
        def find(params: Params) -> Iterator[list[Item]]:
            yield [ready]
        @nb.step
        def work(items: list[Item]) -> Item | None:
            return items[0]
        @nb.step
        def total(found: Iterable[Item | None]) -> int:
            return sum(1 for _ in found)
        """
    )
    run = inline.submit(book.job(), {"n": 1})
    run.wait(10)

    assert "two classes named Item: run the cells of both steps again" in run.errors()["error"][0]
    assert "m: Field required" in run.errors()["error"][0]


def test_a_model_that_holds_an_older_class_is_told(inline: nb.Batch) -> None:
    book = notebook()
    book.run(
        """
        class Order(BaseModel):
            items: list[Item]
        @nb.step
        def find(params: Params) -> Iterator[Order]:
            yield Order(items=[{"n": 1}])
        @nb.step
        def total(found: Iterable[Order]) -> int:
            return sum(len(order.items) for order in found)
        """
    )
    book.run("class Item(BaseModel):\n    n: int\n    m: int = 0")
    with pytest.warns(UserWarning, match="Order has a field of a class Item that was defined again since"):
        job = nb.Job("orders", book["find"] >> book["total"])

    assert inline.submit(job, {"n": 1}).result(10) == 1


def test_errors_that_are_defined_again_are_still_skipped(inline: nb.Batch) -> None:
    book = Notebook().run(
        """
        import nbbatch as nb
        class Odd(Exception): ...
        @nb.step(skip_on=Odd)
        def work(n: int) -> None:
            raise Odd
        class Odd(Exception): ...
        """
    )
    run = inline.submit(nb.Job("odd", book["work"]), 1)
    run.wait(10)

    assert run.chunks()["status"].to_list() == ["SKIPPED"]


def test_a_job_as_a_step_goes_on_too(inline: nb.Batch) -> None:
    book = notebook()
    inner = book.job()
    outer = nb.Job(
        "outer",
        book.run("@nb.step\ndef first(n: int) -> Params:\n    return Params(n=n)")["first"]
        >> inner.as_step()
        >> last(),
    )
    book.run("class Params(BaseModel):\n    n: int\n    lang: str = 'de'")

    assert inline.submit(outer, 3).wait(10) == "COMPLETED"


def last() -> Any:
    @nb.step
    def keep(n: int) -> None:
        assert n == 3

    return keep


def test_a_module_that_is_loaded_again_goes_on(
    inline: nb.Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    item, made, more = KINDS["model"]
    source = tmp_path / "steps_of_mine.py"
    source.write_text(STEPS.format(item=item, made=made))
    mine: Any = importlib.import_module("steps_of_mine")
    job = nb.Job("mine", mine.find >> mine.work >> mine.total)
    source.write_text(STEPS.format(item=item + more, made=made))
    importlib.invalidate_caches()
    importlib.reload(mine)
    try:
        assert inline.submit(job, {"n": 3}).result(10) == 3
    finally:
        del sys.modules["steps_of_mine"]


@pytest.mark.parametrize("make", [lambda book: book.job(), lambda book: book["find"] >> book["work"]])
def test_nothing_is_read_anew_where_nothing_was_defined_again(make: Callable[[Notebook], Any]) -> None:
    book = notebook()
    before = book["find"].output, book["work"].input
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(book)

    assert (book["find"].output, book["work"].input) == before

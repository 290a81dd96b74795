"""A step's fingerprint changes with its meaning, and with nothing else."""

from __future__ import annotations

import inspect
import linecache
import os
import subprocess
import sys
import tracemalloc
import types
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbbatch as nb
from nbbatch.code import big_values
from nbbatch.code.fingerprint import fingerprint as code_of
from tests.jobs import numbers

ROOT = Path(__file__).parent.parent

cells = count(1)

BASE = """
RATE = 2
TABLE = {"b": 2, "a": 1}
def inner(value):
    return value + 1
def outer(value):
    return inner(value) * RATE
@nb.step
def price(value: int) -> int:
    '''The price.'''
    return outer(value) + TABLE["a"]  # with the rate
"""


def run_cells(*sources: str) -> dict[str, Any]:
    """Run notebook cells in one namespace, with their source where Python looks for it."""
    space: dict[str, Any] = {"nb": nb, "__name__": "notebook"}
    for source in sources:
        name = f"/ipykernel_1/{next(cells)}.py"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), space)
    return space


def fingerprint(source: str) -> str:
    return run_cells(source)["price"].fingerprint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# with the rate", "# something else entirely"),
        ("'''The price.'''", "'''Another text.'''"),
        ("    return outer(value) + TABLE", "\n\n    return (\n        outer( value )\n    ) + TABLE"),
        ("@nb.step", "@nb.step(max_attempts=2)"),
        ('{"b": 2, "a": 1}', '{"a": 1, "b": 2}'),
        ("RATE = 2", "RATE = 2\nOTHER = 5"),
    ],
    ids=["comment", "docstring", "formatting", "options", "order of a dict", "a name that is not used"],
)
def test_what_means_the_same_keeps_the_fingerprint(old: str, new: str) -> None:
    assert old in BASE
    assert fingerprint(BASE.replace(old, new)) == fingerprint(BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 2", "RATE = 3"),
        ('"a": 1', '"a": 7'),
        ("value + 1", "value + 2"),
        ("inner(value) * RATE", "inner(value) + RATE"),
        ('TABLE["a"]', 'TABLE["b"]'),
    ],
    ids=["constant", "value in a dict", "function of a function", "called function", "own body"],
)
def test_what_means_something_else_changes_the_fingerprint(old: str, new: str) -> None:
    assert old in BASE
    assert fingerprint(BASE.replace(old, new)) != fingerprint(BASE)


def scaled(rate: Any) -> nb.Job[int, None]:
    def scale(value: int) -> None:
        print(value * rate)

    return nb.Job("scaled", numbers >> nb.step(scale))


def test_a_closure_value_changes_the_fingerprint() -> None:
    same, other = (scaled(rate).nodes[1].step.fingerprint for rate in (2, 3))

    assert scaled(2).nodes[1].step.fingerprint == same != other


def test_a_called_function_that_is_run_again_in_its_cell_changes_the_fingerprint() -> None:
    space = run_cells("def inner(v):\n    return v\n", "@nb.step\ndef price(v: int) -> int:\n    return inner(v)\n")
    before = space["price"].fingerprint
    exec("def inner(v):\n    return v + 1\n", space)

    assert space["price"].fingerprint != before


def test_a_field_of_a_model_changes_the_fingerprint() -> None:
    cell = "from pydantic import BaseModel\nclass Row(BaseModel):\n    size: int\n@nb.step\ndef price(row: Row) -> int:\n    return row.size\n"

    assert fingerprint(cell) == fingerprint(cell)
    assert fingerprint(cell.replace("size: int\n", "size: int = 3\n")) != fingerprint(cell)


def test_what_a_model_asks_for_changes_the_fingerprint() -> None:
    cell = (
        "from pydantic import BaseModel, Field\nMOST = 3\nclass Row(BaseModel):\n    size: int = Field(le=MOST)\n"
        "@nb.step\ndef price(row: Row) -> int:\n    return row.size\n"
    )

    assert fingerprint(cell) == fingerprint(cell)
    assert fingerprint(cell.replace("MOST = 3", "MOST = 4")) != fingerprint(cell)


def test_text_at_a_class_s_line_in_another_file_is_not_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = types.ModuleType("script_that_runs_cells")
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text("import sys\nif sys.argv:\n    pass\n")
    monkeypatch.setitem(sys.modules, script.__name__, script)
    cell = "import nbbatch as nb\nclass Parcel:\n    size: int\n@nb.step\ndef price(value: int) -> int:\n    return Parcel and value\n"

    def price(cell: str) -> nb.Step[int, int]:
        names = {"__name__": script.__name__}
        exec(compile(cell, "a cell", "exec"), names)
        return names["price"]  # pyright: ignore[reportReturnType]

    assert (
        price(cell).fingerprint == price(cell).fingerprint != price(cell.replace("size: int", "size: str")).fingerprint
    )


def test_functions_that_call_each_other_have_a_fingerprint() -> None:
    cell = (
        "def a(v):\n    return b(v)\ndef b(v):\n    return a(v)\n@nb.step\ndef price(v: int) -> int:\n    return a(v)\n"
    )

    assert fingerprint(cell) == fingerprint(cell)


def test_the_listing_of_a_step_can_be_run() -> None:
    listing = run_cells("import math\n" + BASE.replace("RATE = 2", "RATE = math.floor(2.5)"))["price"].listing
    space: dict[str, Any] = {"nb": nb}
    exec(listing, space)

    assert space["price"](4) == 11


def test_each_attempt_carries_the_fingerprint_of_the_code_it_ran(batch: nb.Batch) -> None:
    """S9"""
    run = batch.submit(scaled(2), 2)
    run.wait(10)

    codes = run.attempts("scale")["code"].unique().to_list()
    assert codes == [scaled(2).nodes[1].step.fingerprint]


HOLDERS = """
import functools
def deep(v):
    return v + 1
def near(v, more=0):
    return deep(v) + more
class Scale:
    def __init__(self, by):
        self.by = by
        self.me = self
    def up(self, v):
        return v * self.by
    __call__ = up
def wrapping(function):
    @functools.wraps(function)
    def call(v):
        return function(v) + 5
    return call
@wrapping
def wrapped(v):
    return v
@functools.singledispatch
def chosen(v):
    return v
@chosen.register
def _(v: int):
    return v - 7
held = {holder}
@nb.step
def price(v: int) -> int:
    return held(v)
"""


@pytest.mark.parametrize(
    ("holder", "old", "new"),
    [
        ("functools.partial(near, more=1)", "v + 1", "v + 2"),
        ("functools.partial(near, more=1)", "more=1", "more=2"),
        ("{'near': [near]}['near'][0]", "v + 1", "v + 2"),
        ("Scale(2).up", "Scale(2)", "Scale(3)"),
        ("Scale(2)", "v * self.by", "v + self.by"),
        ("functools.cache(near)", "v + 1", "v + 2"),
        ("wrapped", "+ 5", "+ 6"),
        ("wrapped", "    return v\n", "    return -v\n"),
        ("chosen", "v - 7", "v - 8"),
        ("chosen", "(v: int)", "(v: float)"),
    ],
)
def test_what_a_value_holds_changes_the_fingerprint(holder: str, old: str, new: str) -> None:
    cell = HOLDERS.replace("{holder}", holder)
    assert old in cell

    assert fingerprint(cell) == fingerprint(cell)
    assert fingerprint(cell.replace(old, new)) != fingerprint(cell)
    one, other, same = (code_of(run_cells(each)["held"]) for each in (cell, cell.replace(old, new), cell))
    assert one == same != other  # a decider may be any of them


def test_a_lambda_is_its_own_text_and_no_other_of_its_line() -> None:
    cell = "RATE = 2\nkeys = [lambda v: v * RATE, lambda w: (lambda v: v + w)]\n"
    first, second = run_cells(cell)["keys"]
    spaced, _ = run_cells(cell.replace("v * RATE", "(v  *  # by the rate\n  RATE)"))["keys"]
    changed, same = run_cells(cell.replace("v * RATE", "v + RATE"))["keys"]
    other, _ = run_cells(cell.replace("RATE = 2", "RATE = 3"))["keys"]

    assert code_of(first) == code_of(spaced)
    assert code_of(second) == code_of(same)
    assert len({code_of(each) for each in (first, changed, other, second, second(1), second(2))}) == 6


def test_a_row_in_the_middle_of_a_table_changes_the_fingerprint() -> None:
    cell = "import polars as pl\nTABLE = pl.DataFrame({'a': [1] * 50 + [2] + [1] * 50})\n@nb.step\ndef price(v: int) -> int:\n    return len(TABLE)\n"

    assert fingerprint(cell) == fingerprint(cell)
    assert fingerprint(cell.replace("[2]", "[3]")) != fingerprint(cell)


TABLES = {
    "polars": "import polars as pl\nTABLE = pl.DataFrame({'a': list(range(1000)), 'b': [ODD] + ['x'] * 999})",
    "series": "import polars as pl\nTABLE = pl.Series('b', [ODD] + ['x'] * 999)",
    "numpy": "import numpy as np\nTABLE = np.array([len(ODD)] + [1] * 999)",
    "strided": "import numpy as np\nTABLE = np.array([[len(ODD)] + [1] * 999] * 2)[:, ::2]",
    "pandas": "import pandas as pd\nTABLE = pd.DataFrame({'a': range(1000), 'b': [ODD] + ['x'] * 999})",
    "bytes": "TABLE = bytes(20_000) + ODD.encode()",
    "text": "TABLE = 'x' * 20_000 + ODD",
    "texts": "TABLE = ['x' * 20_000 + ODD]",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_big_values_are_told_apart_by_all_they_hold(table: str) -> None:
    cell = f"{table}\n@nb.step\ndef price(v: int) -> int:\n    return len(TABLE)\n"
    one, other = cell.replace("ODD", "'a'"), cell.replace("ODD", "'abcd'")

    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)
    assert "<" not in run_cells(one)["price"].listing


@pytest.mark.parametrize(
    "make",
    [
        "pl.DataFrame({str(i): [i] * (MANY // 8) for i in range(16)})",
        "np.zeros(2 * MANY)",
        "pd.DataFrame({'a': np.zeros(2 * MANY)})",
    ],
)
def test_a_big_table_is_not_copied_and_looked_at_once_for_all_steps(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = eval(make, {"pl": pl, "np": np, "pd": pd, "MANY": 500_000})
    looks: list[Any] = []
    real = big_values._told
    monkeypatch.setattr(big_values, "_told", lambda *each: looks.append(each) or real(*each))
    tracemalloc.start()
    with big_values.one_look():
        digests = {big_values.digest_of(table) for _ in range(3)}
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [len(digests), len(looks)] == [1, 1]
    assert most < 5_000_000  # the table has 8


def test_the_listing_of_a_step_that_uses_what_a_value_holds_can_be_run() -> None:
    listing = run_cells(HOLDERS.replace("{holder}", "functools.partial(near, more=1)"))["price"].listing
    space: dict[str, Any] = {"nb": nb}
    exec(listing, space)

    assert space["price"](4) == 6


def test_a_parser_that_stumbles_over_another_thread_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = HOLDERS.replace("{holder}", "Scale(2)")
    undisturbed = fingerprint(cell)
    read, stumbles = inspect.getsource, [True, True]

    def getsource(what: Any) -> str:
        if stumbles:
            stumbles.pop()
            raise SystemError("AST constructor recursion depth mismatch")
        return read(what)

    monkeypatch.setattr(inspect, "getsource", getsource)

    assert fingerprint(cell) == undisturbed
    assert not stumbles


def test_a_hint_changes_the_fingerprint() -> None:
    cell = "@nb.step\ndef price(v: int) -> int:\n    return v\n"

    assert fingerprint(cell) != fingerprint(cell.replace("v: int", "v: float"))


def test_a_class_cell_that_is_put_back_has_its_fingerprint_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    one, two = (f"class Rule:\n    limit = {limit}\n" for limit in (1, 2))
    space = run_cells(one, two, "@nb.step\ndef price(v: int) -> int:\n    return Rule.limit\n")
    marks: list[str] = []
    for ran in ([one], [one, two], [one, two, one]):  # a text has one name, and one place, however often it is run
        vars(notebook)["_ih"] = ran
        exec(ran[-1], space)
        marks.append(space["price"].fingerprint)

    assert marks[0] == marks[2] != marks[1]


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError


METHODS = (
    "__eq__", "__hash__", "__bool__", "__repr__", "__reduce__", "__getattr__", "__len__", "__iter__", "items", "values",
)  # fmt: skip
PROPERTIES = ("__wrapped__", "__dict__", "__class__")


def odd(kind: str) -> Any:
    """A value of which a method raises, or that cannot be walked through."""
    if kind in METHODS:
        bases = {"__iter__": (list,), "items": (dict,), "values": (dict,)}.get(kind, ())
        return type("Odd", bases, {kind: fail})(*[[(1, 2)]] * len(bases))
    if kind in PROPERTIES:
        return type("Odd", (), {kind: property(fail)})()
    if kind == "metaclass":
        return type("Meta", (type,), {"__hash__": fail, "__repr__": fail})("Odd", (), {})
    values: list[Any] = []
    if kind == "holds itself":
        values.append(values)
    if kind == "deep":
        for _ in range(20_000):
            values = [values]
    if kind == "without a module":
        return type("Odd", (), {"__module__": None})()
    return list(range(300_000)) if kind == "large" else values


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "kind", [*METHODS, *PROPERTIES, "metaclass", "holds itself", "deep", "without a module", "large"]
)
def test_whatever_a_step_refers_to_its_run_goes_on(inline: nb.Batch, kind: str) -> None:
    value = odd(kind)

    @nb.step
    def use(n: int) -> None:
        id(value)

    job = nb.Job("odd", use)
    assert inline.submit(job, 1).wait(10) == "COMPLETED"
    assert inline.submit(job, 2).wait(10) == "COMPLETED"
    assert inline.instance(1).attempts()["code"].to_list() == inline.instance(2).attempts()["code"].to_list()


SCRIPT = """
import nbbatch as nb
from pydantic import BaseModel, TypeAdapter
class Cat:
    pass
class Dog(BaseModel):
    name: str
KINDS = {"cat": Cat, "cats": [Cat()], Cat: 1, "dogs": list[Dog], "any": Cat | None, "read": TypeAdapter(list[Dog])}
@nb.step
def price(v: int) -> int:
    return len(KINDS)
if __name__ == "__main__":
    print(price.fingerprint)
"""


def test_a_script_and_the_module_of_its_name_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(SCRIPT)
    asked = [["kinds.py"], ["-m", "kinds"], ["-c", "import kinds; print(kinds.price.fingerprint)"]]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    told = [
        subprocess.run(
            [sys.executable, *each],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
        ).stdout
        for each in asked
    ]  # fmt: skip

    assert len({*told}) == 1
    assert len(told[0].strip()) == 12


TYPES = """
from pydantic import BaseModel, TypeAdapter
from typing import Annotated
class Dog(BaseModel):
    name: str
KIND = TypeAdapter(list[Dog])
@nb.step
def price(v: int) -> int:
    return bool(KIND)
"""


@pytest.mark.parametrize(
    "kind", ["TypeAdapter(list[Dog])", "list[Dog]", "{'a': Dog | None}", "TypeAdapter(dict[str, Annotated[Dog, 1]])"]
)
def test_a_class_within_a_type_counts_by_its_code(kind: str) -> None:
    source = TYPES.replace("TypeAdapter(list[Dog])", kind)

    assert fingerprint(source) == fingerprint(source + "\n# the same")
    assert fingerprint(source) != fingerprint(source.replace("name: str", "name: int"))
    assert fingerprint(TYPES) != fingerprint(TYPES.replace("list[Dog]", "set[Dog]"))

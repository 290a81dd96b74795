"""Code and values are the same to reuse in each version of Python and with each seed of hashes.

Looked at are this Python with other seeds, and whatever others there are: ``python3.12`` and later on the PATH, pyenv's, and those that
NBBATCH_PYTHONS lists (with a colon between two), if they have the packages that are needed: pydantic for code, for a store all of nbbatch's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NAMES = ("python3.12", "python3.13", "python3.14")
SAMPLES = r'''
from __future__ import annotations
import functools, json, math, os.path, re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
ALL = {}
def sample(f):
    ALL[f.__name__] = f
    return f
LIMIT = 3
TABLE = {"a": [1, 2.5, None], "b": ({1, 2}, frozenset("xy"))}
WORDS = re.compile("a+b")
class Color(Enum):
    RED = 1
    BLUE = "b"
@dataclass(frozen=True)
class Rule:
    """Doc."""
    names: frozenset[str] = frozenset("ab")
    limit: int = 3
    def holds(self, value: int) -> bool:
        "Doc."
        return value < self.limit + LIMIT
class Pair(NamedTuple):
    a: int
    b: str = "x"
class Base:
    factor = 2
    def apply(self, value):
        return value * self.factor
class Child(Base):
    def apply(self, value):
        return super().apply(value) + 1
RULE = Rule()
CHILD = Child()
OBJECTS = [Color.RED, Decimal("1.50"), Fraction(1, 3), datetime(2024, 1, 1, tzinfo=timezone.utc), timedelta(1), Path("a/b"), range(3), Pair(1), deque([1]), Counter("aab"), defaultdict(list), OrderedDict(a=1), 1j, b"x", ...]
PART = functools.partial(sorted, key=lambda pair: pair[0])
LAMBDAS = [lambda v: v + 1, lambda v: v * LIMIT]
ONE = lambda v: (v, LIMIT)
def decorated(f):
    @functools.wraps(f)
    def inner(*args, **kw):
        return f(*args, **kw)
    return inner
def make(rate):
    def closed(value):
        return value * rate
    return closed
closed = make(2.5); ALL["closed"] = closed
ALL["lambda_in_closure"] = (lambda k: lambda v: v + k)(3)
ALL["one_line"], ALL["one_line2"] = (lambda v: v + 1), (lambda v: v + 2)
@sample
def plain(value: int) -> int:
    """Doc

    indented.
    """
    return value + LIMIT
@sample
def defaults(value, more=Rule(), *rest, key=lambda v: v or 1, **kw):
    return key(value)
@sample
def comprehensions(values):
    a = [v * LIMIT for v in values if v]
    b = {v: [w for w in range(v)] for v in values}
    c = {math.sqrt(v) for v in a}
    return a, b, c, sum(v for v in values), (lambda: [LIMIT for _ in a])()
@sample
def matching(value):
    match value:
        case {"a": x, **rest} if x: return rest
        case [1, *others]: return others
        case Pair(a=1, b=b): return b
        case Color.RED | "q": return 1
        case None: return None
        case str() as s: return s
        case _: return TABLE
@sample
def strings(value):
    a = f"{value!r:>{LIMIT}} {value=} {value:%Y-%m-%d} {{x}} {value:}"
    b = f"""{value + 1:0.2f}
        {json.dumps({'a': value})}""" "tail" f"{'nested' if value else f'{value}'}"
    return a + b + u"old" + r"\d" + "é\U0001fae8" + str(b"\xff")
@sample
def errors(value):
    try:
        with open(value) as f, Path(value).open() as g:
            assert f, "x"
            return f.read()
    except* ValueError as e:
        raise
    else:
        pass
    finally:
        print("x")
@sample
def walrus(value):
    global LIMIT
    while (n := value - 1) > 0:
        value = n
    else:
        n = 0
    x: int = 5
    x += 1
    del x
    return [*range(n)], {**TABLE}, value[1:2, ...], not value, -value, 1 if value else 2, value is None
@sample
async def waits(value):
    async with value as v:
        async for w in v:
            yield await w
@sample
def generator(values: Iterator[int]) -> Iterator[int]:
    x = yield from values
    def inner(a, /, b, *, c=1):
        "Doc"
        nonlocal x
        x = a
        class Local(Base):
            y = LIMIT
            def m(self): return self.y, __class__
        return Local
    yield inner(x, 1)
@sample
def uses(value):
    return RULE.holds(value), CHILD.apply(value), OBJECTS, PART, LAMBDAS, ONE, WORDS, TABLE, Color.RED, os.path.join("a"), json.JSONDecodeError
@decorated
@sample
def wrapped(value):
    return value
ALL["decorated"] = wrapped
ALL["partial"] = PART
ALL["builtin"] = len
ALL["method"] = RULE.holds
'''
LOOK = """
import importlib, json, sys, types
bare = types.ModuleType("nbbatch")  # without what it imports
bare.__path__ = [sys.argv[1] + "/nbbatch"]
sys.modules["nbbatch"] = bare
sys.path.insert(0, sys.argv[2])
from nbbatch.code.marks import marks_of
from nbbatch.code.fingerprint import fingerprint
from nbbatch.code.reads import reads_of
found = {}
for name, function in importlib.import_module("samples").ALL.items():
    found[name] = marks_of(function) | {"": fingerprint(function), "reads": repr(sorted(map(repr, reads_of(function, 0) or ())))}
print(json.dumps(found))
"""


def _pythons(*needs: str) -> list[str]:
    """Other versions of Python that have some packages, each by a path that runs."""
    listed = os.environ.get("NBBATCH_PYTHONS", "").split(os.pathsep)
    pyenv = [str(each) for name in NAMES for each in Path.home().glob(f".pyenv/versions/*/bin/{name}")]
    found = {}
    for python in filter(None, [*listed, *map(shutil.which, NAMES), *pyenv]):
        told = subprocess.run(
            [python, "-c", f"import {', '.join(needs)}, sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
        )
        if told.returncode == 0:
            found.setdefault(told.stdout, python)
    return list(found.values())


def _marks(python: str, folder: Path, seed: str) -> Any:
    command = [python, "-c", LOOK, str(ROOT), str(folder)]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


def test_code_means_the_same_in_each_version_of_python_and_with_each_seed(tmp_path: Path) -> None:
    (tmp_path / "samples.py").write_text(SAMPLES)
    here = _marks(sys.executable, tmp_path, "1")
    assert len(here) == len({each[""] for each in here.values()}) > 15
    for python in [sys.executable, *_pythons("pydantic")]:
        there = _marks(python, tmp_path, "2")
        differ = {name: [part for part in here[name] if here[name][part] != there[name].get(part)] for name in here}
        assert {name: parts for name, parts in differ.items() if parts} == {}, python


STORE = """
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Literal, Optional, Union
import polars as pl
from pydantic import BaseModel
import nbbatch as nb
class Item(BaseModel):
    tags: set[str]
    ages: dict[str, float]
    at: datetime
    where: Optional[Path] = None
    kind: Literal["a", "b"] = "a"
@dataclass(frozen=True)
class Rule:
    names: frozenset[str]
class Params(BaseModel):
    names: set[str]
    limit: float = 0.5
    day: date = date(2024, 2, 29)
    price: Decimal = Decimal("1.50")
    span: timedelta = timedelta(hours=1)
    rule: Rule = Rule(frozenset("abc"))
@nb.step(reuse=True)
def first(params: Params) -> Iterator[Item]:
    yield Item(tags=set(params.names) | {"x"}, ages={"x": 0.1 + 0.2}, at=datetime(2024, 1, 1, tzinfo=timezone.utc), where=Path("a/b"))
@nb.step(reuse=True)
def second(item: Item, params: Params) -> tuple[int, set[str]]:
    return len(params.names), item.tags | params.rule.names
@nb.step(reuse=True)
def low(value: tuple[int, set[str]]) -> pl.DataFrame:
    return pl.DataFrame({"a": sorted(value[1])})
@nb.step(reuse=True)
def high(value: tuple[int, set[str]]) -> pl.DataFrame:
    return pl.DataFrame({"a": [str(value[0])]})
@nb.step(reuse=True)
def rows(frame: pl.DataFrame) -> int:
    return frame.height
@nb.step(reuse=True)
def third(values: Iterable[int]) -> int:
    return sum(values)
way = nb.choose(lambda value: value[0] < 2, {True: low, False: high})
with nb.open(sys.argv[1], executor=nb.inline()) as batch:
    run = batch.submit(nb.Job("keys", first >> second >> way >> rows >> third), Params(names={"u", "v", "w"}), new=True)
    run.result(20)
    print(run.steps()["reused"].to_list(), run.reuse()["reason"].to_list())
"""


def test_a_store_is_reused_by_whatever_python_opens_it(store: Path) -> None:
    script = store.parent / "keys.py"
    script.write_text(STORE)
    pythons = _pythons("duckdb", "polars", "pydantic")
    if not pythons:
        pytest.skip("no other version of Python has nbbatch's packages")
    for place, python in enumerate([sys.executable, *pythons]):
        done = subprocess.run(
            [python, str(script), str(store)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.stdout.startswith("[1, 1, 0, 1, 1, 1]" if place else "[0, 0, 0, 0, 0, 0]"), (
            f"{python}: {done.stdout}"
        )

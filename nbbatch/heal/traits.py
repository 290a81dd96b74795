"""What failed inputs have in common and good ones have not. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, prod
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from nbbatch.values.arrow_forms import is_frame, read_frame
from nbbatch.values.outside import is_reference, size_of
from nbbatch.values.views import plain

MAX_TRAITS = 3
"""Traits told of a group."""
LEAST_SHARE = 0.9
"""A trait is one that at least this share of the failed inputs has …"""
MOST_SHARE = 0.5
"""… and at most this share of it, of the good ones …"""
MOST_CHANCE = 0.01
"""… and which inputs that failed at random would have this rarely, where it could be chance."""
ENOUGH = 50
"""Inputs that are as many as any, where chance is reckoned with."""
MAX_SHOWN = 60
"""Characters of a value that is told."""
MAX_FORM = 24
"""Characters of a text whose form is told."""

Row = dict[str, list[Any]]
"""Every value in an input, containers too, by its path without places in lists."""


class Fact(NamedTuple):
    """Something that can be said of one field of an input."""

    field: str
    rank: int
    """Its place in `KINDS`: of facts that tell as much, the plainest is told."""
    text: str


KINDS = (
    "null", "missing", "empty", "value", "type", "ending", "comma", "sign", "word", "blanks", "symbol", "form", "letters",
    "range",
)  # fmt: skip
_MEASURES = {
    "number": ("above {:g}", "below {:g}"),
    "date": ("after {}", "before {}"),
    "length": ("longer than {} characters", "shorter than {} characters"),
    "members": ("with more than {} members", "with fewer than {} members"),
}


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that failed inputs are and good ones are not."""

    text: str
    failed: int
    of_failed: int
    good: int
    of_good: int

    def __str__(self) -> str:
        verb = "have" if self.of_failed != 1 else "has"
        return (
            f"{self.failed:,} of {self.of_failed:,} {verb} {self.text}; "
            f"{self.good:,} of {self.of_good:,} good ones {'do' if self.of_good != 1 else 'does'}"
        )


def common_traits(failed: Sequence[bytes | None], good: Sequence[bytes | None]) -> list[Trait]:
    """What most failed inputs have in common and few good ones share, the most telling first, at most three.

    >>> [str(each) for each in common_traits([b'{"a": null}', b'{"a": null}'], [b'{"a": 1}', b'{"a": 2}'])]
    ['2 of 2 have a null; 0 of 2 good ones do']
    """
    return Good(good).against(failed)


class Good:
    """Good inputs of a step, read once for all groups of its failed ones."""

    def __init__(self, inputs: Sequence[bytes | None]) -> None:
        rows = rows_of(inputs)
        self.size = len(rows)
        self._has = Counter(fact for row in rows for fact in facts(row))
        self._fields = Counter(name for row in rows for name in row)
        usual = [name for name, count in self._fields.items() if count * 2 >= self.size]
        self._lacking = {name: sum(_lacks(row, name) for row in rows) for name in usual}
        self._distinct = Counter((fact.field, fact.rank) for fact in self._has)
        self._measured = {key: (min(low), max(high)) for key, (low, high) in _measured(rows).items()}

    def against(self, inputs: Sequence[bytes | None]) -> list[Trait]:
        """What is said of these failed inputs; nothing where there are no good ones to tell them from."""
        rows = rows_of(inputs)
        if not rows or not self.size:
            return []
        found = [*self._shared(rows), *self._absent(rows), *self._beyond(rows)]
        found.sort(key=lambda each: (each[1].good / self.size - each[1].failed / len(rows), each[0].rank, each[0]))
        fields: dict[str, Trait] = {}
        for fact, trait in found:
            fields.setdefault(fact.field, trait)
        return list(fields.values())[:MAX_TRAITS]

    def _trait(self, fact: Fact, failed: int, of_failed: int, good: int) -> Iterator[tuple[Fact, Trait]]:
        if LEAST_SHARE * of_failed <= failed and good / self.size <= MOST_SHARE * failed / of_failed:
            yield fact, Trait(f"{fact.field} {fact.text}", failed, of_failed, good, self.size)

    def _shared(self, rows: list[Row]) -> Iterator[tuple[Fact, Trait]]:
        """Facts of the failed that few good ones share."""
        for fact, failed in Counter(fact for row in rows for fact in facts(row)).items():
            good = self._has[fact]
            if self._by_chance(fact, failed, good, len(rows)):
                continue
            yield from self._trait(fact, failed, len(rows), good)

    def _by_chance(self, fact: Fact, failed: int, good: int, of_failed: int) -> bool:
        """Whether inputs that failed at random might well share it, as one of many names has a name of its own."""
        often = self._distinct[fact.field, fact.rank] * 2 <= self._fields[fact.field]
        if of_failed == 1 and KINDS[fact.rank] in {"value", "form"} and not often:
            return True
        if not good:
            return False
        total = self.size + of_failed
        return prod((good + failed - place) / (total - place) for place in range(min(failed, ENOUGH))) > MOST_CHANCE

    def _absent(self, rows: list[Row]) -> Iterator[tuple[Fact, Trait]]:
        """What most good ones have and the failed have not: fields, and symbols in texts."""
        for name, good in self._lacking.items():
            failed = sum(_lacks(row, name) for row in rows)
            yield from self._trait(_fact(name, "missing", "missing"), failed, len(rows), good)
        had = [facts(row) for row in rows]
        for fact, good in self._has.items():
            if KINDS[fact.rank] == "symbol" and good * 2 >= self.size:
                failed = sum(fact not in of and _texts(row, fact.field) for of, row in zip(had, rows, strict=True))
                lacks = _fact(fact.field, "symbol", fact.text.replace("with", "without", 1))
                yield from self._trait(lacks, failed, len(rows), self._fields[fact.field] - good)

    def _beyond(self, rows: list[Row]) -> Iterator[tuple[Fact, Trait]]:
        """Numbers, dates, lengths that lie beyond those of all good ones."""
        for (name, measure), (lows, highs) in _measured(rows).items():
            some = min(len(lows), ENOUGH)
            if (name, measure) not in self._measured or 2 / comb(self.size + some, some) > MOST_CHANCE:
                continue
            least, most = self._measured[name, measure]
            above, below = _MEASURES[measure]
            for text, count in (
                (above.format(most), sum(high > most for high in highs)),
                (below.format(least), sum(low < least for low in lows)),
            ):
                yield from self._trait(_fact(name, "range", text), count, len(rows), 0)


def rows_of(inputs: Iterable[bytes | None]) -> list[Row]:
    """Stored inputs as rows; those that are not stored are left out."""
    return [row_of(_tree(data)) for data in inputs if data is not None]


def row_of(tree: Any) -> Row:
    """Every value in a tree by its path, the whole as "".

    >>> row_of({"lines": [{"qty": 1}, {"qty": 2}]})["lines[].qty"]
    [1, 2]
    """
    found: Row = defaultdict(list)
    waiting: list[tuple[str, Any]] = [("", tree)]
    for name, value in waiting:  # which grows under way
        found[name].append(value)
        if isinstance(value, dict):
            waiting.extend((f"{name}.{key}" if name else key, each) for key, each in value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        elif isinstance(value, list):
            waiting.extend((f"{name}[]", each) for each in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return dict(found)


def _tree(data: bytes) -> Any:
    """A stored value; of a frame what its columns are, of a big value in a file how big it is."""
    if is_reference(data):
        return {"bytes": size_of(data)}
    if not is_frame(data):
        return plain(data)
    frame: Any = read_frame(data)
    columns = {each.name: {"type": str(each.dtype), "nulls": each.null_count() > 0} for each in frame}
    return {"rows": len(frame), "columns": columns}


def facts(row: Row) -> set[Fact]:
    """What can be said of one input.

    >>> sorted(f"{fact.field} {fact.text}" for fact in facts({"path": ["a.gz"], "size": [-1]}))
    ['path = "a.gz"', 'path a text', 'path ending in .gz', 'path like a.aa', 'path not a number', 'path with "."', 'size = -1', 'size a number', 'size below 0']
    """
    return {fact for name, values in row.items() for each in values for fact in _of(name, each)}


def _of(name: str, value: Any) -> Iterable[Fact]:
    if isinstance(value, str) and len(value) > MAX_SHOWN:  # not worth the memory of the cache
        return _of_leaf.__wrapped__(name, value)
    if not isinstance(value, list | dict):
        return _of_leaf(name, value)
    if not value:
        return [_fact(name, "empty", "empty")]
    return [_fact(name, "type", "a list" if isinstance(value, list) else "an object")]


def _fact(name: str, kind: str, text: str) -> Fact:
    return Fact(name or "value", KINDS.index(kind), text)


@lru_cache(maxsize=50_000, typed=True)
def _of_leaf(name: str, value: Any) -> tuple[Fact, ...]:
    """Read once: most values come again and again."""
    return tuple(_fact(name, kind, text) for kind, text in _said(value))


def _said(value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case None:
            yield "null", "null"
        case "":
            yield "empty", "empty"
        case _:
            text = json.dumps(value, ensure_ascii=False)
            if len(text) <= MAX_SHOWN:
                yield "value", f"= {text}"
            yield from _of_text(value) if isinstance(value, str) else _of_number(value)


def _of_number(value: bool | float) -> Iterator[tuple[str, str]]:
    yield "type", "true or false" if isinstance(value, bool) else "a number"
    if value < 0:
        yield "sign", "below 0"


def _of_text(text: str) -> Iterator[tuple[str, str]]:
    yield "type", "a text"
    if not text.strip():
        yield "empty", "empty"
        return
    suffix = PurePosixPath(text).suffix
    if re.fullmatch(r"\.(?!\d+$)\w{1,5}", suffix):
        yield "ending", f"ending in {suffix}"
    if re.fullmatch(r"\s*[-+]?\d[\d.]*,\d+\s*", text):
        yield "comma", "with a decimal comma"
    if not re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", text):
        yield "word", "not a number"
    if text != text.strip():
        yield "blanks", "with blanks around it"
    if len(text) <= MAX_SHOWN:
        yield from (("symbol", f"with {json.dumps(each)}") for each in set(re.findall(r"[!-/:-@\[-`{-~]", text)))
    if len(text) <= MAX_FORM:
        yield "form", f"like {form(text)}"
    if not text.isascii():
        yield "letters", "not ASCII"


def form(text: str) -> str:
    """A text with every digit as 9 and every letter as a.

    >>> form("31/12/2024"), form("R-17b")
    ('99/99/9999', 'a-99a')
    """
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", text))


def _lacks(row: Row, name: str) -> bool:
    """Whether an object of the row has no such field."""
    parent = name.rpartition(".")[0]
    objects = sum(isinstance(each, dict) for each in row.get(parent, [])) if not name.endswith("[]") and name else 0
    return len(row.get(name, [])) < objects


def _texts(row: Row, name: str) -> bool:
    """Whether a field holds texts."""
    return any(isinstance(each, str) and each.strip() for each in row.get("" if name == "value" else name, []))


def _measured(rows: Iterable[Row]) -> dict[tuple[str, str], tuple[list[Any], list[Any]]]:
    """By field and measure: of every input that has any, the least and the greatest."""
    found: dict[tuple[str, str], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for row in rows:
        for name, values in row.items():
            sizes: dict[str, list[Any]] = defaultdict(list)
            for measure, size in map(_measure, values):
                sizes[measure].append(size)
            for measure in sizes.keys() & _MEASURES.keys():
                lows, highs = found[name or "value", measure]
                lows.append(min(sizes[measure]))
                highs.append(max(sizes[measure]))
    return found


def _measure(value: Any) -> tuple[str, Any]:
    match value:
        case str() if re.match(r"\d{4}-\d\d-\d\d(?!\d)", value):
            return "date", value[:10]
        case str():
            return "length", len(value)
        case list():
            return "members", len(value)  # pyright: ignore[reportUnknownArgumentType]
        case int() | float() if not isinstance(value, bool) and value == value:  # noqa: PLR0124 - NaN has no place
            return "number", value
        case _:
            return "", None

"""Random chains: as a plain description, as a job of nbbatch, and as a pure function that says what the job must give.

Items are texts that name the way they came, so that no two inputs of a step are equal and a lost or doubled one has a
name. A segment turns one item into any number of items, in order; a chain is a first fan-out, segments, and an end.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import rshift
from typing import Any

import nbbatch as nb
from tests.crash.torture.rules import Left, Rules, act, fault, share, width

Skipped = set[tuple[str, str]]
"""Step and item that a user skipped."""
KINDS = ("bad", "flaky", "poll", "left", "failchunk", "failjob")


@dataclass
class Trace:
    """What a pure evaluation found: per step, its inputs and what each gave, in order."""

    skipped: Skipped = field(default_factory=set)
    given: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, step: str, item: str, outputs: list[str]) -> list[str]:
        outputs = [] if (step, item) in self.skipped else outputs
        self.given[step][item] = outputs
        return outputs


@dataclass(frozen=True)
class Plain:
    """A step: one value in, one or many out."""

    name: str
    most: int | None
    """Outputs at most of a fan-out; None: it gives one value."""
    kinds: tuple[str, ...]
    options: dict[str, Any]
    is_async: bool = False

    def names(self) -> list[str]:
        return [self.name]

    def evaluate(self, rules: Rules, item: str, trace: Trace) -> list[str]:
        found = fault(rules, self.name, item, self.kinds)
        outputs = [] if found and found[0] == "left" else list(self.outputs(rules, item))
        return trace.note(self.name, item, outputs)

    def outputs(self, rules: Rules, item: str) -> Iterator[str]:
        if self.most is None:
            yield f"{item}.{self.name}"
        else:
            yield from (f"{item}.{self.name}{k}" for k in range(width(rules, self.name, item, self.most)))

    def build(self, rules: Rules) -> Any:
        return nb.step(name=self.name, **_declared(self))(_function(self, rules))


@dataclass(frozen=True)
class Pages:
    """A step that gives pages, and one with ``bisect=True`` that takes them."""

    split: Plain
    load: Plain

    def names(self) -> list[str]:
        return [self.split.name, self.load.name]

    def evaluate(self, rules: Rules, item: str, trace: Trace) -> list[str]:
        items = self.split.evaluate(rules, item, trace)
        return [out for each in items for out in self.load.evaluate(rules, each, trace)]

    def build(self, rules: Rules) -> Any:
        split, load = self.split, self.load

        def pages(item: str) -> Iterator[list[str]]:
            outputs = list(split.outputs(rules, item))
            act(rules, split.name, item, split.kinds)
            yield from (outputs[at : at + 5] for at in range(0, len(outputs), 5))

        def each(page: list[str]) -> Iterator[str]:
            for item in page:
                act(rules, load.name, item, load.kinds)
                yield from load.outputs(rules, item)

        made = nb.step(name=split.name, **_declared(split))(pages)
        return made >> nb.step(name=load.name, bisect=True, **_declared(load))(each)


@dataclass(frozen=True)
class Branch:
    """Each item takes one of several ways, which join behind."""

    name: str
    ways: tuple[tuple[Segment, ...], ...]

    def names(self) -> list[str]:
        return [name for way in self.ways for each in way for name in each.names()]

    def way(self, rules: Rules, item: str) -> int:
        return int(share(rules.seed, "way", self.name, item) * len(self.ways))

    def evaluate(self, rules: Rules, item: str, trace: Trace) -> list[str]:
        return through(self.ways[self.way(rules, item)], rules, [item], trace)

    def build(self, rules: Rules) -> Any:
        def pick(item: str) -> int:
            return self.way(rules, item)

        return nb.choose(pick, {place: chained(way, rules) for place, way in enumerate(self.ways)})


@dataclass(frozen=True)
class Typed:
    """A step that gives texts and pages; each kind takes the branch that accepts it."""

    split: Plain
    text: Plain
    page: Plain

    def names(self) -> list[str]:
        return [self.split.name, self.text.name, self.page.name]

    def evaluate(self, rules: Rules, item: str, trace: Trace) -> list[str]:
        outputs = self.split.evaluate(rules, item, trace)
        ways = [self.page if place % 2 else self.text for place in range(len(outputs))]
        return [out for way, each in zip(ways, outputs, strict=True) for out in way.evaluate(rules, each, trace)]

    def build(self, rules: Rules) -> Any:
        split, load = self.split, self.page

        def mixed(item: str) -> Iterator[str | list[str]]:
            act(rules, split.name, item, split.kinds)
            for place, output in enumerate(split.outputs(rules, item)):
                yield [output] if place % 2 else output

        def each(page: list[str]) -> Iterator[str]:
            for item in page:
                act(rules, load.name, item, load.kinds)
                yield from load.outputs(rules, item)

        branches = self.text.build(rules) | nb.step(name=load.name, **_declared(load))(each)
        return nb.step(name=split.name, **_declared(split))(mixed) >> branches


@dataclass(frozen=True)
class Sub:
    """A job as a step: its report is the output."""

    chain: Chain
    options: dict[str, Any]

    def names(self) -> list[str]:
        return [self.chain.name]

    def evaluate(self, rules: Rules, item: str, trace: Trace) -> list[str]:
        return trace.note(self.chain.name, item, [total(self.chain.name, self.chain.evaluate(rules, item), item)])

    def build(self, rules: Rules) -> Any:
        return self.chain.job(rules).as_step(**self.options)


Segment = Plain | Pages | Branch | Typed | Sub


@dataclass(frozen=True)
class Chain:
    """A whole job."""

    name: str
    first: Plain
    segments: tuple[Segment, ...]
    ends: str
    """"list": a reduction that lists all; "total": one that gives a text; "none": a step that gives nothing."""
    options: dict[str, Any]

    def evaluate(self, rules: Rules, params: str, trace: Trace | None = None) -> list[str]:
        """What reaches the end, in the order of the items."""
        return through((self.first, *self.segments), rules, [params], Trace() if trace is None else trace)

    def job(self, rules: Rules) -> nb.Job[Any, Any]:
        last = _END[self.ends](self.name, rules, {"max_attempts": 3, "backoff": _BACKOFF})
        return nb.Job(self.name, chained((self.first, *self.segments), rules) >> last, **self.options)

    def subs(self) -> list[Chain]:
        """The chains of its steps that are jobs."""
        return [each.chain for each in _flat(self.segments) if isinstance(each, Sub)]

    def paged(self) -> list[str]:
        """Steps that take pages."""
        given = {Pages: "load", Typed: "page"}
        return [getattr(each, given[type(each)]).name for each in _flat(self.segments) if type(each) in given]

    def steps(self) -> list[str]:
        return [name for each in (self.first, *self.segments) for name in each.names()]


def through(segments: Iterable[Segment], rules: Rules, items: list[str], trace: Trace) -> list[str]:
    """Items after some segments."""
    for segment in segments:
        items = [out for item in items for out in segment.evaluate(rules, item, trace)]
    return items


def chained(segments: Iterable[Segment], rules: Rules) -> Any:
    return reduce(rshift, [segment.build(rules) for segment in segments])


def total(name: str, values: Iterable[str], params: str) -> str:
    """The report of a sub-job: as short as an item, and different for each list."""
    values = list(values)
    return f"{params}.{name}({len(values)}:{share(*values):.9f})"


def _flat(segments: Iterable[Segment]) -> Iterator[Segment]:
    for each in segments:
        yield each
        if isinstance(each, Branch):
            for way in each.ways:
                yield from _flat(way)


def _listed(name: str, rules: Rules, options: dict[str, Any]) -> Any:
    step = f"{name}-list"

    @nb.step(name=step, **options)
    def listed(values: Iterable[str]) -> list[str]:
        values = list(values)
        act(rules, step, name, ("bad", "poll", "failchunk"))
        return values

    return listed


def _totalled(name: str, rules: Rules, options: dict[str, Any]) -> Any:
    step = f"{name}-total"

    @nb.step(name=step, **options)
    def totalled(values: Iterable[str], params: str) -> str:
        act(rules, step, params, ("bad", "poll"))
        return total(name, values, params)

    return totalled


def _taken(name: str, rules: Rules, options: dict[str, Any]) -> Any:
    @nb.step(name=f"{name}-end", **options)
    def taken(item: str) -> None: ...

    return taken


_BACKOFF = nb.Backoff(0.002, 0.05)
_END: dict[str, Callable[[str, Rules, dict[str, Any]], Any]] = {"list": _listed, "total": _totalled, "none": _taken}


def _declared(step: Plain) -> dict[str, Any]:
    skips = {"skip_on": Left} if "left" in step.kinds else {}
    return {"backoff": _BACKOFF, **skips, **step.options}


def _function(step: Plain, rules: Rules) -> Callable[..., Any]:
    name, kinds = step.name, step.kinds

    def one(item: str) -> str:
        act(rules, name, item, kinds)
        return next(step.outputs(rules, item))

    def many(item: str) -> Iterator[str]:
        outputs = list(step.outputs(rules, item))
        yield from outputs[: len(outputs) // 2]
        act(rules, name, item, kinds)  # fails in the midst of what it gives
        yield from outputs[len(outputs) // 2 :]

    async def one_async(item: str) -> str:
        await asyncio.sleep(rules.pace / 2)
        return one(item)

    async def many_async(item: str) -> AsyncIterator[str]:
        await asyncio.sleep(rules.pace / 2)
        for output in many(item):
            yield output

    return ((many_async, one_async), (many, one))[not step.is_async][step.most is None]


# --- random ones ----------------------------------------------------------------------------------


def draw(seed: int, without: Collection[str] = ()) -> Chain:
    """The chain of a seed, without some options of steps and jobs."""
    return _Draw(random.Random(f"chain {seed}"), without).chain("torture", deep=True)


class _Draw:
    def __init__(self, dice: random.Random, without: Collection[str]) -> None:
        self._dice = dice
        self._without = without
        self._given = 0

    def chain(self, name: str, *, deep: bool) -> Chain:
        dice = self._dice
        prefix = "" if deep else f"{name}-"
        first = self._plain(prefix, most=10 if deep else 3, is_first=True)
        segments = tuple(self._segment(prefix, deep) for _ in range(dice.randint(1, 4 if deep else 2)))
        ends = dice.choice(("list", "list", "list", "none")) if deep else "total"
        options = {
            "max_failed": dice.choice((0, 0, 0, 3, 0.5)), "fail_fast": dice.random() < 0.2, "gated": dice.random() < 0.15,
        } if deep else {}  # fmt: skip
        options = {word: value for word, value in options.items() if word not in self._without}
        return Chain(name, first, segments, ends, options)

    def _segment(self, prefix: str, deep: bool) -> Segment:
        kinds = ("plain", "plain", "fan", "pages", "branch", "typed", "sub") if deep else ("plain", "fan", "pages")
        kind = self._dice.choice(kinds)
        if kind == "pages":
            return Pages(self._plain(prefix, most=12), self._plain(prefix, most=2))
        if kind == "branch":
            ways = (tuple(self._segment(prefix, deep=False) for _ in range(n)) for n in (1, self._dice.randint(1, 2)))
            return Branch(self._name(prefix), tuple(ways))
        if kind == "typed":
            return Typed(self._plain(prefix, most=4), self._plain(prefix), self._plain(prefix, most=2))
        if kind == "sub":
            return Sub(self.chain(self._name("below"), deep=False), {"max_attempts": self._dice.choice((1, 1, 3))})
        return self._plain(prefix, most=4 if kind == "fan" else None)

    def _plain(self, prefix: str, most: int | None = None, *, is_first: bool = False) -> Plain:
        dice = self._dice
        kinds = tuple(kind for kind in KINDS if dice.random() < (0.08 if kind == "failjob" else 0.3))
        options: dict[str, Any] = {"max_attempts": dice.choice((1, 2, 4, 1000))}
        without = "flaky" if options["max_attempts"] < 4 else "bad" if options["max_attempts"] > 4 else ""
        kinds = tuple(kind for kind in kinds if kind != without)  # those would never end well, or never end
        if dice.random() < 0.3 and not is_first:
            options["gate"] = True
        if dice.random() < 0.1:
            options["always"] = True
        if dice.random() < 0.1:
            options["concurrency"] = dice.randint(1, 3)
        options = {word: value for word, value in options.items() if word not in self._without}
        name = self._name(prefix)
        return Plain(name, most, () if is_first else kinds, options, is_async=dice.random() < 0.12)

    def _name(self, prefix: str) -> str:
        self._given += 1
        return f"{prefix}{chr(96 + self._given) if self._given < 27 else f's{self._given}'}"

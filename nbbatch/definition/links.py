"""Steps and the edges between them: what ``>>`` and ``|`` build, and the check of every joint. Pure.

heads ──▶ steps and edges ──▶ tails          a >> b: the tails of a are joined to the heads of b, by type
  ╰────────── passes ──────────▶             a | b: side by side; a pass is a branch without a step of its own
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbbatch.base.display import warn
from nbbatch.base.errors import DefinitionError
from nbbatch.code.renewal import outdated
from nbbatch.code.signature import Kind, accepts, item_type, type_name
from nbbatch.definition.base_step import BaseStep
from nbbatch.definition.routing import Condition, Conditions, Way


class Head(NamedTuple):
    """A step that what comes before is joined to."""

    step: int
    past: bool = False
    """Reached by a way that `to` made."""
    conditions: Conditions = ()


class Tail(NamedTuple):
    """A step that gives something to what follows."""

    step: int
    to: BaseStep | None = None
    """Only what goes past the branches beside it, to this step."""
    conditions: Conditions = ()


class Pass(NamedTuple):
    """A branch without a step of its own: a way to a later one."""

    to: BaseStep
    conditions: Conditions = ()


class Edge(NamedTuple):
    """From a step to one that follows it."""

    source: int
    target: int
    past: bool = False
    conditions: Conditions = ()


@dataclass(frozen=True, slots=True)
class Links:
    """Steps in topological order with the edges between them."""

    steps: tuple[BaseStep, ...] = ()
    edges: frozenset[Edge] = frozenset()
    heads: tuple[Head, ...] = ()
    tails: tuple[Tail, ...] = ()
    passes: tuple[Pass, ...] = ()
    order: frozenset[tuple[int, int]] = frozenset()
    """(a, b): a gate at b waits for a too, which ended beside the branches that lead to b."""

    def __post_init__(self) -> None:
        names = [each.name for each in self.steps]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(
                    f"two steps are named {name!r}; give one of them another name: @nb.step(name=...)"
                )

    @property
    def open(self) -> bool:
        """Whether something may follow."""
        return bool(self.tails or self.passes)

    def behind(self, offset: int) -> Links:
        """The same with all positions moved up."""
        moved = (edge._replace(source=edge.source + offset, target=edge.target + offset) for edge in self.edges)
        return replace(
            self,
            edges=frozenset(moved),
            heads=tuple(head._replace(step=head.step + offset) for head in self.heads),
            tails=tuple(tail._replace(step=tail.step + offset) for tail in self.tails),
            order=frozenset((a + offset, b + offset) for a, b in self.order),
        )

    def ends(self) -> set[int]:
        """Steps in which a branch ends."""
        going_on = {edge.source for edge in self.edges} | {tail.step for tail in self.tails}
        return set(range(len(self.steps))) - going_on

    def given(self, tail: Tail) -> list[Any]:
        """The types a tail gives on."""
        types = self.steps[tail.step].output_types
        return [each for each in types if tail.to is None or accepts(tail.to.input_type, each)]

    def check_edges(self) -> None:
        """Raises DefinitionError where a step takes no more what one before it gives: a class was defined again in between."""
        for edge in self.edges:
            giver, taker = self.steps[edge.source], self.steps[edge.target]
            if not any(accepts(taker.input_type, each) for each in giver.output_types):
                raise DefinitionError(
                    f"step {giver.name!r} gives {type_name(giver.signature.output_type)}, but step {taker.name!r} takes "
                    f"{type_name(taker.input_type)}. They are two classes named {type_name(taker.input_type)}: run the cells of both "
                    "steps again"
                )

    def under(self, condition: Condition) -> Links:
        """The same as a branch of a choice."""
        return replace(
            self,
            heads=tuple(head._replace(conditions=(condition, *head.conditions)) for head in self.heads),
            passes=tuple(each._replace(conditions=(condition, *each.conditions)) for each in self.passes),
        )

    def other_types(self, index: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What the steps before one give and those behind it take, where that is not what it takes and gives itself."""
        steps, step = self.steps, self.steps[index]
        given = [steps[edge.source].signature.output_type for edge in self.edges if edge.target == index]
        taken = [steps[edge.target].input_type for edge in self.edges if edge.source == index]
        return _unlike(step.input_type, given), _unlike(step.signature.output_type, taken)

    def way(self, edge: Edge) -> Way:
        """An edge as a step's way out."""
        target = self.steps[edge.target]
        return Way(edge.target, target.name, target.input_type, edge.past, edge.conditions)


def loose(links: Links) -> str:
    """What leads to no step, and what to add."""
    past = [tail.to for tail in links.tails if tail.to] + [each.to for each in links.passes]
    if past:
        return f"nb.to({past[0].name}) leads to step {past[0].name!r}, which does not follow; add >> {past[0].name}"
    last = links.steps[links.tails[0].step]
    return (
        f"step {last.name!r} gives {type_name(last.signature.output_type)} to nobody. "
        "End the chain with a step that returns None, or a reduction (a first parameter Iterable[...])"
    )


def _unlike(own: Any, types: Iterable[Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    for each in types:
        if each != own and each not in found:
            found.append(each)
    return tuple(sorted(found, key=type_name))


def beside(first: Links, second: Links) -> Links:
    """Two branches.

    Raises:
        DefinitionError: One of them holds a reduction, or a name is used twice.
    """
    for each in first.steps + second.steps:
        if each.kind is Kind.REDUCTION:
            raise DefinitionError(f"reduction {each.name!r} stands in a branch; a reduction comes last: (a | b) >> it")
    other = second.behind(len(first.steps))
    return Links(
        first.steps + other.steps, first.edges | other.edges, first.heads + other.heads, first.tails + other.tails,
        first.passes + other.passes, first.order | other.order,
    )  # fmt: skip


def then(before: Links, after: Links) -> Links:
    """One after the other, joined by type.

    Raises:
        DefinitionError: A value would have no step to go to, a step would get none, or a name is used twice.
    """
    if not before.open:
        raise DefinitionError(_nothing_follows(before.steps[-1], after))
    _check_given(before, after)
    _check_taken(before, after)
    later = after.behind(len(before.steps))
    pairs = [(tail, head) for tail in before.tails for head in after.heads if _meet(before, tail, after, head)]
    joined = {
        Edge(
            tail.step,
            head.step + len(before.steps),
            head.past or tail.to is not None,
            tail.conditions + head.conditions,
        )
        for tail, head in pairs
    }
    waits = {(end, len(before.steps) + index) for end in before.ends() for index in range(len(after.steps))}
    return Links(
        before.steps + later.steps,
        before.edges | joined | later.edges,
        before.heads + tuple(_reached(before.passes, after, later)),
        later.tails + tuple(_going_past(before, after)),
        tuple(each for each in before.passes if _named(each.to, after.passes)),
        before.order | later.order | waits,
    )


def _reached(passes: Iterable[Pass], after: Links, later: Links) -> Iterable[Head]:
    """Heads that ways past everything before them lead to."""
    for each in passes:
        for head, moved in zip(after.heads, later.heads, strict=True):
            if after.steps[head.step].name == each.to.name:
                yield Head(moved.step, past=True, conditions=each.conditions)


def _going_past(before: Links, after: Links) -> Iterable[Tail]:
    """Tails whose values may go past all of ``after``."""
    for tail in before.tails:
        for each in after.passes:
            open_to = tail.to is None or tail.to.name == each.to.name
            if open_to and any(accepts(each.to.input_type, given) for given in before.given(tail)):
                yield Tail(tail.step, each.to, tail.conditions + each.conditions)


def _meet(before: Links, tail: Tail, after: Links, head: Head) -> bool:
    taker = after.steps[head.step]
    named = tail.to is None or tail.to.name == taker.name
    return named and any(accepts(taker.input_type, given) for given in before.given(tail))


def _named(step: BaseStep, passes: Iterable[Pass]) -> bool:
    return any(each.to.name == step.name for each in passes)


# --- checks --------------------------------------------------------------------------------------


def _check_given(before: Links, after: Links) -> None:
    """Every value has somewhere to go."""
    for each in (after.steps[head.step] for head in after.heads):
        if not each.takes_input:
            raise DefinitionError(
                f"step {each.name!r} has no parameters, so it takes nothing: it can only be a job's first step"
            )
    for to in [each.to for each in before.tails if each.to] + [each.to for each in before.passes]:
        if not (_named(to, after.passes) or any(after.steps[head.step].name == to.name for head in after.heads)):
            names = ", ".join(repr(after.steps[head.step].name) for head in after.heads)
            raise DefinitionError(
                f"nb.to({to.name}) leads to step {to.name!r}, but what follows is {names}; "
                f"write (… | nb.to({to.name})) >> {to.name}"
            )
    for tail in before.tails:
        for given in before.given(tail):
            if not _taken(given, after):
                giver, taken = before.steps[tail.step], ", ".join(_takers(after))
                raise DefinitionError(
                    f"step {giver.name!r} gives {type_name(given)}, but {taken}{_older(given, after)}{_spread(given, after)}"
                )


def _taken(given: Any, after: Links) -> bool:
    """Whether a branch accepts a type; of a choice, all its branches must."""
    plain = [after.steps[head.step] for head in after.heads if not head.conditions]
    plain += [each.to for each in after.passes if not each.conditions]
    if any(accepts(each.input_type, given) for each in plain):
        return True
    chosen = [after.steps[head.step] for head in after.heads if head.conditions]
    chosen += [each.to for each in after.passes if each.conditions]
    return bool(chosen) and all(accepts(each.input_type, given) for each in chosen)


def _followers(after: Links) -> list[BaseStep]:
    return [after.steps[head.step] for head in after.heads] + [each.to for each in after.passes]


def _takers(after: Links) -> list[str]:
    return [f"step {each.name!r} takes {type_name(each.input_type)}" for each in _followers(after)]


def _older(given: Any, after: Links) -> str:
    """What to do where types differ that have one name: a cell that defines a class was run again."""
    name = type_name(given)
    same = any(name == type_name(each.input_type) for each in _followers(after))
    return f". They are two classes named {name}: run the cells of both steps again" if same else ""


def _spread(given: Any, after: Links) -> str:
    """What to do where a step gives many values at once that the next one takes one by one, or the other way round."""
    for item, taker in ((item_type(given), each) for each in _followers(after)):
        if item is not None and accepts(taker.input_type, item):
            return f". For a chunk of each, declare  -> Iterator[{type_name(item)}]  and yield them one by one"
        inner = item_type(taker.input_type)
        if inner is not None and accepts(inner, given):
            return f". To take all of them at once, declare  Iterable[{type_name(inner)}], which makes it a reduction"
    return ""


def _check_taken(before: Links, after: Links) -> None:
    """Every step gets something; only checked where all that comes before is known."""
    if before.passes:
        return
    takers = [(after.steps[head.step], head) for head in after.heads]
    for taker, head in takers:
        if not any(_meet(before, tail, after, head) for tail in before.tails):
            raise DefinitionError(_unfed(taker, before))
    for each in after.passes:
        if not any(accepts(each.to.input_type, given) for tail in before.tails for given in before.given(tail)):
            raise DefinitionError(_unfed(each.to, before))


def tell_outdated(name: str, links: Links) -> None:
    """Warn of models that hold a class which was defined again since: they refuse values of the new one."""
    types = [(each, step.scope) for step in links.steps for each in (step.input_type, *step.output_types)]
    for model, held in dict.fromkeys(found for each, scope in types for found in outdated(each, scope)):
        warn(
            f"job {name!r}: {model} has a field of a class {held} that was defined again since: run the cell of {model} again too"
        )


def _unfed(taker: BaseStep, before: Links) -> str:
    givers = ", ".join(dict.fromkeys(repr(before.steps[tail.step].name) for tail in before.tails))
    return f"step {taker.name!r} takes {type_name(taker.input_type)}, which no step before it gives ({givers})"


def _nothing_follows(last: BaseStep, after: Links) -> str:
    why = "is a reduction, which comes last" if last.kind is Kind.REDUCTION else "gives nothing (-> None)"
    follower = after.steps[0].name if after.steps else after.passes[0].to.name
    return f"step {last.name!r} {why}; nothing can follow it, but {follower!r} does"

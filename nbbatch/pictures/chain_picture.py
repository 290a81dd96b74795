"""The picture of a chain: a box per step, typed arrows, branches, gates, and how the chunks of each step stand.

    Params → [ find ] * File → [ count ] Stats ⇒ [ report ] → Report

Its size depends on the steps alone, not on the chunks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from nbbatch.base.states import STACKED, ChunkStatus
from nbbatch.pictures.layout import LEAD, MARGIN, NODE, Place, edge, label, places
from nbbatch.pictures.markup import clip, fitted, tag, text
from nbbatch.pictures.picture import Picture, drawing
from nbbatch.pictures.style import duration, fill, patterns, short

if TYPE_CHECKING:
    import polars as pl

_C = ChunkStatus
KINDS = {"one": "one → one", "many": "one → many", "none": "one → nothing", "reduction": "all → one report"}
_BAR = 10.0
_INNER = 12.0
_NAME_CHARS = 16
"""What a box has room for beside the glyph, in wide fonts too."""
_TALLY_CHARS = 24


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What is drawn of one step."""

    name: str
    kind: str
    takes: str
    """Type of one input, as people write it."""
    gives: str
    gated: bool
    targets: tuple[int, ...]
    """Places of the steps that get its outputs."""
    counts: Mapping[ChunkStatus, int] = field(default_factory=dict[ChunkStatus, int])
    median: float | None = None
    """Seconds of half of its attempts at most."""
    p95: float | None = None
    rate: float | None = None
    """Chunks per second of late; None while nobody works on it, or where it is not asked for."""
    left: float | None = None
    """Seconds of work left; None while unknown."""
    growing: bool = False
    """Whether steps before it may still give it chunks: its total is that so far."""

    @property
    def total(self) -> int:
        """Its chunks."""
        return sum(self.counts.values())


def from_shape(shape: str) -> list[StepFacts]:
    """The steps of a chain as its stored shape tells them, without chunks."""
    return [
        StepFacts(each["name"], each["kind"], each["input"], each["output"], each["gated"], tuple(each["targets"]))
        for each in json.loads(shape)
    ]


def chain(title: str, steps: Sequence[StepFacts], *, counted: bool = True, ends: bool = True) -> Picture:
    """The picture of a chain.

    Args:
        title: What it is called.
        steps: In topological order.
        counted: Whether to draw chunks; without, it is the picture of a definition.
        ends: Whether to draw what comes in and what goes out; four steps without are as wide as a panel.
    """
    where, width, height = places([step.targets for step in steps], LEAD if ends else 0.0)
    words_ = text_form(title, steps, counted=counted)
    svg = drawing(width, height, title, words_, lambda key: _body(key, title, steps, where, counted, ends))
    return Picture(svg, words_, lambda: _frame(steps))


def _body(
    key: str, title: str, steps: Sequence[StepFacts], where: Sequence[Place], counted: bool, with_ends: bool
) -> str:  # fmt: skip
    head = tag("text", text(title, 110), x=MARGIN[0], y=MARGIN[1] + 6, class_="b", font_size="13.5")
    used = [(status.value, status.look) for status in STACKED if any(step.counts.get(status) for step in steps)]
    tip = tag("marker", tag("path", d="M0 0L7 4L0 8z", class_="tip"), id=f"{key}-tip", viewBox="0 0 7 8",
              refX=1, refY=4, markerWidth=7, markerHeight=8, markerUnits="userSpaceOnUse", orient="auto")  # fmt: skip
    edges = "".join(
        _edge(key, steps[a], steps[b], where[a], where[b]) for a in range(len(steps)) for b in steps[a].targets
    )
    nodes = "".join(_node(key, step, place, counted) for step, place in zip(steps, where, strict=True))
    ends = _enter(key, steps[0], where[0]) + _leave(key, steps[-1], where[-1]) if with_ends else ""
    return patterns(key, used) + tag("defs", tip) + head + edges + ends + nodes


def _type_label(shown: str, x: float, y: float, *, most: int = 12, anchor: str = "middle") -> str:
    return tag("text", tag("title", text(shown)), text(shown, most), x=x, y=y, class_="s", text_anchor=anchor)


def _edge(key: str, a: StepFacts, b: StepFacts, start: Place, end: Place) -> str:
    line = tag("path", d=edge(start, end), class_="line", marker_end=f"url(#{key}-tip)",
               stroke_width=2.4 if b.kind == "reduction" else None)  # fmt: skip
    x, y, anchor = label(start, end)
    shown = f"* {b.takes}" if a.kind == "many" else b.takes
    return line + _type_label(shown, x, y, anchor=anchor, most=12 if anchor == "middle" else 60)


def _enter(key: str, step: StepFacts, place: Place) -> str:
    y = place.y + NODE[1] / 2
    line = tag("path", d=f"M{place.x - LEAD + 8:g} {y:g}H{place.x - 7:g}", class_="line", marker_end=f"url(#{key}-tip)")
    return line + _type_label(step.takes, place.x - LEAD / 2 - 4, y - 8, most=11)


def _leave(key: str, step: StepFacts, place: Place) -> str:
    if step.kind != "reduction":
        return ""
    x, y = place.x + NODE[0], place.y + NODE[1] / 2
    line = tag("path", d=f"M{x:g} {y:g}H{x + LEAD - 12:g}", class_="line", marker_end=f"url(#{key}-tip)")
    return line + _type_label(step.gives, x + LEAD / 2 - 2, y - 8, most=11)


def standing(step: StepFacts) -> ChunkStatus | None:
    """The state that tells most of a step: trouble first, then what goes on; None while it has no chunk.

    >>> facts = StepFacts("count", "one", "File", "Stats", False, (), {_C.COMPLETED: 5, _C.ERRORED: 1})
    >>> standing(facts).value
    'ERRORED'
    """
    order = (_C.FAILED, _C.ERRORED, _C.IN_PROGRESS, _C.POLL_WAITING, _C.QUEUED, _C.GATE_WAITING, _C.CANCELLED,
             _C.COMPLETED, _C.SKIPPED)  # fmt: skip
    return next((status for status in order if step.counts.get(status)), None)


def _node(key: str, step: StepFacts, place: Place, counted: bool) -> str:
    status = standing(step) if counted else None
    look = status.look if status else None
    thick = 1.0 if look is None else 1.8
    dash = "4 3" if counted and status in (None, _C.QUEUED, _C.GATE_WAITING) else None
    box = tag("rect", class_="paper", x=place.x, y=place.y, width=NODE[0], height=NODE[1], rx=9)
    border = tag("rect", x=place.x, y=place.y, width=NODE[0], height=NODE[1], rx=9, fill="none",
                 stroke=look.colour if look else "currentColor", stroke_opacity=None if look else 0.45,
                 stroke_width=thick, stroke_dasharray=dash, style=None if look else "stroke:var(--i)")  # fmt: skip
    gate = _gate(place) if step.gated else ""
    inside = _counts(key, step, place) if counted else _declared(step, place)
    name = tag("text", tag("title", text(step.name)), text(fitted(step.name, _NAME_CHARS)), x=place.x + _INNER, y=place.y + 22, class_="b",
               font_size="13.5")  # fmt: skip
    mark = tag("text", look.glyph, x=place.x + NODE[0] - _INNER, y=place.y + 22, text_anchor="end", class_="b",
               style=f"fill:{look.colour}") if look else ""  # fmt: skip
    return tag("g", box, gate, border, name, mark, inside)


def _gate(place: Place) -> str:
    x, y, tall = place.x - 3.5, place.y + 16, NODE[1] - 32
    bars = tag("path", d=f"M{x - 2:g} {y:g}v{tall:g}M{x + 2:g} {y:g}v{tall:g}", class_="line", stroke_width=2)
    under = tag("rect", class_="paper", x=x - 4, y=y - 2, width=8, height=tall + 4)
    return tag("g", tag("title", "gate: waits until all before is done"), under, bars)


def _declared(step: StepFacts, place: Place) -> str:
    x = place.x + _INNER
    gives = "" if step.kind == "none" else f"→ {'* ' if step.kind == 'many' else ''}{step.gives}"
    taken = f"all {step.takes}" if step.kind == "reduction" else step.takes
    return (
        tag("text", text(taken, 25), x=x, y=place.y + 44, class_="s")
        + (tag("text", text(gives, 25), x=x, y=place.y + 60, class_="s") if gives else "")
        + tag("text", KINDS[step.kind] + (" · gated" if step.gated else ""), x=x, y=place.y + 79, class_="s q")
    )


def _counts(key: str, step: StepFacts, place: Place) -> str:
    x, total = place.x + _INNER, step.total
    if not total:
        return tag("text", "no chunks yet", x=x, y=place.y + 44, class_="s q")
    done = step.counts.get(_C.COMPLETED, 0) + step.counts.get(_C.SKIPPED, 0)
    chunks = f"{done:,} of {total:,}" if total < 1_000_000 else f"{short(done)} of {short(total)}"
    share = f"{100 * done // total} %"
    times = f"p50 {duration(step.median)} · p95 {duration(step.p95)}" if step.median is not None else ""
    return (
        tag("text", chunks, x=x, y=place.y + 39, class_="s m")
        + tag("text", share, x=place.x + NODE[0] - _INNER, y=place.y + 39, class_="s m", text_anchor="end")
        + bar(key, step.counts, x, place.y + 45, NODE[0] - 2 * _INNER)
        + _tally(step, x, place.y + 69)
        + (tag("text", times, x=x, y=place.y + 84, class_="s q m", font_size="10.5") if times else "")
    )


def _tally(step: StepFacts, x: float, y: float) -> str:
    """Counts of the states that are not done, the most telling first; as many as fit."""
    shown = [
        status for status in reversed(STACKED) if step.counts.get(status) and status not in (_C.COMPLETED, _C.SKIPPED)
    ]
    if not shown:
        return tag("text", "✓ all completed" if not step.counts.get(_C.SKIPPED) else f"» {step.counts[_C.SKIPPED]:,} skipped",
                   x=x, y=y, class_="s")  # fmt: skip
    told = tag("title", "; ".join(f"{step.counts[status]:,} {status.look.word}" for status in shown))
    forms = (_tallied(step, shown, worded) for worded in range(len(shown), -1, -1))
    fits = next((form for form in forms if len(form) <= _TALLY_CHARS), _tallied(step, shown, 0))
    return tag("text", told, text(fits, _TALLY_CHARS), x=x, y=y, class_="s m")


def _tallied(step: StepFacts, shown: Sequence[ChunkStatus], worded: int) -> str:
    return " · ".join(
        f"{status.look.glyph} {short(step.counts[status])}{' ' + status.look.word if place < worded else ''}"
        for place, status in enumerate(shown)
    )


def bar(key: str, counts: Mapping[ChunkStatus, int], x: float, y: float, width: float) -> str:
    """A stacked bar; a state that has any chunk is at least 3 pixels wide."""
    present = [(status, counts[status]) for status in STACKED if counts.get(status)]
    total = sum(count for _, count in present)
    free = width - 3.0 * len(present)
    widths = [3.0 + free * count / total for _, count in present]
    starts = [x, *accumulate(widths, initial=x)][1:]
    parts = [
        tag("rect", tag("title", f"{count:,} {status.look.word}"), x=start, y=y, width=wide, height=_BAR,
            fill=fill(key, status.value, status.look))
        for (status, count), start, wide in zip(present, starts, widths, strict=False)
    ]  # fmt: skip
    return tag("rect", class_="track", x=x, y=y, width=width, height=_BAR, rx=2) + "".join(parts)


def text_form(title: str, steps: Sequence[StepFacts], *, counted: bool) -> str:
    """The chain in words: a line per step, in columns."""
    names = [clip(step.name, 32) for step in steps]
    wide = max(map(len, names))
    lines = [clip(title)]
    for step, name in zip(steps, names, strict=True):
        gate = "‖ " if step.gated else "  "
        lines.append(f"{gate}{name:<{wide}}  {_words(step, names, counted)}".rstrip())
    return "\n".join(lines)


def _words(step: StepFacts, names: Sequence[str], counted: bool) -> str:
    if not counted:
        taken = f"all {step.takes}" if step.kind == "reduction" else step.takes
        given = {
            "one": f"→ {step.gives}",
            "many": f"→ * {step.gives}",
            "none": "→ nothing",
            "reduction": f"→ {step.gives}",
        }
        to = f"  to {', '.join(names[target] for target in step.targets)}" if len(step.targets) > 1 else ""
        return clip(f"{taken} {given[step.kind]}{to}")
    if not step.total:
        return "no chunks yet"
    states = ", ".join(
        f"{status.look.glyph} {count:,} {status.look.word}" for status in STACKED if (count := step.counts.get(status))
    )
    times = f"  p50 {duration(step.median)}, p95 {duration(step.p95)}" if step.median is not None else ""
    return f"{blocks(step.counts)}  {states}{times}"


def blocks(counts: Mapping[ChunkStatus, int], width: int = 12) -> str:
    """A bar of text: done, running, in trouble or left out, still to come.

    >>> blocks({_C.COMPLETED: 50, _C.IN_PROGRESS: 25, _C.FAILED: 1, _C.QUEUED: 24})
    '██████▓▓▓×░░'
    >>> blocks({_C.COMPLETED: 72, _C.FAILED: 1})
    '███████████×'
    """
    groups = {"█": (_C.COMPLETED, _C.SKIPPED), "▓": (_C.IN_PROGRESS,), "×": (_C.FAILED, _C.ERRORED, _C.CANCELLED)}
    total = sum(counts.values()) or 1
    found = {sign: sum(counts.get(status, 0) for status in states) for sign, states in groups.items()}
    wide = {sign: max(1, int(width * count / total + 0.25)) if count else 0 for sign, count in found.items()}
    to_come = total - sum(found.values())
    wide["░"] = max(1, width - sum(wide.values())) if to_come else 0
    longest = max(wide, key=lambda sign: wide[sign])
    wide[longest] += width - sum(wide.values())
    return "".join(sign * wide[sign] for sign in wide)


def _frame(steps: Sequence[StepFacts]) -> pl.DataFrame:
    import polars as pl

    rows: list[dict[str, Any]] = [
        {
            "step": step.name, "kind": step.kind, "takes": step.takes, "gives": step.gives, "gated": step.gated,
            "targets": [steps[target].name for target in step.targets], "chunks": step.total,
            **{status.value.lower(): step.counts.get(status, 0) for status in ChunkStatus},
            "median_seconds": step.median, "p95_seconds": step.p95,
        }
        for step in steps
    ]  # fmt: skip
    schema = {"targets": pl.List(pl.String), "median_seconds": pl.Float64, "p95_seconds": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema)

"""Where the steps of a chain stand: columns by distance from the first step, rows for branches beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PER_LINE = 4
"""Columns in one line; longer chains go on below, so that a picture never grows wider than a page."""
NODE = (176.0, 92.0)
GAP = (76.0, 18.0)
MARGIN = (22.0, 20.0)
HEAD = 28.0
"""Room above for the title."""
LEAD = 74.0
"""Room before the first column, for what comes in."""


class Place(NamedTuple):
    """Where a step stands: its column, line and upper left corner."""

    column: int
    line: int
    x: float
    y: float
    top: float
    """Of its line …"""
    axis: float
    """… and the line's middle."""

    @property
    def middle(self) -> float:
        """Where arrows come and go."""
        return self.y + NODE[1] / 2


def ranks(targets: Sequence[Sequence[int]]) -> list[int]:
    """Longest way from the first step to each; steps come in topological order.

    >>> ranks([[1, 2], [3], [3], []])
    [0, 1, 1, 2]
    """
    found = [0] * len(targets)
    for index, nexts in enumerate(targets):
        for target in nexts:
            found[target] = max(found[target], found[index] + 1)
    return found


def places(targets: Sequence[Sequence[int]], lead: float = LEAD) -> tuple[list[Place], float, float]:
    """The place of each step, and the width and height of the whole; ``lead`` is the room at both ends."""
    rank = ranks(targets)
    abreast = [rank.count(each) for each in range(max(rank) + 1)]
    lines = [max(abreast[start : start + PER_LINE]) for start in range(0, len(abreast), PER_LINE)]
    pitch = NODE[1] + GAP[1]
    tops = [MARGIN[1] + HEAD + sum(n * pitch + GAP[1] for n in lines[:line]) for line in range(len(lines))]
    seen = [0] * len(abreast)
    found: list[Place] = []
    for each in rank:
        line, column = divmod(each, PER_LINE)
        y = tops[line] + ((lines[line] - abreast[each]) / 2 + seen[each]) * pitch
        seen[each] += 1
        found.append(
            Place(
                column,
                line,
                MARGIN[0] + lead + column * (NODE[0] + GAP[0]),
                y,
                tops[line],
                tops[line] + (lines[line] * pitch - GAP[1]) / 2,
            )
        )
    columns = min(PER_LINE, len(abreast))
    width = 2 * MARGIN[0] + 2 * lead + columns * (NODE[0] + GAP[0]) - GAP[0]
    return found, width, tops[-1] + lines[-1] * pitch - GAP[1] + MARGIN[1]


def edge(a: Place, b: Place) -> str:
    """The line from one step to another, as a path."""
    x1, y1, x2, y2 = a.x + NODE[0], a.middle, b.x - 7, b.middle
    if b.line != a.line:
        return f"M{x1:g} {y1:g}h24V{b.top - GAP[1]:g}H{x2 - 24:g}V{y2:g}H{x2:g}"
    if b.column - a.column > 1:
        return _past(x1, y1, x2, y2, _way(a))
    if y1 == y2:
        return f"M{x1:g} {y1:g}H{x2:g}"
    bend = GAP[0] * 0.55
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"


def _way(a: Place) -> float:
    """Height at which an edge from there passes the steps between: below them from a lower branch, else above."""
    return 2 * a.axis - a.top + GAP[1] / 3 if a.middle > a.axis else a.top - GAP[1] / 2


def _past(x1: float, y1: float, x2: float, y2: float, way: float) -> str:
    """A way around the steps between."""
    off = f"M{x1:g} {y1:g}C{x1 + 30:g} {y1:g} {x1 + 10:g} {way:g} {x1 + 46:g} {way:g}"
    return f"{off}H{x2 - 46:g}C{x2 - 10:g} {way:g} {x2 - 30:g} {y2:g} {x2:g} {y2:g}"


def label(a: Place, b: Place) -> tuple[float, float, str]:
    """Where the type on an edge is written: beside the end that has the line for itself; x, y and anchor."""
    if b.line != a.line:
        return b.x - 22, b.top - GAP[1] - 6, "start"
    if b.column - a.column > 1:
        return (a.x + NODE[0] + b.x) / 2, _way(a) - 4, "middle"
    middle = a.x + NODE[0] + GAP[0] / 2 - 3
    if a.y == b.y:
        return middle, a.middle - 8, "middle"
    off = b if abs(b.middle - b.axis) > abs(a.middle - a.axis) else a
    other = a if off is b else b
    return middle + (8 if off is b else -3), off.middle + (-9 if off.y < other.y else 17), "middle"

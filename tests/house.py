"""``python -m tests.house``: how many rooms and floors nbbatch has, and what imports lead where.

A room is a folder of ``nbbatch``; a public module on top is a room of its own, or all of them are one: both are counted. A floor
is a step on the longest way down from room to room.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import grimp

import nbbatch

FOLDERS = {path.parent.name for path in Path(nbbatch.__file__).parent.glob("*/__init__.py")}


class House(NamedTuple):
    """What can be counted of it."""

    rooms: int
    floors: int
    """Rooms on the longest way down; 0 where there is a circle."""
    arrows: set[tuple[str, str]]
    circles: list[list[str]]
    """Rooms that import each other, over others too."""


@cache
def imports() -> frozenset[tuple[str, str]]:
    """Every import from module to module, those for type checkers too."""
    graph = grimp.build_graph("nbbatch", cache_dir=None)
    return frozenset(
        (module, found) for module in graph.modules for found in graph.find_modules_directly_imported_by(module)
    )


def house(*, public: str = "") -> House:
    """Count rooms; with ``public`` all modules on top are one room of that name."""

    def room(module: str) -> str:
        name = module.split(".")[1] if "." in module else "nbbatch"
        name = "shell" if name == "__main__" else name  # its entry
        return name if name in FOLDERS else public or name

    ends = [(room(module), room(found)) for module, found in imports()]
    arrows = {(a, b) for a, b in ends if a != b}
    rooms = {each for pair in ends for each in pair}
    below = {each: {b for a, b in arrows if a == each} for each in rooms}
    circles = _circles(below)
    return House(len(rooms), 0 if circles else max(_depth(each, below) for each in rooms), arrows, circles)


def _depth(room: str, below: dict[str, set[str]]) -> int:
    return 1 + max((_depth(each, below) for each in below[room]), default=0)


def _circles(below: dict[str, set[str]]) -> list[list[str]]:
    reached = {room: _reached(room, below) for room in below}
    found = {tuple(sorted(b for b in reached[a] if a in reached[b])) for a in below if a in reached[a]}
    return [list(circle) for circle in sorted(found)]


def _reached(room: str, below: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*below[room]]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting.extend(below[each])
    return found


def main() -> None:
    for words, counted in (
        ("each public module a room", house()),
        ("the public modules one room", house(public="public")),
    ):
        print(
            f"{words}: {counted.rooms} rooms, {counted.floors} floors, {len(counted.arrows)} arrows, {len(counted.circles)} circles"
        )
        for circle in counted.circles:
            print("  circle:", " ↔ ".join(circle))
    if "--arrows" in sys.argv:
        for a, b in sorted(house(public="public").arrows):
            print(f"  {a} → {b}")


if __name__ == "__main__":
    main()

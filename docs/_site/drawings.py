"""``python -m docs._site.drawings``: the drawings of the states in docs/pictures, made from the tables of `nbbatch.states`.

Only where a state stands is decided here; which states there are, how they look and where they lead is read. Arrows that all
states of the frame have are drawn once, from the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbbatch.pictures.markup import tag
from nbbatch.pictures.style import STYLE
from nbbatch.states import (
    CHUNK_ENDED,
    CHUNK_TRANSITIONS,
    INSTANCE_ENDED,
    INSTANCE_TRANSITIONS,
    ChunkStatus,
    InstanceStatus,
)

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
WIDTH, HEIGHT, ACROSS, DOWN = 166, 44, 222, 78
"""Of a box, and from one to the next."""
MARGIN = 34
LEGEND = "Arrows from the grey frame hold for every state in it. Dashed: retry() or rerun() leads back."
CHUNK_PLACES = {
    ChunkStatus.GATE_WAITING: (0, 0), ChunkStatus.QUEUED: (0, 1.5), ChunkStatus.POLL_WAITING: (1, 0),
    ChunkStatus.IN_PROGRESS: (1, 1.5), ChunkStatus.ERRORED: (1, 3), ChunkStatus.COMPLETED: (2.35, 0),
    ChunkStatus.FAILED: (2.35, 1), ChunkStatus.SKIPPED: (2.35, 2), ChunkStatus.CANCELLED: (2.35, 3),
}  # fmt: skip
INSTANCE_PLACES = {
    InstanceStatus.QUEUED: (0, 0), InstanceStatus.PAUSED: (0, 1), InstanceStatus.IN_PROGRESS: (1, 0),
    InstanceStatus.ERRORED: (1, 2), InstanceStatus.FINALIZE: (0, 2), InstanceStatus.COMPLETED: (2.35, 0),
    InstanceStatus.FAILED: (2.35, 1), InstanceStatus.CANCELLED: (2.35, 2),
}  # fmt: skip


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def edge(self, towards: tuple[float, float], shift: float = 0) -> tuple[float, float]:
        """Where a line to a point leaves it; ``shift`` keeps the two ways of a pair apart."""
        (x, y), (far_x, far_y) = self.middle, towards
        across, down = far_x - x, far_y - y
        scale = min(
            self.width / 2 / abs(across) if across else float("inf"), self.height / 2 / abs(down) if down else float("inf")
        )  # fmt: skip
        length = (across**2 + down**2) ** 0.5 or 1
        return x + across * scale - shift * down / length, y + down * scale + shift * across / length


def drawing(
    title: str, places: Mapping[Any, tuple[float, float]], leads: Mapping[Any, frozenset[Any]], ended: frozenset[Any]
) -> str:
    """The SVG of a table of states."""
    boxes = {state: Box(MARGIN + x * ACROSS, MARGIN + y * DOWN, WIDTH, HEIGHT) for state, (x, y) in places.items()}
    inside = frozenset(leads) - ended
    frame = _around([boxes[state] for state in inside])
    hubs = {hub for hub in inside if all(hub in leads[each] and each in leads[hub] for each in inside - {hub})}
    parts = [tag("rect", x=frame.x, y=frame.y, width=frame.width, height=frame.height, rx=10, class_="track")]
    for end in sorted(ended):
        but = frozenset(each for each in inside if end not in leads[each])
        if len(but) <= 1:
            parts.append(_from_frame(frame, boxes[end], but))
        else:
            parts += [_arrow(boxes[each], boxes[end]) for each in sorted(inside - but)]
        if leads[end] & inside:
            parts.append(_to_frame(frame, boxes[end], 12 if len(but) <= 1 else -12))
        parts += [_arrow(boxes[end], boxes[each]) for each in sorted(leads[end] & ended)]
    for each in sorted(inside - hubs):
        parts += [_arrow(boxes[each], boxes[b], pair=each in leads[b]) for b in sorted(leads[each] & inside - hubs)]
    parts += [_state(state, boxes[state], "⇄ every state in the frame" if state in hubs else "") for state in places]
    width, height = max(box.x for box in boxes.values()) + WIDTH + MARGIN, frame.y + frame.height + MARGIN
    parts.append(_note(LEGEND, MARGIN, height - 12))
    return _svg(title, width, height, "".join(parts))


def _from_frame(frame: Box, end: Box, but: frozenset[Any]) -> str:
    """One arrow for all states of the frame, or all but one, which is named."""
    y = end.middle[1] - 9
    line = _line((frame.x + frame.width, y), (end.x, y))
    return line + _note(f"all but {min(but)}", frame.x + frame.width + 8, y - 5) if but else line


def _to_frame(frame: Box, end: Box, below: float) -> str:
    y = end.middle[1] + below
    return _line((end.x, y), (frame.x + frame.width, y), dashed=True)


def _around(boxes: list[Box]) -> Box:
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    return Box(left - 16, top - 16, right - left + 32, bottom - top + 32)


def _arrow(a: Box, b: Box, *, pair: bool = False) -> str:
    """A line from one box to another; ``pair``: beside the line back."""
    shift = 7 if pair else 0
    return _line(a.edge(b.middle, shift), b.edge(a.middle, -shift))


def _line(start: tuple[float, float], end: tuple[float, float], *, dashed: bool = False) -> str:
    dash = {"stroke_dasharray": "5 4"} if dashed else {}
    line = f"M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"
    return tag("path", d=line, class_="line", marker_end="url(#tip)", **dash)


def _state(state: Any, box: Box, more: str) -> str:
    x, y = box.x, box.y
    shape = {"x": x, "y": y, "width": box.width, "height": box.height, "rx": 6}
    return "".join([
        tag("rect", **shape, class_="paper", stroke=state.look.colour, stroke_width=2),
        tag("text", f"{state.look.glyph} {state.value}", x=x + 10, y=y + 19, class_="b"),
        tag("text", more or state.look.word, x=x + 10, y=y + 35, class_="s q"),
    ])  # fmt: skip


def _note(said: str, x: float, y: float) -> str:
    return tag("text", said, x=x, y=y, class_="s q")


def _svg(title: str, width: float, height: float, body: str) -> str:
    point = tag("path", d="M0 0L8 4L0 8z", class_="tip")
    size = {"viewBox": "0 0 8 8", "refX": 8, "refY": 4, "markerWidth": 8, "markerHeight": 8}
    tip = tag("marker", point, id="tip", orient="auto", **size)
    return tag(
        "svg", tag("title", title), tag("style", STYLE), tag("defs", tip), body, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}", class_="nbp", role="img",
    )  # fmt: skip


def drawings() -> dict[str, str]:
    """The drawings by the names of their files."""
    chunk = drawing("The states of a chunk", CHUNK_PLACES, CHUNK_TRANSITIONS, frozenset(CHUNK_ENDED))
    instance = drawing("The states of an instance", INSTANCE_PLACES, INSTANCE_TRANSITIONS, frozenset(INSTANCE_ENDED))
    return {"states-chunk.svg": chunk, "states-instance.svg": instance}


if __name__ == "__main__":
    for name, svg in drawings().items():
        (FOLDER / name).write_text(svg + "\n", encoding="utf-8")

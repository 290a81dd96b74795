"""The picture of a run's chunks over time: how many were in each state, as stacked areas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nbbatch.base.states import STACKED, ChunkStatus
from nbbatch.pictures.markup import number, tag, text
from nbbatch.pictures.picture import Picture, drawing
from nbbatch.pictures.style import duration, fill, patterns, short
from nbbatch.pictures.timeline import ticks

if TYPE_CHECKING:
    import polars as pl

POINTS = 120
"""Moments drawn at most."""
_LEFT, _TOP, _WIDTH, _TALL, _RIGHT = 64.0, 34.0, 690.0, 170.0, 172.0

Counts = Mapping[ChunkStatus, int]


def history(
    title: str, moments: Sequence[float], counts: Sequence[Counts], facts: Callable[[], pl.DataFrame]
) -> Picture:
    """The picture of counts over time.

    Args:
        title: What it is called.
        moments: Seconds since the run was made, rising; one for each entry of ``counts``.
        counts: Chunks by state at that moment.
        facts: Gives the frame behind it.
    """
    last: Counts = counts[-1] if counts else {}
    ended = ", ".join(
        f"{status.look.glyph} {last[status]:,} {status.look.word}" for status in STACKED if last.get(status)
    )
    span = moments[-1] if moments else 0.0
    about = f"after {duration(span)}: {ended or 'no chunks'}"
    svg = drawing(
        _LEFT + _WIDTH + _RIGHT, _TOP + _TALL + 34, title, about, lambda key: _body(key, title, moments, counts)
    )
    return Picture(svg, f"{text(title)}: {about}", facts)


def _body(key: str, title: str, moments: Sequence[float], counts: Sequence[Counts]) -> str:
    head = tag("text", text(title, 110), x=12.0, y=19.0, class_="b")
    present = [status for status in STACKED if any(count.get(status) for count in counts)]
    looks = [(status.value, status.look) for status in present]
    if not present:
        return head + tag("text", "no chunks yet", x=_LEFT, y=_TOP + 20, class_="q")
    most = max(sum(count.values()) for count in counts)
    span = moments[-1] or 1.0
    areas = _areas(key, present, moments, counts, span, most)
    return patterns(key, looks) + head + _grid(span, most) + areas + _legend(key, present, counts[-1])


def _areas(
    key: str, present: Sequence[ChunkStatus], moments: Sequence[float], counts: Sequence[Counts], span: float, most: int
) -> str:
    floor = [0] * len(moments)
    drawn: list[str] = []
    for status in present:
        top = [low + count.get(status, 0) for low, count in zip(floor, counts, strict=True)]
        drawn.append(
            tag("path", tag("title", status.look.word), d=_area(moments, floor, top, span, most),
                fill=fill(key, status.value, status.look))
        )  # fmt: skip
        floor = top
    return "".join(drawn)


def _area(moments: Sequence[float], low: Sequence[int], high: Sequence[int], span: float, most: int) -> str:
    def points(values: Sequence[int], places: Sequence[int]) -> str:
        return "L".join(
            f"{number(_LEFT + _WIDTH * moments[i] / span)} {number(_TOP + _TALL * (1 - values[i] / most))}"
            for i in places
        )

    forth = range(len(moments))
    return f"M{points(high, forth)}L{points(low, forth[::-1])}z"


def _grid(span: float, most: int) -> str:
    lines = [tag("rect", class_="track", x=_LEFT, y=_TOP, width=_WIDTH, height=_TALL)]
    for share in (0, 0.5, 1):
        y = _TOP + _TALL * (1 - share)
        lines.append(tag("path", d=f"M{_LEFT:g} {y:g}h{_WIDTH:g}", class_="grid"))
        lines.append(tag("text", short(round(most * share)), x=_LEFT - 8, y=y + 4, text_anchor="end", class_="s q m"))
    for moment in ticks(span):
        x = _LEFT + _WIDTH * moment / span
        anchor = "start" if not moment else "middle"
        lines.append(
            tag(
                "text",
                duration(moment) if moment else "0",
                x=x,
                y=_TOP + _TALL + 18,
                class_="s q m",
                text_anchor=anchor,
            )
        )
    return "".join(lines)


def _legend(key: str, present: Sequence[ChunkStatus], last: Counts) -> str:
    drawn: list[str] = []
    for place, status in enumerate(reversed(present)):
        x, y = _LEFT + _WIDTH + 14, _TOP + 19 * place
        drawn.append(tag("rect", x=x, y=y, width=14.0, height=11.0, fill=fill(key, status.value, status.look)))
        drawn.append(
            tag(
                "text",
                f"{status.look.glyph} {short(last.get(status, 0))} {status.look.word}",
                x=x + 20,
                y=y + 10,
                class_="s m",
            )
        )
    return "".join(drawn)

"""The picture of a run in time: a lane per worker, a bar per attempt; when there are many, how busy each lane was.

At most `LANES` lanes and `BINS` places across, so its size has a bound however many attempts there were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbbatch.base.states import ChunkStatus
from nbbatch.pictures.markup import clip, number, tag, text
from nbbatch.pictures.picture import Picture, drawing
from nbbatch.pictures.style import duration, fill, patterns, step_look

if TYPE_CHECKING:
    import polars as pl

LANES = 16
"""Workers with a lane of their own; the last lane is of all others."""
BINS = 160
"""Places across a lane when attempts are merged …"""
SINGLE = 400
"""… which they are above this many."""
_LEFT, _WIDTH, _TALL, _TOP = 128.0, 780.0, 20.0, 30.0
_RIGHT = 24.0
_LEVELS = 8
_ROUND = [
    *(round(unit * 10.0**power, 9) for power in range(-6, 0) for unit in (1, 2, 5)),
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800),
]
"""Lengths between two moments of an axis, in seconds."""


class Bar(NamedTuple):
    """An attempt, or many of one lane and one place in time merged."""

    lane: int
    step: int
    """Place of the step in the chain; of merged ones, the step that took most of the time."""
    start: float
    """Seconds since the first attempt began."""
    end: float
    busy: float
    """Share of the time between that somebody worked, 0 to 1."""
    attempts: int
    failed: int
    """Of these how many ended in an error."""
    status: str
    """State it ended in; "" of merged ones."""


def timeline(
    title: str, steps: Sequence[str], lanes: Sequence[str], bars: Sequence[Bar], facts: Callable[[], pl.DataFrame]
) -> Picture:
    """The picture of attempts by worker lane.

    Args:
        title: What it is called.
        steps: Names, in chain order.
        lanes: Names of the workers.
        bars: In any order.
        facts: Gives the frame behind it.
    """
    attempts, failed = sum(bar.attempts for bar in bars), sum(bar.failed for bar in bars)
    span = max((bar.end for bar in bars), default=0.0)
    who = "1 worker" if len(lanes) == 1 else f"{len(lanes)} workers"
    about = f"{attempts:,} attempts by {who} in {duration(span)}, {failed:,} ended in an error"
    words = _text(f"{clip(title)}: {about}", lanes, bars, span)
    height = _TOP + _TALL * max(1, len(lanes)) + 44 + 18 * _legend_lines(steps, bars)
    svg = drawing(
        _LEFT + _WIDTH + _RIGHT, height, title, about, lambda key: _body(key, title, steps, lanes, bars, span)
    )
    return Picture(svg, words, facts)


def _body(
    key: str, title: str, steps: Sequence[str], lanes: Sequence[str], bars: Sequence[Bar], span: float
) -> str:  # fmt: skip
    used = sorted({bar.step for bar in bars})
    looks = [(f"s{step}", step_look(step)) for step in used] + [("FAILED", ChunkStatus.FAILED.look)]
    head = tag("text", text(title, 110), x=12.0, y=19.0, class_="b")
    rows = "".join(_lane(place, name) for place, name in enumerate(lanes))
    scale = _WIDTH / (span or 1.0)
    draw = _merged if any(not bar.status for bar in bars) else _single
    base = _TOP + _TALL * max(1, len(lanes))
    empty = tag("text", "no attempts yet", x=_LEFT, y=_TOP + 14, class_="q") if not bars else ""
    return (
        patterns(key, looks)
        + head
        + _axis(span, scale, base)
        + rows
        + draw(key, steps, bars, scale)
        + empty
        + _legend(key, steps, bars, base + 38)
    )


def _lane(place: int, name: str) -> str:
    y = _TOP + place * _TALL
    label = tag("text", tag("title", text(name)), text(name[-18:] if len(name) > 18 else name, 18), x=_LEFT - 8, y=y + 14,
                text_anchor="end", class_="s m")  # fmt: skip
    return label + tag("rect", class_="track", x=_LEFT, y=y + 3, width=_WIDTH, height=_TALL - 6)


def ticks(span: float, most: int = 8) -> list[float]:
    """Round moments between 0 and the end.

    >>> ticks(10), ticks(0.03), ticks(200)
    ([0, 2, 4, 6, 8, 10], [0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03], [0, 30, 60, 90, 120, 150, 180])
    """
    unit = next((unit for unit in _ROUND if span / unit <= most), span / most)
    return [round(unit * place, 9) for place in range(int(span / unit + 1e-9) + 1)]


def _axis(span: float, scale: float, base: float) -> str:
    lines: list[str] = []
    for moment in ticks(span):
        x = _LEFT + moment * scale
        lines.append(tag("path", d=f"M{x:g} {_TOP:g}V{base + 4:g}", class_="grid"))
        anchor = "start" if not moment else "middle" if x < _LEFT + _WIDTH - 24 else "end"
        lines.append(
            tag("text", "0" if not moment else duration(moment), x=x, y=base + 16, class_="s q m", text_anchor=anchor)
        )
    return "".join(lines)


def _single(key: str, steps: Sequence[str], bars: Sequence[Bar], scale: float) -> str:
    return "".join(_one(key, steps, bar, scale) for bar in bars)


def _one(key: str, steps: Sequence[str], bar: Bar, scale: float) -> str:
    x, y = _LEFT + bar.start * scale, _TOP + bar.lane * _TALL + 3
    wide = max(1.5, (bar.end - bar.start) * scale)
    paint = fill(key, f"s{bar.step}", step_look(bar.step))
    told = tag(
        "title", f"{text(steps[bar.step])}: {duration(bar.end - bar.start)}, {bar.status.lower().replace('_', ' ')}"
    )
    body = tag("rect", told, x=x, y=y, width=wide, height=_TALL - 6, fill=paint)
    if not bar.failed:
        return body
    return body + tag(
        "rect", x=x, y=y, width=max(wide, 3.0), height=5.0, fill=fill(key, "FAILED", ChunkStatus.FAILED.look)
    )


def _merged(key: str, steps: Sequence[str], bars: Sequence[Bar], scale: float) -> str:
    """One path per step, its height the share of time that the lane was busy; failures as marks on top."""
    paths: dict[int, list[str]] = {}
    marks: list[str] = []
    for bar in bars:
        x, bottom = _LEFT + bar.start * scale, _TOP + bar.lane * _TALL + _TALL - 3
        tall = max(1, round(bar.busy * _LEVELS)) * (_TALL - 6) / _LEVELS
        wide = (bar.end - bar.start) * scale
        paths.setdefault(bar.step, []).append(f"M{number(x)} {bottom:g}v-{number(tall)}h{number(wide)}v{number(tall)}z")
        if bar.failed:
            marks.append(f"M{number(x)} {bottom - _TALL + 6:g}h{number(max(wide, 3.0))}v5h-{number(max(wide, 3.0))}z")
    drawn = [
        tag("path", tag("title", text(steps[step])), d="".join(parts), fill=fill(key, f"s{step}", step_look(step)))
        for step, parts in sorted(paths.items())
    ]
    red = tag("path", tag("title", "attempts that ended in an error"), d="".join(marks),
              fill=fill(key, "FAILED", ChunkStatus.FAILED.look)) if marks else ""  # fmt: skip
    return "".join(drawn) + red


def _legend_items(steps: Sequence[str], bars: Sequence[Bar]) -> list[tuple[str, str, str]]:
    """Name of the look, its plain colour, and the words beside it."""
    items = [(f"s{step}", step_look(step).colour, clip(steps[step], 24)) for step in sorted({bar.step for bar in bars})]
    if any(bar.failed for bar in bars):
        items.append(("FAILED", ChunkStatus.FAILED.look.colour, "✗ ended in an error"))
    if any(not bar.status for bar in bars):
        items.append(("", "", "height: share of time busy"))
    return items


def _legend_places(items: Sequence[tuple[str, str, str]]) -> list[tuple[float, int]]:
    x, line = 0.0, 0
    places: list[tuple[float, int]] = []
    for _, _, words in items:
        wide = 30 + 6.8 * len(words)
        if x and x + wide > _WIDTH:
            x, line = 0.0, line + 1
        places.append((x, line))
        x += wide
    return places


def _legend_lines(steps: Sequence[str], bars: Sequence[Bar]) -> int:
    places = _legend_places(_legend_items(steps, bars))
    return places[-1][1] + 1 if places else 0


def _legend(key: str, steps: Sequence[str], bars: Sequence[Bar], top: float) -> str:
    items = _legend_items(steps, bars)
    drawn: list[str] = []
    for (name, _, words), (x, line) in zip(items, _legend_places(items), strict=True):
        y = top + 18 * line
        if name:
            look = ChunkStatus.FAILED.look if name == "FAILED" else step_look(int(name[1:]))
            drawn.append(tag("rect", x=_LEFT + x, y=y, width=14.0, height=11.0, fill=fill(key, name, look)))
        drawn.append(tag("text", text(words, 40), x=_LEFT + x + (20 if name else 0), y=y + 10, class_="s"))
    return "".join(drawn)


def _text(head: str, lanes: Sequence[str], bars: Sequence[Bar], span: float) -> str:
    """A line per worker: how busy it was, eighth by eighth."""
    if not bars:
        return head
    wide = max(len(clip(lane, 24)) for lane in lanes)
    lines = [head]
    for place, lane in enumerate(lanes):
        mine = [bar for bar in bars if bar.lane == place]
        busy = sum((bar.end - bar.start) * bar.busy for bar in mine)
        lines.append(f"  {clip(lane, 24):<{wide}}  {spark(mine, span)}  {busy / span if span else 0:4.0%} busy")
    return "\n".join(lines)


def spark(bars: Sequence[Bar], span: float, width: int = 40) -> str:
    """How busy a lane was, as a line of text.

    >>> spark([Bar(0, 0, 0.0, 5.0, 1.0, 1, 0, "COMPLETED"), Bar(0, 0, 5.0, 10.0, 0.5, 1, 0, "COMPLETED")], 10.0, 4)
    '██▄▄'
    """
    sums = dict.fromkeys(range(width), 0.0)
    cell = (span or 1.0) / width
    for bar in bars:
        for place in range(int(bar.start / cell), min(width, int(bar.end / cell) + 1)):
            covered = min(bar.end, (place + 1) * cell) - max(bar.start, place * cell)
            sums[place] = sums.get(place, 0.0) + max(0.0, covered) * bar.busy / cell
    return "".join(" ▁▂▃▄▅▆▇█"[min(8, round(8 * sums[place]))] for place in range(width))

"""The picture of a run in time: a lane per worker, a bar per attempt; when there are many, how busy each lane was.

At most `LANES` lanes and `BINS` places across, so its size has a bound however many attempts there were. Of more workers one
area is drawn: how many of them were busy, by step. Times in which nothing ran are short, and say how long they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from nbbatch.base.states import ChunkStatus
from nbbatch.pictures.markup import clip, number, tag, text
from nbbatch.pictures.picture import Picture, drawing
from nbbatch.pictures.style import duration, fill, patterns, step_look

if TYPE_CHECKING:
    import polars as pl

LANES = 8
"""Workers with a lane of their own, at most."""
BINS = 160
"""Places across a lane when attempts are merged …"""
SINGLE = 400
"""… which they are above this many."""
_LEFT, _WIDTH, _TALL, _TOP = 128.0, 780.0, 20.0, 30.0
_AREA = 128.0
"""Height of the area of many workers."""
_GAP = 54.0
"""Width of a time in which nothing ran …"""
GAP_SHARE, GAP_SECONDS = 0.2, 5.0
"""… for at least this share of all, and so long."""
_RIGHT = 24.0
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
    """State it ended in, IN_PROGRESS of one that goes on; "" of merged ones."""


class Axis:
    """Where a moment is, in pixels from the left: evenly, but for times in which nothing ran."""

    def __init__(self, bars: Sequence[Bar], began: float | None = None) -> None:
        """Of some bars.

        Args:
            bars: In any order.
            began: When second 0 was, in seconds since 1970; None: moments are told by how long after it they are.
        """
        self.began, self.span = began, max((bar.end for bar in bars), default=0.0)
        self.gaps = _gaps(bars, self.span)
        idle = sum(end - start for start, end in self.gaps)
        self._scale = (_WIDTH - _GAP * len(self.gaps)) / ((self.span - idle) or 1.0)

    def x(self, moment: float) -> float:
        """Where a moment is."""
        at = moment
        moved = 0.0
        for start, end in self.gaps:
            if moment > start:
                inside = min(moment, end) - start
                at -= inside
                moved += _GAP * inside / (end - start)
        return _LEFT + at * self._scale + moved

    def ticks(self) -> list[tuple[float, str]]:
        """Round moments that are not in a gap, each with its words."""
        shift = 0.0 if self.began is None else (self.began + _zone(self.began)) % 86_400
        idle = sum(end - start for start, end in self.gaps)
        unit = _unit(self.span - idle)
        edges = [0.0, *(each for gap in self.gaps for each in gap), self.span]
        moments: list[float] = []
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            first = -(-(start + shift) // unit)
            found = (round((first + place) * unit - shift, 9) for place in range(int((end - start) / unit) + 1))
            moments += [each for each in found if each <= end]
        return [(each, self._words(each, unit)) for each in moments]

    def _words(self, moment: float, unit: float) -> str:
        if self.began is None:
            return duration(moment) if moment else "0"
        at = datetime.fromtimestamp(self.began + moment).astimezone()
        if unit < 1:
            return f"{at:%H:%M:%S.%f}".rstrip("0").rstrip(".")
        return f"{at:%H:%M}" if unit >= 60 else f"{at:%H:%M:%S}"


def _zone(at: float) -> float:
    """Seconds that clocks here are ahead of UTC."""
    ahead = datetime.fromtimestamp(at).astimezone().utcoffset()
    return ahead.total_seconds() if ahead else 0.0


def _gaps(bars: Sequence[Bar], span: float) -> list[tuple[float, float]]:
    """Times in which nothing ran, where they are long."""
    found: list[tuple[float, float]] = []
    until = 0.0
    for bar in sorted(bars, key=lambda bar: bar.start):
        if bar.start - until > max(GAP_SECONDS, GAP_SHARE * span):
            found.append((until, bar.start))
        until = max(until, bar.end)
    return found


def timeline(
    title: str, steps: Sequence[str], lanes: Sequence[str], bars: Sequence[Bar], facts: Callable[[], pl.DataFrame],
    began: float | None = None,
) -> Picture:  # fmt: skip
    """The picture of attempts by worker lane.

    Args:
        title: What it is called.
        steps: Names, in chain order.
        lanes: Names of the workers.
        bars: In any order.
        facts: Gives the frame behind it.
        began: When second 0 was, in seconds since 1970; None: no clock time is told.
    """
    axis = Axis(bars, began)
    attempts, failed = sum(bar.attempts for bar in bars), sum(bar.failed for bar in bars)
    span = axis.span
    who = "1 worker" if len(lanes) == 1 else f"{len(lanes)} workers"
    about = f"{attempts:,} attempts by {who} in {duration(span)}, {failed:,} ended in an error"
    words = _text(f"{clip(title)}: {about}", lanes, bars, span)
    base = _TOP + _tall(bars) * max(1, len(lanes))
    height = base + 44 + 18 * _legend_lines(steps, bars)
    svg = drawing(
        _LEFT + _WIDTH + _RIGHT, height, title, about, lambda key: _body(key, title, steps, lanes, bars, axis)
    )
    return Picture(svg, words, facts)


def _tall(bars: Sequence[Bar]) -> float:
    """Height of a lane: an area's, where bars of several steps stand above each other."""
    merged = [(bar.lane, bar.start) for bar in bars if not bar.status]
    return _AREA if len({*merged}) < len(merged) else _TALL


def _body(
    key: str, title: str, steps: Sequence[str], lanes: Sequence[str], bars: Sequence[Bar], axis: Axis
) -> str:  # fmt: skip
    used = sorted({bar.step for bar in bars})
    looks = [(f"s{step}", step_look(step)) for step in used] + [("FAILED", ChunkStatus.FAILED.look)]
    tall = _tall(bars)
    rows = "".join(_lane(place, name, tall) for place, name in enumerate(lanes))
    base = _TOP + tall * max(1, len(lanes))
    empty = tag("text", "no attempts yet", x=_LEFT, y=_TOP + 14, class_="q") if not bars else ""
    return (
        patterns(key, looks)
        + tag("text", text(title, 110), x=12.0, y=19.0, class_="b")
        + _axis(axis, base)
        + rows
        + _merged(key, steps, [bar for bar in bars if not bar.status], axis, tall)
        + "".join(_one(key, steps, bar, axis, tall) for bar in bars if bar.status)
        + _pauses(axis, base)
        + empty
        + _legend(key, steps, bars, base + 38)
    )


def _lane(place: int, name: str, tall: float) -> str:
    y = _TOP + place * tall
    label = tag("text", tag("title", text(name)), text(name[-18:] if len(name) > 18 else name, 18), x=_LEFT - 8, y=y + 14,
                text_anchor="end", class_="s m")  # fmt: skip
    return label + tag("rect", class_="track", x=_LEFT, y=y + 3, width=_WIDTH, height=tall - 6)


def _pauses(axis: Axis, base: float) -> str:
    """Where nothing ran: a strip across all lanes, with its length."""
    drawn: list[str] = []
    for start, end in axis.gaps:
        x = axis.x(start)
        said = f"nothing ran for {duration(end - start)}"
        strip = tag("rect", tag("title", said), x=x, y=_TOP, width=_GAP, height=base - _TOP, class_="paper")
        middle, half = x + _GAP / 2, (_TOP + base) / 2
        edges = tag(
            "path", d=f"M{x:g} {_TOP:g}V{base:g}M{x + _GAP:g} {_TOP:g}V{base:g}", class_="line", stroke_dasharray="3 3"
        )
        drawn.append(
            strip + edges + tag("text", duration(end - start), x=middle, y=half + 4, class_="s q", text_anchor="middle")
        )
    return "".join(drawn)


def _unit(span: float, most: int = 8) -> float:
    return next((unit for unit in _ROUND if span / unit <= most), max(span, 1e-6) / most)


def _axis(axis: Axis, base: float) -> str:
    lines: list[str] = []
    for moment, words in axis.ticks():
        x = axis.x(moment)
        lines.append(tag("path", d=f"M{x:g} {_TOP:g}V{base + 4:g}", class_="grid"))
        anchor = "start" if x < _LEFT + 24 else "middle" if x < _LEFT + _WIDTH - 24 else "end"
        at = (
            None if axis.began is None else round((axis.began + moment) * 1000)
        )  # for a page that knows its reader's zone
        lines.append(tag("text", words, x=x, y=base + 16, class_="s q m", text_anchor=anchor, data_at=at))
    return "".join(lines)


def _one(key: str, steps: Sequence[str], bar: Bar, axis: Axis, tall: float) -> str:
    goes_on = bar.status == ChunkStatus.IN_PROGRESS.value
    x, y = axis.x(bar.start), _TOP + bar.lane * tall + 3
    wide, high = max(1.5, axis.x(bar.end) - x), tall - 6
    paint = fill(key, f"s{bar.step}", step_look(bar.step))
    said = "goes on" if goes_on else bar.status.lower().replace("_", " ")
    told = tag("title", f"{text(steps[bar.step])}: {duration(bar.end - bar.start)}, {said}")
    if goes_on:  # open to the right: it has no end yet
        edge = tag("path", d=f"M{x + wide:g} {y:g}h-{wide:g}v{high:g}h{wide:g}", class_="line")
        return tag("g", told, tag("rect", x=x, y=y, width=wide, height=high, fill=paint, fill_opacity="0.45"), edge)
    body = tag("rect", told, x=x, y=y, width=wide, height=high, fill=paint)
    if not bar.failed:
        return body
    return body + tag("rect", x=x, y=y, width=wide, height=5.0, fill=fill(key, "FAILED", ChunkStatus.FAILED.look))


def _merged(key: str, steps: Sequence[str], bars: Sequence[Bar], axis: Axis, tall: float) -> str:
    """One path per step, its height the share of time that the lane was busy; of it, on top, the share that ended in an error."""
    paths: dict[int, list[str]] = {}
    marks: list[str] = []
    heights: dict[tuple[int, float], float] = {}
    for bar in bars:
        below = heights.get((bar.lane, bar.start), 0.0)
        high = max(1.0, round(bar.busy * (tall - 6), 1))
        heights[bar.lane, bar.start] = below + high
        x, bottom = axis.x(bar.start), _TOP + (bar.lane + 1) * tall - 3 - below
        wide = axis.x(bar.end) - x
        paths.setdefault(bar.step, []).append(
            f"M{number(x)} {number(bottom)}v-{number(high)}h{number(wide)}v{number(high)}z"
        )
        if bar.failed:
            part = min(high, max(1.0, high * bar.failed / max(bar.attempts, bar.failed)))
            marks.append(f"M{number(x)} {number(bottom - high)}h{number(wide)}v{number(part)}h-{number(wide)}z")
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
        items.append(("", "", "height: workers busy" if _tall(bars) == _AREA else "height: share of time busy"))
    if any(bar.status == ChunkStatus.IN_PROGRESS.value for bar in bars):
        items.append(("", "", "pale: goes on"))
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
        lines.append(f"  {clip(lane, 24):<{wide}}  {spark(mine, span)}  {_busy(busy / span if span else 0.0)}")
    return "\n".join(lines)


def _busy(share: float) -> str:
    """How busy a lane was; that of async steps has many attempts at once.

    >>> _busy(0.5), _busy(10.29)
    (' 50% busy', '10.3 at once')
    """
    return f"{share:.1f} at once" if share > 1.05 else f"{share:4.0%} busy"


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

"""The runs of a store as a page: those at work and those that failed first, counts that filter, and pages of them.

store ─▶ page of rows ─▶ Line: how each stands ─▶ live table, or the plain one that is kept
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from nbbatch.base.display import plural
from nbbatch.base.states import (
    INSTANCE_ENDED,
    INSTANCE_GROUPS,
    STACKED,
    WAITS_FOR_JOB,
    ChunkStatus,
    InstanceStatus,
    by_status,
    standing,
)
from nbbatch.base.times import in_words
from nbbatch.engine.dispatcher import Engine
from nbbatch.pictures import static
from nbbatch.pictures.figures import by_state, share
from nbbatch.pictures.markup import clip, tag, text
from nbbatch.pictures.style import WAITS, about, ago, spoken
from nbbatch.store import frames
from nbbatch.store.reading import Reader

ROWS = 20
"""Runs of a page."""
KEPT = 500
"""Counts of ended runs that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How one run stands."""

    id: int
    job: str
    named: str
    """Its key, or the chunk that submitted it."""
    status: InstanceStatus
    known: bool
    share: float
    counts: Mapping[ChunkStatus, int]
    created_us: int
    when: str
    """As a live page says it."""
    took: str
    """As a page that is kept says it."""
    error: str

    @property
    def words(self) -> str:
        """Glyph and words of its state."""
        glyph = self.status.look.glyph if self.known else WAITS_FOR_JOB.glyph
        return f"{glyph} {standing(self.status, known=self.known, failed=self.counts.get(ChunkStatus.FAILED, 0))}"


class RunsPage:
    """The runs of one store, and which of them are looked at. One thread at a time."""

    def __init__(self, store: Reader, engine: Engine, path: str) -> None:
        self._store, self._engine = store, engine
        self._name = "memory" if path == ":memory:" else PurePath(path).name
        self._group, self._offset = "", 0
        self._counted: dict[tuple[int, int | None], Mapping[ChunkStatus, int]] = {}

    def choose(self, message: Mapping[str, Any]) -> None:
        """Look at one group of runs, or at another page of them."""
        group = str(message.get("group", self._group))
        self._group = group if group in INSTANCE_GROUPS else ""
        self._offset = max(0, int(message.get("offset", 0)))

    # --- what is read -----------------------------------------------------------------------------

    def groups(self) -> dict[str, int]:
        """How many runs there are of each group that has any."""
        counts = {InstanceStatus(name): count for name, count in self._store.fetch("count_by_status")}
        found = {name: sum(counts.get(each, 0) for each in states) for name, states in INSTANCE_GROUPS.items()}
        return {name: count for name, count in found.items() if count}

    def lines(self, limit: int = ROWS) -> list[Line]:
        """The runs that are looked at."""
        states = INSTANCE_GROUPS.get(self._group, tuple(InstanceStatus))
        live = self._engine.live
        known = list(live) if isinstance(live, dict) else []  # pyright: ignore[reportUnnecessaryIsInstance] - a look asks one by one
        codes = [state.code for state in states]
        return [self._line(*row) for row in self._store.fetch("overview", codes, known, limit, self._offset)]

    def _line(
        self, run: int, job: str, version: int, key: str | None, parent: int | None, state: str, progress: float,
        created_us: int, started_us: int | None, ended_us: int | None, error: str | None,
    ) -> Line:  # fmt: skip
        live = self._engine.live.get(run)
        status = live.status if live else InstanceStatus(state)
        now = self._engine.clock.now()
        left = live.eta(now) if live else None
        return Line(
            id=run, job=f"{clip(job, 80)} v{version}", named=clip(key if parent is None else f"of chunk {parent}", 60),
            status=status, known=live is not None or status in INSTANCE_ENDED, share=live.share if live else progress,
            counts=self._counts(run, ended_us), created_us=created_us,
            when=_when(now, created_us, started_us, ended_us, left), took=_took(started_us, ended_us), error=clip(error, 120),
        )  # fmt: skip

    def _counts(self, run: int, ended_us: int | None) -> Mapping[ChunkStatus, int]:
        live = self._engine.live.get(run)
        if live is not None and live.stored_counts:
            return _summed([by_status(each) for each in live.stored_counts])
        key = (run, ended_us)
        if key not in self._counted:
            if len(self._counted) >= KEPT:
                self._counted.clear()
            self._counted[key] = _summed(frames.counts(self._store, run))
        return self._counted[key]

    # --- what is drawn ----------------------------------------------------------------------------

    def title(self) -> str:
        """How many runs there are, in words."""
        groups = self.groups()
        total = sum(groups.values())
        if not total:
            return f"No runs in {self._name} yet: batch.submit(job, params) starts one"
        told = ", ".join(f"{count:,} {name}" for name, count in groups.items())
        return f"{plural(total, 'run')} in {self._name}: {told}"

    def html(self) -> str:
        """The page that is kept: plain, with its date."""
        rows = [_plain(line) for line in self.lines(static.MAX_ROWS)]
        if not rows:
            return static.line(self.title())
        total = sum(self.groups().values())
        at = static.stood(in_words(self._engine.clock.now()))
        return static.fitting(lambda room: static.table(self.title(), _COLUMNS, rows, total=total, room=room) + at)

    def text(self) -> str:
        """The same in lines of text."""
        rows = [
            f"  {line.words} · {line.job} #{line.id} · {share(line.share)}{_and(line.took)}" for line in self.lines()
        ]
        return "\n".join([self.title(), *rows])

    def __call__(self) -> str:
        """The live table."""
        lines = self.lines()
        while not lines and self._offset:  # purged meanwhile
            self._offset = max(0, self._offset - ROWS)
            lines = self.lines()
        groups = self.groups()
        total = groups.get(self._group, 0) if self._group else sum(groups.values())
        head = tag("tr", *(tag("th", each, scope="col") for each in _LIVE_COLUMNS))
        body = "".join(map(_row, lines))
        caption = tag("caption", text(self.title(), 300), self._filters(groups))
        table = tag("table", caption, tag("thead", head), tag("tbody", body), class_="nbc-runs")
        return table + self._pages(len(lines), total)

    def _filters(self, groups: Mapping[str, int]) -> str:
        if len(groups) < 2:
            return ""
        every = {"": sum(groups.values()), **groups}
        buttons = (
            tag(
                "button",
                f"{name or 'all'} {count:,}",
                type="button",
                data_filter=name,
                aria_pressed=str(name == self._group).lower(),
            )
            for name, count in every.items()
        )
        return tag("span", *buttons, class_="nbc-tools nbc-filters", role="group", aria_label="Which runs")

    def _pages(self, shown: int, total: int) -> str:
        if total <= ROWS:
            return ""
        back, on = self._offset > 0, self._offset + shown < total
        words = f"{self._offset + 1:,}–{self._offset + shown:,} of {total:,}"
        return tag(
            "div", _turn("back", "‹ Previous", self._offset - ROWS, back), tag("span", words),
            _turn("on", "Next ›", self._offset + ROWS, on),
            class_="nbc-tools nbc-pages",
        )  # fmt: skip


_COLUMNS = ("run", "job", "key", "state", "progress", "", "created (UTC)", "took", "error")
_LIVE_COLUMNS = ("run", "job", "state", "progress", "when")


def _turn(way: str, label: str, offset: int, possible: bool) -> str:
    off = {} if possible else {"aria_disabled": "true"}
    return tag("button", label, type="button", data_turn=way, data_offset=max(0, offset), **off)


def _plain(line: Line) -> list[Any]:
    bar = static.bar(line.counts)
    created = in_words(line.created_us).removesuffix(" UTC")
    return [str(line.id), line.job, line.named, line.words, bar, share(line.share), created, line.took, line.error]


def _row(line: Line) -> str:
    label = f"Open instance {line.id}"
    button = tag("button", f"#{line.id}", type="button", data_instance=line.id, aria_label=label, aria_expanded="false")
    parts = [
        tag("i", " ", data_s=status.value, style=f"flex-grow:{line.counts[status]}")
        for status in STACKED
        if line.counts.get(status)
    ]
    bar = tag("span", *parts, class_="nbc-bar", title=by_state(line.counts) or "no chunks yet") if parts else ""
    named = f" {tag('small', text(line.named, 60))}" if line.named else ""
    named += tag("div", text(line.error, 120), class_="nbc-why") if line.error else ""
    state = line.status.value if line.known else WAITS
    return tag(
        "tr", tag("th", button, scope="row"), tag("td", text(line.job) + named, dir="auto"),
        tag("td", tag("span", text(line.words), class_="nbc-state", data_status=state)),
        tag("td", tag("span", bar, tag("span", share(line.share)), class_="nbc-share")),
        tag("td", text(line.when)),
    )  # fmt: skip


def _when(now_us: int, created_us: int, started_us: int | None, ended_us: int | None, left: float | None) -> str:
    """Of the time of a run, what tells most."""
    if ended_us is not None:
        took = _took(started_us, ended_us)
        return f"ended {ago((now_us - ended_us) / 1e6)}" + (f", took {took}" if took else "")
    if started_us is None:
        return f"submitted {ago((now_us - created_us) / 1e6)}"
    begun = f"begun {ago((now_us - started_us) / 1e6)}"
    return begun if left is None else f"{begun}, {about(left)} left"


def _and(took: str) -> str:
    return f" · took {took}" if took else ""


def _took(started_us: int | None, ended_us: int | None) -> str:
    return "" if started_us is None or ended_us is None else spoken(max(0, ended_us - started_us) / 1e6)


def _summed(steps: Sequence[Mapping[ChunkStatus, int]]) -> Mapping[ChunkStatus, int]:
    found: dict[ChunkStatus, int] = {}
    for step in steps:
        for status, count in step.items():
            found[status] = found.get(status, 0) + count
    return found

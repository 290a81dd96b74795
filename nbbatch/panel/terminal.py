"""Runs on a terminal, drawn again and again with rich (``nbbatch[cli]``): the facts of the panel, one below the other.

Without a terminal each look is a plain line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nbbatch.base.display import needing, safe
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import INSTANCE_ENDED, ChunkStatus
from nbbatch.engine.dispatcher import Engine
from nbbatch.panel import facts
from nbbatch.panel.attempt_sums import AttemptSums, ErrorGroup
from nbbatch.panel.now_page import COLUMNS, nothing, shown
from nbbatch.panel.snapshot import Snapshot, take
from nbbatch.pictures.chain_picture import StepFacts, standing
from nbbatch.pictures.figures import Fact
from nbbatch.pictures.markup import clip
from nbbatch.pictures.style import lasted
from nbbatch.store.reading import Reader

with needing("cli"):
    from rich.columns import Columns
    from rich.console import Console, ConsoleOptions, Group, RenderResult
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

DRAWN_SECONDS = 0.5
"""Between two looks on a terminal …"""
LINE_SECONDS = 30.0
"""… and elsewhere, where each is a line."""
LOOK_SECONDS = 0.5
"""How soon an end is seen, however seldom there is a line."""
CATCH_UP = 0.2
"""Seconds of a look that go to what was before it."""
MOST_STEPS, MOST_BUSY, MOST_CAUSES = 12, 8, 5
"""Of each so many are drawn."""
MOST_WIDE = 100
"""Columns of a bar."""
AMBER, RED = ChunkStatus.ERRORED.look.colour, ChunkStatus.FAILED.look.colour


class Run(Protocol):
    """What is needed of the handle of an instance."""

    id: int
    _store: Reader

    @property
    def _standing(self) -> InstanceRow: ...
    def _engine(self) -> Engine: ...


class Watched:
    """A run, and what was read of it so far."""

    def __init__(self, run: Run) -> None:
        self._run, self._sums = run, AttemptSums(run.id)

    def drawn(self) -> RenderableType:
        """How it stands now."""
        store, engine = self._run._store, self._run._engine()  # pyright: ignore[reportPrivateUsage]
        row = self._run._standing  # pyright: ignore[reportPrivateUsage]
        if row.status in INSTANCE_ENDED:
            self._sums.catch_up(store, CATCH_UP)
        else:
            self._sums.keep_up(store)
        return drawn(take(store, engine, self._sums, row, engine.clock.now()), self._sums.error_groups())


def watch(
    runs: Sequence[Any], every: float | None = None, console: Console | None = None, until: Callable[[], bool] = lambda: False
) -> None:  # fmt: skip
    """Show how runs stand until all have ended; the last picture is that of their end.

    Args:
        runs: Handles of instances.
        every: Seconds between two pictures, or lines; None: what is usual.
        console: Where to; None: the standard output.
        until: Whether nobody watches any more.
    """
    console = console or Console(file=sys.stdout, highlight=False, emoji=False)
    if not console.is_terminal:
        for _ in looks(runs, every or LINE_SECONDS, until=until):
            for run in runs:
                print(safe(repr(run)), file=console.file, flush=True)
        return
    watched = [Watched(run) for run in runs]
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for _ in looks(runs, every or DRAWN_SECONDS):
            live.update(Group(*(part for each in watched for part in (each.drawn(), Text()))), refresh=True)


def looks(
    runs: Sequence[Any], every: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[None]:  # fmt: skip
    """When to show runs: now, each so many seconds, and once they have ended; unless before that nobody watches any more."""
    due = clock()
    while True:
        ended = all(run.status in INSTANCE_ENDED for run in runs)
        if ended or clock() >= due:
            yield
            due = clock() + every
        if ended or until():
            return
        sleep(min(LOOK_SECONDS, max(0.0, due - clock())))


# --- a picture ------------------------------------------------------------------------------------


def drawn(now: Snapshot, errors: Sequence[ErrorGroup] = ()) -> Group:
    """A run as the panel leads with it: how it stands, chunks by state, figures, the chain, what runs, what failed."""
    parts = [
        _line(facts.headline(now), f"bold {now.status.look.colour}"),
        Bar(facts.bar(now)),
        Text(safe(facts.below(now))),
    ]
    told = facts.facts(now)
    long = [_line(f"{each.label}: {each.worded(each.value)}") for each in told if each.key == "report"]
    figures = Columns([_figure(each) for each in told if each.key != "report"], padding=(0, 3))
    return Group(*parts, Text(), *long, figures, Text(), _chain(now), *_busy(now), *_causes(errors))


def _line(said: str, style: str = "") -> Text:
    return Text(safe(said).replace("\n", " "), style=style, no_wrap=True, overflow="ellipsis")


class Bar:
    """Chunks by state, as wide as there is room; without colours by their signs."""

    def __init__(self, counts: Sequence[tuple[ChunkStatus, int]]) -> None:
        self._counts = dict(counts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        widths = widths_of(list(self._counts.values()), min(options.max_width, MOST_WIDE))
        plain = console.color_system is None or console.no_color
        yield Text.assemble(
            *(
                ((status.look.glyph if plain else "█") * width, status.look.colour)
                for status, width in zip(self._counts, widths, strict=True)
            ),
            no_wrap=True,
        )


def widths_of(counts: Sequence[int], room: int) -> list[int]:
    """Columns for each count: in proportion, but one for each that there is.

    >>> widths_of([990, 9, 1], 20), widths_of([], 20), widths_of([1, 1, 1], 2)
    ([18, 1, 1], [], [1, 1, 1])
    """
    total = sum(counts)
    widths = [max(1, count * room // total) for count in counts]
    if widths:
        most = widths.index(max(widths))
        widths[most] = max(1, widths[most] + room - sum(widths))
    return widths


def spark(values: Sequence[float]) -> str:
    """A line of how something was.

    >>> spark([0, 1, 4, 8])
    '▁▂▅█'
    """
    signs, most = "▁▂▃▄▅▆▇█", max(values, default=0.0)
    return "".join(signs[round((len(signs) - 1) * each / most)] for each in values) if most > 0 else ""


def _figure(each: Fact) -> Text:
    style = f"bold {RED}" if each.bad else "bold"
    line = f"\n{spark(each.line)}" if len(each.line) > 1 else ""
    value, note = safe(each.worded(each.value)), safe(each.worded(each.note))
    return Text.assemble((each.label, "dim"), "\n", (value, style), " ", note, line)


# --- the chain, what runs, what failed ------------------------------------------------------------


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=any(columns))
    for name in columns:
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=1)
    return table


def _chain(now: Snapshot) -> RenderableType:
    table = _table("", "", "", "")
    first = _first(now.steps)
    for place, step in enumerate(now.steps[first : first + MOST_STEPS], first):
        told, status = facts.chain_line(now, place), standing(step)
        look = status.look if status else ChunkStatus.QUEUED.look
        table.add_row(Text(look.glyph if status else "·", style=look.colour), *map(_line, (clip(step.name, 32), *told)))
    more = len(now.steps) - MOST_STEPS
    return Group(table, _line(f"… {more:,} more steps", "dim")) if more > 0 else table


def _first(steps: Sequence[StepFacts]) -> int:
    """The first step that is drawn, so that those that are worked on are."""
    unfinished = next((place for place, step in enumerate(steps) if standing(step) is not ChunkStatus.COMPLETED), 0)
    return max(0, min(unfinished - 2, len(steps) - MOST_STEPS))


def _busy(now: Snapshot) -> list[RenderableType]:
    if now.ended:
        return []
    if not now.running:
        return [Text(), _line(nothing(now), "dim")]
    table = _table(*COLUMNS)
    rows = shown(now.running)[:MOST_BUSY]
    for each in rows:
        step, seconds = now.steps[each.step], (now.at_us - each.started_us) / 1e6
        late = AMBER if step.p95 is not None and seconds > step.p95 else ""
        since = lasted(seconds, step.median, step.p95, each.given)
        cells = (str(each.chunk), clip(step.name, 32), clip(each.input, 60))
        table.add_row(*map(_line, cells), _line(since, late), _line(str(each.attempt)), _line(each.worker))
    more = len(now.running) - len(rows)
    return [Text(), table, *([_line(f"… and {more:,} more", "dim")] if more else [])]


def _causes(errors: Sequence[ErrorGroup]) -> list[RenderableType]:
    lost = sorted((each for each in errors if each.failed), key=lambda each: -each.failed)
    if not lost:
        return []
    lines = [
        _line(f"✗ {each.failed:,} × {each.cause.type} in {each.cause.step}: {clip(each.cause.message or each.said, 200)}", RED)
        for each in lost[:MOST_CAUSES]
    ]  # fmt: skip
    more = len(lost) - MOST_CAUSES
    return [Text(), *lines, *([_line(f"… and {more:,} more causes", "dim")] if more > 0 else [])]

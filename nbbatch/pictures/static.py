"""Plain HTML and text of batches, runs and chunks: what a saved notebook, GitHub, an export and a terminal show.

No script, no style sheet, no drawing: those are taken out on the way. What is left reads well without any style too: tables
with captions and headings, bars of block characters, words beside every glyph. A page stays below `MOST_BYTES`
however long the texts in it are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from nbbatch.base.display import plural
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import STACKED, ChunkStatus
from nbbatch.pictures.chain_picture import StepFacts, blocks
from nbbatch.pictures.markup import block, clip, text
from nbbatch.pictures.style import duration

if TYPE_CHECKING:
    import polars as pl

MAX_ROWS = 20
"""Rows of a table in a repr; "… more" stands for the rest."""
MOST_BYTES = 20_480
"""Size of a page at most."""
_TRACE = 3_000
_LOG = 2_000
_CELL_CHARS = 120
_TABLE = "border-collapse:collapse;color:inherit;background:transparent"
_LEFT = ' align="left" style="text-align:left"'


def counted(rows: Iterable[tuple[str, int]], noun: str) -> str:
    """Counts in words.

    >>> counted([("COMPLETED", 2), ("FAILED", 1)], "instance")
    '3 instances (2 COMPLETED, 1 FAILED)'
    >>> counted([], "instance")
    'no instances'
    """
    rows = list(rows)
    total = sum(count for _, count in rows)
    if not total:
        return f"no {noun}s"
    inner = ", ".join(f"{count:,} {name}" for name, count in rows)
    return f"{plural(total, noun)} ({inner})"


def status_counts(counts: Sequence[Mapping[ChunkStatus, int]]) -> list[tuple[str, int]]:
    """Counts by state of all steps together, states without chunks left out."""
    totals = {status.value: sum(step.get(status, 0) for step in counts) for status in ChunkStatus}
    return [(name, total) for name, total in totals.items() if total]


def run_line(
    row: InstanceRow, share: float, eta: float | None, *, waits: bool, steps: Iterable[tuple[str, int]], reused: int = 0
) -> str:
    """One line that says how an instance stands."""
    parts = [f"{row.status.look.glyph} {row.status} · {clip(row.job, 100)} v{row.version} #{row.id}"]
    if row.key is not None:
        parts.append(f"key {clip(row.key, 100)!r}")
    if waits:
        parts.append("nobody works on it: it waits for its job; submit it again, or batch.resume(job)")
    parts.append(counted(steps, "chunk"))
    if reused:
        parts.append(f"reused {reused:,}")
    if row.ended_us is None:
        parts.append(f"{share:.0%}")
        if eta is not None:
            parts.append(f"about {duration(max(eta, 1))} left")
    if row.error:
        parts.append(clip(row.error, 300))
    return " · ".join(parts)


def line(words_: str) -> str:
    """Words as HTML."""
    return f"<div>{text(words_, 1_000)}</div>"


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, total: int | None = None, room: float = 1.0
) -> str:
    """A plain table, at most MAX_ROWS rows; every value is escaped. The first column names its row.

    Args:
        caption: What it shows.
        columns: Headings.
        rows: Values; numbers are set right.
        total: How many rows there are, where only some were read.
        room: Share of MAX_ROWS that there is room for.
    """
    most = max(1, int(MAX_ROWS * room))
    head = "".join(f'<th scope="col"{_LEFT}>{text(column)}</th>' for column in columns)
    body = "".join(_row(row) for row in rows[:most])
    left = (len(rows) if total is None else total) - most
    more = f"<div>… {left:,} more</div>" if left > 0 else ""
    return (
        f'<table cellpadding="4" style="{_TABLE}"><caption align="left" style="text-align:left;white-space:normal">{text(caption, 1_000)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def _row(row: Sequence[Any]) -> str:
    first, *rest = row
    return f'<tr><th scope="row"{_LEFT}>{_value(first)}</th>{"".join(_cell(value) for value in rest)}</tr>'


def _cell(value: Any) -> str:
    if isinstance(value, Html):
        return f"<td{_LEFT}>{value}</td>"
    if isinstance(value, int | float):
        return f'<td align="right">{_value(value)}</td>'
    return f'<td dir="auto"{_LEFT}>{_value(value)}</td>'


def _value(value: Any) -> str:
    if isinstance(value, Html):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value, _CELL_CHARS)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


class Html(str):
    """Markup that is escaped already."""

    __slots__ = ()


def details(summary: str, body: str, *, most: int, opened: bool = False) -> str:
    """A part that opens on a click; of a long text the beginning and the end."""
    flag = " open" if opened else ""
    return f"<details{flag}><summary>{text(summary, 300)}</summary><pre>{block(body, most)}</pre></details>"


def fitting(build: Callable[[float], str]) -> str:
    """A page that is built again with less room for rows and long texts until it is below `MOST_BYTES`."""
    page = ""
    for room in (1.0, 0.5, 0.25, 0.1, 0.05):
        page = build(room)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


# --- a run ----------------------------------------------------------------------------------------


def stood(at: str) -> str:
    """Of when a page is: it may be read days later."""
    return f"<div>As it stood at {text(at)}</div>"


class Head(NamedTuple):
    """What a run's page begins and ends with."""

    line: str
    """How it stands, in words."""
    chunks: str
    """Its chunks by state, in words."""
    figures: str
    """As markup."""
    waits: str
    """What is in its way; "" for nothing."""
    following: Sequence[tuple[str, str]]
    """What to do next: code, and what it does."""


def run(
    head: Head, steps: Sequence[StepFacts], error: dict[str, Any] | None, warnings: Sequence[str], at: str,
    now: Sequence[Sequence[Any]] = (),
) -> str:  # fmt: skip
    """A run: how it stands and its figures, a row per step, the first error, its warnings, and what to do next.

    Args:
        head: What it begins and ends with.
        steps: In chain order, with counts.
        error: chunk, step, error_type, error, traceback of its first error; None without one.
        warnings: Distinct ones.
        at: The present, in words.
        now: What workers are busy with, as rows of `NOW_COLUMNS`.
    """
    return fitting(lambda room: _run(room, head, steps, error, warnings, at, now))


def _run(
    room: float, head: Head, steps: Sequence[StepFacts], error: dict[str, Any] | None, warnings: Sequence[str], at: str,
    now: Sequence[Sequence[Any]],
) -> str:  # fmt: skip
    parts = [_strong(head.line), head.figures]
    parts += [f"<div>⚠ {text(head.waits, 300)}</div>"] if head.waits else []
    parts.append(table(head.chunks, _STEP_COLUMNS, [_step(step) for step in steps], room=room))
    parts += [table(f"What ran at {at}", NOW_COLUMNS, now, room=room)] if now else []
    if error is not None:
        said = f"first error: {clip(error['error_type'], 80)}: {clip(error['error'], 200)}"
        where = f"step {clip(error['step'], 60)}, chunk {error['chunk']}"
        parts.append(details(f"✗ {said} ({where})", error["traceback"] or said, most=int(_TRACE * room)))
    if warnings:
        parts.append(details(f"{len(warnings)} distinct warnings", "\n".join(warnings), most=int(_LOG * room)))
    parts += [_next(head.following), stood(at)]
    return f"<div>{''.join(parts)}</div>"


def _strong(words_: str) -> str:
    return f'<div style="font-size:1.15em;font-weight:600">{text(words_, 400)}</div>'


def _next(following: Sequence[tuple[str, str]]) -> str:
    found = " · ".join(f"<code>{text(code, 120)}</code> {text(what)}" for code, what in following)
    return f"<div>Next: {found}</div>" if found else ""


NOW_COLUMNS = ("chunk", "step", "input", "for", "attempt", "worker")
_STEP_COLUMNS = ("step", "takes → gives", "chunks", "", "by state", "median", "p95")


def _step(step: StepFacts) -> list[Any]:
    gate = "‖ " if step.gated else ""
    given = {"none": "", "many": f" → * {step.gives}"}.get(step.kind, f" → {step.gives}")
    taken = f"all {step.takes}" if step.kind == "reduction" else step.takes
    states = " · ".join(
        f"{status.look.glyph} {count:,} {status.look.word}" for status in STACKED if (count := step.counts.get(status))
    )
    times = ["" if seconds is None else duration(seconds) for seconds in (step.median, step.p95)]
    return [
        gate + clip(step.name, 60),
        clip(taken + given, 80),
        step.total,
        bar(step.counts),
        states or "no chunks yet",
        *times,
    ]


_INK = {"█": ChunkStatus.COMPLETED.look, "▓": ChunkStatus.IN_PROGRESS.look, "×": ChunkStatus.FAILED.look,
        "░": ChunkStatus.QUEUED.look}  # fmt: skip


def bar(counts: Mapping[ChunkStatus, int]) -> Html:
    """Chunks by state as a bar of block characters."""
    return Html(f"<code>{_coloured(blocks(counts))}</code>") if counts else Html()


def _coloured(bar: str) -> str:
    runs = ((sign, "".join(run)) for sign, run in groupby(bar))
    return "".join(f'<span style="color:{_INK[sign].colour}">{run}</span>' for sign, run in runs)


# --- a chunk --------------------------------------------------------------------------------------


def chunk(
    row: dict[str, Any], input_: str | None, attempts: pl.DataFrame, traceback: str | None, log: str | None
) -> str:
    """A chunk: how it stands, its input, its attempts, the newest traceback and log.

    Args:
        row: Of the chunks view.
        input_: Its input in short; None where it is not known.
        attempts: Of the attempts view.
        traceback: Of its newest error.
        log: What its newest attempt that said anything said.
    """
    return fitting(lambda room: _chunk(room, row, input_, attempts, traceback, log))


def _chunk(
    room: float, row: dict[str, Any], input_: str | None, attempts: pl.DataFrame, traceback: str | None, log: str | None
) -> str:
    head = f"{_standing(row['status'])} · chunk {row['id']} of step {clip(row['step'], 100)} · {counted_attempts(row)}"
    parts = [table(head, _ATTEMPT_COLUMNS, [_attempt(each) for each in attempts.iter_rows(named=True)], room=room)]
    parts += [details("input", input_, most=int(_LOG * room), opened=True)] if input_ is not None else []
    parts += [details("traceback", traceback, most=int(_TRACE * room), opened=True)] if traceback else []
    parts += [details("log", log, most=int(_LOG * room))] if log else []
    parts += [_AGAIN] if traceback else []
    return f"<div>{''.join(parts)}</div>"


_AGAIN = (
    "<div><code>.replay()</code> runs it again here with the code as it is now, <code>.debug()</code> stops where it "
    "raises, <code>.export('bug.zip')</code> gives it to a colleague</div>"
)


def _standing(status: str) -> str:
    if status == "SUPERSEDED":
        return "↷ superseded: a rerun did it anew"
    return ChunkStatus(status).look.named


_ATTEMPT_COLUMNS = ("attempt", "state", "started", "took", "worker", "error")


def _attempt(row: dict[str, Any]) -> list[Any]:
    status = ChunkStatus(row["status"])
    started = row["started"].strftime("%Y-%m-%d %H:%M:%S") if row["started"] else ""
    error = f"{clip(row['error_type'], 80)}: {clip(row['error'])}" if row["error"] else ""
    took = "" if row["seconds"] is None else duration(row["seconds"])
    return [str(row["attempt"]), status.look.named, started, took, clip(row["worker"], 40), error]


def counted_attempts(row: dict[str, Any]) -> str:
    """How often a chunk was tried, in words.

    >>> counted_attempts({"attempts": 1, "errors": 0, "polls": 0}), counted_attempts({"attempts": 3, "errors": 2, "polls": 1})
    ('1 attempt', '3 attempts, 2 errors, polled 1 time')
    """
    said = [plural(row["attempts"], "attempt")]
    said += [plural(row["errors"], "error")] if row["errors"] else []
    said += [f"polled {plural(row['polls'], 'time')}"] if row["polls"] else []
    return ", ".join(said)

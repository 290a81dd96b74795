"""Plain HTML and text of jobs, runs and chunks: no script, no network, no widget. Pure functions of rows and frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from nbbatch.records import InstanceRow
from nbbatch.states import CHUNK_BY_CODE, InstanceStatus

if TYPE_CHECKING:
    import polars as pl

MAX_ROWS = 20
"""Rows of a table in a repr; "… more" stands for the rest."""
GLYPHS = {
    InstanceStatus.QUEUED: "○", InstanceStatus.IN_PROGRESS: "▶", InstanceStatus.ERRORED: "▶", InstanceStatus.PAUSED: "‖",
    InstanceStatus.FINALIZE: "▶", InstanceStatus.COMPLETED: "✓", InstanceStatus.FAILED: "✗", InstanceStatus.CANCELLED: "■",
}  # fmt: skip
_STYLE = "border-collapse:collapse;font-size:0.9em;color:inherit;background:transparent"
_CELL = "padding:2px 8px;text-align:left;border-bottom:1px solid currentColor"


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
    return f"{total:,} {noun}{'' if total == 1 else 's'} ({inner})"


def status_counts(counts: Iterable[Sequence[int]]) -> list[tuple[str, int]]:
    """Counts by state of all steps together, states without chunks left out."""
    totals = [sum(column) for column in zip(*counts, strict=True)]
    return [(CHUNK_BY_CODE[code].value, total) for code, total in enumerate(totals) if code and total]


def duration(seconds: float | None) -> str:
    """A length of time as people write it.

    >>> duration(0.25), duration(75), duration(7265), duration(None)
    ('0.2 s', '1:15', '2:01:05', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def run_line(
    row: InstanceRow, share: float, eta: float | None, *, waits: bool, steps: Iterable[tuple[str, int]]
) -> str:
    """One line that says how an instance stands."""
    parts = [f"{GLYPHS[row.status]} {row.status} · {row.job} v{row.version} #{row.id}"]
    if row.key is not None:
        parts.append(f"key {row.key!r}")
    if waits:
        parts.append("waits for its job: submit it again, or batch.resume(job)")
    parts.append(counted(steps, "chunk"))
    if row.ended_us is None:
        parts.append(f"{share:.0%}")
        if eta is not None:
            parts.append(f"about {duration(eta)} left")
    if row.error:
        parts.append(row.error)
    return " · ".join(parts)


def text(words: str) -> str:
    """Words as HTML."""
    return f"<div>{escape(words)}</div>"


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plain table, at most MAX_ROWS rows; every value is escaped."""
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(column)}</th>' for column in columns)
    body = "".join(_line(row) for row in rows[:MAX_ROWS])
    more = "<div>… more rows</div>" if len(rows) > MAX_ROWS else ""
    return (
        f'<table style="{_STYLE}"><caption style="text-align:left">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def _line(row: Sequence[Any]) -> str:
    return "<tr>" + "".join(f'<td style="{_CELL}">{escape(_short(value))}</td>' for value in row) + "</tr>"


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    words = str(value)
    return words if len(words) <= 200 else words[:199] + "…"


def _details(summary: str, body: str) -> str:
    return (
        f'<details><summary>{escape(summary)}</summary><pre style="white-space:pre-wrap">{escape(body)}</pre></details>'
    )


def batch(line: str, instances: pl.DataFrame) -> str:
    """A batch: its line and its newest instances."""
    if instances.is_empty():
        return text(f"{line} — batch.submit(job, params) starts one")
    columns = ["id", "job", "version", "key", "status", "created", "error"]
    rows = instances.with_columns(instances["created"].dt.strftime("%Y-%m-%d %H:%M:%S")).select(columns).rows()
    return table(line, columns, rows)


_COUNTED = ("queued", "gate_waiting", "in_progress", "poll_waiting", "errored", "failed", "skipped", "cancelled")


def run(line: str, row: InstanceRow, steps: pl.DataFrame, errors: pl.DataFrame, warnings: Sequence[str]) -> str:
    """A run: its line, a row per step, the first error, the warnings."""
    shown = [name for name in _COUNTED if steps[name].sum()]
    columns = ["step", "chunks", "completed", *shown, "records", "median_seconds"]
    html = table(line, columns, steps.select(columns).rows())
    if not errors.is_empty():
        first = errors.row(0, named=True)
        words = f"First error, step {first['step']}, chunk {first['chunk']}: {first['error_type']}: {first['error']}"
        html += _details(words[:300], first["traceback"] or words)
    if warnings:
        html += _details(f"{len(warnings)} distinct warnings", "\n".join(warnings))
    if row.status is InstanceStatus.FAILED:
        html += text("run.errors() lists every error; run.retry(job) runs only the failed chunks again")
    return html


def chunk(row: dict[str, Any], traceback: str | None, log: str | None) -> str:
    """A chunk: its row, traceback and log."""
    html = table(f"chunk {row['id']}", ["", " "], [(name, value) for name, value in row.items() if value is not None])
    html += _details("traceback", traceback) if traceback else ""
    return html + (_details("log", log) if log else "")

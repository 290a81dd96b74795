"""What a panel reads when it is asked: a page of chunks, one chunk, the log, how a run stood at a moment.

Each answer is markup of bounded size, all text in it escaped, from queries that are bounded by ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbbatch.base.states import CHUNK_ERRORS, ChunkStatus
from nbbatch.panel.chunk_table import Page
from nbbatch.panel.snapshot import stored_counts
from nbbatch.pictures.chain_picture import StepFacts
from nbbatch.pictures.markup import block, clip, fitting, tag, text
from nbbatch.pictures.style import duration
from nbbatch.store.database import Store

MOST = 24_000
"""Characters of markup of a log or of failures: with the chain, what is sent stays below 50 kB."""
_C = ChunkStatus

# --- chunks ---------------------------------------------------------------------------------------


def chunks_page(page: Page, names: Sequence[str]) -> str:
    """A page of chunks as a table; each row has a button that opens it."""
    following = None if page.next is None else str(page.next)
    if not page.rows:
        return tag("div", tag("p", "No chunk here matches the filter.", class_="nbc-none"), data_next=following)
    columns = ("chunk", "step", "state", "attempts", "took", "error")
    numbers = ("attempts", "took")
    head = tag("tr", *(tag("th", each, scope="col", class_="n" if each in numbers else None) for each in columns))
    body = "".join(_chunk_row(names, row) for row in page.rows)
    table = tag("table", tag("caption", "Chunks in order of creation"), tag("thead", head), tag("tbody", body))
    return tag("div", table, data_next=following)


def _chunk_row(names: Sequence[str], row: tuple[Any, ...]) -> str:
    chunk, step, _, status, attempts, seconds, kind, error = row
    look = tag("button", str(chunk), type="button", data_chunk=chunk, aria_label=f"Inspect chunk {chunk}")
    took = "" if seconds is None else duration(seconds)
    said = f"{clip(kind, 60)}: {clip(error, 140)}" if kind else clip(error, 140)
    return tag(
        "tr", tag("th", look, scope="row"), tag("td", text(names[step], 60) or " "), tag("td", _state(status)),
        tag("td", str(attempts), class_="n"), tag("td", took or " ", class_="n"),
        tag("td", text(said, 220) or " ", dir="auto"),
    )  # fmt: skip


def _state(status: ChunkStatus) -> str:
    return tag("span", status.look.named, class_="nbc-bad" if status in CHUNK_ERRORS else None)


# --- one chunk ------------------------------------------------------------------------------------


def chunk_card(chunk: Any) -> str:
    """A chunk looked into: its static page, where it came from, what it gave, and the sub-job it waits for."""
    parent, children, below = chunk.parent, chunk.children[:8], chunk.subjob
    kin = [_kin("from", parent)] if parent else []
    kin += [_kin("to", child) for child in children]
    lineage = tag("p", "Lineage: ", *kin) if kin else ""
    gave = tag("details", tag("summary", "outputs"), tag("pre", block(_outputs(chunk), 3_000) or " "))
    submitted = tag("p", "Sub-job: ", instance_button(below)) if below is not None else ""
    return chunk._repr_html_() + gave + lineage + submitted


def instance_button(run: Any) -> str:
    """What opens an instance."""
    return tag("button", f"{text(repr(run), 90)}", type="button", data_instance=run.id)


def instance_card(run: Any) -> str:
    """Another instance looked into: its chain, its page, and the chunk that submitted it."""
    above = run.parent
    back = (
        tag("p", "Submitted by chunk ", tag("button", str(above.id), type="button", data_chunk=above.id))
        if above
        else ""
    )
    said = tag("p", "In Python: ", tag("code", f"batch.instance({run.id})"))
    return run.chain().svg + run._repr_html_() + back + said


def _kin(word: str, chunk: Any) -> str:
    return f"{word} " + tag("button", str(chunk.id), type="button", data_chunk=chunk.id) + " "


def _outputs(chunk: Any) -> str:
    try:
        return "\n".join(clip(value, 400) for value in chunk.outputs[:20]) or "none"
    except Exception as error:  # the job may not be known here, or its types may have changed
        return f"not readable here: {clip(error, 400)}"


# --- log ------------------------------------------------------------------------------------------


def log_page(store: Store, names: Sequence[str], instance: int, since: int) -> str:
    """What steps printed, logged and warned of, the newest attempt first."""
    rows = store.fetch("recent_log", instance, since)
    if not rows:
        return tag("p", "No step has said anything yet.", class_="nbc-none")
    return fitting((_said(names, *row) for row in rows), MOST, tag("p", "… more is in ", tag("code", "run.logs()")))


def _said(
    names: Sequence[str], chunk: int, step: int, attempt: int, log: str, warned: list[str] | None, recovered: list[str] | None
) -> str:  # fmt: skip
    lines = [log.rstrip()] if log else []
    lines += [f"⚠ warning: {clip(line, 300)}" for line in warned or ()]
    lines += [f"↻ recovered: {clip(line, 300)}" for line in recovered or ()]
    look = tag("button", str(chunk), type="button", data_chunk=chunk, aria_label=f"Inspect chunk {chunk}")
    head = look + f" {text(names[step], 60)}, attempt {attempt}"
    return tag("section", tag("h4", head), tag("pre", block("\n".join(lines), 900), dir="auto"))


# --- as it was ------------------------------------------------------------------------------------


def steps_at(store: Store, instance: int, steps: Sequence[StepFacts], at_us: int) -> list[StepFacts]:
    """The steps with their chunks by state as they were at a moment; without durations."""
    then = stored_counts(store, instance, at_us)
    return [replace(step, counts=counts, median=None, p95=None) for step, counts in zip(steps, then, strict=True)]

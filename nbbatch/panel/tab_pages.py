"""The markup of a panel's tabs and cards: failures, a page of chunks, one chunk, the log.

Each is of bounded size, all text in it escaped, from queries that are bounded by ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from nbbatch.base.display import plural
from nbbatch.base.states import CHUNK_ERRORS, ChunkStatus
from nbbatch.heal.failures import FailureGroup
from nbbatch.panel.attempt_sums import ErrorGroup
from nbbatch.panel.chunk_table import ORDERS, Filter, Page
from nbbatch.pictures.markup import block, clip, fitting, tag, text
from nbbatch.pictures.style import duration
from nbbatch.store.reading import Reader

MOST = 24_000
"""Characters of markup of a log or of failures: with the chain, what is sent stays below 50 kB."""
LOOKED = 2_000
"""Failed chunks that are grouped, the newest."""
SMALL = 1_000
"""Chunks of a group that a button retries or leaves out; larger ones are for ``run.failures()``."""
_TRACES = 3


# --- chunks ---------------------------------------------------------------------------------------


def _opener(chunk: int, words: str = "") -> str:
    """What opens a chunk."""
    return tag("button", words or str(chunk), type="button", data_chunk=chunk, aria_label=f"Inspect chunk {chunk}")


CHUNK_COLUMNS = ("chunk", "step", "input", "state", "took", "worker", "attempts", "error")


def chunks_page(page: Page, chosen: Filter, total: int) -> str:
    """A page of chunks as a table; each row has a button that opens it."""
    following = None if page.next is None else ",".join("" if each is None else str(each) for each in page.next)
    if page.rows.is_empty():
        return tag("div", tag("p", "No chunk here matches the filter.", class_="nbc-none"), data_next=following)
    numbers = ("attempts", "took")
    head = tag("tr", *(tag("th", each, scope="col", class_="n" if each in numbers else None) for each in CHUNK_COLUMNS))
    body = fitting((_chunk_row(page, *row) for row in page.rows.iter_rows()), MOST, "")
    where = place(chosen.offset, page.rows.height, total, page.rows["id"][0])
    table = tag(
        "table",
        tag("caption", f"{where}, {ORDERS[chosen.order]}"),
        tag("thead", head),
        tag("tbody", body),
        class_="nbc-list",
    )
    return tag("div", table, data_next=following, data_where=where)


def place(before: int | None, rows: int, total: int, first: int) -> str:
    """Which rows of all are shown.

    >>> place(119, 41, 1500, 200), place(None, 40, 1500, 7)
    ('120–160 of 1,500', 'from chunk 7, of 1,500')
    """
    return (
        f"from chunk {first}, of {total:,}"
        if before is None
        else f"{before + 1:,}–{before + rows:,} of {max(total, before + rows):,}"
    )


def _chunk_row(
    page: Page, chunk: int, step: str, _: int | None, state: str, attempts: int, seconds: float | None, kind: str | None,
    error: str | None,
) -> str:  # fmt: skip
    status = ChunkStatus(state)
    said = f"{clip(kind, 60)}: {clip(error, 100)}" if kind else clip(error, 100)
    return tag(
        "tr", tag("th", _opener(chunk), scope="row"), tag("td", text(step, 60) or " "),
        tag("td", tag("code", text(page.inputs.get(chunk), 90) or " "), dir="auto"),
        tag("td", tag("span", status.look.named, class_="nbc-bad" if status in CHUNK_ERRORS else None)),
        tag("td", "" if seconds is None else duration(seconds), " ", class_="n"), tag("td", text(page.workers.get(chunk), 30) or " "),
        tag("td", str(attempts), class_="n"), tag("td", text(said, 160) or " ", dir="auto"),
    )  # fmt: skip


# --- one chunk ------------------------------------------------------------------------------------


SIDE_BY_SIDE = 4
"""Attempts that are set beside each other, the last."""


def chunk_card(chunk: Any) -> str:
    """A chunk looked into: its static page, its attempts side by side, where it came from, what it gave, how to run it again here."""
    below, children = chunk.subjob, chunk.children[:8]
    way = [*chunk.lineage, *children]
    lineage = tag("p", "Lineage: ", " → ".join(_kin(each, chunk.id) for each in way)) if len(way) > 1 else ""
    gave = tag("details", tag("summary", "outputs"), tag("pre", block(_outputs(chunk), 3_000) or " "))
    submitted = tag("p", "Sub-job: ", instance_button(below)) if below is not None else ""
    again = f"batch.instance({chunk.run.id}).chunk({chunk.id}).replay()"
    button = tag("button", "Copy", type="button", data_copy=again)
    copy = tag("p", tag("code", again), " ", button, " runs it again, and stores nothing")
    return lineage + copy + chunk._repr_html_() + _beside(chunk) + gave + submitted


def _beside(chunk: Any) -> str:
    """What each of several attempts took and said, side by side."""
    last = chunk.attempts().tail(SIDE_BY_SIDE)
    numbers: list[int] = last["attempt"].to_list()
    if len(numbers) < 2:
        return ""
    took = {n: duration(seconds) for n, seconds in last.select("attempt", "seconds").iter_rows() if seconds is not None}
    logs: dict[int, str] = {}
    for row in chunk.run.logs(chunk=chunk.id).iter_rows(named=True):
        logs[row["attempt"]] = f"{logs.get(row['attempt'], '')}{row['text']}\n"
    errors = chunk.run.errors(chunk=chunk.id).select("attempt", "traceback", "error").iter_rows()
    said = {"took": took, "error": {n: trace or error for n, trace, error in errors}, "log": logs}
    head = tag("tr", tag("th", " ", scope="col"), *(tag("th", f"attempt {n}", scope="col") for n in numbers))
    body = "".join(_said_row(name, [each.get(n) or "" for n in numbers]) for name, each in said.items() if each)
    caption = tag("caption", "Attempts side by side")
    return tag("table", caption, tag("thead", head), tag("tbody", body), class_="nbc-beside")


def _said_row(name: str, said: Sequence[str]) -> str:
    cells = (tag("td", tag("pre", block(each, 700) or " ")) for each in said)
    return tag("tr", tag("th", name, scope="row"), *cells)


def instance_button(run: Any) -> str:
    """What opens an instance."""
    return tag("button", f"{text(repr(run), 90)}", type="button", data_instance=run.id)


def instance_card(run: Any) -> str:
    """Another instance looked into: its chain, its page, and the chunk that submitted it."""
    above = run.parent
    back = tag("p", "Submitted by chunk ", _opener(above.id)) if above else ""
    said = tag("p", "In Python: ", tag("code", f"batch.instance({run.id})"))
    return run.chain().svg + run._repr_html_() + back + said


def _kin(chunk: Any, this: int) -> str:
    return (
        tag("b", text(f"{chunk.step} {chunk.id}", 60))
        if chunk.id == this
        else _opener(chunk.id, text(f"{chunk.step} {chunk.id}", 60))
    )


def _outputs(chunk: Any) -> str:
    try:
        return "\n".join(clip(value, 400) for value in chunk.outputs[:20]) or "none"
    except Exception as error:  # the job may not be known here, or its types may have changed
        return f"not readable here: {clip(error, 400)}"


# --- log ------------------------------------------------------------------------------------------


def log_page(store: Reader, names: Sequence[str], instance: int, since: int, step: int | None = None) -> str:
    """What steps, or one of them, printed, logged and warned of, the newest attempt first."""
    rows = [row for row in store.fetch("recent_log", instance, since) if step in (None, row[1])]
    if not rows:
        return tag("p", "No step has said anything yet.", class_="nbc-none")
    return fitting((_said(names, *row) for row in rows), MOST, tag("p", "… more is in ", tag("code", "run.logs()")))


def _said(
    names: Sequence[str], chunk: int, step: int, attempt: int, log: str, warned: list[str] | None, recovered: list[str] | None
) -> str:  # fmt: skip
    lines = [log.rstrip()] if log else []
    lines += [f"⚠ warning: {clip(line, 300)}" for line in warned or ()]
    lines += [f"↻ recovered: {clip(line, 300)}" for line in recovered or ()]
    head = _opener(chunk) + f" {text(names[step], 60)}, attempt {attempt}"
    return tag("section", tag("h4", head), tag("pre", block("\n".join(lines), 900), dir="auto"))


# --- failures -------------------------------------------------------------------------------------


def keyed(groups: Sequence[FailureGroup]) -> dict[str, FailureGroup]:
    """Groups under a name that is the same as long as their cause is."""
    return {f"{crc32(repr(group.cause).encode()):08x}": group for group in groups}


def reason(group: FailureGroup) -> str:
    """Why a group's chunks are left out when a button does it."""
    return clip(f"left out in the panel: {group.cause.type}: {group.cause.message}", 300)


def failures_page(
    store: Reader, instance: int, names: Sequence[str], groups: Mapping[str, FailureGroup], cannot: str,
    errors: Sequence[ErrorGroup],
) -> str:  # fmt: skip
    """The whole tab.

    Args:
        store: Where tracebacks and reasons are read.
        instance: Whose.
        names: Of the steps.
        groups: Failed chunks by cause.
        cannot: Why nothing can be done about them here; "" if it can.
        errors: Attempts that ended in an error, by what they say.
    """
    shown = fitting(
        (_group(store, instance, *each, cannot) for each in groups.items()), MOST * 2 // 3, _more("causes", "failures")
    )
    said = shown + _errors(store, errors, sum(map(len, groups.values()))) + _skips(store, instance, names)
    return said or tag("p", "✓ No attempt has ended in an error.", class_="nbc-none")


def _more(what: str, frame: str) -> str:
    return tag("p", f"… more {what} are in ", tag("code", f"run.{frame}()"))


# --- failed chunks, by cause ----------------------------------------------------------------------


def _group(store: Reader, instance: int, key: str, group: FailureGroup, cannot: str) -> str:
    cause, count = group.cause, f"{len(group):,}"
    head = tag("h4", f"✗ {count} × {text(cause.type, 80)} in {text(cause.step, 60)}")
    said = tag("p", text(cause.message or group.message, 300), dir="auto", class_="nbc-said")
    line = tag("p", "raised by ", tag("code", text(cause.line, 160))) if cause.line else ""
    telling = group.traits if len(group) > 1 else []  # one input has everything in common with itself
    traits = "".join(tag("li", text(trait, 240), dir="auto") for trait in telling)
    told = tag("p", "What their inputs have in common:") + tag("ul", traits) if traits else ""
    does, trace = _actions(key, group, cannot), _trace(store, instance, group)
    return tag("section", head, said, line, told, does, trace, class_="nbc-cause")


def _actions(key: str, group: FailureGroup, cannot: str) -> str:
    these = "this chunk" if len(group) == 1 else f"these {len(group):,}"
    why = cannot or (f"more than {SMALL:,}: use run.failures()" if len(group) > SMALL else "")
    off = {"aria_disabled": "true", "title": why} if why else {}
    return tag(
        "p",
        _opener(group.example, f"Inspect chunk {group.example}"), " ",
        tag("button", f"Retry {these}", type="button", data_group=key, data_do="retry-group", **off), " ",
        tag("button", f"Skip {these}", type="button", data_group=key, data_do="skip-group", data_ask="yes", **off),
        class_="nbc-tools",
    )  # fmt: skip


def _trace(store: Reader, instance: int, group: FailureGroup) -> str:
    rows = store.fetch("newest_traceback", instance, group.example)
    if not rows:
        return ""
    key = f"trace/{clip(group.cause.type, 40)}/{group.example}"
    return tag("details", tag("summary", "traceback"), tag("pre", block(rows[0][0], 2_200)), data_key=key)


# --- errors of attempts ---------------------------------------------------------------------------


def _errors(store: Reader, errors: Sequence[ErrorGroup], failed: int) -> str:
    count = sum(group.count for group in errors)
    if count == failed:  # all is told above
        return ""
    head = f"{plural(count, 'attempt')} ended in an error{', those of mended chunks included' if failed else ''}"
    kinds = (_kind(store, each, place < _TRACES) for place, each in enumerate(errors))
    return tag("h4", head) + fitting(kinds, MOST // 3, _more("kinds", "errors"))


def _kind(store: Reader, group: ErrorGroup, traced: bool) -> str:
    where = f" in {text(group.cause.step, 60)}" if group.cause.step else ""
    head = tag("b", f"↻ {group.count:,} × {text(group.cause.type, 80)}") + where + " — " + text(group.said, 300)
    look = _opener(group.chunk, f"Inspect chunk {group.chunk}")
    rows = store.fetch("event_traceback", group.event) if traced else []
    trace = tag("pre", block(rows[0][0], 2_200)) if rows and rows[0][0] else ""
    key = f"{clip(group.cause.step, 40)}/{clip(group.cause.type, 40)}/{clip(group.cause.message, 40)}"
    return tag("details", tag("summary", head), tag("p", look), trace, data_key=key)


# --- chunks left out ------------------------------------------------------------------------------


def _skips(store: Reader, instance: int, names: Sequence[str]) -> str:
    rows = store.fetch("skips_by_reason", instance)
    if not rows:
        return ""
    items = (
        tag(
            "li", f"» {count:,} in {text(names[step], 60)} — {text(said, 240) or 'no reason given'} ",
            _opener(chunk), dir="auto",
        )
        for step, said, count, chunk in rows
    )  # fmt: skip
    return tag("h4", "Chunks left out, by reason") + tag("ul", fitting(items, MOST // 6, _more("reasons", "skips")))

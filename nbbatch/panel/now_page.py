"""The markup of the panel's first tab: what workers are busy with. How long is counted on by the page."""

from __future__ import annotations

from nbbatch.base.states import CHUNK_OPEN, ChunkStatus, InstanceStatus
from nbbatch.engine.now import Running
from nbbatch.panel.snapshot import Snapshot
from nbbatch.pictures.chain_picture import StepFacts
from nbbatch.pictures.markup import tag, text

MOST_ROWS = 40
"""Attempts that are listed; of more, those that have run longest."""
COLUMNS = ("chunk", "step", "input", "since", "attempt", "worker")


def shown(running: tuple[Running, ...]) -> list[Running]:
    """Those that are listed, in order of their workers."""
    longest = sorted(running, key=lambda each: each.started_us)[:MOST_ROWS]
    return [each for each in running if each in longest]


def now_page(now: Snapshot) -> str:
    """The whole tab."""
    if not now.running:
        return tag("p", text(nothing(now), 400), class_="nbc-none")
    head = tag("tr", *(tag("th", each, scope="col", class_="n" if each == "attempt" else None) for each in COLUMNS))
    rows = shown(now.running)
    body = "".join(_row(now.steps[each.step], each) for each in rows)
    more = len(now.running) - len(rows)
    left = tag("p", f"… and {more:,} more, begun later: ", tag("code", "run.now()")) if more else ""
    caption = tag("caption", "What workers are busy with")
    return tag("table", caption, tag("thead", head), tag("tbody", body), class_="nbc-now") + left


def _row(step: StepFacts, each: Running) -> str:
    opener = tag(
        "button", str(each.chunk), type="button", data_chunk=each.chunk, aria_label=f"Inspect chunk {each.chunk}"
    )
    given = "" if each.given is None else tag("span", f" · {each.given:,} given so far")
    meter = tag("span", tag("i", " "), class_="nbc-meter", aria_hidden="true") if step.p95 else ""
    since = tag(
        "td", meter, tag("span", " ", class_="nbc-took"), given, class_="nbc-since", data_since=each.started_us // 1000,
        data_usual=None if step.median is None else repr(step.median), data_most=None if step.p95 is None else repr(step.p95),
    )  # fmt: skip
    return tag(
        "tr", tag("th", opener, scope="row"), tag("td", text(step.name, 60)),
        tag("td", tag("code", text(each.input or ("all there is" if step.kind == "reduction" else ""), 160) or " "), dir="auto"), since, tag("td", str(each.attempt), class_="n"),
        tag("td", text(each.worker, 40) or "none: waits for its sub-job"),
    )  # fmt: skip


def nothing(now: Snapshot) -> str:
    """Why nothing runs."""
    if now.ended:
        return "Nothing runs: the run has ended."
    if now.status is InstanceStatus.PAUSED:
        return "Nothing runs: the run is paused. Resume goes on."
    if not now.known:
        return "Nothing runs: the run waits for its job. Run the cell that submits it."
    handed = now.states.get(ChunkStatus.IN_PROGRESS, 0)
    if handed and not now.waits:
        return (
            f"{handed:,} chunk{'' if handed == 1 else 's'} handed to workers, which have not said yet that they began: "
            "worker processes take a moment to start, and those of a cluster tell of calls with a timeout= only."
        )
    return f"Nothing runs at this moment. {now.waits or _waiting(now)}".strip()


def _waiting(now: Snapshot) -> str:
    waits = {status: n for status, n in now.states.items() if status in CHUNK_OPEN - {ChunkStatus.IN_PROGRESS}}
    said = ", ".join(f"{count:,} {status.look.word}" for status, count in waits.items())
    return f"Chunks that wait: {said}." if said else ""

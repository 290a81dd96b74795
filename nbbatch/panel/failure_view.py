"""The Failures tab: failed chunks by cause with what can be done about each, errors of attempts, chunks left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

from nbbatch.heal.failures import FailureGroup
from nbbatch.panel.ledger import Failures
from nbbatch.panel.tabs import MOST
from nbbatch.pictures.markup import block, clip, fitting, tag, text
from nbbatch.store.database import Store

LOOKED = 2_000
"""Failed chunks that are grouped, the newest."""
SMALL = 1_000
"""Chunks of a group that a button retries or leaves out; larger ones are for ``run.failures()``."""
_TRACES = 3


def keyed(groups: Sequence[FailureGroup]) -> dict[str, FailureGroup]:
    """Groups under a name that is the same as long as their cause is."""
    return {f"{crc32(repr(group.cause).encode()):08x}": group for group in groups}


def reason(group: FailureGroup) -> str:
    """Why a group's chunks are left out when a button does it."""
    return clip(f"left out in the panel: {group.cause.type}: {group.cause.message}", 300)


def page(
    store: Store, instance: int, names: Sequence[str], groups: Mapping[str, FailureGroup], cannot: str,
    errors: Sequence[Failures],
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
    said = shown + _errors(store, names, errors, sum(map(len, groups.values()))) + _skips(store, instance, names)
    return said or tag("p", "✓ No attempt has ended in an error.", class_="nbc-none")


def _more(what: str, frame: str) -> str:
    return tag("p", f"… more {what} are in ", tag("code", f"run.{frame}()"))


# --- failed chunks, by cause ----------------------------------------------------------------------


def _group(store: Store, instance: int, key: str, group: FailureGroup, cannot: str) -> str:
    cause, count = group.cause, f"{len(group):,}"
    head = tag("h4", f"✗ {count} × {text(cause.type, 80)} in {text(cause.step, 60)}")
    said = tag("p", text(cause.message or group.message, 300), dir="auto", class_="nbc-said")
    line = tag("p", "raised by ", tag("code", text(cause.line, 160))) if cause.line else ""
    telling = group.traits if len(group) > 1 else []  # one input has everything in common with itself
    traits = "".join(tag("li", text(trait, 240), dir="auto") for trait in telling)
    told = tag("p", "What their inputs have in common:") + tag("ul", traits) if traits else ""
    return tag(
        "section",
        head,
        said,
        line,
        told,
        _actions(key, group, cannot),
        _trace(store, instance, group),
        class_="nbc-cause",
    )


def _actions(key: str, group: FailureGroup, cannot: str) -> str:
    these = "this chunk" if len(group) == 1 else f"these {len(group):,}"
    why = cannot or (f"more than {SMALL:,}: use run.failures()" if len(group) > SMALL else "")
    off = {"aria_disabled": "true", "title": why} if why else {}
    return tag(
        "p",
        tag("button", f"Inspect chunk {group.example}", type="button", data_chunk=group.example), " ",
        tag("button", f"Retry {these}", type="button", data_group=key, data_do="retry-group", **off), " ",
        tag("button", f"Skip {these}", type="button", data_group=key, data_do="skip-group", data_ask="yes", **off),
        class_="nbc-tools",
    )  # fmt: skip


def _trace(store: Store, instance: int, group: FailureGroup) -> str:
    rows = store.fetch("newest_traceback", instance, group.example)
    if not rows:
        return ""
    key = f"trace/{clip(group.cause.type, 40)}/{group.example}"
    return tag("details", tag("summary", "traceback"), tag("pre", block(rows[0][0], 2_200)), data_key=key)


# --- errors of attempts ---------------------------------------------------------------------------


def _errors(store: Store, names: Sequence[str], errors: Sequence[Failures], failed: int) -> str:
    count = sum(group.count for group in errors)
    if count == failed:  # all is told above
        return ""
    head = f"{count:,} attempt{'' if count == 1 else 's'} ended in an error{', those of mended chunks included' if failed else ''}"
    kinds = (_kind(store, names, each, place < _TRACES) for place, each in enumerate(errors))
    return tag("h4", head) + fitting(kinds, MOST // 3, _more("kinds", "errors"))


def _kind(store: Store, names: Sequence[str], group: Failures, traced: bool) -> str:
    where = f" in {text(names[group.step], 60)}" if group.step >= 0 else ""
    head = tag("b", f"↻ {group.count:,} × {text(group.type, 80)}") + where + " — " + text(group.said, 300)
    look = tag("button", f"Inspect chunk {group.chunk}", type="button", data_chunk=group.chunk)
    rows = store.fetch("event_traceback", group.event) if traced else []
    trace = tag("pre", block(rows[0][0], 2_200)) if rows and rows[0][0] else ""
    key = f"{group.step}/{clip(group.type, 40)}/{clip(group.said, 40)}"
    return tag("details", tag("summary", head), tag("p", look), trace, data_key=key)


# --- chunks left out ------------------------------------------------------------------------------


def _skips(store: Store, instance: int, names: Sequence[str]) -> str:
    rows = store.fetch("skips_by_reason", instance)
    if not rows:
        return ""
    items = (
        tag(
            "li", f"» {count:,} in {text(names[step], 60)} — {text(said, 240) or 'no reason given'} ",
            tag("button", str(chunk), type="button", data_chunk=chunk, aria_label=f"Inspect chunk {chunk}"), dir="auto",
        )
        for step, said, count, chunk in rows
    )  # fmt: skip
    return tag("h4", "Chunks left out, by reason") + tag("ul", fitting(items, MOST // 6, _more("reasons", "skips")))

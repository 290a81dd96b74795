"""Why chunks ran, or whose outputs they took: texts made of what a lookup has stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from nbbatch.base.rows import TYPES
from nbbatch.store import frames
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

REASONS = {
    "new": "new input", "dropped": "output dropped", "again": "asked to run again", "off": "never asked", "polled": "came of RetryLater",
    "source": "of another instance", "failed": "did not complete before",
}  # fmt: skip
"""What is said where nothing has changed that has a name."""


class Why(NamedTuple):
    """Why a chunk ran, as it is stored."""

    reason: str | None
    code: str | None
    code_before: str | None
    params: str | None
    params_before: str | None
    is_elsewhere: bool | None


def reuse(
    store: Reader, instance: int, step: str | None, chunk: int | None, limit: int | None, offset: int, at_us: int | None
) -> pl.DataFrame:
    """A row per chunk: reused, and of which one, or why it ran."""
    import polars as pl

    found = frames.of_instance(store, "reuse", instance, step, chunk, limit, offset, at_us)
    stored = list(Why._fields)
    kinds = found.select(stored).unique()
    parts = _parts(store, kinds)
    texts = {why: told(why, parts) for why in (Why(*row) for row in kinds.rows())}
    reasons = [texts[Why(*row)] for row in found.select(stored).iter_rows()]
    return found.drop(stored).with_columns(pl.Series("reason", reasons, dtype=pl.String))


def _parts(store: Reader, kinds: pl.DataFrame) -> dict[str, dict[str, str]]:
    codes = sorted({code for name in ("code", "code_before") for code in kinds[name].drop_nulls()})
    return {code: json.loads(parts) for code, parts in store.fetch("code_parts", codes)} if codes else {}


def told(why: Why, parts: Mapping[str, Mapping[str, str]]) -> str | None:
    """Why a chunk ran, in words; None: it did not, or not yet.

    >>> parts = {"a": {"fit": "1", "RATE": "2"}, "b": {"fit": "1", "RATE": "3", "clean": "4"}}
    >>> told(Why("code", "b", "a", "{}", "{}", False), parts)
    'code changed: clean, RATE'
    >>> told(Why("both", "b", "c", '{"rate": "1"}', '{"rate": "2"}', False), parts)
    'code changed; parameter changed: rate'
    >>> told(Why("parameter", "a", "a", "{}", "{}", True), parts), told(Why("new", "a", None, "{}", None, None), parts)
    ('where outputs go changed', 'new input')
    >>> told(Why("parameter", "a", "a", json.dumps({TYPES: "int -> int"}), json.dumps({TYPES: "int -> str"}), False), parts)
    'types changed'
    """
    if why.reason not in ("code", "parameter", "both"):
        return REASONS.get(why.reason or "")
    found: list[str] = []
    if why.reason != "parameter":
        found.append(_named("code changed", changed(parts.get(why.code_before or ""), parts.get(why.code or ""))))
    if why.reason != "code":
        names = changed(json.loads(why.params_before or "{}"), json.loads(why.params or "{}"))
        params = [name for name in names if name != TYPES]
        if params or not (names or why.is_elsewhere):
            found.append(_named("parameter changed", [name for name in params if name]))
        if TYPES in names:
            found.append("types changed")
        if why.is_elsewhere:
            found.append("where outputs go changed")
    return "; ".join(found)


def changed(before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> list[str]:
    """The names under which two have other digests; none where one of them is not known."""
    if before is None or after is None:
        return []
    return [name for name in sorted({*before, *after}, key=str.lower) if before.get(name) != after.get(name)]


def _named(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else what

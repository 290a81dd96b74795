"""Digests of big values that code refers to: tables, arrays, long texts. None is copied as a whole to be digested."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (values of user code are Any all the way down)

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

LONG = 10_000
"""Characters or bytes of a text that is told by its digest."""
_TABLES = {"numpy", "pandas", "polars", "pyarrow"}
"""Libraries whose values show only their first and last rows as text."""
_Seen = dict[int, tuple[Any, str]]
_seen: ContextVar[_Seen | None] = ContextVar("seen", default=None)


@contextmanager
def one_look() -> Generator[None]:
    """Digest each value once for all steps that are looked at here."""
    before = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(before)


def digest_of(value: Any) -> str:
    """A short text that is equal for equal tables, arrays and long texts; "" of anything else, and of those that have none."""
    kind: type = type(value)
    if kind in (str, bytes):
        return _told(value, _digest(value)) if len(value) > LONG else ""
    if kind.__module__.partition(".")[0] not in _TABLES:
        return ""
    seen = _seen.get()
    if seen is not None and id(value) in seen:
        return seen[id(value)][1]
    found = ""
    with suppress(Exception):  # what cannot be pickled is told by its text
        found = _told(value, _by_rows(value) or _by_parts(value))
    if seen is not None:
        seen[id(value)] = value, found
    return found


def _told(value: Any, digest: str) -> str:
    return f"<{type(value).__qualname__} {digest}>"


def _digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
    return found.hexdigest()[:12]


def _by_rows(value: Any) -> str:
    """Of a polars frame or series, whose pickle is a copy; "" of anything else, and where it holds Python objects."""
    kind: type = type(value)
    if kind.__module__.partition(".")[0] != "polars" or kind.__name__ not in ("DataFrame", "Series"):
        return ""
    frame = value if kind.__name__ == "DataFrame" else value.to_frame()
    if "Object" in str(frame.schema):
        return ""
    rows = frame.hash_rows(0).to_frame().write_ipc_stream(None)
    return _digest(f"{frame.schema} {frame.shape}", rows.getbuffer())


def _by_parts(value: Any) -> str:
    """By its pickle, with the memory of arrays left where it is."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return _digest(head, *(each.raw() for each in buffers))

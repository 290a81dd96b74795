"""Two stored values, field by field. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from nbbatch.values.codec import leaves


class Change(NamedTuple):
    """One field that differs; of a field that is missing, the text is None."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        shown = ["(none)" if each is None else each for each in (self.before, self.after)]
        return f"{self.path}: {shown[0]} → {shown[1]}"


def changes(before: bytes | None, after: bytes | None) -> list[Change]:
    """The fields in which two stored values differ, in order of their paths.

    >>> [str(each) for each in changes(b'{"a": 1, "b": [2]}', b'{"a": 1, "b": [3, 4]}')]
    ['b[0]: 2 → 3', 'b[1]: (none) → 4']
    """
    if before == after:
        return []
    old, new = fields(before), fields(after)
    return [
        Change(path or "value", old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


def listed(before: Sequence[bytes], after: Sequence[bytes]) -> list[Change]:
    """The differences of two lists of outputs, by place; a single output is named by its fields alone."""
    if len(before) <= 1 and len(after) <= 1:
        return changes(before[0] if before else None, after[0] if after else None)
    found: list[Change] = []
    for place in range(max(len(before), len(after))):
        old, new = (each[place] if place < len(each) else None for each in (before, after))
        found.extend(
            change._replace(path=f"[{place}]" if change.path == "value" else f"[{place}].{change.path}")
            for change in changes(old, new)
        )
    return found


def fields(data: bytes | None) -> dict[str, str]:
    """Every leaf and empty container of a stored value as JSON text, by path; of a frame, every column as text.

    >>> fields(b'{"a": null, "b": ["x"], "c": []}')
    {'a': 'null', 'b[0]': '"x"', 'c': '[]'}
    """
    if data is None:
        return {}
    if data.startswith(b"ARROW1"):
        return _columns(data)
    return {path: json.dumps(leaf, ensure_ascii=False) for path, leaf in leaves(json.loads(data), empty=True)}


def _columns(data: bytes) -> dict[str, str]:
    from nbbatch.values.codec import decode_frame

    frame: Any = decode_frame(data)
    return {column.name: f"{column.dtype}, {len(column)} rows: {column.to_list()!r:.500}" for column in frame}

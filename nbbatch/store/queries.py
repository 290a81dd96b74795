"""Every statement that the store runs, by name: read from ``sql/*.sql``, with the codes of states filled in.

A file is about one subject. In it a line ``-- name: sentence`` begins a query, whose text ends where the next one begins.
States stand by name: ``{COMPLETED}`` is the code of a chunk's state, ``{INSTANCE.COMPLETED}`` that of an instance's,
``{ENDED}`` a list of codes; `WORDS` has them all. All other values are bound, never formatted in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources

from nbbatch.base.states import (
    CHUNK_BY_CODE,
    CHUNK_DONE,
    CHUNK_ENDED,
    CHUNK_ERRORS,
    CHUNK_RETRIED,
    INSTANCE_ENDED,
    ChunkStatus,
    InstanceStatus,
)

_FOLDER = resources.files("nbbatch.store").joinpath("sql")


def _codes(statuses: Iterable[ChunkStatus | InstanceStatus]) -> str:
    return f"({', '.join(str(code) for code in sorted(status.code for status in statuses))})"


def _names(kind: type[ChunkStatus | InstanceStatus]) -> str:
    return str([status.value for status in sorted(kind, key=lambda status: status.code)])


WORDS = {
    **{status.name: str(status.code) for status in ChunkStatus},
    **{f"INSTANCE.{status.name}": str(status.code) for status in InstanceStatus},
    "NAMES": _names(ChunkStatus),
    "INSTANCE.NAMES": _names(InstanceStatus),
    "ENDED": _codes(CHUNK_ENDED),
    "DONE": _codes(CHUNK_DONE),
    "ERRORS": _codes(CHUNK_ERRORS),
    "RETRIED": _codes(CHUNK_RETRIED),
    "INSTANCE.ENDED": _codes(INSTANCE_ENDED),
    "CODES": str(sorted(each.code for each in ChunkStatus)),
    "SUM_EACH": ", ".join(f"coalesce(sum(n) FILTER (status = {code}), 0)" for code in sorted(CHUNK_BY_CODE)),
    "COUNT_COLUMNS": ", ".join(f"counts[{each.code}] AS {each.name.lower()}" for each in ChunkStatus),
    "ZERO_COLUMNS": ", ".join(f"0 AS {each.name.lower()}" for each in ChunkStatus),
    "NOW": str(2**63 - 1),
    "MOST_OUTPUTS": str(2**31),
}
"""What may stand in braces, and the text it becomes. NOW is the time of what is so at present: later than all others.
MOST_OUTPUTS is more than an attempt gives, however many records it says it had."""


def fill(text: str) -> str:
    """Put the codes of states in.

    >>> fill("status = {FAILED} OR status IN {DONE}")
    'status = 7 OR status IN (6, 8)'
    """
    return re.sub(r"\{([A-Z_.]+)\}", lambda found: WORDS[found[1]], text)


def _script(name: str) -> str:
    return fill(_FOLDER.joinpath(f"{name}.sql").read_text(encoding="utf-8"))


def _named(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^-- (\w+): .*$", text, flags=re.MULTILINE)
    return [(name, body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)]


_SUBJECTS = {file.name.removesuffix(".sql") for file in _FOLDER.iterdir() if file.name.endswith(".sql")}
SCHEMA, VIEWS = _script("schema"), _script("views")
QUERIES = {name: query for each in sorted(_SUBJECTS - {"schema", "views"}) for name, query in _named(_script(each))}
"""Query by name."""

OURS = {name.lower() for name in re.findall(r"^CREATE OR REPLACE (?:VIEW|MACRO) (\w+)", VIEWS, re.MULTILINE)}
"""Names of all views and macros."""

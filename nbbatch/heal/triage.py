"""Failed chunks, grouped by what is wrong. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

MAX_READ = 2_000
"""Characters of a message that are looked at."""
MAX_WORDS = 20
"""Different words at one place of a line's messages, above which they are data."""

_BLANKS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\(error \d+ of at most \d+\)"), ""),
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b"), "…"),
    (re.compile(r"(?<!\w)'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "…"),
    (re.compile(r"(?:[A-Za-z]:)?(?:/[\w.~-]+){2,}"), "…"),
    (re.compile(r"(?:[-+](?=\d))?\w+(?:[.,:]\d\w*)*"), lambda found: re.sub(r".*\d.*", "…", found[0])),
    (re.compile(r"\s+"), " "),
)
_RAISED = re.compile(
    r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)\n(?:    (?P<text>.+)\n)?', re.MULTILINE
)


class Failed(NamedTuple):
    """One failed chunk as it is stored."""

    chunk: int
    step: str
    ended: datetime
    type: str
    message: str
    traceback: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Cause:
    """What failures of one group share."""

    step: str
    type: str
    message: str
    """With numbers, quoted words and paths as "…"."""
    line: str
    """The source line that raised, after the function's name; "" where no line is known."""


def cause(failed: Failed) -> Cause:
    """What group a failure is in."""
    return Cause(failed.step, failed.type, normalised(failed.message), raising_line(failed.traceback))


def normalised(message: str) -> str:
    """An error's text without what differs from chunk to chunk.

    >>> normalised("row 17: could not convert 'n/a' to float  (error 4 of at most 4)")
    'row …: could not convert … to float'
    """
    message = message[:MAX_READ]
    for pattern, blank in _BLANKS:
        message = pattern.sub(blank, message)
    return message.strip()[:300]


def raising_line(traceback: str) -> str:
    r"""The innermost line of the user's own code: of a library's frames the last before them.

    >>> raising_line('Traceback:\n  File "cell.py", line 3, in price\n    return 1 / 0\n')
    'price: return 1 / 0'
    """
    frames = list(_RAISED.finditer(traceback))
    ours = [frame for frame in frames if not re.search(r"site-packages|/lib/python\d|<frozen", frame["file"])]
    if not frames:
        return ""
    last = (ours or frames)[-1]
    return f"{last['name']}: {(last['text'] or 'line ' + last['line']).strip()}"


def grouped(rows: Iterable[Failed]) -> dict[Cause, list[Failed]]:
    """Failures by cause, the largest group first."""
    found: dict[Cause, list[Failed]] = defaultdict(list)
    for row in rows:
        found[cause(row)].append(row)
    merged: dict[Cause, list[Failed]] = defaultdict(list)
    for alike in _worded_alike(found):
        for each, said in zip(alike, without_data([each.message for each in alike]), strict=True):
            merged[replace(each, message=said)].extend(found[each])
    return {each: sorted(rows) for each, rows in sorted(merged.items(), key=lambda item: -len(item[1]))}


def _worded_alike(causes: Iterable[Cause]) -> Iterable[list[Cause]]:
    """Causes that differ in the words of their messages only."""
    found: dict[tuple[str, str, str, int], list[Cause]] = defaultdict(list)
    for each in causes:
        found[each.step, each.type, each.line, len(each.message.split())].append(each)
    return found.values()


def without_data(messages: Sequence[str]) -> list[str]:
    """Messages of equally many words without the words that are another one in nearly each.

    >>> set(without_data([f"no customer {name}" for name in "abcdefghijklmnopqrstuvwxyz"]))
    {'no customer …'}
    """
    places = zip(*(message.split() for message in messages), strict=True)
    words = [each if len(set(each)) <= MAX_WORDS else ("…",) * len(messages) for each in places]
    return [" ".join(said) for said in zip(*words, strict=True)] if words else list(messages)


def first_and_last(rows: Sequence[Failed]) -> tuple[Any, Any]:
    """Times of the first and the last of them."""
    times = [row.ended for row in rows]
    return min(times), max(times)

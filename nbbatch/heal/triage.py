"""Failed chunks, grouped by what is wrong, and what their inputs have in common against the good ones. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from nbbatch.heal.compare import fields

MAX_TRAITS = 3
"""Traits told of a group."""
LEAST_SHARE = 0.9
"""A trait is one that at least this share of the failed inputs has …"""
MOST_SHARE = 0.5
"""… and at most this share of it, of the good ones."""

_BLANKS = (
    (re.compile(r"\(error \d+ of at most \d+\)"), ""),
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b"), "…"),
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "…"),
    (re.compile(r"(?:[A-Za-z]:)?(?:/[\w.~-]+){2,}"), "…"),
    (re.compile(r"[-+]?\d+(?:[.,:_]\d+)*"), "…"),
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


@dataclass(frozen=True, slots=True)
class Trait:
    """Something that failed inputs are and good ones are not."""

    text: str
    failed: int
    of_failed: int
    good: int
    of_good: int

    def __str__(self) -> str:
        verb = "have" if self.of_failed != 1 else "has"
        return (
            f"{self.failed:,} of {self.of_failed:,} {verb} {self.text}; "
            f"{self.good:,} of {self.of_good:,} good ones {'do' if self.of_good != 1 else 'does'}"
        )


def common_traits(failed: Sequence[bytes | None], good: Sequence[bytes | None]) -> list[Trait]:
    """What most failed inputs have in common and few good ones share, the most telling first, at most three.

    >>> [str(each) for each in common_traits([b'{"a": null}', b'{"a": null}'], [b'{"a": 1}', b'{"a": 2}'])]
    ['2 of 2 have a null; 0 of 2 good ones do']
    """
    bad, well = ([fields(data) for data in rows if data is not None] for rows in (failed, good))
    if not bad:
        return []
    counts = Counter(feature for row in bad for feature in features(row))
    common = {feature for feature, count in counts.items() if count >= LEAST_SHARE * len(bad)}
    among = Counter(feature for row in well for feature in features(row) if feature in common)
    traits = [Trait(feature, counts[feature], len(bad), among[feature], len(well)) for feature in common]
    traits += _ranges(bad, well)
    telling = [trait for trait in traits if trait.good <= MOST_SHARE * trait.failed / trait.of_failed * trait.of_good]
    telling.sort(
        key=lambda trait: (
            trait.good / max(1, trait.of_good) - trait.failed / trait.of_failed,
            _rank(trait.text),
            trait.text,
        )
    )
    return _distinct(telling)[:MAX_TRAITS] if well or len(bad) > 1 else []


def _rank(text: str) -> int:
    """Plain facts before derived ones."""
    kinds = (
        " null",
        " missing",
        " = ",
        " empty",
        " ending in ",
        " with a decimal comma",
        " not a number",
        " below ",
        " above ",
    )
    return next((place for place, kind in enumerate(kinds) if kind in text), len(kinds))


def _distinct(traits: Iterable[Trait]) -> list[Trait]:
    """The first trait of each field."""
    found: dict[str, Trait] = {}
    for trait in traits:
        found.setdefault(trait.text.split(" ")[0], trait)
    return list(found.values())


def features(row: dict[str, str]) -> set[str]:
    """What can be said of one input.

    >>> sorted(features({"path": '"a/b.csv.gz"', "size": "-1"}))
    ['path = "a/b.csv.gz"', 'path ending in .gz', 'path not a number', 'size = -1', 'size below 0']
    """
    found: set[str] = set()
    for path, text in row.items():
        name = re.sub(r"\[\d+\]", "[]", path) or "value"
        if len(text) <= 60:
            found.add(f"{name} null" if text == "null" else f"{name} = {text}")
        if text.startswith('"'):
            found |= _of_text(name, text[1:-1])
        elif text.startswith("-"):
            found.add(f"{name} below 0")
    return found


def _of_text(name: str, text: str) -> set[str]:
    if not text.strip():
        return {f"{name} empty"}
    found: set[str] = set()
    suffix = PurePosixPath(text).suffix
    if 1 < len(suffix) <= 6 and not suffix[1:].isdigit():
        found.add(f"{name} ending in {suffix}")
    if not re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", text):
        found.add(f"{name} not a number")
    if "," in text and re.fullmatch(r"\s*[-+]?\d[\d.]*,\d+\s*", text):
        found.add(f"{name} with a decimal comma")
    if not text.isascii():
        found.add(f"{name} not ASCII")
    return found


def _ranges(bad: list[dict[str, str]], well: list[dict[str, str]]) -> list[Trait]:
    """Numbers that lie beyond all good ones."""
    low, high = _numbers(bad), _numbers(well)
    found: list[Trait] = []
    for name, values in low.items():
        others = high.get(name)
        if not others or len(values) < LEAST_SHARE * len(bad):
            continue
        if min(values) > max(others):
            found.append(Trait(f"{name} above {max(others):g}", len(values), len(bad), 0, len(well)))
        elif max(values) < min(others):
            found.append(Trait(f"{name} below {min(others):g}", len(values), len(bad), 0, len(well)))
    return found


def _numbers(rows: list[dict[str, str]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for path, text in row.items():
            if re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", text):
                found[path or "value"].append(float(text))
    return found


def grouped(rows: Iterable[Failed]) -> dict[Cause, list[Failed]]:
    """Failures by cause, the largest group first."""
    found: dict[Cause, list[Failed]] = defaultdict(list)
    for row in rows:
        found[cause(row)].append(row)
    return dict(sorted(found.items(), key=lambda each: -len(each[1])))


def first_and_last(rows: Sequence[Failed]) -> tuple[Any, Any]:
    """Times of the first and the last of them."""
    times = [row.ended for row in rows]
    return min(times), max(times)

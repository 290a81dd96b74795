"""`JobHandle.failures`: failed chunks grouped by what is wrong, and what can be done about each group."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nbbatch.base.times import time_of
from nbbatch.heal.traits import Good, Trait
from nbbatch.pictures.markup import Listed
from nbbatch.store.frames import check_page
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")

MAX_GOOD = 20_000
"""Good inputs that a group is compared with, at most."""
MAX_FAILED = 100_000
"""Failed chunks that are looked at."""
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


def cause(step: str, kind: str, message: str, traceback: str) -> Cause:
    """What group a failure is in."""
    return Cause(step, kind, normalised(message), raising_line(traceback))


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
    """Group failures by cause, the largest group first."""
    found: dict[Cause, list[Failed]] = defaultdict(list)
    for row in rows:
        found[cause(row.step, row.type, row.message, row.traceback)].append(row)
    groups = alike(found)
    return {each: sorted(members) for each, members in sorted(groups.items(), key=lambda item: -len(item[1]))}


def alike(causes: Mapping[Cause, Iterable[T]]) -> dict[Cause, list[T]]:
    """Merge causes that differ only in words that are data."""
    worded: dict[tuple[str, str, str, int], list[Cause]] = defaultdict(list)
    for each in causes:
        worded[each.step, each.type, each.line, len(each.message.split())].append(each)
    merged: dict[Cause, list[T]] = defaultdict(list)
    for similar in worded.values():
        for each, said in zip(similar, without_data([each.message for each in similar]), strict=True):
            merged[replace(each, message=said)].extend(causes[each])
    return merged


def without_data(messages: Sequence[str]) -> list[str]:
    """Messages of equally many words without the words that are another one in nearly each.

    >>> set(without_data([f"no customer {name}" for name in "abcdefghijklmnopqrstuvwxyz"]))
    {'no customer …'}
    """
    places = zip(*(message.split() for message in messages), strict=True)
    words = [each if len(set(each)) <= MAX_WORDS else ("…",) * len(messages) for each in places]
    return [" ".join(said) for said in zip(*words, strict=True)] if words else list(messages)


# --- groups and what can be done about them -------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class FailureGroup:
    """Failed chunks with the same cause.

    Attributes:
        cause: Step, exception type, normalised message and raising line.
        ids: The chunks, in order.
        first: Time of the first failure.
        last: Time of the last failure.
        traits: What their inputs have in common, compared with COMPLETED chunks; the most significant first.
        example: Id of one of them: ``run.chunk(group.example)``.
        message: The error text of the example.
    """

    cause: Cause
    ids: list[int] = field(repr=False)
    first: Any
    last: Any
    traits: list[Trait]
    message: str
    _actions: Actions = field(repr=False)

    @property
    def example(self) -> int:
        """Id of the first chunk of the group."""
        return self.ids[0]

    def chunks(self) -> pl.DataFrame:
        """The chunks of the group, with the columns of `JobHandle.chunks`.

        Raises:
            StoreClosed: The batch is closed.
        """
        return self._actions.chunks(self.ids)

    def retry(self, job: Any = None, *, params: Any = None, quiet: bool = False) -> Any:
        """Run only the chunks of this group again. Arguments, result and errors as for `JobHandle.retry`."""
        return self._actions.retry(job, params, self.ids, quiet)

    def skip(self, reason: str) -> Any:
        """Skip the chunks of this group and record the reason. Result and errors as for `JobHandle.skip`.

        A FAILED instance in which nothing else failed continues to its end, once its job is known.
        """
        return self._actions.skip(self.ids, reason)

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        head = f"{len(self):,} × {self.cause.type}: {self.cause.message}  [{self.cause.step}, {self.cause.line}]"
        example = f"for example chunk {self.example}: {self.message[:200]}"
        return "\n    ".join([head, *map(str, self.traits), example])

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Actions:
    """The methods of a run that a group calls."""

    chunks: Callable[[list[int]], Any]
    retry: Callable[[Any, Any, list[int] | None, bool], Any]
    skip: Callable[[list[int], str], Any]


class Failures(Listed[FailureGroup]):
    """Groups of failed chunks, the largest first."""

    def frame(self) -> pl.DataFrame:
        """One row per group.

        Columns: step, error_type, message, line, count, first, last, example (chunk id), traits (text).
        """
        import polars as pl

        rows = [
            (
                each.cause.step, each.cause.type, each.cause.message, each.cause.line, len(each), each.first, each.last,
                each.example, "; ".join(map(str, each.traits)),
            )
            for each in self
        ]  # fmt: skip
        text, time = pl.String, pl.Datetime("us", "UTC")
        schema = {
            "step": text, "error_type": text, "message": text, "line": text, "count": pl.Int64, "first": time, "last": time,
            "example": pl.Int64, "traits": text,
        }  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        total = sum(map(len, self))
        if not total:
            return "nothing failed"
        chunks, causes = ("" if n == 1 else "s" for n in (total, len(self)))
        return "\n".join([f"{total:,} failed chunk{chunks}, {len(self)} cause{causes}", *map(str, self)])


def failures(store: Reader, instance: int, actions: Actions, limit: int | None = MAX_FAILED) -> Failures:
    """The failed chunks of an instance, grouped; at most the newest ``limit`` (None: all).

    Raises:
        ValueError: ``limit`` is not a number of chunks.
    """
    check_page(limit)
    found = store.fetch("failed_chunks", instance, limit)
    rows = [Failed(chunk, step, time_of(ended), *rest) for chunk, step, ended, *rest in found]
    good: dict[str, Good] = {}
    groups: list[FailureGroup] = []
    for cause, members in grouped(rows).items():
        if cause.step not in good:
            found = store.fetch(
                "good_inputs", instance, cause.step, MAX_GOOD if limit is None else min(limit, MAX_GOOD)
            )
            good[cause.step] = Good([data for (data,) in found])
        traits = good[cause.step].against([row.data for row in members])
        ended = [row.ended for row in members]
        chunks = [row.chunk for row in members]
        groups.append(FailureGroup(cause, chunks, min(ended), max(ended), traits, members[0].message, actions))
    return Failures(groups)

"""`JobHandle.failures`: failed chunks grouped by what is wrong, and what can be done about each group."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nbbatch.base.display import plural
from nbbatch.base.rows import HEAD_CHARS
from nbbatch.base.times import time_of
from nbbatch.heal.inputs import briefs, short
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
MAX_KINDS = 5_000
"""Kinds of messages that are told apart; what is rarer counts with others of its line."""
MAX_INPUTS = 2_000
"""Failed inputs of a group that are looked at, evenly chosen …"""
MAX_ALL_INPUTS = 10_000
"""… and of all groups …"""
MAX_BYTES = 30_000_000
"""… and about how much they and the good ones may hold."""
SOME = 200
"""Inputs whose size is looked at first."""
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


class Kind(NamedTuple):
    """Failed chunks of one line that say the same but for numbers and what is quoted."""

    step: str
    type: str
    raised: str
    head: str
    """The beginning of what the first of them says."""
    chunks: list[int]
    first_us: int
    last_us: int
    is_rest: bool = False
    """Whether it is many kinds that are told apart no more."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What failures of one group share."""

    step: str
    type: str
    message: str
    """With numbers, quoted words and paths as "…"."""
    line: str
    """The source line that raised, after the function's name; "" where no line is known."""


def cause(step: str, kind: str, head: str, raised: str) -> Cause:
    """What group a failure is in."""
    return Cause(step, kind, normalised(head), raised)


def normalised(message: str) -> str:
    """An error's text without what differs from chunk to chunk.

    >>> normalised("row 17: could not convert 'n/a' to float  (error 4 of at most 4)")
    'row …: could not convert … to float'
    """
    message = message[:HEAD_CHARS]
    for pattern, blank in _BLANKS:
        message = pattern.sub(blank, message)
    return message.strip()[:300]


def grouped(kinds: Iterable[Kind]) -> dict[Cause, list[Kind]]:
    """Group failures by cause, the largest group first."""
    found: dict[Cause, list[Kind]] = defaultdict(list)
    rest: list[Kind] = []
    for kind in kinds:
        rest.append(kind) if kind.is_rest else found[cause(kind.step, kind.type, kind.head, kind.raised)].append(kind)
    groups = alike(found)
    for kind in rest:
        theirs = [each for each in groups if (each.step, each.type, each.line) == (kind.step, kind.type, kind.raised)]
        most = max(theirs, key=lambda each: _size(groups[each]), default=Cause(kind.step, kind.type, "…", kind.raised))
        groups.setdefault(most, []).append(kind)
    return dict(sorted(groups.items(), key=lambda item: -_size(item[1])))


def _size(kinds: Iterable[Kind]) -> int:
    return sum(len(kind.chunks) for kind in kinds)


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
        message: The beginning of the error text of the example.
        input: The input of the example in a few words; "" if it is the parameters.
    """

    cause: Cause
    ids: list[int] = field(repr=False)
    first: Any
    last: Any
    traits: list[Trait]
    message: str
    input: str
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
        where = ", ".join(filter(None, (self.cause.step, self.cause.line)))  # a lost worker left no line
        head = f"{len(self):,} × {self.cause.type}: {self.cause.message}  [{where}]"
        given = f" ({self.input})" if self.input else ""
        example = f"for example chunk {self.example}{given}: {self.message[:200]}"
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

        Columns: step, error_type, message, line, count, first, last, example (chunk id), input (of the
        example, in a few words), traits (text).
        """
        import polars as pl

        rows = [
            (
                each.cause.step, each.cause.type, each.cause.message, each.cause.line, len(each), each.first, each.last,
                each.example, each.input, "; ".join(map(str, each.traits)),
            )
            for each in self
        ]  # fmt: skip
        text, time = pl.String, pl.Datetime("us", "UTC")
        schema = {
            "step": text, "error_type": text, "message": text, "line": text, "count": pl.Int64, "first": time, "last": time,
            "example": pl.Int64, "input": text, "traits": text,
        }  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        total = sum(map(len, self))
        if not total:
            return "nothing failed"
        return "\n".join([f"{plural(total, 'failed chunk')}, {plural(len(self), 'cause')}", *map(str, self)])


def failures(store: Reader, instance: int, actions: Actions, limit: int | None = MAX_FAILED) -> Failures:
    """The failed chunks of an instance, grouped; at most the newest ``limit`` (None: all).

    Raises:
        ValueError: ``limit`` is not a number of chunks.
    """
    check_page(limit)
    causes = grouped(Kind(*row) for row in store.fetch("failed_kinds", instance, limit, MAX_KINDS))
    traits = _Traits(store, instance, MAX_GOOD if limit is None else min(limit, MAX_GOOD))
    told = briefs(store, instance, [min(kind.chunks[0] for kind in kinds) for kinds in causes.values()])
    inputs = {chunk: short(each.input) for chunk, each in told.items()}
    return Failures(_group(cause, kinds, traits, inputs, actions) for cause, kinds in causes.items())


def _group(
    cause: Cause, kinds: list[Kind], traits: _Traits, inputs: Mapping[int, str], actions: Actions
) -> FailureGroup:
    chunks = sorted(chunk for kind in kinds for chunk in kind.chunks)
    first, last = min(kind.first_us for kind in kinds), max(kind.last_us for kind in kinds)
    message = min(kinds, key=lambda kind: kind.chunks[0]).head
    common, given = traits.of(cause.step, chunks), inputs.get(chunks[0], "")
    return FailureGroup(cause, chunks, time_of(first), time_of(last), common, message, given, actions)


class _Traits:
    """Compares inputs of failed chunks with good ones of their step, and reads no more than there is room for."""

    def __init__(self, store: Reader, instance: int, most: int) -> None:
        self._store, self._instance, self._most = store, instance, most
        self._left = MAX_ALL_INPUTS
        self._good: dict[str, Good] = {}

    def of(self, step: str, chunks: Sequence[int]) -> list[Trait]:
        """What the inputs of chunks have in common; nothing once as many were looked at as there is time for."""
        if self._left <= 0:
            return []
        if step not in self._good:
            self._good[step] = Good(
                self._within(lambda most: self._store.fetch("good_inputs", self._instance, step, most), self._most)
            )
        failed = self._within(
            lambda most: self._store.fetch("inputs", self._instance, _spread(chunks, most)), min(MAX_INPUTS, self._left)
        )
        self._left -= len(failed)
        return self._good[step].against(failed)

    def _within(self, read: Callable[[int], Sequence[tuple[bytes | None]]], most: int) -> list[bytes | None]:
        """As many inputs as have room, by the size of some of them."""
        some = [data for (data,) in read(min(most, SOME))]
        size = sum(len(data or b"") for data in some) / max(1, len(some))
        more = min(most, int(MAX_BYTES / max(1.0, size)))
        return some if len(some) < SOME or more <= SOME else [data for (data,) in read(more)]


def _spread(chunks: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly chosen.

    >>> _spread([1, 2, 3, 4, 5], 2)
    [1, 3]
    """
    return [chunks[place * len(chunks) // most] for place in range(most)] if len(chunks) > most else list(chunks)

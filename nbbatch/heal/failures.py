"""`JobHandle.failures`: groups of failed chunks, and what can be done about each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, overload

from nbbatch.base.times import time_of
from nbbatch.heal.traits import Good, Trait
from nbbatch.heal.triage import Cause, Failed, first_and_last, grouped
from nbbatch.store.database import Store
from nbbatch.store.frames import check_page

if TYPE_CHECKING:
    import polars as pl

MAX_GOOD = 20_000
"""Good inputs that a group is compared with, at most."""
MAX_FAILED = 100_000
"""Failed chunks that are looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class FailureGroup:
    """Failed chunks of one cause.

    Attributes:
        cause: Step, exception type, normalised message and raising line.
        ids: The chunks, in order.
        first, last: When the first and the last of them failed.
        traits: What their inputs have in common against the good ones, the most telling first.
        example: Id of one of them: ``run.chunk(group.example)``.
        message: The example's own error text.
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
        """Its chunks; columns as in `JobHandle.chunks`."""
        return self._actions.chunks(self.ids)

    def retry(self, job: Any = None, *, params: Any = None, quiet: bool = False) -> Any:
        """Run these chunks again, no others; arguments, result and errors as `JobHandle.retry`."""
        return self._actions.retry(job, params, self.ids, quiet)

    def skip(self, reason: str) -> Any:
        """Leave these chunks out for a reason; a FAILED instance with nothing else failed goes on to its end, once its job is known.

        Result and errors as `JobHandle.skip`.
        """
        return self._actions.skip(self.ids, reason)

    def __len__(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        head = f"{len(self):,} × {self.cause.type}: {self.cause.message}  [{self.cause.step}, {self.cause.line}]"
        return "\n".join(
            [
                head,
                *(f"    {trait}" for trait in self.traits),
                f"    for example chunk {self.example}: {self.message[:200]}",
            ]
        )

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Actions:
    """What a group can ask of its run."""

    chunks: Callable[[list[int]], Any]
    retry: Callable[[Any, Any, list[int] | None, bool], Any]
    skip: Callable[[list[int], str], Any]


class Failures(Sequence[FailureGroup]):
    """Groups of failed chunks, the largest first."""

    def __init__(self, groups: Sequence[FailureGroup]) -> None:
        self._groups = list(groups)

    @overload
    def __getitem__(self, index: int) -> FailureGroup: ...
    @overload
    def __getitem__(self, index: slice) -> list[FailureGroup]: ...
    def __getitem__(self, index: int | slice) -> FailureGroup | list[FailureGroup]:
        return self._groups[index]

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[FailureGroup]:
        return iter(self._groups)

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

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{escape(repr(self))}</pre>'


def failures(store: Store, instance: int, actions: Actions, limit: int | None = MAX_FAILED) -> Failures:
    """The failed chunks of an instance, grouped; of more than ``limit`` (None: all) the newest.

    Raises:
        ValueError: ``limit`` is no number of chunks.
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
        first, last = first_and_last(members)
        groups.append(
            FailureGroup(cause, [row.chunk for row in members], first, last, traits, members[0].message, actions)
        )
    return Failures(groups)

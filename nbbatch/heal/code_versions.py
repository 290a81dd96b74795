"""The versions of a step's code that ran: fingerprints, source, and the changes between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from nbbatch.base.display import plural
from nbbatch.base.times import time_of
from nbbatch.pictures.markup import Listed, pre
from nbbatch.store.reading import Reader


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a step's code that ran in an instance."""

    fingerprint: str
    source: str = field(repr=False)
    """What the step reaches in its module or notebook, then the step itself."""
    first: datetime
    last: datetime
    attempts: int
    completed: int
    failed: int

    def __str__(self) -> str:
        return (
            f"{self.fingerprint[:4]}: {self.attempts:,} attempts, {self.completed:,} completed, {self.failed:,} failed"
        )


class Versions(Listed[Version]):
    """The versions of a step's code, oldest first."""

    def __init__(self, step: str, versions: Sequence[Version]) -> None:
        super().__init__(versions)
        self.step = step

    def diff(self, old: int = -2, new: int = -1) -> str:
        """The changes from one version to another as a unified diff; "" if there is only one version.

        Args:
            old: Index of the earlier version; default: the last but one.
            new: Index of the later version; default: the last.

        Raises:
            IndexError: There is no such version.
        """
        return self._changes(self[old], self[new]) if len(self) > 1 else ""

    def since(self, earlier: Versions) -> str:
        """The changes from the newest code of another run to that of this one, as a unified diff; "" if neither has another.

        Why a step did not reuse what an earlier run had: ``run.code("price").since(before.code("price"))``.

        Args:
            earlier: The versions of the step in the other run.
        """
        return self._changes(earlier[-1], self[-1]) if self and earlier else ""

    def _changes(self, before: Version, after: Version) -> str:
        import difflib

        lines = difflib.unified_diff(
            before.source.splitlines(), after.source.splitlines(),
            f"{self.step} {before.fingerprint[:4]}", f"{self.step} {after.fingerprint[:4]}", lineterm="",
        )  # fmt: skip
        return "\n".join(lines)

    def __repr__(self) -> str:
        if not self:
            return f"step {self.step} has not run yet"
        lines = [f"step {self.step}, {plural(len(self), 'version')} of its code"]
        lines += [f"  {version}" for version in self]
        return "\n".join([*lines, *([self.diff()] if len(self) > 1 else [])])

    def _repr_html_(self) -> str:
        source = f"<details><summary>source</summary>{pre(self[-1].source)}</details>" if self else ""
        return super()._repr_html_() + source


def versions(store: Reader, instance: int, index: int, step: str) -> Versions:
    """The versions of a step that ran in an instance."""
    rows = store.fetch("code_versions", instance, index)
    return Versions(
        step,
        [
            Version(code, source or "", time_of(first), time_of(last), *rest)
            for code, source, first, last, *rest in rows
        ],
    )

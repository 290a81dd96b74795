"""The facts that a page of a run leads with, in the order and the words in which a panel, a plain page and a text all have them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nbbatch.base.states import STACKED, ChunkStatus
from nbbatch.pictures.markup import tag, text

NONE = "–"
"""What stands for a figure that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure with what it is of."""

    label: str
    value: str
    note: str = ""
    key: str = ""
    """What it is told apart by: "failed", "report" …"""
    opens: str = ""
    """The tab that has more of it; "" for none."""
    bad: bool = False
    at_us: int | None = None
    """The moment that ``{at}`` stands for in value or note: a live page shows it in the reader's own zone."""
    line: Sequence[float] = ()
    """How it was in the last minutes."""

    def worded(self, part: str) -> str:
        """``value`` or ``note``, the moment in it as a page that is kept says it."""
        return part if self.at_us is None else part.replace("{at}", clock(self.at_us))

    @property
    def told(self) -> dict[str, Any]:
        """As a live page gets it."""
        parts = {name: getattr(self, name) for name in ("label", "value", "note", "key", "opens", "bad")}
        moment = {} if self.at_us is None else {"at": self.at_us // 1000}
        line = {"line": [round(each, 2) for each in self.line]} if len(self.line) > 1 else {}
        return {**parts, **moment, **line}


def as_text(facts: Sequence[Fact]) -> str:
    """Facts on one line.

    >>> as_text([Fact(label="Done", value="617", note="of 906"), Fact(label="Failed", value="7")])
    'Done 617 of 906 · Failed 7'
    """
    return " · ".join(f"{each.label} {each.worded(each.value)} {each.worded(each.note)}".strip() for each in facts)


def as_html(facts: Sequence[Fact]) -> str:
    """Facts as a table of one row that needs no style: what a saved notebook shows."""
    heads = "".join(tag("th", text(each.label), scope="col", align="left", style="text-align:left") for each in facts)
    row = "".join(_cell(each) for each in facts)
    style = "border-collapse:collapse;color:inherit;background:transparent"
    return (
        f'<table cellpadding="4" style="{style}"><thead><tr>{heads}</tr></thead><tbody><tr>{row}</tr></tbody></table>'
    )


def _cell(fact: Fact) -> str:
    value = tag("span", text(fact.worded(fact.value), 300), style="font-size:1.25em;font-weight:600")
    note = f" {text(fact.worded(fact.note))}" if fact.note else ""
    return tag("td", value + note, dir="auto", align="left", style="text-align:left;vertical-align:top")


def by_state(counts: Mapping[ChunkStatus, int]) -> str:
    """Chunks by state in words, in the order of bars.

    >>> by_state({ChunkStatus.COMPLETED: 617, ChunkStatus.FAILED: 7})
    '617 completed, 7 failed'
    """
    return ", ".join(f"{counts[status]:,} {status.look.word}" for status in STACKED if counts.get(status))


def clock(us: int) -> str:
    """A moment of the day; with its date it stands elsewhere on the page.

    >>> clock(47_000_000_000)
    '13:03 UTC'
    """
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%H:%M} UTC"


def share(part: float) -> str:
    """A share in hundredths, never rounded up to all of it.

    >>> share(0.0), share(0.999), share(1)
    ('0 %', '99 %', '100 %')
    """
    return f"{int(100 * part + 1e-9)} %"

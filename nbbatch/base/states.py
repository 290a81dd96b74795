"""The states of chunks and instances: what each is, how it is stored, told and drawn, and where it may lead.

SQL (see `nbbatch.store.queries`), pictures, pages, the panel's JavaScript and CSS, and the drawing in the docs are all made
from these tables: no other file has a list of states, or their codes, words or colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Never, Self


class Look(NamedTuple):
    """How people meet a state: a word, a glyph, a colour and a pattern, so that none is told by colour alone."""

    word: str
    glyph: str
    colour: str
    """With a contrast of at least 3 : 1 on white and on #111, so that one set serves light and dark pages."""
    pattern: str = ""
    """Path drawn over the colour, in a tile of 6 by 6; "" for a plain fill."""
    quiet: bool = False
    """Whether bars on a page show it faded: what is still to come is no news."""

    @property
    def named(self) -> str:
        """Glyph and word."""
        return f"{self.glyph} {self.word}"


GREEN: Final = "#2c9a5b"
BLUE: Final = "#3b82f6"
AMBER: Final = "#c2750c"
VIOLET: Final = "#8b5cf6"
GREY: Final = "#7d8590"
RED: Final = "#e0434b"


class _Status(str, Enum):
    """A state that is its own name as text."""

    code: int
    """The small integer the store keeps, as DuckDB's enums cannot grow; it is never given to another state."""
    look: Look

    def __new__(cls, text: str, code: int, look: Look) -> Self:
        member = str.__new__(cls, text)
        member._value_ = text
        member.code = code
        member.look = look
        return member

    def __str__(self) -> str:
        return self.value

    @classmethod
    def _missing_(cls, value: object) -> Never:
        raise ValueError(f"there is no state {value!r}; there are {', '.join(cls)}")


class ChunkStatus(_Status):
    """State of one work chunk.

    Example:
        >>> failed.chunk(10).status == nb.ChunkStatus.FAILED == "FAILED"
        True
    """

    QUEUED = "QUEUED", 1, Look("queued", "○", GREY, "M2 3h2", quiet=True)
    """Ready to be claimed."""
    GATE_WAITING = "GATE_WAITING", 2, Look("waiting at a gate", "‖", GREY, "M1.5 0v6M4.5 0v6", quiet=True)
    """Its step is gated and the step before is not wholly done."""
    IN_PROGRESS = "IN_PROGRESS", 3, Look("in progress", "▶", BLUE, "M-1 7L7 -1M-1 1L1 -1M5 7L7 5")
    """Claimed; a worker has it or will have it at once."""
    POLL_WAITING = "POLL_WAITING", 4, Look("waiting to poll", "◷", VIOLET, "M1.5 3h3M3 1.5v3")
    """The step raised RetryLater; it is claimed again when its time comes."""
    ERRORED = "ERRORED", 5, Look("waiting to retry", "↻", AMBER, "M0 6L3 0L6 6")
    """The last attempt failed; it is claimed again when its backoff is over."""
    COMPLETED = "COMPLETED", 6, Look("completed", "✓", GREEN)
    """Done; its outputs were stored in the same transaction."""
    FAILED = "FAILED", 7, Look("failed", "✗", RED, "M0 0L6 6M6 0L0 6")
    """Out of attempts, or failed by an error that a retry cannot mend."""
    SKIPPED = "SKIPPED", 8, Look("skipped", "»", GREEN, "M0 1.5h6M0 4.5h6")
    """Left out, with a reason, by hand or by its step; gates count it as done."""
    CANCELLED = "CANCELLED", 9, Look("cancelled", "■", GREY, "M0 0h6v6h-6zM1.5 1.5h3v3h-3z")
    """Its instance was cancelled before it ended."""


class InstanceStatus(_Status):
    """State of one job instance.

    Example:
        >>> run.status, run.status == "COMPLETED"
        (<InstanceStatus.COMPLETED: 'COMPLETED'>, True)
    """

    QUEUED = "QUEUED", 1, Look("queued", "○", GREY)
    """Stored; no chunk was claimed yet."""
    IN_PROGRESS = "IN_PROGRESS", 2, Look("running", "▶", BLUE)
    """Chunks run or wait, none in trouble."""
    ERRORED = "ERRORED", 3, Look("running, with errors", "▶", AMBER)
    """Work goes on, and at least one chunk is ERRORED or FAILED."""
    PAUSED = "PAUSED", 4, Look("paused", "‖", VIOLET)
    """Nothing new is claimed until resume()."""
    FINALIZE = "FINALIZE", 5, Look("running its reduction", "▶", BLUE)
    """The reduction runs."""
    COMPLETED = "COMPLETED", 6, Look("completed", "✓", GREEN)
    """Every chunk ended well and the report, if any, is stored."""
    FAILED = "FAILED", 7, Look("failed", "✗", RED)
    """Nothing more can run and a failure is over budget."""
    CANCELLED = "CANCELLED", 8, Look("cancelled", "■", GREY)
    """Cancelled by hand."""


WAITS_FOR_JOB: Final = Look("waiting for its job", "◷", AMBER)
"""An unfinished instance whose job this process does not know."""


def standing(status: InstanceStatus, *, known: bool = True, failed: int = 0, since: str = "") -> str:
    """How an instance stands, in the words of people: what a panel, a plain page, an overview and a terminal say.

    Args:
        status: Its state.
        known: Whether its job is known where it would run.
        failed: Chunks that are FAILED.
        since: When it was paused.

    >>> standing(InstanceStatus.ERRORED, failed=7), standing(InstanceStatus.COMPLETED, failed=1_038)
    ('running, 7 failed', 'completed, 1,038 failed')
    >>> standing(InstanceStatus.PAUSED, since="13:02"), standing(InstanceStatus.IN_PROGRESS, known=False)
    ('paused since 13:02', 'waiting for its job')
    """
    word = status.look.word if known else WAITS_FOR_JOB.word
    word += f" since {since}" if since and status is InstanceStatus.PAUSED and known else ""
    if not failed or status is InstanceStatus.FAILED:
        return word
    return f"{word.partition(', ')[0]}, {failed:,} failed"


_C = ChunkStatus
_I = InstanceStatus

CHUNK_TRANSITIONS: dict[ChunkStatus, frozenset[ChunkStatus]] = {
    _C.QUEUED: frozenset({_C.IN_PROGRESS, _C.GATE_WAITING, _C.SKIPPED, _C.CANCELLED}),
    _C.GATE_WAITING: frozenset({_C.QUEUED, _C.SKIPPED, _C.CANCELLED}),
    _C.IN_PROGRESS: frozenset(
        {_C.COMPLETED, _C.ERRORED, _C.FAILED, _C.SKIPPED, _C.POLL_WAITING, _C.QUEUED, _C.GATE_WAITING, _C.CANCELLED}
    ),
    _C.POLL_WAITING: frozenset({_C.QUEUED, _C.IN_PROGRESS, _C.SKIPPED, _C.CANCELLED}),
    _C.ERRORED: frozenset({_C.QUEUED, _C.IN_PROGRESS, _C.SKIPPED, _C.CANCELLED}),
    _C.COMPLETED: frozenset(),
    _C.FAILED: frozenset({_C.QUEUED, _C.GATE_WAITING, _C.SKIPPED}),
    _C.SKIPPED: frozenset(),
    _C.CANCELLED: frozenset({_C.QUEUED, _C.GATE_WAITING}),
}
"""From each chunk state to the states it may go to. Back to QUEUED: a gate opens, an orphan is recovered, a retry; to
GATE_WAITING instead, while the gate of its step is shut, as it is again once a step before has something to do again."""

STACKED: Final = (
    _C.COMPLETED, _C.SKIPPED, _C.IN_PROGRESS, _C.ERRORED, _C.POLL_WAITING, _C.QUEUED, _C.GATE_WAITING, _C.CANCELLED, _C.FAILED,
)  # fmt: skip
"""Chunk states in the order in which bars and areas are stacked and legends listed."""

_WORKING = {_I.QUEUED, _I.IN_PROGRESS, _I.ERRORED, _I.FINALIZE}

INSTANCE_TRANSITIONS: dict[InstanceStatus, frozenset[InstanceStatus]] = {
    _I.QUEUED: frozenset({_I.IN_PROGRESS, _I.PAUSED, _I.FAILED, _I.CANCELLED}),
    _I.IN_PROGRESS: frozenset({_I.ERRORED, _I.PAUSED, _I.FINALIZE, _I.COMPLETED, _I.FAILED, _I.CANCELLED}),
    _I.ERRORED: frozenset({_I.IN_PROGRESS, _I.PAUSED, _I.FINALIZE, _I.COMPLETED, _I.FAILED, _I.CANCELLED}),
    _I.PAUSED: frozenset(_WORKING | {_I.COMPLETED, _I.FAILED, _I.CANCELLED}),
    _I.FINALIZE: frozenset({_I.IN_PROGRESS, _I.ERRORED, _I.PAUSED, _I.COMPLETED, _I.FAILED, _I.CANCELLED}),
    _I.COMPLETED: frozenset({_I.IN_PROGRESS}),
    _I.FAILED: frozenset({_I.IN_PROGRESS}),
    _I.CANCELLED: frozenset({_I.IN_PROGRESS}),
}
"""From each instance state to the states it may go to. retry() and rerun() lead out of an end."""

CHUNK_ENDED = frozenset({_C.COMPLETED, _C.FAILED, _C.SKIPPED, _C.CANCELLED})
"""Chunks in these states are not claimed again by themselves."""
CHUNK_OPEN = frozenset(_C) - CHUNK_ENDED
"""Chunks in these states have something before them."""
CHUNK_DONE = frozenset({_C.COMPLETED, _C.SKIPPED})
"""What a gate counts as done."""
CHUNK_ERRORS = frozenset({_C.ERRORED, _C.FAILED})
"""What an attempt that ended in an error leaves its chunk in."""
CHUNK_RETRIED = frozenset({_C.FAILED, _C.CANCELLED})
"""What a retry of an ended instance takes up again."""
INSTANCE_ENDED = frozenset({_I.COMPLETED, _I.FAILED, _I.CANCELLED})
"""Instances in these states run no more by themselves."""

INSTANCE_GROUPS: Final = {
    "running": (_I.IN_PROGRESS, _I.ERRORED, _I.FINALIZE), "failed": (_I.FAILED,), "paused": (_I.PAUSED,), "queued": (_I.QUEUED,),
    "completed": (_I.COMPLETED,), "cancelled": (_I.CANCELLED,),
}  # fmt: skip
"""Instances as people look for them, in the order in which an overview has them."""

CHUNK_BY_CODE = {status.code: status for status in ChunkStatus}
INSTANCE_BY_CODE = {status.code: status for status in InstanceStatus}


def by_status(counts: Sequence[int]) -> dict[ChunkStatus, int]:
    """Chunks by state from chunks by code; states without any are left out.

    >>> by_status([0, 2, 0, 1])
    {<ChunkStatus.QUEUED: 'QUEUED'>: 2, <ChunkStatus.IN_PROGRESS: 'IN_PROGRESS'>: 1}
    """
    return {CHUNK_BY_CODE[code]: count for code, count in enumerate(counts) if count}

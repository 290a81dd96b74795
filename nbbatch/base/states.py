"""The states of chunks and instances, and the one table of transitions for each.

The store's guards, the tests and the drawing in the docs all read these tables. ``code`` is the small
integer the store keeps (DuckDB's enums cannot grow); a code is never given to another state.
"""

from __future__ import annotations

from enum import Enum
from typing import Never, Self


class _Status(str, Enum):
    """A state that is its own name as text and carries the integer the store keeps."""

    code: int

    def __new__(cls, text: str, code: int) -> Self:
        member = str.__new__(cls, text)
        member._value_ = text
        member.code = code
        return member

    def __str__(self) -> str:
        return self.value

    @classmethod
    def _missing_(cls, value: object) -> Never:
        raise ValueError(f"there is no state {value!r}; there are {', '.join(cls)}")


class ChunkStatus(_Status):
    """State of one work chunk."""

    QUEUED = "QUEUED", 1
    """Ready to be claimed."""
    GATE_WAITING = "GATE_WAITING", 2
    """Its step is gated and the step before is not wholly done."""
    IN_PROGRESS = "IN_PROGRESS", 3
    """Claimed; a worker has it or will have it at once."""
    POLL_WAITING = "POLL_WAITING", 4
    """The step raised RetryLater; it is claimed again when its time comes."""
    ERRORED = "ERRORED", 5
    """The last attempt failed; it is claimed again when its backoff is over."""
    COMPLETED = "COMPLETED", 6
    """Done; its outputs were stored in the same transaction."""
    FAILED = "FAILED", 7
    """Out of attempts, or failed by an error that a retry cannot mend."""
    SKIPPED = "SKIPPED", 8
    """Left out, with a reason: by hand, by its step, or split in two halves; gates count it as done."""
    CANCELLED = "CANCELLED", 9
    """Its instance was cancelled before it ended."""


class InstanceStatus(_Status):
    """State of one job instance."""

    QUEUED = "QUEUED", 1
    """Stored; no chunk was claimed yet."""
    IN_PROGRESS = "IN_PROGRESS", 2
    """Chunks run or wait, none in trouble."""
    ERRORED = "ERRORED", 3
    """Work goes on, and at least one chunk is ERRORED or FAILED."""
    PAUSED = "PAUSED", 4
    """Nothing new is claimed until resume()."""
    FINALIZE = "FINALIZE", 5
    """The reduction runs."""
    COMPLETED = "COMPLETED", 6
    """Every chunk ended well and the report, if any, is stored."""
    FAILED = "FAILED", 7
    """Nothing more can run and a failure is over budget."""
    CANCELLED = "CANCELLED", 8
    """Cancelled by hand."""


_C = ChunkStatus
_I = InstanceStatus

CHUNK_TRANSITIONS: dict[ChunkStatus, frozenset[ChunkStatus]] = {
    _C.QUEUED: frozenset({_C.IN_PROGRESS, _C.SKIPPED, _C.CANCELLED}),
    _C.GATE_WAITING: frozenset({_C.QUEUED, _C.SKIPPED, _C.CANCELLED}),
    _C.IN_PROGRESS: frozenset(
        {_C.COMPLETED, _C.ERRORED, _C.FAILED, _C.SKIPPED, _C.POLL_WAITING, _C.QUEUED, _C.CANCELLED}
    ),
    _C.POLL_WAITING: frozenset({_C.QUEUED, _C.IN_PROGRESS, _C.SKIPPED, _C.CANCELLED}),
    _C.ERRORED: frozenset({_C.QUEUED, _C.IN_PROGRESS, _C.SKIPPED, _C.CANCELLED}),
    _C.COMPLETED: frozenset(),
    _C.FAILED: frozenset({_C.QUEUED, _C.SKIPPED}),
    _C.SKIPPED: frozenset(),
    _C.CANCELLED: frozenset({_C.QUEUED}),
}
"""From each chunk state to the states it may go to. Back to QUEUED: a gate opens, an orphan is recovered, a retry."""

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
INSTANCE_ENDED = frozenset({_I.COMPLETED, _I.FAILED, _I.CANCELLED})
"""Instances in these states run no more by themselves."""

CHUNK_BY_CODE = {status.code: status for status in ChunkStatus}
INSTANCE_BY_CODE = {status.code: status for status in InstanceStatus}

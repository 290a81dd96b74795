"""The states of chunks and instances with their tables of transitions, for those who check histories."""

from nbbatch.base.states import (
    CHUNK_DONE,
    CHUNK_ENDED,
    CHUNK_TRANSITIONS,
    INSTANCE_ENDED,
    INSTANCE_TRANSITIONS,
    ChunkStatus,
    InstanceStatus,
)

__all__ = [
    "CHUNK_DONE",
    "CHUNK_ENDED",
    "CHUNK_TRANSITIONS",
    "INSTANCE_ENDED",
    "INSTANCE_TRANSITIONS",
    "ChunkStatus",
    "InstanceStatus",
]

"""Durable, typed, per-item batch jobs that live in a notebook.

A chain of steps is declared by the functions' own type hints; every item is a durable chunk in one DuckDB file and a
row of a polars frame. A killed kernel loses nothing: run the cells again and the job goes on.
"""

from nbbatch.base.display import options
from nbbatch.base.errors import (
    DefinitionError,
    FailChunk,
    FailJob,
    JobCancelled,
    JobFailed,
    NbbatchError,
    NoContextError,
    NotFoundError,
    ParameterError,
    QueryRefused,
    RetryLater,
    ShapeError,
    SkipChunk,
    StateError,
    StoreClosed,
    StoreError,
    StoreLocked,
    StoreUnreadable,
    ValueNotStorable,
)
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.batch import Batch, open
from nbbatch.chunk import ChunkHandle
from nbbatch.definition import Backoff, choose, step, to
from nbbatch.heal.export import LoadedFailure, load_failure
from nbbatch.heal.replay import Replay
from nbbatch.job import Job
from nbbatch.run import JobHandle
from nbbatch.values.codec import NonIdentifying
from nbbatch.worker.context import context
from nbbatch.worker.executors import inline, processes, threads

__all__ = [
    "Backoff",
    "Batch",
    "ChunkHandle",
    "ChunkStatus",
    "DefinitionError",
    "FailChunk",
    "FailJob",
    "InstanceStatus",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "LoadedFailure",
    "NbbatchError",
    "NoContextError",
    "NonIdentifying",
    "NotFoundError",
    "ParameterError",
    "QueryRefused",
    "Replay",
    "RetryLater",
    "ShapeError",
    "SkipChunk",
    "StateError",
    "StoreClosed",
    "StoreError",
    "StoreLocked",
    "StoreUnreadable",
    "ValueNotStorable",
    "choose",
    "context",
    "inline",
    "load_failure",
    "open",
    "options",
    "processes",
    "step",
    "threads",
    "to",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]

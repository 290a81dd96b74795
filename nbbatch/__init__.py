"""Durable, typed, per-item batch jobs that live in a notebook.

A chain of steps is declared by the functions' own type hints; every item is a durable chunk in one DuckDB file and a
row of a polars frame. A killed kernel loses nothing: run the cells again and the job goes on.
"""

from nbbatch.batch import Batch, open
from nbbatch.chunk import ChunkHandle
from nbbatch.codec import NonIdentifying
from nbbatch.definition import Backoff, Job, choose, step, to
from nbbatch.errors import (
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
from nbbatch.executors import inline, processes, threads
from nbbatch.handle import JobHandle
from nbbatch.heal.export import LoadedFailure, load_failure
from nbbatch.heal.replay import Replay
from nbbatch.options import options
from nbbatch.states import ChunkStatus, InstanceStatus
from nbbatch.worker import context

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

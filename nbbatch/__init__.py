"""Durable, typed, per-item batch jobs that live in a notebook.

A chain of steps is declared by the functions' own type hints; every item is a durable chunk in one DuckDB file and a
row of a polars frame. A killed kernel loses nothing: run the cells again and the job goes on.
"""

from nbbatch.batch import Batch, open
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
    StateError,
    StoreClosed,
    StoreError,
    StoreLocked,
    StoreUnreadable,
    ValueNotStorable,
)
from nbbatch.executors import inline, processes, threads
from nbbatch.handle import ChunkHandle, JobHandle
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
    "NbbatchError",
    "NoContextError",
    "NonIdentifying",
    "NotFoundError",
    "ParameterError",
    "QueryRefused",
    "RetryLater",
    "ShapeError",
    "StateError",
    "StoreClosed",
    "StoreError",
    "StoreLocked",
    "StoreUnreadable",
    "ValueNotStorable",
    "choose",
    "context",
    "inline",
    "open",
    "processes",
    "step",
    "threads",
    "to",
]

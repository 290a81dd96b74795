"""Durable, typed, per-item batch jobs that live in a notebook.

A chain of steps is declared by the functions' own type hints; every item is a durable chunk in one DuckDB file and a
row of a polars frame. A killed kernel loses nothing: run the cells again and the job goes on.
"""

import sys
from typing import TYPE_CHECKING, Any

import nbbatch.base.startup  # noqa: F401  # pyright: ignore[reportUnusedImport] - before all that takes time to import
from nbbatch.base.display import options
from nbbatch.base.errors import (
    DefinitionError,
    FailChunk,
    FailJob,
    FileChanged,
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
from nbbatch.base.names import no_attribute
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.batch import Batch, open
from nbbatch.chunk import ChunkHandle
from nbbatch.code.big_values import shared
from nbbatch.definition import Backoff, choose, step, to
from nbbatch.heal.export import LoadedFailure, load_failure
from nbbatch.heal.replay import Replay
from nbbatch.job import Job
from nbbatch.look import Look, look
from nbbatch.run import JobHandle
from nbbatch.values.files import File, files
from nbbatch.values.identity import NonIdentifying
from nbbatch.values.storable import storable
from nbbatch.worker.adapters import executor
from nbbatch.worker.context import context
from nbbatch.worker.executors import inline, threads
from nbbatch.worker.on_dask import dask
from nbbatch.worker.on_ipyparallel import ipyparallel
from nbbatch.worker.on_ray import ray
from nbbatch.worker.processes import processes

__all__ = [
    "Backoff",
    "Batch",
    "ChunkHandle",
    "ChunkStatus",
    "DefinitionError",
    "FailChunk",
    "FailJob",
    "File",
    "FileChanged",
    "InstanceStatus",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "LoadedFailure",
    "Look",
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
    "dask",
    "executor",
    "files",
    "inline",
    "ipyparallel",
    "load_failure",
    "look",
    "open",
    "options",
    "processes",
    "ray",
    "shared",
    "step",
    "storable",
    "threads",
    "to",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__", *(name for name in globals() if name.startswith("__"))]


__version__: str
"""Of the package that is installed."""

_MEANT = {
    "run submit start execute map": "batch = nb.open(path), then run = batch.submit(job, params)",
    "batch connect store Store Engine Session Client init": "nb.open(path) opens a store and gives the batch",
    "job workflow Workflow flow Flow pipeline Pipeline dag DAG chain Chain graph": "nb.Job(name, step >> step) makes a job",
    "task Task op component activity work node": "@nb.step makes a step of a function",
    "chunk instance": "run = batch.instance(id), run.chunk(id)",
    "retry Retry RetryPolicy retries": "@nb.step(max_attempts=, backoff=) says how an error is retried, nb.RetryLater a wait",
    "Skip Fail Later Snooze Cancel Reschedule": "a step raises nb.SkipChunk, nb.FailChunk, nb.FailJob or nb.RetryLater",
    "get_context current_context ctx logger log get_logger": "nb.context() is the context of a running step, nb.context().log its logger",
    "executor Executor ThreadPoolExecutor pool": "nb.threads(n), nb.processes(n) or any concurrent.futures.Executor, as nb.open(executor=)",
    "ProcessPoolExecutor": "nb.processes(n)",
    "testing": "import nbbatch.testing",
    "otel telemetry tracing": "import nbbatch.otel",
    "dashboard Dashboard ui": "import nbbatch.dashboard",
    "branch switch when route": "nb.choose(decide, {…}) chooses a branch, nb.to(name, value) names a step",
}

# `import nbbatch` has put its modules there; the functions that are meant have other names.
for _module in ("batch", "chunk", "future", "instance", "job", "overview", "run"):
    globals().pop(_module, None)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # takes longer to import than most of what is above

            return version("nbbatch")
        raise no_attribute(sys.modules[__name__], "nbbatch", name, _MEANT, [] if name.startswith("_") else __all__)

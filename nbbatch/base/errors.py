"""Every exception of nbbatch, and the signals a step raises.

    NbbatchError
    ├── DefinitionError (TypeError)      a step, chain or job that cannot work
    ├── ParameterError (ValueError)      parameters that a job refuses
    ├── NotFoundError (LookupError)      no such instance, chunk or step
    ├── StateError                       an action that the present state does not allow
    │   └── ShapeError                   a job whose chain differs from the stored one
    ├── ValueNotStorable (ValueError)    a value that has no stored form, or is out of its range
    ├── NoContextError                   nb.context() outside a running step
    ├── JobFailed                        result() of an instance that ended FAILED
    ├── JobCancelled                     result() of an instance that ended CANCELLED
    └── StoreError                       the store cannot be used
        ├── StoreLocked                  another process holds the file
        ├── StoreUnreadable              damaged, foreign, newer or unwritable file
        ├── StoreClosed                  the batch is closed, or belongs to a parent process
        └── QueryRefused                 sql() was given more than a read

    Signal (BaseException)               raised *by* a step, never an error of the library
    ├── RetryLater
    ├── FailChunk
    ├── SkipChunk
    └── FailJob

Signals derive from ``BaseException`` so that a step's own ``except Exception`` does not eat them.
"""

from __future__ import annotations

import time
from datetime import datetime

from nbbatch.base.times import Duration, delay


class NbbatchError(Exception):
    """Base of every error that nbbatch raises."""


class DefinitionError(NbbatchError, TypeError):
    """A step, chain or job is declared in a way that cannot work; the text says what to write instead."""


class ParameterError(NbbatchError, ValueError):
    """Parameters were refused. Nothing was stored and no step ran.

    Attributes:
        problems: One ``"field.path: message"`` for each problem, pydantic's first, then those of ``validate=``.
    """

    def __init__(self, job: str, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"job {job!r} refuses these parameters; nothing was stored:\n{lines}")


class NotFoundError(NbbatchError, LookupError):
    """There is no such id or name in the store; the text says what there is."""


class StateError(NbbatchError):
    """The action is not possible in the present state; nothing was changed."""


class ShapeError(StateError):
    """The chain differs in shape (step names, order, types, gates) from the one this instance began with."""


class ValueNotStorable(NbbatchError, ValueError):
    """A value has no stored form that would come back equal, or is out of its range; the text names it."""


class NoContextError(NbbatchError):
    """``nb.context()`` was called outside a running step."""

    def __init__(self) -> None:
        super().__init__(
            "nb.context() is only there while a step runs a chunk; in a plain call of the step, "
            "or in a thread the step started itself, there is none"
        )


class _JobEnded(NbbatchError):
    def __init__(self, instance: int, text: str) -> None:
        self.instance = instance
        super().__init__(text)


class JobFailed(_JobEnded):
    """The instance ended FAILED. ``run.errors()`` lists every failed chunk, ``run.retry()`` runs them again.

    Attributes:
        instance: Id of the instance.
    """


class JobCancelled(_JobEnded):
    """The instance ended CANCELLED. ``run.retry()`` takes it up again.

    Attributes:
        instance: Id of the instance.
    """


class StoreError(NbbatchError):
    """The store cannot be used."""


class StoreLocked(StoreError):
    """Another process has the file open.

    Attributes:
        pid: Process id of the holder, or None where the system does not tell.
    """

    def __init__(self, path: str, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path} is in use by {holder}. One process at a time can hold a store: nb.look({path!r}) sees it from here and can "
            "pause, cancel and retry; to open it, close the batch there (batch.close(), or shut that kernel down)"
        )


class StoreUnreadable(StoreError):
    """The file is damaged, foreign, of a newer version, or cannot be written; it was left as it is."""


class StoreClosed(StoreError):
    """The batch was closed, or was opened before a fork by the parent process."""


class QueryRefused(StoreError):
    """``sql()`` reads only: one SELECT over the store, no writes, files or settings."""


class Signal(BaseException):
    """Base of what a step raises to steer its own chunk or instance."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class RetryLater(Signal):
    """Put the chunk aside (POLL_WAITING) and run it again later; no error is counted; ``max_wait=`` of the step limits it.

    Args:
        seconds: When to try again: seconds from now, a timedelta, a datetime (without a zone: local time), or text such as
            "10 min" or what an HTTP header ``Retry-After`` holds. What is past is now; ten years at most.
        reason: Shown with the attempt.

    Raises:
        ValueNotStorable: It is none of these, as a moment in milliseconds would be; it fails the chunk.
    """

    def __init__(self, seconds: Duration | datetime, reason: str = "") -> None:
        try:
            self.seconds = delay(seconds, time.time_ns() // 1000, "RetryLater")
        except ValueError as error:
            raise ValueNotStorable(str(error)) from None
        super().__init__(reason)
        self.args = self.seconds, reason


class FailChunk(Signal):
    """Fail this chunk at once, without a retry."""


class SkipChunk(Signal):
    """Leave this chunk out (SKIPPED), with a reason; gates count it as done, and it is no failure."""


class FailJob(Signal):
    """Fail the whole instance: nothing new starts, running chunks finish and are recorded."""


for _public in [*globals().values()]:
    # tracebacks and stored error types name what a user imports: nbbatch.JobFailed
    if isinstance(_public, type) and issubclass(_public, NbbatchError | Signal):
        _public.__module__ = "nbbatch"

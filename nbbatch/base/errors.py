"""All exceptions of nbbatch, and the signals that a step raises.

    NbbatchError
    ├── DefinitionError (TypeError)      an invalid step, chain or job
    ├── ParameterError (ValueError)      invalid parameters of a job
    ├── NotFoundError (LookupError)      no such instance, chunk or step
    ├── StateError                       an action that is not possible in the present state
    │   └── ShapeError                   a job whose chain differs from the stored one
    ├── ValueNotStorable (ValueError)    a value that has no stored form, or is out of its range
    ├── FileChanged                      a file is not what it was when it was named
    ├── NoContextError                   nb.context() outside a running step
    ├── JobFailed                        result() of an instance that ended FAILED
    ├── JobCancelled                     result() of an instance that ended CANCELLED
    └── StoreError                       the store cannot be used
        ├── StoreLocked                  another process has the file open
        ├── StoreUnreadable              a damaged, foreign, newer or read-only file
        ├── StoreClosed                  the batch is closed, or belongs to a parent process
        └── QueryRefused                 sql() was given more than a SELECT

    Signal (BaseException)               raised *by* a step, never an error of the library
    ├── RetryLater
    ├── FailChunk
    ├── SkipChunk
    └── FailJob

Signals derive from ``BaseException`` so that a step's own ``except Exception`` does not catch them.
"""

from __future__ import annotations

import time
from datetime import datetime

from nbbatch.base.times import Duration, delay


class NbbatchError(Exception):
    """Base class of all errors that nbbatch raises.

    Example:
        >>> try:
        ...     run.chunk(99)
        ... except nb.NbbatchError as error:
        ...     print(error)
        instance 1 has no chunk 99...
    """


class DefinitionError(NbbatchError, TypeError):
    """A step, chain or job is defined in a way that cannot work; the text says what to write instead.

    Example:
        >>> nb.step(lambda order: order)
        Traceback (most recent call last):
        nbbatch.DefinitionError: ...
    """


class ParameterError(NbbatchError, ValueError):
    """The parameters were refused. Nothing was stored and no step ran.

    Attributes:
        problems: One ``"field.path: message"`` per problem, pydantic's first, then those of ``validate=``.

    Example:
        >>> try:
        ...     batch.submit(job, "three")
        ... except nb.ParameterError as error:
        ...     print(error.problems)
        ['parameters: Input should be a valid integer...']
    """

    def __init__(self, job: str, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"job {job!r} refuses these parameters; nothing was stored:\n{lines}")


class NotFoundError(NbbatchError, LookupError):
    """The store has no such id or name; the text says what there is.

    Example:
        >>> run.chunk(99)
        Traceback (most recent call last):
        nbbatch.NotFoundError: ...
    """


class StateError(NbbatchError):
    """The action is not possible in the present state. Nothing was changed.

    Example:
        >>> run.retry()
        Traceback (most recent call last):
        nbbatch.StateError: ...
    """


class ShapeError(StateError):
    """The chain has another shape (step names, order, types, gates) than the one this instance began with.

    Example:
        >>> @nb.step
        ... def cost(order: Order) -> float:
        ...     return 2.5
        >>> failed.retry(nb.Job("shop", read >> cost >> total))
        Traceback (most recent call last):
        nbbatch.ShapeError: ...
    """


class ValueNotStorable(NbbatchError, ValueError):
    """A value has no stored form that decodes to an equal value, or is out of its range; the text names it.

    Example:
        >>> nb.RetryLater("soon")
        Traceback (most recent call last):
        nbbatch.ValueNotStorable: ...
    """


class FileChanged(NbbatchError):
    """A file is not what a `File` says of it any more, or is being written; the text names it. It is not retried by itself.

    Example:
        >>> path = Path("orders.csv")
        >>> _ = path.write_text("id,price")
        >>> file = nb.File(path)
        >>> _ = path.write_text("id,price,shop")
        >>> file.read_text()
        Traceback (most recent call last):
        nbbatch.FileChanged: ...
    """


class NoContextError(NbbatchError):
    """``nb.context()`` was called outside a running step.

    Example:
        >>> nb.context()
        Traceback (most recent call last):
        nbbatch.NoContextError: ...
    """

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
    """The instance ended FAILED. ``run.errors()`` lists all errors, ``run.retry()`` runs the failed chunks again.

    Attributes:
        instance: Id of the instance.

    Example:
        >>> try:
        ...     failed.result()
        ... except nb.JobFailed as error:
        ...     print(error.instance, error)
        2 instance 2 of job 'shop' failed: 1 failed in step 'price'...
    """


class JobCancelled(_JobEnded):
    """The instance ended CANCELLED. ``run.retry()`` takes it up again.

    Attributes:
        instance: Id of the instance.

    Example:
        >>> waiting = batch.submit(nb.Job("poll", poll), Path("not-there"), new=True)
        >>> waiting.cancel()
        True
        >>> waiting.result()
        Traceback (most recent call last):
        nbbatch.JobCancelled: ...
    """


class StoreError(NbbatchError):
    """The store cannot be used.

    Example:
        >>> try:
        ...     nb.open("no/such/folder/shop.duckdb")
        ... except nb.StoreError as error:
        ...     print(type(error).__name__)
        StoreUnreadable
    """


class StoreLocked(StoreError):
    """Another process has the file open.

    Attributes:
        path: The file.
        pid: Its process id; None if the system does not tell.

    Example:
        >>> try:  # doctest: +SKIP
        ...     batch = nb.open("shop.duckdb")
        ... except nb.StoreLocked as error:
        ...     batch = nb.look("shop.duckdb")  # process error.pid holds it
    """

    def __init__(self, path: str, pid: int | None) -> None:
        self.path, self.pid = path, pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path} is in use by {holder}. One process at a time can hold a store: nb.look({path!r}) sees it from here and can "
            "pause, cancel and retry; to open it, close the batch there (batch.close(), or shut that kernel down)"
        )


class StoreUnreadable(StoreError):
    """The file is damaged, not a store of nbbatch, of a newer version, or read-only. It was not changed.

    Example:
        >>> _ = Path("notes.txt").write_text("not a store")
        >>> nb.open("notes.txt")
        Traceback (most recent call last):
        nbbatch.StoreUnreadable: ...
    """


class StoreClosed(StoreError):
    """The batch is closed, or was opened by the parent process before a fork.

    Example:
        >>> batch.close()
        >>> run.steps()
        Traceback (most recent call last):
        nbbatch.StoreClosed: ...
    """


class QueryRefused(StoreError):
    """``sql()`` was given something other than one SELECT over the store.

    Example:
        >>> batch.sql("DELETE FROM chunks")
        Traceback (most recent call last):
        nbbatch.QueryRefused: ...
    """


class Signal(BaseException):
    """Base class of what a step raises to direct its own chunk or instance."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class RetryLater(Signal):
    """Put the chunk in POLL_WAITING and run it again later. Counts no error; ``max_wait=`` of the step limits the total time.

    Args:
        seconds: When to try again: seconds from now, a timedelta, a datetime (local time if it has no zone), or text such as "10
            min" or the content of an HTTP header ``Retry-After``. A past time means now; at most ten years.
        reason: Shown with the attempt.

    Raises:
        ValueNotStorable: The time is invalid or too far away (such as one in milliseconds). This fails the chunk.

    Example:
        >>> @nb.step(max_wait="1 hour")
        ... def poll(path: Path) -> Path:
        ...     if not path.exists():
        ...         raise nb.RetryLater("10 min", "the file is not there yet")
        ...     return path
    """

    def __init__(self, seconds: Duration | datetime, reason: str = "") -> None:
        try:
            self.seconds = delay(seconds, time.time_ns() // 1000, "RetryLater")
        except ValueError as error:
            raise ValueNotStorable(str(error)) from None
        super().__init__(reason)
        self.args = self.seconds, reason


class FailChunk(Signal):
    """Fail this chunk at once, without a retry.

    Args:
        reason: Shown with the attempt.

    Example:
        >>> @nb.step
        ... def check(order: Order) -> Order:
        ...     if "," in order.price:
        ...         raise nb.FailChunk("a decimal comma")
        ...     return order
    """


class SkipChunk(Signal):
    """Skip this chunk (SKIPPED). Gates count it as done, and it does not count as a failure.

    Args:
        reason: Shown in ``run.skips()``.

    Example:
        >>> @nb.step
        ... def wanted(order: Order) -> Order:
        ...     if order.price == "0":
        ...         raise nb.SkipChunk("nothing to pay")
        ...     return order
    """


class FailJob(Signal):
    """Fail the whole instance. Nothing new starts; running chunks finish and are recorded.

    Args:
        reason: Shown as the instance's error.

    Example:
        >>> @nb.step
        ... def fetch(order: Order) -> Order:
        ...     if "TOKEN" not in os.environ:
        ...         raise nb.FailJob("there is no token: nothing can be fetched")
        ...     return order
    """


for _public in [*globals().values()]:
    # tracebacks and stored error types name what a user imports: nbbatch.JobFailed
    if isinstance(_public, type) and issubclass(_public, NbbatchError | Signal):
        _public.__module__ = "nbbatch"

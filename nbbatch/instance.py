"""The frames of an instance, and access to its store and engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbbatch.base.errors import NotFoundError, StoreClosed
from nbbatch.base.names import Answering
from nbbatch.base.ranges import MAX_ID, index, shown
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import ChunkStatus
from nbbatch.base.times import Moment, moment
from nbbatch.definition import JobDefinition
from nbbatch.engine.dispatcher import Engine
from nbbatch.store import frames
from nbbatch.store.reading import Reader
from nbbatch.values.views import untyped

if TYPE_CHECKING:
    import polars as pl


_seen: dict[tuple[str, int], JobDefinition[Any, Any]] = {}
"""The newest job of each name and version that was given to a batch of this process."""


def saw(job: JobDefinition[Any, Any]) -> None:
    """Keep a job for decoding the values of its instances."""
    _seen[job.name, job.version] = job


def seen(row: InstanceRow) -> JobDefinition[Any, Any] | None:
    """The job of an instance, if this process has seen one of its name, version and chain."""
    job = _seen.get((row.job, row.version))
    return job if job is not None and job.shape == row.shape else None


LastLooks = dict[Callable[[], None], Callable[[], bool]]


def typed(read: Callable[[bytes], Any], data: bytes) -> Any:
    """A stored value as it is read by the types of its job; as one without them where these have changed since."""
    try:
        return read(data)
    except ValueError:
        return untyped(data)


class Access:
    """Access to a store and its engine; refused once the batch is closed, and in a forked child process."""

    def __init__(self, store: Reader, engine: Engine, batch: Any) -> None:
        self.store = store
        self.batch = batch
        self.pid = os.getpid()
        self.closed = False
        self.last_looks: LastLooks = {}
        """What draws for good what is shown live, each with whether that is over: when it is, or before the store is closed."""
        self._engine = engine

    def close(self) -> None:
        """Let all live displays be drawn a last time, then refuse access."""
        self._look_for_good(tuple(self.last_looks))
        self.closed = True

    def look_at_ends(self) -> None:
        """Whoever waited for an end finds it shown: a notebook that runs without a browser is saved right after."""
        self._look_for_good([look for look, is_over in tuple(self.last_looks.items()) if is_over()])

    @staticmethod
    def _look_for_good(looks: Iterable[Callable[[], None]]) -> None:
        for look in looks:
            with suppress(Exception):  # a picture that cannot be drawn does not keep the file
                look()

    def engine(self) -> Engine:
        """The engine.

        Raises:
            StoreClosed: The batch is closed, or belongs to the parent process.
        """
        if self.pid != os.getpid():
            raise StoreClosed(
                f"this batch was opened by process {self.pid} before a fork; a child process cannot use it. "
                "Open another store here, or do the work in a step"
            )
        if self.closed:
            raise StoreClosed(f"the batch on {self.store.path} is closed; nb.open() opens it again")
        return self._engine

    @property
    def usable(self) -> bool:
        """Whether `engine` returns the engine."""
        return not self.closed and self.pid == os.getpid()


def checked_id(what: str, given: Any) -> int:
    """The id of an instance or a chunk.

    Raises:
        TypeError: It is no whole number.
        NotFoundError: None can have it.
    """
    number = index(given)
    if number is None:
        raise TypeError(f"{what} is named by its id, a whole number, not {shown(given)}")
    if not 0 <= number <= MAX_ID:
        raise NotFoundError(f"{what} is named by its id, and {shown(given)} is not an id")
    return number


class Frames(Answering):
    """The frames of one instance. Any thread may read them. Each frame is read in one statement, so it shows one moment.

    ``as_of=`` shows a frame as of an earlier time: a datetime (local time if it has no zone), its ISO text, or how long ago ("10
    min ago", a timedelta, seconds). ``limit=`` is 100,000 rows by default; a warning says if that leaves rows out. ``limit=None``
    returns all rows, ``limit=`` with ``offset=`` a page. The id of a row's own chunk is ``id`` in ``chunks()`` and ``chunk``
    everywhere else.
    """

    def __init__(self, access: Access, instance: int) -> None:
        self._access = access
        self.id = instance

    def steps(self, *, as_of: Moment | None = None) -> pl.DataFrame:
        """One row per step, in chain order.

        Columns: step, chunks, a count per chunk state (completed, failed, skipped, cancelled, errored, poll_waiting,
        gate_waiting), records, filtered (COMPLETED chunks of a step ``-> Iterator`` that yielded nothing), reused (chunks that took
        the outputs of others, see `reuse`), position, kind, gated, started, ended, queued, in_progress, median_seconds and p95_seconds (over all attempts that
        ran).

        Args:
            as_of: Show the frame as of this time.

        Raises:
            ValueError: ``as_of`` is not a time.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.steps().select("step", "chunks", "completed", "failed").rows()
            [('read', 1, 1, 0), ('price', 5, 4, 1), ('total', 0, 0, 0)]
        """
        live = self._engine().live.get(self.id)
        counts = live.stored_counts if live else ()
        return frames.steps(self._store, self.id, counts, self._moment(as_of))

    def chunks(
        self, step: str | None = None, *, status: str | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per chunk, in order of creation.

        Columns: id, step, status, attempts, errors, polls, parent (a chunk), seq, created, started, ended, due (next
        attempt), records, seconds, error_type, error (of the last attempt).

        Args:
            step: Name of the step; default: all steps.
            status: Only chunks in this state.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step.
            ValueError: A state, number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.chunks("price", status="FAILED").select("id", "seq", "error_type").rows()
            [(10, 3, 'ValueError')]
        """
        at_us = self._moment(as_of)
        state = None if status is None else str(ChunkStatus(status))
        return frames.chunks(self._store, self.id, step, state, limit, offset, at_us)

    def attempts(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per attempt, in order of their ends, running ones last.

        Columns: chunk, step, attempt, status, started, ended, worker, code (fingerprint), warnings, recovered (counts),
        records, seconds, origin (REUSED: the chunk whose outputs it took; null: it ran), error_type, error.

        Args:
            step: Name of the step; default: all steps.
            chunk: Id of the chunk; default: all chunks.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step or chunk.
            ValueError: A number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.attempts(chunk=10).select("attempt", "status", "error_type").rows()
            [(1, 'FAILED', 'ValueError')]
        """
        return self._frame("attempts", step, chunk, limit, offset, as_of)

    def reuse(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per chunk, in order of creation: whether it took the outputs of an equal one (``reuse=`` of `step`), or why it ran.

        Columns: chunk, step, reused (null: it has not been its turn), instance and origin (that gave the outputs first, and the chunk
        of it), reason. Reasons are: new input · code changed, with the names · parameter changed, with the names · types changed ·
        where outputs go changed · output dropped (``retain=``) · did not complete before · came of RetryLater · asked to run again (`rerun`) · of
        another instance (``submit(reuse=run)``) · never asked.

        Args:
            step: Name of the step; default: all steps.
            chunk: Id of the chunk; default: all chunks.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step or chunk.
            ValueError: A number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> run.reuse("price").select("chunk", "reused", "reason").rows()[:1]
            [(2, False, 'never asked')]
        """
        from nbbatch.heal import reasons

        return reasons.reuse(self._store, self.id, step, chunk, limit, offset, self._moment(as_of))

    def now(self) -> pl.DataFrame:
        """One row per attempt that runs now, in order of the workers' names.

        Columns: chunk, step, attempt, worker (null of a sub-job, which holds none), started, seconds (until now),
        median_seconds and p95_seconds (of the attempts of its step that have ended), given (outputs so far, of a step that
        gives many), input (in a few words). Empty where no process works on the instance. Of a cluster's workers ("cluster") only calls
        of one chunk whose step has a ``timeout`` are listed; of worker processes none if the store is in memory, as they have no place to
        say what they run.
        ``chunks(status="IN_PROGRESS")`` has the chunks that were handed out and have not begun, too.

        Raises:
            StoreClosed: The batch is closed.

        Example:
            >>> run.now().height  # it has ended
            0
        """
        engine = self._engine()
        live = engine.live.get(self.id)
        return frames.running(self._store, self.id, engine.now.running(live) if live else (), engine.clock.now())

    def errors(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per attempt that ended in an error, oldest first, including those that succeeded on a retry.

        Columns: chunk, step, attempt, status, ended, error_type, error, traceback.

        Args:
            step: Name of the step; default: all steps.
            chunk: Id of the chunk; default: all chunks.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step or chunk.
            ValueError: A number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.errors().select("chunk", "error").rows()
            [(10, "could not convert string to float: '2,50'")]
        """
        return self._frame("errors", step, chunk, limit, offset, as_of)

    def skips(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per chunk that was skipped, by hand or by its step, oldest first.

        Columns: chunk, step, attempt, skipped (when), by_hand, error_type (null if by hand), reason.

        Args:
            step: Name of the step; default: all steps.
            chunk: Id of the chunk; default: all chunks.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step or chunk.
            ValueError: A number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.skip(10, "the price is lost").skips().select("chunk", "reason").rows()
            [(10, 'the price is lost')]
        """
        return self._frame("skips", step, chunk, limit, offset, as_of)

    def history(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """Every change of state of the instance (chunk is null) and of its chunks, in order of time.

        Columns: happened, chunk, step, attempt, status, text. Replayed in order, the last state of each is its present state.

        Args:
            step: Name of the step; default: all steps.
            chunk: Id of the chunk; default: all chunks.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step or chunk.
            ValueError: A number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> run.history(chunk=2)["status"].to_list()
            ['QUEUED', 'IN_PROGRESS', 'COMPLETED']
        """
        query = "history_by_event" if self._store.is_set_back else "history"
        return self._frame(query, step, chunk, limit, offset, as_of)

    def logs(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = frames.ROWS, offset: int = 0,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """What steps printed, logged, warned of and recovered from, in order of the attempts' ends.

        A reused chunk said nothing here: `reuse` names the instance and the chunk (``origin``) that ran, and that instance has its logs.

        Columns: chunk, step, attempt, ended, kind ("log", "warning" or "recovered"), text.

        Args:
            step: Name of the step; default: all steps.
            chunk: Id of the chunk; default: all chunks.
            limit: Maximum number of rows; None: all.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time.

        Raises:
            NotFoundError: There is no such step or chunk.
            ValueError: A number or time is invalid.
            StoreClosed: The batch is closed.

        Example:
            >>> run.logs().select("step", "kind", "text").rows()  # no step said anything
            []
        """
        return self._frame("logs", step, chunk, limit, offset, as_of)

    def _frame(
        self, query: str, step: str | None, chosen: object, limit: int | None, offset: int, as_of: Moment | None
    ) -> pl.DataFrame:
        at_us = self._moment(as_of)
        return frames.of_instance(self._store, query, self.id, step, chosen, limit, offset, at_us)

    def _moment(self, as_of: Moment | None) -> int | None:
        return moment(as_of, self._engine().clock.now())

    def attachments(self, *, as_of: Moment | None = None) -> pl.DataFrame:
        """The files stored with the instance, in the order they were given.

        Columns: name, bytes, digest (SHA-256), created.

        Args:
            as_of: Show the frame as of this time.

        Raises:
            ValueError: ``as_of`` is not a time.
            StoreClosed: The batch is closed.

        Example:
            >>> run = batch.submit(job, 3, new=True, attach={"notes.txt": b"as agreed"})
            >>> run.attachments().select("name", "bytes").rows()
            [('notes.txt', 9)]
        """
        return self._store.frame("attachments", self.id, self._moment(as_of))

    def attachment(self, name: str) -> bytes:
        """The content of an attachment.

        Args:
            name: Its name.

        Raises:
            NotFoundError: There is no attachment of this name.
            StoreClosed: The batch is closed.

        Example:
            >>> run = batch.submit(job, 3, new=True, attach={"notes.txt": b"as agreed"})
            >>> run.attachment("notes.txt")
            b'as agreed'
        """
        self._engine()
        found = self._store.fetch("attachment", self.id, name)
        if not found:
            raise NotFoundError(
                f"instance {self.id} has no attachment {name!r}; run.attachments() lists those there are"
            )
        return found[0][0]

    @property
    def _store(self) -> Reader:
        return self._access.store

    def _engine(self) -> Engine:
        return self._access.engine()

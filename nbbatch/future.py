"""The part of `JobHandle` that follows ``concurrent.futures.Future``: waiting, results and callbacks."""

from __future__ import annotations

import asyncio
import logging
import shlex
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from nbbatch.base.clock import LOOK_SECONDS, result_of
from nbbatch.base.display import in_notebook, warn
from nbbatch.base.errors import JobCancelled, JobFailed, StoreClosed
from nbbatch.base.rows import DIED, UNREAD, WORKER_LOST, Ended, InstanceRow
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.base.times import Duration, delay, duration, patience
from nbbatch.definition import JobDefinition
from nbbatch.definition.listeners import safely
from nbbatch.engine import commands
from nbbatch.instance import Access, Frames, seen, typed
from nbbatch.store.connection import MEMORY
from nbbatch.values.views import untyped
from nbbatch.worker.context import asking

if TYPE_CHECKING:
    from nbbatch.pictures.progress_line import Reading

log = logging.getLogger("nbbatch")
R_co = TypeVar("R_co", covariant=True)

Timeout = Duration | datetime | None
"""How long to wait, or until when; None: without a limit."""
_AT_WORK = {InstanceStatus.IN_PROGRESS, InstanceStatus.ERRORED, InstanceStatus.FINALIZE}


class RunFuture(Frames, Generic[R_co]):
    """The end of an instance. It can end several times, because a retry takes an ended instance up again."""

    def __init__(
        self, access: Access, instance: int, job: JobDefinition[Any, R_co] | None, end: Future[Ended] | None = None
    ) -> None:
        super().__init__(access, instance)
        self.job = job
        self._end = end
        self._reopened = access.engine().reopened if end else 0
        self._future: tuple[Future[Ended], Future[R_co]] | None = None
        self._known: tuple[int, InstanceRow] | None = None
        """Its row, and the life of the instance that it is of; see `_standing`."""

    @property
    def status(self) -> InstanceStatus:
        """The instance's state.

        Example:
            >>> run.status
            <InstanceStatus.COMPLETED: 'COMPLETED'>
        """
        return self._row.status

    def done(self) -> bool:
        """Whether the instance has ended.

        Example:
            >>> run.done(), run.running(), run.cancelled()
            (True, False, False)
        """
        return self.status in INSTANCE_ENDED

    def running(self) -> bool:
        """Whether the instance has begun and is neither paused nor ended.

        Example:
            >>> run.running()
            False
        """
        return self.status in _AT_WORK

    def cancelled(self) -> bool:
        """Whether the instance ended CANCELLED.

        Example:
            >>> run.cancelled()
            False
        """
        return self.status is InstanceStatus.CANCELLED

    def wait(self, timeout: Timeout = None, *, progress: bool = False) -> InstanceStatus:
        """Block until the instance has ended. An interrupt (Ctrl-C, the stop button) ends the wait, not the run.

        Args:
            timeout: Maximum time to wait: seconds, a timedelta or text; or a datetime until which to wait. None: no limit.
            progress: Show a progress bar on stderr, with tqdm if installed (``nbbatch[progress]``). Without it, and if stderr is
                a file, plain lines are written.

        Raises:
            TimeoutError: The instance has not ended in time. It continues, or is PAUSED, in which case a warning was issued
                when the pause was noticed.
            StateError: The instance waits for its job, which this process does not know.
            StoreError: The engine or this instance has stopped because the store cannot be written, or the batch is closed
                (StoreClosed).
            ValueError: ``timeout`` is not a time.

        Example:
            >>> run.wait(timeout="10 min")
            <InstanceStatus.COMPLETED: 'COMPLETED'>
        """
        return self._wait(timeout, progress).status

    def watch(self, *, every: Duration | None = None) -> InstanceStatus:
        """Show the run in a terminal until it has ended: the facts of the panel. Needs ``nbbatch[cli]``; ``nbbatch watch`` is the same.

        Without a terminal it prints plain lines. An interrupt (Ctrl-C) ends the watching, not the run.

        Args:
            every: Time between two pictures or lines; default: half a second on a terminal, 30 seconds elsewhere.

        Returns:
            How the run ended.

        Raises:
            ImportError: rich is not installed; ``pip install 'nbbatch[cli]'``.
            ValueError: ``every`` is not a duration.
            StoreClosed: The batch is closed.

        Example:
            >>> run.watch()  # doctest: +SKIP
        """
        seconds = None if every is None else duration(every, "every=")
        from nbbatch.panel import terminal

        try:
            terminal.watch([self], seconds)
        except KeyboardInterrupt as stop:
            stop.add_note(f"instance {self.id} goes on in the background; run.cancel() ends it")
            raise
        return self.status

    def _ending(self) -> Future[Ended]:
        """The future of the next end; requested again after an ended instance was taken up again."""
        engine = self._engine()
        if self._end is None or self._reopened != engine.reopened:
            self._end, self._reopened = engine.call(commands.finished, engine, self.id), engine.reopened
        return self._end

    def _wait(self, timeout: Timeout, progress: bool = False) -> Ended:
        seconds = self._patience(timeout)
        self._tell_who_waits()
        try:
            tell = self._pause_teller()
            ended = self._watch(seconds, tell) if progress else result_of(self._ending(), seconds, tell)
            self._access.look_at_ends()
            return ended
        except TimeoutError:
            raise TimeoutError(f"instance {self.id} has not ended after {seconds:g} s; {self._prospect()}") from None
        except KeyboardInterrupt as stop:
            stop.add_note(f"instance {self.id} goes on in the background; run.cancel() ends it")
            raise

    def _tell_who_waits(self) -> None:
        """Warn a step that waits for another run on workers of the same batch: where all of them wait so, none is left to run it."""
        attempt = asking(self._engine().marks)
        if attempt and not self._ending().done():
            text = (
                f"step {attempt.step!r} keeps its worker while it waits for instance {self.id}, which has none if all workers wait so. "
                "A step that is a job waits without one: other_job.as_step()"
            )
            log.warning(text)
            attempt.warn(text)

    def _pause_teller(self) -> Callable[[], None]:
        """A function that warns a waiting caller, once for each pause, that the wait may last forever; called now and while waiting."""
        engine = self._engine()
        self._ending()  # has the instance taken up, and known
        told = False

        def tell() -> None:
            nonlocal told
            live = engine.live.get(self.id)  # not the store: a look at it costs more than a short run
            paused = live is not None and live.paused
            if paused and not told:
                warn(f"instance {self.id} is PAUSED and will not end by itself; run.resume() lets it go on")
            told = paused

        tell()
        return tell

    def _prospect(self) -> str:
        """What an instance that has not ended in time will do."""
        if self.status is InstanceStatus.PAUSED:
            return "it is PAUSED, and run.resume() lets it go on"
        why = self._hindered()
        return f"it goes on, but {why}" if why else "it goes on"

    def _hindered(self) -> str | None:
        """Why chunks of it wait that might run; None: nothing is in their way, as far as this process knows."""
        engine = self._engine()
        live = engine.live.get(self.id)
        return None if live is None else engine.hung() or engine.hindrance(live)

    def _patience(self, timeout: Timeout) -> float | None:
        """Seconds to wait."""
        if isinstance(timeout, datetime):
            return delay(timeout, self._engine().clock.now(), "timeout=")
        if isinstance(timeout, int | float) and timeout < 0:
            return 0.0  # what is left of a limit that has passed
        return patience(timeout, "timeout=")

    def _watch(self, timeout: float | None, tell: Callable[[], None]) -> Ended:
        from nbbatch.pictures import progress_line

        def look() -> Reading:
            tell()
            return self._reading()

        return progress_line.watch(self._ending(), look, timeout)

    def _reading(self) -> Reading:
        from nbbatch.panel import run_pages

        return run_pages.reading(self._store, self._engine(), self._row)

    def result(self, timeout: Timeout = None) -> R_co:
        """Block until the instance has ended, and return its report; None if the chain has no reduction.

        The report is typed if this process has seen the job, as for `inputs`.

        Args:
            timeout: As for `wait`.

        Raises:
            JobFailed: The instance ended FAILED.
            JobCancelled: The instance ended CANCELLED.
            TimeoutError: The instance has not ended in time. It continues.
            StateError: The instance waits for its job, which this process does not know.
            StoreError: The engine or this instance has stopped because the store cannot be written, or the batch is closed
                (StoreClosed).
            ValueError: ``timeout`` is not a time.

        Example:
            >>> run.result()
            7.5
        """
        return self._report(self._wait(timeout))

    def exception(self, timeout: Timeout = None) -> JobFailed | JobCancelled | None:
        """Block until the instance has ended, and return its error; None if it COMPLETED.

        Args:
            timeout: As for `wait`.

        Raises:
            TimeoutError: The instance has not ended in time. It continues.
            StateError: The instance waits for its job, which this process does not know.
            StoreError: The engine or this instance has stopped because the store cannot be written, or the batch is closed
                (StoreClosed).
            ValueError: ``timeout`` is not a time.

        Example:
            >>> run.exception() is None, failed.exception().instance
            (True, 2)
        """
        try:
            self.result(timeout)
        except (JobFailed, JobCancelled) as error:
            return error
        return None

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Call a function with this handle once the instance has ended, or at once if it has ended already.

        It is called once, after the listeners, in a thread of the instance. What it raises is logged. It is not called for a
        later end after a retry, nor if the batch is closed before the end.

        Args:
            fn: The function.

        Raises:
            StateError: The instance waits for its job, which this process does not know.
            StoreError: The engine or this instance has stopped, or the batch is closed (StoreClosed).

        Example:
            >>> ended = []
            >>> run.add_done_callback(ended.append)
        """
        add = self._engine().notifications.add
        call = partial(safely, fn, fn, self, where=f"the end of instance {self.id}")

        def ended(end: Future[Ended]) -> None:
            if not end.cancelled() and end.exception() is None:
                add(self.id, call)

        self._ending().add_done_callback(ended)

    def future(self) -> Future[R_co]:
        """A ``concurrent.futures.Future`` of the end, for ``concurrent.futures.wait`` and ``as_completed``.

        It returns or raises what `result` does. It cannot be cancelled; ``run.cancel()`` cancels the run. After a retry of an
        ended instance, this method returns a new future.

        Raises:
            StateError: The instance waits for its job, which this process does not know.
            StoreError: The engine or this instance has stopped, or the batch is closed (StoreClosed).

        Example:
            >>> from concurrent.futures import as_completed
            >>> runs = [batch.submit(job, count, new=True) for count in (1, 2)]
            >>> sorted(future.result() for future in as_completed(run.future() for run in runs))
            [2.5, 5.0]
        """
        end = self._ending()
        if self._future is None or self._future[0] is not end:
            future: Future[R_co] = Future()
            future.set_running_or_notify_cancel()
            self._future = end, future
            end.add_done_callback(partial(self._settle_aside, future))
        return self._future[1]

    def _settle_aside(self, future: Future[R_co], end: Future[Ended]) -> None:
        """Run in a separate thread: decoding the report is user code, and must not delay the listeners' thread."""
        name = f"nbbatch-future-of-{self.id}"
        threading.Thread(target=self._settle, args=(future, end), name=name, daemon=True).start()

    def _settle(self, future: Future[R_co], end: Future[Ended]) -> None:
        try:
            future.set_result(self._report(end.result()))
        except CancelledError:
            future.set_exception(StoreClosed(f"the batch was closed before the end of instance {self.id}"))
        except BaseException as error:  # whatever it is, who waits must hear of it
            future.set_exception(error)

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait without blocking the event loop, then return what `result` returns."""
        return self._report((yield from self._awaited().__await__()))

    async def _awaited(self) -> Ended:
        tell = self._pause_teller()
        end = asyncio.wrap_future(self._ending())
        while not end.done():
            await asyncio.wait({end}, timeout=LOOK_SECONDS)  # which cancels nothing
            tell()
        ended = end.result()
        self._access.look_at_ends()
        return ended

    def _report(self, end: Ended) -> R_co:
        if end.status is InstanceStatus.FAILED:
            raise JobFailed(self.id, self._why())
        if end.status is InstanceStatus.CANCELLED:
            raise JobCancelled(
                self.id, f"instance {self.id} of job {self._row.job!r} was cancelled; run.retry() takes it up again"
            )
        return cast("R_co", None if end.report is None else self._read_report(end.report))

    def _read_report(self, report: bytes) -> Any:
        job = self._seen()
        return untyped(report) if job is None or job.report is None else typed(job.report.decode, report)

    def _why(self) -> str:
        row = self._row
        first = self._store.fetch("first_failure", self.id)
        text = f"instance {self.id} of job {row.job!r} failed: {row.error}"
        if first:
            step, chunk, kind, error = first[0]
            given = self._item(chunk)
            said = "" if error and error in (row.error or "") else f": {error}"  # FailJob's text is the run's
            text += f". First failure, in step {step!r}, chunk {chunk}{f' ({given})' if given else ''}: {kind}{said.removesuffix('.')}"
            if kind == "FailJob":
                return f"{text}. {self._what_next('run.retry() tries again')}"
            text += f". {_how_to_look(chunk, error or '')}"
        place = "cell" if in_notebook() else "code"
        return f"{text}. {self._what_next(f'mend the {place}, then run.retry(job)')}"

    def _what_next(self, call: str) -> str:
        """What to call, and for who reads it in a program's log or a mail the commands."""
        path, text = self._store.path, f"run.errors() lists all; {call}"
        if in_notebook() or path == MEMORY:
            return text
        named = f"{shlex.quote(path)} {self.id}"
        return f"{text}. From a shell: nbbatch errors {named}; nbbatch retry {named} --job MODULE:JOB"

    def _item(self, chunk: int) -> str:
        """The input of a chunk where it is a single value, such as a file; fields of a model are for those who look, not for logs."""
        from nbbatch.heal.inputs import briefs, short

        told = briefs(self._store, self.id, [chunk]).get(chunk)
        return "" if told is None or " · " in told.input else short(told.input)

    @property
    def _row(self) -> InstanceRow:
        """As of now."""
        return self._stored

    @property
    def _stored(self) -> InstanceRow:
        self._engine()
        return self._store.stored_instance(self.id)

    @property
    def _standing(self) -> InstanceRow:
        """As of now: while an engine works on it, from memory there, which costs the store no query."""
        live = self._engine().live.get(self.id)
        if live is None:
            return self._stored
        if (
            self._known is None or self._known[0] != live.life
        ):  # taken up anew it may have other parameters and another chain
            self._known = live.life, self._stored
        return replace(self._known[1], status=live.status, started_us=live.started_us, failing=live.failing)

    def _seen(self) -> JobDefinition[Any, Any] | None:
        """The job that decodes the values; None if this process has seen none of this name, version and chain."""
        return self.job or seen(self._row)


def _how_to_look(chunk: int, error: str) -> str:
    """At a chunk that failed: one that has ended its process would end this one, too."""
    if error.startswith((WORKER_LOST, DIED)):
        return f"run.chunk({chunk}).input is what it was given; replay() and debug() run it in this process, which it may end, too"
    if error.startswith(UNREAD):
        return f"run.chunk({chunk}).replay() runs it here, without a worker"
    return f"run.chunk({chunk}).debug() stops at the line"

"""The composition root: `open` and `Batch`.

Supplies the clock, the executor and the store, and keeps one batch per file and process.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from nbbatch.base import private_folder
from nbbatch.base.arguments import answering
from nbbatch.base.clock import Clock, SystemClock
from nbbatch.base.display import plural, warn
from nbbatch.base.errors import StateError, StoreError
from nbbatch.base.rows import Ended
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.base.times import Duration, Moment, moment
from nbbatch.definition.listeners import safely
from nbbatch.engine import alike, commands, purges, recovery, subjobs, submit
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.state import LiveInstance
from nbbatch.instance import Access, checked_id, saw
from nbbatch.job import Job
from nbbatch.overview import Overview, job_name
from nbbatch.run import JobHandle
from nbbatch.serving.owner import Owner
from nbbatch.store import backup
from nbbatch.store.connection import MEMORY, resolved
from nbbatch.store.database import Store
from nbbatch.values import outside
from nbbatch.worker import capture, exits, sigterm
from nbbatch.worker.adapters import are_alike, checked_executor, checked_executors, workers_of
from nbbatch.worker.context import StoredParams, asking
from nbbatch.worker.executors import checked_workers, threads
from nbbatch.worker.processes import Processes
from nbbatch.worker.running import Marks, left

P = TypeVar("P")
R = TypeVar("R")
log = logging.getLogger("nbbatch")

DRAIN_SECONDS = 30.0
"""How long close() waits for running attempts …"""
EXIT_SECONDS = 5.0
"""… and how long the interpreter's exit does."""
PURGES = ("older_than", "keep_last", "status", "job")
"""What `Batch.purge` takes."""

_working: set[Batch] = set()
"""Batches that hold a store: open ones, and those whose closing was interrupted."""
_opening = threading.RLock()


@answering("nb.open")
def open(  # noqa: A001 - nb.open reads as the built-in does
    path: str | os.PathLike[str] = "nbbatch.duckdb",
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    executors: Mapping[str, Executor] | None = None,
    values: str | os.PathLike[str] | None = None,
    serve: bool | str = True,
    clock: Clock | None = None,
    on_sigterm: str | None = None,
    grace: Duration = 10.0,
) -> Batch:
    """Open a store, or create it, and start its engine.

    Chunks that were in progress when an earlier process died are queued again. No user code runs until a job is submitted or
    resumed. Opening a file that this process has open already returns the same batch, with the executor it was opened with, and
    warns if another executor is requested.

    Args:
        path: The DuckDB file, or ``":memory:"`` for a store that ends with the process.
        executor: Where steps run: ``nb.threads(n)`` (default), ``nb.processes(n)``, ``nb.inline()``, or any
            ``concurrent.futures.Executor``, such as ``nb.dask(client)``. One that is passed in is not shut down by ``close()``.
        workers: Number of chunks that run at once, 1 or more; default: the executor's number of workers, for threads cores + 4.
        executors: Further ones by name, for steps that name one: ``{"gpu": nb.threads(1)}``, ``@nb.step(executor="gpu")``.
        values: A folder that all workers share, or a URL that fsspec reaches (``pip install nbbatch[values]``). Outputs of 256 kB and
            more go there, written by the worker that made them; the store refers to them. Default: all are in the store.
        serve: Whether other processes can read and control the open store (see `look`). True: processes of this user, through a
            Unix domain socket that ``<path>.serving`` names. A "host:port" such as ``"127.0.0.1:0"``: whoever knows
            ``batch.address``. False, or ``NBBATCH_SERVE=0`` in the environment: nobody.
        clock: For tests.
        on_sigterm: What SIGTERM does while the store is open. None: nothing is charged with an attempt, and the process ends as it
            would have (a handler of your own is left alone). "drain": nothing new starts, what ends within ``grace`` is stored, the
            rest is put back uncharged, and ``SystemExit(75)`` ends the program. For the main thread only.
        grace: Seconds, or another time, that running attempts have then.

    Raises:
        StoreLocked: Another process has the file open; the error names it. ``nb.look(path)`` can still read it.
        StoreUnreadable: The file is damaged, not a store of nbbatch, or of a newer version, or its folder is missing or read-only.
        StoreError: The store cannot be written.
        TypeError: ``executor`` is not an executor, or ``values`` is no folder or URL.
        ValueError: ``workers`` is not a whole number from 1, ``serve`` is not a host and port, ``on_sigterm`` or ``grace`` is not
            valid, or this is not the main thread and ``on_sigterm`` needs it.
        OSError: The host and port of ``serve`` cannot be bound, or the folder of ``values`` cannot be made.
        ImportError: ``values`` is a URL, and fsspec or what it needs for that is not installed.

    Example:
        >>> batch = nb.open("weekly.duckdb", workers=8)
        >>> batch.submit(job, 3).result()
        7.5
        >>> batch.close()
    """
    executor, workers = checked_executor(executor), checked_workers(workers)
    others = checked_executors(executors)
    root = None if values is None else outside.checked(values)
    wish = sigterm.checked(on_sigterm, grace)
    name = os.fspath(path)
    where = MEMORY if name == MEMORY else resolved(name)
    with _opening:
        found = holder_of(where)
        if found is not None and found.usable and not found._store.displaced():  # pyright: ignore[reportPrivateUsage]
            found._expect(executor, workers, others, root, *wish)  # pyright: ignore[reportPrivateUsage]
            return found
        if found is not None:
            try:
                found._finish_closing()  # pyright: ignore[reportPrivateUsage]
            except StoreError as error:
                warn(str(error))
        return Batch(
            where, executor, workers, clock or SystemClock(), serve=serve, by_open=wish, executors=others, values=root
        )


class Batch(Overview):
    """An open store and the engine that works on it; made by `open`. As a context manager it closes itself at the end.

    Attributes:
        path: The store's file.
        recovered: What the opening did about a process that had died: chunks queued again, attempts lost, chunks FAILED.

    Example:
        >>> batch.submit(job, 4, key="tuesday").wait()
        <InstanceStatus.FAILED: 'FAILED'>
    """

    _WHAT = "a batch"
    _INDEX = "batch.instance(id) gives the handle of an instance, batch.instances() a frame of all"
    _MEANT: ClassVar[Mapping[str, str]] = {
        "run start execute enqueue add call apply apply_async send delay map starmap": "batch.submit(job, params) starts a job",
        "get fetch find load handle future run_by_id get_instance": "batch.instance(id) gives the handle of an instance",
        "list all runs history items keys values count status state": "batch.instances() is a frame of all instances",
        "query execute_sql con connection cursor": "batch.sql(query) reads the store",
        "delete remove clean clean_up clear prune vacuum": "batch.purge(older_than=…) removes instances that ended",
        "stop kill abort terminate": "batch.cancel(job) cancels instances, batch.close() closes the store",
        "shutdown exit quit disconnect": "batch.close() closes the store",
        "wait join result results": "run = batch.submit(job, params) gives a handle: run.wait(), run.result()",
        "pause retry rerun skip": "run = batch.instance(id) gives a handle, which has it",
        "dashboard ui show": "batch.panel() shows the instances, nbbatch.dashboard a page for a colleague without code",
    }

    def __init__(
        self, path: str, executor: Executor | None = None, workers: int | None = None, clock: Clock | None = None, *,
        serve: bool | str = True, by_open: tuple[str | None, float] | None = None, executors: Mapping[str, Executor] | None = None,
        values: str | None = None,
    ) -> None:  # fmt: skip
        if by_open is None:
            raise TypeError("a Batch is made by nb.open(path): it opens a file once in a process")
        clock = clock or SystemClock()
        self.path = path
        self._clock = clock
        self._owned, self._workers, self._others = executor is None, workers, dict(executors or {})
        self._pid = os.getpid()
        self._ending = threading.Lock()
        self._closing = self._ended = False
        self._sigterm = sigterm.Listener(*by_open)
        with ExitStack() as undo:  # an opening that fails or is interrupted leaves nothing open
            file = None if path == MEMORY else path
            before = left(file)
            self._store = Store(path, clock.now(), before.session)
            undo.callback(self._forget)
            undo.callback(self._store.close)
            self.recovered = recovery.recover(self._store, before.chunks, clock.now())
            """What opening found of a process that died: chunks queued again, lost attempts, chunks lost too often."""
            self._marks = Marks(file, self._store.session)
            undo.callback(self._marks.close)
            self._executor = executor or threads(workers)
            undo.callback(self._shut)
            self._engine = Engine(
                self._store, self._marks, clock, self._executor, workers or 0, random.random, self._notify, self._others
            )
            self._engine.launch_subjob = subjobs.launch
            self._engine.leftovers.share(values)
            self._access = Access(self._store, self._engine, self)
            undo.callback(self._engine.stop, 0)
            self._engine.start()
            private_folder.sweep()
            self._owner = self._served(serve)
            undo.callback(self._serve_no_more)
            self._register()
            undo.pop_all()

    def _served(self, serve: bool | str) -> Owner | None:
        """What answers those who look; None: nobody may, or nothing can, which harms the work in no way."""
        if not serve or self.path == MEMORY or os.environ.get("NBBATCH_SERVE") == "0":
            return None
        try:
            return Owner(self._engine, self._order, serve if isinstance(serve, str) else None)
        except (OSError, StoreError) as error:
            if isinstance(serve, str):
                raise
            log.warning("nobody can look at %s while it is open: %s", self.path, error)
            return None

    def _order(self, order: str, instance: int | None, more: Mapping[str, Any]) -> Any:
        """What somebody who looks wants done; the job is that which this process knows."""
        if instance is None:
            return self.purge(**{name: more.get(name) for name in PURGES})
        run: JobHandle[Any] = self.instance(instance)
        run.job = run._seen()  # pyright: ignore[reportPrivateUsage] - of its name and version, as it was given here last
        if order == "cancel":
            return run.cancel()
        if order == "skip":
            run.skip(checked_id("a chunk", more.get("chunk")), str(more.get("reason", "")))
        elif order == "retry":
            run.retry(quiet=True)
        else:
            run.pause() if order == "pause" else run.resume()
        return True

    def _serve_no_more(self) -> None:
        if self._owner is not None:
            self._owner.close()

    @property
    def address(self) -> str | None:
        """Where other processes reach the open store: a socket, or a URL that ``nb.look`` takes elsewhere; None if nowhere.

        Example:
            >>> batch.address  # of a socket, which only this machine has
            '...owner'
        """
        return self._owner.address.url if self._owner else None

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a complete copy of the store, as of a moment between two transactions, while work continues.

        Args:
            path: Where to write it. Only this user can read it. ``nb.open`` opens it.
            overwrite: Replace an existing file.

        Returns:
            The path.

        Raises:
            FileExistsError: The file exists already.
            StoreError: The copy cannot be written or would replace an open store, the store is in memory, or the batch is closed
                (StoreClosed).

        Example:
            >>> batch.backup("copy.duckdb", overwrite=True).name
            'copy.duckdb'
        """
        engine = self._access.engine()
        with engine.leftovers.held():  # else a file may go before it was copied
            source, read = self._store.source(), outside.whole
            return backup.write(source, Path(path), holder_of, read, overwrite=overwrite, hold=engine.call)

    def _register(self) -> None:
        """Have it be known to what happens to the whole process: output, its end, a signal."""
        _working.add(self)
        capture.hold(self)
        exits.first(_close_all)
        self._sigterm.listen(self._marks.forget, self._engine.hold)

    def _expect(
        self, executor: Executor | None, workers: int | None, others: Mapping[str, Executor], root: str | None, mode: str | None,
        grace: float,
    ) -> None:  # fmt: skip
        """Warn where it was opened otherwise than it is asked for now."""
        mine = self._executor
        like = are_alike({} if executor is None else {"": executor}, {"": mine}) and are_alike(others, self._others)
        gone = executor is not None and executor is not mine and self._engine.is_refused()
        like = like and root in (None, self._engine.leftovers.root)
        if gone or not like or workers not in (None, self._workers or workers_of(mine)):
            warn(
                f"{self.path} is open already, and keeps the executor, workers and values= it was opened with; "
                "close() it first to open it with others"
            )
        if mode:
            self._sigterm.mode, self._sigterm.grace = mode, grace
            self._sigterm.listen(self._marks.forget, self._engine.hold)

    # --- jobs -------------------------------------------------------------------------------------

    @answering("batch.submit")
    def submit(
        self,
        job: Job[P, R],
        params: P | dict[str, Any] | None = None,
        *,
        key: str | None = None,
        new: bool = False,
        retain: str = "all",
        attach: Mapping[str, bytes | Path] | None = None,
        user_data: Mapping[str, Any] | None = None,
        reuse: bool | JobHandle[Any] | None = None,
    ) -> JobHandle[R]:
        """Start a job, or continue its unfinished instance.

        If an unfinished instance of the same job, version and equal parameters exists, it is continued with this job's code. So a
        cell that submits can be run again. Returns at once; the job runs in the background.

        Args:
            job: The job to run.
            params: Its parameters, or a dict of them; they are validated first. None if the first step takes nothing or has a
                default.
            key: A name for the instance. A key always returns the same instance of this job and version, whatever its state.
            new: Create a new instance even if an unfinished one has equal parameters.
            retain: Which inputs and outputs are kept after the end: "all", "failed" (those of COMPLETED chunks are dropped) or
                "none" (all are dropped, and the instance cannot be retried). Reports are always kept.
            attach: Files or bytes to store with a new instance, by name; steps read them with
                ``nb.context().attachment(name)``. At most 1 GB each.
            user_data: A JSON object of your own, stored with the instance as ``run.user_data``. It replaces an earlier one.
            reuse: Which completed chunks a new instance may take the outputs of, instead of what its steps say (see `step`). False:
                none. True: all that are equal, for every step but those with ``always=True``. A run: only those of that run.

        Raises:
            ParameterError: The parameters are invalid. All problems are listed and nothing is stored.
            DefinitionError: A step wants an executor that the store was not opened with.
            ShapeError: The unfinished instance, or an earlier one, began with another chain under the same version.
            StateError: The key names an instance with other parameters, the instance has other attachments, or a secret
                parameter is missing.
            ValueError: ``key`` and ``new`` are both given, the key is blank, or ``retain`` is unknown.
            TypeError: ``job`` is not a job.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> batch.submit(job, 3, key="monday").result()
            7.5
            >>> batch.submit(job, 3, key="monday").id == batch.submit(job, 3, key="monday").id
            True
        """
        engine = self._access.engine()
        engine.check(commands.check_job(job))
        job.renew()
        saw(job)
        submit.check(key, retain, new=new)
        wish = submit.wish(reuse, self)
        valid = job.check(params)
        brought = submit.read_extras(job, valid, attach, user_data)
        stored = StoredParams.of(job.params, valid)
        identity = job.params.identity(valid)

        def begin() -> tuple[int, Future[Ended] | None, list[alike.Said]]:
            instance, end = submit.submit(engine, brought, job, stored, identity, key, new, retain, None, wish)
            is_new = any(each.born and each.born[1].id == instance for each in engine.pending)
            return instance, end, alike.of_new(engine, job, identity, key, instance) if is_new and not new else []

        instance, end, said = engine.call(begin)
        for each in said:
            each.say()
        return JobHandle(self._access, instance, job, end)

    def resume(self, job: Job[Any, R]) -> list[JobHandle[R]]:
        """Continue every unfinished instance of a job and version, oldest first. Paused instances stay paused.

        Raises:
            DefinitionError: A step wants an executor that the store was not opened with.
            ShapeError: An unfinished instance began with another chain under the same version.
            StateError: A secret parameter is missing; `submit` with the parameters continues that instance.
            TypeError: ``job`` is not a job.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> batch.resume(job)  # nothing of it is unfinished
            []
        """
        engine = self._access.engine()
        engine.check(commands.check_job(job))
        job.renew()
        saw(job)
        return [JobHandle(self._access, instance, job) for instance in engine.call(commands.resume_job, engine, job)]

    def instance(self, instance: int, job: Job[Any, R] | None = None) -> JobHandle[R]:
        """Return the handle of an instance. With its ``job`` it can be resumed and retried.

        Values are typed if this process has seen the job: here, or in a `submit` with other parameters.

        Raises:
            NotFoundError: There is no such instance.
            StateError: The instance belongs to another job.
            TypeError: ``instance`` is not an id, or ``job`` is not a job.
            StoreClosed: The batch is closed.

        Example:
            >>> batch.instance(1, job).result()
            7.5
        """
        engine = self._access.engine()
        row = self._store.stored_instance(checked_id("an instance", instance))
        if job is not None:
            commands.check_name(job, row)
            job.renew()
            saw(job)
        live = engine.live.get(instance)
        return JobHandle(self._access, row.id, job or (live.job if live else None))

    def cancel(
        self, job: str | None = None, *, status: str | Iterable[str] | None = None, older_than: Moment | None = None
    ) -> int:
        """Cancel every unfinished instance that matches all filters; returns how many.

        Without a filter, it cancels the unfinished instances of the one job that has any. If several jobs have unfinished
        instances, it is refused. This is less strict than `purge`, which always needs ``older_than=``: what is purged is lost,
        while `JobHandle.retry` takes up a cancelled instance again.

        Args:
            job: Only instances of the job of this name.
            status: Only instances in this state, or in one of these states.
            older_than: Only instances submitted before this time, given as for `purge`; 0: all.

        Raises:
            ValueError: A state is unknown, ``older_than`` is not a time, or no filter is given and several jobs have unfinished
                instances.
            TypeError: ``job`` is not a name.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> batch.cancel("weekly")  # how many unfinished ones there were
            0
        """
        engine, now = self._access.engine(), self._clock.now()
        codes = [each.code for each in commands.statuses(status, set(InstanceStatus) - INSTANCE_ENDED)]
        before = moment(older_than, now, "older_than=")
        rows = self._store.fetch("instances_in", codes, job_name(job), now if before is None else before)
        jobs = sorted({name for _, name in rows})
        if job is status is older_than is None and len(jobs) > 1:
            raise ValueError(
                f"cancel() without a filter would end {len(rows)} instances of {len(jobs)} jobs ({', '.join(jobs)}): "
                "say which, as in cancel(job), cancel(status=…); cancel(older_than=0) cancels all"
            )
        return sum(engine.call(commands.cancel, engine, instance) for instance, _ in rows)

    def purge(
        self, *, older_than: Moment | None = None, keep_last: int | None = None, status: str | Iterable[str] | None = None,
        job: str | None = None,
    ) -> int:  # fmt: skip
        """Delete ended instances and all their rows permanently; returns how many. Unfinished instances are never deleted.

        Their space in the file is reused, and returned to the disk once the store is closed.

        Args:
            older_than: Only instances that ended before this time: a timedelta, seconds or text such as "30 days" before now, a
                datetime or its ISO text; 0 (and the default with ``keep_last``): all that have ended.
            keep_last: Keep this many instances of each job, those that ended last, with their sub-jobs. Only instances that match
                the other arguments are counted.
            status: Only instances that ended in this state, or in one of these states; default: any.
            job: Only instances of the job of this name.

        Raises:
            ValueError: A state is not that of an ended instance, an argument is invalid, or neither ``older_than`` nor
                ``keep_last`` is given.
            TypeError: ``job`` is not a name.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> batch.purge(older_than=0, status="FAILED")
            1
        """
        engine = self._access.engine()
        which = purges.meant(older_than, keep_last, status, job_name(job), self._clock.now())
        count = engine.call(commands.purge, engine, *which)
        engine.leftovers.settle()
        return count

    def maintenance(self) -> dict[str, int]:
        """Check all waits, gates and ends once more, as a safety net. Returns counts of instances and chunks in memory.

        Nothing depends on this check: the engine is driven by events. Files of values (``nb.open(values=)``) that nothing refers to
        are removed.

        Raises:
            StoreClosed: The batch is closed.

        Example:
            >>> sorted(batch.maintenance())
            [...]
        """
        engine = self._access.engine()
        counts = engine.call(commands.look_again, engine)
        engine.leftovers.look()
        engine.leftovers.settle()
        return counts

    # --- end --------------------------------------------------------------------------------------

    def close(self, timeout: float = DRAIN_SECONDS) -> None:
        """Stop claiming, wait for running attempts, store their results and release the file. A second call does nothing.

        Args:
            timeout: Seconds to wait for running attempts. Attempts that take longer count as lost at the next opening. Listeners
                that still run are waited for as long, before and after; they can still read the store.

        Raises:
            StateError: A step of this batch closes it, while it runs.
            StoreError: The file was deleted, moved or replaced while it was open.

        Example:
            >>> batch.close()
            >>> batch
            <Batch ...shop.duckdb, closed>
        """
        self._close(lambda: timeout)

    def _close(self, left: Callable[[], float]) -> None:
        """As `close`; ``left`` tells how long may be waited at each of three places."""
        if attempt := asking(self._marks):
            raise StateError(
                f"step {attempt.step!r} runs in the batch that it closes, on {self.path}: leave it open there"
            )
        if self._pid != os.getpid() or self._ended or not self._ending.acquire(blocking=False):
            return  # in a forked child there is nothing to close; and where another thread closes it, that does so
        try:
            self._end(self._sigterm.within(left))
        finally:
            self._ending.release()

    def _finish_closing(self) -> None:
        """What a `close` left that was interrupted; one that goes on in another thread is waited for."""
        if self._pid == os.getpid():
            with self._ending:
                if not self._ended:
                    self._end(lambda: 0.0)

    def _end(self, left: Callable[[], float]) -> None:
        """Let go of everything, each part even if one before it fails; when interrupted, without waiting any more."""
        self._closing = True
        if self._sigterm.has_begun:
            log.info(
                "SIGTERM: what runs in %s has %g s to end, the rest is put back; the same program goes on with it",
                self.path, self._sigterm.grace,
            )  # fmt: skip
        with ExitStack() as parts:  # from the last to the first
            last = (
                self._forget,
                self._marks.close,
                self._store.close,
                self._shut,
                self._access.close,
            )
            for part in last:
                parts.callback(part)
            parts.callback(self._engine.stop, 0)
            self._serve_no_more()
            self._engine.notifications.wait(left())  # a listener may ask the engine about its run
            self._engine.stop(left())
            self._engine.notifications.wait(left())

    def _shut(self) -> None:
        if self._owned:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _end_workers(self) -> None:
        """The process ends: worker processes that still run a step would be waited for, however long that takes."""
        for each in (self._executor, *self._others.values()) if self._engine.flights else ():
            if isinstance(each, Processes):
                each.hurry()

    def _forget(self) -> None:
        if self._store.closed:
            _working.discard(self)
            self._sigterm.stop()
            capture.let_go(self)
            self._ended = True

    @property
    def usable(self) -> bool:
        """Whether the batch is open and belongs to this process."""
        return self._access.usable and not self._closing

    def holds(self, path: str) -> bool:
        """Whether this batch has the file at a resolved path open, under whatever name it was opened."""
        return self._pid == os.getpid() and (self.path == path or self._store.is_at(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _notify(self, live: LiveInstance, event: str, what: str) -> None:
        """Call the listeners of an event, with a step's name; of an instance's end, with how it ended."""
        job, run = live.job, JobHandle(self._access, live.id, live.job, live.done)
        ends = event == "instance_ended"
        last = job.on_complete if what == InstanceStatus.COMPLETED.value else job.on_error
        args, where = (
            (run,) if ends or not what else (run, what),
            f"{event} {what} of instance {live.id}, job {job.name!r}",
        )
        for listener in (*job.listeners.of(event), *([last] if ends and last else [])):
            safely(listener, listener, *args, where=where)

    @property
    def problems(self) -> list[str]:
        """Errors of the engine itself since the batch was opened, newest first: a commit that failed, an observer that raised.

        The last 100 are kept. All are written to the logger ``nbbatch`` too. Errors of steps are in ``run.errors()``.

        Example:
            >>> batch.problems
            []
        """
        return list(self._engine.internal_errors.texts)[::-1]

    def __repr__(self) -> str:
        if not self._access.usable:
            return f"<Batch {self.path}, closed>"
        counts = self._store.fetch("count_by_status")
        from nbbatch.pictures import static

        problems = len(self.problems)
        noted = f", {plural(problems, 'problem')} (see batch.problems)" if problems else ""
        return f"<Batch {self.path}: {static.counted(counts, 'instance')}{noted}>"


def holder_of(path: str) -> Batch | None:
    """The batch that holds a file, by whatever name it was opened."""
    return next((batch for batch in tuple(_working) if path != MEMORY and batch.holds(path)), None)


def _close_all() -> None:
    """Close all batches before Python joins the threads of pools, which may wait for a dispatcher; in `EXIT_SECONDS`."""
    until = time.monotonic() + EXIT_SECONDS
    for batch in tuple(_working):
        try:
            batch._close(lambda: max(0.0, until - time.monotonic()))  # pyright: ignore[reportPrivateUsage]
            batch._end_workers()  # pyright: ignore[reportPrivateUsage]
        except BaseException:
            log.exception("%s was not closed as it should be at the end of the process", batch.path)

"""The composition root and facade: `open`, `Batch`, `JobHandle`, `ChunkHandle`.

Supplies the clock, the executor and the store, and keeps one batch per file and process.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from nbbatch import commands, display, maintenance, progress, views
from nbbatch.definition import Job
from nbbatch.engine import Clock, Engine
from nbbatch.errors import JobCancelled, JobFailed, NotFoundError, StateError, StoreClosed
from nbbatch.executors import threads
from nbbatch.live import LiveInstance
from nbbatch.records import InstanceRow
from nbbatch.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.store import MEMORY, Store
from nbbatch.worker import StoredParams

if TYPE_CHECKING:
    import polars as pl

P = TypeVar("P")
R = TypeVar("R")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)
log = logging.getLogger("nbbatch")

DRAIN_SECONDS = 30.0
"""How long close() waits for running attempts …"""
EXIT_SECONDS = 5.0
"""… and how long the interpreter's exit does."""
RETAIN = ("all", "failed", "none")

_open: dict[str, Batch] = {}
_opening = threading.RLock()


class SystemClock:
    """The computer's clock."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def until(self, due_us: int) -> float | None:
        """Seconds until then, at least 0."""
        return max(0.0, (due_us - self.now()) / 1e6)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Nothing to do: this clock is not moved by hand."""


def open(  # noqa: A001 - nb.open reads as the built-in does
    path: str | os.PathLike[str] = "nbbatch.duckdb",
    executor: Executor | None = None,
    workers: int | None = None,
    *,
    clock: Clock | None = None,
) -> Batch:
    """Open a store, or create it, and start its engine.

    Chunks that were in progress when an earlier process died are put back; no user code runs until a job is
    submitted or resumed. Opening the same file again in one process returns the batch already open.

    Args:
        path: The DuckDB file, or ``":memory:"`` for a store that ends with the process.
        executor: Where steps run: ``nb.threads(n)`` (default), ``nb.processes(n)``, ``nb.inline()``, or any
            ``concurrent.futures.Executor``. One that is passed in is not shut down by ``close()``.
        workers: How many chunks run at once; default: what the executor has, for threads cores + 4.
        clock: For tests.

    Raises:
        StoreLocked: Another process holds the file; the error tells which.
        StoreUnreadable: The file is damaged, foreign or newer, or its folder is missing or cannot be written.
    """
    name = os.fspath(path)
    where = MEMORY if name == MEMORY else str(Path(name).expanduser().resolve())
    with _opening:
        found = _open.get(where)
        if found is not None and where != MEMORY and found.pid == os.getpid():
            return found
        batch = Batch(where, executor, workers, clock or SystemClock())
        if where != MEMORY:
            _open[where] = batch
        return batch


class Batch:
    """An open store and the engine that works on it; made by `open`. A context manager that closes at its end."""

    def __init__(self, path: str, executor: Executor | None, workers: int | None, clock: Clock) -> None:
        self.path = path
        self.pid = os.getpid()
        self._clock = clock
        self._store = Store(path, clock.now())
        self.recovered = maintenance.recover(self._store, clock.now())
        """How many chunks opening put back, and how many of them had been lost too often."""
        self._owned = executor is None
        self._executor = executor or threads(workers)
        self._engine = Engine(self._store, clock, self._executor, workers or 0, random.random, self._on_end)
        self._closed = False
        self._engine.start()
        _at_exit(self._exit)

    # --- jobs -------------------------------------------------------------------------------------

    def submit(
        self, job: Job[P, R], params: P | dict[str, Any], *, key: str | None = None, new: bool = False, retain: str = "all"
    ) -> JobHandle[R]:
        """Start a job, or go on with its unfinished instance.

        An unfinished instance of equal job name, version and parameters is attached to and resumed with this job's
        code, so a cell that submits can run again. Returns at once; the work goes on in the background.

        Args:
            job: What to do.
            params: Its parameters, or a dict of them; validated first.
            key: Names the instance: the one of this key is returned, whatever its state.
            new: Make another instance even if an unfinished one has equal parameters.
            retain: Inputs and outputs kept: "all", "failed" (dropped when a chunk is COMPLETED), "none" (dropped when
                the instance ends). Reports are always kept.

        Raises:
            ParameterError: The parameters are invalid; every problem is listed and nothing is stored.
            ShapeError: The unfinished instance began with another chain under the same version.
            StateError: The key names an instance with other parameters.
            ValueError: ``key`` and ``new`` together, a blank key, or an unknown ``retain``.
        """
        engine = self._running()
        _check_submit(key, new, retain)
        valid = job.check(params)
        stored = StoredParams(job.params, job.params.dump(valid), job.params.secrets(valid))
        identity = job.params.identity(valid)
        instance = engine.call(commands.submit, engine, job, stored, identity, key, new, retain)
        return JobHandle(self, instance, job)

    def resume(self, job: Job[Any, R]) -> list[JobHandle[R]]:
        """Go on with every unfinished instance of a job and version; paused ones stay paused. Oldest first."""
        engine = self._running()
        return [JobHandle(self, instance, job) for instance in engine.call(commands.resume_job, engine, job)]

    def instance(self, instance: int, job: Job[Any, R] | None = None) -> JobHandle[R]:
        """The handle of an instance; with its ``job``, values come back typed and it can be resumed and retried.

        Raises:
            NotFoundError: There is no such instance.
        """
        engine = self._running()
        self._store.instance(instance, self._store.cursor())
        live = engine.live.get(instance)
        return JobHandle(self, instance, job or (live.job if live else None))

    def cancel(self, job: str | None = None) -> int:
        """Cancel every unfinished instance, or those of one job's name; returns how many."""
        engine = self._running()
        rows = self._store.fetch(
            "SELECT id FROM instances WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED') "
            "AND ($1 IS NULL OR job = $1)", job,
        )  # fmt: skip
        return sum(engine.call(commands.cancel, engine, instance) for (instance,) in rows)

    def maintenance(self) -> dict[str, int]:
        """Look at everything once more, as the safety net: due waits, gates, ends. Returns counts of live chunks.

        Nothing waits for this pass; the engine acts on events.
        """
        engine = self._running()

        def look() -> dict[str, int]:
            for live in engine.live.values():
                live.changed = True
            engine.wake()
            return {
                "instances": len(engine.live),
                "in_progress": sum(live.in_flight for live in engine.live.values()),
                "waiting": sum(len(live.waiting) for live in engine.live.values()),
            }

        return engine.call(look)

    # --- views ------------------------------------------------------------------------------------

    def instances(
        self, *, job: str | None = None, status: str | None = None, since: datetime | None = None,
        limit: int = 1_000, offset: int = 0,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per instance, newest first.

        Columns: id, job, version, key, status, progress (0 to 1), created, started, ended, seconds, error, params (JSON
        text, secrets masked). An unfinished instance whose job is not known in this process waits for it; see
        ``repr(batch.instance(id))``.

        Args:
            job: Only this job's name.
            status: Only this state.
            since: Only those created at or after this time.
            limit: Rows at most.
            offset: Rows passed over.
        """
        self._running()
        text = None if status is None else str(InstanceStatus(status))
        return self._store.frame(views.INSTANCES, job, text, since, limit, offset)

    def jobs(self) -> pl.DataFrame:
        """One row per job and version: job, version, instances, completed, failed, cancelled, unfinished, latest."""
        self._running()
        return self._store.frame(views.JOBS)

    def sql(self, query: str) -> pl.DataFrame:
        """Rows of one SELECT over the store; the views instances, chunks, attempts and history read best.

        Runs in a read-only transaction on this thread's connection.

        Raises:
            QueryRefused: It is not one SELECT, or reaches for files, settings or other databases.
        """
        self._running()
        return self._store.query(query)

    # --- end --------------------------------------------------------------------------------------

    def close(self, timeout: float = DRAIN_SECONDS) -> None:
        """Claim nothing more, let running attempts finish and be recorded, and let the file go. May be called twice.

        Args:
            timeout: Seconds to wait for running attempts; those that take longer count as lost at the next opening.
        """
        if self._closed or self.pid != os.getpid():
            return
        self._closed = True
        self._engine.stop(timeout)
        if self._owned:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._store.close()
        with _opening:
            if _open.get(self.path) is self:
                del _open[self.path]

    def _exit(self) -> None:
        self.close(EXIT_SECONDS)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> Engine:
        if self.pid != os.getpid():
            raise StoreClosed(
                f"this batch was opened by process {self.pid} before a fork; a child process cannot use it. "
                "Open another store here, or do the work in a step"
            )
        if self._closed:
            raise StoreClosed(f"the batch on {self.path} is closed; nb.open() opens it again")
        return self._engine

    def _on_end(self, live: LiveInstance, status: InstanceStatus) -> None:
        handler = live.job.on_complete if status is InstanceStatus.COMPLETED else live.job.on_error
        if handler is None:
            return
        try:
            handler(JobHandle(self, live.id, live.job))
        except Exception:
            log.exception("a handler of job %r raised after instance %d ended %s", live.job.name, live.id, status)

    def __repr__(self) -> str:
        if self._closed or self.pid != os.getpid():
            return f"<Batch {self.path}, closed>"
        counts = self._store.fetch("SELECT status, count(*) FROM instances GROUP BY status ORDER BY status")
        return f"<Batch {self.path}: {display.counted(counts, 'instance')}>"

    def _repr_html_(self) -> str:
        if self._closed or self.pid != os.getpid():
            return display.text(repr(self))
        return display.batch(repr(self), self.instances(limit=display.MAX_ROWS + 1))


class JobHandle(Generic[R_co]):
    """The live object of one instance. Speaks ``concurrent.futures.Future`` where the names are the same."""

    def __init__(self, batch: Batch, instance: int, job: Job[Any, R_co] | None) -> None:
        self.batch = batch
        self.id = instance
        self.job = job

    # --- state ------------------------------------------------------------------------------------

    @property
    def row(self) -> InstanceRow:
        """The stored row, as of now."""
        self._engine()
        return self._store.instance(self.id, self._store.cursor())

    @property
    def status(self) -> InstanceStatus:
        """The instance's state."""
        return self.row.status

    @property
    def progress(self) -> float:
        """Share of the work done, from 0 to 1; it never falls. Formula: ``nbbatch.progress.progress``."""
        live = self._engine().live.get(self.id)
        return live.best if live and live.changed else live.progress() if live else self.row.progress

    @property
    def rate(self) -> float | None:
        """Records per second so far; None while unknown. Formula: ``nbbatch.progress.rate``."""
        live = self._engine().live.get(self.id)
        return progress.rate(live.records, live.started_us, live.latest_end_us) if live else None

    @property
    def eta(self) -> float | None:
        """Seconds left if work goes on as it went; None while unknown, 0 when ended."""
        live = self._engine().live.get(self.id)
        if live:
            return progress.eta(live.progress(), live.started_us, live.latest_end_us)
        return 0.0 if self.row.status in INSTANCE_ENDED else None

    @property
    def warnings(self) -> list[str]:
        """Distinct warnings of its steps, newest first, up to 4,000 characters in all."""
        self._engine()
        return views.warnings(self._store, self.id)

    def done(self) -> bool:
        """Whether it has ended."""
        return self.status in INSTANCE_ENDED

    def wait(self, timeout: float | None = None) -> InstanceStatus:
        """Block until it has ended; an interrupt (Ctrl-C, the stop button) ends the waiting, not the run.

        Args:
            timeout: Seconds; None waits without limit.

        Raises:
            TimeoutError: It has not ended in time; it goes on.
            StateError: It waits for its job, which this process does not know.
        """
        engine = self._engine()
        end = engine.call(commands.finished, engine, self.id)
        if not isinstance(end, Future):
            return end
        try:
            return end.result(timeout)
        except TimeoutError:
            raise TimeoutError(f"instance {self.id} has not ended after {timeout} s; it goes on") from None
        except KeyboardInterrupt as stop:
            stop.add_note(f"instance {self.id} goes on in the background; run.cancel() ends it")
            raise

    def result(self, timeout: float | None = None) -> R_co:
        """The report (None for a chain without a reduction), once it has COMPLETED; blocks until then.

        Args:
            timeout: Seconds; None waits without limit.

        Raises:
            JobFailed: It ended FAILED.
            JobCancelled: It ended CANCELLED.
            TimeoutError: It has not ended in time; it goes on.
            StateError: Its job is not known in this process.
        """
        return self._report(self.wait(timeout))

    def exception(self, timeout: float | None = None) -> JobFailed | JobCancelled | None:
        """The error that `result` would raise, or None; blocks until it has ended."""
        try:
            self.result(timeout)
        except (JobFailed, JobCancelled) as error:
            return error
        return None

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait without blocking the event loop, then give what `result` gives."""
        engine = self._engine()
        end = engine.call(commands.finished, engine, self.id)
        if isinstance(end, Future):
            end = yield from asyncio.shield(asyncio.wrap_future(end)).__await__()
        return self._report(end)

    def _report(self, status: InstanceStatus) -> R_co:
        row = self.row
        if status is InstanceStatus.FAILED:
            raise JobFailed(self.id, self._why())
        if status is InstanceStatus.CANCELLED:
            raise JobCancelled(self.id, f"instance {self.id} of job {row.job!r} was cancelled; run.retry() takes it up again")
        if row.report is None:
            return cast("R_co", None)
        job = self._job()
        assert job.report is not None
        return cast("R_co", job.report.decode(row.report))

    def _why(self) -> str:
        row = self.row
        first = self._store.fetch(
            "SELECT step, chunk, error_type, error FROM attempts WHERE instance = $1 AND status = 'FAILED' "
            "ORDER BY event LIMIT 1", self.id,
        )  # fmt: skip
        text = f"instance {self.id} of job {row.job!r} failed: {row.error}"
        if first:
            step, chunk, kind, error = first[0]
            text += f". First failure, in step {step!r}, chunk {chunk}: {kind}: {error}"
        return f"{text}. run.errors() lists all; mend the cell, then run.retry(job)"

    # --- actions ----------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """End it now: nothing new starts, open chunks become CANCELLED, late results are dropped.

        Returns:
            False if it had ended already; then nothing changes.
        """
        engine = self._engine()
        return engine.call(commands.cancel, engine, self.id)

    def pause(self) -> None:
        """Claim nothing more; running chunks finish and are recorded. Holds over a restart, until `resume`.

        Raises:
            StateError: It has ended.
        """
        engine = self._engine()
        engine.call(commands.pause, engine, self.id)

    def resume(self, job: Job[Any, Any] | None = None) -> JobHandle[R_co]:
        """Go on after `pause`, or after a restart once the job is known.

        Raises:
            StateError: It has ended, or its job is not known.
            ShapeError: The job's chain differs from the one it began with.
        """
        engine = self._engine()
        self.job = job or self.job
        engine.call(commands.resume, engine, self.id, self.job)
        return self

    def retry(self, job: Job[Any, Any] | None = None) -> JobHandle[R_co]:
        """Run failed chunks again (and cancelled ones), with a fresh budget; finished ones are not run again.

        Args:
            job: The job with mended code; default: the one this handle knows.

        Raises:
            StateError: It COMPLETED with nothing failed, or its job is not known.
            ShapeError: The job's chain differs from the one it began with.
        """
        engine = self._engine()
        self.job = job or self.job
        engine.call(commands.retry, engine, self.id, self.job)
        return self

    def skip(self, chunk: int, reason: str) -> None:
        """Leave a chunk out for a reason; gates count it as done.

        Raises:
            StateError: The chunk runs or has ended well.
            NotFoundError: There is no such chunk.
        """
        engine = self._engine()
        engine.call(commands.skip, engine, self.id, chunk, reason)

    # --- frames -----------------------------------------------------------------------------------

    def steps(self) -> pl.DataFrame:
        """One row per step, in chain order.

        Columns: position, step, kind, gated, chunks, a count per chunk state (queued … cancelled), records,
        median_seconds and p95_seconds of the last attempts, started, ended.
        """
        self._engine()
        return self._store.frame(views.STEPS, self.id)

    def chunks(
        self, step: str | None = None, *, status: str | None = None, limit: int | None = None, offset: int = 0
    ) -> pl.DataFrame:
        """One row per chunk, in order of creation; at most 100,000 unless ``limit`` says otherwise.

        Columns: id, step, parent, seq, status, attempts, errors, polls, created, started, ended, seconds (last
        attempt), due (next attempt), records, error_type, error (last attempt).
        """
        return self._frame(views.CHUNKS, step, None if status is None else str(status), limit, offset)

    def attempts(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = None, offset: int = 0
    ) -> pl.DataFrame:
        """One row per attempt, in order of their ends, running ones last; at most 100,000 unless told otherwise.

        Columns: chunk, step, attempt, status, started, ended, seconds, records, worker, code (fingerprint), error_type,
        error, warnings, recovered (counts).
        """
        return self._frame(views.ATTEMPTS, step, chunk, limit, offset)

    def errors(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = None, offset: int = 0
    ) -> pl.DataFrame:
        """One row per attempt that ended in an error, oldest first, also those a retry has mended.

        Columns: chunk, step, attempt, status, ended, error_type, error, traceback.
        """
        return self._frame(views.ERRORS, step, chunk, limit, offset)

    def history(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = None, offset: int = 0
    ) -> pl.DataFrame:
        """Every change of state of the instance (chunk is null) and its chunks, in order of time.

        Columns: happened, chunk, step, attempt, status, text. Replayed in order, the last state of each is the present.
        """
        return self._frame(views.HISTORY, step, chunk, limit, offset)

    def logs(
        self, step: str | None = None, *, chunk: int | None = None, limit: int | None = None, offset: int = 0
    ) -> pl.DataFrame:
        """What steps printed and logged, warned of and recovered from, in order of the attempts' ends.

        Columns: chunk, step, attempt, ended, kind ("log", "warning" or "recovered"), text.
        """
        return self._frame(views.LOGS, step, chunk, limit, offset)

    def _frame(self, query: str, step: str | None, chosen: object, limit: int | None, offset: int) -> pl.DataFrame:
        self._engine()
        return views.of_instance(self._store, query, self.id, step, chosen, limit, offset)

    # --- values -----------------------------------------------------------------------------------

    def inputs(self, step: str | None = None, *, limit: int = views.ROWS) -> list[Any]:
        """Inputs of a step's chunks, typed, in order of creation; of the first step: the parameters.

        Args:
            step: Its name; default: the last step.
            limit: Values at most.

        Raises:
            NotFoundError: There is no such step.
            StateError: The job is not known in this process.
        """
        node = self._node(step)
        if node.index == 0:
            return [self.params]
        query = views.REDUCTION_INPUTS if node.step.kind == "reduction" else views.INPUTS
        rows = self._store.fetch(query, self.id, node.index, limit)
        return [node.step.input.decode(data) for (data,) in rows]

    def outputs(self, step: str | None = None, *, limit: int = views.ROWS) -> list[Any]:
        """What a step gave, typed; of the reduction: its report. Arguments and errors as `inputs`."""
        node = self._node(step)
        if node.step.output is None:
            return []
        if node.step.kind == "reduction":
            report = self.row.report
            return [] if report is None else [node.step.output.decode(report)]
        rows = self._store.fetch(views.OUTPUTS, self.id, node.index, limit)
        return [node.step.output.decode(data) for (data,) in rows]

    @property
    def params(self) -> Any:
        """The parameters, typed; secrets are masked, as they are never stored."""
        return self._job().params.masked(self.row.params)

    def chunk(self, chunk: int) -> ChunkHandle:
        """One chunk, to look into.

        Raises:
            NotFoundError: There is no such chunk.
        """
        self._engine()
        if not self._store.fetch(views.CHUNK, self.id, chunk):
            raise NotFoundError(f"instance {self.id} has no chunk {chunk}; run.chunks() lists those there are")
        return ChunkHandle(self, chunk)

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _store(self) -> Store:
        return self.batch._store  # pyright: ignore[reportPrivateUsage]

    def _engine(self) -> Engine:
        return self.batch._running()  # pyright: ignore[reportPrivateUsage]

    def _job(self) -> Job[Any, R_co]:
        if self.job is None:
            row = self.row
            raise StateError(
                f"typed values of instance {self.id} need its job {row.job!r} version {row.version}: "
                "batch.instance(id, job) gives a handle that knows it"
            )
        return self.job

    def _node(self, step: str | None) -> Any:
        nodes = self._job().nodes
        self._engine()
        return nodes[-1 if step is None else views.require_step(self._store, self.id, step)]

    def __repr__(self) -> str:
        row = self.row
        waits = row.status not in INSTANCE_ENDED and self.id not in self._engine().live
        return display.run_line(row, self.progress, self.eta, waits=waits, steps=self._counts())

    def _counts(self) -> list[tuple[str, int]]:
        live = self._engine().live.get(self.id)
        if live:
            return display.status_counts(live.counts)
        return self._store.fetch(
            "SELECT status, count(*) FROM chunks WHERE instance = $1 GROUP BY status ORDER BY status", self.id
        )  # pyright: ignore[reportReturnType]

    def _repr_html_(self) -> str:
        return display.run(repr(self), self.row, self.steps(), self.errors(limit=1), self.warnings)


class ChunkHandle:
    """One chunk, looked into."""

    def __init__(self, run: JobHandle[Any], chunk: int) -> None:
        self.run = run
        self.id = chunk

    def _row(self) -> dict[str, Any]:
        frame = self._store.frame(
            "SELECT id, step, parent, seq, status, attempts, errors, polls, created, started, ended, seconds, records, "
            "error_type, error FROM chunks WHERE instance = $1 AND id = $2", self.run.id, self.id,
        )  # fmt: skip
        return frame.row(0, named=True)

    @property
    def status(self) -> str:
        """Its state."""
        return self._row()["status"]

    @property
    def step(self) -> str:
        """Name of its step."""
        return self._row()["step"]

    @property
    def input(self) -> Any:
        """Its input, typed; of the first chunk: the parameters; of the reduction: all its inputs."""
        node = self.run._node(self.step)  # pyright: ignore[reportPrivateUsage]
        if node.index == 0 or node.step.kind == "reduction":
            values = self.run.inputs(self.step)
            return values[0] if node.index == 0 else values
        ((_, data, _),) = self._store.fetch(views.CHUNK, self.run.id, self.id)
        return node.step.input.decode(data)

    @property
    def outputs(self) -> list[Any]:
        """What it gave, typed, in its order."""
        node = self.run._node(self.step)  # pyright: ignore[reportPrivateUsage]
        if node.step.kind == "reduction":
            return self.run.outputs(self.step)
        rows = self._store.fetch(views.CHUNK_OUTPUTS, self.run.id, self.id)
        return [node.step.output.decode(data) for (data,) in rows]

    @property
    def parent(self) -> ChunkHandle | None:
        """The chunk whose output it is; None for the first one."""
        ((_, _, parent),) = self._store.fetch(views.CHUNK, self.run.id, self.id)
        return None if parent is None else ChunkHandle(self.run, parent)

    @property
    def children(self) -> list[ChunkHandle]:
        """The chunks made of its outputs, in their order."""
        rows = self._store.fetch(views.CHILDREN, self.run.id, self.id)
        return [ChunkHandle(self.run, child) for (child,) in rows]

    @property
    def attempts(self) -> pl.DataFrame:
        """Its attempts; columns as in `JobHandle.attempts`."""
        return self.run.attempts(chunk=self.id)

    @property
    def traceback(self) -> str | None:
        """The traceback of its newest error; None if it had none."""
        return self._newest("traceback")

    @property
    def log(self) -> str | None:
        """What its newest attempt that said anything printed and logged."""
        return self._newest("log")

    def _newest(self, column: str) -> str | None:
        assert column in {"traceback", "log"}
        rows = self._store.fetch(
            f"SELECT {column} FROM detail WHERE instance = $1 AND chunk = $2 AND {column} IS NOT NULL "  # noqa: S608
            "ORDER BY event DESC LIMIT 1", self.run.id, self.id,
        )  # fmt: skip
        return rows[0][0] if rows else None

    @property
    def _store(self) -> Store:
        return self.run.batch._store  # pyright: ignore[reportPrivateUsage]

    def __repr__(self) -> str:
        row = self._row()
        error = f", {row['error_type']}: {row['error']}" if row["error"] else ""
        return f"<chunk {self.id} of step {row['step']!r}: {row['status']}, {row['attempts']} attempts{error[:200]}>"

    def _repr_html_(self) -> str:
        return display.chunk(self._row(), self.traceback, self.log)


def _check_submit(key: str | None, new: bool, retain: str) -> None:
    if key is not None and new:
        raise ValueError("key= and new= exclude each other: a key names one instance, new= makes another one")
    if key is not None and not key.strip():
        raise ValueError("key= needs a name that is not blank")
    if retain not in RETAIN:
        raise ValueError(f"retain= takes one of {', '.join(map(repr, RETAIN))}, not {retain!r}")


def _at_exit(callback: Callable[[], None]) -> None:
    """Have a callback run before the pools are joined at the interpreter's exit.

    ``atexit`` comes after ``concurrent.futures`` has joined its threads, which by then may wait for a dispatcher that
    can no longer start anything; the hook that module uses itself runs in reverse order of registration.
    """
    register = getattr(threading, "_register_atexit", None)
    try:
        (register or atexit.register)(callback)
    except RuntimeError:
        atexit.register(callback)

"""The live objects a person holds: `JobHandle` of an instance, `ChunkHandle` of a chunk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from nbbatch import commands, progress, views
from nbbatch.definition import Job
from nbbatch.engine import Engine
from nbbatch.errors import JobCancelled, JobFailed, NotFoundError, StateError, StoreClosed
from nbbatch.options import options
from nbbatch.records import Ended, InstanceRow
from nbbatch.states import INSTANCE_ENDED, ChunkStatus, InstanceStatus
from nbbatch.store import SUBJOB_KEY, Store

if TYPE_CHECKING:
    import polars as pl

    from nbbatch.meter import Reading
    from nbbatch.pictures.picture import Picture

R_co = TypeVar("R_co", covariant=True)


class Access:
    """The way to a store and its engine, which refuses once they are closed or in a forked child."""

    def __init__(self, store: Store, engine: Engine, batch: Any) -> None:
        self.store = store
        self.batch = batch
        self.pid = os.getpid()
        self.closed = False
        self._engine = engine

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
        """Whether `engine` would give it."""
        return not self.closed and self.pid == os.getpid()


class JobHandle(Generic[R_co]):
    """The live object of one instance. Speaks ``concurrent.futures.Future`` where the names are the same."""

    def __init__(
        self, access: Access, instance: int, job: Job[Any, R_co] | None, end: Future[Ended] | None = None
    ) -> None:
        self._access = access
        self.id = instance
        self.job = job
        self._end = end
        self._reopened = access.engine().reopened if end else 0

    @property
    def batch(self) -> Any:
        """The `Batch` it belongs to."""
        return self._access.batch

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
    def parent(self) -> ChunkHandle | None:
        """The chunk that submitted it as a sub-job; None if a person did."""
        key = self.row.key or ""
        rows = (
            self._store.fetch(views.CHUNK_INSTANCE, key.removeprefix(SUBJOB_KEY)) if key.startswith(SUBJOB_KEY) else []
        )
        return self.batch.instance(rows[0][0]).chunk(int(key.removeprefix(SUBJOB_KEY))) if rows else None

    @property
    def warnings(self) -> list[str]:
        """Distinct warnings of its steps, newest first, up to 4,000 characters in all."""
        self._engine()
        return views.warnings(self._store, self.id)

    @property
    def attached(self) -> bool:
        """Whether the engine works on it or would after `resume`; an unfinished one that is not waits for its job."""
        return self.id in self._engine().live

    def done(self) -> bool:
        """Whether it has ended."""
        return self.status in INSTANCE_ENDED

    def wait(self, timeout: float | None = None, *, progress: bool = False) -> InstanceStatus:
        """Block until it has ended; an interrupt (Ctrl-C, the stop button) ends the waiting, not the run.

        Args:
            timeout: Seconds; None waits without limit.
            progress: Draw a progress line on stderr, through tqdm or rich where one is installed.

        Raises:
            TimeoutError: It has not ended in time; it goes on.
            StateError: It waits for its job, which this process does not know.
        """
        return self._wait(timeout, progress).status

    def _ending(self) -> Future[Ended]:
        """The future of its end; asked for anew once an ended instance was taken up again."""
        engine = self._engine()
        if self._end is None or self._reopened != engine.reopened:
            self._end, self._reopened = engine.call(commands.finished, engine, self.id), engine.reopened
        return self._end

    def _wait(self, timeout: float | None, progress: bool = False) -> Ended:
        try:
            return self._watch(timeout) if progress else self._ending().result(timeout)
        except TimeoutError:
            raise TimeoutError(f"instance {self.id} has not ended after {timeout} s; it goes on") from None
        except KeyboardInterrupt as stop:
            stop.add_note(f"instance {self.id} goes on in the background; run.cancel() ends it")
            raise

    def _watch(self, timeout: float | None) -> Ended:
        from nbbatch import meter

        return meter.watch(self._ending(), self._reading, timeout)

    def _reading(self) -> Reading:
        from nbbatch import scenes

        return scenes.reading(self._store, self._engine(), self.row)

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
        return self._report(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> JobFailed | JobCancelled | None:
        """The error that `result` would raise, or None; blocks until it has ended."""
        try:
            self.result(timeout)
        except (JobFailed, JobCancelled) as error:
            return error
        return None

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait without blocking the event loop, then give what `result` gives."""
        end = yield from asyncio.shield(asyncio.wrap_future(self._ending())).__await__()
        return self._report(end)

    def _report(self, end: Ended) -> R_co:
        if end.status is InstanceStatus.FAILED:
            raise JobFailed(self.id, self._why())
        if end.status is InstanceStatus.CANCELLED:
            raise JobCancelled(
                self.id, f"instance {self.id} of job {self.row.job!r} was cancelled; run.retry() takes it up again"
            )
        if end.report is None:
            return cast("R_co", None)
        job = self._job()
        assert job.report is not None
        return cast("R_co", job.report.decode(end.report))

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
        median_seconds and p95_seconds of the last attempts (while it runs: of all), started, ended.
        """
        live = self._engine().live.get(self.id)
        return views.steps(self._store, self.id, live.stored_counts if live else ())

    def chunks(
        self, step: str | None = None, *, status: str | None = None, limit: int | None = None, offset: int = 0
    ) -> pl.DataFrame:
        """One row per chunk, in order of creation; at most 100,000 unless ``limit`` says otherwise.

        Columns: id, step, parent, seq, status, attempts, errors, polls, created, started, ended, seconds (last
        attempt), due (next attempt), records, error_type, error (last attempt).
        """
        self._engine()
        return views.chunks(self._store, self.id, step, None if status is None else str(status), limit, offset)

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
        return self._access.store

    def _engine(self) -> Engine:
        return self._access.engine()

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

    # --- pictures ---------------------------------------------------------------------------------

    def chain(self) -> Picture:
        """Its chain as a picture: a box per step, typed arrows, gates, chunks by state, durations.

        It shows the present moment, is as big for ten chunks as for a million, and saves itself with ``.save("chain.svg")``.
        """
        from nbbatch import scenes

        return scenes.chain(self._store, self._engine(), self.row)

    def timeline(self) -> Picture:
        """Attempts that ended, in time and by worker; above 400 of them how busy each worker was, and with what."""
        from nbbatch import scenes

        self._engine()
        return scenes.timeline(self._store, self.row)

    def panel(self) -> Any:
        """The live panel as a widget (needs ``nbbatch[notebooks]``), also of an ended run; ``.frame`` is its open tab.

        Showing it starts no work, and closing it ends none.
        """
        from nbbatch.cockpit.panel import Panel

        return Panel(self, self._store, self._engine())

    def _ipython_display_(self) -> None:
        """Live while it runs, where a notebook can; else IPython falls through to the plain page."""
        how = options.shown()
        if how == "none":
            return
        if how == "text":
            print(repr(self))  # noqa: T201 - what was asked for
            return
        if how == "static" or not self._access.usable or self.id not in self._engine().live:
            raise NotImplementedError
        try:
            from nbbatch.cockpit.panel import in_notebook, show
        except ImportError:
            if how == "live":
                raise
            raise NotImplementedError from None
        if not in_notebook():
            raise NotImplementedError
        show(self, self._store, self._engine(), self._page)

    def _page(self) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return self._line(self._counts())

    def _line(self, counts: list[tuple[str, int]]) -> str:
        from nbbatch.pictures import static

        row = self.row
        waits = row.status not in INSTANCE_ENDED and not self.attached
        return static.run_line(row, self.progress, self.eta, waits=waits, steps=counts)

    def _counts(self) -> list[tuple[str, int]]:
        from nbbatch.pictures import static

        live = self._engine().live.get(self.id)
        if live:
            return static.status_counts(live.counts)
        steps = self.steps()
        counts = [(status.value, int(steps[status.name.lower()].sum())) for status in ChunkStatus]
        return [(status, count) for status, count in counts if count]

    def _repr_html_(self) -> str:
        from nbbatch import scenes

        return scenes.run_page(self._store, self._engine(), self.row, self._line)


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
    def subjob(self) -> JobHandle[Any] | None:
        """The instance it submitted, of a step that is a job; None before that, and of other steps."""
        rows = self._store.fetch("SELECT id FROM instance WHERE key = $1", f"{SUBJOB_KEY}{self.id}")
        return self.run.batch.instance(rows[0][0], self._subjob_definition()) if rows else None

    def _subjob_definition(self) -> Job[Any, Any] | None:
        return None if self.run.job is None else self.run._node(self.step).step.job  # pyright: ignore[reportPrivateUsage]

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
        return self.run._store  # pyright: ignore[reportPrivateUsage]

    def __repr__(self) -> str:
        row = self._row()
        error = f", {row['error_type']}: {row['error']}" if row["error"] else ""
        return f"<chunk {self.id} of step {row['step']!r}: {row['status']}, {row['attempts']} attempts{error[:200]}>"

    def _repr_html_(self) -> str:
        from nbbatch import scenes

        return scenes.chunk_page(self._store, self.run.row, self._row(), self.traceback, self.log)

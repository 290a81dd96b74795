"""The live object a person holds: `JobHandle` of an instance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from nbbatch.base.errors import NotFoundError, StateError
from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.chunk import ChunkHandle
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine import commands, decide
from nbbatch.engine.dispatcher import Engine
from nbbatch.future import RunFuture
from nbbatch.instance import checked_id
from nbbatch.store import frames, sequence
from nbbatch.store.reading import Reader
from nbbatch.store.sequence import Values
from nbbatch.values.codec import plain
from nbbatch.worker.context import StoredParams

if TYPE_CHECKING:
    import polars as pl

    from nbbatch.heal import code_versions, plan
    from nbbatch.heal.compare import Diff
    from nbbatch.heal.failures import Failures
    from nbbatch.pictures.picture import Picture

R_co = TypeVar("R_co", covariant=True)


class JobHandle(RunFuture[R_co]):
    """The live object of one instance. Speaks ``concurrent.futures.Future`` where the names are the same."""

    _WHAT = "a run"
    _INDEX = "run.chunk(id) gives one chunk, run.chunks() a frame of all"
    _MEANT: ClassVar[Mapping[str, str]] = {
        "get value results join output res": "run.result() waits and gives the report, run.outputs(step) what a step gave",
        "state": "run.status is its state",
        "stop kill abort terminate": "run.cancel() ends it",
        "start run submit execute go": "batch.submit(job, params) starts a job; run.resume() goes on, run.retry() runs what failed again",
        "restart repeat redo": "run.retry() runs what failed again, run.rerun(step=…) a whole step",
        "tasks items work work_chunks": "run.chunks() is a frame of all chunks",
        "error failed error_message": "run.errors() is a frame of errors, run.failures() groups them, run.exception() waits for its own",
        "traceback": "run.errors() has every traceback",
        "log": "run.logs() is a frame of what steps printed and logged",
        "ready finished completed is_done is_finished ended": "run.done() says whether it has ended",
        "is_running": "run.running() says it",
        "is_cancelled is_canceled canceled": "run.cancelled() says it",
        "name version key created started seconds duration row info": "batch.instances() has it, in the row of run.id",
        "frame df to_frame to_pandas to_polars": "run.chunks(), run.steps(), run.attempts() … are polars frames",
        "watch monitor progress_bar": "run.panel() shows it live, run.wait(progress=True) in a terminal",
        "add_callback then on_done": "run.add_done_callback(fn), or @job.on('instance_ended')",
    }

    @property
    def batch(self) -> Any:
        """The `Batch` it belongs to."""
        return self._access.batch

    # --- state ------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the work done, from 0 to 1; it never falls. Formula: ``nbbatch.engine.decide.progress``."""
        live = self._engine().live.get(self.id)
        return live.best if live and live.changed else live.progress() if live else self._row.progress

    @property
    def rate(self) -> float | None:
        """Records per second so far; None while unknown. Formula: ``nbbatch.engine.decide.rate``."""
        live = self._engine().live.get(self.id)
        return decide.rate(live.records, live.started_us, live.latest_end_us) if live else None

    @property
    def eta(self) -> float | None:
        """Seconds left if work goes on as it went; None while unknown or proved too short, 0 when ended."""
        engine = self._engine()
        live = engine.live.get(self.id)
        if live:
            return decide.eta(live.progress(), live.started_us, live.latest_end_us, engine.clock.now())
        return 0.0 if self._row.status in INSTANCE_ENDED else None

    @property
    def parent(self) -> ChunkHandle | None:
        """The chunk that submitted it as a sub-job; None if a person did."""
        chunk = self._row.parent
        rows = [] if chunk is None else self._store.fetch("chunk_instance", chunk)
        return self.batch.instance(rows[0][0]).chunk(chunk) if rows else None

    @property
    def user_data(self) -> dict[str, Any]:
        """What ``submit(user_data=)`` gave last; empty if nothing."""
        self._engine()
        rows = self._store.fetch("user_data", self.id)
        return json.loads(rows[0][0]) if rows else {}

    @property
    def warnings(self) -> list[str]:
        """Distinct warnings of its steps, newest first, 4,000 characters in all: long ones are cut, `logs` has them whole.

        They are what steps gave `context().warn` and ``warnings.warn``; before them stands what keeps it from going on.
        """
        hung = self._hung()
        return [*([hung] if hung else []), *frames.warnings(self._store, self.id)]

    def _hung(self) -> str | None:
        """What is said where it waits for workers that calls past their time hold."""
        engine = self._engine()
        return engine.hung() if self.id in engine.live else None

    @property
    def attached(self) -> bool:
        """Whether the engine works on it or would after `resume`; an unfinished one that is not waits for its job."""
        return self.id in self._engine().live

    # --- actions ----------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """End it now: nothing new starts, open chunks become CANCELLED, late results are dropped.

        Returns:
            As of a ``concurrent.futures.Future``: False if it had ended already; then nothing changes.
        """
        engine = self._engine()
        return engine.call(commands.cancel, engine, self.id)

    def pause(self) -> JobHandle[R_co]:
        """Claim nothing more; running chunks finish and are recorded. Holds over a restart, until `resume`.

        Raises:
            StateError: It has ended.
        """
        engine = self._engine()
        engine.call(commands.pause, engine, self.id)
        return self

    def resume(self, job: JobDefinition[Any, Any] | None = None) -> JobHandle[R_co]:
        """Go on after `pause`, or after a restart once the job is known; with this job's code where one is given.

        Raises:
            StateError: It has ended, its job is not known, or ``job`` is another one.
            ShapeError: The job's chain differs from the one it began with.
        """
        engine = self._engine()
        mended, job = job is not None, job or self.job
        engine.call(commands.resume, engine, self.id, job, mended)
        self.job = job
        return self

    def plan(self, job: JobDefinition[Any, Any] | None = None) -> plan.Plan:
        """What `retry` would do: per step the code before and now, chunks to retry, chunks kept.

        Raises:
            StateError: Its job is not known in this process, or ``job`` is another one.
            ShapeError: The job's chain differs from the one it began with.
        """
        from nbbatch.heal import plan

        self._engine()
        return plan.plan(self._store, self.id, job or self._job())

    def retry(
        self, job: JobDefinition[Any, Any] | None = None, *, params: Any = None, quiet: bool = False
    ) -> JobHandle[R_co]:
        """Run failed chunks again (and cancelled ones), with a fresh budget; finished ones only of steps with ``always=True``.

        Prints what it does, as `plan` would say it before: ``count 3f2a → 9b1c: 247 to retry, 9,741 kept``.

        Args:
            job: The job with mended code; default: the one this handle knows.
            params: The instance's parameters once more, where they hold secrets that this process was not given.
            quiet: Print nothing.

        Raises:
            StateError: It COMPLETED with nothing failed, its job is not known or another one, a secret is missing, or its
                ``start_limit=`` is reached.
            ShapeError: The job's chain differs from the one it began with.
        """
        return self._retry(job, params, None, quiet)

    def _retry(
        self, job: JobDefinition[Any, Any] | None, params: Any, chunks: list[int] | None, quiet: bool
    ) -> JobHandle[R_co]:
        from nbbatch.engine import rerun
        from nbbatch.heal import plan

        engine, job = self._again(job, params)
        said = plan.plan(self._store, self.id, job, chunks) if job and not quiet else None
        if chunks is None:
            engine.call(rerun.retry_all, engine, self.id, job)
        else:
            engine.call(commands.retry, engine, self.id, job, chunks)
        return self._goes_on(job, said)

    def _goes_on(self, job: JobDefinition[Any, Any] | None, said: plan.Plan | None) -> JobHandle[R_co]:
        """It has been taken up with a job's code: say what runs, in the cell that asks for it."""
        self.job = job
        if said is not None:
            print(said)  # noqa: T201
        return self

    def _again(self, job: JobDefinition[Any, Any] | None, params: Any) -> tuple[Engine, JobDefinition[Any, Any] | None]:
        """The engine and the job to go on with, once it has the secrets that were brought."""
        engine = self._engine()
        job = job or self.job
        if params is not None:
            codec = self._job(job).params
            valid = codec.validate(params)
            given = StoredParams.of(codec, valid)
            engine.call(commands.bring_secrets, engine, self.id, job, given)
        return engine, job

    def rerun(
        self, job: JobDefinition[Any, Any] | None = None, *, step: str, where: pl.Expr | None = None, params: Any = None,
        quiet: bool = False,
    ) -> JobHandle[R_co]:  # fmt: skip
        """Do chunks of one step again, and all that came of them; the rest stays.

        The chosen chunks and their descendants are superseded: kept in ``history()`` and ``attempts()``, counted nowhere
        else. New chunks of the same inputs take their place; gates behind them close until they are done, and the
        reduction runs again.

        Args:
            job: The job with the code to run; default: the one this handle knows.
            step: Name of the step.
            where: Which of its chunks, by the fields of their inputs (a plain input is ``value``), ``chunk`` (its id)
                and ``status``; default: all.
            params: As for `retry`.
            quiet: Do not print what it does.

        Raises:
            StateError: It runs (pause it first), its job is not known, no chunk is chosen, a secret is missing, or its
                ``start_limit=`` is reached.
            NotFoundError: There is no such step, or no such column.
            ValueError: ``where`` is no condition, or does not fit the inputs.
            ShapeError: The job's chain differs from the one it began with.
        """
        from nbbatch.engine import rerun
        from nbbatch.heal import plan
        from nbbatch.heal.compare import chosen

        engine, job = self._again(job, params)
        index = frames.require_step(self._store, self.id, step)
        chunks = chosen(self._store, self.id, index, where)
        said = plan.plan_rerun(self._store, self.id, job, chunks) if job and not quiet else None
        engine.call(rerun.rerun, engine, self.id, job, index, chunks)
        return self._goes_on(job, said)

    def skip(self, chunk: int, reason: str) -> JobHandle[R_co]:
        """Leave a chunk out for a reason; gates count it as done.

        A FAILED instance goes on to its end once no more has failed than its budget allows.

        Raises:
            StateError: The chunk runs or has ended well, or the instance failed and kept no data to go on with.
            NotFoundError: There is no such chunk.
        """
        return self._skip_some([chunk], reason)

    # --- looking into it ---------------------------------------------------------------------------

    def failures(self, *, limit: int | None = 100_000) -> Failures:
        """Failed chunks by cause, the largest group first, with what their inputs have in common against the good ones.

        Act on a group: ``run.failures()[0].retry(job)``, ``.skip("why")``, ``.chunks()``.

        Args:
            limit: Failed chunks looked at, the newest (None: all); and good ones compared with, at most 20,000.
        """
        from nbbatch.heal.failures import Actions, failures

        self._engine()
        return failures(self._store, self.id, Actions(self._chunks_by_id, self._retry, self._skip_some), limit)

    def code(self, step: str | None = None) -> code_versions.Versions:
        """The versions of a step's code that ran, oldest first, with what changed; default: of the last step.

        Raises:
            NotFoundError: There is no such step.
        """
        from nbbatch.heal import code_versions

        self._engine()
        names = frames.step_names(self._store, self.id)
        step = names[-1] if step is None else step
        return code_versions.versions(self._store, self.id, frames.require_step(self._store, self.id, step), step)

    def diff(self, other: JobHandle[Any], step: str) -> Diff:
        """What a step gave here against another run, matched on the chunks' inputs: "did my change alter the results?".

        Args:
            other: The later run, of this store or another one.
            step: Name of a step that both have.

        Raises:
            NotFoundError: One of them has no such step.
            StateError: One of them was submitted with a ``retain=`` that dropped its values when it ended.
            TypeError: ``other`` is no handle.
        """
        from nbbatch.heal.compare import compare

        if not isinstance(other, JobHandle):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"diff() compares with another run, not {other!r}; batch.instance(id) gives one")

        self._engine()
        index = frames.require_step(self._store, self.id, step)
        theirs = frames.require_step(other._store, other.id, step)
        for row in (self._row, other._row):
            if row.retain != "all" and row.status in INSTANCE_ENDED:
                raise StateError(
                    f"values of instance {row.id} were dropped when it ended, as it was submitted with retain={row.retain!r}; "
                    "runs submitted with retain='all' can be compared"
                )
        return compare(self._store, self.id, index, other._store, other.id, theirs, step)

    def _chunks_by_id(self, chunks: list[int]) -> pl.DataFrame:
        frame = self.chunks(limit=None)
        return frame.filter(frame["id"].is_in(chunks))

    def _skip_some(self, chunks: list[int], reason: str) -> JobHandle[R_co]:
        from nbbatch.engine import rerun

        engine = self._engine()
        engine.call(rerun.skip_all, engine, self.id, self.job, chunks, reason)
        return self

    # --- values -----------------------------------------------------------------------------------

    def inputs(self, step: str | None = None) -> Values[Any]:
        """Inputs of a step's chunks in the order of the items; of the first step the parameters, of the reduction all it reads.

        Args:
            step: Its name; default: the last step.

        Returns:
            A sequence that reads its values in pages. They are typed where this process has seen the instance's job, else
            plain JSON values (a frame as polars.DataFrame).

        Raises:
            NotFoundError: There is no such step.
        """
        index, kind = self._place(step)
        if index == 0:
            return Values.of([self._row.params], self._read_params)
        if kind is Kind.REDUCTION:
            keys, read = sequence.outputs(self._opened, self.id, index, reduced=True)
        else:
            keys, read = sequence.inputs(self._opened, self.id, index)
        return Values(keys, read, self._decoder(index, "input"))

    def outputs(self, step: str | None = None) -> Values[Any]:
        """What a step gave, in the order of the items; of the reduction its report. Arguments and errors as `inputs`."""
        index, kind = self._place(step)
        if kind is Kind.REDUCTION:
            report = self._row.report
            return Values.of([] if report is None else [report], self._read_report)
        keys, read = sequence.outputs(self._opened, self.id, index)
        return Values(keys, read, self._decoder(index, "output"))

    @property
    def params(self) -> Any:
        """The parameters, typed as `inputs`; secrets are masked, as they are never stored."""
        return self._read_params(self._row.params)

    @property
    def report(self) -> Any:
        """What the reduction returned, as plain JSON values, whatever this process knows; None while there is none.

        `result` gives it typed, and waits for it.
        """
        report = self._row.report
        return None if report is None else plain(report)

    def chunk(self, chunk: int) -> ChunkHandle:
        """One chunk, to look into.

        Raises:
            NotFoundError: There is no such chunk.
            TypeError: ``chunk`` is no id.
        """
        self._engine()
        chunk = checked_id("a chunk", chunk)
        if not self._store.fetch("chunk", self.id, chunk):
            raise NotFoundError(f"instance {self.id} has no chunk {chunk}; run.chunks() lists those there are")
        return ChunkHandle(self, chunk)

    # --- inside -----------------------------------------------------------------------------------

    def _opened(self) -> Reader:
        """The store, as long as the batch is open."""
        self._engine()
        return self._store

    def _job(self, job: JobDefinition[Any, Any] | None = None) -> JobDefinition[Any, Any]:
        """The job whose code is to run."""
        return commands.known(job or self.job, self._row)

    def _read_params(self, params: bytes) -> Any:
        job = self._seen()
        return plain(params) if job is None else job.params.masked(params)

    def _place(self, step: str | None) -> tuple[int, Kind]:
        """Which step is meant, and what kind it is; None: the last."""
        self._engine()
        names = frames.step_names(self._store, self.id)
        index = len(names) - 1 if step is None else frames.require_step(self._store, self.id, step)
        return index, Kind(self._store.fetch("step", self.id, index)[0][0])

    def _decoder(self, index: int, side: Literal["input", "output"]) -> Callable[[bytes], Any]:
        """How values of a step are read."""
        job = self._seen()
        codec = None if job is None else getattr(job.nodes[index].step, side)
        return plain if codec is None else codec.decode

    # --- pictures ---------------------------------------------------------------------------------

    def chain(self) -> Picture:
        """Its chain as a picture: a box per step, typed arrows, gates, chunks by state, durations.

        It shows the present moment, is as big for ten chunks as for a million, and saves itself with ``.save("chain.svg")``.
        """
        from nbbatch.panel import run_pages

        return run_pages.chain(self._store, self._engine(), self._row)

    def timeline(self) -> Picture:
        """Attempts that ended, in time and by worker; above 400 of them how busy each worker was, and with what."""
        from nbbatch.panel import run_pages

        self._engine()
        return run_pages.timeline(self._store, self._row)

    def panel(self) -> Any:
        """The live panel as a widget (needs ``nbbatch[notebooks]``), also of an ended run; ``.frame()`` is its open tab.

        Showing it starts no work, and closing it ends none.

        Raises:
            ImportError: anywidget is not installed; ``pip install 'nbbatch[notebooks]'``.
        """
        from nbbatch.panel.widgets import Panel

        return Panel(self, self._store, self._engine())

    def _ipython_display_(self) -> None:
        """Live while it runs, where a notebook can; else IPython falls through to the plain page."""
        from nbbatch.base.display import display

        display(self, lambda: self._access.usable and self.id in self._engine().live, self._show)

    def _show(self) -> None:
        from nbbatch.panel.widgets import show_run

        show_run(self, self._store, self._engine(), self._page, self._access.last_looks)

    def _page(self) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return self._gone() or self._line(self._counts())

    def _gone(self) -> str | None:
        """What is said of an instance that cannot be read."""
        if not self._access.usable:
            return f"<instance {self.id} of a closed batch: nb.open({self._store.path!r}) opens it again>"
        try:
            _ = self._row
        except NotFoundError:
            return f"<instance {self.id}, which was purged from {self._store.path}>"
        return None

    def _line(self, counts: list[tuple[str, int]]) -> str:
        from nbbatch.pictures import static

        row = self._row
        waits = row.status not in INSTANCE_ENDED and not self.attached
        line = static.run_line(row, self.progress, self.eta, waits=waits, steps=counts)
        live = self._engine().live.get(self.id)
        why = self._hung() or (self._engine().hindrance(live) if live else None)
        return f"{line} · {why}" if why else line

    def _counts(self) -> list[tuple[str, int]]:
        from nbbatch.panel import run_pages
        from nbbatch.pictures import static

        return static.status_counts(run_pages.counts(self._store, self._engine(), self._row))

    def _repr_html_(self) -> str:
        from nbbatch.panel import run_pages
        from nbbatch.pictures import static

        if gone := self._gone():
            return static.line(gone)
        return run_pages.run_page(self._store, self._engine(), self._row, self._line)

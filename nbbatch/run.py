"""`JobHandle`: the live object of an instance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from nbbatch.base.errors import NotFoundError, StateError
from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.chunk import ChunkHandle
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine import commands
from nbbatch.engine.decide import no_such_chunk
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.known import current_form
from nbbatch.future import RunFuture
from nbbatch.instance import checked_id, typed
from nbbatch.store import frames, sequence
from nbbatch.store.reading import Reader
from nbbatch.store.sequence import Values
from nbbatch.values.views import untyped
from nbbatch.worker.older_class import reading

if TYPE_CHECKING:
    import polars as pl

    from nbbatch.heal import code_versions, plan
    from nbbatch.heal.compare import Diff
    from nbbatch.heal.failures import Failures
    from nbbatch.pictures.picture import Picture

R_co = TypeVar("R_co", covariant=True)


class JobHandle(RunFuture[R_co]):
    """The handle of one instance. It has the methods of ``concurrent.futures.Future``, and more.

    Raises:
        StoreClosed: By every method and property except `batch`, once the batch is closed, and in a forked child process.

    Example:
        >>> run = batch.submit(job, 3, new=True)
        >>> run.result(), run.status == "COMPLETED"
        (7.5, True)
        >>> run
        ✓ COMPLETED · shop v1 #... · 5 chunks (5 COMPLETED)
    """

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
        "monitor progress_bar": "run.panel() shows it live, run.watch() in a terminal",
        "add_callback then on_done": "run.add_done_callback(fn), or @job.on('instance_ended')",
    }

    @property
    def batch(self) -> Any:
        """The `Batch` that the instance belongs to.

        Example:
            >>> run.batch is batch
            True
        """
        return self._access.batch

    # --- state ------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the work that is done, from 0 to 1; never decreases while the instance runs.

        Work is chunks × what one of their step takes on the mean, with those that a step has still to give counted as it gave so
        far; or the shares of ``nb.step(weight=)``, where any is given. Formula: ``nbbatch.engine.prospect.share``.

        Example:
            >>> run.progress
            1.0
        """
        live = self._engine().live.get(self.id)
        return live.share if live else self._row.progress

    @property
    def rate(self) -> float | None:
        """Records per second of the time that this process worked on it; None while unknown, and in the first half second.

        Formula: ``nbbatch.engine.prospect.rate``.

        Example:
            >>> run.rate is None  # it has ended
            True
        """
        live = self._engine().live.get(self.id)
        return live.rate() if live else None

    @property
    def eta(self) -> float | None:
        """Seconds left if work goes on as it went of late, by what each step takes and how many attempts run at once.

        None while unknown (as too much of what is left is of steps of which nothing has ended), paused, proved too short, and in
        the first half second; 0 when ended. Of the time, only that counts which this process worked on it. Formula:
        ``nbbatch.engine.prospect.eta``.

        Example:
            >>> run.eta  # seconds
            0.0
        """
        engine = self._engine()
        live = engine.live.get(self.id)
        if live:
            return live.eta(engine.clock.now())
        return 0.0 if self._row.status in INSTANCE_ENDED else None

    @property
    def parent(self) -> ChunkHandle | None:
        """The chunk that submitted this instance as a sub-job; None if it is not a sub-job.

        Example:
            >>> run.parent is None  # it is no sub-job
            True
        """
        chunk = self._row.parent
        rows = [] if chunk is None else self._store.fetch("chunk_instance", chunk)
        return self.batch.instance(rows[0][0]).chunk(chunk) if rows else None

    @property
    def user_data(self) -> dict[str, Any]:
        """The user data that was last given to ``submit(user_data=)``; empty if none was.

        Example:
            >>> batch.submit(job, 3, new=True, user_data={"ticket": 17}).user_data
            {'ticket': 17}
        """
        self._engine()
        rows = self._store.fetch("user_data", self.id)
        return json.loads(rows[0][0]) if rows else {}

    @property
    def warnings(self) -> list[str]:
        """Distinct warnings of its steps (``context().warn``, ``warnings.warn``), newest first, at most 4,000 characters in all.

        Long warnings are cut; `logs` has them in full. If all workers are occupied by calls that exceeded their timeout, a line that says so comes first.

        Example:
            >>> run.warnings
            []
        """
        hung = self._hung()
        return [*([hung] if hung else []), *frames.warnings(self._store, self.id)]

    def _hung(self) -> str | None:
        """What is said where it waits for workers that calls past their time hold."""
        engine = self._engine()
        return engine.hung() if self.id in engine.live else None

    @property
    def attached(self) -> bool:
        """Whether the engine has the instance in memory. An unfinished instance that it has not waits for its job.

        Example:
            >>> waiting = batch.submit(nb.Job("poll", poll), Path("not-there"), new=True)
            >>> waiting.attached, waiting.cancel()
            (True, True)
        """
        return self.id in self._engine().live

    # --- actions ----------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the instance: nothing new starts, open chunks become CANCELLED, late results are discarded.

        Async steps that run are cancelled; others are told by ``context().cancelled``.

        Returns:
            False if the instance had ended already, in which case nothing changes. This is what a
            ``concurrent.futures.Future`` returns.

        Raises:
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> run.cancel()  # it has ended
            False
        """
        engine = self._engine()
        return engine.call(commands.cancel, engine, self.id)

    def pause(self) -> JobHandle[R_co]:
        """Stop claiming chunks until `resume`, also after a restart. Running chunks finish and are recorded.

        Raises:
            StateError: The instance has ended.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> run.pause()
            Traceback (most recent call last):
            nbbatch.StateError: ...
        """
        engine = self._engine()
        engine.call(commands.pause, engine, self.id)
        return self

    def resume(self, job: JobDefinition[Any, Any] | None = None) -> JobHandle[R_co]:
        """Continue after `pause`, or after a restart.

        Args:
            job: The job with the code to run; default: the job this handle knows.

        Raises:
            StateError: The instance has ended, its job is not known here, ``job`` is another job, or a secret parameter is missing.
            ShapeError: The job's chain differs from the one the instance began with.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> waiting = batch.submit(nb.Job("poll", poll), Path("not-there"))
            >>> waiting.pause().status, waiting.resume().status
            (...)
        """
        engine = self._engine()
        mended, job = job is not None, job or self.job
        engine.call(commands.resume, engine, self.id, job, mended)
        self.job = job
        return self

    def plan(self, job: JobDefinition[Any, Any] | None = None) -> plan.Plan:
        """Return what `retry` would do: for each step the old and new code, the chunks to retry and the chunks kept.

        Args:
            job: The job with the code to run; default: the job this handle knows.

        Raises:
            StateError: The instance's job is not known in this process, or ``job`` is another job.
            ShapeError: The job's chain differs from the one the instance began with.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.plan()
            price ..., unchanged: 1 to retry, 4 kept
        """
        from nbbatch.heal import plan

        self._engine()
        return plan.plan(self._store, self.id, job or self._job())

    def retry(
        self, job: JobDefinition[Any, Any] | None = None, *, params: Any = None, quiet: bool = False
    ) -> JobHandle[R_co]:
        """Run failed and cancelled chunks again, with a fresh budget of attempts, and COMPLETED ones of steps with ``always=True``.

        Prints what it does, as `plan` returns it: ``count 3f2a → 9b1c: 247 to retry, 9,741 kept``.

        Args:
            job: The job with the code to run; default: the job this handle knows.
            params: The instance's parameters, if they contain secrets that this process was not given or that are new. A dict of
                the secrets is enough: stored values stand for the others.
            quiet: Print nothing.

        Raises:
            StateError: The instance COMPLETED and nothing failed, its job is not known here, ``job`` is another job, a secret
                parameter is missing, its data was dropped (``retain=``), or its ``start_limit=`` is reached.
            ParameterError: ``params`` is invalid, or lacks a secret.
            ShapeError: The job's chain differs from the one the instance began with.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> @nb.step(max_attempts=1)
            ... def price(order: Order) -> float:
            ...     return float(order.price.replace(",", "."))
            >>> failed.retry(nb.Job("shop", read >> price >> total)).result()
            price ... → ...: 1 to retry, 4 kept
            12.5
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
            self._move_rest(engine, job)
            engine.call(commands.retry, engine, self.id, job, chunks)
        return self._goes_on(job, said)

    def _move_rest(self, engine: Engine, job: JobDefinition[Any, Any] | None) -> None:
        """Of a run that was cancelled: what a fan-out gave becomes chunks, a part at a time, before some are chosen in one transaction."""
        from nbbatch.engine import rerun

        while engine.call(rerun.move_some, engine, self.id, job):
            pass

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
            known = self._job(job)
            given = commands.params_of(engine, known, self._row).brought(params, known.name)
            engine.call(commands.bring_secrets, engine, self.id, job, given)
        return engine, job

    def rerun(
        self, job: JobDefinition[Any, Any] | None = None, *, step: str, where: pl.Expr | None = None, params: Any = None,
        quiet: bool = False,
    ) -> JobHandle[R_co]:  # fmt: skip
        """Run chunks of one step again, with everything that came of them. All other chunks are kept.

        The chosen chunks and their descendants are superseded: ``history()`` and ``attempts()`` still show them, and nothing else
        counts them. New chunks with the same inputs replace them. Gates behind them close until they are done, and the
        reduction runs again. Prints what it does.

        Args:
            job: The job with the code to run; default: the job this handle knows.
            step: Name of the step.
            where: Which chunks of the step, as a condition on the fields of their inputs (``value`` if an input is not a
                model), their id ``chunk``, their ``status``, and on the first step the parameters; default: all.
            params: As for `retry`.
            quiet: Print nothing.

        Raises:
            StateError: The instance is running (pause it first), its job is not known here, ``job`` is another job, no chunk
                matches, a secret parameter is missing, its data was dropped (``retain=``), or its ``start_limit=`` is reached.
            NotFoundError: There is no such step or column.
            ValueError: ``where`` is not a condition, or does not fit the inputs.
            ParameterError: ``params`` is invalid, or lacks a secret.
            ShapeError: The job's chain differs from the one the instance began with.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> run.rerun(step="price", where=pl.col("id") == 2).result()
            price ..., unchanged: 1 to rerun, 2 kept
            ...
            7.5
        """
        from nbbatch.engine import rerun
        from nbbatch.heal import plan
        from nbbatch.heal.compare import chosen

        engine, job = self._again(job, params)
        index = frames.require_step(self._store, self.id, step)
        chunks = chosen(self._store, self.id, index, where)
        said = plan.plan_rerun(self._store, self.id, job, chunks) if job and not quiet else None
        self._move_rest(engine, job)
        engine.call(rerun.rerun, engine, self.id, job, index, chunks)
        return self._goes_on(job, said)

    def skip(self, chunk: int, reason: str) -> JobHandle[R_co]:
        """Leave out a chunk and record the reason. Gates count it as done.

        A FAILED instance continues to its end once no more chunks have failed than its budget allows.

        Args:
            chunk: Id of the chunk.
            reason: Why; it is shown in ``skips()``.

        Raises:
            StateError: The chunk is running, has COMPLETED, or is the reduction, or the instance's data was dropped (``retain=``).
            NotFoundError: The instance has no such chunk.
            ValueError: The reason is blank.
            StoreError: The store cannot be written, or the batch is closed (StoreClosed).

        Example:
            >>> failed.skip(10, "the price is lost").result()
            10.0
        """
        return self._skip_some([chunk], reason)

    # --- looking into it ---------------------------------------------------------------------------

    def failures(self, *, limit: int | None = 100_000) -> Failures:
        """Failed chunks grouped by cause, the largest group first, with what their inputs have in common.

        A group can be acted on: ``run.failures()[0].retry(job)``, ``.skip("why")``, ``.chunks()``.

        Args:
            limit: Maximum number of failed chunks to read, newest first; None: all. They are compared with as many COMPLETED
                chunks, at most 20,000; of a group at most 2,000 inputs are.

        Raises:
            ValueError: ``limit`` is not a number of chunks.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.failures()
            1 failed chunk, 1 cause
            1 × ValueError: could not convert string to float: …  [price, price: return float(order.price)]
                1 of 1 has price = "2,50"; 0 of 4 good ones do
                for example chunk 10 (id=3 · price=2,50): could not convert string to float: '2,50'
        """
        from nbbatch.heal.failures import Actions, failures

        self._engine()
        return failures(self._store, self.id, Actions(self._chunks_by_id, self._retry, self._skip_some), limit)

    def code(self, step: str | None = None) -> code_versions.Versions:
        """The versions of a step's code that ran, oldest first, with the changes between them.

        Args:
            step: Name of the step; default: the last step.

        Raises:
            NotFoundError: There is no such step.
            StoreClosed: The batch is closed.

        Example:
            >>> run.code("price")
            step price, 1 version of its code
              ...: 3 attempts, 3 completed, 0 failed
        """
        from nbbatch.heal import code_versions

        self._engine()
        names = frames.step_names(self._store, self.id)
        step = names[-1] if step is None else step
        return code_versions.versions(self._store, self.id, frames.require_step(self._store, self.id, step), step)

    def diff(self, other: JobHandle[Any], step: str) -> Diff:
        """Compare the outputs of a step with those of another run, chunk by chunk, matched by equal inputs.

        Args:
            other: The later run, of this store or another one.
            step: Name of a step that both have.

        Raises:
            NotFoundError: One of the runs has no such step.
            TypeError: ``other`` is not a handle.
            StateError: The values of one of them were dropped (``retain=``).
            StoreClosed: The batch of one of them is closed.

        Example:
            >>> run.diff(failed, "price")
            step price: 0 changed, 2 added, 0 removed, 3 the same
              added {"id": 3, "price": "2,50"}: status None → FAILED
              added {"id": 4, "price": "2.50"}: status None → COMPLETED
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
        """The inputs of a step's chunks, in the order of the items.

        Those of the first step are the parameters; those of the reduction are all values that it reads.

        Args:
            step: Name of the step; default: the last step.

        Returns:
            A sequence that reads its values in pages. They are typed if this process has seen the instance's job, otherwise
            JSON values, with frames and arrays of the libraries that are installed.

        Raises:
            NotFoundError: There is no such step.
            StoreClosed: The batch is closed.

        Example:
            >>> run.inputs("price")[0]
            Order(id=0, price='2.50')
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
        """The outputs of a step's chunks, in the order of the items; of the reduction, its report.

        Args:
            step: Name of the step; default: the last step.

        Returns:
            A sequence, as for `inputs`.

        Raises:
            NotFoundError: There is no such step.
            StoreClosed: The batch is closed.

        Example:
            >>> list(run.outputs("price"))
            [2.5, 2.5, 2.5]
        """
        index, kind = self._place(step)
        if kind is Kind.REDUCTION:
            report = self._row.report
            return Values.of([] if report is None else [report], self._read_report)
        keys, read = sequence.outputs(self._opened, self.id, index)
        return Values(keys, read, self._decoder(index, "output"))

    @property
    def params(self) -> Any:
        """The parameters, typed as for `inputs`. Secrets are masked, because they are never stored.

        Example:
            >>> run.params
            3
        """
        return self._read_params(self._row.params)

    @property
    def report(self) -> Any:
        """The value returned by the reduction, without its types in every process: JSON values, frames, arrays; None if there is none yet.

        `result` waits for it and returns it typed.

        Example:
            >>> run.report
            7.5
        """
        report = self._row.report
        return None if report is None else untyped(report)

    def chunk(self, chunk: int) -> ChunkHandle:
        """Return the handle of one chunk.

        Args:
            chunk: Its id.

        Raises:
            NotFoundError: The instance has no such chunk.
            TypeError: ``chunk`` is not an id.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.chunk(10)
            <chunk 10 of step 'price': FAILED, 1 attempt, ValueError: could not convert string to float: '2,50'>
        """
        self._engine()
        chunk = checked_id("a chunk", chunk)
        if not self._store.fetch("chunk", self.id, chunk):
            raise NotFoundError(no_such_chunk(self.id, chunk))
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
        return (
            untyped(params) if job is None else typed(lambda data: job.params.masked(current_form(job, data)), params)
        )

    def _place(self, step: str | None) -> tuple[int, Kind]:
        """Which step is meant, and what kind it is; None: the last."""
        self._engine()
        names = frames.step_names(self._store, self.id)
        index = len(names) - 1 if step is None else frames.require_step(self._store, self.id, step)
        return index, Kind(self._store.fetch("step", self.id, index)[0][0])

    def _decoder(self, index: int, side: Literal["input", "output"]) -> Callable[[bytes], Any]:
        """How values of a step are read."""
        job = self._seen()
        if job is None:
            return untyped
        node = job.nodes[index]
        read = reading(node) if side == "input" else node.output and node.output.decode
        return partial(typed, read) if read else untyped

    # --- pictures ---------------------------------------------------------------------------------

    def chain(self) -> Picture:
        """Draw the chain with its current state: a box per step, types, gates, chunks by state, durations.

        The picture has the same size for ten chunks and for a million. ``.save("chain.svg")`` saves it.

        Raises:
            StoreClosed: The batch is closed.

        Example:
            >>> run.chain().save("chain.svg").name
            'chain.svg'
        """
        from nbbatch.panel import run_pages

        return run_pages.chain(self._store, self._engine(), self._row)

    def timeline(self) -> Picture:
        """Draw the attempts over time and by worker; if there are more than 400, the load of each; of more than 8 workers, that of all.

        Raises:
            StoreClosed: The batch is closed.

        Example:
            >>> run.timeline().save("timeline.svg").name
            'timeline.svg'
        """
        from nbbatch.panel import run_pages

        return run_pages.timeline(self._store, self._engine(), self._row)

    def panel(self) -> Any:
        """The live panel as a widget, also of an ended run; ``.frame()`` is its open tab. Needs ``nbbatch[notebooks]``.

        Displaying it starts no work, and closing it stops none.

        Raises:
            ImportError: anywidget is not installed; ``pip install 'nbbatch[notebooks]'``.
            StoreClosed: The batch is closed.

        Example:
            >>> run.panel()  # doctest: +SKIP
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
        return {"text/html": self._repr_html_(), "text/plain": self._gone() or self._text()}

    def __repr__(self) -> str:
        return self._gone() or self._line(self._counts(), self.eta)

    def _gone(self) -> str | None:
        """What is said of an instance that cannot be read."""
        if not self._access.usable:
            return f"<instance {self.id} of a closed batch: nb.open({self._store.path!r}) opens it again>"
        try:
            _ = self._row
        except NotFoundError:
            return f"<instance {self.id}, which was purged from {self._store.path}>"
        return None

    def _line(self, counts: list[tuple[str, int]], left: float | None = None) -> str:
        """How it stands; ``left`` are seconds, which a page that is kept does not tell."""
        from nbbatch.pictures import static

        row = self._row
        waits = row.status not in INSTANCE_ENDED and not self.attached
        live, why = self._engine().live.get(self.id), self._hindered()
        reused = live.reused if live else self._store.fetch("reused", self.id)[0][0]
        line = static.run_line(row, self.progress, left, waits=waits, steps=counts, reused=reused)
        return f"{line} · {why}" if why else line

    def _counts(self) -> list[tuple[str, int]]:
        from nbbatch.panel import run_pages
        from nbbatch.pictures import static

        return static.status_counts(run_pages.counts(self._store, self._engine().live.get(self.id), self._row))

    def _repr_html_(self) -> str:
        from nbbatch.panel import plain_pages
        from nbbatch.pictures import static

        if gone := self._gone():
            return static.line(gone)
        return plain_pages.html(self._store, self._engine(), self._row)

    def _text(self) -> str:
        from nbbatch.panel import plain_pages

        return plain_pages.text(self._store, self._engine(), self._row)

"""`ChunkHandle`: inspect, replay and export one chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nbbatch.base.display import plural
from nbbatch.base.errors import StateError
from nbbatch.base.names import Answering
from nbbatch.base.rows import Item
from nbbatch.base.states import INSTANCE_ENDED, ChunkStatus, InstanceStatus
from nbbatch.definition import Node
from nbbatch.definition.base_step import BaseStep
from nbbatch.heal import export, replay
from nbbatch.store.reading import Reader
from nbbatch.values.outside import whole
from nbbatch.worker.context import StoredParams

if TYPE_CHECKING:
    import polars as pl


class ChunkHandle(Answering):
    """The handle of one chunk.

    Attributes:
        run: The `JobHandle` that the chunk belongs to.
        id: Its id.

    Raises:
        StoreClosed: By every method and property, once the batch is closed, and in a forked child process.

    Example:
        >>> chunk = failed.chunk(10)
        >>> chunk.input, chunk.status
        (Order(id=3, price='2,50'), 'FAILED')
    """

    _WHAT = "a chunk"
    _INDEX = "its values are chunk.input and chunk.outputs"
    _MEANT: ClassVar[Mapping[str, str]] = {
        "output result results value report": "chunk.outputs is the list of what it gave",
        "inputs data item payload": "chunk.input is its input",
        "error exception errors message": "chunk.traceback is its newest error, chunk.attempts() has all",
        "logs stdout": "chunk.log is what it printed and logged",
        "state": "chunk.status is its state",
        "retry rerun run restart": "chunk.replay() runs it here and stores nothing; run.retry() runs what failed, "
        "run.rerun(step=…, where=pl.col('chunk') == id) this one",
        "skip": "run.skip(id, reason) leaves it out",
        "seconds duration started ended records worker": "chunk.attempts() has it",
        "ancestors": "chunk.lineage is the list of chunks it stems from",
    }

    def __init__(self, run: Any, chunk: int) -> None:
        self.run = run
        """The `JobHandle` it belongs to."""
        self.id = chunk

    def _row(self) -> dict[str, Any]:
        """Its row; if a rerun replaced it, as it stood then."""
        return self._store.frame("any_chunk", self.run.id, self.id).row(0, named=True)

    @property
    def status(self) -> str:
        """The state of the chunk.

        Example:
            >>> failed.chunk(10).status
            'FAILED'
        """
        return self._row()["status"]

    @property
    def step(self) -> str:
        """The name of its step.

        Example:
            >>> failed.chunk(10).step
            'price'
        """
        return self._row()["step"]

    @property
    def input(self) -> Any:
        """Its input, typed as `JobHandle.inputs`; of the first chunk the parameters, of the reduction all its inputs.

        None if the instance's ``retain=`` has dropped it.

        Example:
            >>> failed.chunk(10).input
            Order(id=3, price='2,50')
        """
        ((index, data, _),) = self._store.fetch("chunk", self.run.id, self.id)
        if index == 0:
            return self.run.params
        if self._is_reduction():
            return self.run.inputs(self.step)
        return None if data is None else self.run._decoder(index, "input")(data)

    @property
    def outputs(self) -> list[Any]:
        """Its outputs, in their order, typed as `JobHandle.outputs`; without those that ``retain=`` has dropped.

        Example:
            >>> run.chunk(2).outputs
            [2.5]
        """
        ((index, _, _),) = self._store.fetch("chunk", self.run.id, self.id)
        return list(map(self.run._decoder(index, "output"), self._given()))

    def _given(self) -> list[bytes]:
        """What it gave, as it is stored; of the reduction: the report."""
        rows = self._store.fetch("chunk_outputs", self.run.id, self.id)
        if not rows and self._is_reduction():
            report = self.run._row.report
            return [] if report is None else [report]
        return [data for (data,) in rows if data is not None]

    def _is_reduction(self) -> bool:
        ((index, _, _),) = self._store.fetch("chunk", self.run.id, self.id)
        ((kind, _),) = self._store.fetch("step", self.run.id, index)
        return kind == "reduction"

    @property
    def parent(self) -> ChunkHandle | None:
        """The chunk whose output is this chunk's input; None for the first chunk.

        Example:
            >>> run.chunk(2).parent
            <chunk 1 of step 'read': COMPLETED, 1 attempt>
        """
        ((_, _, parent),) = self._store.fetch("chunk", self.run.id, self.id)
        return None if parent is None else ChunkHandle(self.run, parent)

    @property
    def children(self) -> list[ChunkHandle]:
        """The chunks made of its outputs, in their order.

        Example:
            >>> [child.id for child in run.chunk(1).children]
            [2, 3, 4]
        """
        rows = self._store.fetch("children", self.run.id, self.id)
        return [ChunkHandle(self.run, child) for (child,) in rows]

    @property
    def lineage(self) -> list[ChunkHandle]:
        """Its ancestors, from the first chunk down to itself.

        Example:
            >>> [chunk.step for chunk in run.chunk(2).lineage]
            ['read', 'price']
        """
        parent = self.parent
        return [*(parent.lineage if parent else []), self]

    @property
    def subjob(self) -> Any:
        """The `JobHandle` of the instance that it submitted, if its step is a job; None before that, and for other steps.

        Example:
            >>> run.chunk(2).subjob is None  # its step is no job
            True
        """
        rows = self._store.fetch("subjob_of", self.id)
        return self.run.batch.instance(rows[0][0], self._subjob_definition()) if rows else None

    def _subjob_definition(self) -> Any:
        job = self.run._seen()
        return None if job is None else next(node.step.job for node in job.nodes if node.step.name == self.step)

    def attempts(self) -> pl.DataFrame:
        """Its attempts, with the columns of `JobHandle.attempts`.

        Raises:
            StoreClosed: The batch is closed.

        Example:
            >>> failed.chunk(10).attempts().select("attempt", "status", "error_type").rows()
            [(1, 'FAILED', 'ValueError')]
        """
        return self.run.attempts(chunk=self.id)

    @property
    def traceback(self) -> str | None:
        """The traceback of its newest error; None if it had no error.

        Example:
            >>> print(failed.chunk(10).traceback)
            Traceback (most recent call last):
              ...
            ValueError: could not convert string to float: '2,50'
        """
        return self._newest("newest_traceback")

    @property
    def log(self) -> str | None:
        """What its newest attempt that wrote anything printed and logged; None if there is none.

        Example:
            >>> run.chunk(2).log is None  # it said nothing
            True
        """
        return self._newest("newest_log")

    # --- again --------------------------------------------------------------------------------------

    def replay(self, step: BaseStep | None = None, *, params: Any = None) -> replay.Replay:
        """Run its step on the stored input, in this thread. Nothing is stored. What ended its worker would end this process.

        The step is that of the job that the run knows, and calls functions as they are now. One whose own cell was run again is
        passed: ``chunk.replay(price)``.

        Once the cell of the step was run again, that is the new step, whether or not the cell of the job was run again too.

        Args:
            step: The step to run, if this process does not know the job, or to try another version.
            params: The instance's parameters, if they contain secrets that this process was not given; a dict of the secrets is
                enough.

        Returns:
            Its outputs or its error, and the differences to the stored outputs.

        Raises:
            StateError: The job is not known here and no step is given, a secret parameter is missing, or ``retain=`` has dropped
                its input.
            ParameterError: ``params`` is invalid, or lacks a secret.
            DefinitionError: ``step`` is not a step.
            StoreClosed: The batch is closed.

        Example:
            >>> @nb.step
            ... def price(order: Order) -> float:
            ...     return float(order.price.replace(",", "."))
            >>> failed.chunk(10).replay(price).outputs
            [2.5]
        """
        return self._replay(step, params)

    def _replay(self, step: BaseStep | None, params: Any, *, aloud: bool = False) -> replay.Replay:
        index, data, _ = self._store.fetch("chunk", self.run.id, self.id)[0]
        node = replay.node_of(step, index) if step else self._node()
        step = node.step
        self._check_kept(index, data)
        stored = self._given()
        inputs = self._store.stream("reduction_inputs", self.run.id) if step.kind == "reduction" else None
        item = Item(self.id, self._row()["attempts"] + 1, data)
        given = self._params(step, index, params)
        return replay.replay(node, item, given, stored, inputs, self.run.id, aloud=aloud)

    def _check_kept(self, index: int, data: bytes | None) -> None:
        """Raises StateError where its input is gone; the parameters are always kept."""
        row = self.run._row
        gone = data is None
        if row.retain != "all" and self._is_reduction():
            failed = self._store.fetch("count_standing", row.id, [ChunkStatus.FAILED.code]) != [(0,)]
            gone = row.status in INSTANCE_ENDED and (
                row.retain == "none" or (row.status is InstanceStatus.COMPLETED and not failed)
            )
        elif self._is_reduction():
            gone = False
        if index > 0 and gone:
            raise StateError(
                f"the input of chunk {self.id}, step {self.step!r}, was dropped when instance {row.id} ended, as it was "
                f"submitted with retain={row.retain!r}; submit it anew, with retain='all', to look into its chunks"
            )

    def _node(self) -> Node:
        """Its step as the run's job has it, or as its cell or module has defined it again since."""
        if self.run.job is None:
            row = self.run._row
            raise StateError(
                f"job {row.job!r} version {row.version} is not known here: replay(step) and debug(step) run a step "
                f"{self.step!r} that you pass; batch.instance({row.id}, job) gives chunks that know theirs"
            )
        node: Node = next(node for node in self.run.job.nodes if node.step.name == self.step)
        if (redefined := node.step.redefined) is not None:
            return replay.node_of(redefined, node.index)
        return dataclasses.replace(node, code=node.step.fingerprint)

    def _params(self, step: BaseStep, index: int, given: Any) -> StoredParams:
        engine = self.run._engine()
        live = engine.live.get(self.run.id)
        secrets = engine.secrets.get(self.run.id, {})
        stored = replay.params_of(step, index, self.run._row.params, live.params if live else None, secrets)
        if given is not None:
            return stored.brought(given, self.run._row.job)
        if (index == 0 and step.takes_input) or step.takes_params:
            stored.load()  # secrets that are missing are no error of the step
        return stored

    def debug(
        self, step: BaseStep | None = None, *, params: Any = None, post_mortem: Callable[[Any], None] | None = None
    ) -> replay.Replay:
        """Replay the chunk, and if it raises, open the debugger at that line. ``breakpoint()`` in the step works too.

        What the step prints is shown and not kept in ``log``. In a notebook, ``%debug`` returns to the same line later.

        Args:
            step: As for `replay`.
            params: As for `replay`.
            post_mortem: Called with the traceback; default: ``pdb.post_mortem``. ``ipdb.post_mortem`` is another choice.

        Raises:
            StateError: The job is not known here and no step is given, or a secret parameter is missing.
            ParameterError: ``params`` is invalid, or lacks a secret.
            DefinitionError: ``step`` is not a step.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.chunk(10).debug()  # doctest: +SKIP
        """
        return replay.debug(self._replay(step, params, aloud=True), post_mortem)

    def export(self, path: str | PathLike[str] = "bug.zip") -> Path:
        """Write a file with all that is needed to inspect the chunk elsewhere; ``nb.load_failure(path)`` opens it.

        The file contains the chunk's input, the parameters with masked secrets, its newest traceback and log, the code of the
        step with all that it uses of its module or notebook (plain values only if they are written in the source), and the
        versions of Python, the system and packages. It contains no other chunk. Secret parameters are removed everywhere except
        from the input, which is copied as it is.

        Args:
            path: Where to write it; an existing file is replaced. Only the user can read it.

        Returns:
            The file's path.

        Raises:
            OSError: The file cannot be written.
            StoreUnreadable: The input lies in a file of its own (``nb.open(values=)``), which is missing or damaged.
            StoreClosed: The batch is closed.

        Example:
            >>> failed.chunk(10).export("bug.zip").name
            'bug.zip'
        """
        index, data, _ = self._store.fetch("chunk", self.run.id, self.id)[0]
        ((_, media),) = self._store.fetch("step", self.run.id, index)
        listing = partial(export.code_of, self._store, self.run.id, self.id, index)
        node = self.run.job.nodes[index] if self.run.job else None
        return export.write(
            Path(path), self._row(), self.run._row, index, media, data and whole(data), listing(node.step if node else None), self.traceback,
            self.log,
        )  # fmt: skip

    def _newest(self, query: str) -> str | None:
        rows = self._store.fetch(query, self.run.id, self.id)
        return rows[0][0] if rows else None

    @property
    def _store(self) -> Reader:
        self.run._engine()
        return self.run._store

    def __repr__(self) -> str:
        if gone := self.run._gone():
            return f"<chunk {self.id} of {gone}>"
        row = self._row()
        error = f", {row['error_type']}: {row['error']}" if row["error"] else ""
        attempts = plural(row["attempts"], "attempt")
        return f"<chunk {self.id} of step {row['step']!r}: {row['status']}, {attempts}{error[:200]}>"

    def _repr_html_(self) -> str:
        from nbbatch.panel import run_pages
        from nbbatch.pictures import static

        if self.run._gone():
            return static.line(repr(self))
        return run_pages.chunk_page(self._store, self.run._row, self._row(), self.traceback, self.log)

"""A chain on the first few items of each step, in this thread, without a store."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from nbbatch.base.errors import NotFoundError
from nbbatch.base.rows import Item, Outcome
from nbbatch.definition import JobDefinition, Kind, Node
from nbbatch.heal.replay import run
from nbbatch.pictures.markup import Listed, text, visible
from nbbatch.pictures.style import duration
from nbbatch.worker.context import MicroBatch, StoredParams

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """One item that a preview ran."""

    input: Any
    outputs: list[Any]
    seconds: float
    error: BaseException | None
    traceback: str = field(repr=False)
    log: str = field(repr=False)
    message: str = field(default="", repr=False)
    """Of the error, secrets as stars."""

    def told(self) -> str | None:
        """The error in a line; None where there was none."""
        return None if self.error is None else visible(f"{type(self.error).__name__}: {self.message}")


@dataclass(frozen=True, slots=True, eq=False)
class PreviewedStep:
    """What a preview ran of one step.

    Attributes:
        name: Of the step.
        tried: Its items, in order.
        offered: Items that the steps before gave it, of which at most ``limit`` ran.
        guess: Chunks the step would have in the full run, going by the items that ran.
    """

    name: str
    tried: list[Tried]
    offered: int
    guess: float

    @property
    def mean_seconds(self) -> float:
        """Seconds per item."""
        return sum(each.seconds for each in self.tried) / len(self.tried) if self.tried else 0.0

    def frame(self) -> pl.DataFrame:
        """One row per item: input, outputs (as text), seconds, error."""
        import polars as pl

        rows = [(repr(each.input), repr(each.outputs), each.seconds, each.told()) for each in self.tried]
        schema = {"input": pl.String, "outputs": pl.String, "seconds": pl.Float64, "error": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __str__(self) -> str:
        errors = [told for each in self.tried if (told := each.told())]
        wrong = f", {len(errors)} raised, first {errors[0]}" if errors else ""
        return f"{self.name}: {len(self.tried)} of {self.offered:,} tried, {duration(self.mean_seconds)} each{wrong}"

    __repr__ = __str__


class Preview(Listed[PreviewedStep]):
    """The result of `Job.preview`, one entry per step; also by name: ``preview["count"]``."""

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, str):
            return cast("Any", super().__getitem__(index))
        named = {step.name: step for step in self}
        if index not in named:
            raise NotFoundError(f"no step {index!r} was previewed; there are {', '.join(map(repr, named))}")
        return named[index]

    @property
    def chunks(self) -> int:
        """Estimated number of chunks of the full run."""
        return round(sum(step.guess for step in self))

    @property
    def seconds(self) -> float:
        """Estimated seconds of work of the full run on one worker."""
        return sum(step.guess * step.mean_seconds for step in self)

    def __repr__(self) -> str:
        whole = f"the full run: about {self.chunks:,} chunks, {duration(self.seconds)} of work on one worker"
        return "\n".join([*map(str, self), whole])

    def _repr_html_(self) -> str:
        tables = "".join(f"<b>{text(step.name)}</b>{_html(step)}" for step in self)
        return super()._repr_html_() + tables


def _html(step: PreviewedStep) -> str:
    frame: Any = step.frame()
    return frame._repr_html_()


def preview(job: JobDefinition[Any, Any], params: Any, limit: int | None) -> Preview:
    """Run a job's steps on at most ``limit`` items each; see `Job.preview`."""
    if isinstance(limit, bool) or not (limit is None or isinstance(limit, int)) or (limit is not None and limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"preview() takes limit= of 1 or more items, or None for all; not {limit!r}")
    return Preview(_steps(job, _stored(job, params), limit))


def _stored(job: JobDefinition[Any, Any], params: Any) -> StoredParams:
    valid = job.check(params)
    return StoredParams.of(job.params, valid)


def _steps(job: JobDefinition[Any, Any], stored: StoredParams, limit: int | None) -> list[PreviewedStep]:
    offered: list[list[bytes]] = [[] for _ in job.nodes]
    guesses = [1.0] + [0.0] * (len(job.nodes) - 1)
    ids = count(1)
    steps: list[PreviewedStep] = []
    for node in (_tryable(node, limit) for node in job.nodes):
        inputs: list[bytes | None] = [None] if _alone(node) else list(offered[node.index][:limit])
        tried: list[Tried] = []
        given: dict[int, int] = dict.fromkeys(node.targets, 0)
        for data in inputs:
            outcome, error = run(
                MicroBatch(0, node, stored, [Item(next(ids), 1, data)], inputs=partial(iter, offered[node.index]))
            )
            tried.append(_tried(node, data, stored, outcome, error, offered))
            for target, value in zip(outcome.targets, outcome.outputs, strict=True):
                if target >= 0:
                    offered[target].append(value)
                    given[target] += 1
        guess = 1.0 if _alone(node) else guesses[node.index]
        for target, total in given.items():
            guesses[target] += guess * total / max(1, len(tried))
        steps.append(PreviewedStep(node.step.name, tried, len(offered[node.index]) if node.index else 1, guess))
    return steps


def _tryable(node: Node, limit: int | None) -> Node:
    """The node; of a step that is a job, one that previews that job in turn and gives its report."""
    job = node.step.job
    if job is None:
        return node

    def tried(params: Any) -> Any:
        steps = _steps(job, _stored(job, params), limit)
        for error in (each.error for step in steps for each in step.tried if each.error is not None):
            raise error
        return steps[-1].tried[0].outputs[0] if job.report is not None else None

    step = copy(node.step)
    step.function = tried
    return replace(node, step=step)


def _alone(node: Node) -> bool:
    """Whether the step runs once, whatever it gets."""
    return node.index == 0 or node.step.kind is Kind.REDUCTION


def _tried(
    node: Node, data: bytes | None, params: StoredParams, outcome: Outcome, error: BaseException | None,
    offered: list[list[bytes]],
) -> Tried:  # fmt: skip
    if node.index == 0:
        given: Any = params.codec.masked(params.data)
    elif data is None:
        given = [node.input.decode(each) for each in offered[node.index]]
    else:
        given = node.input.decode(data)
    outputs = [node.output.decode(each) for each in outcome.outputs] if node.output else []
    seconds = (outcome.ended_us - outcome.started_us) / 1e6
    trace, message = (outcome.failure.traceback, outcome.failure.message) if outcome.failure else ("", "")
    return Tried(given, outputs, seconds, error, trace, outcome.log, message)

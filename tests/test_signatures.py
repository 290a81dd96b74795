"""What a step's parameters are given: its input, the job's parameters, or what they have by default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch.testing import run_step
from tests.jobs import double, numbers


class Params(BaseModel):
    n: int = 2
    factor: int = 5


@dataclass
class Own:
    factor: int = 7


@nb.step
def count_up(params: Params) -> Iterator[int]:
    yield from range(params.n)


@nb.step
def listed(values: Iterable[int]) -> list[int]:
    return sorted(values)


def by_number(i: int, k: int = 10) -> int:
    return i * k


def by_own(i: int, own: Own = Own()) -> int:  # noqa: B008
    return i * own.factor


def by_params(i: int, params: Params = Params(factor=3)) -> int:  # noqa: B008
    return i * params.factor


def by_params_or_none(i: int, params: Params | None = None) -> int:
    return i * (params.factor if params else 11)


def by_params_and_more(i: int, params: Params, k: int = 2, *, m: int = 100) -> int:
    return i * params.factor * k * m


def by_unhinted(i: int, k=4) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return i * k


def by_many(i: int, k: int = 10, m: int = 2) -> int:
    return i * k * m


@pytest.mark.parametrize(
    ("function", "factor"),
    [
        (by_number, 10), (by_own, 7), (by_params, 5), (by_params_or_none, 5), (by_params_and_more, 1000), (by_unhinted, 4),
        (by_many, 20),
    ],
)  # fmt: skip
def test_a_default_holds_unless_its_type_says_the_jobs_parameters(
    inline: nb.Batch, function: Callable[..., int], factor: int
) -> None:
    """D1"""
    step = nb.step(function)
    job = nb.Job("scaled", count_up >> step >> listed)
    run = inline.submit(job, Params())

    assert run.result(10) == [0, factor]
    assert [each.outputs for each in job.preview(Params())[step.name].tried] == [[0], [factor]]
    assert run.chunk(run.chunks(step.name)["id"][1]).replay().same


def test_a_number_by_default_is_kept_where_the_parameters_are_a_number(inline: nb.Batch) -> None:
    job = nb.Job("number", numbers >> nb.step(by_number) >> listed)

    assert inline.submit(job, 3).result(10) == [0, 10, 20]


def test_defaults_hold_in_reductions_and_in_async_steps(inline: nb.Batch) -> None:
    @nb.step
    async def scale(i: int, k: int = 10) -> int:
        return i * k

    @nb.step
    def ordered(values: Iterable[int], down: bool = True) -> list[int]:
        return sorted(values, reverse=down)

    assert inline.submit(nb.Job("both", numbers >> scale >> ordered), 3).result(10) == [20, 10, 0]


def test_defaults_hold_in_worker_processes(store: Any) -> None:
    with nb.open(store, executor=nb.processes(1)) as batch:
        job = nb.Job("away", count_up >> nb.step(by_number) >> nb.step(by_params, name="again") >> listed)

        assert batch.submit(job, Params(factor=2)).result(60) == [0, 20]


def test_a_second_parameter_of_another_type_is_told_of_defaults() -> None:
    def scale(i: int, k: str) -> int:
        return i

    with pytest.raises(nb.DefinitionError, match="Give it a default"):
        nb.Job("wrong", numbers >> nb.step(scale) >> listed)


def test_steps_are_called_plainly_with_what_they_take() -> None:
    assert nb.step(by_many)(2, m=3) == 60
    assert run_step(nb.step(by_number), 2).outputs == [20]
    assert run_step(nb.step(by_params), 2).outputs == [6]
    assert run_step(nb.step(by_params), 2, params=Params(factor=9)).outputs == [18]


# --- a first step without parameters ----------------------------------------------------------------


@nb.step
def three() -> Iterator[int]:
    yield from range(3)


def test_a_first_step_may_take_nothing(batch: nb.Batch) -> None:
    job = nb.Job("three", three >> double >> listed)
    run = batch.submit(job)

    assert run.result(10) == [0, 2, 4]
    assert run.params is None
    assert batch.submit(job, None).result(10) == [0, 2, 4]
    assert run.chunk(run.chunks("three")["id"][0]).replay().same
    assert job.preview()["listed"].tried[0].outputs == [[0, 2, 4]]
    assert list(three()) == [0, 1, 2] == run_step(three).outputs
    assert "() → Iterator[int]" in repr(three)


def test_an_unfinished_run_without_parameters_is_found_again(inline: nb.Batch) -> None:
    @nb.step
    def wait() -> None:
        raise nb.RetryLater(1_000)

    job = nb.Job("wait", wait)

    assert inline.submit(job).id == inline.submit(job).id


def test_async_steps_and_jobs_as_first_steps_may_take_nothing(batch: nb.Batch) -> None:
    @nb.step
    async def two() -> int:
        return 2

    inner = nb.Job("inner", three >> listed)

    @nb.step
    def last(value: list[int]) -> None:
        assert value == [0, 1, 2]

    assert batch.submit(nb.Job("two", two >> listed)).result(10) == [2]
    assert batch.submit(nb.Job("outer", inner.as_step() >> last)).wait(10) == "COMPLETED"


def test_parameters_are_refused_by_a_job_that_takes_none(inline: nb.Batch) -> None:
    with pytest.raises(nb.ParameterError):
        inline.submit(nb.Job("three", three >> listed), 3)  # type: ignore[arg-type]


def test_only_a_first_step_may_take_nothing() -> None:
    @nb.step
    def nothing() -> int:
        return 1

    with pytest.raises(nb.DefinitionError, match=r"'nothing' has no parameters.*only be a job's first step"):
        numbers >> nothing  # type: ignore[operator]


def test_parameters_that_are_not_given_are_those_by_default(inline: nb.Batch) -> None:
    @nb.step
    def some(n: int = 4) -> Iterator[int]:
        yield from range(n)

    class Needed(BaseModel):
        folder: str

    @nb.step
    def needy(params: Needed) -> int:
        return 1

    assert inline.submit(nb.Job("some", some >> listed)).result(10) == [0, 1, 2, 3]
    assert inline.submit(nb.Job("model", count_up >> listed)).result(10) == [0, 1]
    with pytest.raises(nb.ParameterError, match="folder: Field required"):
        inline.submit(nb.Job("needy", needy >> listed))

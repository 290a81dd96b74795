"""Chunks that fail within a budget, are skipped, or end the job at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.definition import Options
from tests.jobs import drop, each, numbers, total
from tests.kit import count, statuses


def failing(*bad: int) -> Callable[[int], None]:
    def check(value: int) -> None:
        if value in bad:
            raise nb.FailChunk(f"{value} is bad")

    return check


def job_of(function: Callable[[int], Any], options: dict[str, Any], **job: Any) -> nb.Job[int, None]:
    def visit(value: int) -> None:
        function(value)

    return nb.Job("budget", numbers >> nb.step(**options)(visit), **job)


@pytest.mark.parametrize(
    ("step", "job", "end"),
    [
        ({}, {}, "FAILED"),
        ({}, {"max_failed": 1}, "FAILED"),
        ({}, {"max_failed": 2}, "COMPLETED"),
        ({}, {"max_failed": 0.2}, "COMPLETED"),
        ({}, {"max_failed": 0.19}, "FAILED"),
        ({"max_failed": 2}, {}, "COMPLETED"),
        ({"max_failed": 0}, {"max_failed": 5}, "FAILED"),
    ],
)
def test_failures_within_the_budget_do_not_fail_the_instance(
    batch: nb.Batch, step: dict[str, Any], job: dict[str, Any], end: str
) -> None:
    """L2"""
    run = batch.submit(job_of(failing(2, 5), step, **job), 10)

    assert run.wait(10) == end
    assert count(run) == {"COMPLETED": 9, "FAILED": 2}


@nb.step(max_attempts=1)
def broken_list(n: int) -> Iterator[int]:
    yield 1
    raise OSError("no such folder")


@nb.step(max_attempts=1)
def broken_sum(values: Iterable[int]) -> int:
    raise OSError("no room")


@nb.step
def skipped_sum(values: Iterable[int]) -> int:
    raise nb.SkipChunk("no use")


@pytest.mark.parametrize(
    "chain", [broken_list >> total, numbers >> broken_sum, numbers >> skipped_sum], ids=["first", "last", "skipped"]
)
def test_no_budget_of_a_job_covers_its_first_step_or_its_report(batch: nb.Batch, chain: Any) -> None:
    """L2"""
    run = batch.submit(nb.Job("once", chain, max_failed=5), 3)

    assert run.wait(10) == "FAILED"


def test_a_reduction_cannot_be_skipped_by_hand(batch: nb.Batch) -> None:
    """L2"""
    run = batch.submit(nb.Job("once", numbers >> broken_sum), 3)
    run.wait(10)

    with pytest.raises(nb.StateError, match="it gives the report"):
        run.skip(run.errors()["chunk"].item(), "not needed")


@pytest.mark.parametrize("options", [{"max_failed": 1}, {"skip_on": OSError}, {"max_skipped": 2}])
def test_options_that_would_leave_a_reduction_out_are_refused(options: dict[str, Any]) -> None:
    """D4"""
    with pytest.raises(nb.DefinitionError, match="'reduce' is a reduction, which gives the report"):

        @nb.step(**options)
        def reduce(values: Iterable[int]) -> int: ...


@pytest.mark.parametrize("budget", [-1, "2", True])
def test_a_budget_that_is_no_number_is_refused(budget: Any) -> None:
    with pytest.raises(nb.DefinitionError, match="max_failed"):
        nb.Job("wrong", numbers >> drop, max_failed=budget)


def test_a_job_that_fails_fast_starts_nothing_beyond_its_budget(batch: nb.Batch) -> None:
    """L2"""
    seen: list[int] = []

    def work(value: int) -> None:
        seen.append(value)
        raise nb.FailChunk

    run = batch.submit(job_of(work, {"concurrency": 1}, max_failed=2, fail_fast=True), 50)
    error = run.exception(10)

    assert seen == [0, 1, 2]
    assert "3 failed in step 'visit', more than max_failed=2 allows" in str(error)


def test_the_reason_of_a_failure_counts_all_that_failed_and_names_the_budget_that_was_spent(threaded: nb.Batch) -> None:
    """L2"""
    go = threading.Event()

    def work(value: int) -> None:
        if value == 0:
            raise KeyError(value)  # is skipped, and spends the budget of skips
        if value == 2:
            go.wait(10)
        raise KeyError(value)

    options = {"max_attempts": 1, "skip_on": KeyError, "max_skipped": 1}
    run = threaded.submit(job_of(work, options, fail_fast=True), 3)
    while not run.steps()["failed"][1]:
        threading.Event().wait(0.01)
    go.set()
    error = str(run.exception(10))

    assert (
        "2 failed in step 'visit' (max_skipped=1 is reached, so no more is skipped), more than max_failed=0 allows"
        in error
    )


def test_a_share_is_not_judged_before_all_chunks_are_there(batch: nb.Batch) -> None:
    """L2"""

    @nb.step(concurrency=1)
    def check(i: int) -> None:
        if i == 0:
            raise nb.FailChunk

    run = batch.submit(nb.Job("share", numbers >> check, max_failed=0.1, fail_fast=True), 10)

    assert run.wait(10) == "COMPLETED"


def test_a_chunk_that_skips_itself_is_done_and_no_failure(batch: nb.Batch) -> None:
    """G4"""

    @nb.step
    def odd(i: int) -> int:
        if i % 2 == 0:
            raise nb.SkipChunk(f"{i} is even")
        return i

    run = batch.submit(nb.Job("odd", numbers >> odd >> total), 6)

    assert run.result(10) == 9
    assert run.steps().filter(step="odd").select("completed", "skipped", "failed").row(0) == (3, 3, 0)
    assert run.skips().select("step", "by_hand", "reason").rows() == [("odd", False, f"{i} is even") for i in (0, 2, 4)]


def test_errors_of_a_skippable_class_leave_the_chunk_out_without_a_retry(batch: nb.Batch) -> None:
    """L2"""

    def work(value: int) -> None:
        if value == 1:
            raise RuntimeError("wrapped") from FileNotFoundError("gone")

    run = batch.submit(each(work, skip_on=OSError), 3)

    assert run.wait(10) == "COMPLETED"
    assert statuses(run, "visit") == ["COMPLETED", "SKIPPED", "COMPLETED"]
    assert run.skips().select("attempt", "error_type", "reason").rows() == [(1, "RuntimeError", "wrapped")]
    assert run.attempts("visit").height == 3


def test_what_is_skipped_beyond_the_limit_fails(batch: nb.Batch) -> None:
    """L2"""

    def work(value: int) -> None:
        raise nb.SkipChunk("empty")

    run = batch.submit(each(work, max_skipped=2), 3)

    assert run.wait(10) == "FAILED"
    assert statuses(run, "visit") == ["SKIPPED", "SKIPPED", "FAILED"]
    assert run.errors()["error"].to_list()[-1] == "empty (not skipped: max_skipped=2 is reached)"


def test_a_failed_run_goes_on_once_skips_leave_no_more_failures_than_its_budget(batch: nb.Batch) -> None:
    """L10"""

    @nb.step(max_failed=1)
    def odd(value: int) -> int:
        if value % 2 == 0:
            raise nb.FailChunk("even")
        return value

    run = batch.submit(nb.Job("left", numbers >> odd >> total), 5)
    assert run.wait(10) == "FAILED"
    first, second, _ = run.errors()["chunk"].sort().to_list()

    run.skip(first, "known to be bad")
    assert run.status == "FAILED"
    run.skip(second, "known to be bad")

    assert run.result(10) == 1 + 3
    assert run.steps()["failed"].to_list() == [0, 1, 0]


def test_a_run_that_a_step_stopped_goes_on_only_when_that_chunk_is_skipped(batch: nb.Batch) -> None:
    """L10"""

    def work(value: int) -> None:
        if value < 2:
            raise nb.FailChunk("no use") if value == 0 else nb.FailJob("stop")

    run = batch.submit(each(work, max_failed=1), 4)
    run.wait(10)
    bad, stopping = run.chunks("visit", status="FAILED")["id"].sort()

    run.skip(bad, "known to be bad")
    assert run.status == "FAILED"
    run.skip(stopping, "seen to")

    assert run.wait(10) == "COMPLETED"


def test_a_failed_run_without_data_refuses_skips_and_stays_as_it_is(batch: nb.Batch) -> None:
    """L11"""
    run = batch.submit(each(failing(1)), 2, retain="none")
    run.wait(10)
    chunk = run.errors()["chunk"].item()

    with pytest.raises(nb.StateError, match="retain='none'"):
        run.skip(chunk, "known to be bad")
    assert statuses(run, "visit") == ["COMPLETED", "FAILED"]


def test_the_skip_log_tells_what_was_left_out_by_hand(batch: nb.Batch) -> None:
    """L10"""
    run = batch.submit(each(failing(1)), 2)
    run.wait(10)
    chunk = run.errors()["chunk"].item()
    run.skip(chunk, "known to be bad")

    assert run.skips().select("chunk", "by_hand", "reason").rows() == [(chunk, True, "known to be bad")]


def test_a_chunk_that_runs_is_not_skipped(threaded: nb.Batch) -> None:
    """L10"""
    begun, go_on = threading.Event(), threading.Event()

    @nb.step
    def held(count: int) -> Iterator[int]:
        begun.set()
        go_on.wait(10)
        yield from range(count)

    run = threaded.submit(nb.Job("held", held >> total), 4)
    begun.wait(10)
    with pytest.raises(
        nb.StateError, match="chunk 1 is IN_PROGRESS and cannot be skipped; wait for its end, or cancel"
    ):
        run.skip(1, "no patience")
    go_on.set()

    assert run.result(10) == 0 + 1 + 2 + 3


def test_a_step_that_yields_nothing_has_filtered_and_neither_skipped_nor_failed(batch: nb.Batch) -> None:
    """C1"""

    @nb.step
    def some(i: int) -> Iterator[int]:
        if i > 2:
            yield i

    run = batch.submit(nb.Job("some", numbers >> some >> total), 5)

    assert run.result(10) == 7
    counted = run.steps().filter(step="some").select("completed", "skipped", "failed", "records").row(0)
    assert counted == (5, 0, 0, 2)


@pytest.mark.parametrize("wrong", [{"skip_on": 5}, {"skip_on": int}, {"max_skipped": -1}, {"max_skipped": "2"}])
def test_skip_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(nb.DefinitionError, match="skip"):
        nb.step(**wrong)(numbers.function)


def test_the_options_of_a_step_are_those_it_was_given() -> None:
    assert nb.step(skip_on=OSError, max_skipped=3)(numbers.function).options == Options(
        skip_on=(OSError,), max_skipped=3
    )


def test_a_retry_of_what_was_within_the_budget_makes_the_report_anew(batch: nb.Batch) -> None:
    """L8, G6"""
    broken = [True]

    @nb.step(max_attempts=1, max_failed=2)
    def fetch(number: int) -> int:
        if number > 2 and broken:
            raise OSError(number)
        return number

    run = batch.submit(nb.Job("within", numbers >> fetch >> total), 5)
    assert run.result(10) == 3
    broken.clear()

    assert run.retry(quiet=True).result(10) == 10
    assert run.steps()["completed"].to_list() == [1, 5, 1]

"""Who is told of what happens, and what is put around attempts; how often an instance may be started."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from tests.jobs import double, each, numbers, summing, total
from tests.kit import HandClock


def test_moments_of_an_instance_are_told_in_order_once_they_are_stored(store: Path) -> None:
    """L14"""
    job, told = summing(), list[tuple[str, ...]]()

    @job.on("instance_started")
    def begins(run: nb.JobHandle[int]) -> None:
        told.append(("begins", run.batch.instances()["status"][0]))

    job.on("step_started")(lambda run, step: told.append(("step", step)))
    job.on("step_ended")(lambda run, step: told.append(("ended", step)))

    @job.on("instance_ended")
    def ends(run: nb.JobHandle[int]) -> None:
        told.append(("ends", str(run.status), run.result()))

    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(job, 2).result(10)

    assert told[0][0] == "begins"
    assert told[0][1] != "QUEUED"
    assert told[1:] == [
        ("step", "numbers"), ("ended", "numbers"), ("step", "double"), ("ended", "double"), ("step", "total"),
        ("ended", "total"), ("ends", "COMPLETED", 2),
    ]  # fmt: skip


def test_closing_waits_for_what_is_still_told(store: Path) -> None:
    """L14"""
    waits, done = threading.Event(), list[str]()

    def slow(run: nb.JobHandle[int]) -> None:
        waits.wait(10)
        done.append(run.status)

    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("slow", numbers >> total, on_complete=slow), 3)
        run.result(10)
        threading.Timer(0.05, waits.set).start()

    assert done == ["COMPLETED"]


def test_listeners_of_a_start_go_in_order_those_of_an_end_the_other_way_round(batch: nb.Batch) -> None:
    """L14"""
    told: list[str] = []
    job = each(lambda i: told.append(f"step {i}"))
    for name in ("first", "second"):

        def before(context: Any, name: str = name) -> None:
            told.append(f"before {name}")

        def after(context: Any, error: BaseException | None, name: str = name) -> None:
            told.append(f"after {name}")

        before.__qualname__, after.__qualname__ = f"before_{name}", f"after_{name}"
        job.on("before_attempt")(before)
        job.on("after_attempt")(after)

    batch.submit(job, 0).result(10)

    assert told == ["before first", "before second", "after second", "after first"]


def test_what_listeners_raise_is_logged_and_changes_nothing(batch: nb.Batch, caplog: pytest.LogCaptureFixture) -> None:
    """L14"""
    job = summing()

    def leaves(*_: Any) -> None:
        raise SystemExit(3)

    for moment in (
        "instance_started",
        "step_started",
        "before_attempt",
        "after_attempt",
        "step_ended",
        "instance_ended",
    ):
        job.on(moment)(leaves if "attempt" in moment else _refuse)

    @job.around
    def breaks(context: Any) -> Iterator[None]:
        yield
        raise ValueError("around")

    with caplog.at_level(logging.ERROR, "nbbatch"):
        run = batch.submit(job, 3)

        assert run.result(10) == 6
        batch.close()
    said = "\n".join(caplog.messages)
    for part in ("leaves, which listens, raised in chunk 2", "breaks, which listens", "raised at step_ended double"):
        assert part in said


def _refuse(*_: Any) -> None:
    raise ValueError("no")


def test_after_a_chunk_the_listener_knows_what_was_raised(batch: nb.Batch) -> None:
    """L14"""
    seen: list[tuple[int, int, str]] = []

    def fail(value: int) -> None:
        if value == 1:
            raise KeyError(value)

    job = each(fail, max_attempts=1)

    @job.on("after_attempt")
    def note(context: Any, error: BaseException | None) -> None:
        seen.append((context.chunk, context.attempt, type(error).__name__))

    batch.submit(job, 2).wait(10)

    assert seen == [(1, 1, "NoneType"), (2, 1, "NoneType"), (3, 1, "KeyError")]


def test_a_listener_given_again_takes_the_place_of_the_earlier_one(batch: nb.Batch) -> None:
    """L14"""
    job, told = each(lambda i: None), list[str]()
    for version in ("old", "new"):

        @job.on("after_attempt")
        def note(context: Any, error: BaseException | None, version: str = version) -> None:
            told.append(version)

    batch.submit(job, 0).result(10)

    assert told == ["new"]


def test_a_moment_that_is_none_is_refused() -> None:
    """L14"""
    with pytest.raises(nb.DefinitionError, match="no moment 'after_job'; there are 'instance_started'"):
        summing().on("after_job")


def test_what_is_put_around_attempts_wraps_them_and_sees_what_they_raise(batch: nb.Batch) -> None:
    """L15"""
    place, seen = contextvars.ContextVar("place", default=""), list[str]()
    job = each(lambda i: seen.append(f"step in {place.get()}") if i else _refuse(), max_attempts=1)

    @job.around
    def placed(context: Any) -> Iterator[None]:
        token = place.set(f"chunk {context.chunk}")
        try:
            yield
        except ValueError:
            seen.append("saw it")
        finally:
            place.reset(token)

    run = batch.submit(job, 2)

    assert run.wait(10) == "FAILED"
    assert seen == ["saw it", "step in chunk 3"]


@nb.step
def tell(number: int) -> int:
    print("in the step")
    return number


@nb.step
async def tell_async(number: int) -> int:
    print("in the step")
    return number


@pytest.mark.parametrize("step", [tell, tell_async], ids=["plain", "async"])
@pytest.mark.parametrize("make", [lambda: nb.threads(2), lambda: nb.processes(1)], ids=["threads", "processes"])
def test_hooks_run_wherever_the_step_runs_and_write_to_its_log(store: Path, make: Any, step: Any) -> None:
    """L15"""
    job = nb.Job("told", numbers >> step >> total)
    job.on("before_attempt")(lambda context: print("before"))
    job.on("after_attempt")(lambda context, error: print("after"))
    executor = make()
    with nb.open(store, executor=executor) as batch:
        run = batch.submit(job, 2)
        assert run.result(20) == 1
        assert run.logs(step.name)["text"].to_list() == ["before\nin the step\nafter\n"] * 2
    executor.shutdown()


def test_listeners_are_no_part_of_the_shape_or_the_code(batch: nb.Batch) -> None:
    """L14"""
    plain, heard = summing(), summing()
    heard.on("after_attempt")(lambda context, error: None)

    assert plain.shape == heard.shape
    assert [node.code for node in plain.current()] == [node.code for node in heard.current()]


def test_before_anything_is_stored_user_data_may_be_filled_or_the_submit_refused(batch: nb.Batch) -> None:
    """S12"""

    def stamp(count: int, user_data: dict[str, Any]) -> None:
        if count > 5:
            raise PermissionError("too many")
        user_data["asked"] = count

    job = nb.Job("stamped", numbers >> total, before_store=stamp)

    assert batch.submit(job, 3, user_data={"by": "me"}).user_data == {"by": "me", "asked": 3}
    with pytest.raises(nb.ParameterError, match="before_store refuses: PermissionError: too many"):
        batch.submit(job, 6)
    assert batch.instances().height == 1


def test_an_instance_is_started_no_more_often_than_its_limit(batch: nb.Batch) -> None:
    """L16"""
    job = each(lambda i: _refuse(), max_attempts=1)
    limited = nb.Job("limited", numbers >> job.nodes[1].step, start_limit=2)
    run = batch.submit(limited, 1)
    run.wait(10)
    run.retry(quiet=True).wait(10)

    with pytest.raises(nb.StateError, match=r"started 2 times, and job 'limited' has start_limit=2"):
        run.retry(quiet=True)
    with pytest.raises(nb.StateError, match=r"start_limit=2"):
        run.rerun(step="numbers")
    assert run.status == "FAILED"
    with pytest.raises(nb.DefinitionError, match="start_limit= must be a whole number from 1"):
        nb.Job("none", numbers >> total, start_limit=0)


def test_a_retry_does_steps_that_are_always_done_again_with_all_that_comes_of_them(batch: nb.Batch) -> None:
    """L17"""
    looked, doubled, broken = list[int](), list[int](), [True]

    @nb.step(always=True)
    def look(number: int) -> int:
        looked.append(number)
        return number

    @nb.step(max_attempts=1)
    def fix(number: int) -> int:
        doubled.append(number)
        if number == 2 and broken:
            raise ValueError(number)
        return 2 * number

    run = batch.submit(nb.Job("always", numbers >> look >> fix >> total), 3)
    assert run.wait(10) == "FAILED"
    broken.clear()
    run.retry(quiet=True)

    assert run.result(10) == 6
    assert looked == [0, 1, 2, 0, 1, 2]
    assert sorted(doubled) == [0, 0, 1, 1, 2, 2]
    assert run.steps()["completed"].to_list() == [1, 3, 3, 1]
    assert run.attempts("numbers").height == 1


def test_what_a_retry_does_always_may_be_all_there_is_to_do(batch: nb.Batch) -> None:
    """L17"""
    first = [True]

    @nb.step(always=True, max_attempts=1)
    def look(number: int) -> int:
        if first and number:
            raise ValueError(number)
        return number

    run = batch.submit(nb.Job("always", numbers >> look >> double >> total), 2)
    run.wait(10)
    first.clear()

    assert run.retry(quiet=True).result(10) == 2
    assert run.attempts("look").height == 4


def test_chunks_that_gave_nothing_on_are_counted_as_filtered(store: Path, clock: HandClock) -> None:
    """L18"""

    @nb.step(max_attempts=1)
    def odd(number: int) -> Iterator[int]:
        if number == 5:
            raise nb.SkipChunk("five")
        if number == 7:
            raise ValueError("seven")
        if number % 2:
            yield number

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(nb.Job("odd", numbers >> odd >> total, max_failed=1), 10)
        run.wait(10)
        row = run.steps().row(1, named=True)

        assert {name: row[name] for name in ("completed", "filtered", "skipped", "failed")} == {
            "completed": 8, "filtered": 5, "skipped": 1, "failed": 1,
        }  # fmt: skip
        assert run.steps()["filtered"].to_list() == [0, 5, 0]
        assert run.steps(as_of=clock.now() and "0 sec ago")["filtered"].to_list() == [0, 5, 0]

"""A run as a future: who waits for its end, and hears of it."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.base.times import time_of
from tests.jobs import numbers, one_step, summing, total
from tests.kit import HandClock, settle


def held(name: str = "held") -> nb.Job[int, int]:
    """A job that waits for a minute before it ends."""
    first = [True]

    @nb.step
    def late(i: int) -> int:
        if first and first.pop():
            raise nb.RetryLater(60)
        return i

    return nb.Job(name, numbers >> late >> total)


def test_a_run_says_what_a_future_says(batch: nb.Batch, clock: HandClock) -> None:
    """N6"""
    run = batch.submit(held(), 3)
    settle(batch)
    assert (run.running(), run.done(), run.cancelled()) == (True, False, False)
    run.pause()
    assert (run.running(), run.done(), run.cancelled()) == (False, False, False)
    run.resume()
    clock.advance(60)
    run.wait(10)
    assert (run.running(), run.done(), run.cancelled()) == (False, True, False)
    gone = batch.submit(held("gone"), 3)
    gone.cancel()

    assert (gone.running(), gone.done(), gone.cancelled()) == (False, True, True)
    assert {name for name in dir(Future) if not name.startswith(("_", "set_"))} <= set(dir(nb.JobHandle))


def test_a_real_future_gives_the_report_or_the_error(batch: nb.Batch, clock: HandClock) -> None:
    """N6"""
    later, cancelled, ended = (batch.submit(job, 3) for job in (held("a"), held("b"), summing()))
    failed = batch.submit(one_step(lambda _: 1 / 0, max_attempts=1), 3)
    ended.wait(10)
    future = later.future()
    assert isinstance(future, Future)
    assert later.future() is future
    assert not future.cancel()
    assert future.running()
    done, waiting = wait([future, ended.future()], timeout=10, return_when=FIRST_COMPLETED)
    assert (done, waiting) == ({ended.future()}, {future})
    cancelled.cancel()
    clock.advance(60)
    runs = [later, cancelled, ended, failed]
    found = {each.future(): each.id for each in runs}

    assert {found[each] for each in as_completed(found, timeout=10)} == {each.id for each in runs}
    assert future.result(10) == 3
    assert isinstance(cancelled.future().exception(10), nb.JobCancelled)
    with pytest.raises(nb.JobFailed, match="ZeroDivisionError"):
        failed.future().result(10)


def test_after_a_retry_the_future_is_a_new_one(batch: nb.Batch) -> None:
    """N6"""
    broken = [True]

    @nb.step(max_attempts=1)
    def fragile(i: int) -> int:
        if broken:
            raise ValueError(i)
        return i

    run = batch.submit(nb.Job("fragile", numbers >> fragile >> total), 3)
    first = run.future()
    assert isinstance(first.exception(10), nb.JobFailed)
    broken.clear()
    run.retry(quiet=True)

    assert run.future().result(10) == 3
    assert isinstance(first.exception(), nb.JobFailed)


def test_callbacks_get_the_handle_once_when_it_has_ended(
    batch: nb.Batch, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    """N6"""
    told: SimpleQueue[Any] = SimpleQueue()
    run = batch.submit(held(), 3)
    settle(batch)
    run.add_done_callback(lambda each: told.put((each, each.result(0))))
    run.add_done_callback(lambda each: 1 / 0)
    run.add_done_callback(lambda each: told.put(("after", threading.current_thread())))
    assert told.empty()
    clock.advance(60)

    assert told.get(timeout=10) == (run, 3)
    word, thread = told.get(timeout=10)
    assert word == "after"
    assert thread is not threading.current_thread()
    run.add_done_callback(lambda each: told.put(each.status))
    assert told.get(timeout=10) == "COMPLETED"
    batch.close()
    assert told.empty()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]  # type: ignore[index]


def test_closing_before_the_end_calls_nobody_and_fails_the_future(batch: nb.Batch) -> None:
    """N6"""
    told: list[Any] = []
    run = batch.submit(held(), 3)
    settle(batch)
    future = run.future()
    run.add_done_callback(told.append)
    batch.close()

    with pytest.raises(nb.StoreClosed, match="closed"):
        future.result(10)
    assert told == []


def test_a_listener_may_wait_for_the_future_of_its_own_run(batch: nb.Batch) -> None:
    """N6"""
    told: SimpleQueue[Any] = SimpleQueue()
    job = nb.Job("heard", numbers >> total, on_complete=lambda run: told.put(run.future().result(5)))
    batch.submit(job, 4)

    assert told.get(timeout=10) == 6


@pytest.mark.parametrize("limit", [0.01, "10 ms", timedelta(milliseconds=10), -1, 0])
def test_waiting_takes_a_limit_in_every_form(batch: nb.Batch, clock: HandClock, limit: Any) -> None:
    """V7"""
    run = batch.submit(held(), 3)

    for ask in (run.wait, run.result, run.exception):
        with pytest.raises(TimeoutError, match=r"has not ended after 0(\.01)? s; it goes on"):
            ask(limit)
    with pytest.raises(TimeoutError):
        run.wait(time_of(clock.now() + 10_000))
    with pytest.raises(TimeoutError):
        run.wait(datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="timeout= takes"):
        run.wait("soon")


def test_what_a_fail_job_says_is_told_once(batch: nb.Batch) -> None:
    def refuse(_: int) -> None:
        raise nb.FailJob("the token is refused")

    with pytest.raises(nb.JobFailed, match=r"step 'only', chunk 1: FailJob\. .*run\.retry\(\) tries again") as caught:
        batch.submit(one_step(refuse), 3).result(10)

    assert str(caught.value).count("the token is refused") == 1


def test_an_error_that_ends_with_a_full_stop_has_one_in_the_failure_of_its_run(batch: nb.Batch) -> None:
    def refuse(_: int) -> None:
        raise TypeError("It has no .read().")

    with pytest.raises(nb.JobFailed, match=r"has no \.read\(\)\. run\.chunk"):
        batch.submit(one_step(refuse), 3).result(10)


def test_a_failed_result_names_the_chunk_and_the_way_to_debug(batch: nb.Batch) -> None:
    run = batch.submit(one_step(lambda _: 1 / 0, max_attempts=1), 3)

    with pytest.raises(
        nb.JobFailed, match=r"in step 'only', chunk 1: ZeroDivisionError.* run\.chunk\(1\)\.debug\(\) stops"
    ):
        run.result(10)

"""``concurrency=``, ``rate=`` and ``timeout=``: over all instances of a batch, on the engine's clock."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.testing import START_US
from tests.jobs import drop, each, numbers, one_step
from tests.kit import HandClock, engine, settle, statuses


def test_two_instances_share_the_limit_of_a_step(store: Path) -> None:
    """C19"""
    lock, running, most = threading.Lock(), 0, 0
    both, calls = threading.Barrier(2, timeout=10), count()

    def crowd(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if next(calls) < 2:  # the first two wait for one another, so that the limit is made use of
            both.wait()
        with lock:
            running -= 1

    job = each(crowd, concurrency=2)
    with nb.open(store, workers=6) as batch:
        runs = [batch.submit(job, 10, new=True) for _ in range(3)]
        for run in runs:
            run.wait(20)

    assert most == 2


def test_quick_chunks_of_a_limited_step_travel_together(store: Path) -> None:
    """C19"""
    with nb.open(store, workers=4) as batch:
        job = each(lambda i: None, concurrency=1)
        batch.submit(job, 10).wait(20)
        before = engine(batch).turns
        assert batch.submit(job, 2_000).wait(30) == "COMPLETED"
        assert engine(batch).turns - before < 500


def test_nothing_is_claimed_behind_work_that_may_take_long(store: Path) -> None:
    began, release = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        began.set()
        release.wait(10)

    quick = each(lambda i: None)
    with nb.open(store, workers=1) as batch:
        batch.submit(quick, 5).wait(10)  # so that it is known to be quick
        batch.submit(each(hold, name="held"), 1)
        assert began.wait(10)
        run = batch.submit(quick, 6)
        first = run.chunks()["id"][0]
        run.skip(first, "not wanted")  # a chunk that is claimed is not skipped
        release.set()

        assert run.wait(10) == "COMPLETED"
        assert run.chunks()["status"].to_list() == ["SKIPPED"]


def _starts(run: nb.JobHandle[Any], step: str) -> list[float]:
    """Seconds after the clock's beginning."""
    return [round(t.timestamp() - START_US / 1e6, 3) for t in run.attempts(step)["started"].sort().to_list()]


def test_no_second_sees_more_starts_than_the_rate(batch: nb.Batch, clock: HandClock) -> None:
    """C19"""
    run = batch.submit(each(lambda i: None, rate=3), 8)
    for _ in range(12):
        settle(batch)
        clock.advance(0.25)
    run.wait(10)
    starts = _starts(run, "visit")

    assert len(starts) == 8
    assert all(later - earlier >= 1 for earlier, later in zip(starts, starts[3:], strict=False))
    assert starts[-1] == 2.0


def test_free_workers_start_no_more_than_the_rate_in_one_turn(store: Path, clock: HandClock) -> None:
    """C19"""
    with nb.open(store, workers=4, clock=clock) as batch:
        run = batch.submit(each(lambda i: None, rate=1), 4)
        for seconds in range(4):
            settle(batch)
            assert len(_starts(run, "visit")) == seconds + 1
            clock.advance(1)

        assert run.wait(10) == "COMPLETED"


def test_a_rate_counts_calls_when_they_begin_where_the_pool_is_busy_with_other_work(
    store: Path, clock: HandClock
) -> None:
    pool, over, done, begun = ThreadPoolExecutor(2), threading.Event(), threading.Semaphore(0), list[int]()

    def call(number: int) -> None:
        begun.append(clock.now())
        if number == 0:
            for _ in range(2):
                pool.submit(over.wait)
        done.release()

    with nb.open(store, pool, clock=clock) as batch:
        run = batch.submit(each(call, rate=2), 6)
        for _ in range(2):
            assert done.acquire(timeout=10)
        for seconds in (1.0, 0.9, 0.1):  # the next two are handed over, and wait behind other work
            clock.advance(seconds)
            engine(batch).call(lambda: None)
        over.set()
        settle(batch)
        clock.advance(0.5)
        settle(batch)
        assert len(begun) == 4
        clock.advance(0.5)
        settle(batch)
        assert len(begun) == 6
        assert run.wait(10) == "COMPLETED"
    pool.shutdown()


def test_a_rate_counts_from_where_the_step_itself_is_called(batch: nb.Batch, clock: HandClock) -> None:
    begun = list[int]()
    job = each(lambda i: begun.append(clock.now()), rate=1)

    @job.around
    @contextmanager
    def slowly(_: object) -> Iterator[None]:
        clock.advance(0.04)
        yield

    run = batch.submit(job, 3)
    settle(batch)
    clock.advance(0.97)  # more than a second after the first was handed over
    settle(batch)
    assert len(begun) == 1
    clock.advance(0.03)
    settle(batch)
    clock.advance(1)

    assert run.wait(10) == "COMPLETED"
    assert min(at - before for before, at in pairwise(begun)) >= 1_000_000


def test_instances_of_a_batch_share_a_rate(batch: nb.Batch, clock: HandClock) -> None:
    """C19"""
    job = each(lambda i: None, rate=0.5)
    runs = [batch.submit(job, 1, new=True) for _ in range(2)]
    settle(batch)
    assert sorted(statuses(run, "visit") for run in runs) == [["COMPLETED"], ["QUEUED"]]
    clock.advance(1.9)
    settle(batch)
    assert sorted(statuses(run, "visit") for run in runs) == [["COMPLETED"], ["QUEUED"]]
    clock.advance(0.2)

    assert [run.wait(10) for run in runs] == ["COMPLETED", "COMPLETED"]


def _slow_first(clock: HandClock, calls: list[int]) -> Callable[[int], None]:
    def work(value: int) -> None:
        calls.append(value)
        if len(calls) == 1:
            clock.advance(6)

    return work


def test_an_attempt_that_took_too_long_counts_as_an_error_and_is_retried(batch: nb.Batch, clock: HandClock) -> None:
    """C20"""
    calls: list[int] = []
    run = batch.submit(one_step(_slow_first(clock, calls), timeout=timedelta(seconds=5)), 1)
    settle(batch)
    first = run.errors().row(0, named=True)
    clock.advance(10)

    assert run.wait(10) == "COMPLETED"
    assert (first["error_type"], first["status"]) == ("TimeoutError", "ERRORED")
    assert "timeout of 5 s" in first["error"]
    assert run.attempts()["status"].to_list() == ["ERRORED", "COMPLETED"]


def test_an_attempt_that_took_just_its_time_counts(batch: nb.Batch, clock: HandClock) -> None:
    """C20"""
    run = batch.submit(one_step(_slow_first(clock, []), timeout=6), 1)

    assert run.wait(10) == "COMPLETED"
    assert run.attempts().height == 1


def test_a_thread_past_its_time_is_told_and_its_late_outputs_are_refused(store: Path, clock: HandClock) -> None:
    """C20"""
    began, told, release = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    @nb.step(timeout=5, backoff=0)
    def fan(n: int) -> Iterator[int]:
        if not seen:
            seen.append(nb.context().cancelled)
            began.set()
            told.wait(10)
            seen.append(nb.context().cancelled)
            yield from (7, 8, 9)
            release.set()
        else:
            yield 1

    with nb.open(store, workers=2, clock=clock) as batch:
        run = batch.submit(nb.Job("fan", fan >> drop), 1)
        assert began.wait(10)
        clock.advance(6)
        assert run.wait(10) == "COMPLETED"
        told.set()
        assert release.wait(10)
        settle(batch)
        assert run.inputs("drop") == [1]

    assert seen == [False, True]


@pytest.mark.parametrize("timeout", [5, math.inf])
def test_an_async_step_past_its_time_or_of_a_cancelled_run_is_cancelled(
    timeout: float, store: Path, clock: HandClock
) -> None:
    """C20"""
    began, ended = threading.Event(), threading.Event()

    @nb.step(timeout=timeout, max_attempts=1)
    async def hang(n: int) -> None:
        try:
            began.set()
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with nb.open(store, clock=clock) as batch:
        run = batch.submit(nb.Job("hang", hang), 1)
        assert began.wait(10)
        clock.advance(6) if timeout == 5 else run.cancel()
        assert run.wait(10) == ("FAILED" if timeout == 5 else "CANCELLED")
        assert ended.wait(10)
        assert run.errors()["error_type"].to_list() == (["TimeoutError"] if timeout == 5 else [])


def test_a_worker_past_its_time_stays_taken_until_it_returns(store: Path, clock: HandClock) -> None:
    """C20"""
    began, release = threading.Event(), threading.Event()
    runs: list[int] = []

    def hang(value: int) -> None:
        runs.append(value)
        began.set()
        if len(runs) == 1:
            release.wait(10)

    with nb.open(store, workers=1, clock=clock) as batch:
        run = batch.submit(one_step(hang, timeout=5, backoff=0), 1)
        assert began.wait(10)
        clock.advance(6)
        settle(batch)
        assert statuses(run) == ["ERRORED"]
        release.set()
        assert run.wait(10) == "COMPLETED"

    assert runs == [1, 1]


@pytest.mark.parametrize("timeout", [0, -1, timedelta(0), "five", float("nan")])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(nb.DefinitionError, match="timeout"):
        nb.step(timeout=timeout)(numbers.function)


def test_calls_past_their_time_that_hold_all_workers_are_told(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    @nb.step(timeout=0.05, max_attempts=1)
    def get(i: int) -> None:
        if i < 2:
            release.wait(20)

    with nb.open(store, workers=2) as batch, caplog.at_level(logging.WARNING, "nbbatch"):
        run = batch.submit(nb.Job("scrape", numbers >> get, max_failed=2), 5)
        while not run.warnings:
            pass
        said = "all 2 workers are taken by calls that go on past their timeout= (step 'get' of job 'scrape')"
        assert said in run.warnings[0]
        assert said in repr(run)
        release.set()

        assert run.wait(10) == "COMPLETED"
        assert any(said in text for text in caplog.messages)
        assert run.warnings == []

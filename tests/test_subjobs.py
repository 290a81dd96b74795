"""Steps that are jobs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from tests.jobs import drop, numbers, one_step, summing, total
from tests.kit import HandClock, count, settle


@nb.step
def chars(text: str) -> None: ...


inner = summing("inner")
outer = nb.Job("outer", numbers >> inner.as_step() >> total)


def test_a_step_that_is_a_job_gives_the_report_of_its_instance(batch: nb.Batch) -> None:
    run = batch.submit(outer, 4)

    assert run.result(10) == sum(2 * sum(range(n)) for n in range(4))
    assert batch.instances(job="inner")["status"].to_list() == ["COMPLETED"] * 4
    assert run.attempts("inner")["status"].to_list() == ["COMPLETED"] * 4


@pytest.mark.parametrize("make", [lambda: nb.threads(1), lambda: nb.processes(1)], ids=["threads", "processes"])
def test_chunks_that_wait_for_sub_jobs_hold_no_worker(store: Path, make: Any) -> None:
    executor = make()
    with nb.open(store, executor=executor) as batch:
        deep = nb.Job("deep", numbers >> outer.as_step("middle") >> total)

        assert batch.submit(deep, 4).result(30) == sum(2 * sum(range(n)) for m in range(4) for n in range(m))
    executor.shutdown()


def test_a_sub_job_may_be_the_first_step_and_may_end_the_chain(batch: nb.Batch) -> None:
    ending = nb.Job("ending", inner.as_step() >> drop)
    last = nb.Job("last", numbers >> one_step(lambda value: None, name="quiet").as_step())

    assert batch.submit(ending, 3).wait(10) == "COMPLETED"
    assert batch.submit(last, 3).wait(10) == "COMPLETED"
    assert batch.instances(job="quiet").height == 3


def test_a_failed_sub_job_fails_its_chunk_and_is_named(batch: nb.Batch) -> None:
    def refuse(value: int) -> None:
        raise nb.FailChunk("never")

    run = batch.submit(nb.Job("fails", one_step(refuse, name="refusing").as_step()), 1)

    assert run.wait(10) == "FAILED"
    child = batch.instances(job="refusing")["id"][0]
    error = run.errors().row(0, named=True)
    assert error["error_type"] == "nbbatch.JobFailed"
    assert f"sub-job 'refusing', which is instance {child}, ended FAILED: 1 failed in step 'only'" in error["error"]


def test_a_retry_takes_the_failed_sub_job_up_again(batch: nb.Batch) -> None:
    """L8"""
    sick, ran = True, list[int]()

    def work(value: int) -> None:
        ran.append(value)
        if sick and value == 1:
            raise nb.FailChunk("not now")

    run = batch.submit(nb.Job("heals", numbers >> one_step(work, name="work").as_step()), 3)
    assert run.wait(10) == "FAILED"
    sick = False

    assert run.retry().wait(10) == "COMPLETED"
    assert ran == [0, 1, 2, 1]
    assert batch.instances(job="work").height == 3


def test_with_more_attempts_a_failed_sub_job_is_retried_by_itself(inline: nb.Batch, clock: HandClock) -> None:
    sick = True

    def work(value: int) -> None:
        if sick:
            raise nb.FailChunk("not now")

    chain = one_step(work, name="work").as_step(max_attempts=2)
    run = inline.submit(nb.Job("again", chain), 1)
    settle(inline)
    assert count(run) == {"ERRORED": 1}
    sick = False
    clock.advance(10)

    assert run.wait(10) == "COMPLETED"


def test_cancelling_ends_the_sub_jobs_too(inline: nb.Batch) -> None:
    """L6"""

    def later(value: int) -> None:
        raise nb.RetryLater(60)

    low = one_step(later, name="low")
    middle = nb.Job("middle", low.as_step())
    run = inline.submit(nb.Job("top", middle.as_step()), 1)
    other = inline.submit(low, 7)
    settle(inline)
    assert count(run) == {"IN_PROGRESS": 1}

    assert run.cancel()
    assert sorted(inline.instances()["status"]) == ["CANCELLED", "CANCELLED", "CANCELLED", "IN_PROGRESS"]
    assert other.status == "IN_PROGRESS"
    settle(inline)
    assert count(run) == {"CANCELLED": 1}


def test_a_sub_job_cancelled_by_hand_fails_its_chunk(inline: nb.Batch) -> None:
    def later(value: int) -> None:
        raise nb.RetryLater(60)

    run = inline.submit(nb.Job("top", one_step(later, name="low").as_step()), 1)
    settle(inline)
    inline.cancel("low")

    assert run.wait(10) == "FAILED"
    assert "ended CANCELLED" in run.errors()["error"][0]


def test_after_a_restart_the_same_sub_instance_is_waited_for(store: Path, clock: HandClock) -> None:
    """R1"""
    waits = True

    def later(value: int) -> None:
        if waits:
            raise nb.RetryLater(60)

    job = nb.Job("top", numbers >> one_step(later, name="low").as_step())
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(job, 3)
        settle(batch)
    waits = False
    clock.advance(60)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(job, 3)

        assert run.wait(10) == "COMPLETED"
        assert batch.instances(job="low")["status"].to_list() == ["COMPLETED"] * 3
        assert run.attempts("low")["attempt"].to_list() == [1, 1, 1]


def test_after_a_restart_a_sub_job_of_a_raised_version_begins_anew(store: Path, clock: HandClock) -> None:
    """S10"""

    def later(value: int) -> None:
        raise nb.RetryLater(60)

    before = nb.Job("top", numbers >> one_step(later, name="low").as_step())
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(before, 2)
        settle(batch)
    after = nb.Job("top", numbers >> nb.Job("low", numbers >> drop, version=2).as_step("low"))
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(after, 2)

        assert run.wait(10) == "COMPLETED"
        assert batch.instances(job="low").select("version", "status").sort("version").rows() == [
            (1, "IN_PROGRESS"), (1, "IN_PROGRESS"), (2, "COMPLETED"), (2, "COMPLETED"),
        ]  # fmt: skip
        assert {run.chunk(chunk).subjob.status for chunk in run.chunks("low")["id"]} == {"COMPLETED"}


def test_parameters_that_the_sub_job_refuses_fail_the_chunk(batch: nb.Batch) -> None:
    @nb.step
    def take(n: int) -> None: ...

    picky = nb.Job("picky", take, validate=lambda n: "n: too big" if n > 1 else None)
    run = batch.submit(nb.Job("top", numbers >> picky.as_step()), 3)

    assert run.wait(10) == "FAILED"
    assert run.errors()["error"].to_list() == [
        "job 'picky' refuses these parameters; nothing was stored:\n  n: too big"
    ]
    assert batch.instances(job="picky").height == 2


def test_no_more_than_its_concurrency_wait_at_once(threaded: nb.Batch) -> None:
    """C19"""
    now, most, lock = 0, 0, threading.Lock()

    def busy(value: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.005)
        with lock:
            now -= 1

    step = one_step(busy, name="busy").as_step(concurrency=2)

    assert threaded.submit(nb.Job("narrow", numbers >> step), 10).wait(20) == "COMPLETED"
    assert most <= 2


def test_a_sub_job_can_be_looked_into_from_its_chunk(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("top", inner.as_step() >> drop), 3)
    run.result(10)
    child = run.chunk(run.chunks("inner")["id"][0]).subjob

    assert child is not None
    assert child.result() == 6
    assert child.parent is not None
    assert (child.parent.run.id, child.parent.step) == (run.id, "inner")
    assert run.parent is None
    assert run.chunk(run.chunks("drop")["id"][0]).subjob is None


def test_a_job_as_a_step_says_what_it_cannot_do() -> None:
    """D1"""
    with pytest.raises(nb.DefinitionError, match="takes no timeout"):
        inner.as_step(timeout=3)
    with pytest.raises(nb.StateError, match=r"batch.submit\(job, 3\) runs it"):
        inner.as_step()(3)
    with pytest.raises(nb.DefinitionError, match="gives int, but step 'chars' takes str"):
        numbers >> nb.Job("chars", chars).as_step()  # type: ignore[operator]


def test_only_the_store_says_whose_sub_job_an_instance_is(inline: nb.Batch) -> None:
    """L6"""

    def later(value: int) -> None:
        raise nb.RetryLater(60)

    low = one_step(later, name="low")
    run = inline.submit(nb.Job("top", low.as_step()), 1)
    settle(inline)
    chunk = run.chunks()["id"][0]
    alike = [inline.submit(job, 1, key=f"sub-job of chunk {chunk}") for job in (low, one_step(later, name="other"))]
    beside = inline.submit(low, 1)

    assert [each.parent for each in (*alike, beside)] == [None, None, None]
    (inner,) = inline.instances().filter(pl.col("parent") == chunk).iter_rows(named=True)
    assert (inner["job"], inner["key"]) == ("low", None)
    run.cancel()
    assert inline.instance(inner["id"]).status == "CANCELLED"
    assert [each.status for each in (*alike, beside)] == ["IN_PROGRESS"] * 3


def test_a_step_that_waits_for_another_run_of_its_batch_says_how_it_waits_without_a_worker(store: Path) -> None:
    @nb.step
    def wait(n: int) -> int:
        return batch.submit(inner, n).result(20)

    with nb.open(store, workers=2) as batch:
        run = batch.submit(nb.Job("waiting", wait >> total), 3)

        assert run.result(20) == 6
        assert any("step 'wait' keeps its worker" in each and "as_step()" in each for each in run.warnings)


def test_a_step_cannot_close_the_batch_that_runs_it(store: Path) -> None:
    def close(n: int) -> None:
        with nb.open(store):
            pass

    with nb.open(store, workers=1) as batch:
        run = batch.submit(one_step(close, max_attempts=1), 0)

        assert run.wait(20) == "FAILED"
        assert run.errors()["error_type"].to_list() == ["nbbatch.StateError"]

"""What is removed, what is kept: purge, retain, cancel with filters."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from tests.jobs import double, each, numbers, one_step, summing, total
from tests.kit import HandClock, settle


@nb.step
def double_it(value: int) -> None: ...


HOUR = timedelta(hours=1)
TABLES = ("submitted", "instance_event", "chunk", "event", "output", "claim", "gate", "detail", "staged")


def rows_of(batch: nb.Batch, instance: int) -> int:
    """Rows of an instance in all tables."""
    return sum(
        batch.sql(f"SELECT count(*) FROM {t} WHERE {'id' if t == 'submitted' else 'instance'} = {instance}").item()
        for t in TABLES
    )


def test_purge_removes_what_ended_long_ago_with_all_its_rows(batch: nb.Batch, clock: HandClock) -> None:
    """L12"""
    old = batch.submit(summing(), 5)
    old.wait(10)
    clock.advance(7200)
    young = batch.submit(summing(), 6)
    young.wait(10)
    before = rows_of(batch, young.id)

    assert batch.purge(older_than=HOUR) == 1
    assert rows_of(batch, old.id) == 0
    assert rows_of(batch, young.id) == before
    assert young.result() == 30
    with pytest.raises(nb.NotFoundError):
        batch.instance(old.id)


def test_what_was_purged_shows_itself_as_such(batch: nb.Batch) -> None:
    """L12"""
    run = batch.submit(summing(), 5)
    run.wait(10)
    chunk = run.chunk(1)
    batch.purge(older_than=timedelta(0))

    for shown in (run, chunk):
        assert f"instance {run.id}, which was purged from {batch.path}" in repr(shown)
        assert "purged" in shown._repr_html_()


def test_purge_never_touches_an_unfinished_instance(batch: nb.Batch, clock: HandClock) -> None:
    """L12"""

    def later(value: int) -> None:
        raise nb.RetryLater(3600)

    run = batch.submit(one_step(later), 1)
    settle(batch)
    clock.advance(1800)

    assert batch.purge(older_than=timedelta(0)) == 0
    assert run.status == "IN_PROGRESS"


def test_purge_takes_only_the_states_and_the_job_asked_for(batch: nb.Batch) -> None:
    """L12"""

    def fail(value: int) -> None:
        raise nb.FailChunk

    good, bad = batch.submit(summing(), 3), batch.submit(one_step(fail), 1)
    good.wait(10), bad.wait(10)

    assert batch.purge(older_than=timedelta(0), status="FAILED", job="summing") == 0
    assert batch.purge(older_than=timedelta(0), status=["FAILED", "CANCELLED"]) == 1
    assert batch.instances()["id"].to_list() == [good.id]


@pytest.mark.parametrize("wrong", [{"status": "PAUSED"}, {"status": "DONE"}, {"older_than": -HOUR}])
def test_purge_refuses_what_cannot_be_meant(batch: nb.Batch, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of the enum, or ours
        batch.purge(**{"older_than": HOUR, **wrong})


def test_the_last_of_each_job_are_kept_by_their_end_and_with_what_they_submitted(
    batch: nb.Batch, clock: HandClock
) -> None:
    """L12"""
    inner = nb.Job("inner", double_it)
    outer = nb.Job("outer", numbers >> inner.as_step())
    runs = [batch.submit(outer, 2, new=True) for _ in range(3)] + [batch.submit(summing(), n) for n in (3, 4)]
    for run in runs:
        run.wait(10)
        clock.advance(60)
    first, last = runs[2], runs[4]

    assert batch.purge(older_than=HOUR, keep_last=1) == 0
    assert batch.purge(keep_last=1, job="outer") == 2
    kept = batch.instances().filter(pl.col("parent").is_null())["id"].to_list()
    assert sorted(kept) == [first.id, runs[3].id, last.id]
    batch.purge(keep_last=1)
    frame = batch.instances()
    assert sorted(frame.filter(pl.col("parent").is_null())["id"]) == [first.id, last.id]
    assert frame.filter(job="inner").height == 2
    assert batch.purge(keep_last=0) == 4


@pytest.mark.parametrize("wrong", [{}, {"keep_last": -1}, {"keep_last": 1.5}, {"older_than": None}])
def test_a_purge_says_what_it_keeps(batch: nb.Batch, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="keep_last="):
        batch.purge(**wrong)


def test_ids_are_not_given_again_after_a_purge_and_a_restart(store: Path, clock: HandClock) -> None:
    """C4"""
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        last = batch.submit(summing(), 3)
        last.wait(10)
        chunks = last.chunks()["id"].max()
        assert batch.purge(older_than=timedelta(0)) == 1
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(summing(), 3)

        assert run.result(10) == 6
        assert run.id > last.id
        assert run.chunks()["id"].min() > chunks  # type: ignore[operator]


def test_the_space_of_purged_instances_is_used_again(store: Path) -> None:
    """L12"""

    @nb.step
    def noise(i: int) -> str:
        return random.Random(i).randbytes(2_000).hex()  # does not compress

    @nb.step
    def take(text: str) -> None: ...

    job = nb.Job("noise", numbers >> noise >> take)
    sizes: list[int] = []
    with nb.open(store, executor=nb.inline()) as batch:
        for _ in range(4):
            batch.submit(job, 1_000).wait(60)
            batch._engine.call(batch._store.checkpoint)
            sizes.append(store.stat().st_size)
            batch.purge(older_than=timedelta(0))

    assert sizes[-1] < 1.7 * sizes[0]


def test_what_completed_is_dropped_and_what_failed_is_kept(batch: nb.Batch) -> None:
    """L11"""
    broken = {2}

    def check(value: int) -> None:
        if value in broken:
            raise nb.FailChunk

    run = batch.submit(each(check), 4, retain="failed")
    run.wait(10)

    assert run.inputs("visit") == [2]
    broken.clear()
    assert run.retry().wait(10) == "COMPLETED"
    assert run.inputs("visit") == []


def test_a_report_survives_where_all_data_is_dropped(batch: nb.Batch) -> None:
    """L11"""
    run = batch.submit(summing(), 4, retain="none")

    assert run.result(10) == 12
    assert batch.sql("SELECT count(*) FROM chunk WHERE data IS NOT NULL").item() == 0
    assert batch.sql("SELECT count(*) FROM output").item() == 0
    assert run.outputs("total") == [12]
    assert run.chunks().height == 6


def test_a_failed_reduction_finds_its_inputs_again_though_completed_ones_are_dropped(batch: nb.Batch) -> None:
    """L11"""
    outcomes = iter([nb.FailChunk("not yet"), None])

    @nb.step
    def add(values: Iterable[int]) -> int:
        if signal := next(outcomes):
            raise signal
        return sum(values)

    run = batch.submit(nb.Job("late", numbers >> double >> add), 4, retain="failed")

    assert run.wait(10) == "FAILED"
    assert run.retry().result(10) == 12


def test_a_retry_within_the_failure_budget_reduces_again_with_all_that_completed(batch: nb.Batch) -> None:
    """L11"""
    broken = {2}

    @nb.step(max_failed=1)
    def check(value: int) -> int:
        if value in broken:
            raise nb.FailChunk
        return value

    run = batch.submit(nb.Job("budget", numbers >> check >> total), 4, retain="failed")
    assert run.result(10) == 0 + 1 + 3
    broken.clear()

    assert run.retry().result(10) == 0 + 1 + 2 + 3
    assert batch.sql("SELECT count(*) FROM output").item() == 0


def test_an_instance_without_data_cannot_be_retried(batch: nb.Batch) -> None:
    """L11"""

    def fail(value: int) -> None:
        raise nb.FailChunk

    run = batch.submit(each(fail), 2, retain="none")
    run.wait(10)

    with pytest.raises(nb.StateError, match="retain='none'"):
        run.retry()


def test_cancel_takes_only_what_meets_all_filters(batch: nb.Batch, clock: HandClock) -> None:
    """L6"""

    def later(value: int) -> None:
        raise nb.RetryLater(10_000)

    old = batch.submit(one_step(later, "a"), 1)
    settle(batch)
    clock.advance(100)
    other, paused = batch.submit(one_step(later, "b"), 1), batch.submit(one_step(later, "a"), 2)
    settle(batch)
    paused.pause()

    assert batch.cancel("a", older_than=timedelta(seconds=50)) == 1
    assert batch.cancel(status="PAUSED") == 1
    assert (old.status, other.status, paused.status) == ("CANCELLED", "IN_PROGRESS", "CANCELLED")
    assert batch.cancel("nobody") == 0

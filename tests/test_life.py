"""How an instance is stored, ends, and is measured."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.engine.prospect import Worked
from tests.jobs import each, numbers, summing, total
from tests.kit import HandClock, count, settle

DIES = """
import os, sys, nbbatch as nb
from tests.jobs import summing
batch = nb.open(sys.argv[1])
batch.submit(summing(), 100)
os._exit(9)
"""


def test_what_submit_has_returned_survives_a_crash(store: Path) -> None:
    """S2"""
    assert subprocess.run([sys.executable, "-c", DIES, str(store)], check=False).returncode == 9

    with nb.open(store) as batch:
        assert batch.instances()["job"].to_list() == ["summing"]
        assert batch.submit(summing(), 100).result(20) == 9_900
        assert batch.instances().height == 1


def test_one_failed_chunk_fails_the_instance_after_all_that_can_run_has_run(batch: nb.Batch) -> None:
    """L2"""

    def work(value: int) -> None:
        if value == 0:
            raise nb.FailChunk("never")

    run = batch.submit(each(work), 3)

    assert run.wait(10) == "FAILED"
    assert count(run) == {"COMPLETED": 3, "FAILED": 1}


def test_no_report_is_stored_of_an_instance_that_failed(batch: nb.Batch) -> None:
    """L2"""

    @nb.step
    def never(i: int) -> int:
        raise nb.FailChunk("never")

    run = batch.submit(nb.Job("no report", numbers >> never >> total), 2)

    assert run.wait(10) == "FAILED"
    with pytest.raises(nb.JobFailed):
        run.result(1)
    assert batch.sql(f"SELECT report FROM instance WHERE id = {run.id}")["report"].to_list() == [None]


def test_only_the_time_that_was_worked_counts() -> None:
    worked = Worked()
    assert worked.until(5) == 0
    worked.go(10)
    worked.go(20)
    assert worked.until(30) == 20
    worked.stop(40)
    assert worked.until(1_000) == 30
    worked.go(2_000)
    assert worked.until(2_005) == 35


def test_a_chunk_queued_again_behind_an_open_gate_runs(batch: nb.Batch, clock: HandClock) -> None:
    """G5"""
    sick = True

    @nb.step
    def first(i: int) -> int:
        return i

    @nb.step(gate=True)
    def second(i: int) -> None:
        if sick and i == 1:
            raise nb.FailChunk("not now")

    run = batch.submit(nb.Job("behind", numbers >> first >> second), 3)
    assert run.wait(10) == "FAILED"
    sick = False

    assert run.retry().wait(10) == "COMPLETED"


def test_a_closed_batch_is_let_go_of(store: Path) -> None:
    with nb.open(store) as batch:
        batch.submit(summing(), 3).result(10)
    gone = weakref.ref(batch)

    del batch
    gc.collect()

    assert gone() is None


def test_how_far_a_run_is_is_stored_while_it_works(batch: nb.Batch, clock: HandClock) -> None:
    """L3"""

    @nb.step
    def slow(i: int) -> None:
        if i == 9:
            raise nb.RetryLater(600)
        clock.advance(1)

    run = batch.submit(nb.Job("slow", numbers >> slow), 10)
    settle(batch)
    (stored, seconds) = batch.sql("SELECT progress, seconds FROM instances").row(0)

    assert 0.7 < stored < run.progress  # now and then, not at every commit
    assert seconds is None  # it has not ended
    assert run.history()["status"].null_count() == 0


def test_progress_keeps_its_height_when_a_late_fan_out_brings_more_work(batch: nb.Batch, clock: HandClock) -> None:
    """L3"""
    opened: list[bool] = []

    @nb.step(weight=0.01)
    def sizes(n: int) -> Iterator[int]:
        yield from (1, n)

    @nb.step(weight=0.01)
    def spread(size: int) -> Iterator[int]:
        if size > 1 and not opened:
            raise nb.RetryLater(60)
        yield from range(size)

    @nb.step(weight=0.98)
    def work(i: int) -> None:
        if i:
            raise nb.RetryLater(60)

    run = batch.submit(nb.Job("late", sizes >> spread >> work), 100)
    settle(batch)
    before = run.progress
    opened.append(True)
    clock.advance(61)
    settle(batch)

    assert before > 0.4
    assert run.steps()["chunks"].to_list() == [1, 2, 101]
    assert run.progress >= before

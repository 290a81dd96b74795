"""Gates and reduction."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbbatch as nb
from tests.jobs import double, drop, numbers, summing, total
from tests.kit import HandClock, count, settle, statuses


def test_without_a_gate_a_later_step_starts_while_the_earlier_one_runs(threaded: nb.Batch) -> None:
    """G1"""
    second_ran = threading.Event()

    @nb.step
    def first(i: int) -> int:
        assert i == 0 or second_ran.wait(10)
        return i

    @nb.step
    def second(i: int) -> None:
        second_ran.set()

    assert threaded.submit(nb.Job("open", numbers >> first >> second), 3).wait(20) == "COMPLETED"


def test_behind_a_gate_nothing_starts_until_the_step_before_is_done(threaded: nb.Batch) -> None:
    """G1"""
    done: list[int] = []

    @nb.step
    def first(i: int) -> int:
        done.append(i)
        return i

    @nb.step(gate=True)
    def second(i: int) -> int:
        return len(done)

    run = threaded.submit(nb.Job("gated", numbers >> first >> second >> drop), 200)
    run.wait(20)

    assert set(run.outputs("second")) == {200}


def test_gated_chunks_wait_and_are_queued_together(batch: nb.Batch, clock: HandClock) -> None:
    """G2"""
    outcomes = iter([OSError("later"), None])

    @nb.step
    def first(i: int) -> int:
        if i == 4 and (error := next(outcomes)):
            raise error
        return i

    @nb.step(gate=True)
    def second(i: int) -> None: ...

    run = batch.submit(nb.Job("gated", numbers >> first >> second), 5)
    settle(batch)
    waiting = statuses(run, "second")
    clock.advance(10)
    run.wait(10)
    opened = run.history("second").filter(text="gate opened")

    assert waiting == ["GATE_WAITING"] * 4
    assert opened["status"].to_list() == ["QUEUED"] * 4
    assert opened["happened"].n_unique() == 1
    assert statuses(run, "second") == ["COMPLETED"] * 5


def test_a_gate_over_an_empty_step_opens(batch: nb.Batch) -> None:
    """G3"""

    @nb.step(gate=True)
    def second(i: int) -> int:
        return i

    run = batch.submit(nb.Job("empty", numbers >> second >> total), 0)

    assert run.result(10) == 0
    assert run.status == "COMPLETED"


def test_a_failed_chunk_keeps_the_gate_shut_and_what_can_run_runs(batch: nb.Batch) -> None:
    """G4"""

    @nb.step(max_attempts=1)
    def first(i: int) -> int:
        if i == 1:
            raise OSError("broken")
        return i

    run = batch.submit(nb.Job("shut", numbers >> first >> total), 4)

    assert isinstance(run.exception(10), nb.JobFailed)
    assert count(run) == {"COMPLETED": 4, "FAILED": 1}
    assert statuses(run, "total") == []


def test_failures_within_the_budget_do_not_shut_the_gate(batch: nb.Batch) -> None:
    """G4"""

    @nb.step(max_attempts=1, max_failed=1)
    def first(i: int) -> int:
        if i == 1:
            raise OSError("broken")
        return i

    assert batch.submit(nb.Job("budget", numbers >> first >> total), 4).result(10) == 0 + 2 + 3


def test_a_skipped_chunk_counts_as_done(batch: nb.Batch) -> None:
    """G4"""

    @nb.step
    def first(i: int) -> int:
        if i == 1:
            raise OSError("not today")
        return i

    run = batch.submit(nb.Job("skip", numbers >> first >> total), 4)
    settle(batch)
    waiting = run.chunks("first", status="ERRORED")["id"].item()
    run.skip(waiting, "known to be bad")

    assert run.result(10) == 0 + 2 + 3
    assert "known to be bad" in run.history(chunk=waiting)["text"].to_list()


def test_a_reduction_sees_each_output_once_in_the_order_of_the_items(threaded: nb.Batch) -> None:
    """G6"""
    random.seed(1)

    @nb.step
    def pages(i: int) -> Iterator[tuple[int, int]]:
        threading.Event().wait(random.random() / 200)
        for page in range(i % 4):
            yield i, page

    @nb.step
    def collect(values: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        return list(values)

    run = threaded.submit(nb.Job("order", numbers >> pages >> collect), 60)

    assert run.result(20) == [(i, page) for i in range(60) for page in range(i % 4)]


def test_a_reduction_streams_its_inputs(batch: nb.Batch) -> None:
    """G6"""

    @nb.step
    def first_only(values: Iterable[int]) -> int:
        return next(iter(values))

    assert batch.submit(nb.Job("lazy", numbers >> double >> first_only), 30_000).result(30) == 0


def test_the_report_is_there_typed_after_a_restart(store: Path) -> None:
    """G7"""
    with nb.open(store, executor=nb.inline()) as batch:
        instance = batch.submit(summing(), 4).wait(10) and batch.instances()["id"].item()
    with nb.open(store) as batch:
        assert batch.instance(instance, summing()).result(10) == 12


def test_reductions_of_two_instances_share_nothing(threaded: nb.Batch) -> None:
    """G7"""
    runs = [threaded.submit(summing(), n) for n in (10, 100)]

    assert [run.result(20) for run in runs] == [90, 9900]


def test_a_reduction_that_raises_is_retried_and_starts_anew(batch: nb.Batch, clock: HandClock) -> None:
    """G8"""
    read: list[int] = []

    @nb.step
    def fussy(values: Iterable[int]) -> int:
        for value in values:
            read.append(value)
            if len(read) == 2:
                raise OSError("the connection dropped")
        return len(read)

    run = batch.submit(nb.Job("fussy", numbers >> fussy), 3)
    settle(batch)
    clock.advance(10)

    assert run.result(10) == 5
    assert read == [0, 1, 0, 1, 2]
    assert run.attempts("fussy")["status"].to_list() == ["ERRORED", "COMPLETED"]


def test_the_completion_handler_runs_once_after_the_end_is_stored(batch: nb.Batch) -> None:
    """G9"""
    calls: list[str] = []
    called = threading.Event()

    def note(run: nb.JobHandle[int]) -> None:
        calls.append(run.status)
        called.set()
        raise ValueError("ignored")

    run = batch.submit(nb.Job("noted", numbers >> total, on_complete=note), 3)

    assert run.result(10) == 3
    assert called.wait(10)
    assert calls == ["COMPLETED"]

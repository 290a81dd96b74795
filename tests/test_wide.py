"""Fan-outs that give very many outputs: these become chunks a slice a turn, and count from the end of the attempt on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.engine import dispatcher, slices
from tests.jobs import double, drop, numbers, summing, total
from tests.kit import HandClock, engine, settle
from tests.test_failed_commits import agrees

MANY, SLICE = 100, 12


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (
        ("worker.attempt.PAGE_OUTPUTS", 10), ("engine.settle.SEALED_OUTPUTS", 25), ("engine.slices.SLICE_OUTPUTS", SLICE),
        ("engine.recovery.MANY_IDS", 0),
    ):  # fmt: skip
        monkeypatch.setattr(f"nbbatch.{name}", most)


class Valve:
    """Lets only so many slices be moved."""

    def __init__(self) -> None:
        self.left = 10**9
        self._real = dispatcher.move_next

    def __call__(self, *args: Any) -> None:
        if self.left:
            self.left -= 1
            self._real(*args)

    def let(self, slices: int, batch: nb.Batch | None = None) -> None:
        self.left = slices
        if batch is not None:
            engine(batch).wake()


ALL = 10**9


@pytest.fixture
def valve(monkeypatch: pytest.MonkeyPatch) -> Valve:
    valve = Valve()
    monkeypatch.setattr(dispatcher, "move_next", valve)
    return valve


def twice(name: str = "wide") -> nb.Job[int, int]:
    return nb.Job(name, numbers >> double >> total)


def each_once(batch: nb.Batch, run: nb.JobHandle[Any], count: int = MANY) -> None:
    rows = batch.sql(
        f"SELECT seq FROM chunk WHERE instance = {run.id} AND step = 1 AND id NOT IN (SELECT chunk FROM superseded)"
    )
    assert sorted(rows["seq"]) == list(range(count))
    assert batch.sql("SELECT count(*) FROM staged").item() == 0


def test_many_outputs_become_chunks_or_inputs_of_the_reduction_each_once(batch: nb.Batch) -> None:
    """C3"""
    chain, alone = batch.submit(twice(), MANY), batch.submit(nb.Job("alone", numbers >> total), MANY)

    assert chain.result(10) == 2 * sum(range(MANY))
    assert alone.result(10) == sum(range(MANY))
    each_once(batch, chain)
    assert chain.chunks("double").sort("id")["seq"].to_list() == list(range(MANY))
    agrees(batch)


def test_outputs_for_several_steps_become_chunks_of_each(batch: nb.Batch) -> None:
    """C3"""

    @nb.step
    def halve(i: int) -> int:
        return i // 2

    def even(i: int) -> bool:
        return i % 2 == 0

    run = batch.submit(nb.Job("ways", numbers >> nb.choose(even, {True: halve, False: double}) >> total), MANY)

    assert run.result(10) == sum(i // 2 if even(i) else 2 * i for i in range(MANY))


def test_between_slices_all_outputs_count_what_is_moved_runs_and_others_go_on(batch: nb.Batch, valve: Valve) -> None:
    """C3"""
    valve.let(2)
    run = batch.submit(twice(), MANY)
    beside = batch.submit(summing("beside"), 5)
    settle(batch)

    assert beside.result(10) == 20
    assert run.status == "IN_PROGRESS"
    steps = run.steps()
    assert steps["chunks"].to_list() == [1, MANY, 0]
    assert (steps["completed"][1], steps["queued"][1]) == (2 * SLICE, MANY - 2 * SLICE)
    assert sorted(run.outputs("numbers")) == list(range(MANY))
    agrees(batch)

    valve.let(ALL, batch)
    assert run.result(10) == 2 * sum(range(MANY))
    each_once(batch, run)


@pytest.mark.parametrize("job", [twice(), nb.Job("alone", numbers >> total)], ids=["chunks", "outputs"])
def test_an_opening_between_slices_goes_on(store: Path, clock: HandClock, valve: Valve, job: nb.Job[int, int]) -> None:
    """R1"""
    valve.let(3)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(job, MANY)
        settle(batch)
        before = run.steps()["chunks"].to_list()
    valve.let(ALL)

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.instance(1).steps()["chunks"].to_list() == before
        run = batch.submit(job, MANY)
        assert run.result(10) == sum(range(MANY)) * (2 if before[1] else 1)
        assert batch.sql("SELECT count(*) FROM staged").item() == 0


def test_a_run_that_was_cancelled_between_slices_lacks_nothing_once_it_is_retried(
    inline: nb.Batch, valve: Valve, clock: HandClock
) -> None:
    """R1"""
    valve.let(2)
    run = inline.submit(twice(), MANY)
    settle(inline)
    run.cancel()

    steps = run.steps()
    assert (steps["completed"][1], steps["cancelled"][1], steps["queued"][1]) == (2 * SLICE, MANY - 2 * SLICE, 0)
    clock.advance(60)
    valve.let(ALL, inline)
    assert run.retry().result(10) == 2 * sum(range(MANY))
    each_once(inline, run)
    clock.advance(60)
    assert run.steps(as_of="90 s ago").equals(steps)
    assert run.chunks("double", as_of="90 s ago")["status"].value_counts().sort("count").rows() == [
        ("COMPLETED", 2 * SLICE), ("CANCELLED", MANY - 2 * SLICE),
    ]  # fmt: skip


def test_a_run_that_was_paused_between_slices_is_done_again_whole(inline: nb.Batch, valve: Valve) -> None:
    """R1"""
    valve.let(2)
    run = inline.submit(twice(), MANY)
    settle(inline)
    run.pause()
    run.rerun(step="numbers")
    valve.let(ALL, inline)

    assert run.result(10) == 2 * sum(range(MANY))
    each_once(inline, run)
    agrees(inline)


def test_a_cancelled_run_of_which_one_chunk_is_done_again_does_no_other(
    inline: nb.Batch, valve: Valve, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1"""
    valve.let(2)
    run, owner = inline.submit(twice(), MANY), engine(inline)
    settle(inline)
    run.cancel()
    clock.advance(60)
    valve.let(ALL, inline)
    real, staged = owner.call, [MANY - 2 * SLICE]

    def call(*args: Any) -> Any:
        answer = real(*args)
        staged.append(inline.sql("SELECT count(*) FROM staged").item())
        return answer

    monkeypatch.setattr(owner, "call", call)
    run.rerun(step="double", where=pl.col("chunk") == run.chunks("double")["id"][0]).wait(10)

    assert run.steps()["cancelled"][1] == MANY - 2 * SLICE
    assert run.steps(as_of="30 s ago")["queued"].to_list() == [0, 0, 0]
    clock.advance(60)
    assert run.steps(as_of="30 s ago")["cancelled"][1] == MANY - 2 * SLICE
    assert (max(before - after for before, after in pairwise(staged)), staged[-1]) == (SLICE, 0)  # others go on between
    each_once(inline, run)


def test_of_a_cancelled_run_the_failed_chunks_alone_are_tried_again(inline: nb.Batch, valve: Valve) -> None:
    """R1"""
    mended: list[bool] = []

    @nb.step(max_attempts=1)
    def odd(i: int) -> int:
        if i == 3 and not mended:
            raise ValueError("three")
        return i

    valve.let(2)
    run = inline.submit(nb.Job("odd", numbers >> odd >> total, max_failed=1), MANY)
    settle(inline)
    run.cancel()
    mended.append(True)
    valve.let(ALL, inline)
    plan = str(run.plan())
    run.failures()[0].retry(quiet=True).wait(10)

    assert (f"{MANY - 2 * SLICE + 1} to retry" in plan, run.steps()["cancelled"][1]) == (True, MANY - 2 * SLICE)
    each_once(inline, run)
    assert run.retry(quiet=True).result(10) == sum(range(MANY))


def test_a_run_that_keeps_nothing_keeps_no_output_that_is_no_chunk_yet(inline: nb.Batch, valve: Valve) -> None:
    valve.let(1)
    run = inline.submit(twice(), MANY, retain="none")
    settle(inline)
    run.cancel()

    assert inline.sql("SELECT count(data), count(*) FROM staged").row(0) == (0, MANY - SLICE)
    inline.purge(older_than=0)
    assert inline.sql("SELECT count(*) FROM staged").item() == 0


def test_a_failing_run_ends_once_all_outputs_are_chunks(inline: nb.Batch, valve: Valve) -> None:
    """R1"""

    @nb.step
    def stop(i: int) -> None:
        raise nb.FailJob("enough")

    valve.let(1)
    run = inline.submit(nb.Job("stops", numbers >> stop), MANY)
    settle(inline)
    assert run.status != "FAILED"

    valve.let(ALL, inline)
    assert run.wait(10) == "FAILED"
    each_once(inline, run)


def test_outputs_are_not_taken_again_before_all_are_chunks(inline: nb.Batch, valve: Valve) -> None:
    job = nb.Job("again", numbers >> drop, reuse=True)
    valve.let(2)
    first = inline.submit(job, MANY, key="first")
    settle(inline)
    second = inline.submit(job, MANY, key="second")
    settle(inline)
    assert (second.steps()["reused"][0], second.reuse()["reason"][0]) == (0, "new input")

    valve.let(ALL, inline)
    assert [first.wait(10), second.wait(10)] == ["COMPLETED"] * 2
    third = inline.submit(job, MANY, key="third")
    assert third.wait(10) == "COMPLETED"
    assert third.steps()["reused"].to_list() == [1, MANY]


def test_a_commit_that_fails_between_slices_leaves_memory_and_store_alike(
    store: Path, valve: Valve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R60"""

    @nb.step(max_attempts=1)
    def odd(i: int) -> str:
        return "\ud800" if i == 3 else ""

    with nb.open(store, workers=2) as batch:
        job = nb.Job("odd", numbers >> odd >> nb.step(_length))
        output: Any = odd.output
        monkeypatch.setattr(output, "encode", str)
        run = batch.submit(job, MANY)

        assert run.wait(10) == "FAILED"
        assert run.steps()["completed"].to_list()[:2] == [1, MANY - 1]
        each_once(batch, run)
        agrees(batch)


def test_an_instance_whose_slices_cannot_be_stored_stops_and_others_go_on(
    inline: nb.Batch, valve: Valve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R60"""
    valve.let(0)
    run = inline.submit(twice(), MANY)
    settle(inline)
    real, broken = slices.move_slice, [run.id]

    def move(store: Any, live: Any, changes: Any) -> None:
        if live.id in broken:
            raise ValueError("no room for it")
        real(store, live, changes)

    monkeypatch.setattr(slices, "move_slice", move)
    valve.let(ALL, inline)

    assert inline.submit(twice("beside"), MANY).result(10) == 2 * sum(range(MANY))
    assert run.id not in engine(inline).call(lambda: set(engine(inline).live))
    broken.clear()
    assert inline.submit(twice(), MANY).result(10) == 2 * sum(range(MANY))
    each_once(inline, run)


def _length(texts: Iterable[str]) -> int:
    return sum(map(len, texts))

"""What the model found wrong in the engine, each as a small program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.states import CHUNK_TRANSITIONS
from tests.kit import TickingClock
from tests.model.engine import Held, rest

bad: set[Any] = set()
"""What a step cannot do at present."""


@pytest.fixture(autouse=True)
def nothing_bad() -> None:
    bad.clear()


@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


def parse(value: int) -> int:
    if value in bad:
        raise ValueError(value)
    return value


def write(value: int) -> int:
    if ("write", value) in bad:
        raise ValueError(value)
    return value


def unpack(values: list[int]) -> Iterator[int]:
    yield from values


def report(values: Iterable[int]) -> list[int]:
    if "report" in bad:
        raise OSError("disk full")
    return list(values)


def job(*, gate: bool = False, max_failed: int = 0) -> nb.Job[int, Any]:
    """n → 0 … n-1 → parsed → (gate) written → all of them."""
    once: dict[str, Any] = {"max_attempts": 1}
    steps = numbers >> nb.step(max_failed=max_failed, **once)(parse) >> nb.step(gate=gate, **once)(write)
    return nb.Job("job", steps >> nb.step(**once)(report))


class Desk:
    """A batch whose workers are held."""

    def __init__(self) -> None:
        self.held, self.clock = Held(), TickingClock()
        self.batch = nb.open(":memory:", self.held, clock=self.clock)

    def work(self, until: Callable[[], Any] = lambda: False) -> None:
        """Do what there is to do, one micro-batch after another."""
        rest(self.batch)
        while self.held.given and not until():
            self.held.run(0)
            rest(self.batch)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    with made.batch:
        yield made


def counts(run: nb.JobHandle[Any], *states: str) -> list[tuple[int, ...]]:
    return run.steps().select(states).rows()


def misplaced(run: nb.JobHandle[Any]) -> list[str]:
    """Changes of chunks that the table of transitions does not have."""
    allowed = {(str(old), str(new)) for old, news in CHUNK_TRANSITIONS.items() for new in news}
    last: dict[int, str] = {}
    wrong: list[str] = []
    for row in run.history().filter(pl.col("chunk").is_not_null()).to_dicts():
        old, new = last.get(row["chunk"]), row["status"]
        last[row["chunk"]] = new
        if old and new != "SUPERSEDED" and (old, new) not in allowed:
            wrong.append(f"{row['step']}: {old} → {new}")
    return wrong


# --- skip -----------------------------------------------------------------------------------------


def test_a_run_whose_first_chunk_is_skipped_before_it_begins_ends(desk: Desk) -> None:
    others = [desk.batch.submit(job(), 1, new=True) for _ in desk.held.free()]
    run = desk.batch.submit(job(), 2)
    run.skip(run.chunks()["id"][0], "not wanted")
    desk.work()

    assert run.result(0) == []
    assert [each.result(0) for each in others] == [[0]] * len(others)


def test_a_skip_is_counted_at_once(desk: Desk) -> None:
    run = desk.batch.submit(job(), 4)
    desk.work(until=lambda: len(desk.held.given) == 2)
    queued = run.chunks("parse", status="QUEUED")["id"]
    run.skip(queued[0], "not wanted")
    rest(desk.batch)

    assert counts(run, "skipped")[1] == (1,)


def test_a_chunk_skipped_behind_a_shut_gate_stays_skipped_in_the_history(desk: Desk) -> None:
    run = desk.batch.submit(job(gate=True), 4)
    desk.work(until=lambda: counts(run, "gate_waiting")[2] != (0,))
    chunk = run.chunks("write")["id"][0]
    run.skip(chunk, "not wanted")
    desk.work()

    assert run.history(chunk=chunk)["status"].to_list() == ["GATE_WAITING", "SKIPPED"]
    assert misplaced(run) == []


def test_a_chunk_that_is_shown_as_queued_can_be_skipped(desk: Desk) -> None:
    first, second = desk.batch.submit(job(), 3), desk.batch.submit(job(), 4)
    rest(desk.batch)
    for run in (first, second):
        run.cancel()
        run.retry(quiet=True)  # both workers still have what was cancelled
    rest(desk.batch)
    chunk = first.chunks().row(0, named=True)
    assert chunk["status"] == "QUEUED"
    first.skip(chunk["id"], "not wanted")
    desk.work()

    assert (first.result(0), second.result(0)) == ([], [0, 1, 2, 3])


def test_the_skip_log_is_without_superseded_chunks(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(job(), 5)
    desk.work()
    run.skip(run.chunks(status="FAILED")["id"][0], "not wanted")
    desk.work()
    bad.clear()
    run.rerun(step="parse", quiet=True)
    desk.work()

    assert (run.result(0), run.skips().height) == ([0, 1, 2, 3, 4], 0)


# --- pages in two ---------------------------------------------------------------------------------


@nb.step
def pages(n: int) -> Iterator[list[int]]:
    yield list(range(n))


@nb.step(max_attempts=1, bisect=True, max_failed=9)
def load(page: list[int]) -> Iterator[int]:
    if bad & set(page):
        raise ValueError(page)
    yield from page


@nb.step(name="all")
def everything(values: Iterable[int]) -> list[int]:
    return list(values)


paged = nb.Job("paged", pages >> load >> everything)


def test_a_page_that_is_split_is_no_skipped_row(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(paged, 8)
    desk.work()

    assert (run.result(0), counts(run, "failed", "skipped")[1]) == ([0, 1, 2, 4, 5, 6, 7], (1, 0))
    assert run.skips().height == 0


def test_what_a_step_gave_is_shown_also_where_it_was_split(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(paged, 8)
    desk.work()

    page = run.chunks("pages").row(0, named=True)
    assert run.outputs("pages") == [list(range(8))]
    assert run.chunk(page["id"]).outputs == [list(range(8))]


def test_a_rerun_of_pages_that_were_split_gives_each_row_once(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(paged, 8)
    desk.work()
    before = counts(run, "chunks", "completed", "failed", "skipped")
    run.rerun(step="load", quiet=True)
    desk.work()

    assert counts(run, "chunks", "completed", "failed", "skipped") == before
    assert sorted(run.outputs("load")) == [0, 1, 2, 4, 5, 6, 7]


# --- gates and reports ----------------------------------------------------------------------------


def test_a_rerun_above_a_gate_gives_every_row_once(desk: Desk) -> None:
    run = desk.batch.submit(job(gate=True), 6)
    desk.work()
    run.rerun(step="parse", where=pl.col("value") == 5, quiet=True)
    desk.work()

    assert run.result(0) == [0, 1, 2, 3, 4, 5]


def test_a_report_that_failed_waits_for_the_rows_that_are_retried(desk: Desk) -> None:
    bad.update({3, "report"})
    run = desk.batch.submit(job(max_failed=1), 5)
    desk.work()
    bad.clear()
    run.retry(quiet=True)
    desk.work()

    assert run.result(0) == [0, 1, 2, 3, 4]


def test_a_report_that_was_cancelled_waits_for_the_rows_that_are_retried(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(job(max_failed=1), 5)
    desk.work(until=lambda: run.status == "ERRORED" and counts(run, "in_progress")[3] == (1,))
    run.cancel()
    bad.clear()
    run.retry(quiet=True)
    desk.work()

    assert run.result(0) == [0, 1, 2, 3, 4]


def test_a_retry_while_the_report_is_made_is_in_the_report(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(job(max_failed=1), 5)
    desk.work(until=lambda: counts(run, "in_progress")[3] == (1,))
    bad.clear()
    try:
        run.retry(quiet=True)
    except nb.StateError:  # that is right as well, if it works once the report is made
        desk.work()
        run.retry(quiet=True)
    rest(desk.batch)
    desk.held.run(len(desk.held.given) - 1)
    desk.work()

    assert run.result(0) == [0, 1, 2, 3, 4]


def test_behind_a_gate_nothing_starts_before_the_rows_that_are_retried(desk: Desk) -> None:
    bad.update({3, ("write", 0)})
    run = desk.batch.submit(job(gate=True, max_failed=1), 4)
    desk.work()
    bad.clear()
    run.retry(quiet=True)
    rest(desk.batch)

    assert counts(run, "in_progress", "gate_waiting")[1:3] == [(1, 0), (0, 1)]


def test_a_cancelled_run_is_retried_behind_a_shut_gate_by_the_table(desk: Desk) -> None:
    run = desk.batch.submit(job(gate=True), 4)
    desk.work(until=lambda: counts(run, "gate_waiting")[2] != (0,))
    run.cancel()
    run.retry(quiet=True)
    desk.work()

    assert (run.result(0), misplaced(run)) == ([0, 1, 2, 3], [])


def test_a_run_that_is_retried_after_it_completed_has_work_before_it(desk: Desk) -> None:
    bad.add(3)
    run = desk.batch.submit(job(max_failed=1), 5)
    desk.work()
    assert (run.status, run.progress) == ("COMPLETED", 1.0)
    bad.clear()
    run.retry(quiet=True)
    rest(desk.batch)

    assert run.progress < 1
    assert desk.batch.instances()["progress"][0] < 1


def test_a_run_ends_that_has_a_retry_behind_a_gate_that_stays_shut(desk: Desk) -> None:
    steps = numbers >> nb.step(max_attempts=1)(parse) >> nb.step(gate=True, max_attempts=2, backoff=10)(write)
    bad.add(("write", 0))
    run = desk.batch.submit(nb.Job("job", steps >> nb.step(report)), 3)
    desk.work()
    assert counts(run, "errored")[2] == (1,)
    run.pause()
    bad.add(1)
    run.rerun(step="parse", where=pl.col("value") == 1, quiet=True)
    desk.work()
    desk.clock.advance(1_000)
    desk.work()

    assert run.status == "FAILED"


def test_a_rerun_shortens_no_wait_of_other_chunks(desk: Desk) -> None:
    steps = numbers >> nb.step(max_attempts=2, backoff=nb.Backoff(base=100, jitter=0))(parse)
    bad.add(1)
    desk.clock.advance(1_000)
    run = desk.batch.submit(nb.Job("job", steps >> nb.step(report)), 3)
    desk.work()
    run.pause()
    run.rerun(step="parse", where=pl.col("value") == 0, quiet=True)
    desk.clock.advance(50)
    desk.work()

    assert (run.status, counts(run, "errored")[1]) == ("ERRORED", (1,))


def test_a_chunk_hears_of_its_sub_job_that_is_done_again(desk: Desk) -> None:
    outer = nb.Job("outer", numbers >> job().as_step("inner") >> nb.step(unpack) >> nb.step(report))
    run = desk.batch.submit(outer, 2)
    desk.work(until=lambda: counts(run, "in_progress")[1] != (0,))
    chunk = run.chunks("inner")["id"][-1]
    inner = run.chunk(chunk).subjob
    inner.pause()
    desk.work()
    inner.rerun(step="numbers", quiet=True)
    desk.work()
    assert inner.status == "COMPLETED"

    assert run.status == "COMPLETED"

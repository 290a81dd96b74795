"""What the laboratory found, each as small as it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import polars as pl

import nbbatch as nb
from nbbatch.states import CHUNK_TRANSITIONS, ChunkStatus


@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def first(i: int) -> int:
    return i


@nb.step(gate=True)
def gated(i: int) -> int:
    return i


@nb.step
def every(values: Iterable[int]) -> list[int]:
    return list(values)


class Bad(set[int]):
    """Items that fail until they are taken out."""

    def check(self, i: int) -> int:
        if i in self:
            raise ValueError(i)
        return i


def counts(run: nb.JobHandle[object], step: str) -> dict[str, int]:
    """Counts of a step by state, without those that are 0."""
    (row,) = run.steps().filter(step=step).to_dicts()
    return {state.name.lower(): row[state.name.lower()] for state in ChunkStatus if row[state.name.lower()]}


def states(run: nb.JobHandle[object], chunk: int) -> list[str]:
    return run.history(chunk=chunk)["status"].to_list()


def forbidden(path: list[str]) -> list[tuple[str, str]]:
    return [(old, new) for old, new in pairwise(path) if ChunkStatus(new) not in CHUNK_TRANSITIONS[ChunkStatus(old)]]


def test_a_rerun_above_a_gate_claims_nothing_that_it_replaced() -> None:
    with nb.open(":memory:", workers=2) as batch:
        run = batch.submit(nb.Job("rerun", numbers >> first >> gated >> every), 6)
        run.result(10)
        run.rerun(step="first", where=pl.col("value") == 5)

        assert run.result(3) == list(range(6))
        assert counts(run, "gated") == {"completed": 6}


def test_a_rerun_of_a_fan_out_in_pages_claims_nothing_that_it_replaced() -> None:
    pages = 6_000  # more than a page of a fan-out, so that its outputs go through the store

    @nb.step
    def many(i: int) -> Iterator[int]:
        yield from range(i * pages, (i + 1) * pages)

    @nb.step
    def take(i: int) -> None: ...

    with nb.open(":memory:", workers=2) as batch:
        run = batch.submit(nb.Job("rerun", numbers >> many >> take), 2)
        run.wait(30)
        run.rerun(step="many", where=pl.col("value") == 1)

        run.wait(10)
        assert counts(run, "take") == {"completed": 2 * pages}


def test_a_chunk_skipped_before_its_gate_opens_is_never_queued() -> None:
    bad = Bad({3})

    @nb.step(max_attempts=1)
    def picky(i: int) -> int:
        return bad.check(i)

    with nb.open(":memory:", executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("skip", numbers >> picky >> gated >> every), 6)
        run.wait(10)
        chunk = run.chunks("gated")["id"][0]
        run.skip(chunk, "not wanted")
        bad.clear()
        run.retry(quiet=True)

        assert run.result(10) == [1, 2, 3, 4, 5]
        assert states(run, chunk) == ["GATE_WAITING", "SKIPPED"]


def test_cancel_and_retry_behind_a_shut_gate_keep_to_the_table() -> None:
    go = threading.Event()

    @nb.step
    def slow(i: int) -> int:
        if i == 5:
            go.wait(10)
        return i

    with nb.open(":memory:", workers=2) as batch:
        run = batch.submit(nb.Job("cancel", numbers >> slow >> gated >> every), 6)
        while counts(run, "slow").get("completed") != 5:
            pass
        run.cancel()
        go.set()
        chunk = run.chunks("gated")["id"][0]
        run.retry(quiet=True)

        assert run.result(10) == list(range(6))
        assert forbidden(states(run, chunk)) == []


def test_a_retry_behind_a_gate_that_a_rerun_has_shut_keeps_to_the_table() -> None:
    above, below = Bad(), Bad({3})

    @nb.step(max_attempts=1)
    def source(i: int) -> int:
        return above.check(i)

    @nb.step(max_attempts=1, gate=True)
    def behind(i: int) -> int:
        return below.check(i)

    with nb.open(":memory:", executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("retry", numbers >> source >> behind >> every), 6)
        run.wait(10)
        chunk = run.chunks("behind", status="FAILED")["id"][0]
        above.add(0)
        run.rerun(step="source", where=pl.col("value") == 0)
        run.wait(10)
        above.clear()
        below.clear()
        run.retry(quiet=True)

        assert run.result(10) == list(range(6))
        assert forbidden(states(run, chunk)) == []


def test_a_retried_chunk_waits_behind_its_gate_for_the_retried_ones_before_it() -> None:
    bad, ran = Bad({3}), list[tuple[str, int]]()

    @nb.step(max_attempts=1)
    def source(i: int) -> int:
        ran.append(("source", bad.check(i)))
        return i

    @nb.step(max_attempts=1, gate=True)
    def behind(i: int) -> int:
        ran.append(("behind", i))
        return bad.check(i + 1) - 1

    with nb.open(":memory:", executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("retry", numbers >> source >> behind >> every, max_failed=1), 6)
        run.wait(10)
        bad.clear()
        ran.clear()
        run.retry(quiet=True)

        assert run.result(10) == list(range(6))
        assert ran[0] == ("source", 3)


def test_a_rerun_of_a_step_that_split_its_pages_doubles_nothing() -> None:
    saved = list[int]()

    @nb.step
    def pages(n: int) -> Iterator[list[int]]:
        yield list(range(n))

    @nb.step(max_attempts=1, bisect=True, max_failed=9)
    def load(page: list[int]) -> Iterator[int]:
        if 3 in page:
            raise ValueError
        yield from page

    @nb.step
    def save(i: int) -> None:
        saved.append(i)

    with nb.open(":memory:", executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("split", pages >> load >> save), 8)
        run.wait(10)
        before = counts(run, "load")
        saved.clear()
        run.rerun(step="load")
        run.wait(10)

        assert sorted(saved) == [0, 1, 2, 4, 5, 6, 7]
        assert counts(run, "load") == before


def test_what_is_retried_while_the_reduction_runs_is_in_the_report() -> None:
    bad, began, go = Bad({3}), threading.Event(), threading.Event()

    @nb.step(max_attempts=1)
    def picky(i: int) -> int:
        return bad.check(i)

    @nb.step
    def slow(values: Iterable[int]) -> list[int]:
        listed = list(values)
        began.set()
        go.wait(10)
        return listed

    with nb.open(":memory:", workers=2) as batch:
        run = batch.submit(nb.Job("report", numbers >> picky >> slow, max_failed=1), 6)
        assert began.wait(10)
        bad.clear()
        run.retry(quiet=True)
        go.set()

        assert run.result(10) == list(range(6))


def test_what_is_retried_together_with_a_failed_reduction_is_in_the_report() -> None:
    bad, broken = Bad({3}), Bad({5})

    @nb.step(max_attempts=1)
    def picky(i: int) -> int:
        return bad.check(i)

    @nb.step(max_attempts=1)
    def listed(values: Iterable[int]) -> list[int]:
        values = list(values)
        broken.check(len(values))
        return values

    with nb.open(":memory:", executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("report", numbers >> picky >> listed, max_failed=1), 6)
        assert run.wait(10) == "FAILED"
        bad.clear()
        broken.clear()
        run.retry(quiet=True)

        assert run.result(10) == list(range(6))


def test_a_rerun_ends_the_sub_jobs_of_what_it_replaces(tmp_path: Path) -> None:
    began, go = threading.Event(), threading.Event()

    @nb.step
    def waits(i: int) -> int:
        began.set()
        if not go.is_set():
            raise nb.RetryLater(3600)
        return i

    @nb.step
    def total(values: Iterable[int]) -> int:
        return sum(values)

    below = nb.Job("below", numbers >> waits >> total)
    job = nb.Job("above", numbers >> below.as_step() >> every)
    store = tmp_path / "store.duckdb"
    with nb.open(store, workers=2) as batch:
        run = batch.submit(job, 3, key="k")
        assert began.wait(10)
        run.pause()
    go.set()
    with nb.open(store, workers=2) as batch:
        run = batch.submit(job, 3, key="k")
        run.rerun(step="below")
        run.result(10)

        assert set(batch.instances(job="below")["status"]) <= {"COMPLETED", "CANCELLED"}


def test_a_skip_ends_the_sub_job_that_the_chunk_had_begun(tmp_path: Path) -> None:
    @nb.step
    def later(i: int) -> int:
        raise nb.RetryLater(3600)

    @nb.step
    def ends(values: Iterable[list[int]]) -> int:
        return len(list(values))

    job = nb.Job("above", numbers >> nb.Job("below", numbers >> later >> every).as_step() >> ends)
    store = tmp_path / "store.duckdb"
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(job, 3, key="k")
        while batch.instances(job="below", status="IN_PROGRESS").height < 2:  # the one of 0 has nothing to wait for
            pass
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1, job)
        for chunk in run.chunks("below", status="QUEUED")["id"]:
            run.skip(chunk, "not wanted")

        assert sorted(batch.instances(job="below")["status"]) == ["CANCELLED", "CANCELLED", "COMPLETED"]


def test_a_paused_run_of_an_earlier_process_can_be_rerun(tmp_path: Path) -> None:
    job = nb.Job("rerun", numbers >> first >> gated >> every)
    with nb.open(tmp_path / "store.duckdb", executor=nb.inline()) as batch:
        batch.submit(job, 3, key="k").pause()
    with nb.open(tmp_path / "store.duckdb", executor=nb.inline()) as batch:
        run = batch.instance(1, job)
        assert run.status in ("PAUSED", "COMPLETED")
        run.rerun(step="numbers")

        assert run.result(10) == [0, 1, 2]


def test_a_retry_is_claimed_however_many_steps_behind_it_are_done() -> None:
    bad = Bad({3})

    @nb.step(max_attempts=1)
    def picky(i: int) -> int:
        return bad.check(i)

    behind = numbers >> picky
    for place in range(6):

        @nb.step(name=f"behind{place}")
        def pass_on(i: int) -> int:
            return i

        behind = behind >> pass_on

    with nb.open(":memory:", executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("retry", behind >> every), 6)
        assert run.wait(10) == "FAILED"
        bad.clear()
        run.retry(quiet=True)

        assert run.result(3) == list(range(6))

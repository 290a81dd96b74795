"""Doing again: retry, rerun and skip beside gates, reductions and pages that were split, and counts that agree after each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.states import CHUNK_TRANSITIONS, ChunkStatus
from tests.jobs import numbers, total
from tests.kit import HandClock, TickingClock, settle, statuses


class Workshop:
    """Steps over numbers that fail on what is bad, and keep what they were called with."""

    def __init__(self) -> None:
        self.bad: set[Any] = set()
        self.calls: list[tuple[str, int]] = []

    def step(self, name: str, **options: Any) -> Any:
        def work(i: int) -> int:
            self.calls.append((name, i))
            if i in self.bad or (name, i) in self.bad:
                raise ValueError(f"{name} {i}")
            return i

        return nb.step(name=name, **{"max_attempts": 1, **options})(work)

    def report(self, **options: Any) -> Any:
        def every(values: Iterable[int]) -> list[int]:
            given = list(values)
            if "report" in self.bad:
                raise OSError("disk full")
            return given

        return nb.step(**{"max_attempts": 1, **options})(every)

    def mend(self) -> None:
        """Nothing is bad any more; calls are counted from here."""
        self.bad.clear()
        self.calls.clear()


@pytest.fixture
def clock() -> HandClock:
    return TickingClock()


@pytest.fixture
def shop() -> Workshop:
    return Workshop()


def check(run: nb.JobHandle[Any]) -> None:
    """Counts, frames and history tell of the same states, and each state came of the one before by the table."""
    states = [status.name.lower() for status in ChunkStatus]
    steps = run.steps()
    chunks = run.chunks(limit=None)
    for row in steps.iter_rows(named=True):
        found = Counter(chunks.filter(step=row["step"])["status"].str.to_lowercase())
        assert {state: row[state] for state in states if row[state]} == dict(found)
        assert row["chunks"] == sum(found.values())
    now = datetime.now(UTC) + timedelta(days=365_000)  # clocks of tests run ahead
    assert run.steps(as_of=now).select(states).rows() == steps.select(states).rows()
    assert run.skips().height == steps["skipped"].sum()
    path: dict[int, list[str]] = {}
    for chunk, status in run.history(limit=None).filter(pl.col("chunk").is_not_null())["chunk", "status"].iter_rows():
        path.setdefault(chunk, []).append(status)
    for chunk, status in chunks["id", "status"].iter_rows():
        assert path[chunk][-1] == status
        for old, new in pairwise(path[chunk]):
            assert old == new or ChunkStatus(new) in CHUNK_TRANSITIONS[ChunkStatus(old)], (
                f"chunk {chunk}: {path[chunk]}"
            )


# --- rerun above a gate ---------------------------------------------------------------------------


def gated(shop: Workshop, **options: Any) -> nb.Job[int, Any]:
    """n → numbers → first → ‖ second → third → ‖ fourth → report"""
    second, fourth = shop.step("second", gate=True, **options), shop.step("fourth", gate=True)
    return nb.Job(
        "gated", numbers >> shop.step("first", **options) >> second >> shop.step("third") >> fourth >> shop.report()
    )


@pytest.mark.parametrize("chosen", [[7], [0], [2, 3, 7], list(range(8))])
def test_a_rerun_above_gates_gives_every_row_once_and_calls_each_step_once(
    batch: nb.Batch, shop: Workshop, chosen: list[int]
) -> None:
    """L9, G10"""
    run = batch.submit(gated(shop), 8)
    before, counts = run.result(10), run.steps()
    for _ in range(2):
        shop.mend()
        run.rerun(step="first", where=pl.col("value").is_in(chosen), quiet=True)

        assert run.result(10) == before
        assert Counter(shop.calls) == Counter(
            (step, i) for step in ("first", "second", "third", "fourth") for i in chosen
        )
        assert (
            run.steps()
            .drop("started", "ended", "median_seconds", "p95_seconds")
            .equals(counts.drop("started", "ended", "median_seconds", "p95_seconds"))
        )
        check(run)


def test_behind_a_gate_nothing_starts_before_what_is_done_again(batch: nb.Batch, shop: Workshop) -> None:
    """G10"""
    run = batch.submit(gated(shop), 20)
    run.result(10)
    shop.mend()
    run.rerun(step="first", quiet=True).result(10)
    steps = [step for step, _ in shop.calls]

    assert steps.index("second") == 20
    assert steps.index("fourth") == 60


@pytest.mark.parametrize("pause", [False, True])
def test_a_rerun_goes_on_after_a_restart(store: Path, clock: HandClock, shop: Workshop, pause: bool) -> None:
    """L9, G10"""
    later = nb.step(name="first", backoff=60)(shop.step("x").function)
    job = nb.Job("gated", numbers >> later >> shop.step("second", gate=True) >> shop.report())
    with nb.open(store, nb.inline(), clock=clock) as opened:
        run = opened.submit(job, 6, key="k")
        run.result(10)
        shop.bad.add(5)  # waits for its next attempt when the store is closed
        run.rerun(step="first", where=pl.col("value").is_in([3, 5]), quiet=True)
        settle(opened)
        assert statuses(run, "second")[-1] == "GATE_WAITING"
        if pause:
            run.pause()
    shop.mend()
    clock.advance(300)
    with nb.open(store, nb.inline(), clock=clock) as opened:
        run = opened.submit(job, 6, key="k")
        run.resume()

        assert run.result(10) == list(range(6))
        assert [i for step, i in shop.calls if step == "second"] == [3, 5]
        check(run)


def test_a_paused_run_that_nobody_has_taken_up_can_be_rerun(store: Path) -> None:
    """L9"""
    job = nb.Job("late", numbers >> total)
    with nb.open(store, nb.inline()) as opened:
        opened.submit(job, 3).wait(10)
    with nb.open(store, nb.inline()) as opened:
        run = opened.submit(job, 4, key="k")
        run.pause()
    with nb.open(store, nb.inline()) as opened:
        run = opened.instance(2, job)
        run.rerun(step="numbers", quiet=True)

        assert run.result(10) == 6


def test_a_rerun_says_what_it_does_again_and_with_which_code(
    batch: nb.Batch, shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    """L9"""
    run = batch.submit(gated(shop), 4)
    run.result(10)
    run.rerun(step="third", where=pl.col("value") > 1)
    said = [line.split(": ") for line in capsys.readouterr().out.splitlines()]

    assert [(head.split()[0], rest) for head, rest in said] == [
        ("third", "2 to rerun, 2 kept"), ("fourth", "2 to rerun, 2 kept"), ("every", "1 to rerun, 0 kept"),
    ]  # fmt: skip


# --- pages that were split ------------------------------------------------------------------------


@nb.step
def pages(n: int) -> Iterator[list[int]]:
    for first in range(0, n, 8):
        yield list(range(first, first + 8))


def paged(shop: Workshop, **options: Any) -> nb.Job[int, Any]:
    @nb.step(max_attempts=1, bisect=True, **options)
    def load(page: list[int]) -> Iterator[int]:
        if shop.bad & set(page):
            raise ValueError(f"poison in {page}")
        yield from page

    return nb.Job("paged", pages >> load >> shop.step("save") >> shop.report())


def test_a_page_that_was_split_counts_for_nothing_and_its_halves_are_done_again_once(
    batch: nb.Batch, shop: Workshop
) -> None:
    """L9, L18"""
    shop.bad.add(3)
    run = batch.submit(paged(shop, max_failed=9), 16)
    good = [i for i in range(16) if i != 3]
    columns = ["step", "chunks", "completed", "failed", "skipped"]
    assert run.result(10) == good
    counts = run.steps().select(columns)
    for _ in range(2):
        shop.calls.clear()
        run.rerun(step="load", quiet=True)

        assert run.result(10) == good
        assert Counter(shop.calls) == Counter(("save", i) for i in good)
        assert run.steps().select(columns).equals(counts)
        assert run.skips().is_empty()
        check(run)


def test_a_page_that_was_split_is_still_found(batch: nb.Batch, shop: Workshop) -> None:
    shop.bad.add(3)
    run = batch.submit(paged(shop, max_failed=9), 8)
    run.result(10)
    page = run.chunk(run.chunks("load", status="FAILED")["id"][0]).lineage[1]

    assert (page.status, page.input) == ("SUPERSEDED", list(range(8)))
    assert run.outputs("pages") == run.chunk(1).outputs == [list(range(8))]
    assert [child.id for child in run.chunk(1).children] == [page.id]
    assert [half.input for half in page.children] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert run.history(chunk=page.id)["status", "text"].rows()[-2:] == [
        ("SKIPPED", "split in two, as it failed: poison in [0, 1, 2, 3, 4, 5, 6, 7]"), ("SUPERSEDED", "replaced by its halves"),
    ]  # fmt: skip


def test_pages_above_those_that_were_split_can_be_done_again(batch: nb.Batch, shop: Workshop) -> None:
    """L9"""
    shop.bad.add(3)
    run = batch.submit(paged(shop, max_failed=9), 16)
    run.result(10)
    shop.mend()
    run.rerun(step="pages", quiet=True)

    assert run.result(10) == list(range(16))
    assert run.steps()["chunks"].to_list() == [1, 2, 16, 1]
    check(run)


# --- retry beside a reduction ---------------------------------------------------------------------


def reported(shop: Workshop, **options: Any) -> nb.Job[int, Any]:
    return nb.Job(
        "reported", numbers >> shop.step("parse", max_failed=0.5) >> shop.step("write") >> shop.report(**options)
    )


@pytest.mark.parametrize("retain", ["all", "failed"])
def test_a_report_that_failed_waits_for_the_rows_that_are_retried(batch: nb.Batch, shop: Workshop, retain: Any) -> None:
    """L8, G10"""
    shop.bad |= {3, 7, 11, "report"}
    run = batch.submit(reported(shop), 12, retain=retain)
    assert run.wait(10) == "FAILED"
    shop.mend()
    run.retry(quiet=True)

    assert run.result(10) == list(range(12))
    assert Counter(shop.calls) == Counter((step, i) for step in ("parse", "write") for i in (3, 7, 11))
    check(run)


def test_a_report_that_only_failed_itself_is_made_again_of_the_same_rows(batch: nb.Batch, shop: Workshop) -> None:
    """L8"""
    shop.bad |= {"report"}
    run = batch.submit(reported(shop), 3)
    run.wait(10)
    shop.mend()
    run.retry(quiet=True)

    assert run.result(10) == [0, 1, 2]
    assert shop.calls == []
    assert run.chunks("every")["attempts"].to_list() == [2]


@pytest.mark.parametrize("only", ["all", "group"])
@pytest.mark.parametrize("retain", ["all", "failed"])
def test_rows_that_are_retried_while_the_report_is_made_are_in_it(
    threaded: nb.Batch, shop: Workshop, only: str, retain: Any
) -> None:
    """L8, G10"""
    began, go = threading.Event(), threading.Event()
    reports: list[list[int]] = []

    @nb.step
    def every(values: Iterable[int]) -> list[int]:
        given = list(values)
        reports.append(given)
        began.set()
        assert go.wait(10)
        return given

    shop.bad |= {3, 7}
    run = threaded.submit(nb.Job("slow", numbers >> shop.step("parse", max_failed=3) >> every), 12, retain=retain)
    assert began.wait(10)
    shop.mend()
    run.retry(quiet=True) if only == "all" else run.failures()[0].retry(quiet=True)
    while statuses(run, "parse") != ["COMPLETED"] * 12:
        threading.Event().wait(0.01)
    go.set()

    assert run.result(10) == list(range(12))
    assert sorted(map(len, reports)) == [10, 12]
    check(run)


def test_a_report_that_was_cancelled_waits_for_the_rows_that_are_retried(threaded: nb.Batch, shop: Workshop) -> None:
    """L8, G10"""
    began, go = threading.Event(), threading.Event()

    @nb.step
    def every(values: Iterable[int]) -> list[int]:
        began.set()
        assert go.wait(10)
        return list(values)

    shop.bad |= {3}
    run = threaded.submit(nb.Job("slow", numbers >> shop.step("parse", max_failed=3) >> every), 5)
    assert began.wait(10)
    run.cancel()
    shop.mend()
    run.retry(quiet=True)
    go.set()

    assert run.result(10) == list(range(5))
    check(run)


def test_a_report_that_waits_for_its_next_attempt_waits_for_retried_rows_first(
    batch: nb.Batch, clock: HandClock, shop: Workshop
) -> None:
    """G10"""
    shop.bad |= {3, "report"}
    run = batch.submit(reported(shop, max_attempts=3, backoff=60), 5)
    settle(batch)
    assert statuses(run, "every") == ["ERRORED"]
    shop.mend()
    run.retry(quiet=True)
    settle(batch)

    assert run.result(10) == list(range(5))
    check(run)


# --- retry behind a gate --------------------------------------------------------------------------


def test_chunks_behind_a_gate_wait_for_the_rows_that_are_retried_before_it(batch: nb.Batch, shop: Workshop) -> None:
    """G10"""
    shop.bad |= {3, 7, ("second", 5)}
    run = batch.submit(gated(shop, max_failed=3), 12)
    run.wait(10)
    shop.mend()
    run.retry(quiet=True)

    assert run.result(10) == list(range(12))
    assert [step for step, _ in shop.calls[:2]] == ["first", "first"]
    check(run)


def test_a_run_ends_where_what_a_gate_waits_for_fails_again(batch: nb.Batch, clock: HandClock, shop: Workshop) -> None:
    """G4, G10"""
    flaky = nb.step(name="second", gate=True, max_attempts=5, backoff=3600)(shop.step("second").function)
    job = nb.Job("job", numbers >> shop.step("first", max_failed=1) >> flaky >> shop.report())
    shop.bad |= {0, ("second", 2)}
    run = batch.submit(job, 4)
    settle(batch)
    assert statuses(run, "second") == ["COMPLETED", "ERRORED", "COMPLETED"]
    assert run.retry(quiet=True).status == "ERRORED"
    settle(batch)
    assert run.status == "ERRORED"  # within the budget: the gate opens again
    shop.bad.add(1)
    run.pause()
    run.rerun(step="first", where=pl.col("value") < 2, quiet=True)

    assert run.wait(10) == "FAILED"
    assert statuses(run, "second") == ["ERRORED", "COMPLETED"]
    check(run)
    shop.mend()
    run.retry(quiet=True)
    settle(batch)
    clock.advance(7200)
    assert sorted(run.result(10)) == [0, 1, 2, 3]


def test_a_cancelled_run_is_retried_behind_a_shut_gate_by_the_table(
    batch: nb.Batch, clock: HandClock, shop: Workshop
) -> None:
    """G2, L8"""
    slow = nb.step(name="first", backoff=60, max_attempts=3)(shop.step("first").function)
    job = nb.Job("job", numbers >> slow >> shop.step("second", gate=True) >> shop.report())
    shop.bad.add(3)
    run = batch.submit(job, 6)
    settle(batch)
    assert statuses(run, "second") == ["GATE_WAITING"] * 5
    run.cancel()
    clock.advance(1)
    run.retry(quiet=True)
    settle(batch)
    assert statuses(run, "second") == ["GATE_WAITING"] * 5
    check(run)
    shop.mend()
    clock.advance(300)

    assert run.result(10) == list(range(6))
    check(run)


# --- skip -----------------------------------------------------------------------------------------


@nb.step
def drop(i: int) -> None: ...


@pytest.mark.parametrize("ends", [total, drop])
@pytest.mark.parametrize("how", ["waiting", "paused", "reopened"])
def test_a_run_whose_first_chunk_is_skipped_before_it_begins_ends(
    store: Path, clock: HandClock, ends: Any, how: str
) -> None:
    """L10"""
    once = nb.step(rate=0.01)(numbers.function)
    job = nb.Job("skipped", once >> ends)
    with nb.open(store, nb.inline(), clock=clock) as opened:
        opened.submit(job, 1).wait(10)
        run, other = opened.submit(job, 5, key="k"), opened.submit(job, 9, key="o")
        assert run.status == "QUEUED"
        if how != "waiting":
            run.pause()
        run.skip(run.chunks()["id"][0], "not wanted")
        if how == "paused":
            run.resume()
        if how != "reopened":
            assert run.wait(10) == "COMPLETED"
            check(run)
    with nb.open(store, nb.inline(), clock=clock) as opened:
        run, other = opened.submit(job, 5, key="k"), opened.submit(job, 9, key="o")
        if how == "reopened":
            run.resume()
        clock.advance(200)

        assert (run.wait(10), other.wait(10)) == ("COMPLETED", "COMPLETED")
        assert run.skips()["reason"].to_list() == ["not wanted"]
        assert run.result(1) == (0 if ends is total else None)
        assert run.history().filter(pl.col("chunk").is_null())["status"].to_list()[-2:] != ["QUEUED", "COMPLETED"]


def test_listeners_hear_of_the_start_of_a_run_whose_first_chunk_is_skipped(inline: nb.Batch) -> None:
    """L14"""
    heard: list[str] = []
    once = nb.step(rate=0.01)(numbers.function)
    job = nb.Job("skipped", once >> drop)
    job.on("instance_started")(lambda event: heard.append("before"))
    job.on("instance_ended")(lambda event: heard.append("after"))
    inline.submit(job, 1).wait(10)
    run = inline.submit(job, 5)
    run.skip(run.chunks()["id"][0], "not wanted")
    run.wait(10)
    inline.close()  # waits for listeners

    assert heard == ["before", "after"] * 2


def test_a_skip_counts_at_once(batch: nb.Batch, clock: HandClock, shop: Workshop) -> None:
    """L10"""
    later = nb.step(name="later", backoff=60)(shop.step("x").function)
    shop.bad.add(2)
    run = batch.submit(nb.Job("job", numbers >> later >> shop.report()), 4)
    settle(batch)
    run.skip(run.chunks("later", status="ERRORED")["id"][0], "not wanted")

    assert run.steps()["skipped"].to_list() == [0, 1, 0]
    assert run.result(10) == [0, 1, 3]


def test_a_skip_without_a_reason_is_refused_and_changes_nothing(batch: nb.Batch, shop: Workshop) -> None:
    """L10"""
    shop.bad.add(2)
    run = batch.submit(nb.Job("job", numbers >> shop.step("work") >> shop.report()), 4)
    run.wait(10)
    failed = run.chunks(status="FAILED")["id"][0]
    for reason in ("", "  ", None):
        with pytest.raises(ValueError, match="reason"):
            run.skip(failed, reason)  # pyright: ignore[reportArgumentType]

    assert run.chunk(failed).status == "FAILED"


# --- retry first, skip after the last attempt -----------------------------------------------------


def test_what_both_retry_on_and_skip_on_name_is_skipped_after_the_last_attempt(
    batch: nb.Batch, clock: HandClock
) -> None:
    """L19"""
    calls: Counter[int] = Counter()

    @nb.step(retry_on=OSError, skip_on=(OSError, ValueError), max_attempts=3, backoff=1, max_skipped=2)
    def picky(i: int) -> None:
        calls[i] += 1
        if i == 1 or (i == 2 and calls[i] < 3):
            raise OSError("busy")
        if i == 3:
            raise ValueError("malformed")

    run = batch.submit(nb.Job("picky", numbers >> picky), 5)
    for _ in range(3):
        settle(batch)
        clock.advance(10)

    assert run.wait(10) == "COMPLETED"
    assert calls == {0: 1, 1: 3, 2: 3, 3: 1, 4: 1}
    assert run.chunks("picky")["status"].to_list() == ["COMPLETED", "SKIPPED", "COMPLETED", "SKIPPED", "COMPLETED"]
    assert sorted(run.skips()["reason"]) == ["busy (error 3 of at most 3)", "malformed"]
    check(run)


def test_what_is_skipped_last_beyond_the_limit_fails(batch: nb.Batch, clock: HandClock) -> None:
    """L19"""

    @nb.step(retry_on=OSError, skip_on=OSError, max_attempts=2, backoff=0, max_skipped=1)
    def picky(i: int) -> None:
        raise OSError("busy")

    run = batch.submit(nb.Job("picky", numbers >> picky), 3)

    assert run.wait(10) == "FAILED"
    assert Counter(statuses(run, "picky")) == {"SKIPPED": 1, "FAILED": 2}


def test_an_attempt_past_its_time_is_retried_and_skipped_as_its_step_says(threaded: nb.Batch) -> None:
    """L19, C20"""

    @nb.step(retry_on=TimeoutError, skip_on=TimeoutError, max_attempts=2, backoff=0, timeout=0.05)
    async def slow(i: int) -> None:
        await __import__("asyncio").sleep(30)

    run = threaded.submit(nb.Job("slow", numbers >> slow), 1)

    assert run.wait(10) == "COMPLETED"
    assert run.chunks("slow")["status", "attempts"].rows() == [("SKIPPED", 2)]

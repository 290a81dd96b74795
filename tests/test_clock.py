"""The computer's clock is set, while runs go on and between two openings: nothing waits longer, nothing changes its order."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.base.clock import SystemClock
from tests.jobs import each, one_step
from tests.kit import HandClock, settle, statuses

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def set_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the computer's clock forward or back by so many hours."""
    real, ahead = time.time_ns, [0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead[0])

    def move(hours: int) -> None:
        ahead[0] += hours * HOUR_NS

    return move


def test_time_goes_on_where_the_clock_is_set_back_and_follows_it_forward(set_by: Callable[[int], None]) -> None:
    """R33"""
    clock = SystemClock()
    read = [clock.now()]
    for hours in (-1, -1, 3, -3):
        set_by(hours)
        read.append(clock.now())
    steps = [later - earlier for earlier, later in pairwise(read)]

    assert all(0 <= step < 60e6 for step in (steps[0], steps[1], steps[3]))
    assert 3599e6 < steps[2] < 3660e6


@pytest.mark.parametrize("wait", ["backoff", "RetryLater", "rate"])
def test_a_clock_set_back_lengthens_no_wait(wait: str, set_by: Callable[[int], None]) -> None:
    """R33"""
    calls: list[int] = []

    def work(value: int) -> None:
        calls.append(value)
        if len(calls) == 2:
            set_by(-1)
        if wait != "rate" and calls.count(value) == 1:
            raise OSError("away") if wait == "backoff" else nb.RetryLater(0.02)

    options: dict[str, dict[str, Any]] = {
        "backoff": {"backoff": nb.Backoff(0.02)},
        "RetryLater": {},
        "rate": {"rate": 20},
    }
    with nb.open(":memory:", workers=2) as batch:
        run = batch.submit(each(work, **options[wait]), 30)

        assert run.wait(20) == "COMPLETED"
        assert run.attempts()["seconds"].min() >= 0  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_ends_no_attempt(hours: int, set_by: Callable[[int], None]) -> None:
    """R33"""
    with nb.open(":memory:", workers=2) as batch:
        run = batch.submit(each(lambda value: set_by(hours), timeout=600, max_attempts=1), 3)

        assert run.wait(20) == "COMPLETED"


def _away_at_first(value: int) -> None:
    if nb.context().attempt == 1:
        raise nb.RetryLater(600)


def test_a_clock_set_back_before_an_opening_lengthens_no_wait_beyond_what_it_was(store: Path) -> None:
    """R33"""
    late, job = HandClock(), one_step(_away_at_first)
    late.advance(7200)
    with nb.open(store, nb.inline(), clock=late) as batch:
        batch.submit(job, 1)
        settle(batch)
    early = HandClock()
    with nb.open(store, nb.inline(), clock=early) as batch:
        (run,) = batch.resume(job)
        early.advance(599)
        settle(batch)
        assert statuses(run) == ["POLL_WAITING"]
        early.advance(1)

        assert run.wait(10) == "COMPLETED"


def test_history_keeps_the_order_of_events_where_the_clock_was_set_back(store: Path) -> None:
    """R33"""
    late, job = HandClock(), each(_away_at_first)
    late.advance(7200)
    with nb.open(store, nb.inline(), clock=late) as batch:
        batch.submit(job, 2)
        settle(batch)
    early = HandClock()
    with nb.open(store, nb.inline(), clock=early) as batch:
        (run,) = batch.resume(job)
        early.advance(601)
        assert run.wait(10) == "COMPLETED"
        history = run.history()

        for chunk in run.chunks("visit")["id"]:
            one = ["QUEUED", "IN_PROGRESS", "POLL_WAITING", "IN_PROGRESS", "COMPLETED"]
            assert history.filter(chunk=chunk)["status"].to_list() == one
        own = history.filter(history["chunk"].is_null())["status"].to_list()
        assert own == ["QUEUED", "IN_PROGRESS", "COMPLETED"]
        assert history["status"][-1] == "COMPLETED"
        assert batch.instances()["seconds"].item() >= 0


def test_what_happens_at_one_moment_is_in_the_order_of_events(batch: nb.Batch) -> None:
    """R33"""
    run = batch.submit(
        each(lambda value: None if nb.context().attempt > 1 else int("x"), backoff=0, retry_on=ValueError), 1
    )
    run.wait(10)

    (chunk,) = run.chunks("visit")["id"]
    assert run.history(chunk=chunk)["status"].to_list() == [
        "QUEUED", "IN_PROGRESS", "ERRORED", "IN_PROGRESS", "COMPLETED",
    ]  # fmt: skip

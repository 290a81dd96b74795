"""What a check at the door has missed harms only itself: the attempt that gave it, or the call that brought it.

The checks are taken away here, so that values which no column holds get as far as the transaction.
"""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.base import ranges
from nbbatch.engine import settle
from nbbatch.engine.recovery import load
from nbbatch.engine.state import LiveInstance
from tests.jobs import double, drop, each, numbers, one_step, summing, total
from tests.kit import HandClock, count, engine
from tests.kit import settle as settled

HUGE = 2**70


@pytest.fixture(autouse=True)
def _no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MAX_RECORDS", math.inf)
    monkeypatch.setattr(ranges, "text", lambda value, what: value)


def agrees(batch: nb.Batch) -> None:
    """What the engine has in memory is what is stored, and no row is there twice."""
    inner = engine(batch)

    def counts() -> list[list[list[int]]]:
        return [[list(step.counts) for step in live.steps] for live in inner.live.values()]

    def stored() -> list[list[list[int]]]:
        rows = [inner.store.instance(live.id) for live in inner.live.values()]
        made = [
            load(inner.store, live.job, row, live.params) for live, row in zip(inner.live.values(), rows, strict=True)
        ]
        return [[list(step.counts) for step in live.steps] for live in made]

    in_memory, in_store = inner.call(lambda: (counts(), stored()))
    assert in_memory == in_store
    for table, key in (
        ("chunk", "id"),
        ("event", "id"),
        ("event", "(chunk, attempt, status)"),
        ("output", "(parent, seq)"),
    ):
        row = batch.sql(f"SELECT count(*), count(DISTINCT {key}) FROM {table}").row(0)
        assert row[0] == row[1], (table, key)


@pytest.mark.parametrize("seed", range(6))
def test_attempts_that_cannot_be_stored_fail_alone_whatever_the_chain(store: Path, seed: int) -> None:
    """R60"""
    chance = random.Random(seed)
    items = chance.choice([40, 700])
    odd = {i for i in range(items) if chance.random() < chance.choice([0.01, 0.1])} | {items // 2}
    calls = Counter[int]()

    @nb.step(max_attempts=1)
    def work(i: int) -> int:
        calls[i] += 1
        if i in odd:
            nb.context().records(HUGE)
        return i

    chains = [numbers >> work >> total, numbers >> work >> nb.step(gate=True)(double.function) >> total]
    job = nb.Job("odd", chance.choice(chains), max_failed=1.0)
    with nb.open(store, workers=3) as batch:
        beside = batch.submit(summing("beside"), 300)
        run = batch.submit(job, items)
        good = sum(range(items)) - sum(odd)

        assert run.result(50) == good * (2 if len(job.steps) == 4 else 1)
        assert beside.result(50) == 2 * sum(range(300))
        assert {i for i, times in calls.items() if times != 1} == set()
        failed = run.errors()
        assert failed.height == len(odd)
        assert set(failed["error_type"]) == {"nbbatch.ValueNotStorable"}
        assert all("cannot be stored: " in text and "INT128" in text for text in failed["error"])
        assert run.code("work")[0].source
        agrees(batch)
        assert len(batch.problems) > 0


def test_what_runs_meanwhile_runs_once(store: Path) -> None:
    """R60"""
    started, release, calls = threading.Event(), threading.Event(), Counter[int]()

    def long(i: int) -> None:
        calls[i] += 1
        started.set()
        release.wait(20)

    with nb.open(store, workers=3) as batch:
        slow = batch.submit(each(long, name="slow"), 2)
        assert started.wait(10)
        odd = batch.submit(one_step(lambda _: nb.context().records(HUGE), name="odd", max_attempts=1), 1)
        assert odd.wait(10) == "FAILED"
        agrees(batch)
        release.set()

        assert slow.wait(10) == "COMPLETED"
        assert calls == {0: 1, 1: 1}


def test_retries_waits_and_failed_chunks_are_kept_where_a_neighbour_cannot_be_stored(
    batch: nb.Batch, clock: HandClock
) -> None:
    """R60"""
    seen = Counter[int]()

    def visit(i: int) -> None:
        seen[i] += 1
        if i == 0:
            raise nb.RetryLater(10)
        if i == 1:
            raise OSError("again")
        if i == 2:
            raise nb.FailChunk("no")
        if i == 3:
            nb.context().records(HUGE)

    run = batch.submit(each(visit, max_failed=9, max_attempts=2, backoff=nb.Backoff(5, jitter=0)), 5)
    settled(batch)

    assert count(run) == {"POLL_WAITING": 1, "ERRORED": 1, "FAILED": 2, "COMPLETED": 2}
    agrees(batch)
    clock.advance(5)
    settled(batch)
    assert count(run) == {"POLL_WAITING": 1, "FAILED": 3, "COMPLETED": 2}
    agrees(batch)


def test_a_log_that_cannot_be_stored_costs_only_itself(batch: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """R60"""
    for place in ("context", "error_text"):
        monkeypatch.setattr(f"nbbatch.worker.{place}.clean", lambda text: text)

    def visit(i: int) -> None:
        nb.context().warn("\ud800" if i == 1 else "good")

    run = batch.submit(each(visit, max_failed=1), 3)

    assert run.wait(10) == "COMPLETED"
    assert count(run) == {"COMPLETED": 3, "FAILED": 1}
    assert run.warnings == ["good"]


def test_a_submit_that_cannot_be_stored_raises_and_leaves_nothing(batch: nb.Batch) -> None:
    """R60"""
    for more in ({"key": "\ud800"}, {"attach": {"\ud800": b""}}):
        with pytest.raises(nb.ValueNotStorable, match="surrogate"):
            batch.submit(summing(), 3, **more)  # type: ignore[arg-type]

    assert batch.instances().is_empty()
    assert engine(batch).live == {}
    run = batch.submit(summing(), 3)
    assert run.result(10) == 6
    agrees(batch)


def test_many_submits_at_once_of_which_some_cannot_be_stored(store: Path) -> None:
    """R60"""
    heard: dict[int, Any] = {}

    def ask(batch: nb.Batch, place: int) -> None:
        try:
            heard[place] = batch.submit(summing(), place, key="\ud800" if place % 3 == 0 else None).result(20)
        except nb.NbbatchError as error:
            heard[place] = type(error)

    with nb.open(store, workers=2) as batch:
        threads = [threading.Thread(target=ask, args=(batch, place)) for place in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert heard == {i: nb.ValueNotStorable if i % 3 == 0 else i * (i - 1) for i in range(24)}
        assert batch.instances().height == 16


def test_a_step_on_the_engines_own_thread_that_submits_hears_of_it_too(store: Path, clock: HandClock) -> None:
    """R60"""
    heard: list[nb.JobHandle[int]] = []
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        outer = one_step(lambda _: heard.append(batch.submit(summing("inner"), 3, attach={"\ud800": b""})))
        assert batch.submit(outer, 1).wait(10) == "COMPLETED"
        settled(batch)

        with pytest.raises(nb.ValueNotStorable):
            heard[0].wait(5)
        assert batch.instances()["job"].to_list() == ["one"]


def test_pages_of_a_fan_out_that_cannot_be_stored_fail_its_attempt(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R60"""
    monkeypatch.setattr("nbbatch.worker.attempt.PAGE_OUTPUTS", 10)

    @nb.step(max_attempts=1)
    def listing(n: int) -> Iterator[int]:
        yield from range(n)

    job = nb.Job("paged", listing >> drop)
    output: Any = listing.output
    encode = output.encode
    with nb.open(store, workers=2) as batch:
        monkeypatch.setattr(output, "encode", lambda value: "\ud800" if value == 25 else encode(value))
        beside = batch.submit(summing("beside"), 20)
        run = batch.submit(job, 100)

        assert run.wait(10) == "FAILED"
        assert "surrogate" in run.errors()["error"].item()
        assert beside.result(10) == 380
        assert batch.sql("SELECT count(*) FROM staged").item() == 0
        assert batch.submit(job, 20).wait(10) == "COMPLETED"
        agrees(batch)


def test_an_instance_that_cannot_go_on_stops_alone_and_can_be_resumed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R61"""
    why = LiveInstance.why_failed
    monkeypatch.setattr(LiveInstance, "why_failed", lambda live: "\ud800" if live.job.name == "bad" else why(live))
    bad = one_step(lambda _: _fail(), name="bad", max_attempts=1)
    with nb.open(store, workers=2) as batch:
        beside = batch.submit(summing("beside"), 200)
        run = batch.submit(bad, 1)

        with pytest.raises(nb.StoreError, match=rf"instance {run.id} stopped: .*surrogate.*run\.resume\(\)"):
            run.result(10)
        with pytest.raises(nb.StoreError, match="stopped"):
            batch.instance(run.id, bad).wait(10)
        assert beside.result(10) == 2 * sum(range(200))
        monkeypatch.undo()
        assert run.resume().wait(10) == "FAILED"
        agrees(batch)


def test_an_attempt_that_cannot_be_settled_is_failed(batch: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """R60"""
    verdict = settle.verdict

    def fragile(options: Any, item: Any, outcome: Any, *rest: Any) -> Any:
        if outcome.log == "odd\n":
            raise RuntimeError("nobody thought of this")
        return verdict(options, item, outcome, *rest)

    monkeypatch.setattr(settle, "verdict", fragile)
    run = batch.submit(each(lambda i: print("odd" if i == 2 else "even"), max_failed=1), 4)

    assert run.wait(10) == "COMPLETED"
    assert run.errors()["error"].item().endswith("cannot be stored: nobody thought of this")
    agrees(batch)


def test_the_loop_outlives_a_clock_that_raises(store: Path) -> None:
    """R61"""
    clock = HandClock()
    now = clock.now
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(one_step(lambda _: _later()), 1)
        settled(batch)
        clock.now = partial(_raise_once, clock, now)  # type: ignore[method-assign]
        clock.advance(1)

        with pytest.raises(nb.StoreError, match=r"the engine stopped: .*no time"):
            run.wait(10)
        assert any("no time" in problem for problem in batch.problems)
        assert batch.submit(summing(), 3).result(10) == 6
        assert "problem" in repr(batch)


def _raise_once(clock: HandClock, now: Any) -> int:
    clock.now = now  # type: ignore[method-assign]
    raise ArithmeticError("no time")


def _later() -> None:
    raise nb.RetryLater(60)


def _fail() -> None:
    raise nb.FailChunk("no")


def test_a_reduction_that_cannot_be_stored_fails_alone(batch: nb.Batch) -> None:
    """R60"""

    @nb.step(max_attempts=1)
    def report(values: Iterable[int]) -> int:
        nb.context().records(HUGE)
        return sum(values)

    run = batch.submit(nb.Job("report", numbers >> report), 4)

    assert run.wait(10) == "FAILED"
    assert "cannot be stored" in run.errors()["error"].item()
    agrees(batch)

"""Who is told of what happens, and what is put around attempts; how often an instance may be started."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch import testing
from nbbatch.engine.notifications import Notifications
from tests.jobs import double, each, numbers, summing, total
from tests.kit import HandClock, engine, settle


def test_moments_of_an_instance_are_told_in_order_once_they_are_stored(store: Path) -> None:
    """L14"""
    job, told = summing(), list[tuple[str, ...]]()

    @job.on("instance_started")
    def begins(run: nb.JobHandle[int]) -> None:
        told.append(("begins", run.batch.instances()["status"][0]))

    job.on("step_started")(lambda run, step: told.append(("step", step)))
    job.on("step_ended")(lambda run, step: told.append(("ended", step)))

    @job.on("instance_ended")
    def ends(run: nb.JobHandle[int]) -> None:
        told.append(("ends", str(run.status), run.result()))

    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(job, 2).result(10)

    assert told[0][0] == "begins"
    assert told[0][1] != "QUEUED"
    assert told[1:] == [
        ("step", "numbers"), ("ended", "numbers"), ("step", "double"), ("ended", "double"), ("step", "total"),
        ("ended", "total"), ("ends", "COMPLETED", 2),
    ]  # fmt: skip


def test_who_waits_never_meets_a_thread_that_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """L14"""
    notifications, told, waited = Notifications(lambda *_: None), list[int](), list[threading.Thread]()
    begin = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("nbbatch-listeners") and not waited:
            waited.append(threading.Thread(target=notifications.wait, args=(10,)))
            begin(waited[0])
            waited[0].join(0.05)  # long enough for it to look, were it let
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    notifications.add(1, lambda: told.append(1))
    waited[0].join(10)

    assert told == [1]


def test_closing_waits_for_what_is_still_told(store: Path) -> None:
    """L14 G9"""
    waits, done = threading.Event(), list[str]()

    def slow(run: nb.JobHandle[int]) -> None:
        waits.wait(10)
        done.append(run.status)

    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("slow", numbers >> total, on_complete=slow), 3)
        run.result(10)
        threading.Timer(0.05, waits.set).start()

    assert done == ["COMPLETED"]


def test_closing_waits_no_longer_for_a_listener_than_it_is_told(store: Path) -> None:
    """L14 R31"""
    hangs, ended = threading.Event(), threading.Event()

    def hang(_: nb.JobHandle[int]) -> None:
        hangs.wait(30)
        ended.set()

    batch = nb.open(store, executor=nb.inline())
    batch.submit(nb.Job("hangs", numbers >> total, on_complete=hang), 3).result(10)
    batch.close(timeout=0.05)

    assert not ended.is_set()
    hangs.set()


def test_listeners_of_a_start_go_in_order_those_of_an_end_the_other_way_round(batch: nb.Batch) -> None:
    """L14"""
    told: list[str] = []
    job = each(lambda i: told.append(f"step {i}"))
    for name in ("first", "second"):

        def before(context: Any, name: str = name) -> None:
            told.append(f"before {name}")

        def after(context: Any, error: BaseException | None, name: str = name) -> None:
            told.append(f"after {name}")

        before.__qualname__, after.__qualname__ = f"before_{name}", f"after_{name}"
        job.on("before_attempt")(before)
        job.on("after_attempt")(after)

    batch.submit(job, 0).result(10)

    assert told == ["before first", "before second", "after second", "after first"]


def test_what_listeners_raise_is_logged_and_changes_nothing(batch: nb.Batch, caplog: pytest.LogCaptureFixture) -> None:
    """L14"""
    job = summing()

    def leaves(*_: Any) -> None:
        raise SystemExit(3)

    for moment in (
        "instance_started",
        "step_started",
        "before_attempt",
        "after_attempt",
        "step_ended",
        "instance_ended",
    ):
        job.on(moment)(leaves if "attempt" in moment else _refuse)

    @job.around
    def breaks(context: Any) -> Iterator[None]:
        yield
        raise ValueError("around")

    with caplog.at_level(logging.ERROR, "nbbatch"):
        run = batch.submit(job, 3)

        assert run.result(10) == 6
        batch.close()
    said = "\n".join(caplog.messages)
    for part in (
        "listener leaves raised in chunk 2",
        "listener breaks raised",
        "raised in step_ended double of instance 1",
    ):
        assert part in said


def test_what_raises_at_every_attempt_is_put_out_of_use(inline: nb.Batch, caplog: pytest.LogCaptureFixture) -> None:
    """L14 L15"""
    called = list[str]()

    class Unhashable:
        __name__ = "unhashable"
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, *_: Any) -> None:
            called.append("after")
            raise SystemExit(3)

    job = each(lambda i: None)
    job.on("after_attempt")(Unhashable())

    @job.on("before_attempt")
    def sometimes(context: Any) -> None:
        called.append("before")
        if context.chunk % 3:
            _refuse()

    @job.around
    def breaks(context: Any) -> Iterator[None]:
        called.append("around")
        yield
        _refuse()

    with caplog.at_level(logging.ERROR, "nbbatch"):
        assert inline.submit(job, 30).wait(10) == "COMPLETED"

    assert Counter(called) == {"before": 31, "after": 3, "around": 3}
    told = [each for each in caplog.messages if "not called any more" in each]
    assert sorted(each.split()[1] for each in told) == ["breaks", "unhashable"]

    @job.around
    def breaks(context: Any) -> Iterator[None]:  # noqa: F811 - mended, and defined anew
        called.append("anew")
        yield

    inline.submit(job, 2).wait(10)
    assert called.count("anew") == 3


def _refuse(*_: Any) -> None:
    raise ValueError("no")


def test_after_a_chunk_the_listener_knows_what_was_raised(batch: nb.Batch) -> None:
    """L14"""
    seen: list[tuple[int, int, str]] = []

    def fail(value: int) -> None:
        if value == 1:
            raise KeyError(value)

    job = each(fail, max_attempts=1)

    @job.on("after_attempt")
    def note(context: Any, error: BaseException | None) -> None:
        seen.append((context.chunk, context.attempt, type(error).__name__))

    batch.submit(job, 2).wait(10)

    assert seen == [(1, 1, "NoneType"), (2, 1, "NoneType"), (3, 1, "KeyError")]


def test_a_listener_given_again_takes_the_place_of_the_earlier_one(batch: nb.Batch) -> None:
    """L14"""
    job, told = each(lambda i: None), list[str]()
    for version in ("old", "new"):

        @job.on("after_attempt")
        def note(context: Any, error: BaseException | None, version: str = version) -> None:
            told.append(version)

    batch.submit(job, 0).result(10)

    assert told == ["new"]


def test_an_event_that_is_none_is_refused() -> None:
    """L14"""
    with pytest.raises(nb.DefinitionError, match="no event 'after_job'; there are 'instance_started'"):
        summing().on("after_job")


def test_what_is_put_around_attempts_wraps_them_and_sees_what_they_raise(batch: nb.Batch) -> None:
    """L15"""
    place, seen = contextvars.ContextVar("place", default=""), list[str]()
    job = each(lambda i: seen.append(f"step in {place.get()}") if i else _refuse(), max_attempts=1)

    @job.around
    def placed(context: Any) -> Iterator[None]:
        token = place.set(f"chunk {context.chunk}")
        try:
            yield
        except ValueError:
            seen.append("saw it")
        finally:
            place.reset(token)

    run = batch.submit(job, 2)

    assert run.wait(10) == "FAILED"
    assert seen == ["saw it", "step in chunk 3"]


@nb.step
def tell(number: int) -> int:
    print("in the step")
    return number


@nb.step
async def tell_async(number: int) -> int:
    print("in the step")
    return number


@pytest.mark.parametrize("step", [tell, tell_async], ids=["plain", "async"])
@pytest.mark.parametrize("make", [lambda: nb.threads(2), lambda: nb.processes(1)], ids=["threads", "processes"])
def test_hooks_run_wherever_the_step_runs_and_write_to_its_log(store: Path, make: Any, step: Any) -> None:
    """L15"""
    job = nb.Job("told", numbers >> step >> total)
    job.on("before_attempt")(lambda context: print("before"))
    job.on("after_attempt")(lambda context, error: print("after"))
    executor = make()
    with nb.open(store, executor=executor) as batch:
        run = batch.submit(job, 2)
        assert run.result(20) == 1
        assert run.logs(step.name)["text"].to_list() == ["before\nin the step\nafter\n"] * 2
    executor.shutdown()


def told_all(batch: nb.Batch) -> None:
    """Wait until every listener was called."""
    engine(batch).notifications.wait(10)


def test_a_listener_that_leaves_by_system_exit_keeps_no_other_from_being_told(batch: nb.Batch) -> None:
    """L14"""
    job, told = summing(), list[int]()

    @job.on("instance_started")
    def leaves(run: nb.JobHandle[int]) -> None:
        raise SystemExit(3)

    job.on("instance_ended")(lambda run: told.append(run.result()))
    batch.submit(job, 2).result(10)
    told_all(batch)

    assert told == [2]


def test_a_step_that_fails_ends_with_its_instance(batch: nb.Batch) -> None:
    """L14"""
    job, told = each(lambda i: _refuse(), max_attempts=1), list[str]()
    job.on("step_ended")(lambda run, step: told.append(step))
    job.on("instance_ended")(lambda run: told.append(str(run.status)))

    batch.submit(job, 2).wait(10)
    told_all(batch)

    assert told == ["numbers", "visit", "FAILED"]


def test_an_instance_taken_up_again_is_told_of_anew(store: Path, clock: HandClock) -> None:
    """L14"""
    told, broken = list[str](), [True]
    job = each(lambda i: _refuse() if broken else None, max_attempts=1)
    for moment in ("step_started", "step_ended"):
        job.on(moment)(lambda run, step, moment=moment: told.append(f"{moment} {step}"))
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(job, 2, key="it").wait(10)
    told.clear()
    broken.clear()

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(job, 2, key="it").retry(quiet=True).result(10)

    assert told == ["step_started visit", "step_ended visit"]


def test_a_listener_that_cannot_travel_is_left_out_and_the_step_runs(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """L14 L15"""
    lock, heard = threading.Lock(), tmp_path / "heard"
    job = nb.Job("far", numbers >> double >> total)

    @job.on("after_attempt")
    def stuck(context: Any, error: BaseException | None) -> None:
        lock.acquire(timeout=1)

    @job.around
    def timed(context: Any) -> Iterator[None]:
        yield
        with heard.open("a") as file:
            file.write(f"{context.step}\n")

    executor = nb.processes(1)
    with nb.open(store, executor=executor) as batch:
        assert batch.submit(job, 3).result(30) == 6
    executor.shutdown()

    assert sorted(heard.read_text().split()) == ["double"] * 3 + ["numbers", "total"]
    assert "stuck" in caplog.text
    assert "is left out: cannot pickle" in caplog.text


def test_an_async_listener_is_refused() -> None:
    """L14 L15"""

    async def note(run: object) -> None: ...

    with pytest.raises(nb.DefinitionError, match=r"note.* cannot be a listener; use a function"):
        summing().on("instance_ended")(note)
    with pytest.raises(nb.DefinitionError, match=r"note.* cannot be a listener"):
        summing().around(note)


@pytest.mark.parametrize("how", ["before", "no yield", "two yields", "no manager", "raised anew", "held back"])
def test_what_is_put_around_attempts_cannot_change_what_becomes_of_them(batch: nb.Batch, how: str) -> None:
    """L15"""

    def around(context: Any) -> Iterator[None]:
        if how == "before":
            raise SystemExit(3)
        if how == "no yield":
            return
        try:
            yield
        except nb.FailChunk:
            if how == "raised anew":
                raise ValueError("hook") from None
        if how == "two yields":
            yield

    def work(value: int) -> None:
        raise nb.FailChunk("the step's own")

    job = each(work)
    job.around((lambda context: 5) if how == "no manager" else around)
    run = batch.submit(job, 1)

    assert run.wait(10) == "FAILED"
    assert run.errors()["error"].to_list() == ["the step's own"]


def test_async_steps_that_run_at_once_keep_what_is_around_them_apart(threaded: nb.Batch) -> None:
    """L15"""
    place, seen = contextvars.ContextVar("place", default=0), list[bool]()

    @nb.step
    async def wait(value: int) -> None:
        await asyncio.sleep(0)
        seen.append(place.get() == nb.context().chunk)

    job = nb.Job("async", numbers >> wait)

    @job.around
    def mark(context: Any) -> Iterator[None]:
        place.set(context.chunk)
        yield

    threaded.submit(job, 20).result(10)

    assert seen == [True] * 20


def test_waiting_for_a_sub_job_is_no_attempt_that_listeners_are_told_of(batch: nb.Batch) -> None:
    """L14"""
    inner, told = summing("inner"), list[str]()
    outer = nb.Job("outer", numbers >> inner.as_step("ask") >> total)
    for job in (inner, outer):
        job.on("before_attempt")(lambda context: told.append(context.step))

    batch.submit(outer, 2).result(10)

    assert told.count("ask") == 0
    assert told.count("double") == 1


def test_a_job_with_injected_faults_has_listeners_of_its_own() -> None:
    """L14"""
    job = summing()
    job.on("step_ended")(_refuse)
    faulty = testing.inject(job, testing.Fault("double", OSError()))
    faulty.on("step_started")(_refuse)

    assert faulty.listeners.of("step_ended") == (_refuse,)
    assert job.listeners.of("step_started") == ()


def test_a_batch_that_is_closing_is_not_given_out_again(store: Path) -> None:
    """L14 R3"""
    going, go, usable = threading.Event(), threading.Event(), list[bool]()
    batch = nb.open(store, executor=nb.inline())

    def slow(run: nb.JobHandle[int]) -> None:
        going.set()
        go.wait(10)
        usable.append(batch.usable)
        assert run.chunks().height == 1

    @nb.step
    def nothing(n: int) -> None: ...

    batch.submit(nb.Job("slow", nothing, on_complete=slow), 1).result(10)
    assert going.wait(10)
    closing = threading.Thread(target=batch.close)
    closing.start()
    while batch.usable:
        closing.join(0.001)
    go.set()
    closing.join(10)

    assert usable == [False]


def test_the_error_handler_runs_once_for_a_cancelled_instance(batch: nb.Batch, clock: HandClock) -> None:
    """G9"""
    told: list[str] = []

    def later(value: int) -> None:
        raise nb.RetryLater(60)

    plain = each(later)
    job = nb.Job("later", plain.nodes[0].step >> plain.nodes[1].step, on_error=note_in(told))
    run = batch.submit(job, 1)
    settle(batch)

    assert run.cancel()
    assert not run.cancel()
    told_all(batch)
    assert told == ["CANCELLED"]


def note_in(told: list[str]) -> Any:
    def note(run: nb.JobHandle[Any]) -> None:
        told.append(str(run.status))
        raise SystemExit(3)

    return note


def test_after_a_restart_the_handler_runs_at_the_end_and_not_again(store: Path) -> None:
    """G9"""
    told, clock, ready = list[str](), HandClock(), list[int]()

    def later(value: int) -> None:
        if not ready:
            raise nb.RetryLater(60)

    plain = each(later)
    job = nb.Job("later", plain.nodes[0].step >> plain.nodes[1].step, on_complete=note_in(told), on_error=note_in(told))
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(job, 1, key="it")
        settle(batch)
    assert told == []
    ready.append(1)
    clock.advance(61)
    for _ in range(2):
        with nb.open(store, executor=nb.inline(), clock=clock) as batch:
            batch.submit(job, 1, key="it").result(10)

    assert told == ["COMPLETED"]


def test_listeners_are_no_part_of_the_shape_or_the_code(batch: nb.Batch) -> None:
    """L14"""
    plain, heard = summing(), summing()
    heard.on("after_attempt")(lambda context, error: None)

    assert plain.shape == heard.shape
    assert [node.code for node in plain.current()] == [node.code for node in heard.current()]


def test_before_anything_is_stored_user_data_may_be_filled_or_the_submit_refused(batch: nb.Batch) -> None:
    """S12"""

    def stamp(count: int, user_data: dict[str, Any]) -> None:
        if count > 5:
            raise PermissionError("too many")
        user_data["asked"] = count

    job = nb.Job("stamped", numbers >> total, before_store=stamp)

    assert batch.submit(job, 3, user_data={"by": "me"}).user_data == {"by": "me", "asked": 3}
    with pytest.raises(nb.ParameterError, match="before_store refuses: PermissionError: too many"):
        batch.submit(job, 6)
    assert batch.instances().height == 1


def test_an_instance_is_started_no_more_often_than_its_limit(batch: nb.Batch) -> None:
    """L16"""
    job = each(lambda i: _refuse(), max_attempts=1)
    limited = nb.Job("limited", numbers >> job.nodes[1].step, start_limit=2)
    run = batch.submit(limited, 1)
    run.wait(10)
    run.retry(quiet=True).wait(10)

    with pytest.raises(nb.StateError, match=r"started 2 times, and job 'limited' has start_limit=2"):
        run.retry(quiet=True)
    with pytest.raises(nb.StateError, match=r"start_limit=2"):
        run.rerun(step="numbers")
    assert run.status == "FAILED"
    with pytest.raises(nb.DefinitionError, match="start_limit= must be a whole number, 1 or more"):
        nb.Job("none", numbers >> total, start_limit=0)


def test_a_retry_does_steps_that_are_always_done_again_with_all_that_comes_of_them(batch: nb.Batch) -> None:
    """L17"""
    looked, doubled, broken = list[int](), list[int](), [True]

    @nb.step(always=True)
    def look(number: int) -> int:
        looked.append(number)
        return number

    @nb.step(max_attempts=1)
    def fix(number: int) -> int:
        doubled.append(number)
        if number == 2 and broken:
            raise ValueError(number)
        return 2 * number

    run = batch.submit(nb.Job("always", numbers >> look >> fix >> total), 3)
    assert run.wait(10) == "FAILED"
    broken.clear()
    run.retry(quiet=True)

    assert run.result(10) == 6
    assert looked == [0, 1, 2, 0, 1, 2]
    assert sorted(doubled) == [0, 0, 1, 1, 2, 2]
    assert run.steps()["completed"].to_list() == [1, 3, 3, 1]
    assert run.attempts("numbers").height == 1


def test_what_a_retry_does_always_may_be_all_there_is_to_do(batch: nb.Batch) -> None:
    """L17"""
    first = [True]

    @nb.step(always=True, max_attempts=1)
    def look(number: int) -> int:
        if first and number:
            raise ValueError(number)
        return number

    run = batch.submit(nb.Job("always", numbers >> look >> double >> total), 2)
    run.wait(10)
    first.clear()

    assert run.retry(quiet=True).result(10) == 2
    assert run.attempts("look").height == 4


def test_chunks_that_gave_nothing_on_are_counted_as_filtered(store: Path, clock: HandClock) -> None:
    """L18"""

    @nb.step(max_attempts=1)
    def odd(number: int) -> Iterator[int]:
        if number == 5:
            raise nb.SkipChunk("five")
        if number == 7:
            raise ValueError("seven")
        if number % 2:
            yield number

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(nb.Job("odd", numbers >> odd >> total, max_failed=1), 10)
        run.wait(10)
        row = run.steps().row(1, named=True)

        assert {name: row[name] for name in ("completed", "filtered", "skipped", "failed")} == {
            "completed": 8, "filtered": 5, "skipped": 1, "failed": 1,
        }  # fmt: skip
        assert run.steps()["filtered"].to_list() == [0, 5, 0]
        assert run.steps(as_of=clock.now() and "0 sec ago")["filtered"].to_list() == [0, 5, 0]


def test_what_before_store_fills_belongs_to_the_instance_it_was_filled_for(batch: nb.Batch) -> None:
    """S12"""
    calls: list[int] = []

    def stamp(n: int, user_data: dict[str, Any]) -> None:
        calls.append(n)
        user_data["call"] = len(calls)

    job = nb.Job("stamped", numbers >> total, before_store=stamp)
    batch.submit(job, 2, user_data={"ticket": 7}, key="it").result(10)

    assert batch.submit(job, 2, key="it").user_data == {"ticket": 7, "call": 1}
    assert batch.submit(job, 2, user_data={"ticket": 8}, key="it").user_data == {"ticket": 8, "call": 3}


def test_sub_jobs_pass_before_store_too(batch: nb.Batch) -> None:
    """S12"""

    def stamp(n: int, user_data: dict[str, Any]) -> None:
        if n == 2:
            raise PermissionError("not two")
        user_data["n"] = n

    inner = nb.Job("inner", numbers >> total, before_store=stamp)
    outer = nb.Job("outer", numbers >> inner.as_step() >> total, max_failed=1)
    run = batch.submit(outer, 3)

    assert run.result(10) == 0
    assert "before_store refuses: PermissionError: not two" in run.errors()["error"][0]
    assert sorted(batch.instance(each).user_data["n"] for each in batch.instances(job="inner")["id"]) == [0, 1]


def test_skipping_what_failed_is_no_start(batch: nb.Batch) -> None:
    """L16 L10"""
    first = each(lambda i: _refuse() if i else None, max_attempts=1)
    run = batch.submit(nb.Job("once", first.nodes[0].step >> first.nodes[1].step, start_limit=1), 2)
    run.wait(10)

    run.failures()[0].skip("known to be bad")

    assert run.status == "COMPLETED"


@nb.step(always=True)
def look(number: int) -> int:
    return number


def test_a_plan_counts_what_is_always_done_again(batch: nb.Batch) -> None:
    """L17"""

    @nb.step(max_attempts=1)
    def fix(number: int) -> None:
        if number:
            raise ValueError(number)

    run = batch.submit(nb.Job("planned", numbers >> look >> fix), 3)
    run.wait(10)
    lines = {line.step: (line.retried, line.kept) for line in run.plan().lines}

    assert lines == {"numbers": (0, 1), "look": (3, 0), "fix": (3, 0)}


def test_a_sub_job_that_is_retried_does_what_it_always_does(batch: nb.Batch) -> None:
    """L17"""
    broken = [True]

    @nb.step(max_attempts=1)
    def fix(number: int) -> int:
        if broken:
            raise ValueError(number)
        return number

    inner = nb.Job("inner", numbers >> look >> fix >> total)
    run = batch.submit(nb.Job("outer", numbers >> double >> inner.as_step() >> total), 2)
    run.wait(10)
    broken.clear()

    assert run.retry(quiet=True).result(10) == 1
    assert sorted(batch.instance(each).attempts("look").height for each in batch.instances(job="inner")["id"]) == [0, 4]


@pytest.mark.parametrize("retain", ["failed", "none"])
def test_what_lost_its_data_is_not_done_again(batch: nb.Batch, retain: str) -> None:
    """L17 L11"""

    @nb.step(max_attempts=1)
    def fix(number: int) -> None:
        if number:
            raise ValueError(number)

    run = batch.submit(nb.Job("dropped", numbers >> look >> fix), 3, retain=retain)
    run.wait(10)
    before = run.chunks()

    with pytest.raises(nb.StateError, match=f"retain='{retain}'"):
        run.retry(quiet=True)
    with pytest.raises(nb.StateError, match=rf"retain='{retain}'.*submit it anew"):
        run.rerun(step="look")
    assert run.status == "FAILED"
    assert run.chunks().equals(before)


def test_a_report_is_not_made_anew_from_what_is_left_of_dropped_data(batch: nb.Batch) -> None:
    """L11"""
    run = batch.submit(summing(), 3, retain="failed")
    run.result(10)

    with pytest.raises(nb.StateError, match=r"retain='failed'.* are gone"):
        run.rerun(step="double", where=pl.col("chunk") > 2)
    assert run.result(10) == 6
    assert run.rerun(step="numbers").result(10) == 6

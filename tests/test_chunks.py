"""Chunks and attempts: what is stored of each, and what errors, signals and retries do."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import BaseModel

import nbbatch as nb
from tests.jobs import double, drop, each, numbers, one_step, summing, total
from tests.kit import HandClock, count, settle, statuses


class Thing(BaseModel):
    name: str
    size: int = 0


def test_each_step_runs_once_per_chunk(batch: nb.Batch) -> None:
    """C1"""
    seen: list[int] = []
    run = batch.submit(each(seen.append), 3)

    assert run.result(10) is None
    assert sorted(seen) == [0, 1, 2]
    assert run.steps()["chunks"].to_list() == [1, 3]


def test_an_empty_fan_out_completes_at_once(batch: nb.Batch) -> None:
    """C2"""
    run = batch.submit(each(lambda i: None), 0)

    run.wait(10)
    assert run.status == "COMPLETED"
    assert run.progress == 1.0


def test_a_reduction_over_nothing_still_runs(batch: nb.Batch) -> None:
    """C2"""
    assert batch.submit(summing(), 0).result(10) == 0


def test_a_retried_generator_leaves_no_earlier_outputs(batch: nb.Batch, clock: HandClock) -> None:
    """C3"""
    attempts: list[int] = []

    @nb.step
    def flaky(n: int) -> Iterator[int]:
        attempts.append(n)
        yield 100 * len(attempts)
        yield 100 * len(attempts) + 1
        if len(attempts) == 1:
            raise OSError("the line dropped")

    run = batch.submit(nb.Job("flaky", flaky >> drop), 1)
    settle(batch)
    clock.advance(10)
    run.wait(10)

    assert run.inputs("drop") == [200, 201]


def test_outputs_staged_in_pages_vanish_with_a_failed_attempt(
    batch: nb.Batch, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3"""
    monkeypatch.setattr("nbbatch.worker.attempt.PAGE_OUTPUTS", 10)
    attempts: list[int] = []

    @nb.step
    def flaky(n: int) -> Iterator[int]:
        attempts.append(n)
        yield from range(35)
        if len(attempts) == 1:
            raise OSError("the line dropped")

    run = batch.submit(nb.Job("flaky", flaky >> double >> total), 1)
    settle(batch)
    assert batch.sql("SELECT count(*) FROM staged").item() == 0
    assert statuses(run, "double") == []

    clock.advance(10)
    assert run.result(10) == 2 * sum(range(35))
    assert sorted(run.inputs("double")) == list(range(35))


def test_a_reduction_reads_what_was_staged_in_pages(batch: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3"""
    monkeypatch.setattr("nbbatch.worker.attempt.PAGE_OUTPUTS", 7)

    assert batch.submit(nb.Job("paged", numbers >> total), 30).result(10) == sum(range(30))


def test_outputs_of_a_parent_are_numbered_from_zero(batch: nb.Batch) -> None:
    """C4"""
    run = batch.submit(summing(), 4)
    run.wait(10)
    chunks = run.chunks("double")

    assert chunks["seq"].to_list() == [0, 1, 2, 3]
    assert chunks["id"].is_unique().all()
    assert chunks["parent"].to_list() == [run.chunks("numbers")["id"].item()] * 4


def test_what_a_generator_would_swallow_is_stored_as_it_was_raised(batch: nb.Batch) -> None:
    """C5"""

    @nb.step(fail_on=StopIteration)
    def first(n: int) -> Iterator[int]:
        return next(iter(()))

    run = batch.submit(nb.Job("stops", first >> drop), 1)
    settle(batch)

    assert run.errors()["error_type"].to_list() == ["StopIteration"]


def test_an_error_is_stored_with_type_message_and_traceback(batch: nb.Batch) -> None:
    """C5"""

    def explode(value: int) -> None:
        raise OSError(f"no room for {value}")

    run = batch.submit(one_step(explode), 7)
    settle(batch)
    error = run.errors().row(0, named=True)

    assert statuses(run) == ["ERRORED"]
    assert (error["error_type"], error["error"]) == ("OSError", "no room for 7")
    assert re.match(r'Traceback .*\n  File ".*jobs\.py", ', error["traceback"])  # from the user's own code on
    assert "in explode" in error["traceback"]
    assert run.attempts()["ended"].null_count() == 0
    assert run.inputs() == [7]


@pytest.mark.parametrize("options", [{}, {"timeout": 60}, {"max_attempts": 3}])
def test_a_traceback_begins_with_the_users_own_frame(inline: nb.Batch, options: dict[str, Any]) -> None:
    """C5"""

    @nb.step(**options)
    def numbers(count: int) -> Iterator[int]:
        yield from range(count)

    @nb.step(**options)
    def explode(value: int) -> int:
        raise OSError(f"no room for {value}")

    @nb.step
    def keep(value: int) -> None: ...

    run = inline.submit(nb.Job("told", numbers >> explode >> keep), 1)
    settle(inline)

    first = run.errors()["traceback"][0].splitlines()[1]
    assert first.startswith(f'  File "{__file__}"'), first


def test_the_next_attempt_keeps_the_row_of_the_last_one(batch: nb.Batch, clock: HandClock) -> None:
    """C5"""
    outcomes = iter([OSError("first"), None])

    def flaky(value: int) -> None:
        if error := next(outcomes):
            raise error

    run = batch.submit(one_step(flaky), 1)
    settle(batch)
    clock.advance(10)
    run.wait(10)

    assert run.attempts().select("attempt", "status").rows() == [(1, "ERRORED"), (2, "COMPLETED")]


def _always(value: int) -> None:
    raise OSError("always")


def test_three_errors_leave_a_chunk_errored_and_the_fourth_fails_it(batch: nb.Batch, clock: HandClock) -> None:
    """C6"""
    run = batch.submit(one_step(_always), 1)
    for _ in range(3):
        settle(batch)
        before = run.chunks().row(0, named=True)
        clock.advance(60)
    settle(batch)
    after = run.chunks().row(0, named=True)

    assert (before["status"], before["errors"]) == ("ERRORED", 3)
    assert (after["status"], after["errors"]) == ("FAILED", 4)
    assert "error 4 of at most 4" in after["error"]
    assert run.status == "FAILED"


def test_one_attempt_at_most_never_retries(batch: nb.Batch) -> None:
    """C6"""
    run = batch.submit(one_step(_always, max_attempts=1), 1)

    assert isinstance(run.exception(10), nb.JobFailed)
    assert run.attempts().height == 1


def test_a_retry_waits_for_its_backoff_without_a_worker(batch: nb.Batch, clock: HandClock) -> None:
    """C7"""
    run = batch.submit(one_step(_always, backoff=nb.Backoff(base=10, jitter=0)), 1)
    settle(batch)
    due = run.chunks().row(0, named=True)["due"]
    first = run.attempts().row(0, named=True)["ended"]

    assert (due - first).total_seconds() == 10
    clock.advance(9.9)
    settle(batch)
    assert run.attempts().height == 1
    clock.advance(0.2)
    settle(batch)
    assert run.attempts().height == 2


@pytest.mark.parametrize("error", [TypeError, NameError, AttributeError, ImportError, AssertionError])
def test_an_error_that_a_retry_cannot_mend_fails_at_once(batch: nb.Batch, error: type[Exception]) -> None:
    """C8"""

    def wrong(value: int) -> None:
        raise error("a mistake in the cell")

    run = batch.submit(one_step(wrong), 1)

    assert isinstance(run.exception(10), nb.JobFailed)
    assert run.attempts().height == 1


def test_fail_chunk_fails_at_once_with_its_reason(batch: nb.Batch) -> None:
    """C9"""

    def refuse(value: int) -> None:
        raise nb.FailChunk("not ours")

    run = batch.submit(one_step(refuse), 1)
    run.wait(10)

    assert run.errors()["error"].to_list() == ["not ours"]
    assert run.attempts().height == 1


def test_fail_job_starts_nothing_new(batch: nb.Batch) -> None:
    """C9"""

    def stop_at_zero(value: int) -> None:
        if value == 0:
            raise nb.FailJob("the source is empty")

    run = batch.submit(each(stop_at_zero), 50)
    error = run.exception(10)

    assert error is not None
    assert "the source is empty" in str(error)
    assert count(run)["FAILED"] == 1
    assert count(run)["QUEUED"] > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_raised_in_a_step_fails_the_chunk_and_not_the_engine(
    batch: nb.Batch, error: type[BaseException]
) -> None:
    """C9"""

    def leave(value: int) -> None:
        raise error

    run = batch.submit(one_step(leave), 1)

    assert run.wait(10) == "FAILED"
    assert batch.submit(summing(), 3).result(10) == 6


def test_out_of_memory_is_retried(batch: nb.Batch, clock: HandClock) -> None:
    """C9"""
    outcomes = iter([MemoryError(), None])

    def heavy(value: int) -> None:
        if error := next(outcomes):
            raise error

    run = batch.submit(one_step(heavy), 1)
    settle(batch)
    clock.advance(10)

    assert run.wait(10) == "COMPLETED"


def test_retry_later_counts_polls_and_no_errors(batch: nb.Batch, clock: HandClock) -> None:
    """C10"""
    polls: list[int] = []

    def poll(value: int) -> None:
        polls.append(value)
        if len(polls) < 9:
            raise nb.RetryLater(60)

    run = batch.submit(one_step(poll), 1)
    for _ in range(8):
        settle(batch)
        assert statuses(run) == ["POLL_WAITING"]
        clock.advance(60)
    run.wait(10)
    chunk = run.chunks().row(0, named=True)

    assert (chunk["status"], chunk["polls"], chunk["errors"]) == ("COMPLETED", 8, 0)


def _busy(seconds: float = 60) -> Callable[[int], None]:
    def poll(n: int) -> None:
        raise nb.RetryLater(seconds, "503 not ready")

    return poll


def test_the_reason_of_a_poll_is_no_error(batch: nb.Batch, clock: HandClock) -> None:
    """C10"""
    calls: list[int] = []

    def poll(n: int) -> None:
        calls.append(n)
        if len(calls) < 4:
            raise nb.RetryLater(60, "503 not ready")
        if len(calls) == 4:
            raise OSError("reset")

    run = batch.submit(one_step(poll, backoff=1), 1)
    for _ in range(4):
        settle(batch)
        clock.advance(60)
    run.wait(10)

    assert run.attempts()["status"].to_list() == ["POLL_WAITING"] * 3 + ["ERRORED", "COMPLETED"]
    assert run.attempts()["error"].to_list() == ["503 not ready"] * 3 + ["reset", None]
    assert run.errors()["error"].to_list() == ["reset"]
    assert run.chunks()["errors"].to_list() == [1]


def test_polling_has_a_limit_at_which_it_is_tried_once_more(batch: nb.Batch, clock: HandClock) -> None:
    """C10"""
    run = batch.submit(one_step(_busy(), max_wait="2.5 min"), 1)
    for seconds, polls in ((60, 2), (60, 3), (29, 3)):
        settle(batch)
        clock.advance(seconds)
        settle(batch)
        assert run.chunks()["polls"].to_list() == [polls]
    assert not run.done()
    clock.advance(1)

    assert run.wait(10) == "FAILED"
    assert run.chunks().select("polls", "errors", "error_type", "error").row(0) == (
        4, 1, "TimeoutError", "503 not ready (polled 4 times; max_wait= of 150 s is over)",
    )  # fmt: skip
    run.retry(quiet=True)
    settle(batch)
    assert run.chunks()["status"].to_list() == ["POLL_WAITING"]  # with a fresh budget
    clock.advance(149)
    settle(batch)
    assert not run.done()
    clock.advance(1)
    assert run.wait(10) == "FAILED"


def test_an_error_between_polls_and_a_restart_do_not_begin_the_waiting_anew(store: Path, clock: HandClock) -> None:
    """C10"""
    calls: list[int] = []

    def poll(n: int) -> None:
        calls.append(n)
        if len(calls) == 2:
            raise OSError("reset")
        raise nb.RetryLater(50)

    job = one_step(poll, max_wait=100, backoff=nb.Backoff(10, jitter=0))
    with nb.open(store, nb.inline(), clock=clock) as batch:
        batch.submit(job, 1)
        settle(batch)
        clock.advance(50)  # the error
        settle(batch)
    with nb.open(store, nb.inline(), clock=clock) as batch:
        run = batch.submit(job, 1)
        clock.advance(10)
        settle(batch)
        assert run.chunks()["status"].to_list() == ["POLL_WAITING"]
        clock.advance(39)
        settle(batch)
        assert not run.done()
        clock.advance(1)

        assert run.wait(10) == "FAILED"
    assert len(calls) == 4


def test_polls_that_end_in_time_count_for_nothing_later(batch: nb.Batch, clock: HandClock) -> None:
    """C10"""
    first = set(range(3))

    @nb.step(max_wait=100)
    def poll(i: int) -> int:
        if i in first:
            first.discard(i)
            raise nb.RetryLater(99)
        return i

    run = batch.submit(nb.Job("polls", numbers >> poll >> total), 3)
    settle(batch)
    clock.advance(99)

    assert run.result(10) == 3
    run.rerun(step="poll")
    first.update(range(3))
    settle(batch)
    clock.advance(99)
    assert run.result(10) == 3


def test_recovered_errors_count_and_do_not_fail(batch: nb.Batch) -> None:
    """C11"""

    def survive(value: int) -> None:
        nb.context().recovered(ValueError("line 3 is broken"))

    run = batch.submit(one_step(survive), 1)

    assert run.wait(10) == "COMPLETED"
    assert run.attempts()["recovered"].to_list() == [1]
    assert run.logs().select("kind", "text").rows() == [("recovered", "ValueError: line 3 is broken")]


def test_the_newest_distinct_warnings_show_on_the_instance(batch: nb.Batch) -> None:
    """C11"""

    def warn(value: int) -> None:
        nb.context().warn(f"{value % 50:04} " + "x" * 95)

    run = batch.submit(each(warn), 100)
    run.wait(10)

    assert len(run.warnings) == 40
    assert len("".join(run.warnings)) == 4_000
    assert run.warnings[0].startswith("0049")


def test_a_value_of_another_type_fails_and_names_the_field(batch: nb.Batch) -> None:
    """C12"""

    @nb.step
    def make(n: int) -> Thing:
        return {"name": "a", "size": "large"}  # type: ignore[return-value]

    @nb.step
    def take(thing: Thing) -> None: ...

    run = batch.submit(nb.Job("typed", make >> take), 1)
    run.wait(10)
    error = run.errors().row(0, named=True)

    assert statuses(run, "make") == ["FAILED"]
    assert "size" in error["error"]
    assert "large" in error["error"]


def test_a_step_that_returns_a_value_it_did_not_declare_fails(batch: nb.Batch) -> None:
    """C12"""

    @nb.step
    def silent(n: int) -> None:
        return 5  # type: ignore[return-value]

    run = batch.submit(nb.Job("silent", silent), 1)
    run.wait(10)

    assert "declared -> None but returned int" in run.errors()["error"].item()


@pytest.mark.parametrize("bad", ["\ud800", "a\udfffb"])
def test_a_value_without_stored_form_fails_and_the_store_stays_sound(batch: nb.Batch, bad: str) -> None:
    """C13"""

    @nb.step
    def make(n: int) -> Thing:
        return Thing.model_construct(name=bad)

    @nb.step
    def take(thing: Thing) -> None: ...

    run = batch.submit(nb.Job("surrogate", make >> take), 1)
    run.wait(10)

    assert statuses(run, "make") == ["FAILED"]
    assert "name" in run.errors()["error"].item()
    assert batch.submit(summing(), 3).result(10) == 6


def test_a_retried_attempt_gets_a_fresh_input(batch: nb.Batch, clock: HandClock) -> None:
    """C14"""
    seen: list[list[int]] = []

    @nb.step
    def make(n: int) -> list[int]:
        return [n]

    @nb.step
    def spoil(values: list[int]) -> None:
        seen.append(list(values))
        values.append(99)
        if len(seen) == 1:
            raise OSError

    run = batch.submit(nb.Job("fresh", make >> spoil), 1)
    settle(batch)
    clock.advance(10)
    run.wait(10)

    assert seen == [[1], [1]]


def test_what_a_step_prints_goes_to_its_attempt(batch: nb.Batch, capsys: pytest.CaptureFixture[str]) -> None:
    """C15"""
    run = batch.submit(each(lambda i: print("item", i)), 2)
    run.wait(10)

    assert run.logs()["text"].to_list() == ["item 0\n", "item 1\n"]
    assert "item" not in capsys.readouterr().out


def test_what_a_step_logs_goes_to_its_attempt_and_to_handlers(
    batch: nb.Batch, caplog: pytest.LogCaptureFixture
) -> None:
    """C15"""

    def speak(value: int) -> None:
        logging.getLogger("mine").warning("careful with %s", value)
        nb.context().log.info("all is well")

    run = batch.submit(one_step(speak), 5)
    run.wait(10)

    log = run.chunk(run.chunks()["id"].item()).log
    assert log == "WARNING mine: careful with 5\nINFO nbbatch.step.only: all is well\n"
    assert [record.getMessage() for record in caplog.records if record.name == "mine"] == ["careful with 5"]


def test_context_outside_a_step_says_so() -> None:
    """C16"""
    with pytest.raises(nb.NoContextError, match="only there while a step runs"):
        nb.context()


def test_context_tells_the_right_ids_in_threads(threaded: nb.Batch) -> None:
    """C16"""

    @nb.step
    def who(i: int) -> tuple[int, int, int]:
        here = nb.context()
        return here.instance, here.chunk, here.attempt

    @nb.step
    def collect(ids: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        return list(ids)

    run = threaded.submit(nb.Job("who", numbers >> who >> collect), 50)

    expected = [(run.id, chunk, 1) for chunk in range(2, 52)]
    assert sorted(run.result(10)) == expected


def test_of_an_async_step_never_more_run_at_once_than_it_allows_and_no_fewer(batch: nb.Batch) -> None:
    """C19"""
    running, most = 0, 0
    full = asyncio.Event()

    @nb.step(concurrency=3)
    async def crowd(i: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1

    batch.submit(nb.Job("crowd", numbers >> crowd), 30).result(10)

    assert most == 3


def test_context_tells_the_right_ids_in_async_steps(threaded: nb.Batch) -> None:
    """C16"""

    @nb.step
    async def who(i: int) -> tuple[int, int]:
        return nb.context().chunk, i

    @nb.step
    def collect(ids: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        return list(ids)

    run = threaded.submit(nb.Job("who", numbers >> who >> collect), 20)

    assert run.result(10) == [(chunk, chunk - 2) for chunk in range(2, 22)]


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "make",
    [
        lambda: OSError("x" * 1_000_000),
        lambda: OSError("null \0 and \ud800 and ✓"),
        _Mute,
        lambda: ExceptionGroup("many", [OSError("a")]),
    ],
    ids=["long", "exotic", "mute", "group"],
)
def test_any_error_is_stored_readably(batch: nb.Batch, make: Callable[[], Exception]) -> None:
    """C17"""

    def fail(value: int) -> None:
        raise make()

    run = batch.submit(one_step(fail, max_attempts=1), 1)

    assert run.wait(10) == "FAILED"
    stored = run.errors().row(0, named=True)
    assert stored["error"]
    assert len(stored["error"]) < 250_000
    assert "Traceback" in stored["traceback"]


def test_a_frame_comes_back_equal(batch: nb.Batch) -> None:
    """C18"""
    frame = pl.DataFrame(
        {"a": [1, None, 3], "b": ["x", None, "z"], "c": [[1], [], None]},
        schema={"a": pl.Int16, "b": pl.Categorical, "c": pl.List(pl.Int8)},
    )

    @nb.step
    def make(n: int) -> pl.DataFrame:
        return frame.head(n)

    @nb.step
    def gather(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(frames)

    job = nb.Job("frames", make >> gather)

    assert_frame_equal(batch.submit(job, 3).result(10), frame)
    assert_frame_equal(batch.submit(job, 0).result(10), frame.head(0))


def test_an_async_generator_fans_out(threaded: nb.Batch) -> None:
    """C1"""

    @nb.step
    async def letters(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    assert threaded.submit(nb.Job("letters", letters >> double >> total), 5).result(10) == 20


from collections.abc import AsyncIterator  # noqa: E402 - named in a string above, as cells often do

"""What steps warn of, and what is said of attempts that took too long and of values that are gone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.store.frames import fitted
from tests.jobs import double, each, numbers, one_step, total
from tests.kit import HandClock


def careful(value: int) -> None:
    for _ in range(3):
        warnings.warn(f"value {value % 2} is odd", stacklevel=1)


@pytest.fixture
def plainly() -> Iterator[None]:
    """Warnings are shown, as outside of tests, not raised; here to nobody, so that the report of the tests has none that is meant."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("default")
        yield


@pytest.mark.usefixtures("plainly")
def test_what_a_step_warns_of_shows_on_the_run_once_for_each_attempt(batch: nb.Batch) -> None:
    """C11"""
    run = batch.submit(each(careful), 4)
    run.wait(10)
    again = batch.submit(each(careful), 2)
    again.wait(10)

    assert sorted(run.warnings) == ["UserWarning: value 0 is odd", "UserWarning: value 1 is odd"]
    assert run.attempts("visit")["warnings"].to_list() == [1, 1, 1, 1]
    assert len(again.warnings) == 2


@pytest.mark.usefixtures("plainly")
def test_what_was_shown_outside_of_steps_is_heard_in_them(batch: nb.Batch) -> None:
    careful(0)
    run = batch.submit(each(careful), 1)
    run.wait(10)

    assert run.warnings == ["UserWarning: value 0 is odd"]


@pytest.mark.usefixtures("plainly")
def test_async_steps_and_worker_processes_are_heard_too(store: Path) -> None:
    @nb.step
    async def look(value: int) -> int:
        careful(value)
        return value

    @nb.step
    def look_again(value: int) -> None:
        import warnings

        warnings.warn("in a process", stacklevel=1)

    with nb.open(store, executor=nb.processes(1)) as opened:
        run = opened.submit(nb.Job("both", numbers >> look >> look_again), 2)
        run.wait(30)

        assert len(run.warnings) == 3
        assert "UserWarning: in a process" in run.warnings


@pytest.mark.usefixtures("plainly")
def test_what_a_step_records_by_itself_is_its_own(batch: nb.Batch) -> None:
    kept: list[int] = []

    def record(value: int) -> None:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            careful(value)
        kept.append(len(found))

    run = batch.submit(one_step(record), 1)
    run.wait(10)

    assert kept == [3]
    assert run.warnings == []


def test_warnings_are_shown_as_before_once_the_batch_is_closed(store: Path) -> None:
    before = warnings.showwarning
    with nb.open(store) as opened:
        opened.submit(each(lambda i: None), 1).wait(10)
        assert warnings.showwarning is not before

    assert warnings.showwarning is before


def test_long_warnings_are_cut_and_kept_whole_in_the_log(batch: nb.Batch) -> None:
    """C11"""

    def warn(value: int) -> None:
        nb.context().warn(f"row {value}: " + "x" * 5_000)
        nb.context().warn("short")

    run = batch.submit(each(warn), 2)
    run.wait(10)

    assert sorted(text[:7] for text in run.warnings) == ["row 0: ", "row 1: ", "short"]
    assert 3_900 < sum(map(len, run.warnings)) <= 4_000
    assert any("more characters" in text for text in run.warnings)
    assert max(run.logs()["text"].str.len_chars()) == 5_007


@pytest.mark.parametrize("sizes", [[], [1], [5_000], [5_000] * 2, [10, 5_000], [5_000, 10], [200] * 30, [3_999, 1, 1]])
def test_texts_fill_the_room_and_no_more(sizes: list[int]) -> None:
    cut = fitted(["x" * size for size in sizes], 4_000)

    assert len(cut) == len(sizes)
    assert sum(map(len, cut)) <= 4_000
    assert all(len(text) == size for text, size in zip(cut, sizes, strict=True) if size <= 4_000 // len(sizes))


def test_an_attempt_keeps_a_thousand_warnings_and_counts_the_others(batch: nb.Batch) -> None:
    def warn(value: int) -> None:
        for line in range(value):
            nb.context().warn(f"line {line}")

    run = batch.submit(one_step(warn), 1_003)
    run.wait(10)
    texts = run.logs()["text"].to_list()

    assert len(texts) == 1_001
    assert texts[-1] == "… 3 more warnings of this attempt were left out"


def test_secrets_are_hidden_in_what_is_warned_of(batch: nb.Batch) -> None:
    from pydantic import BaseModel, SecretStr

    class Login(BaseModel):
        word: SecretStr

    @nb.step
    def enter(login: Login) -> None:
        nb.context().warn("x" * 300_000 + login.word.get_secret_value())

    run = batch.submit(nb.Job("enter", enter), Login(word=SecretStr("hunter2-hunter2")))
    run.wait(10)

    assert run.status == "COMPLETED"
    assert "hunter" not in "".join(run.logs()["text"])


# --- attempts that were cut short -----------------------------------------------------------------


@pytest.mark.parametrize("returns", [True, False])
def test_an_attempt_past_its_time_has_the_time_it_took(store: Path, clock: HandClock, returns: bool) -> None:
    from threading import Event

    began, release = Event(), Event()

    def slow(value: int) -> None:
        began.set()
        if returns:
            clock.advance(7)
        else:
            release.wait(20)

    with nb.open(store, clock=clock) as batch:
        run = batch.submit(one_step(slow, timeout=5, max_attempts=1), 1)
        assert began.wait(10)
        if not returns:
            clock.advance(7)
        run.wait(10)
        release.set()
        for row in (run.attempts().row(0, named=True), run.chunks().row(0, named=True)):
            assert row["error_type"] == "TimeoutError"
            assert row["seconds"] == 7
            assert (row["ended"] - row["started"]).total_seconds() == 7


def test_an_attempt_that_its_worker_took_down_has_the_time_it_took(store: Path) -> None:
    @nb.step(max_attempts=1)
    def die(value: int) -> None:
        import os
        import time

        began = time.monotonic()
        while time.monotonic() < began + 0.3:
            pass
        os._exit(1)

    with nb.open(store, executor=nb.processes(1)) as batch:
        run = batch.submit(nb.Job("die", die), 1)
        run.wait(30)

        assert run.attempts()["seconds"][0] >= 0.3


# --- values that are gone ---------------------------------------------------------------------------


def kept_by(batch: nb.Batch, retain: str) -> nb.JobHandle[int]:
    run = batch.submit(nb.Job("keep", numbers >> double >> total), 3, retain=retain, new=True)
    assert run.result(10) == 6
    return run


@pytest.mark.parametrize("retain", ["none", "failed"])
@pytest.mark.parametrize("step", ["double", "total"])
def test_a_chunk_whose_input_is_gone_is_not_replayed(batch: nb.Batch, retain: str, step: str) -> None:
    """L11"""
    run = kept_by(batch, retain)
    chunk = run.chunk(run.chunks(step)["id"][0])

    with pytest.raises(nb.StateError, match=rf"chunk {chunk.id}, step '{step}', was dropped .* retain='{retain}'"):
        chunk.replay()
    assert not chunk.input
    assert run.chunk(run.chunks("numbers")["id"][0]).replay().error is None


@pytest.mark.parametrize("retain", ["none", "failed"])
def test_outputs_that_are_gone_are_neither_given_nor_compared(batch: nb.Batch, retain: str) -> None:
    run, whole = kept_by(batch, retain), kept_by(batch, "all")

    assert run.chunk(run.chunks("numbers")["id"][0]).outputs == []
    for here, there in ((run, whole), (whole, run)):
        with pytest.raises(nb.StateError, match=f"values of instance {run.id} were dropped"):
            here.diff(there, "double")


def test_a_reduction_whose_inputs_are_kept_is_replayed(batch: nb.Batch) -> None:
    @nb.step(max_attempts=1)
    def fail(values: Iterable[int]) -> int:
        raise ValueError(sum(values))

    run = batch.submit(nb.Job("fail", numbers >> fail), 3, retain="failed")
    run.wait(10)

    assert str(run.chunk(run.chunks("fail")["id"][0]).replay().error) == "3"

"""Fan-outs with ``stream=True``: their outputs are there while they go on, and each of them once whatever becomes of the attempt."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from tests.jobs import double, drop, total
from tests.kit import HandClock, settle
from tests.test_failed_commits import agrees

MANY = 25
Give = Callable[[int, int], Iterator[int]]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbbatch.worker.attempt.PAGE_OUTPUTS", 4)
    monkeypatch.setattr("nbbatch.worker.attempt.STREAM_SECONDS", 1e9)


def streaming(give: Give, **options: Any) -> Any:
    """A step that gives what ``give`` does for its number and attempt."""

    def items(n: int) -> Iterator[int]:
        yield from give(n, nb.context().attempt)

    return nb.step(stream=True, **options)(items)


def breaks_once(n: int, attempt: int) -> Iterator[int]:
    for i in range(n):
        if attempt == 1 and i == 10:
            raise OSError("the line dropped")
        yield i


def each_once(batch: nb.Batch, run: nb.JobHandle[Any], count: int = MANY) -> None:
    rows = batch.sql(
        f"SELECT seq FROM chunk WHERE instance = {run.id} AND step = 1 AND id NOT IN (SELECT chunk FROM superseded)"
    )
    assert sorted(rows["seq"]) == list(range(count))


def test_items_run_while_others_are_still_being_read(threaded: nb.Batch) -> None:
    """C21"""
    done = threading.Event()

    def waits(n: int, attempt: int) -> Iterator[int]:
        yield from range(4)
        assert done.wait(10)
        yield from range(4, n)

    @nb.step
    def take(i: int) -> int:
        done.set()
        return i

    run = threaded.submit(nb.Job("streams", streaming(waits) >> take >> total), MANY)
    assert run.result(10) == sum(range(MANY))
    assert run.steps()["records"].to_list() == [MANY, MANY, 1]
    each_once(threaded, run)
    agrees(threaded)


@pytest.mark.parametrize("behind", [double >> total, total], ids=["chunks", "reduction"])
def test_what_a_failed_attempt_gave_stays_and_the_next_goes_on_behind_it(
    batch: nb.Batch, clock: HandClock, behind: Any
) -> None:
    """C21"""
    run = batch.submit(nb.Job("streams", streaming(breaks_once) >> behind), MANY)
    settle(batch)
    if behind is not total:
        assert run.steps()["completed"].to_list() == [0, 8, 0]

    clock.advance(10)
    assert run.result(10) == sum(range(MANY)) * (1 if behind is total else 2)
    if behind is not total:
        each_once(batch, run)
    agrees(batch)


@pytest.mark.parametrize("other", ["value", "fewer"])
def test_an_attempt_that_gives_other_outputs_fails_and_can_be_done_anew(
    inline: nb.Batch, clock: HandClock, other: str
) -> None:
    """C21"""

    def changes(n: int, attempt: int) -> Iterator[int]:
        if attempt == 1:
            yield from breaks_once(n, attempt)
        yield from [0, 1, 2, 3, 4, 55, 6] if other == "value" else [0, 1, 2, 3, 4]

    run = inline.submit(nb.Job("streams", streaming(changes) >> drop), MANY)
    settle(inline)
    clock.advance(10)
    assert run.wait(10) == "FAILED"
    says = (
        "output 6 of this attempt is not the one"
        if other == "value"
        else "gave 5 outputs, but an earlier one had given 8"
    )
    error = run.errors()["error"].item(-1)
    assert says in error
    assert "run.rerun(" in error
    assert run.steps()["completed"].to_list() == [0, 8]

    mended = nb.Job("streams", streaming(lambda n, _: iter(range(n))) >> drop)
    assert run.rerun(mended, step="items", quiet=True).wait(10) == "COMPLETED"
    each_once(inline, run)


def test_a_gate_waits_until_all_is_given(batch: nb.Batch, clock: HandClock) -> None:
    """C21"""

    @nb.step(gate=True)
    def after(i: int) -> int:
        return i

    run = batch.submit(nb.Job("streams", streaming(breaks_once) >> after >> total), MANY)
    settle(batch)
    assert run.steps()["gate_waiting"].to_list() == [0, 8, 0]

    clock.advance(10)
    assert run.result(10) == sum(range(MANY))


def test_outputs_for_several_steps_are_streamed_to_each(inline: nb.Batch, clock: HandClock) -> None:
    """C21"""

    @nb.step
    def halve(i: int) -> int:
        return i // 2

    def even(i: int) -> bool:
        return i % 2 == 0

    ways = nb.choose(even, {True: halve, False: double})
    run = inline.submit(nb.Job("streams", streaming(breaks_once) >> ways >> total), MANY)
    settle(inline)
    clock.advance(10)
    assert run.result(10) == sum(i // 2 if even(i) else 2 * i for i in range(MANY))


def test_a_cancelled_run_goes_on_behind_what_was_given(inline: nb.Batch) -> None:
    """C21"""
    run = inline.submit(nb.Job("streams", streaming(breaks_once) >> double >> total), MANY)
    settle(inline)
    run.cancel()
    assert run.retry(quiet=True).result(10) == 2 * sum(range(MANY))
    each_once(inline, run)


def test_what_is_begun_takes_no_outputs_of_others_and_what_has_ended_gives_its_own(
    inline: nb.Batch, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C21"""
    monkeypatch.setenv("BREAKS", "1")

    def breaks(n: int, attempt: int) -> Iterator[int]:
        for i in range(n):
            if i == 10 and os.environ.get("BREAKS"):
                raise OSError("the line dropped")
            yield i

    job = nb.Job("streams", streaming(breaks) >> drop, reuse=True)
    first = inline.submit(job, MANY, key="first")
    settle(inline)
    monkeypatch.delenv("BREAKS")
    second = inline.submit(job, MANY, key="second")
    assert second.wait(10) == "COMPLETED"
    clock.advance(10)
    assert first.wait(10) == "COMPLETED"
    each_once(inline, first)
    third = inline.submit(job, MANY, key="third")
    assert third.wait(10) == "COMPLETED"
    assert [each.steps()["reused"][0] for each in (first, second, third)] == [0, 0, 1]


def test_it_runs_in_this_process_wherever_other_steps_do(store: Path) -> None:
    """C21"""

    def here(n: int, attempt: int) -> Iterator[int]:
        yield os.getpid()

    @nb.step
    def same(values: Iterable[int]) -> bool:
        return set(values) == {os.getpid()}

    with nb.open(store, executor=nb.processes(1)) as batch:
        assert batch.submit(nb.Job("streams", streaming(here) >> same), 1).result(20)


def test_where_it_makes_no_sense_it_is_refused() -> None:
    with pytest.raises(nb.DefinitionError, match="fan out"):

        @nb.step(stream=True)
        def also(i: int) -> int:
            return i

    with pytest.raises(nb.DefinitionError, match="bisect=True"):

        @nb.step(stream=True, bisect=True)
        def pages(page: list[int]) -> Iterator[int]:
            yield from page

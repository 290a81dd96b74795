"""The test kit for users."""

from __future__ import annotations

import asyncio
import re
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

import nbbatch as nb
from nbbatch import testing
from tests.jobs import drop, numbers, one_step, summing, total

GUIDE = Path(__file__).parent.parent / "docs" / "testing.md"


def test_the_example_of_the_guide_passes(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    module = tmp_path / "example.py"
    module.write_text(code, encoding="utf-8")
    tests = {name: each for name, each in runpy.run_path(str(module)).items() if name.startswith("test_")}

    assert len(tests) == 4
    for test in tests.values():
        test(*[tmp_path] * test.__code__.co_argcount)


def test_a_step_of_any_kind_runs_alone() -> None:
    @nb.step
    async def late(i: int) -> AsyncIterator[int]:
        for each in range(i):
            await asyncio.sleep(0)
            yield each

    assert testing.run_step(numbers, 3).outputs == [0, 1, 2]
    assert testing.run_step(total, [1, 2]).outputs == [3]
    assert testing.run_step(late, 2).outputs == [0, 1]
    assert testing.run_step(drop, 2).outputs == []


def test_an_async_step_is_run_from_a_thread_that_has_an_event_loop() -> None:
    @nb.step
    async def late(i: int) -> int:
        await asyncio.sleep(0)
        return i

    async def cell() -> list[int]:
        return testing.run_step(late, 2).outputs

    assert asyncio.run(cell()) == [2]


def test_a_step_alone_knows_its_attempt_and_keeps_what_it_says() -> None:
    @nb.step
    def talks(i: int, params: str) -> str:
        print(params)
        nb.context().recovered(OSError("once"))
        return f"{params} {nb.context().attempt}"

    run = testing.run_step(talks, 1, params="hello", attempt=3)

    assert run.outputs == ["hello 3"]
    assert run.log == "hello\n"
    assert run.recovered == ("OSError: once",)


def test_waits_take_no_time_on_a_clock_that_jumps() -> None:
    clock = testing.VirtualClock()

    def later(value: int) -> None:
        if clock.now() < testing.START_US + 3_600_000_000:
            raise nb.RetryLater(600)

    with testing.batch(clock) as batch:
        run = batch.submit(one_step(later), 1)

        assert run.wait(10) == "COMPLETED"
        assert run.attempts()["status"].to_list() == ["POLL_WAITING"] * 6 + ["COMPLETED"]


def test_a_clock_that_does_not_jump_waits_for_its_hand() -> None:
    clock, ran = testing.VirtualClock(jumps=False), list[int]()

    def later(value: int) -> None:
        ran.append(value)
        if len(ran) == 1:
            raise nb.RetryLater(600)

    with testing.batch(clock) as batch:
        run = batch.submit(one_step(later), 1)
        while run.steps()["poll_waiting"].sum() == 0:
            pass
        clock.advance(600)

        assert run.wait(10) == "COMPLETED"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["numbers", "double", "total"])
def test_an_error_injected_anywhere_changes_no_result(step: str, when: str) -> None:
    """C3"""
    fault = testing.Fault(step, OSError("injected"), when=when)  # type: ignore[arg-type]
    with testing.batch() as batch:
        run = batch.submit(testing.inject(summing(), fault), 4)

        assert run.result(10) == 12
        assert fault.raised == 1
        assert run.errors()["error"].to_list() == ["injected"]


def test_errors_are_injected_into_the_steps_of_a_sub_job_and_not_into_the_job() -> None:
    fault = testing.Fault("double", OSError("busy"), times=3)
    inner = testing.inject(summing("inner"), fault)
    outer = nb.Job("outer", numbers >> inner.as_step() >> total)

    with testing.batch() as batch:
        assert batch.submit(outer, 4).result(10) == sum(2 * sum(range(n)) for n in range(4))
    assert fault.raised == 3
    with pytest.raises(ValueError, match=r"inject\(inner, Fault\(...\)\).as_step\(\)"):
        testing.inject(outer, testing.Fault("inner", OSError("busy")))


def test_a_fault_in_a_step_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no step 'numbres'; its steps are numbers, double, total"):
        testing.inject(summing(), testing.Fault("numbres", OSError()))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["numbers", "double", "total"])
def test_a_death_anywhere_costs_an_attempt_and_changes_no_result(
    tmp_path: Path, step: str, when: Literal["before", "after"]
) -> None:
    """R1 R4"""
    faulty = testing.inject(summing(), testing.Fault(step, testing.Died(), when=when, times=2))
    with testing.survive(faulty, 4, path=tmp_path / "store.duckdb") as run:
        assert run.result() == 12
        assert run.errors().select("step", "error_type").rows() == [(step, "ProcessDied")] * 2
        assert run.steps()["completed"].to_list() == [1, 4, 1]


def test_a_run_outlives_deaths_in_its_sub_jobs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """R1"""
    inner = testing.inject(summing("inner"), testing.Fault("double", testing.Died(), times=2))
    with testing.survive(
        nb.Job("outer", numbers >> inner.as_step() >> total), 4, path=tmp_path / "store.duckdb"
    ) as run:
        assert run.result() == sum(2 * sum(range(n)) for n in range(4))
        assert run.attempts("inner").height == 3 + 1
    assert [record.name for record in caplog.records if record.name == "concurrent.futures"] == []

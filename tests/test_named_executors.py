"""Steps that name the executor they run on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.engine.pools import Lane, adapted


@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step(executor="gpu")
def on_gpu(i: int) -> str:
    return threading.current_thread().name


@nb.step(executor="io")
def on_io(name: str) -> None:
    pass


def test_a_step_that_is_new_to_a_pool_far_away_is_not_handed_over_in_many_small_calls() -> None:
    lane = Lane(adapted(nb.executor(nb.threads(2), workers=2)), taken=2, round_us=20_000)
    step: Any = SimpleNamespace(behind_us=0.0, likely_us=50.0, mean_us=0.0, likely_size=1)

    assert not lane.has_room(step)  # one for each worker is on its way
    step.mean_us, step.likely_size = 50.0, 16
    assert not lane.has_room(step)
    step.likely_size = 1_000
    assert lane.has_room(step)
    near = Lane(adapted(nb.threads(2)), taken=2)
    assert near.has_room(SimpleNamespace(behind_us=0.0, likely_us=50.0, mean_us=0.0, likely_size=1))  # type: ignore[arg-type]


def test_a_step_runs_on_the_executor_that_it_names_and_frames_tell_it(store: Path) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    @nb.step(executor="gpu")
    def alone(i: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        with lock:
            at_once -= 1
        return i

    @nb.step(executor="io")
    def elsewhere(i: int) -> None:
        pass

    with nb.open(store, workers=3, executors={"gpu": nb.threads(1), "io": nb.threads(4)}) as batch:
        run = batch.submit(nb.Job("both", numbers >> alone >> elsewhere), 20)
        assert run.wait(20) == "COMPLETED"

        assert most == 1
        assert set(run.attempts("alone")["worker"]) == {"gpu/nbbatch_0"}
        assert all(worker.startswith("io/") for worker in run.attempts("elsewhere")["worker"])
        assert not any("/" in worker for worker in run.attempts("numbers")["worker"])


def test_a_full_executor_holds_up_no_other_one(store: Path) -> None:
    go_on = threading.Event()

    @nb.step(executor="gpu")
    def waits(i: int) -> None:
        go_on.wait(20)

    @nb.step
    def does_not(i: int) -> None:
        pass

    with nb.open(store, executors={"gpu": nb.threads(1)}) as batch:
        slow = batch.submit(nb.Job("slow", numbers >> waits), 3)
        assert batch.submit(nb.Job("quick", numbers >> does_not), 3).wait(20) == "COMPLETED"
        assert not slow.done()
        go_on.set()
        assert slow.wait(20) == "COMPLETED"


@pytest.mark.parametrize(("executors", "told"), [({"cpu": nb.threads(1)}, "'cpu'"), ({}, "none; nb.open")])
def test_an_executor_that_is_not_known_is_refused_at_submit_with_those_that_are(
    executors: dict[str, nb.inline], told: str, inline: nb.Batch, tmp_path: Path
) -> None:
    job = nb.Job("job", numbers >> on_gpu >> on_io)
    inside = nb.Job("inside", numbers >> on_gpu >> on_io)
    outside = nb.Job("outside", numbers >> inside.as_step())
    with nb.open(tmp_path / "other.duckdb", executors=executors) as batch:
        for each in (job, outside):
            with pytest.raises(nb.DefinitionError, match=rf"step 'on_gpu' of job .* wants executor 'gpu'.* {told}"):
                batch.submit(each, 3)
        with pytest.raises(nb.DefinitionError, match="wants executor 'gpu'"):
            batch.resume(job)
        assert batch.instances().is_empty()


def test_what_is_no_executor_is_refused(store: Path) -> None:
    with pytest.raises(
        TypeError, match=r"executors= takes executors by name, such as \{'cpu': nb\.processes\(4\)\}, not \['gpu'\]"
    ):
        nb.open(store, executors=["gpu"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"executors\['gpu'\]= takes an executor"):
        nb.open(store, executors={"gpu": 1})  # type: ignore[dict-item]
    with pytest.raises(nb.DefinitionError, match=r"name of an executor that nb.open\(executors="):

        @nb.step(executor=nb.threads(1))  # type: ignore[call-overload]
        def step(i: int) -> None: ...

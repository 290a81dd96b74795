"""Pools that are shut down, broken or called off, and worker processes and their parent: no chunk pays for what is not its fault."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.worker.adapters import Adapter
from tests.jobs import each, one_step
from tests.kit import count, engine


class Fickle(Executor):
    """Somebody else calls off the first calls it is given; later it works."""

    _max_workers = 2

    def __init__(self, called_off: int) -> None:
        self.left, self.pool = called_off, ThreadPoolExecutor(2)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self.left:
            return self.pool.submit(fn, *args, **kwargs)
        self.left -= 1
        future: Future[Any] = Future()
        future.cancel()
        return future


class Plain(ThreadPoolExecutor):
    """Its ``shutdown`` knows no more than most libraries' do."""

    def shutdown(self, wait: bool = True) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().shutdown(wait)


def test_an_executor_that_is_described_is_shut_down_as_it_is_by_itself() -> None:
    pool = Plain(1)

    with nb.executor(pool) as described:
        described.submit(abs, 1)

    with pytest.raises(RuntimeError):
        pool.submit(abs, 1)


def visited(value: int) -> None:
    pass


def test_a_future_that_somebody_else_cancels_is_queued_again(store: Path) -> None:
    """R34"""
    with nb.open(store, Fickle(3)) as batch:
        run = batch.submit(each(visited, max_attempts=1), 5)

        assert run.wait(20) == "COMPLETED"
        assert run.errors().is_empty()
        assert set(run.attempts()["attempt"]) == {1}


POOLS: dict[str, Callable[[], Any]] = {"threads": lambda: ThreadPoolExecutor(2), "processes": lambda: nb.processes(1)}


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_that_is_shut_down_charges_nothing_and_says_why_chunks_wait(kind: str, store: Path) -> None:
    """R34"""
    pool, job = POOLS[kind](), each(visited, max_attempts=1)
    pool.shutdown()
    with pytest.warns(UserWarning, match="the executor was shut down: chunks wait"):
        batch = nb.open(store, pool)
    with batch:
        run = batch.submit(job, 5)
        while engine(batch)._lanes.main.refusals < 2:
            assert not run.done()
        turns = engine(batch).turns

        assert "the executor takes no work" in repr(run)
        assert "after shutdown" in repr(run)
        assert "It stays so; batch.close() and nb.open() with another executor go on" in repr(run)
        assert engine(batch)._lanes.main.retry_us > 0
        with pytest.warns(UserWarning, match="is open already"):
            nb.open(store, POOLS[kind]())
        assert engine(batch).turns - turns < 20
    with nb.open(store, nb.inline()) as batch:
        (run,) = batch.resume(job)
        assert run.wait(20) == "COMPLETED"
        assert count(run) == {"COMPLETED": 6}
        assert run.errors().is_empty()


def broken() -> Executor:
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    pool.submit(os._exit, 1).exception()
    return pool


def test_a_pool_that_broke_is_told_at_the_opening_and_one_that_works_is_not(store: Path) -> None:
    """R34"""
    pool = broken()
    with pytest.warns(
        UserWarning, match="the executor is broken: chunks wait until the store is closed and opened with"
    ):
        nb.open(store, pool).close()
    for works in (nb.processes(1), nb.threads(1), nb.inline(), ThreadPoolExecutor(1)):
        nb.open(store, works).close()
        works.shutdown()


def test_code_that_cannot_travel_fails_its_chunks(store: Path) -> None:
    """R34"""
    lock, pool = threading.Lock(), nb.processes(1)
    with nb.open(store, pool) as batch:
        run = batch.submit(each(lambda value: lock.acquire() and None), 2)

        assert run.wait(20) == "FAILED"
        (error, _) = run.errors()["error"]
        assert "could not be handed to the executor" in error
        assert "cannot pickle '_thread.lock' object, which 'lock' holds: have the step make it" in error
    pool.shutdown()


class Odd(Executor):
    """Its workers live, and give something else than results."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def submit(self, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        is_error = isinstance(self.gives, Exception)
        future.set_exception(self.gives) if is_error else future.set_result(self.gives)
        return future


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (
            ModuleNotFoundError("No module named 'shop'"),
            ", which could not read the step's code, types or parameters: No module named 'shop'. What they import",
        ),
        ("odd", ": the executor's future gave str, not what the call that was submitted returns"),
    ],
)
def test_a_worker_that_gives_no_results_is_not_said_to_be_lost(gives: Any, said: str, store: Path) -> None:
    with nb.open(store, nb.executor(Odd(gives), workers=1, local=True)) as batch:
        run = batch.submit(one_step(lambda i: None, max_attempts=1), 1)

        assert run.wait(10) == "FAILED"
        (error,) = run.errors()["error"]
        assert f"no result of step 'only' came from its worker{said}" in error
        assert ".replay() runs it here, without a worker" in str(
            run.exception()
        )  # debug() would find no line that raises


class Leaving(Adapter):
    """Its workers leave as soon as they are given anything."""

    gone: str | None = None

    def absent(self) -> str | None:
        return self.gone

    def submit(self, *args: Any, **options: Any) -> Future[Any]:
        self.gone = "they left"
        return Future()


def test_a_run_whose_only_chunk_was_handed_to_workers_that_left_says_why_it_waits(store: Path) -> None:
    """R34"""
    with nb.open(store, Leaving()) as batch:
        run = batch.submit(one_step(visited), 1)
        while run.chunks(status="IN_PROGRESS").is_empty():
            assert not run.done()

        assert "has no workers (they left)" in repr(run)


def test_a_chunk_at_whose_end_its_worker_dies_fails_alone(store: Path) -> None:
    """R8"""

    def die_later(value: int) -> None:
        if value == 5:
            os.closerange(3, 200)  # the result cannot be sent

    pool = nb.processes(2)
    with nb.open(store, pool) as batch:
        run = batch.submit(each(die_later, max_attempts=2, backoff=0), 20)

        assert run.wait(50) == "FAILED"
        assert run.chunks("visit", status="FAILED")["seq"].to_list() == [5]
    pool.shutdown()


SCRIPT = """
import os, sys, time, nbbatch as nb
from collections.abc import Iterator
@nb.step
def numbers(n: int) -> Iterator[int]: yield from range(n)
@nb.step(max_attempts=1)
def work(i: int) -> None:
    os.write(1, b"up\\n")
    time.sleep(0.2)
pool = nb.processes(2)
batch = nb.open(sys.argv[1], pool)
run = batch.submit(nb.Job("work", numbers >> work), 100)
{end}
"""
STARTED = 'while not run.chunks("work", status="COMPLETED").height: time.sleep(0.01)'
ENDS = {
    "end": STARTED,
    "raise": f"{STARTED}\nraise ValueError",
    "exit": f"{STARTED}\nsys.exit(3)",
    "close": f"{STARTED}\nbatch.close()",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_script_that_ends_fails_no_chunk_of_its_processes(end: str, store: Path) -> None:
    """R34"""
    code = SCRIPT.format(end=ENDS[end])
    subprocess.run(
        [sys.executable, "-c", code, str(store)], timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    with nb.open(store, nb.inline()) as batch:
        states = count(batch.instance(1))
        assert states.get("FAILED", 0) == 0
        assert states["COMPLETED"] > 1
        assert states["QUEUED"] > 50


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_worker_processes_end_with_their_parent(sent: signal.Signals, store: Path) -> None:
    """R35"""
    command = [sys.executable, "-c", SCRIPT.format(end="run.wait()"), str(store)]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    assert script.stdout.readline()
    script.send_signal(sent)
    script.wait()

    script.stdout.read()  # ends when nobody holds the pipe any more
    script.stdout.close()


def test_ctrl_c_reaches_no_step_in_a_worker_process(store: Path) -> None:
    """R35"""

    def hear(value: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    pool = nb.processes(1)
    with nb.open(store, pool) as batch:
        run = batch.submit(each(hear, max_attempts=1), 3)

        assert run.wait(30) == "COMPLETED"
    pool.shutdown()


def _is_attempt(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs one attempt: with others, or by itself."""
    return any(name in repr(task) for name in ("_in_turn", "run_chunks_async"))


@pytest.mark.parametrize("how", ["all tasks", "the attempts"])
def test_async_attempts_whose_tasks_somebody_else_cancels_are_queued_again(how: str, store: Path) -> None:
    """R34"""
    began, ran, going = list[int](), list[int](), set[int]()

    @nb.step(max_attempts=1, concurrency=3)
    async def work(value: int) -> AsyncIterator[int]:
        began.append(value)
        assert value not in going, "it runs twice at once"
        going.add(value)
        try:
            if len(began) == 3:
                tasks = asyncio.all_tasks() - {asyncio.current_task()}
                for task in tasks if how == "all tasks" else [each for each in tasks if _is_attempt(each)]:
                    task.cancel()
            await asyncio.sleep(0 if len(began) > 5 else 0.01)
        finally:
            going.discard(value)
        ran.append(value)
        yield value

    @nb.step
    def numbers(n: int) -> Iterator[int]:
        yield from range(n)

    @nb.step
    def every(values: Iterable[int]) -> list[int]:
        return list(values)

    with nb.open(store, workers=2) as batch:
        run = batch.submit(nb.Job("work", numbers >> work >> every), 8)

        assert run.result(20) == list(range(8))
        assert len(began) > 8
        assert run.errors().is_empty()
        assert set(run.chunks("work")["errors"]) == {0}


def test_an_async_step_that_cancels_itself_fails_after_a_while(store: Path) -> None:
    """R34"""
    calls = list[int]()

    @nb.step(max_attempts=1)
    async def work(value: int) -> None:
        calls.append(value)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with nb.open(store) as batch:
        run = batch.submit(nb.Job("work", work), 1)

        assert run.wait(20) == "FAILED"
        assert 1 < len(calls) < 50
        assert run.errors()["error_type"].to_list() == ["asyncio.exceptions.CancelledError"]

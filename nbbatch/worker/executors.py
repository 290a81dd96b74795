"""Where steps run: any ``concurrent.futures.Executor``.

| made by | user code runs in | good for |
| --- | --- | --- |
| `threads` (default) | threads of this process | reading, writing, requests, libraries that release the GIL |
| `processes` | worker processes (loky) | pure Python that computes; functions defined in cells work |
| `inline` | the engine's own thread | tests |

Async steps run on one event loop in a thread of their own, whatever the executor.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

ASYNC_IN_FLIGHT = 64
"""Chunks of async steps that run at once on the event loop; an arbitrary, generous number."""


def default_workers() -> int:
    """Threads used unless told otherwise: four more than there are cores, as steps mostly wait.

    At most 32, as in ``ThreadPoolExecutor``.
    """
    return min(32, (os.cpu_count() or 1) + 4)


def threads(workers: int | None = None) -> ThreadPoolExecutor:
    """A pool of threads in this process.

    Args:
        workers: Number of threads, 1 or more; default: cores + 4, at most 32.
    """
    return ThreadPoolExecutor(checked_workers(workers) or default_workers(), thread_name_prefix="nbbatch")


def processes(workers: int | None = None) -> Executor:
    """A pool of worker processes, through loky, so that functions defined in notebook cells work.

    A worker that dies (a crash, out of memory) costs the chunks that its pool had begun an attempt each; the pool is
    replaced and the run goes on. So it is when a chunk takes longer than its step's ``timeout=``: all workers are killed,
    and what the others ran is run again, with no error counted against it. Reductions and async steps still run in this
    process. What a step holds in global variables is copied to the workers once per version of its code.

    Args:
        workers: Number of processes, 1 or more; default: the number of cores.

    Raises:
        ImportError: loky is not installed; ``pip install 'nbbatch[processes]'``.
    """
    try:
        from loky.process_executor import ProcessPoolExecutor
    except ImportError as error:
        raise ImportError("nb.processes() needs loky: pip install 'nbbatch[processes]'") from error
    count = checked_workers(workers) or os.cpu_count() or 1
    return Replaceable(lambda: ProcessPoolExecutor(count), count)


class Replaceable(Executor):
    """A pool that is replaced when one of its workers dies or has to: what was in it is lost, what comes later runs."""

    def __init__(self, make: Callable[[], Any], workers: int) -> None:
        self._make, self._max_workers = make, workers
        self._pool = make()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``."""
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self._pool.shutdown(wait=False)
            self._pool = self._make()
            return self._pool.submit(fn, *args, **kwargs)

    def kill(self) -> None:
        """Kill the workers; the futures of what they ran end with an error, and new workers take what is submitted now.

        All of them: a worker that is killed alone may hold the lock of the queue that all read from.
        """
        old, self._pool = self._pool, self._make()
        old.shutdown(wait=False, kill_workers=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - loky has no such option
        """Let the workers end."""
        self._pool.shutdown(wait=wait)


class inline(Executor):  # noqa: N801 - made and used like a function, as threads() and processes()
    """Runs each step at once in the engine's own thread, one after another: for tests."""

    _max_workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` now and return a finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class EventLoop(Executor):
    """An executor for coroutine functions: one event loop in one thread, started at first use."""

    _max_workers = ASYNC_IN_FLIGHT

    def __init__(self) -> None:
        self.turnstile = asyncio.Semaphore(ASYNC_IN_FLIGHT)
        """For coroutines to pass, so that no more run at once however many are scheduled."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` on the loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="nbbatch-async", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(fn(*args, **kwargs), self._loop)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as in Executor
        """Stop the loop; what still runs on it is cancelled."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5 if wait else 0)
        if not thread.is_alive():
            loop.close()
        self._loop = self._thread = None


def run_aside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on an event loop of its own, in a thread beside: a notebook's thread has one already."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(copy_context().run, asyncio.run, coroutine).result()


async def _cancel_all() -> None:
    current = asyncio.current_task()
    pending = [task for task in asyncio.all_tasks() if task is not current]
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def checked_workers(workers: int | None) -> int | None:
    """The number of workers, or None for the default.

    Raises:
        ValueError: It is no number of workers.
    """
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ValueError(f"workers= must be a whole number, 1 or more, not {workers!r}")
    return workers


def checked_executor(executor: Executor | None) -> Executor | None:
    """The executor, or None for the default.

    Raises:
        TypeError: It is none; a number of workers or a function that makes one, say.
    """
    if executor is not None and not isinstance(executor, Executor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"executor= takes an executor, such as nb.processes(4), not {executor!r}; a number is workers=")
    return executor


def workers_of(executor: Executor) -> int:
    """How many calls an executor runs at once.

    Executors of other libraries (Dask, ipyparallel) do not tell in one common way; without ``_max_workers`` the
    number of cores is taken: pass ``workers=`` to ``nb.open`` to say better.
    """
    return int(getattr(executor, "_max_workers", 0) or os.cpu_count() or 1)


def shares_memory(executor: Executor) -> bool:
    """Whether the executor's workers live in this process."""
    return isinstance(executor, ThreadPoolExecutor | inline | EventLoop)

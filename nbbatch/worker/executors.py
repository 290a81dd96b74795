"""Where steps run: any ``concurrent.futures.Executor``.

| made by | user code runs in | good for |
| --- | --- | --- |
| `threads` (default) | threads of this process | reading, writing, requests, libraries that release the GIL |
| `processes` | worker processes (see there) | pure Python that computes; functions defined in cells work |
| `inline` | the engine's own thread | tests |

Async steps run on one event loop in a thread of their own, whatever the executor.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

CANCEL_SECONDS = 2.0
"""How long an async step that is cancelled may take to end."""
ASYNC_IN_FLIGHT = 64
"""Chunks of async steps without ``concurrency=`` that run at once on the event loop; an arbitrary, generous number."""


def default_workers() -> int:
    """Default number of threads: cores + 4, because steps mostly wait.

    At most 32, as in ``ThreadPoolExecutor``.
    """
    return min(32, (os.cpu_count() or 1) + 4)


def threads(workers: int | None = None) -> ThreadPoolExecutor:
    """A pool of threads in this process.

    The threads are daemon threads: a step that hangs does not keep the interpreter from exiting.

    Args:
        workers: Number of threads, 1 or more; default: cores + 4, at most 32.

    Raises:
        ValueError: ``workers`` is not a whole number from 1.

    Example:
        >>> with nb.open(":memory:", nb.threads(16)) as batch:
        ...     batch.submit(job, 3).result()
        7.5
    """
    return Threads(checked_workers(workers) or default_workers())


class inline(Executor):  # noqa: N801 - made and used like a function, as threads() and processes()
    """Runs each step at once in the engine's thread, one after another. For tests.

    Example:
        >>> with nb.open(":memory:", nb.inline()) as batch:
        ...     batch.submit(job, 3).result()
        7.5
    """

    _max_workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` now and return a finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Threads(ThreadPoolExecutor):
    """A pool of daemon threads. It is a ``ThreadPoolExecutor`` by type only, since Python joins the threads of a real one at exit."""

    def __init__(self, workers: int) -> None:  # pyright: ignore[reportMissingSuperCall] - nothing of it is used
        self._max_workers = workers
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._unfinished: deque[None] = deque()
        """As long as there are calls that wait or run."""
        self._team: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.is_shut = False
        weakref.finalize(self, self._calls.put, None).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a thread call ``fn``."""
        with self._lock:
            if self.is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._grow()
            self._unfinished.append(None)
            future: Future[Any] = Future()
            self._calls.put(_Call(future, fn, args, kwargs))
            return future

    def _grow(self) -> None:
        """Start a thread for one more call, unless one is free or there are enough."""
        team = len(self._team)
        if team > len(self._unfinished) or team >= self._max_workers:
            return
        thread = threading.Thread(
            target=_serve, args=(self._calls, self._unfinished), name=f"nbbatch_{team}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter ends: those that there are go on
            if not team:
                raise
        else:
            self._team.append(thread)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. The threads exit after the calls they have."""
        with self._lock:
            self.is_shut = True
            while cancel_futures and not self._calls.empty():
                call = self._calls.get()
                if call is not None:
                    call.future.cancel()
            self._calls.put(None)
        for thread in self._team if wait else ():
            thread.join()


class _Call(NamedTuple):
    future: Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function(*self.args, **self.kwargs)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _serve(calls: SimpleQueue[_Call | None], unfinished: deque[None]) -> None:
    """What a thread of a pool does; it refers to no pool, so that one nobody refers to ends its threads."""
    while call := calls.get():
        call.run()
        unfinished.pop()
        del call  # keeps no result alive while it waits
    calls.put(None)  # for the next one


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
            self._loop.set_default_executor(threads())  # of asyncio.to_thread(): daemons too
            self._thread = threading.Thread(target=_serve_loop, args=(self._loop,), name="nbbatch-async", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(fn(*args, **kwargs), self._loop)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as in Executor
        """Cancel running coroutines, then stop the loop. A coroutine that ignores the cancellation is abandoned after a while."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_wind_up(), loop)
        thread.join(timeout=CANCEL_SECONDS if wait else 0)
        self._loop = self._thread = None


def run_aside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a new event loop in a separate thread, because a notebook's thread already runs one."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(copy_context().run, asyncio.run, coroutine).result()


def _serve_loop(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _wind_up() -> None:
    """Cancel all tasks, again and again, as one may catch its cancellation and go on; then stop the loop."""
    while pending := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
    asyncio.get_running_loop().stop()


def checked_workers(workers: int | None) -> int | None:
    """Check the number of workers; None is the default.

    Raises:
        ValueError: It is not a whole number from 1.
    """
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ValueError(f"workers= must be a whole number, 1 or more, not {workers!r}")
    return workers

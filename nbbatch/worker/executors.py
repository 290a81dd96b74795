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
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from nbbatch.base.display import needing, warn
from nbbatch.worker import exits

T = TypeVar("T")

CANCEL_SECONDS = 2.0
"""How long an async step that is cancelled may take to end."""
ASYNC_IN_FLIGHT = 64
"""Chunks of async steps that run at once on the event loop; an arbitrary, generous number."""


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
    """
    return Threads(checked_workers(workers) or default_workers())


def processes(workers: int | None = None) -> Executor:
    """A pool of worker processes, through loky, which runs functions that are defined in notebook cells.

    If a worker dies (a crash, out of memory), the chunks that its pool had begun lose one attempt each, the pool is replaced, and
    the run continues. If a chunk exceeds its step's ``timeout=``, all workers are killed and replaced; their other chunks run
    again without counting an error. Reductions and async steps run in this process. Global variables that a step uses are copied
    to the workers once per version of its code.

    Args:
        workers: Number of processes, 1 or more; default: the number of cores.

    Raises:
        ImportError: loky is not installed; ``pip install 'nbbatch[processes]'``.
        ValueError: ``workers`` is not a whole number from 1.
    """
    with needing("processes"):
        from loky.process_executor import ProcessPoolExecutor
    count = checked_workers(workers) or os.cpu_count() or 1
    return Replaceable(lambda: ProcessPoolExecutor(count, initializer=live_with, initargs=(os.getpid(),)), count)


def live_with(parent: int) -> None:
    """Make this worker process exit soon after its parent, however that dies, and ignore Ctrl-C.

    Ctrl-C goes to all processes of a terminal or kernel, SIGTERM to all of a unit or container, and the parent decides what to do
    about running work. The handler does nothing instead of ignoring the signal, because processes that a step starts would
    inherit that it is ignored.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _ignore)
    threading.Thread(target=_watch, args=(parent,), name="nbbatch-parent", daemon=True).start()


def _ignore(_signal: int, _frame: object) -> None:
    pass


def _watch(parent: int) -> None:
    # not by PR_SET_PDEATHSIG, which speaks of the thread that started the process: a dispatcher ends with its batch
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Replaceable(Executor):
    """A pool that is replaced when one of its workers dies or must be killed. Its running work is lost; later work runs."""

    def __init__(self, make: Callable[[], Any], workers: int) -> None:
        self._make, self._max_workers = make, workers
        self.pool = make()
        self._started: Any = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``.

        Raises:
            RuntimeError: The pool was shut down, or the interpreter is exiting.
        """
        try:
            future = self.pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self.pool.shutdown(wait=False)
            self.pool = self._make()
            future = self.pool.submit(fn, *args, **kwargs)
        if self._started is not self.pool:
            self._started = self.pool
            exits.renew()
        return future

    def kill(self) -> None:
        """Kill all workers. Futures of running work end with an error, and new workers take later work.

        All of them, because a single killed worker may hold the lock of the queue that all read from.
        """
        old, self.pool = self.pool, self._make()
        old.shutdown(wait=False, kill_workers=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - loky has no such option
        """Let the workers exit."""
        self.pool.shutdown(wait=wait)


class inline(Executor):  # noqa: N801 - made and used like a function, as threads() and processes()
    """Runs each step at once in the engine's thread, one after another. For tests."""

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


def checked_executor(executor: Executor | None) -> Executor | None:
    """Check the executor; None is the default. Warns of one that takes no work: the store can be read all the same.

    Raises:
        TypeError: It is not an executor, but for example a number of workers or a function that makes one.
    """
    if executor is not None and not isinstance(executor, Executor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"executor= takes an executor, such as nb.processes(4), not {executor!r}; a number is workers=")
    if executor is not None and (why := ended(executor)):
        warn(f"the executor {why}: chunks wait until the store is closed and opened with one that works")
    return executor


def ended(executor: Executor) -> str | None:
    """Why an executor takes no work, as far as that can be seen without asking it for some; None: it may take it.

    >>> pool = threads(1); pool.shutdown(); ended(pool), ended(threads(1))
    ('was shut down', None)
    """
    pool = executor.pool if isinstance(executor, Replaceable) else executor
    flags = getattr(pool, "_flags", pool)  # where loky has them
    if any(getattr(flags, name, None) for name in ("_broken", "broken")):
        return None if isinstance(executor, Replaceable) else "is broken"
    names = ("_shutdown", "_shutdown_thread", "shutdown", "is_shut")  # of concurrent.futures, loky and ours
    return "was shut down" if any(getattr(flags, name, None) is True for name in names) else None


def workers_of(executor: Executor) -> int:
    """Number of concurrent calls of an executor.

    Executors of other libraries (Dask, ipyparallel) have no common way to tell. Without ``_max_workers``, the number of cores is
    used; pass ``workers=`` to ``nb.open`` to set it.
    """
    return int(getattr(executor, "_max_workers", 0) or os.cpu_count() or 1)


def is_called_off(error: BaseException) -> bool:
    """Whether a future ended with this error because its pool was shut down or it was cancelled, not because its call failed."""
    return (
        isinstance(error, Refused | CancelledError | asyncio.CancelledError)
        or type(error).__name__ == "ShutdownExecutorError"
    )


class Refused(RuntimeError):
    """An executor takes no work: it was shut down, is broken, or cannot start workers."""


def shares_memory(executor: Executor) -> bool:
    """Whether the executor's workers run in this process."""
    return isinstance(executor, ThreadPoolExecutor | inline | EventLoop)

"""A pool of worker processes, each with a pipe of its own: one that dies, or must be killed, harms no other.

    submit() ─▶ waiting ─▶ ┌─────────────┐ ──pipe──▶ worker process
                           │ one thread  │ ──pipe──▶ worker process
     Future ◀──────────────└─────────────┘ ◀──────── results, or the end of the pipe

A pool with one queue for all workers, as those of loky and of the standard library, breaks as a whole when a worker dies,
as it may hold the lock of the queue. Here it is known which call a worker had, so only that call is lost. The processes
themselves are loky's: they start without running the user's script again, and functions of cells work in them.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Pipe, wait
from typing import Any

from nbbatch.base.display import needing
from nbbatch.worker.adapters import Adapter, Refused, WorkerLost
from nbbatch.worker.executors import checked_workers
from nbbatch.worker.process_worker import end_group, serve
from nbbatch.worker.surroundings import loaded, start_method, surroundings
from nbbatch.worker.travel import dumps

ALIVE_SECONDS = 1.0
"""How often it is looked whether busy workers live: where a step has started processes, the pipe of a dead one stays open."""
END_SECONDS = 5.0
"""How long the end of the interpreter waits for workers to exit."""
THREADS_OF = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS",
)  # fmt: skip
"""What tells numerical libraries how many threads to use."""


def processes(workers: int | None = None) -> Executor:
    """A pool of worker processes, which runs functions that are defined in notebook cells.

    If a worker dies (a crash, out of memory), the chunk that it ran loses one attempt, another worker takes its place, and the run
    continues. If a chunk exceeds its step's ``timeout=``, its worker is killed and replaced. Reductions and async steps run in this
    process. Global variables that a step uses are copied to the workers once per version of its code; above 1 MB they lie in a
    temporary file that all workers share. Numerical libraries get cores / workers threads in each, unless the environment says otherwise.

    Args:
        workers: Number of processes, 1 or more; default: the number of cores.

    Raises:
        ImportError: loky is not installed; ``pip install 'nbbatch[processes]'``.
        ValueError: ``workers`` is not a whole number from 1.

    Example:
        >>> batch = nb.open("big.duckdb", nb.processes(2))  # they start with the first chunk
        >>> batch.close()
    """
    with needing("processes"):
        import cloudpickle  # noqa: F401  # pyright: ignore[reportUnusedImport] - told now rather than with the first step
        import loky  # noqa: F401  # pyright: ignore[reportUnusedImport]
    return Processes(checked_workers(workers) or os.cpu_count() or 1)


class Processes(Adapter):
    """What `processes` makes."""

    can_kill = tells_begin = True

    def __init__(self, workers: int) -> None:
        """No process is started before there is a call for it."""
        self._max_workers = workers
        self._crew = crew = _Crew(workers)
        weakref.finalize(self, crew.end).atexit = False

    @property
    def is_shut(self) -> bool:
        """Whether it takes no more calls."""
        return self._crew.ending

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``.

        Raises:
            RuntimeError: The pool was shut down.
        """
        call = _Call(dumps((fn, args, kwargs)))
        self._crew.take(call)
        return call.future

    def kill(self, future: Future[Any]) -> None:
        self._crew.kill(future)

    def hurry(self) -> None:
        """Take no more calls, and kill the workers that run something: the process ends."""
        self._crew.end(hurry=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and let the workers exit after those they have."""
        self._crew.end(cancel=cancel_futures)
        if wait:
            self._crew.join()


class _Call:
    __slots__ = ("data", "future")

    def __init__(self, data: bytes) -> None:
        self.data, self.future = data, Future[Any]()


class _Worker:
    """A process, and the call that it has."""

    def __init__(self, env: dict[str, str]) -> None:
        backend: Any = import_module("loky.backend")  # without complete types

        self.pipe, theirs = Pipe()
        self._around = surroundings()
        self.version = loaded.version()
        """Of the modules that it imports."""
        with theirs:
            args = theirs, os.getpid(), start_method()
            self.process: Any = backend.get_context("loky").Process(target=serve, args=args, env=env)
            self.process.start()
        self.call: _Call | None = None
        self.is_ready = False

    def give(self, call: _Call) -> None:
        self.call = call
        before, self._around = self._around, surroundings()
        with suppress(OSError):  # it is dead; that is noticed in the next round
            if change := before.change_to(self._around):
                self.pipe.send_bytes(pickle.dumps(change))
            self.pipe.send_bytes(call.data)

    def hear(self) -> bool:
        """Take what the worker sends, if anything; False: it is dead."""
        try:
            while self.pipe.poll():
                self._receive(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return False
        return self.process.is_alive() or self.pipe.poll()

    def _receive(self, data: bytes) -> None:
        if not self.is_ready:
            self.is_ready = True
            return
        call, self.call = self.call, None
        assert call is not None
        try:
            good, value = pickle.loads(data)  # noqa: S301 - of our own worker
        except Exception as error:
            good, value = False, error
        call.future.set_result(value) if good else call.future.set_exception(value)

    def kill(self) -> None:
        """End it, and have end what its steps have started, of which a dead one leaves some too.

        It first: a step that waits for a program would go on, and its attempt be COMPLETED, once that ends.
        """
        if sys.platform == "win32":
            self.process.terminate()
        elif self.process.is_alive():  # else its number may be another one's
            os.kill(self.process.pid, signal.SIGKILL)
        end_group(self.process.pid)

    def bury(self) -> None:
        """It is dead: tell who waits for its call."""
        self.kill()
        self.process.join()
        self.pipe.close()
        if self.call is not None:
            self.call.future.set_exception(
                WorkerLost(f"worker process {self.process.pid} {_end_of(self.process.exitcode)}")
            )


def _end_of(given: int | None) -> str:
    if given is not None and given < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-given).name}"
    return f"ended with exit status {given}"


class _Crew:
    """The workers of a pool and what waits for them. One thread has them; it refers to no pool, so that one that nobody refers to ends."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[_Call] = deque()
        self._workers: list[_Worker] = []
        self._leaving: list[_Worker] = []
        self._doomed: deque[Future[Any]] = deque()
        self._lock = threading.Lock()
        self._bell, self._rope = Pipe(duplex=False)
        self._rung = self.ending = self._hurries = False
        self._thread: threading.Thread | None = None
        each = str(max(1, (os.cpu_count() or 1) // most))
        self._env = {name: each for name in THREADS_OF if name not in os.environ}

    def take(self, call: _Call) -> None:
        with self._lock:
            if self.ending:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nbbatch-processes", daemon=True)
                self._thread.start()
                atexit.register(
                    _end_now, weakref.ref(self)
                )  # after multiprocessing's, which waits for all processes: so before it
        self._ring()

    def kill(self, future: Future[Any]) -> None:
        """Have the worker killed that has a call; by the thread that gives it calls, so that it has no other by then."""
        self._doomed.append(future)
        self._ring()

    def _kill(self) -> None:
        doomed = [self._doomed.popleft() for _ in range(len(self._doomed))]
        for worker in self._workers:
            if worker.call is not None and (self._hurries or worker.call.future in doomed):
                worker.kill()

    def end(self, *, cancel: bool = False, hurry: bool = False) -> None:
        with self._lock:
            self.ending = True
            self._hurries |= hurry
            while (cancel or hurry) and self._waiting:
                self._waiting.popleft().future.cancel()
        self._ring()

    def join(self, timeout: float | None = None) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            with suppress(OSError):
                self._rope.send_bytes(b"")

    def _run(self) -> None:
        try:
            while not (self.ending and not self._waiting and not any(worker.call for worker in self._workers)):
                try:
                    self._retire()
                    self._hire()
                except Exception as error:  # too many processes, no memory: those that there are go on
                    if not self._workers:
                        self._refuse(error)
                self._hand_out()
                self._listen()
        finally:
            self._dismiss()

    def _retire(self) -> None:
        """Have workers leave that have modules as they were before they were loaded anew here."""
        self._leaving = [each for each in self._leaving if each.process.is_alive()]
        version = loaded.version() if self._waiting else 0
        for worker in [each for each in self._workers if self._waiting and not each.call and each.version != version]:
            self._workers.remove(worker)
            self._leaving.append(worker)
            worker.pipe.close()

    def _hire(self) -> None:
        """One more worker for each call that none is free for."""
        free = sum(worker.call is None for worker in self._workers)
        for _ in range(min(len(self._waiting) - free, self._most - len(self._workers))):
            self._workers.append(_Worker(self._env))

    def _refuse(self, error: Exception) -> None:
        while self._waiting:
            future = self._waiting.popleft().future
            if future.set_running_or_notify_cancel():
                future.set_exception(Refused(f"worker processes cannot be started: {error!r}"))

    def _hand_out(self) -> None:
        for worker in self._workers:
            while worker.is_ready and worker.call is None and self._waiting:
                with suppress(IndexError):
                    call = self._waiting.popleft()
                    if call.future.set_running_or_notify_cancel():
                        worker.give(call)

    def _listen(self) -> None:
        """Sleep until a worker sends or ends, or somebody rings."""
        busy = any(worker.call or not worker.is_ready for worker in self._workers)
        pipes: list[Any] = [self._bell, *(worker.pipe for worker in self._workers)]
        sentinels: list[Any] = [worker.process.sentinel for worker in self._workers]
        ready = set(wait(pipes + sentinels, ALIVE_SECONDS if busy else None))
        if self._bell in ready:
            while self._bell.poll():
                self._bell.recv_bytes()
            self._rung = False  # not before: a ring that was taken with the others would count as still to be heard
        self._kill()
        for worker in [each for each in self._workers if not ready or {each.pipe, each.process.sentinel} & ready]:
            if not worker.hear():
                self._workers.remove(worker)
                worker.bury()

    def _dismiss(self) -> None:
        """Let the workers exit, which they do at the end of their pipes."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in (*self._workers, *self._leaving):
            worker.process.join()
        self._workers.clear()


def _end_now(crew: weakref.ref[_Crew]) -> None:
    if found := crew():
        found.end(hurry=True)
        found.join(END_SECONDS)

"""What the engine asks of a pool, whoever made it: an adapter is the answer for one kind.

    engine ──submit(run, call)──▶ adapter ──▶ pool … worker
           ◀─Future: Results, an error, or None where it gives the call back undone─

Every adapter is a `concurrent.futures.Executor`, so it can be passed to ``nb.open(executor=)`` and used by itself.
Pools of threads and of standard processes need no more than `Adapter` says.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any

from nbbatch.base.clock import steady_us
from nbbatch.base.display import warn
from nbbatch.worker.executors import checked_workers, inline

LOOK_SECONDS = 0.5
"""How often a cluster is asked how many workers it has."""
NEAR_US, FAR_US = 8_000, 100_000
"""Work in a micro-batch, in this process or on this machine, and elsewhere: hand-over costs little, and no result waits long.

A call to Dask takes about 10 ms of processor time in all, and a worker of Ray waits about 4 ms between two calls.
"""


class Adapter(Executor):
    """An executor as the engine sees it: how many workers it has, which of its errors mean what, what it can do beyond calls."""

    shares_memory = False
    """Whether its workers run in this process."""
    is_local = True
    """Whether its workers run on this machine, and see the file of marks."""
    can_kill = False
    """Whether `kill` ends what a call runs."""
    tells_begin = False
    """Whether `begun_us` knows."""
    is_inline = False
    """Whether a call is over when `submit` returns."""
    target_us = NEAR_US
    ahead_us = 0
    """How much longer than usual may the work be of which a worker gets some before it is free: where hand-over takes long."""

    def workers(self) -> int:
        """How many calls it runs at once now; may change."""
        return workers_of(self)

    def absent(self) -> str | None:
        """Why there are no workers now, though there may be later; None: there are."""
        return None

    def open(self, owner: str, wake: Callable[[], None], waiting_us: Callable[[], float]) -> None:
        """An engine begins to use it.

        Args:
            owner: Begins the names of its calls.
            wake: To be called when there are more workers than before.
            waiting_us: How long that takes which waits for a worker; any thread may ask.
        """

    def close(self, owner: str) -> None:
        """That engine uses it no more. The pool itself goes on."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether a call ended with this error because its worker died."""
        return isinstance(error, BrokenExecutor)

    def is_called_off(self, error: BaseException) -> bool:
        """Whether a call ended with this error because its pool was shut down or it was cancelled, not because it failed."""
        return isinstance(error, Refused | CancelledError | asyncio.CancelledError)

    def begun_us(self, call: str) -> int:
        """When a worker began a call, by this process's steady clock; 0: not yet, as far as is known."""
        del call
        return 0

    def landed(self, call: str) -> None:
        """A call is over; nothing more is asked about it."""

    def cancel(self, future: Future[Any]) -> None:
        """Have a call not run, if it has not begun: its future is cancelled then, and only then."""
        future.cancel()

    def recall(self, owner: str, futures: Iterable[Future[Any]]) -> None:
        """Have all calls of an engine that have not begun given back."""
        del owner
        for future in futures:
            self.cancel(future)

    def call_off(self, call: str) -> None:
        """Tell a running call that its result is not wanted any more (``context().cancelled``), where workers can be told."""

    def kill(self, future: Future[Any]) -> None:
        """End what a call runs, and nothing else; its future ends with an error."""


class Refused(RuntimeError):
    """An executor takes no work: it was shut down, is broken, or cannot start workers."""


class WorkerLost(BrokenExecutor):
    """The worker that ran a call has ended."""


class Elsewhere(Adapter):
    """Workers of a cluster, on hosts that have no file of ours: it is asked ever anew how many it has, and its workers tell when they begin."""

    is_local = False
    tells_begin = True
    target_us = FAR_US
    ahead_us = 2_000_000

    def __init__(self) -> None:
        """Nothing is asked before an engine begins to use it."""
        self._count, self._absent = 0, "it has not been asked yet"
        self._opening = object()
        """Since when it is used without a break: whoever asks since an earlier time stops."""
        self._wakes: dict[str, Callable[[], None]] = {}
        self._waiting: dict[str, Callable[[], float]] = {}
        self._begun: dict[str, int] = {}
        self._futures: dict[str, Any] = {}
        """What the cluster's own library knows the calls by that are under way."""
        self._recalled = set[str]()

    def count(self) -> int:
        """How many calls the cluster runs at once now.

        Raises:
            Exception: It cannot be reached.
        """
        raise NotImplementedError

    def hold(self, owner: str) -> None:
        """Have workers give back the calls of an engine that they have not begun."""
        raise NotImplementedError

    def workers(self) -> int:
        return self._count

    def absent(self) -> str | None:
        return None if self._count else self._absent

    def open(self, owner: str, wake: Callable[[], None], waiting_us: Callable[[], float]) -> None:
        is_first = not self._wakes
        self._wakes[owner], self._waiting[owner] = wake, waiting_us
        if is_first:
            self._opening = object()
            self.watch()

    def close(self, owner: str) -> None:
        self._wakes.pop(owner, None)
        self._waiting.pop(owner, None)
        self._recalled.discard(owner)

    def begun_us(self, call: str) -> int:
        return self._begun.get(call, 0)

    def landed(self, call: str) -> None:
        self._begun.pop(call, None)
        self._futures.pop(call, None)

    def recall(self, owner: str, futures: Iterable[Future[Any]]) -> None:
        if not self._count:
            for future in futures:
                future.cancel()
        elif owner not in self._recalled:
            self._recalled.add(owner)
            self.hold(owner)

    def cancel(self, future: Future[Any]) -> None:
        """Not at all: clusters cancel what they run too, and say that it did not run."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the cluster is its owner's."""

    def watch(self) -> None:
        """Ask for the number of workers from now on, as long as an engine uses them."""
        threading.Thread(target=self._watch, args=(self._opening,), name="nbbatch-cluster", daemon=True).start()

    def is_watched(self, opening: object) -> bool:
        """Whether an engine uses it, as one has without a break since some opening."""
        return bool(self._wakes) and self._opening is opening

    def heard(self, call: str) -> None:
        """A worker has begun a call."""
        self._begun.setdefault(call, steady_us())

    def saw(self, count: int, absent: str) -> None:
        """So many workers are there; why none, if there are none."""
        before, self._count, self._absent = self._count, count, absent
        for wake in tuple(self._wakes.values()) if count != before else ():
            wake()

    def _watch(self, opening: object) -> None:
        pause = threading.Event()
        while self.is_watched(opening):
            try:
                self.saw(self.count(), "the cluster has none just now")
            except Exception as error:
                self.saw(0, f"the cluster cannot be reached: {type(error).__name__} {error}"[:300])
            pause.wait(LOOK_SECONDS)


class Wrapped(Adapter):
    """An executor that somebody else made."""

    def __init__(self, executor: Executor, workers: int | None = None) -> None:
        """Adapt it; ``workers``: how many calls it runs at once, None: ask it."""
        self.inner = executor
        self._given = workers

    def workers(self) -> int:
        return self._given or workers_of(self.inner)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``."""
        return self.inner.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the pool down."""
        if cancel_futures:  # which not every library knows
            self.inner.shutdown(wait, cancel_futures=True)
        else:
            self.inner.shutdown(wait)


class Near(Wrapped):
    """Threads of this process."""

    shares_memory = True

    def __init__(self, executor: Executor) -> None:
        """Adapt threads, an event loop, or `inline`."""
        super().__init__(executor)
        self.is_inline = isinstance(executor, inline)


class Foreign(Wrapped):
    """An executor of another library, by what its user says of it."""

    def __init__(
        self, executor: Executor, workers: int | None = None, lost: tuple[type[BaseException], ...] = (),
        target_us: int | None = None, *, local: bool = False,
    ) -> None:  # fmt: skip
        """As `executor`."""
        super().__init__(executor, workers)
        self._lost = lost
        self.is_local = local
        self.target_us = target_us or (NEAR_US if local else FAR_US)
        self.ahead_us = 0 if local else 2_000_000

    def is_lost(self, error: BaseException) -> bool:
        return super().is_lost(error) or isinstance(error, self._lost)


def executor(
    any_executor: Executor, *, workers: int | None = None, lost: type[BaseException] | tuple[type[BaseException], ...] = (),
    target_ms: float | None = None, local: bool = False,
) -> Executor:  # fmt: skip
    """Describe an executor of another library, so that it is used as well as one of ours.

    Args:
        any_executor: A ``concurrent.futures.Executor``.
        workers: How many calls it runs at once; default: what it tells itself, else the number of cores.
        lost: Errors with which a call ends whose worker died. ``concurrent.futures.BrokenExecutor`` is known.
        target_ms: Work in one call, in milliseconds: quick chunks travel together until they take about this long. Default: 8 for
            local workers, 200 for others.
        local: Whether its workers run on this machine: they note in a file beside the store which chunk they run, so that a worker that
            dies costs only that chunk an attempt, and ``timeout=`` is counted from the beginning of the attempt.

    Raises:
        TypeError: It is no executor.
        ValueError: An argument is out of its range.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(4) as pool, nb.open(":memory:", nb.executor(pool, workers=4)) as batch:
        ...     batch.submit(job, 3).result()
        7.5
    """
    if not isinstance(any_executor, Executor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"nb.executor() takes a concurrent.futures.Executor, not {any_executor!r}")
    classes = lost if isinstance(lost, tuple) else (lost,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"lost= takes exception classes, not {lost!r}")
    if target_ms is not None and not (isinstance(target_ms, int | float) and 0 < target_ms <= 60_000):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"target_ms= must be milliseconds, above 0 and up to 60,000, not {target_ms!r}")
    count = checked_workers(workers)
    return Foreign(
        any_executor, count, classes, None if target_ms is None else max(1, round(target_ms * 1000)), local=local
    )


def checked_executor(executor: Executor | None, what: str = "executor=") -> Executor | None:
    """Check an executor; None is the default. Warns of one that takes no work: the store can be read all the same.

    Raises:
        TypeError: It is not an executor, but for example a number of workers or a function that makes one.
    """
    if executor is not None and not isinstance(executor, Executor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"{what} takes an executor, such as nb.processes(4) or nb.dask(client), not {executor!r}; a number is workers="
        )
    if executor is not None and (why := ended(executor)):
        warn(f"the executor {why}: chunks wait until the store is closed and opened with one that works")
    return executor


def checked_executors(executors: Mapping[str, Executor] | None) -> dict[str, Executor]:
    """Check executors by name, as `checked_executor` does."""
    if not isinstance(executors, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"executors= takes executors by name, such as {{'cpu': nb.processes(4)}}, not {executors!r}")
    found = {name: checked_executor(each, f"executors[{name!r}]=") for name, each in (executors or {}).items()}
    return {name: each for name, each in found.items() if each is not None}


def are_alike(asked: Mapping[str, Executor], mine: Mapping[str, Executor]) -> bool:
    """Whether executors that are asked for are like those there are, by kind and size: a cell that makes them anew asks for the same."""

    def known(executors: Mapping[str, Executor]) -> set[tuple[str, type, int]]:
        return {(name, type(each), workers_of(each)) for name, each in executors.items()}

    return known(asked) <= known(mine)


def ended(executor: Executor) -> str | None:
    """Why an executor takes no work, as far as that can be seen without asking it for some; None: it may take it.

    >>> from nbbatch.worker.executors import threads
    >>> pool = threads(1); pool.shutdown(); ended(pool), ended(threads(1))
    ('was shut down', None)
    """
    pool = executor.inner if isinstance(executor, Wrapped) else executor
    flags = getattr(pool, "_flags", pool)  # where loky has them
    if any(getattr(flags, name, None) for name in ("_broken", "broken")):
        return "is broken"
    names = ("_shutdown", "_shutdown_thread", "shutdown", "is_shut")  # of concurrent.futures, loky and ours
    return "was shut down" if any(getattr(flags, name, None) is True for name in names) else None


def workers_of(executor: Executor) -> int:
    """How many calls an executor runs at once, as far as it tells; with its kind, what it is known by when it is made anew."""
    return int(getattr(executor, "_max_workers", 0) or os.cpu_count() or 1)

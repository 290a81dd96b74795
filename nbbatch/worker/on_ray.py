"""Steps as tasks of a Ray cluster.

    engine ─submit─▶ OnRay ─remote()─▶ Ray ─▶ worker process: run_packed
                       │ ▲                        │
        hold, call off ▼ │ begun                  │ may I begin? does anybody wait?
                    ┌─────────┐                   │
                    │ _Board  │ ◀─────────────────┘
                    └─────────┘

No file of ours is on another host, and Ray says no word of a task between its start and its end. So an actor of ours, which
needs no core, passes on what the file of marks tells of local workers. It is started again where its process dies. Ray
itself would run a task again whose worker died; of ours none, as the engine is to know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from nbbatch.base.display import needing
from nbbatch.worker import travel
from nbbatch.worker.adapters import Elsewhere
from nbbatch.worker.remote import Packed, run_packed

ASK_SECONDS = 0.1
"""How often a step that looks at ``context().cancelled`` again and again asks the board."""
ANSWER_SECONDS = 10
"""How long a worker waits for the board before it begins without its word."""
LOST = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "LocalRayletDiedError")
"""What Ray calls the death of a worker."""


def ray(*, num_cpus: float = 1, num_gpus: float = 0, resources: Mapping[str, float] | None = None) -> Executor:
    """Run steps on a Ray cluster, as many micro-batches at once as its nodes have room for at any time.

    The cluster is the one that this process is connected to; without one, ``ray.init()`` connects to the one of ``RAY_ADDRESS``, or
    starts one here. Workers need the package nbbatch, and what steps import. A worker that dies costs an attempt only a chunk that is
    known to be why. ``timeout=`` is counted from when the worker begins; an attempt past its time is ended with its worker process,
    which Ray replaces. Worker processes are kept, also those with GPUs, so that a model under ``functools.lru_cache`` is loaded once.

    Args:
        num_cpus: Of each micro-batch, as Ray counts them.
        num_gpus: Likewise; may be less than 1 where several share one.
        resources: Further ones, by the names that the cluster's nodes have for them.

    Raises:
        ImportError: Ray is not installed; ``pip install 'nbbatch[ray]'``.
        ValueError: A number is below 0, or all of them are 0.

    Example:
        >>> batch = nb.open("big.duckdb", nb.ray())  # doctest: +SKIP
    """
    needs = {"CPU": num_cpus, "GPU": num_gpus, **(resources or {})}
    if not all(isinstance(each, int | float) and each >= 0 for each in needs.values()) or not any(needs.values()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"nb.ray() takes numbers from 0, at least one of them above 0, not {needs}")
    with needing("ray"):
        library: Any = import_module("ray")
    if not library.is_initialized():
        library.init()
    return OnRay(library, needs)


class OnRay(Elsewhere):
    """What `ray` makes."""

    can_kill = True

    def __init__(self, library: Any, needs: Mapping[str, float]) -> None:
        """``needs``: what a micro-batch takes of a node, by the names that Ray has."""
        super().__init__()
        self._ray, self._needs = library, {name: each for name, each in needs.items() if each}
        others = {name: each for name, each in self._needs.items() if name not in ("CPU", "GPU")}
        self._run: Any = library.remote(
            num_cpus=needs["CPU"], num_gpus=needs["GPU"], resources=others, max_retries=0, max_calls=0
        )(_run_here)
        self._board: Any = None
        self._listens = False
        self._values: dict[str, Any] = {}

    def count(self) -> int:
        if not self._listens:  # not yet, or the board's process died
            self._listen()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(int(min(have.get(name, 0) / each for name, each in self._needs.items())) for have in nodes)

    def open(self, owner: str, wake: Callable[[], None]) -> None:
        with suppress(Exception):  # Ray was shut down: that is told while chunks wait
            if not self._wakes:
                self._board = self._ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()
        super().open(owner, wake)

    def close(self, owner: str) -> None:
        super().close(owner)
        if not self._wakes and self._board is not None:
            with suppress(Exception):  # likewise
                self._ray.kill(self._board)
            self._board = None
            self._values.clear()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``."""
        packed = args[0] if args and isinstance(args[0], Packed) else None
        if packed is None:
            return self._run.remote(fn, args, kwargs).future()
        line = _Line(self._board, packed.call, told=packed.is_timed or packed.is_suspect)
        values = {name: self._value(name, path) for name, path in packed.values.items()}
        return self._run.remote(_run_packed, (replace(packed, line=line), values), {}).future()

    def _value(self, name: str, path: str) -> Any:
        """A big value in Ray's own store, from which each node fetches it once."""
        if name not in self._values:
            self._values[name] = self._ray.put(Path(path).read_bytes())
        return self._values[name]

    def is_lost(self, error: BaseException) -> bool:
        return super().is_lost(error) or isinstance(error, self._errors(LOST))

    def is_called_off(self, error: BaseException) -> bool:
        """A call of ours raises nothing: Ray could not run it, or its workers cannot load it."""
        return super().is_called_off(error) or (
            isinstance(error, self._errors(["RayError"])) and not self.is_lost(error)
        )

    def _errors(self, names: Any) -> tuple[type[BaseException], ...]:
        return tuple(found for name in names if (found := getattr(self._ray.exceptions, name, None)) is not None)

    def hold(self, owner: str) -> None:
        self._tell("hold", owner)

    def call_off(self, call: str) -> None:
        self._tell("call_off", call)

    def kill(self, future: Future[Any]) -> None:
        reference = getattr(future, "object_ref", None)
        with suppress(Exception):  # it has ended, or Ray was shut down
            self._ray.cancel(reference, force=True)

    def _tell(self, what: str, name: str) -> None:
        with suppress(Exception):  # Ray was shut down
            getattr(self._board, what).remote(name)

    def _listen(self) -> None:
        """Have the board tell what has begun, ever anew."""
        board = self._board
        if board is not None:
            self._listens = True
            board.news.remote().future().add_done_callback(self._hear)

    def _hear(self, news: Future[list[str]]) -> None:
        self._listens = False
        with suppress(Exception):  # the board is gone
            for call in news.result():
                self.heard(call)
            self._listen()


class _Board:
    """An actor that passes words on between an engine and the workers."""

    def __init__(self) -> None:
        self._held, self._called_off, self._begun = set[str](), set[str](), list[str]()
        self._news = asyncio.Event()

    async def begin(self, call: str, told: bool) -> bool:
        """A worker is about to begin a call; False: it shall not."""
        if call.rpartition("-")[0] in self._held:
            return False
        if told:
            self._begun.append(call)
            self._news.set()
        return True

    async def news(self) -> list[str]:
        """Calls that have begun since the last time; waits for one."""
        await self._news.wait()
        self._news.clear()
        begun, self._begun = self._begun, []
        return begun

    async def hold(self, owner: str) -> None:
        self._held.add(owner)

    async def call_off(self, call: str) -> None:
        self._called_off.add(call)

    async def is_called_off(self, call: str) -> bool:
        return call in self._called_off


# --- on a worker ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    board: Any
    call: str
    told: bool
    asked: float = 0.0
    answer: bool = False

    def begin(self) -> bool:
        return self._ask(self.board.begin, self.call, self.told, otherwise=True)

    def is_called_off(self) -> bool:
        if not self.answer and time.monotonic() - self.asked >= ASK_SECONDS:
            self.answer, self.asked = self._ask(self.board.is_called_off, self.call, otherwise=False), time.monotonic()
        return self.answer

    def _ask(self, method: Any, *args: Any, otherwise: bool) -> bool:
        """What the board says; one that is gone for good is of an engine that waits for nothing any more.

        Not by ``ray.get``, under which Ray gives the task's core to another one, for which it may have to start a process.
        """
        errors: Any = import_module("ray").exceptions
        try:
            return method.remote(*args).future().result(ANSWER_SECONDS)
        except errors.ActorDiedError:
            return not otherwise
        except (errors.RayError, TimeoutError):
            return otherwise


def _run_here(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _run_packed(packed: Packed, values: dict[str, Any]) -> Any:
    library: Any = import_module("ray")
    for name in travel.lacking(values):
        travel.keep(name, library.get(values[name]))
    return run_packed(packed)

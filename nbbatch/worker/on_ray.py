"""Steps as tasks of a Ray cluster.

    engine ─submit─▶ OnRay ─remote()─▶ Ray ─▶ worker process: run_packed
                       │ ▲                      │ ▲
        hold, call off ▼ │ begun          begun ▼ │ words, as they come
                    ┌───────────────────────────────┐
                    │            _Board             │
                    └───────────────────────────────┘

No file of ours is on another host, and Ray says no word of a task between its start and its end. So an actor of ours, which
needs no core, passes on what the file of marks tells of local workers. It is started again where its process dies, and serves all
openings of its pool. Each worker process always has a question open there, which is answered when there is news: so no task waits
for an answer before it begins.
Ray itself would run a task again whose worker died; of ours none, as the engine is to know.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from nbbatch.base.display import needing
from nbbatch.worker import received
from nbbatch.worker.adapters import Elsewhere
from nbbatch.worker.remote import Packed, run_packed

ANSWER_SECONDS = 10
"""How long a worker waits for the board before it begins without its word: in a new process, or as a suspect."""
LISTENERS = 100_000
"""Questions that the board may have open at once."""
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
        self._connection: tuple[str, str] | None = None
        self._listens = False
        self._values: dict[str, Any] = {}

    def count(self) -> int:
        if not self._listens:  # not yet, or the board's process died
            self._listen()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(int(min(have.get(name, 0) / each for name, each in self._needs.items())) for have in nodes)

    def open(self, owner: str, wake: Callable[[], None], waiting_us: Callable[[], float]) -> None:
        with suppress(Exception):  # Ray was shut down: that is told while chunks wait
            self._keep_board()
        super().open(owner, wake, waiting_us)

    def close(self, owner: str) -> None:
        super().close(owner)
        if not self._wakes:
            self._values.clear()

    def _keep_board(self) -> None:
        """Have a board, the same for all openings: each new one would take a worker process that is warm, and another has to be started."""
        here = self._ray.get_runtime_context()
        connection = here.get_node_id(), here.get_job_id()
        if self._board is None or self._connection != connection:
            self._board = self._ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=LISTENERS)(_Board).remote()
            self._connection, self._listens = connection, False
            weakref.finalize(self, _end, self._ray, self._board).atexit = False  # then Ray itself ends it

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``."""
        packed = args[0] if args and isinstance(args[0], Packed) else None
        if packed is None:
            return self._run.remote(fn, args, kwargs).future()
        line = _Line(self._board, packed.call, packed.is_timed, packed.is_suspect)
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
        self._tell(owner)

    def call_off(self, call: str) -> None:
        self._tell(call)

    def kill(self, future: Future[Any]) -> None:
        reference = getattr(future, "object_ref", None)
        with suppress(Exception):  # it has ended, or Ray was shut down
            self._ray.cancel(reference, force=True)

    def _tell(self, word: str) -> None:
        with suppress(Exception):  # Ray was shut down
            self._board.tell.remote(word)

    def _listen(self) -> None:
        """Have the board tell what has begun, ever anew."""
        board, mine = (
            self._board,
            weakref.WeakMethod(self._hear),
        )  # the question keeps no pool that nobody uses any more

        def answer(news: Future[list[str]]) -> None:
            if (hear := mine()) is not None:
                hear(news)

        if board is not None:
            self._listens = True
            board.news.remote().future().add_done_callback(answer)

    def _hear(self, news: Future[list[str]]) -> None:
        self._listens = False
        with suppress(Exception):  # the board is gone
            for call in news.result():
                self.heard(call)
            self._listen()


def _end(library: Any, board: Any) -> None:
    with suppress(Exception):  # Ray was shut down, or started anew
        library.kill(board)


class _Board:
    """An actor that passes words on between an engine and the workers."""

    def __init__(self) -> None:
        self._words, self._begun = list[str](), list[str]()
        self._told, self._news = asyncio.Event(), asyncio.Event()

    async def begin(self, call: str) -> None:
        """A worker begins a call."""
        self._begun.append(call)
        self._news.set()

    async def news(self) -> list[str]:
        """Calls that have begun since the last time; waits for one."""
        await self._news.wait()
        self._news.clear()
        begun, self._begun = self._begun, []
        return begun

    async def tell(self, word: str) -> None:
        """An engine of which nothing is to begin any more, or a call that nobody waits for."""
        self._words.append(word)
        told, self._told = self._told, asyncio.Event()
        told.set()

    async def words(self, known: int, waits: bool) -> tuple[int, list[str]]:
        """How many words there are, and those after so many; where it waits, there is one at least."""
        known = known if known <= len(self._words) else 0  # this actor was started again
        if waits and known == len(self._words):
            await self._told.wait()
        return len(self._words), self._words[known:]


# --- on a worker ---------------------------------------------------------------------------------


class _Heard:
    """The words of a board as far as they have come to this process, which asks for more all the time."""

    def __init__(self, board: Any) -> None:
        self._board, self._count, self._words = board, 0, set[str]()
        self._asks = self._is_gone = False
        """The second: it is gone for good, and so is its engine, which waits for nothing any more."""
        first = board.words.remote(0, False).future()
        with suppress(Exception):
            first.exception(ANSWER_SECONDS)
            self._hear(first)

    def has(self, word: str) -> bool:
        if not (self._asks or self._is_gone):  # it did not answer just now
            self._ask()
        return self._is_gone or word in self._words

    def _ask(self) -> None:
        self._asks = True
        self._board.words.remote(self._count, True).future().add_done_callback(self._hear)

    def _hear(self, answer: Future[tuple[int, list[str]]]) -> None:
        self._asks = False
        try:
            self._count, new = answer.result()
        except import_module("ray").exceptions.ActorDiedError:
            self._is_gone = True
        except Exception:  # asked anew by whoever wants to know
            self._count = 0
        else:
            self._words.update(new)
            self._ask()


_boards: dict[Any, _Heard] = {}
"""The last few, by what Ray calls them."""
MOST = 4


def _heard_of(board: Any) -> _Heard:
    name = board._actor_id
    if name not in _boards:
        while len(_boards) >= MOST:
            _boards.pop(next(iter(_boards)))
        _boards[name] = _Heard(board)
    return _boards[name]


@dataclass(frozen=True, slots=True)
class _Line:
    board: Any
    call: str
    is_timed: bool
    is_suspect: bool

    def begin(self) -> bool:
        if _heard_of(self.board).has(self.call.rpartition("-")[0]):
            return False
        if self.is_timed or self.is_suspect:
            told = self.board.begin.remote(self.call).future()
            with suppress(Exception):  # a suspect may die the moment it runs, so it waits; not by ray.get, under which
                told.result(ANSWER_SECONDS if self.is_suspect else 0)  # Ray gives the task's core to another one
        return True

    def is_called_off(self) -> bool:
        return _heard_of(self.board).has(self.call)


def _run_here(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _run_packed(packed: Packed, values: dict[str, Any]) -> Any:
    library: Any = import_module("ray")
    for name in received.lacking(values):
        received.keep(name, library.get(values[name]))
    return run_packed(packed)

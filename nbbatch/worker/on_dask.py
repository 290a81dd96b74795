"""Steps on a Dask cluster: its client as a pool.

    engine ─submit─▶ OnDask ─client.submit─▶ scheduler ─▶ worker: run_packed
                       ▲                          │
                       └── "begun", by a topic ◀──┘  for attempts with a time limit, and for suspects

No file of ours is on another host. What the file of marks tells of local workers is told by events of Dask's own, and workers
are told by `client.run`, which runs beside what they do: to begin nothing more, as the store is closed; that nobody waits
for a result. Dask itself runs a call again whose worker died, up to four times; of ours none, as the engine is to know.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from nbbatch.base.display import needing
from nbbatch.worker import received
from nbbatch.worker.adapters import LOOK_SECONDS, Elsewhere, Refused, WorkerLost
from nbbatch.worker.received import Missing
from nbbatch.worker.remote import Packed, run_packed

log = logging.getLogger("nbbatch")

PREFIX = "nbbatch"
CLOSED = "the Dask client was closed"
MORE = f"{PREFIX}-more"
"""Begins the names of calls that stand for what waits here."""
MORE_SECONDS = 5
"""How long each of them is said to take: what a cluster that adapts counts as work for one thread …"""
MOST_MORE = 1024
"""… so that more of them tell it nothing."""


def dask(client: Any, *, resources: Mapping[str, float] | None = None) -> Executor:
    """Run steps on a Dask cluster, on as many threads as it has at any time.

    One that adapts (``cluster.adapt()``) sees how much waits, as tasks named ``nbbatch-more`` that no worker takes.
    Workers need the package nbbatch, and what steps import. A worker that dies costs an attempt only a chunk that is known to be why.
    ``client.restart()``, or a scheduler that is gone, costs none: the run goes on, or waits and says why. ``timeout=`` is counted from when
    the worker begins; an attempt past its time is told by ``context().cancelled``, and its thread stays occupied until it returns.

    Args:
        client: A ``distributed.Client`` that is not asynchronous. It is not closed by ``batch.close()``.
        resources: What each micro-batch takes of its worker, as workers were started with: ``dask worker --resources "GPU=1"``.

    Raises:
        ImportError: distributed is not installed; ``pip install 'nbbatch[dask]'``.
        TypeError: It is no such client.

    Example:
        >>> from dask.distributed import Client  # doctest: +SKIP
        >>> batch = nb.open("big.duckdb", nb.dask(Client("scheduler:8786")))  # doctest: +SKIP
    """
    with needing("dask"):
        from distributed import Client
    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(f"nb.dask() takes a distributed.Client that is not asynchronous, not {client!r}")
    return OnDask(client, {"resources": dict(resources)} if resources else None)


class OnDask(Elsewhere):
    """What `dask` makes."""

    def __init__(self, client: Any, options: dict[str, Any] | None = None) -> None:
        """``options``: of ``client.submit``, such as resources."""
        super().__init__()
        self._client, self._options = client, options or {}
        self._more: list[Any] = []
        self._known: Any = None
        """The connection to the scheduler that knows of it."""

    @classmethod
    def of_executor(cls, executor: Any) -> OnDask:
        """Of what ``client.get_executor()`` gave."""
        return cls(executor._client, dict(executor._kwargs))  # pyright: ignore[reportPrivateUsage]

    # --- for an engine ----------------------------------------------------------------------------

    def open(self, owner: str, wake: Callable[[], None], waiting_us: Callable[[], float]) -> None:
        with suppress(Exception):  # the client is closed, or nobody answers: that is told while chunks wait
            self._client.subscribe_topic(_topic(owner), self._hear)
            super().open(owner, wake, waiting_us)

    def close(self, owner: str) -> None:
        super().close(owner)
        left = [self._futures.pop(call) for call in tuple(self._futures) if call.startswith(owner)]
        with suppress(Exception):  # the client is closed
            self._client.unsubscribe_topic(_topic(owner))
            self._spawn(self._client.cancel(left, asynchronous=True)) if left else None

    def absent(self) -> str | None:
        return CLOSED if self._is_closed() else super().absent()

    def _is_closed(self) -> bool:
        return self._client.status in ("closed", "closing")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker call ``fn``.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._is_closed():
            raise RuntimeError(CLOSED)
        out: Future[Any] = Future()
        self._spawn(self._follow(out, fn, *args, **kwargs))
        return out

    def hold(self, owner: str) -> None:
        self._tell(_hold, owner)

    def call_off(self, call: str) -> None:
        self._tell(_call_off, call)

    def watch(self) -> None:
        self._spawn(self._ask_for_threads(self._opening))

    # --- on the client's event loop ---------------------------------------------------------------

    def _spawn(self, coroutine: Any) -> None:
        try:
            asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)
        except BaseException:
            coroutine.close()
            raise

    def _tell(self, what: Callable[[str], None], name: str) -> None:
        """Call a function in all workers, beside what they run."""

        async def tell() -> None:
            with suppress(Exception):  # who is gone needs no word
                await self._client.run(what, name, on_error="ignore")

        with suppress(RuntimeError):
            self._spawn(tell())

    async def _ask_for_threads(self, opening: object) -> None:
        """On the client's loop, ever anew; nothing is sent to the cluster before it has answered once."""
        self._known = self._client.scheduler_comm
        await _register(self._client)
        while self.is_watched(opening):
            self._introduce()
            await self._look()
            with suppress(Exception):  # that it cannot be reached is told by the look
                self._ask_for_more()
            await asyncio.sleep(LOOK_SECONDS)
        if self._opening is opening:
            self._more.clear()

    def _introduce(self) -> None:
        """Tell a scheduler that has come in place of another what that one knew, before anything else is sent to it."""
        connection: Any = self._client.scheduler_comm  # None: none is reached now
        if connection is None or connection is self._known:
            return
        self._known = connection
        with suppress(Exception):  # the client is closed: that is told by the look
            for owner in tuple(self._wakes):
                self._client.subscribe_topic(_topic(owner), self._hear)
            self._spawn(_register(self._client))

    async def _look(self) -> None:
        try:
            found = await asyncio.wait_for(self._threads(), 5)
            wanted = self._options.get("workers")
            threads = sum(count for name, count in found.items() if not isinstance(wanted, list) or name in wanted)
            needs = self._options.get("resources")
            self.saw(threads, f"the Dask cluster has none {f'that has {needs}' if needs else 'just now'}")
        except Exception as error:
            self.saw(0, f"the Dask scheduler cannot be reached: {type(error).__name__} {error}"[:300])

    def _ask_for_more(self) -> None:
        """Have a cluster that adapts to its load see what waits here, as calls that no worker can take; to the next power of two, as each is a message."""
        seconds = sum(each() for each in tuple(self._waiting.values())) / 1e6
        cluster = self._client.cluster
        if cluster is not None and getattr(cluster, "_adaptive", cluster) is None:
            seconds = 0.0  # its size is its user's
        wanted = min(MOST_MORE, 1 << (ceil(seconds / MORE_SECONDS) - 1).bit_length()) if seconds else 0
        self._more = [each for each in self._more if each.status == "pending"][:wanted]  # a restart forgets them
        if wanted > len(self._more):
            names = [f"{MORE}-{secrets.token_hex(8)}" for _ in range(wanted - len(self._more))]
            self._more += self._client.map(_nothing, names, key=names, resources={MORE: 1})

    def _hear(self, event: tuple[float, Any]) -> None:
        self.heard(str(event[1]))

    async def _threads(self) -> dict[str, int]:
        """By worker: how many of its threads may have a call of ours at once."""
        needs: dict[str, float] = self._options.get("resources") or {}
        if not needs:
            return await self._client.scheduler.ncores(workers=None)
        workers: dict[str, Any] = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        return {
            name: min(each["nthreads"], *(int(each["resources"].get(what, 0) / much) for what, much in needs.items()))
            for name, each in workers.items()
        }

    async def _follow(self, out: Future[Any], fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Have it run, and pass on what came of it."""
        try:
            packed = args[0] if args and isinstance(args[0], Packed) else None
            result = await (self._ask(fn, *args, **kwargs) if packed is None else self._run(packed))
        except BaseException as error:
            if not out.cancelled():
                out.set_exception(error if isinstance(error, Exception) else Refused(repr(error)))
        else:
            if not out.cancelled():
                out.set_result(result)

    async def _run(self, packed: Packed) -> Any:
        owner = packed.call.rpartition("-")[0]
        data = pickle.dumps(replace(packed, line=_Line(owner, packed.call, packed.is_timed, packed.is_suspect)))
        where: list[str] = []
        while True:
            address, result = await self._ask(_run_here, data, call=packed.call, near=where)
            if isinstance(result, BaseException):
                raise result
            if not isinstance(result, Missing):
                return result
            where = [address]
            for name in result.names:
                value = await asyncio.to_thread(Path(packed.values[name]).read_bytes)
                await self._client.run(received.keep, name, value, workers=where)

    async def _ask(
        self, fn: Callable[..., Any], *args: Any, call: str = "", near: Iterable[str] = (), **kwargs: Any
    ) -> Any:
        from distributed import KilledWorker

        self._introduce()
        options = {**self._options, **({"workers": [*near], "allow_other_workers": True} if near else {})}
        future = self._client.submit(fn, *args, pure=False, key=f"{PREFIX}-{secrets.token_hex(8)}", **options, **kwargs)
        if call:
            self._futures[call] = future
        try:
            return await future
        except KilledWorker as error:
            raise WorkerLost(f"Dask worker {getattr(error.last_worker, 'address', '')} died") from None
        except BaseException as error:  # a call of ours raises nothing: it was forgotten, or its workers cannot load it
            raise Refused(f"Dask: {type(error).__name__}: {error}"[:500]) from None


def _nothing(name: str) -> None:
    """What no worker is asked for."""


def _topic(owner: str) -> str:
    return f"{PREFIX}-{owner}"


async def _register(client: Any) -> None:
    """Have a call of ours end with an error when the first worker dies under it, instead of the fourth, and one that stands for others take long."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Once(SchedulerPlugin):  # made here, so that it travels by value: a scheduler need not have nbbatch
        name = "nbbatch-once"
        idempotent = True

        def update_graph(self, scheduler: Any, *, keys: Any = (), **_: Any) -> None:
            for key in keys:
                found = scheduler.tasks.get(key)
                if found is not None and str(key).startswith("nbbatch-"):
                    found.suspicious = scheduler.allowed_failures
                if found is not None and str(key).startswith(MORE):
                    found.prefix.duration_average = MORE_SECONDS

    try:
        await client.register_plugin(Once())
    except Exception as error:
        log.warning(
            "the Dask scheduler takes no plugin (%s): a call whose worker died is tried by four workers before it is told",
            error,
        )


# --- on a worker ---------------------------------------------------------------------------------

_held = set[str]()
_called_off = set[str]()


def _hold(owner: str) -> None:
    _held.add(owner)


def _call_off(call: str) -> None:
    _called_off.add(call)


@dataclass(frozen=True, slots=True)
class _Line:
    owner: str
    call: str
    is_timed: bool
    is_suspect: bool

    def begin(self) -> bool:
        if self.owner in _held:
            return False
        if self.is_timed or self.is_suspect:
            _tell_begun(self.owner, self.call, surely=self.is_suspect)
        return True

    def is_called_off(self) -> bool:
        return self.call in _called_off


def _tell_begun(owner: str, call: str, *, surely: bool) -> None:
    """Tell the engine; surely: wait until the scheduler knows, as this worker may die the moment the step runs."""
    from distributed import get_worker
    from distributed.utils import sync

    worker: Any = get_worker()
    if surely:
        sync(worker.loop, worker.scheduler.log_event, topic=_topic(owner), msg=call)
    else:
        worker.log_event(_topic(owner), call)


def _run_here(data: bytes) -> tuple[str, Any]:
    from distributed import get_worker

    address: str = get_worker().address
    try:
        return address, run_packed(pickle.loads(data))  # noqa: S301 - made by the engine
    except Exception as error:
        return address, error

"""Steps on the engines of an ipyparallel cluster: its client as a pool.

    nbbatch ─submit─▶ OnIpyparallel ─apply─▶ controller ─▶ engine: run_packed
                        ▲     │                              │  ▲
                        │     └──────── flags, by "abort" ───┼──┘
                        └──────── "begun", by data of iopub ─┘

No file of ours is on another host. An ipyparallel engine hears on its control channel while it runs something, and the one message there
that it keeps is a set of names that are to be aborted: what workers are to be told are names in it. Its load-balanced
scheduler gives an engine one call at a time, so what an engine had when it died, it ran.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

from nbbatch.base.display import needing
from nbbatch.worker.adapters import Elsewhere, Refused, WorkerLost
from nbbatch.worker.remote import Packed, run_packed

BEGUN = "nbbatch-begun"
ANSWER_SECONDS = 10
"""A controller that does not answer for so long is lost: its client would wait for it for ever."""


def ipyparallel(client: Any) -> Executor:
    """Run steps on the engines of an ipyparallel cluster, on as many as it has at any time.

    Engines need the package nbbatch, and what steps import. An engine that dies costs an attempt only a chunk that is known to be why;
    ipyparallel tells of its death after about five seconds, and starts no other one for it. ``timeout=`` is counted from when the
    engine begins; an attempt past its time is told by ``context().cancelled``, and its engine stays occupied until it returns.

    Args:
        client: An ``ipyparallel.Client``, such as ``rc = ipyparallel.Cluster(n=4).start_and_connect_sync()``. It is not closed by
            ``batch.close()``.

    Raises:
        ImportError: ipyparallel is not installed; ``pip install 'nbbatch[ipyparallel]'``.
        TypeError: It is no such client.

    Example:
        >>> cluster = ipyparallel.Cluster(n=4).start_and_connect_sync()  # doctest: +SKIP
        >>> batch = nb.open("big.duckdb", nb.ipyparallel(cluster))  # doctest: +SKIP
    """
    with needing("ipyparallel"):
        library: Any = import_module("ipyparallel")
    if not isinstance(client, library.Client):
        raise TypeError(f"nb.ipyparallel() takes an ipyparallel.Client, not {client!r}")
    return OnIpyparallel(client)


class OnIpyparallel(Elsewhere):
    """What `ipyparallel` makes."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client
        self._view: Any = client.load_balanced_view()

    def count(self) -> int:
        if self._client._closed:
            raise ConnectionError("the client was closed")
        asked = self._client._send(
            self._client._query_stream, "queue_request", content={"targets": [], "verbose": False}
        )
        asked.wait(ANSWER_SECONDS)
        if not asked.done():
            raise ConnectionError(f"its controller has not answered for {ANSWER_SECONDS} s")
        return len(self._client.ids)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have an engine call ``fn``."""
        packed = args[0] if args and isinstance(args[0], Packed) else None
        if packed is not None:
            line = _Line(packed.call, packed.is_timed)
            args = (pickle.dumps(replace(packed, line=line)),)
        answer: Any = self._view.apply_async(fn if packed is None else _run_here, *args, **kwargs)
        if packed is not None:
            self._futures[packed.call] = answer
            self._hear_of(answer, packed.call)
        out: Future[Any] = Future()
        answer.add_done_callback(partial(self._pass_on, out, packed.call if packed is not None else ""))
        return out

    def _pass_on(self, out: Future[Any], call: str, answer: Any) -> None:
        if not out.set_running_or_notify_cancel():
            return
        error = answer.exception()
        if error is None:
            out.set_result(answer.result())
        elif getattr(error, "ename", "") == "EngineError":
            self.heard(call)  # an engine has one call at a time
            out.set_exception(WorkerLost(str(error)))
        else:  # a call of ours raises nothing: it was aborted, or engines cannot load it
            out.set_exception(Refused(f"ipyparallel: {error}"[:500]))

    def landed(self, call: str) -> None:
        answer = self._futures.get(call)
        super().landed(call)
        with suppress(Exception):  # else the client keeps all results for ever
            self._client.purge_local_results(answer)

    def hold(self, owner: str) -> None:
        self._tell(owner)

    def call_off(self, call: str) -> None:
        self._tell(call)

    def _tell(self, name: str) -> None:
        with suppress(Exception):  # who is gone needs no word
            self._client.abort([_flag(name)], targets="all", block=False)

    def _hear_of(self, answer: Any, call: str) -> None:
        def hear(_: Any = None) -> None:
            with suppress(Exception):  # it has come back, and its data were purged
                if BEGUN in self._client.metadata[answer.msg_ids[0]]["data"]:
                    self.heard(call)

        for child in answer._children:
            child.iopub_callbacks.append(hear)
        hear()


def _flag(name: str) -> str:
    return f"nbbatch-{name}"


# --- on an engine of ipyparallel -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    call: str
    is_told: bool

    def begin(self) -> bool:
        if _is_told(self.call.rpartition("-")[0]):
            return False
        if self.is_told:
            import_module("ipyparallel.engine.datapub").publish_data({BEGUN: True})
        return True

    def is_called_off(self) -> bool:
        return _is_told(self.call)


def _is_told(name: str) -> bool:
    return _flag(name) in _kernel().aborted


def _kernel() -> Any:
    return import_module("IPython").get_ipython().kernel


def _run_here(data: bytes) -> Any:
    return run_packed(pickle.loads(data))  # noqa: S301 - made by the engine

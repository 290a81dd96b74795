"""The owner's side: a thread per connection that reads the store by named queries, and passes orders on.

One query runs at a time, on a connection of its own. While the engine works, all of them together
take at most `SHARE` of a core's time. Nothing that arrives is run: a request names a query of ours with its values, an
order of `wire.ORDERS`, or a SELECT under the rules of ``sql()``. A client that is slow, silent or talks nonsense loses its
connection.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from nbbatch.base import private_folder, ranges
from nbbatch.base.errors import NbbatchError, NotFoundError, QueryRefused, StoreError
from nbbatch.engine.dispatcher import Engine
from nbbatch.serving import wire
from nbbatch.serving.meter import Meter, Turns
from nbbatch.serving.wire import MOST_ASKED, MOST_ROWS, ORDERS, STORE_ORDERS, Address, Order
from nbbatch.store.reading import is_read
from nbbatch.store.user_query import Limits

T = TypeVar("T")
Answer = tuple[dict[str, Any], bytes]
"""What is said, and the rows that belong to it."""
log = logging.getLogger("nbbatch")

LOOK_SECONDS = 2.0
"""How often it is looked whether the batch was closed, should nobody have told; an idle engine does nothing else."""
CLIENTS = 32
"""Connections at once."""
IDLE_SECONDS = 120.0
"""Without a request a connection is closed."""
SEND_SECONDS = 10.0
"""For a client to take its answer."""
QUERY_SECONDS = 10.0
"""For a query …"""
BRIEF_SECONDS = 0.5
"""… while the engine works, where who asks can read a copy instead: what it takes is to be waited for twenty times."""
MOST_WAIT = 1.0
"""Seconds that a look waits for its time, where who asks can read a copy instead."""
SQL_BYTES = 500_000_000
_MOST_PATH = 100
"""Bytes of a Unix socket's path, which the system limits to 104 or 108."""


class Owner:
    """Answers those who look at a store, until `close`."""

    def __init__(self, engine: Engine, order: Order, where: str | None = None) -> None:
        """Listen, and say so beside the store.

        Args:
            engine: Of the store.
            order: Does what is asked.
            where: ``"host:port"`` (port 0: any that is free), with a token; None: a Unix socket for this user.

        Raises:
            OSError: It cannot listen there, or cannot say so.
            StoreError: A file of another kind stands where it would say so.
            ValueError: ``where`` is no host and port.
        """
        self._engine, self._store, self._order = engine, engine.store, order
        self._turn, self._meter = Turns(), Meter()
        self._clients = threading.Semaphore(CLIENTS)
        self._open: set[socket.socket] = set()
        self.token = secrets.token_urlsafe(24) if where else ""
        self._folder = ""
        self._remove: Callable[[], object] = lambda: None
        self._server = self._listening(where)
        at = self._server.server_address if where else f"{self._folder}/owner"
        self.address = Address(os.getpid(), socket.gethostname(), _plain(at), self.token)
        try:
            wire.announce(self._store.path, self.address)
        except BaseException:
            self._let_go()
            raise
        self._server.timeout = LOOK_SECONDS
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="nbbatch-owner", daemon=True)
        self._thread.start()

    def _listening(self, where: str | None) -> socketserver.TCPServer:
        owner = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                owner._serve(self.request)  # pyright: ignore[reportPrivateUsage]

        if where:
            host, _, port = where.rpartition(":")
            if not (host and port.isdigit()):
                raise ValueError(f"serve= takes True, False or 'host:port', such as '127.0.0.1:0', not {where!r}")
            return _Tcp((host, int(port)), Connection)
        self._make_folder()
        try:
            return _Unix(f"{self._folder}/owner", Connection)
        except BaseException:
            self._remove()
            raise

    def _make_folder(self) -> None:
        """A folder that only this user enters, with a path short enough for a socket."""
        self._folder, self._remove = private_folder.made_for(self, "owner")
        if len(os.fsencode(self._folder)) + len("/owner") >= _MOST_PATH:
            self._remove()
            self._folder, self._remove = private_folder.made_for(self, "owner", private_folder.SHORT)

    # --- one connection ---------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closing:
            self._server.handle_request()

    def _serve(self, client: socket.socket) -> None:
        if self._closing or not self._clients.acquire(blocking=False):
            return
        self._open.add(client)
        try:
            with suppress(OSError):  # gone, silent, or not one of ours
                self._converse(client)
        finally:
            self._open.discard(client)
            self._clients.release()

    def _converse(self, client: socket.socket) -> None:
        client.settimeout(IDLE_SECONDS)
        if not self.token and not _is_same_user(client):
            return
        known = not self.token
        while True:
            asked, _ = wire.receive(client, MOST_ASKED)
            known = known or hmac.compare_digest(str(asked.get("token")).encode(), self.token.encode())
            if not known:
                return
            client.settimeout(SEND_SECONDS)
            wire.send(client, *self._answer(asked))
            client.settimeout(IDLE_SECONDS)

    def _answer(self, asked: Mapping[str, Any]) -> Answer:
        try:
            match asked.get("do"):
                case "hello":
                    return {"protocol": wire.PROTOCOL, "pid": os.getpid(), "path": self._store.path}, b""
                case "read":
                    read = partial(self._read, _readable(str(asked["query"])), _values(asked))
                    return self._metered(lambda: self._brief(asked, read), brief=asked.get("brief"))
                case "count":
                    count = self._metered(lambda: self._store.count(_readable(str(asked["query"])), *_values(asked)))
                    return {"count": count}, b""
                case "sql":
                    select = partial(self._select, str(asked["query"]))
                    return self._metered(lambda: self._brief(asked, select), time.monotonic, brief=asked.get("brief"))
                case "live":
                    return {"live": self._live(asked)}, b""
                case str(order) if order in ORDERS or order in STORE_ORDERS:
                    return {"done": self._order(order, _id(asked) if order in ORDERS else None, asked)}, b""
                case other:
                    raise ValueError(f"there is no request {other!r}")
        except (NbbatchError, wire.TooSlow, ValueError, TypeError, LookupError) as error:
            return wire.refusal(error), b""
        except Exception as error:  # of a query: whatever it is, it is the asker's
            log.debug("a look at %s failed", self._store.path, exc_info=True)
            return wire.refusal(StoreError(f"the owner could not read that: {type(error).__name__}: {error}")), b""

    def _metered(
        self, look: Callable[[], T], clock: Callable[[], float] = time.thread_time, *, brief: object = False
    ) -> T:  # fmt: skip
        """One at a time, and no more of the time than is left for it.

        Args:
            look: What is done.
            clock: How long that takes; by default without what this thread waits for a core, which costs the engine nothing.
            brief: Whether who asks can read a copy instead.
        """
        with self._turn:
            if wait := self._meter.wait(bool(self._engine.flights)):
                if brief and wait > MOST_WAIT:
                    raise wire.TooSlow("others have looked so much that there is no time left")
                time.sleep(wait)
            begun = clock()
            try:
                return look()
            finally:
                self._meter.took(clock() - begun)

    def _brief(self, asked: Mapping[str, Any], look: Callable[[float], Answer]) -> Answer:
        """Look for so many seconds: for few where the engine works and who asks can read a copy of the file instead."""
        brief, begun = bool(asked.get("brief") and self._engine.flights), time.monotonic()
        try:
            return look(BRIEF_SECONDS if brief else QUERY_SECONDS)
        except QueryRefused as error:
            if brief and time.monotonic() - begun >= BRIEF_SECONDS:
                raise wire.TooSlow(str(error)) from error
            raise

    def _read(self, query: str, values: list[Any], seconds: float) -> Answer:
        return _packed(self._store.page(query, values, MOST_ROWS + 1, seconds))

    def _select(self, query: str, seconds: float) -> Answer:
        return _packed(self._store.query(query, Limits(seconds, SQL_BYTES)))

    def _live(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the engine alone knows of an instance; None: it does not work on it."""
        live = self._engine.live.get(_id(asked))
        if live is None:
            return None
        return {
            "id": live.id, "status": live.status.value, "counts": live.stored_counts, "progress": live.share,
            "rate": live.rate(), "eta": live.eta(self._engine.clock.now()), "etas": live.step_etas(), "started_us": live.started_us, "why": self._engine.hindrance(live), "hung": self._engine.hung(),
            "running": self._engine.now.running(live), "workers": self._engine.now.workers(live), "failing": live.failing, "reused": live.reused,
            "life": live.life, "spare": self._meter.is_spare(bool(self._engine.flights)),
        }  # fmt: skip

    # --- end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Answer nobody any more. May be called twice."""
        if wire.found_at(self._store.path) == self.address:
            with suppress(OSError):
                wire.beside(self._store.path).unlink()
        self._closing = True
        with (
            suppress(OSError),
            socket.socket(self._server.socket.family) as knock,
        ):  # else it is noticed at the next look
            knock.settimeout(0.5)
            knock.connect(self.address.at)
        self._thread.join()
        self._let_go()

    def _let_go(self) -> None:
        self._server.server_close()
        for client in tuple(self._open):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._remove()


class _Threads(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("a look ended in an error", exc_info=True)  # noqa: LOG014 - it is called while one is handled


class _Tcp(_Threads, socketserver.TCPServer):
    allow_reuse_address = True


class _Unix(_Threads, socketserver.UnixStreamServer):
    pass


def _plain(at: Any) -> str | tuple[str, int]:
    return at if isinstance(at, str) else (str(at[0]), int(at[1]))


def _is_same_user(client: socket.socket) -> bool:
    """Whether the process at the other end is this user's, or root's; where the system does not tell, the folder's mode is relied on."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (os.getuid(), 0)


def _id(asked: Mapping[str, Any]) -> int:
    number = ranges.index(asked.get("instance"))
    if number is None or not 0 <= number <= ranges.MAX_ID:
        raise NotFoundError(f"an instance is named by its id, a whole number, not {asked.get('instance')!r}")
    return number


def _values(asked: Mapping[str, Any]) -> list[Any]:
    values = asked.get("values", [])
    if not isinstance(values, list):
        raise TypeError("values come as a list")
    return values  # pyright: ignore[reportUnknownVariableType]


def _readable(query: str) -> str:
    """The name of a query that only reads."""
    if not is_read(query):
        raise QueryRefused(f"there is no view {query[:100]!r} that can be looked at")
    return query


def _packed(frame: Any) -> Answer:
    """A frame as Arrow IPC.

    Raises:
        QueryRefused: It has too many rows.
    """
    if frame.height > MOST_ROWS:
        raise QueryRefused(
            f"more than {MOST_ROWS:,} rows: ask for a page, with limit= and offset=, or copy the store (batch.backup)"
        )
    rows = frame.write_ipc_stream(None).getvalue()
    if len(rows) > wire.MOST_ANSWERED:
        raise QueryRefused(
            f"{len(rows):,} bytes are more than is sent at once: ask for a page, with limit= and offset="
        )
    return {}, rows

"""The looker's side: a store that is read without its lock.

While an owner answers, every read is a request to it. Else it is read from a copy of the file, which is made again once the
file has changed. Which of the two may change at any moment: an owner comes, goes, or dies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from nbbatch.base.errors import StateError, StoreClosed, StoreError, StoreUnreadable
from nbbatch.serving import wire
from nbbatch.serving.client import ANSWER_SECONDS, HELLO_SECONDS, Client
from nbbatch.serving.copied import Copy
from nbbatch.serving.wire import Address, Order
from nbbatch.store import copying
from nbbatch.store.database import Store
from nbbatch.store.reading import Reader
from nbbatch.store.user_query import Limits

if TYPE_CHECKING:
    import polars as pl

OWNERS = 3
"""How many owners, one after another, a read is asked of."""
READ_SECONDS = 15.0
"""For an answer, where a copy can be read instead."""
SILENT_SECONDS = 10.0
"""Until an owner that did not answer is asked again."""
AGAIN_SECONDS = 0.5
"""Between two attempts to find an owner, and between two looks at whether a copy is still good."""


class Held(NamedTuple):
    """A store that this process has open itself."""

    store: Store
    order: Order


class Looked(Reader):
    """A store as somebody else sees it: through its owner, else from a copy."""

    def __init__(self, path: str, own: Callable[[str], Held | None], address: Address | None = None) -> None:
        """Look for the first time.

        Args:
            path: Of the store, resolved.
            own: Gives the store of a path that this process has open itself: opening and closing its file once more would lose
                DuckDB's lock on it.
            address: Of its owner, if it is not to be found beside the store; then no copy is made.

        Raises:
            StoreUnreadable: There is no store, or it is damaged.
            StoreError: Nobody answers at the address.
        """
        super().__init__(path)
        self._address, self._own = address, own
        self._guard = threading.RLock()
        self._client: Client | None = None
        self._copy: Copy | None = None
        self._asked = -AGAIN_SECONDS
        self._silent = False
        self._within = READ_SECONDS if address is None else ANSWER_SECONDS
        self.closed = False
        self.busy = False
        """Whether its owner had no time for many reads when an instance that it works on was asked for last."""
        with self._guard:
            if self._connected() is None:
                self._at_hand()
        if self._client and address:
            self.path = self._client.path

    # --- where from -------------------------------------------------------------------------------

    @property
    def via(self) -> str:
        """How the store is seen just now."""
        if self.owner is not None:
            return "owner"
        return "batch" if self._own(self.path) else "copy"

    @property
    def owner(self) -> int | None:
        """The process id of the owner, if one answers."""
        return self._see(lambda owner: owner.ask("hello", HELLO_SECONDS)[0]["pid"])

    @property
    def age(self) -> float:
        """Seconds since what is seen was so: 0 with an owner."""
        if self.via != "copy":
            return 0.0
        with self._guard:
            return time.monotonic() - self._copy.taken if self._copy else 0.0

    def _connected(self) -> Client | None:
        if self.closed:
            raise StoreClosed(f"this look at {self.path} is closed; nb.look() opens another one")
        if self._client is None and time.monotonic() - self._asked >= AGAIN_SECONDS:
            self._asked = time.monotonic()
            address = self._address or wire.found_at(self.path)
            self._meet(address)
        if self._client is not None:
            self._drop_copy()
        return self._client

    def _drop_copy(self) -> None:
        """What is newer was seen: a look never goes back."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def _meet(self, address: Address | None) -> None:
        self._silent = False
        try:
            self._client = Client(address) if address else None
        except TimeoutError:
            self._ignore()
        except OSError:
            pass

    def _ignore(self) -> None:
        """The owner does not answer, being stopped, say: do without it for a while."""
        self._silent, self._asked = True, time.monotonic() + SILENT_SECONDS

    def _at_hand(self) -> Store:
        """The store itself, if this process has it open, or a copy of how the file is now."""
        if (own := self._own(self.path)) is not None:
            self._drop_copy()
            return own.store
        if self._address is not None:
            raise StoreError(
                f"nobody answers at {':'.join(map(str, self._address.at))}: the store is closed there or opened anew, the connection is cut, "
                "or the token is another one"
            )
        if self._copy is not None and time.monotonic() - self._copy.taken < AGAIN_SECONDS:
            return self._copy.store
        with suppress(OSError, StoreUnreadable):
            source = copying.Source(self.path)
            try:
                same = self._copy is not None and self._copy.state == source.newest()
            finally:
                source.close()
            if same and self._copy is not None:
                self._copy.taken = time.monotonic()
                return self._copy.store
        before, self._copy = self._copy, Copy(self.path)
        if before is not None:
            before.close()
        return self._copy.store

    def _see(self, ask: Callable[[Client], Any], read: Callable[[Store], Any] | None = None) -> Any:
        """What the owner answers, or else what the copy says; None where an owner alone can say it."""
        for _ in range(OWNERS):
            with self._guard:
                client = self._connected()
            if client is None:
                break
            try:
                return ask(client)
            except wire.TooSlow:
                break
            except TimeoutError:
                self._lost(client)
                self._ignore()
                break
            except OSError:
                self._lost(client)
        if read is None:
            return None
        with self._guard:
            return read(self._at_hand())

    def _lost(self, client: Client) -> None:
        """The owner is gone: another one may have come at once."""
        with self._guard:
            if self._client is client:
                self._client, self._asked = None, -AGAIN_SECONDS
        client.close()

    # --- reading ----------------------------------------------------------------------------------

    def frame(self, query: str, *values: Any) -> pl.DataFrame:
        """Rows of a named query as a polars frame."""
        return self._see(
            lambda owner: _unpacked(
                owner.ask("read", self._within, query=query, values=list(values), brief=self._address is None)[1]
            ),
            lambda store: store.frame(query, *values),
        )

    def fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a named query."""
        return [tuple(map(_whole, row)) for row in self.frame(query, *values).iter_rows()]

    def dicts(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a named query by column name."""
        frame = self.frame(query, *values)
        return [dict(zip(frame.columns, map(_whole, row), strict=True)) for row in frame.iter_rows()]

    def count(self, query: str, *values: Any) -> int:
        """How many rows a named query has."""
        return self._see(
            lambda owner: owner.ask("count", self._within, query=query, values=list(values))[0]["count"],
            lambda store: store.count(query, *values),
        )

    def query(self, sql: str, limits: Limits) -> pl.DataFrame:
        """Rows of one SELECT that a user wrote."""
        return self._see(
            lambda owner: _unpacked(owner.ask("sql", self._within, query=sql, brief=self._address is None)[1]),
            lambda store: store.query(sql, limits),
        )

    def stream(self, query: str, *values: Any) -> Callable[[], Iterator[bytes]]:
        """A reader of one column of a named query."""
        return lambda: (row[0] for row in self.fetch(query, *values))

    def live(self, instance: int) -> dict[str, Any] | None:
        """What the owner's engine knows of an instance; None: no engine works on it."""
        said = self._see(lambda owner: owner.ask("live", self._within, instance=instance)[0]["live"])
        self.busy = said is not None and not said["spare"]
        return said

    def order(self, do: str, instance: int | None = None, **more: Any) -> Any:
        """Have the owner do something.

        Args:
            do: One of `wire.ORDERS`, or of `wire.STORE_ORDERS`.
            instance: For which; None: for the whole store.
            more: Further values of the order.

        Raises:
            StateError: Nobody holds the store.
            NbbatchError: As the owner refuses it.
        """
        self._asked = -AGAIN_SECONDS  # an owner may have come just now
        client = self._see(
            lambda owner: owner.ask("hello", HELLO_SECONDS) and owner
        )  # one that is gone is found out here
        what = do if instance is None else f"{do} instance {instance}"
        if client is None:
            if (own := self._own(self.path)) is not None:
                return own.order(do, instance, more)
            if self._silent:
                raise StateError(
                    f"the process that holds {self.path} does not answer, and was not asked to {what}: is it stopped?"
                )
            raise StateError(f"no process has {self.path} open that could {what}; open it with nb.open({self.path!r})")
        try:
            return client.ask(do, instance=instance, **more)[0]["done"]
        except OSError as error:  # it is not asked of another owner: it may have been done
            self._lost(client)
            raise StoreError(
                f"the process that holds {self.path} went away before it said whether it did {what}"
            ) from error

    def close(self) -> None:
        """Look no more. May be called twice."""
        with self._guard:
            self.closed = True
            for each in (self._client, self._copy):
                if each is not None:
                    each.close()
            self._client = self._copy = None


def _unpacked(rows: bytes) -> pl.DataFrame:
    import polars as pl

    return pl.read_ipc_stream(BytesIO(rows))


def _whole(value: Any) -> Any:
    """DuckDB sums whole numbers as such of 128 bits, which come as decimals."""
    return int(value) if isinstance(value, Decimal) else value

"""Digests of big values that code refers to: tables, arrays, long texts. None is copied as a whole to be digested.

Where worker processes have a copy of a value in a file, comparing with that is quicker than a digest. What `shared` makes is
read once.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (values of user code are Any all the way down)

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakSet

LONG = 10_000
"""Characters or bytes of a text that is told by its digest."""
_TABLES = {"numpy", "pandas", "polars", "pyarrow"}
"""Libraries whose values show only their first and last rows as text."""
BIG = 1_000_000
"""Bytes from which on it is looked for a copy."""
T = TypeVar("T")
_Seen = dict[int, tuple[Any, str]]
_seen: ContextVar[_Seen | None] = ContextVar("seen", default=None)


class Copies(Protocol):
    """Whoever has copies of big values."""

    def find(self, data: bytes, buffers: list[pickle.PickleBuffer]) -> str | None:
        """The name of a copy that holds just this, which no other copy of anybody has; None: there is none."""
        ...


copies = WeakSet[Copies]()
"""To be asked."""
_digests: dict[str, str] = {}
"""By the names of copies."""
_looked: dict[int, tuple[Any, str]] = {}
"""The values of the last look, and the names of their copies."""


class Shared(Generic[T]):
    """A value that does not change, as `shared` makes it.

    Attributes:
        value: It.
    """

    __slots__ = ("__weakref__", "_digest", "value")

    def __init__(self, value: T) -> None:
        """As `shared`."""
        self.value, self._digest = value, ""

    def digest(self) -> str:
        """A text that is equal for equal values; made once."""
        if not self._digest:
            try:
                self._digest = _told(self.value, _by_rows(self.value) or _by_parts(self.value))
            except Exception:  # it cannot be pickled
                self._digest = repr(self)
        return self._digest

    def __reduce__(self) -> tuple[type[Shared[T]], tuple[T]]:
        return Shared, (self.value,)

    def __repr__(self) -> str:
        return f"<shared {type(self.value).__qualname__}>"

    if not TYPE_CHECKING:  # who checks types is told by the checker

        def __getattr__(self, name: str) -> None:
            raise AttributeError(f"a shared value has no {name!r} of its own: write .value, as in table.value.{name}")

        def __getitem__(self, key: object) -> None:
            raise TypeError("a shared value has no items of its own: write .value, as in table.value[…]")


def shared(value: T) -> Shared[T]:
    """Say of a big value that it does not change, so that it is read once and goes to each worker once.

    Without it a table, array or long text that a step uses is read at each submit, to see whether it has changed; so is a model or any
    other object when a step of another run first uses it. Steps say ``table.value``. With threads it is the object itself; worker
    processes of a machine have its arrays in memory once; workers of a cluster get it once each.

    Args:
        value: Anything that can be pickled. What is changed in it later no worker sees.

    Example:
        >>> rates = nb.shared({"CHF": 0.9})
        >>> @nb.step
        ... def rate(order: Order) -> float:
        ...     return rates.value["CHF"]
        >>> nb.testing.run_step(rate, Order(id=1, price="2.50")).outputs
        [0.9]
    """
    return Shared(value)


@contextmanager
def one_look() -> Generator[None]:
    """Digest each value once for all steps that are looked at here."""
    before = _seen.set({})
    _looked.clear()
    try:
        yield
    finally:
        _seen.reset(before)


def copy_of(value: Any) -> str | None:
    """The name of the copy that a value was found to be equal to in the last look; None: it was not, or not looked at."""
    found = _looked.get(id(value))
    return found[1] if found is not None and found[0] is value else None


def digest_of(value: Any) -> str:
    """A short text that is equal for equal tables, arrays and long texts; "" of anything else, and of those that have none."""
    kind: type = type(value)
    if isinstance(value, Shared):
        return value.digest()  # pyright: ignore[reportUnknownVariableType]
    if kind in (str, bytes):
        return _told(value, _digest(value)) if len(value) > LONG else ""
    if kind.__module__.partition(".")[0] not in _TABLES:
        return ""
    seen = _seen.get()
    if seen is not None and id(value) in seen:
        return seen[id(value)][1]
    found = ""
    with suppress(Exception):  # what cannot be pickled is told by its text
        found = _told(value, _by_rows(value) or _by_parts(value))
    if seen is not None:
        seen[id(value)] = value, found
    return found


def _told(value: Any, digest: str) -> str:
    return f"<{type(value).__qualname__} {digest}>"


def _digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
    return found.hexdigest()[:12]


def _by_rows(value: Any) -> str:
    """Of a polars frame or series, whose pickle is a copy; "" of anything else, and where it holds Python objects."""
    kind: type = type(value)
    if kind.__module__.partition(".")[0] != "polars" or kind.__name__ not in ("DataFrame", "Series"):
        return ""
    frame = value if kind.__name__ == "DataFrame" else value.to_frame()
    if "Object" in str(frame.schema):
        return ""
    rows = frame.hash_rows(0).to_frame().write_ipc_stream(None)
    return _digest(f"{frame.schema} {frame.shape}", rows.getbuffer())


def _by_parts(value: Any) -> str:
    """By its pickle, with the memory of arrays left where it is."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raw = [each.raw() for each in buffers]
    big = len(head) + sum(map(len, raw)) >= BIG
    copy = _found(head, buffers) if big else ""
    if copy:
        _looked[id(value)] = value, copy
    if copy in _digests:
        return _digests[copy]
    digest = _digest(head, *raw)
    if copy:
        _digests[copy] = digest
    return digest


def _found(head: bytes, buffers: list[pickle.PickleBuffer]) -> str:
    """The name of a copy; "": there is none, or another thread adds or removes one just now."""
    with suppress(RuntimeError, ValueError):
        return next((found for each in copies if (found := each.find(head, buffers))), "")
    return ""

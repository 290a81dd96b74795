"""What worker processes have of the code and the big values that `travel` sends them."""

from __future__ import annotations

import linecache
import mmap
import pickle
import threading
from collections.abc import Collection, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from nbbatch.worker.travel import ALIGNED, MOST, MOST_BYTES


class Missing(NamedTuple):
    """What a worker answers that lacks values."""

    names: tuple[str, ...]


class Lacking(Exception):
    """A worker lacks a value."""


_here: dict[str, tuple[Any, int]] = {}
"""The values that this worker process has, and their sizes, by name; what was needed last is last."""
_lock = threading.Lock()
main: ModuleType | None = None
"""Of a worker process of ours; None in one of somebody else, whose main module is not ours to fill."""


def need(names: Collection[str]) -> bool:
    """Keep these, and of others as many as there is room for. Returns whether those were too big."""
    with _lock:
        for name in names:
            if name in _here:
                _here[name] = _here.pop(name)
        others = [name for name in _here if name not in names]
        are_too_big = bool(others) and _size() > MOST_BYTES
        while others and (len(_here) > MOST or _size() > MOST_BYTES):
            del _here[others.pop(0)]
    return are_too_big


def _size() -> int:
    return sum(size for _, size in _here.values())


def keep(name: str, data: bytes) -> None:
    """Have a value in this process that travelled as bytes."""
    if lacking([name]):
        _add(name, memoryview(bytearray(data)))


def lacking(names: Iterable[str]) -> tuple[str, ...]:
    """Those that this process lacks."""
    with _lock:
        return tuple(name for name in names if name not in _here)


def here(name: str) -> Any:
    """A value that this process has.

    Raises:
        Lacking: It has it not.
    """
    with _lock:
        found = _here.get(name)
    if found is None:
        raise Lacking(name)
    return found[0]


def find(paths: Mapping[str, str]) -> None:
    """Have values in this process that lie in files of this machine."""
    for name in lacking(paths):
        with Path(paths[name]).open("rb") as file:
            _add(name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))


def _add(name: str, view: memoryview) -> None:
    count = int.from_bytes(view[:8], "little")
    lengths = [int.from_bytes(view[8 * place : 8 * place + 8], "little") for place in range(1, count + 1)]
    at, pieces = 8 * (count + 1), list[memoryview]()
    for length in lengths:
        at += -at % ALIGNED
        pieces.append(view[at : at + length])
        at += length
    value = _Unpickler(BytesIO(pieces[0]), buffers=pieces[1:]).load()  # it may hold others, which came before it
    with _lock:
        _here[name] = value, len(view)


def loads(data: bytes) -> tuple[Any, list[Any]]:
    """Code that was made by `travel.Values.packed`, and what of it the notebook or script has by a name.

    Raises:
        Lacking: This process has not all of its values.
    """
    stream = BytesIO(data)
    cells: dict[str, str] = pickle.load(stream)  # noqa: S301 - made by `Values`, as the code is
    for name, text in cells.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    unpickler = _Unpickler(stream)
    return unpickler.load(), unpickler.load()


def publish(named: Iterable[Any]) -> None:
    """Have the main module hold what that of the notebook or script holds: steps may pickle it, and pickle finds it by its name."""
    if main is not None:
        for each in named:
            setattr(main, each.__name__, each)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: str) -> Any:
        return here(pid)

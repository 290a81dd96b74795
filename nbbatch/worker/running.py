"""Which chunks were running when a process died: a small file of slots beside the store, mapped into memory.

A claim covers a micro-batch, most of which has not begun when a kill comes; charging all of it with a lost attempt would
fail chunks that never ran. So each worker writes the chunk it begins into a slot and 0 when it has ended. What is
written to a shared mapping outlives the process, SIGKILL included, and costs a fraction of a microsecond. A machine
that loses power may lose the marks; then no chunk is charged.

The file is made anew by each opening, under a token of its own, so that neither a worker that outlived its parent nor one
that is kept for a second opening writes into marks that are not its own. A file of that name that is not one of ours, a
link or anything else that is no plain file, is left alone, and the store is refused. It may be read by whoever may read the
store. The token begins with the number of the opening: a store that does not know it has lost its write-ahead log. Then the
process that made it follows, which has the file locked as long as it has the store open (see `locks`).
"""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from nbbatch.base import locks
from nbbatch.base.errors import StoreLocked, StoreUnreadable
from nbbatch.base.private_file import make_beside

SLOTS = 4096
"""Chunks that can be marked at once; what runs beyond them is not charged when it is lost."""
UNKNOWN = -1
"""In a slot: a worker process has begun its micro-batch, and runs none of its chunks just now."""
TOLD_EACH = 256
"""Of the outputs of a fan-out so many are told one by one as they come …"""
TOLD_SOME = 64
"""… and then every so many."""
QUICK_US = 1_000
"""Of chunks that take less it is not told one by one since when they run."""
CALLED_OFF = -1
"""In the place of a beginning: the engine tells the worker that nobody waits for it."""
_MAGIC = b"nbbatch running2"
_OLD_MAGIC = b"nbbatch running\n"
"""As above, before tokens began with the number of the opening."""
_HEAD = 32
"""Bytes before the slots: the magic ones, and the token of the opening that made the file."""
_COLUMNS = 5
"""Numbers that a slot has."""
_SIZE = _HEAD + SLOTS * 8 * _COLUMNS
_OLD_SIZE = _HEAD + SLOTS * 16
"""Of files from before slots told since when a chunk runs."""
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Follow no link, wait for no pipe."""


class Slots:
    """The slots of one opening of a store, as its workers write them."""

    where: tuple[str, bytes] | None = None
    """For worker processes: the file, and the token of the opening. None: they are in this process's memory only."""

    def __init__(self, mapped: mmap.mmap) -> None:
        view = memoryview(mapped)[_HEAD:].cast("q")
        columns = [view[place * SLOTS : (place + 1) * SLOTS] for place in range(_COLUMNS)]
        self.cells = columns[0]
        """What workers write: ``cells[slot] = chunk``; 0: none. Writing one is a single store of eight bytes."""
        self.begun_us = columns[1]
        """When a worker process began what a slot is for (`steady_us`), where the step has a time limit; 0: not yet, or not asked for;
        `CALLED_OFF`: its result is not wanted any more."""
        self.since_us = columns[2]
        """When the chunk of a slot was begun, by the clock of stored times; of quick ones right to a millisecond."""
        self.given = columns[3]
        """Outputs that the chunk of a slot has given so far, where its step gives many."""
        self.workers = columns[4]
        """Who writes to a slot: the number of a thread in this process, that of a process elsewhere."""

    def cell(self, slot: int) -> Cell:
        """Where one worker says what it runs."""
        return Cell(self.cells, self.since_us, self.given, slot)


class Cell(NamedTuple):
    """Where to say which chunk runs, 0 for none, since when, and how much it has given: ``cell.chunk[cell.slot] = 7``."""

    chunk: Any
    since_us: Any
    given: Any
    slot: int


def no_cell() -> Cell:
    """Where nobody looks."""
    return Cell([0], [0], [0], 0)


class Marks(Slots):
    """The slots as the engine hands them out."""

    def __init__(self, store: str | None, session: int) -> None:
        """Make the file, in the place of what an earlier process left.

        Args:
            store: Path of the store that it belongs to; None: in memory only.
            session: Number of the store's opening.

        Raises:
            StoreUnreadable: It cannot be made.
        """
        path = None if store is None else name_of(store)
        token = struct.pack("<qi", session, os.getpid())
        token += secrets.token_bytes(_HEAD - len(_MAGIC) - len(token))
        self._lock: int | None = None
        super().__init__(mmap.mmap(-1, _SIZE) if store is None or path is None else self._made(path, token, store))
        self.where, self._store = None if path is None else (path, token), store
        self._free = list(range(SLOTS - 1, -1, -1))

    def take(self, count: int) -> list[int]:
        """Reserve up to ``count`` slots."""
        return [self._free.pop() for _ in range(min(count, len(self._free)))]

    def give_back(self, slots: Iterable[int]) -> None:
        """Clear slots and have them handed out again."""
        for slot in slots:
            self.cells[slot] = self.begun_us[slot] = self.workers[slot] = 0
            self._free.append(slot)

    def forget(self) -> None:
        """Have nothing count as running, as the process ends, whatever workers still write: a new file takes the place of theirs."""
        if self.where is not None and self._store is not None and _token(self.where[0]) == self.where[1]:
            with suppress(StoreUnreadable):
                self._made(*self.where, self._store).close()

    def _made(self, path: str, token: bytes, store: str) -> mmap.mmap:
        """A new file, locked."""
        mapped, lock = _made(path, token, Path(store))
        locks.let_go(self._lock)
        self._lock = lock
        return mapped

    def close(self) -> None:
        """Remove the file: a store that was closed has nothing running. May be called twice.

        What an attempt writes that is left running goes into the mapping, which nobody reads any more.
        """
        try:
            if self.where is not None and _token(self.where[0]) == self.where[1]:
                Path(self.where[0]).unlink(missing_ok=True)
        finally:
            locks.let_go(self._lock)


def name_of(store: str) -> str:
    """Path of the file for a store."""
    return f"{store}.running"


@lru_cache(maxsize=16)
def slots_of(path: str, token: bytes) -> Slots | None:
    """The slots of one opening in a worker process; None where they are not: on another host, or once it was closed."""
    with suppress(OSError):
        mapped = _mapped(path)
        if mapped[:_HEAD] == _MAGIC + token:
            return Slots(mapped)
    return None


class Left(NamedTuple):
    """What an earlier process left that died."""

    chunks: frozenset[int] = frozenset()
    """Those that were running."""
    session: int = 0
    """Number of its opening of the store; 0: not known."""


def left(store: str | None) -> Left:
    """What an earlier process left beside a store.

    Raises:
        StoreLocked: That process lives, and has the store open.
        StoreUnreadable: What stands there is no file of ours, or cannot be read.
    """
    if store is None:
        return Left()
    path = name_of(store)
    try:
        data, is_locked = _read(path, _SIZE)
    except FileNotFoundError:
        return Left()
    except OSError as error:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _foreign(path) from error
        why = (
            f"was left by an earlier process and cannot be read: {error.strerror}. Change its permissions, or remove it"
        )
        raise _refused(path, why) from error
    if len(data) not in (_SIZE, _OLD_SIZE) or not data.startswith((_MAGIC, _OLD_MAGIC)):
        raise _foreign(path)
    session, pid, *slots = struct.unpack(f"<qi4x{SLOTS}q", data[len(_MAGIC) : _HEAD + SLOTS * 8])
    if is_locked:
        raise StoreLocked(store, pid)
    return Left(frozenset(each for each in slots if each > 0), session if data.startswith(_MAGIC) else 0)


def _made(path: str, token: bytes, store: Path) -> tuple[mmap.mmap, int | None]:
    """A new file in the place of an old one, which stays as it is for whoever has it mapped; and its lock."""
    new, lock = f"{path}.new", None
    try:
        fd = _created(new, store)
        with os.fdopen(fd, "wb", buffering=0) as file:
            # written, not stretched: a hole that the disk has no room for would end the process by SIGBUS
            _write(file.fileno(), _MAGIC + token + bytes(_SIZE - _HEAD))
        lock = locks.locked(new)
        Path(new).replace(path)
        return _mapped(path), lock
    except OSError as error:
        locks.let_go(lock)
        with suppress(OSError):
            Path(new).unlink()
        raise _refused(
            path, f"could not be written: {error.strerror}. Free disk space, or open another path"
        ) from error


def _created(path: str, store: Path) -> int:
    """Create a file that is not there; what a process left that was killed here is replaced."""
    with suppress(FileExistsError):
        return make_beside(store, path, flags=_PLAIN)
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or (found.st_size and _token(path) is None):
        raise _foreign(path)
    Path(path).unlink()
    return make_beside(store, path, flags=_PLAIN)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _mapped(path: str) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | _PLAIN)
    try:
        return mmap.mmap(fd, _SIZE)
    except ValueError as error:  # it is shorter
        raise OSError(0, str(error)) from error
    finally:
        os.close(fd)


def _token(path: str) -> bytes | None:
    """The token in a file of ours; None: it is gone, or another one."""
    with suppress(OSError):
        head, _ = _read(path, _HEAD)
        return head[len(_MAGIC) :] if head.startswith((_MAGIC, _OLD_MAGIC)) else None
    return None


def _read(path: str, size: int) -> tuple[bytes, bool]:
    """The first bytes of a plain file under one name (writing through a hard link would change another file), and whether it is locked.

    Of all else nothing.
    """
    fd = os.open(path, os.O_RDONLY | _PLAIN)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return b"", False
        return os.read(fd, size), locks.is_locked(fd)
    finally:
        os.close(fd)


def _foreign(path: str) -> StoreUnreadable:
    return _refused(
        path,
        "is in the way: the store needs this name to note what runs, and it is no file of nbbatch. It was left as it "
        "is: move it away, or open the store under another name",
    )


def _refused(path: str, why: str) -> StoreUnreadable:
    return StoreUnreadable(f"{path} {why}")

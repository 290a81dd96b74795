"""Copies of a store that another process, or this one, is writing: whole ones, as of a moment between two transactions.

DuckDB appends transactions to a log beside the file, and now and then writes them into the file: first into free blocks,
then with a new header that makes them count, and then it empties the log. So a copy of both is whole if no header came
while it was made: the file's header, size and time are the same before and after, and the log is the same file. What was
appended to the log meanwhile is a whole transaction or none.

No lock is taken. A process that has a file locked loses the lock once it closes any descriptor of that file; so descriptors
of a store that this process opens, or has open, are closed after it (see `keep`).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from nbbatch.base.errors import StoreError, StoreUnreadable

HEADERS = 3 * 4096
"""Bytes at the file's beginning whose change makes what was written count."""
TRIES = 40
FREE_TRIES = 5
PAUSE_SECONDS = 0.05
_BLOCK = 1 << 20

Hold = Callable[[Callable[[], bool]], bool]

_guard = threading.Lock()
_open: dict[str, list[BinaryIO]] = {}
"""The stores that this process has locked or is about to lock, each with descriptors that are closed after it."""


def keep(path: str) -> None:
    """DuckDB is about to lock this file: from now on none of its descriptors is closed, until `let_go`. May be called twice."""
    with _guard:
        _open.setdefault(path, [])


def let_go(path: str) -> None:
    """DuckDB has closed it. May be called twice."""
    with _guard:
        for each in _open.pop(path, ()):
            each.close()


def check_other_names(path: Path) -> None:
    """DuckDB finds a log by the name it was opened by: under another one, what is in the log would be lost.

    Raises:
        StoreUnreadable: There is a log beside another name of a file.
    """
    if not path.exists() or path.stat().st_nlink == 1:
        return
    for wal in path.parent.glob("*.wal"):
        other = wal.with_suffix("")
        if other != path and other.exists() and other.samefile(path):
            raise StoreUnreadable(
                f"{path} is another name of {other}, beside which {wal.name} holds its newest changes: open it by that name"
            )


class Source:
    """A store's file as it is copied."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            StoreUnreadable: There is none, it cannot be read, or its log lies beside another name of it.
        """
        self.path = Path(path)
        self.log = Path(f"{path}.wal")
        check_other_names(self.path)
        self._file = _opened(self.path)

    def renew(self) -> None:
        """Have it be the file that the path leads to: a store that is closed may be written anew.

        Raises:
            StoreUnreadable: There is none any more.
        """
        if not self.is_there():
            self.close()
            self._file = _opened(self.path)

    def close(self) -> None:
        """Let go of it; of a store that this process opens or has open only once that is closed."""
        with _guard:
            kept = next((kept for path, kept in _open.items() if self._is(path)), None)
            if kept is None:
                self._file.close()
            else:
                kept.append(self._file)

    def read(self, place: int, size: int) -> bytes:
        """Bytes of the file."""
        return os.pread(self._file.fileno(), size, place)

    def state(self) -> object:
        """What is the same before and after a copy that is whole, and as long as nothing was stored."""
        found = os.fstat(self._file.fileno())
        head = os.pread(self._file.fileno(), HEADERS, 0)
        return head, found.st_size, found.st_mtime_ns, self._log_file()

    def newest(self) -> object:
        """What differs once anything was stored."""
        try:
            log = self.log.stat().st_size
        except FileNotFoundError:
            log = 0
        return self.state(), log

    def _log_file(self) -> object:
        try:
            found = self.log.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def copy(self, to: Path) -> bool:
        """Copy file and log; returns whether the copy is whole."""
        before = self.state()
        with _created(to) as file:
            self.write_to(file)
        log = Path(f"{to}.wal")
        # last what a checkpoint keeps that goes on: blocks of the copy may be half written
        for each in (log, Path(f"{to}.blocks")):
            each.unlink(missing_ok=True)
            mine = Path(f"{self.path}{each.name.removeprefix(to.name)}")
            with suppress(FileNotFoundError), mine.open("rb") as found, _created(each) as file:
                shutil.copyfileobj(found, file, _BLOCK)
        return before == self.state() and self.is_there()

    def write_to(self, file: BinaryIO) -> None:
        """Copy the file alone."""
        file.writelines(self._parts())

    def is_same(self, other: Path) -> bool:
        """Whether another file holds the same as this one."""
        if not other.is_file() or other.stat().st_size != os.fstat(self._file.fileno()).st_size:
            return False
        with other.open("rb") as file:
            return all(part == file.read(len(part)) for part in self._parts())

    def _parts(self) -> Iterator[bytes]:
        place = 0
        while part := self.read(place, _BLOCK):
            yield part
            place += len(part)

    def is_there(self) -> bool:
        """Whether the path still leads to this file: its log is found by the path."""
        return self._is(self.path)

    def _is(self, path: str | Path) -> bool:
        with suppress(OSError):
            return os.path.samestat(Path(path).stat(), os.fstat(self._file.fileno()))
        return False


def take(
    source: Source, to: Path, wait: Callable[[float], object] = time.sleep, hold: Hold | None = None
) -> None:  # fmt: skip
    """Copy a store until a copy is whole.

    Args:
        source: Of the store.
        to: Where the copy goes; its log goes beside it.
        wait: Sleeps between two tries.
        hold: Runs a function while nothing is written; asked for after `FREE_TRIES`. None: nobody can do that.

    Raises:
        StoreError: Each time it was written to meanwhile.
    """
    for made in range(TRIES):
        if hold is None:
            source.renew()
        if source.copy(to) if hold is None or made < FREE_TRIES else hold(lambda: source.copy(to)):
            return
        wait(PAUSE_SECONDS)
    for each in ("", ".wal", ".blocks"):
        Path(f"{to}{each}").unlink(missing_ok=True)
    raise StoreError(
        f"{source.path} was written to each of {TRIES} times that it was copied; try again when less is going on"
    )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreUnreadable(f"{path} cannot be read: {error.strerror}") from error


def _created(path: Path) -> BinaryIO:
    """A file for this user alone, in the place of one that was made here before."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

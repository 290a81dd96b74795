"""Temporary folders for this user alone: gone with what they were made for, or, where their process was killed, at the next `sweep`."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PREFIX = "nbbatch-"
_LOCK = "lock"
SHORT = "/tmp"  # noqa: S108 - only folders of this user alone are made and removed in it
"""Where a folder is made whose path has to be short."""


IN_MEMORY = "/dev/shm"  # noqa: S108 - as above
"""Where files lie that are in memory anyway, on systems that have it."""


HIDDEN = "."
"""How the name of a folder begins that is made among files of the user."""


def made_for(
    keeper: object, kind: str, within: str | None = None, *, beside: bool = False
) -> tuple[str, Callable[[], object]]:
    """A new folder, and what removes it; that is done at the latest when nothing refers to its keeper any more, or at exit.

    A file in it is locked for as long as this process lives.

    Args:
        keeper: What it is made for.
        kind: Part of its name.
        within: The folder that it is made in; None: that for temporary files.
        beside: That is a folder of the user's, which `sweep_beside` looks through.
    """
    folder = tempfile.mkdtemp(prefix=f"{HIDDEN * beside}{_PREFIX}{kind}-", dir=within)  # mode 0700
    new = Path(folder) / "new"
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with suppress(OSError):  # where nothing can be locked, nothing is swept either
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    new.rename(Path(folder) / _LOCK)  # nobody sees it unlocked
    return folder, weakref.finalize(keeper, _remove, folder, lock, os.getpid())


def sweep() -> None:
    """Remove the folders of this user's processes that were killed."""
    places = {SHORT, IN_MEMORY}
    with suppress(OSError):  # there is no place for temporary files
        places.add(tempfile.gettempdir())
    for place in places:
        _sweep_all(place, _PREFIX)


def sweep_beside(place: str | Path) -> None:
    """The same in a folder of the user's."""
    _sweep_all(place, HIDDEN + _PREFIX)


def _sweep_all(place: str | Path, prefix: str) -> None:
    found = list[Path]()
    with suppress(OSError):  # it may not be read
        found = list(Path(place).glob(f"{prefix}*"))
    for folder in found:
        with suppress(OSError):  # it is in use, or gone just now, or none of ours
            _sweep(folder)


def _sweep(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _remove(folder: str, lock: int, pid: int) -> None:
    if os.getpid() == pid:  # not at the end of a child that was forked
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)

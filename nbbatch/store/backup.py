"""A whole copy of a store that is being worked on, in one file."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from nbbatch.base import private_folder
from nbbatch.base.display import warn
from nbbatch.base.errors import StoreError
from nbbatch.store import copying, references
from nbbatch.store.database import Store
from nbbatch.store.last_calls import busy
from nbbatch.store.queries import VIEWS

BESIDE = (".wal", ".blocks", ".running")
"""What belongs to a store's file, by the end of its name."""


def write(
    source: copying.Source, path: Path, held: Callable[[str], object], read: Callable[[bytes], bytes], *, overwrite: bool = False,
    hold: copying.Hold | None = None,
) -> Path:  # fmt: skip
    """Copy a store into one file, which takes its place once it is whole and was opened.

    Args:
        source: The store.
        path: Where to.
        held: Tells whether this process has the store at a resolved path open.
        read: Gives a value that lies in a file, which the copy then has itself.
        overwrite: Replace a file that is there.
        hold: As for `copying.take`.

    Returns:
        The path, resolved.

    Raises:
        FileExistsError: There is a file already.
        StoreError: It cannot be written, is a store that is open, or the store was written to all the time.
    """
    path = path.expanduser().resolve()
    _check_free(path, overwrite)
    _check_unused(Path(source.path), path, held)
    private_folder.sweep_beside(path.parent)
    try:
        with _folder_in(path.parent) as folder:
            copy = folder / "copy.duckdb"
            copying.take(source, copy, hold=hold)
            _fill(copy, read)
            _check_free(path, overwrite)
            for end in BESIDE:  # of the store that was there: none of it belongs to the copy
                Path(f"{path}{end}").unlink(missing_ok=True)
            copy.replace(path)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise StoreError(f"{path} could not be written: {error.strerror}") from error
    return path


class _Copying:
    """What a folder is made for."""


@contextmanager
def _folder_in(place: Path) -> Generator[Path]:
    """A folder beside the copy to be, so that it can be renamed; what a killed process leaves of it is removed by the next backup there."""
    keeper = _Copying()
    folder, remove = private_folder.made_for(keeper, "backup", str(place), beside=True)
    try:
        yield Path(folder)
    finally:
        remove()


@busy
def _fill(copy: Path, read: Callable[[bytes], bytes]) -> None:
    """Have what its log holds, and what lies in files beside the store, be in the one file."""
    store = opened(copy)
    try:
        missing = references.take_in(store, read)
    finally:
        store.close()
    if missing:
        warn(f"the copy lacks {len(missing):,} values: {missing[0]}")


def opened(copy: Path) -> Store:
    """A copy as a store with the views of today, for reading; it is nobody else's.

    Raises:
        StoreUnreadable: It is damaged.
    """
    store = Store(str(copy), time.time_ns() // 1000, 0)
    try:
        with store.transaction():
            store.run_script(VIEWS)
    except BaseException:
        with suppress(StoreError):
            store.close()
        raise
    return store


def _check_unused(store: Path, path: Path, held: Callable[[str], object]) -> None:
    """Raises StoreError where a copy would take the place of the store itself, or of one that a process has open."""
    with suppress(OSError):
        if path.samefile(store):
            raise StoreError(f"{path} is the store itself: write the copy to another path")
    if held(str(path)):  # and is not to be opened once more: closing that would lose DuckDB's lock on it
        raise StoreError(f"{path} is a store that is open here: write the copy to another path")
    if Path(f"{path}.wal").exists() and _is_locked(path):
        raise StoreError(f"{path} is a store that a process has open: write the copy to another path")


def _is_locked(path: Path) -> bool:
    """Whether another process has DuckDB's lock on a file that this process does not have open."""
    with suppress(FileNotFoundError):
        number = os.open(path, os.O_RDWR)
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(number)
    return False


def _check_free(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it")

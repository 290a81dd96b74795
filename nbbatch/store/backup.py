"""A whole copy of a store that is being worked on, in one file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from nbbatch.base.errors import StoreError
from nbbatch.store import copying
from nbbatch.store.database import Store
from nbbatch.store.queries import VIEWS


def write(
    source: copying.Source, path: Path, *, overwrite: bool = False, hold: copying.Hold | None = None
) -> Path:  # fmt: skip
    """Copy a store into one file, which takes its place once it is whole and was opened.

    Args:
        source: The store.
        path: Where to.
        overwrite: Replace a file that is there.
        hold: As for `copying.take`.

    Returns:
        The path, resolved.

    Raises:
        FileExistsError: There is a file already.
        StoreError: It cannot be written, or the store was written to all the time.
    """
    path = path.expanduser().resolve()
    _check_free(path, overwrite)
    try:
        with TemporaryDirectory(prefix=".nbbatch-backup-", dir=path.parent) as folder:
            copy = Path(folder) / "copy.duckdb"
            copying.take(source, copy, hold=hold)
            opened(copy).close()  # what its log holds is in the file now
            _check_free(path, overwrite)
            copy.replace(path)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise StoreError(f"{path} could not be written: {error.strerror}") from error
    return path


def opened(copy: Path) -> Store:
    """A copy as a store with the views of today, for reading; it is nobody else's.

    Raises:
        StoreUnreadable: It is damaged.
    """
    store = Store(str(copy), time.time_ns() // 1000, 0)
    with store.transaction():
        store.run_script(VIEWS)
    return store


def _check_free(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it")

"""A closed store's file written anew where most of it is waste, so that the disk gets back what was purged.

DuckDB uses free blocks again and cuts them off only at the file's end; rows that were deleted stay where their neighbours do; and each
opening begins new groups of rows in each table that it writes, which take up a block however few they hold.

The new file is made in a folder beside the store while the old one is locked, and takes its place when it is whole and on the disk: a
process that is killed meanwhile leaves the old one, and the next opening removes what it left. What cannot be done is left undone.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from nbbatch.base.private_file import beginning, share_as
from nbbatch.store import checkpoint
from nbbatch.store.queries import QUERIES

log = logging.getLogger("nbbatch")

WORTH = 0.5
"""The share of waste from which a file is written anew."""
WORTH_PURGED = 0.2
"""… after a purge, which is to give space back."""
LEAST_BYTES = 3 << 20
"""A smaller file is left as it is: an empty store has half of that. Its size is known without asking DuckDB, which takes 10 ms."""
GROUP_ROWS = 122_880
"""Rows of a full group."""


def wasted(con: duckdb.DuckDBPyConnection, tables: Collection[str]) -> float:
    """About the share of an open store's file that nothing is in, just after a checkpoint."""
    total, free = con.execute(QUERIES["blocks"]).fetchall()[0]
    spare, kept, alive = 0, 0, 0
    for table in tables:
        groups, rows, live = con.execute(QUERIES["stored_rows"].format(table=table)).fetchall()[0]
        spare += max(0, groups - math.ceil(live / GROUP_ROWS))
        kept, alive = kept + rows, alive + live
    dead = 1 - alive / kept if kept else 0.0
    return min(1.0, (free + spare + dead * (total - free)) / total)


def rewrite(path: Path) -> None:
    """Write the file of a store that has just been closed anew. Nobody may have it open in this process."""
    try:
        if not _may_be_replaced(path):
            return
        clear(path)
        _folder(path).mkdir(mode=0o700)
        try:
            _rewrite(path, _folder(path) / "new.duckdb")
        finally:
            clear(path)
    except (OSError, duckdb.Error):  # no room, or somebody was faster to open it
        log.debug("%s was not written anew", path, exc_info=True)


def clear(path: Path) -> None:
    """Remove what a process left that was killed while it wrote a store's file anew. The caller holds the store."""
    folder = _folder(path)
    if folder.is_symlink() or not folder.is_dir():
        return
    with suppress(OSError):
        for each in ("new.duckdb", "new.duckdb.wal"):
            (folder / each).unlink(missing_ok=True)
        folder.rmdir()


def _folder(path: Path) -> Path:
    return path.with_name(f".{beginning(path.name, 200)}.rewriting")


def _may_be_replaced(path: Path) -> bool:
    """Whether another file in its place is the same to everybody, and everything is in it."""
    found, log_file = path.lstat(), Path(f"{path}.wal")
    is_whole = not (log_file.exists() and log_file.stat().st_size) and not os.path.lexists(checkpoint.beside(path))
    return found.st_nlink == 1 and found.st_uid == os.geteuid() and is_whole


def _rewrite(path: Path, new: Path) -> None:
    settings: dict[str, Any] = {
        "threads": 1,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    with duckdb.connect(":memory:", config=settings) as con:
        con.execute(QUERIES["attach_old"].format(path=_quoted(path))).complete()  # holds the lock, and writes nothing
        before = _state(path)
        con.execute(QUERIES["attach_new"].format(path=_quoted(new))).complete()
        con.execute("SET enable_external_access = false").complete()  # a view of a store reaches no file
        con.execute(QUERIES["copy_all"]).complete()
        con.execute(QUERIES["detach_new"]).complete()
        number = os.open(new, os.O_RDWR)
        try:
            share_as(path, number)
            os.fsync(number)
        finally:
            os.close(number)
        if _state(path) == before:
            new.replace(path)
            _sync_folder(path.parent)


def _state(path: Path) -> object:
    found = path.stat()
    return found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, Path(f"{path}.wal").exists()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # a file system that knows no such thing
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)

"""How a store's DuckDB file is opened and let go, and what DuckDB says then told as what to do next."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from nbbatch.base.errors import StoreError, StoreLocked, StoreUnreadable
from nbbatch.base.interrupts import behind
from nbbatch.base.private_file import beginning, make_beside
from nbbatch.store import checkpoint, copying, rewriting

MEMORY = ":memory:"
LONGEST_NAME = 255 - len(".running.new")
"""Bytes of a name, so that file systems take those of the files beside it."""
_SETTINGS: dict[str, Any] = {
    "threads": 1,  # one core for the writer; the other ones are for the steps
    "checkpoint_threshold": "1000TB",  # `Writer.checkpoint` does it, so that a kill in the middle does no harm
    "auto_checkpoint_skip_wal_threshold": 1 << 40,  # else a big commit checkpoints synchronously
    "max_vacuum_tasks": 0,
    "enable_external_access": "false",  # sql() and a store somebody sent must not reach other files
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def connect(path: str) -> tuple[duckdb.DuckDBPyConnection, os.stat_result | None]:
    """Open or create the file, or a database in memory.

    Returns:
        The connection, and which file it is; None: in memory.

    Raises:
        StoreLocked: Another process holds it.
        StoreUnreadable: It is damaged, foreign, newer, or cannot be written; nothing was changed.
    """
    if path == MEMORY:
        return _connected(path), None
    is_new = not os.path.lexists(path)
    try:
        if is_new:
            _make(Path(path))
        copying.keep(path)
        checkpoint.put_back(Path(path))
        opened = _connected_to_what_is_there(path)
        make_log(path)
        rewriting.clear(Path(path))
        return opened
    except BaseException as error:
        copying.let_go(path)
        if is_new and not isinstance(error, StoreLocked):
            remove(path)
        raise


def _make(path: Path) -> None:
    """An empty database that was at no time readable for others: made in a folder of its own, as DuckDB sets no permissions."""
    with (
        clear_errors(str(path)),
        tempfile.TemporaryDirectory(prefix=f".{beginning(path.name)}.", dir=path.parent) as folder,
    ):
        made = Path(folder) / "new"
        duckdb.connect(str(made), config=dict(_SETTINGS)).close()
        made.chmod(0o600)
        try:
            path.hardlink_to(made)  # unlike a renaming, it takes nobody's place
        except FileExistsError as error:  # somebody was faster
            raise StoreLocked(str(path), None) from error
        except OSError:  # a file system without links
            made.rename(path)


def _connected_to_what_is_there(path: str) -> tuple[duckdb.DuckDBPyConnection, os.stat_result]:
    """A file may be replaced between its opening and its lock, as by `rewriting`: then another one is opened than is there.

    DuckDB does not tell which file it has open. What the path leads to before and after is it: while it is open no other file gets its
    number.
    """
    with clear_errors(path):
        while True:
            file, con = Path(path).stat(), _connected(path)
            with ExitStack() as undo:
                undo.callback(con.close)
                if os.path.samestat(file, Path(path).stat()):
                    undo.pop_all()
                    return con, file


def _connected(path: str) -> duckdb.DuckDBPyConnection:
    with clear_errors(path), ExitStack() as undo:
        con = duckdb.connect(path, config=dict(_SETTINGS))
        undo.callback(con.close)
        con.execute("SET GLOBAL TimeZone = 'UTC'").complete()
        con.execute(
            "PRAGMA disable_checkpoint_on_shutdown"
        ).complete()  # closing does it, where the file is still there
        undo.pop_all()
        return con


def plain(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Another connection to the same database, for inserts of a few values: there the optimizer is an eighth of the time, and no use."""
    another = con.cursor()
    another.execute("PRAGMA disable_optimizer").complete()
    return another


def lock(con: duckdb.DuckDBPyConnection) -> None:
    """Nobody changes a setting from here on."""
    con.execute("SET GLOBAL lock_configuration = true").complete()


def make_log(path: str) -> None:
    """Make an empty write-ahead log where there is none: DuckDB would make it readable for whomever the umask lets."""
    log = f"{path}.wal"
    if not os.path.lexists(log):
        with suppress(OSError):  # DuckDB finds the same, and says it where it matters
            os.close(make_beside(Path(path), log))


def drop_empty_log(path: str) -> None:
    """Remove a log that `make_log` made and nothing was written into."""
    with suppress(OSError):
        if os.lstat(log := f"{path}.wal").st_size == 0:
            Path(log).unlink()


def remove(path: str) -> None:
    """Take away what making a store left that could not be made: in its place, the next attempt would find a damaged one."""
    for each in (path, f"{path}.wal"):
        with suppress(OSError):
            Path(each).unlink()


def check_place(path: Path) -> None:
    """What DuckDB would report less clearly, or not at all.

    Raises:
        StoreUnreadable: There can be no store.
    """
    if not path.parent.is_dir():
        raise StoreUnreadable(f"the folder {path.parent} does not exist; create it, or open another path")
    if path.is_dir():
        raise StoreUnreadable(f"{path} is a folder; give the path of a file in it, such as {path / 'nbbatch.duckdb'}")
    if path.exists() and not path.is_file():
        raise StoreUnreadable(
            f"{path} is no plain file; give the path of one, such as {path.with_name('nbbatch.duckdb')}"
        )
    if not path.exists() and Path(f"{path}.wal").exists():
        raise StoreUnreadable(
            f"{path}.wal is there but {path} is not: opening it would lose what the log holds. "
            "Bring the database file back beside it, or move the log away"
        )
    copying.check_other_names(path)
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise StoreUnreadable(f"{target} cannot be written by this user; change its permissions or open a copy")


@contextmanager
def clear_errors(path: str) -> Generator[None]:
    """What is raised on opening, told as what to do next."""
    try:
        yield
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # DuckDB's own, and whatever comes of values that nbbatch never writes, NULL among them
        if (signalled := behind(error)) is not None:
            raise signalled from None
        ours = unreadable(path, error)
        raise ours from (None if isinstance(ours, StoreLocked) else error)  # which tells all there is to know


def unreadable(path: str, error: Exception) -> StoreError:
    """An error on opening, as one of ours."""
    text = str(error) if isinstance(error, duckdb.Error | OSError) else repr(error)
    if "lock" in text.lower() and "conflicting" in text.lower():
        holder = re.search(r"PID (\d+)", text)
        return StoreLocked(path, int(holder[1]) if holder else None)
    by = "DuckDB" if isinstance(error, duckdb.Error) else "Python"
    return StoreUnreadable(
        f"{path} cannot be opened as a store; it was left as it is. {_advice(text)} {by} says: {text:.1000}"
    )


def _advice(text: str) -> str:
    if "not a valid DuckDB database file" in text:
        return "It is another kind of file, empty or cut off: restore it from a copy, or open another path."
    if "No space left" in text or "Disk quota" in text:
        return "Free disk space."
    if "Permission denied" in text or "Read-only file system" in text:
        return "This user cannot write what lies beside it: change the permissions of its folder, or open a copy elsewhere."
    if "WAL" in text:
        return (
            "Its write-ahead log (.wal) is damaged. Keep a copy of both files; moving the log away, and the "
            "file .running, opens the store as of its last checkpoint, without the newest changes."
        )
    if "different configuration" in text or "configuration has been locked" in text:
        return (
            "This process has it open with duckdb.connect(), or was forked from one that had it open: close that connection first, "
            "or open it in a process of its own."
        )
    if "version" in text.lower():
        return "It was written by another version of DuckDB: upgrade duckdb, or open it with the version that wrote it."
    return "Restore it from a copy, free disk space, or open another path."


def close(cursor: duckdb.DuckDBPyConnection) -> None:
    """Close a connection; what another thread just now reads on it (a live panel, say) is interrupted."""
    while True:
        try:
            return cursor.close()
        except duckdb.ResourceInUseException:
            cursor.interrupt()
            time.sleep(0.001)


def resolved(name: str) -> str:
    """The path that a name leads to.

    Raises:
        StoreUnreadable: It leads to no file, or to none that can be a store.
    """
    try:
        path = Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise StoreUnreadable(f"{name!r} leads to no file: {error}") from error
    if "?" in str(path):
        raise StoreUnreadable(
            f"{path} has a ? in its name or in that of a folder, and DuckDB takes what comes after it for no part of a path; open another path"
        )
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise StoreUnreadable(
            f"the name {path.name} is too long for the files beside the store to be named after it: {LONGEST_NAME} bytes at most"
        )
    return str(path)

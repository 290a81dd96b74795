"""Whether a file is a whole store of nbbatch, before anything is written into it: its log, its tables, and what no store ever holds."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Any, Protocol

from nbbatch.base.errors import StoreUnreadable
from nbbatch.store import migrations

_LOG_BEGINS = b"d\x00be\x00\x02"
"""DuckDB's write-ahead log of version 2: an entry of the version, with the id of the database, until two bytes of 255 …"""
_COMMITTED = struct.pack("<Q", 5), b"d\x00d\xff\xff"
"""… then entries of a size, a checksum and so many bytes. This is the size and the bytes of the one that ends each transaction."""
_HEAD = 16
_MOST = 1 << 62
"""Ids that are given are counted up from the last one, and must stay below 2 ** 63."""


class Asked(Protocol):
    """A store that is asked for rows of named queries."""

    path: str

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a named query."""
        ...


# --- the log -------------------------------------------------------------------------------------


def check_log(path: Path) -> None:
    """DuckDB takes a log whose first bytes are not its own for an empty one, and what follows an impossible size for a torn end.

    To be called before DuckDB has the files open.

    Raises:
        StoreUnreadable: The log beside a store is damaged.
    """
    log = Path(f"{path}.wal")
    if log.is_symlink() or (log.exists() and not log.is_file()):
        raise StoreUnreadable(f"{log} is no plain file; move it away")
    if _is_damaged(log):
        raise StoreUnreadable(
            f"the write-ahead log {log} is damaged, and what was committed last is in it. Both files were left as they are: "
            f"restore them from a copy. Moving the log and {path.name}.running away opens the store as of its last "
            "checkpoint, without what came after it"
        )


def _is_damaged(log: Path) -> bool:
    try:
        with log.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data[:5] != _LOG_BEGINS[:5] or (data[:6] == _LOG_BEGINS and _readable(data) <= _last_commit(data))
    except (
        FileNotFoundError,
        ValueError,
    ):  # there is none, or nothing in it, since another process closed the store just now too
        return False


def _readable(data: mmap.mmap) -> int:
    """Where the entries end that follow each other from the beginning."""
    at, end, size_of = data.find(b"\xff\xff") + 2, len(data), struct.Struct("<Q").unpack_from
    while at + _HEAD <= end:
        (size,) = size_of(data, at)
        if not size or at + _HEAD + size > end:
            break
        at += _HEAD + size
    return at


def _last_commit(data: mmap.mmap) -> int:
    """Where the last transaction that was committed ends with its entry; 0 without any."""
    size, mark = _COMMITTED
    at = data.rfind(mark)
    while at >= 0 and data[max(0, at - _HEAD) : max(0, at - _HEAD + 8)] != size:
        at = data.rfind(mark, 0, at)
    return max(0, at)


# --- the tables ----------------------------------------------------------------------------------


def format_of(store: Asked) -> int | None:
    """The format of a store; None: nothing is in it yet, as the process that made it died before.

    Raises:
        StoreUnreadable: It is a database of somebody else.
    """
    tables = {name for (name,) in store.rows("tables")}
    if not tables and not store.rows("objects"):
        return None
    if not {"meta", "submitted", "chunk", "event"} <= tables:
        raise StoreUnreadable(
            f"{store.path} is a DuckDB database, but not a store of nbbatch; it was left as it is. Open another path"
        )
    ((text,),) = store.rows("format")
    return int(text)


def check_whole(store: Asked, found: int | None, session: int) -> None:
    """Whether a store knows a session that has begun: it is gone where its log is.

    Raises:
        StoreUnreadable: It does not.
    """
    ((last,),) = [(0,)] if found is None else store.rows("last_session")
    if session > last:
        raise StoreUnreadable(
            f"{store.path} lacks what was committed last: its write-ahead log {store.path}.wal is gone, or an older file was put in "
            f"its place. Bring them back; moving {store.path}.running away opens it as it is. It was left as it is"
        )


def columns_of(store: Asked) -> dict[str, dict[str, str]]:
    """The columns of each table of a store with their types, in order.

    Raises:
        StoreUnreadable: They are not those that a store has, or hold what none does.
    """
    found: dict[str, dict[str, str]] = {}
    odd = {name for (name,) in store.rows("constraints")}
    for table, column, kind, is_plain in store.rows("columns"):
        found.setdefault(table, {})[column] = kind
        if not is_plain:
            odd.add(table)
    odd = {name for name, columns in _TABLES.items() if name in odd or list(found.get(name, {}).items()) != columns}
    if odd:
        raise StoreUnreadable(
            f"{store.path} has tables that are not those of a store of nbbatch: {', '.join(sorted(odd))}; it was left as it "
            "is. Restore it from a copy, or open another path"
        )
    return {name: found[name] for name in _TABLES}


def last_ids(store: Asked) -> dict[str, int]:
    """The last id of each kind that was given.

    Raises:
        StoreUnreadable: No store has so many, or so many claims.
    """
    ids: dict[str, int] = dict(store.rows("last_ids"))
    if store.rows("impossible_claims") or not all(0 <= each < _MOST for each in ids.values()):
        raise StoreUnreadable(
            f"{store.path} has ids or claims that no store has; it is damaged and was left as it is. Restore it from a copy"
        )
    return ids


def _declared(schema: str) -> dict[str, list[tuple[str, str]]]:
    r"""The columns of each table that statements make.

    >>> _declared("CREATE TABLE a (id BIGINT, -- one, two\n data BLOB USING COMPRESSION zstd);")
    {'a': [('id', 'BIGINT'), ('data', 'BLOB')]}
    """
    text = re.sub(r"--.*", "", schema)
    tables = re.findall(r"TABLE (\w+) \((.*?)\);", text, re.DOTALL)
    return {name: [tuple(each.split()[:2]) for each in columns.split(",")] for name, columns in tables}


_TABLES = _declared(migrations.SCHEMA)

"""Checkpoints that survive a kill in their middle.

A checkpoint writes what the log holds into free blocks of the file, and then a header that makes them count. But the blocks of
the catalog that have room left are written over in place, though the header before still counts (DuckDB 2.0; the process that is killed in
the middle of that leaves a store that no longer opens). So what these blocks and the header held is kept beside the store while a checkpoint
goes on. An opening that finds it puts it back where the header is still the same, and the log, which is emptied last, has all
that came since.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from nbbatch.base.private_file import replaced, share_as
from nbbatch.store.copying import HEADERS, Source
from nbbatch.store.queries import QUERIES

log = logging.getLogger("nbbatch")

LOG_BYTES = 64_000_000
"""From this size on the log is written into the file."""
_MAGIC = b"nbbatch blocks 1"
_HEAD = struct.Struct("<16sQQ")
"""The magic bytes, the size of a block, how many there are; then the headers, and each block's place and content."""
_PLACE = struct.Struct("<Q")


def beside(path: Path | str) -> Path:
    """Where the blocks of a store are kept during a checkpoint."""
    return Path(f"{path}.blocks")


@contextmanager
def kept(con: duckdb.DuckDBPyConnection, source: Source) -> Generator[None]:
    """Keep the blocks that a checkpoint in this block writes over in place.

    Raises:
        OSError: They cannot be kept; then nothing may be written over.
    """
    ((size,),) = con.execute(QUERIES["block_size"]).fetchall()
    places = [HEADERS + block * size for (block,) in con.execute(QUERIES["catalog_blocks"]).fetchall()]
    place = beside(source.path)
    if os.path.lexists(place) and not _is_ours(place):
        raise FileExistsError(f"{place} is in the way: it is no file of nbbatch, and was left as it is")
    with replaced(place) as file:
        with suppress(OSError):
            share_as(source.path, file.fileno())
        file.write(_HEAD.pack(_MAGIC, size, len(places)) + source.read(0, HEADERS))
        for each in places:
            file.write(_PLACE.pack(each) + source.read(each, size))
        file.flush()
        os.fsync(file.fileno())
    yield
    place.unlink()  # not if the checkpoint raises: what is put back is right as long as the header is the same


def put_back(path: Path) -> None:
    """Undo the checkpoint in which a process was killed; to be called before DuckDB has the file open in this process."""
    place = beside(path)
    if not _is_ours(place):
        return
    try:
        with path.open("r+b", buffering=0) as file:
            # DuckDB's own lock: whoever has the store open may be at a checkpoint
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _put_back(path, file.fileno(), place.read_bytes())
            place.unlink()
    except OSError:  # somebody has it open, or has put it back just now
        log.debug("%s was not looked at", place, exc_info=True)


def _put_back(path: Path, fd: int, data: bytes) -> None:
    if os.pread(fd, HEADERS, 0) == data[_HEAD.size : _HEAD.size + HEADERS]:
        for at, block in _blocks(data):
            if HEADERS <= at <= os.fstat(fd).st_size - len(block):
                _write(fd, at, block)
        os.fsync(fd)
        log.info("%s was left in the middle of a checkpoint, which was undone; the log has what came since", path)


def _blocks(data: bytes) -> Generator[tuple[int, bytes]]:
    _, size, count = _HEAD.unpack_from(data)
    at = _HEAD.size + HEADERS
    for _ in range(count):
        yield _PLACE.unpack_from(data, at)[0], data[at + _PLACE.size : at + _PLACE.size + size]
        at += _PLACE.size + size


def _write(fd: int, at: int, block: bytes) -> None:
    while block:
        done = os.pwrite(fd, block, at)
        at, block = at + done, block[done:]


def _is_ours(place: Path) -> bool:
    """Whether a plain file stands there that `kept` wrote whole."""
    with suppress(OSError):
        found = place.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_size >= _HEAD.size:
            with place.open("rb") as file:
                magic, size, count = _HEAD.unpack(file.read(_HEAD.size))
            return magic == _MAGIC and found.st_size == _HEAD.size + HEADERS + count * (_PLACE.size + size)
    return False

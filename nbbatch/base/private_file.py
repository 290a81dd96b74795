"""Files that hold somebody's data: readable for the user alone, and never written through a link."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced(path: Path) -> Generator[BinaryIO]:
    """A new file that takes the place of ``path`` once it is whole; if the block raises, ``path`` stays as it was.

    It is written under a name of its own, which nobody can have put a link at; a link at ``path`` itself is replaced, not followed.
    """
    number, name = tempfile.mkstemp(
        prefix=f".{beginning(path.name)}.", suffix=".part", dir=path.parent
    )  # with mode 0600
    try:
        with os.fdopen(number, "w+b") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def beginning(name: str, most: int = 100) -> str:
    """A name cut to so many bytes at most, to be part of another one: file systems count bytes.

    >>> beginning("store"), beginning("日本", 5)
    ('store', '日')
    """
    return os.fsencode(name)[:most].decode(errors="ignore")


def make_beside(owner: Path, path: str, *, flags: int = 0) -> int:
    """Create an empty file that must not be there yet, for those who may read and write ``owner``; returns its descriptor.

    It is made for the user alone and widened then, so that at no time anybody may read it who may not read ``owner``.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o600)
    with suppress(OSError):
        share_as(owner, number)
    return number


def share_as(owner: Path, number: int) -> None:
    """Give an open file the permissions, and the group, of another one, as far as this user may."""
    like, made = owner.stat(), os.fstat(number)
    if like.st_gid != made.st_gid:
        os.fchown(number, -1, like.st_gid)
    os.fchmod(number, stat.S_IMODE(like.st_mode) & 0o666 | 0o600)

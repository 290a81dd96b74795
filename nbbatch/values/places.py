"""Where big values may lie: a folder, or a place that fsspec reaches. Both put a file in place in one stroke.

fsspec is imported for a URL only.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (fsspec comes without types)

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from nbbatch.base.private_file import replaced

Look = tuple[int, int, int]
"""What a file looks like as long as nobody touches it: its number, size and time of the last change."""


class Place(Protocol):
    """Files under names such as ``"a/b"``."""

    def put(self, name: str, data: bytes) -> Look | None:
        """Write a file; whoever reads meanwhile finds the old one, or the new one whole. Returns its look, as `look`."""
        ...

    def part(self, folder: str) -> Part | None:
        """A file to be written bit by bit, which comes into a folder once it is whole; None: there are none such, or no such folder yet."""
        ...

    def look(self, name: str) -> Look | None:
        """What a file looks like; None: there is none, or looking costs about as much as reading."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file, to be read.

        Raises:
            OSError: There is none, or it is no plain file.
        """
        ...

    def get(self, name: str, most: int) -> bytes:
        """A file's content, of one that is longer a byte more than ``most``.

        Raises:
            OSError: There is none, or it is no plain file.
        """
        ...

    def copy(self, name: str, to: str) -> None:
        """Have a file's content be there under another name, too, whatever becomes of the first.

        Raises:
            OSError: There is none.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """What is in a folder; nothing where there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or a folder that is empty; either may be gone already."""
        ...

    def clear(self, folder: str) -> None:
        """Remove a folder that may be gone already, with all that is in it."""
        ...


def is_url(root: str) -> bool:
    """Whether a place is one that fsspec reaches.

    >>> is_url("s3://bucket/values"), is_url("/mnt/values")
    (True, False)
    """
    return "://" in root or "::" in root


@lru_cache(maxsize=64)
def place_of(root: str) -> Place:
    """The place that a path or a URL names."""
    return Remote(root) if is_url(root) else Folder(root)


class Part:
    """A file that is being written, under a name of its own."""

    def __init__(self, folder: Path) -> None:
        """Make it."""
        number, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)  # with mode 0600
        self._path, self.file = Path(name), os.fdopen(number, "w+b", buffering=0)

    def digest(self) -> tuple[str, int]:
        """SHA-256 of what was written, and how much it is: read again, as whoever wrote it may not have passed by here.

        It is not mapped: faulting its pages in takes longer than copying them.
        """
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest(), self.file.tell()

    def place(self, name: str) -> Look:
        """Have it on the disk, then in its place, as `Place.put` does; or gone, if that fails."""
        try:
            os.fsync(self.file.fileno())
            look = _looks(os.fstat(self.file.fileno()))
            self._path.replace(self._path.with_name(name))
        except BaseException:
            self.drop()
            raise
        self.file.close()
        return look

    def drop(self) -> None:
        """It is not wanted."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            self.file.close()


class Folder:
    """A folder of this machine, or a network share in it."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def put(self, name: str, data: bytes) -> Look | None:
        """As `Place.put`. It is on the disk before it is in its place; that it is there, the store's own commit brings to the disk."""
        path = self._root / name
        try:
            return self._put(path, data)
        except FileNotFoundError:
            if not self._root.is_dir():  # a share that is not mounted here is no place to write
                raise OSError(
                    0, f"the folder for values, {self._root}, is not there on {socket.gethostname()}"
                ) from None
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._put(path, data)

    def part(self, folder: str) -> Part | None:
        """As `Place.part`."""
        with suppress(OSError):
            return Part(self._root / folder)
        return None

    @staticmethod
    def _put(path: Path, data: bytes) -> Look:
        with replaced(path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            return _looks(os.fstat(file.fileno()))

    def look(self, name: str) -> Look | None:
        """As `Place.look`."""
        with suppress(OSError):
            return _looks(os.lstat(self._root / name))
        return None

    def open(self, name: str) -> BinaryIO:
        """As `Place.open`."""
        number = os.open(self._root / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        file = os.fdopen(number, "rb", buffering=0)
        if stat.S_ISREG(os.fstat(number).st_mode):
            return file
        file.close()
        raise OSError(0, "it is no plain file")

    def get(self, name: str, most: int) -> bytes:
        """As `Place.get`. It is read, not mapped: the end of a file that becomes shorter would end the process."""
        with self.open(name) as file:
            return file.read(most + 1) or b""

    def copy(self, name: str, to: str) -> None:
        """As `Place.copy`: a second name of the same file, as no file is ever written over; where there are no such, a copy."""
        path, other = self._root / name, self._root / to
        other.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        other.unlink(missing_ok=True)
        try:
            os.link(path, other)
        except FileNotFoundError:
            raise
        except OSError:
            with path.open("rb") as file:
                self._put(other, file.read())

    def names(self, folder: str) -> list[str]:
        """As `Place.names`."""
        try:
            return os.listdir(self._root / folder)  # noqa: PTH208 - names are wanted
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """As `Place.remove`."""
        path = self._root / name
        with suppress(FileNotFoundError):
            path.rmdir() if path.is_dir() else path.unlink()

    def clear(self, folder: str) -> None:
        """As `Place.clear`."""
        shutil.rmtree(self._root / folder, ignore_errors=True)


def _looks(found: os.stat_result) -> Look:
    return found.st_ino, found.st_size, found.st_mtime_ns


class Remote:
    """A place that fsspec reaches."""

    def __init__(self, root: str) -> None:
        try:
            fsspec: Any = importlib.import_module("fsspec")
        except ImportError as error:
            raise ImportError(f"values={root!r} needs fsspec: pip install nbbatch[values]") from error
        self._files, self._root = fsspec.url_to_fs(root)

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def part(self, folder: str) -> Part | None:
        """As `Place.part`."""

    def look(self, name: str) -> Look | None:
        """As `Place.look`."""

    def put(self, name: str, data: bytes) -> Look | None:
        """As `Place.put`."""
        path = self._at(name)
        part = f"{path}.{secrets.token_hex(4)}.part"
        self._files.makedirs(self._files._parent(path), exist_ok=True)
        self._files.pipe_file(part, data)
        self._files.mv(part, path)

    def open(self, name: str) -> BinaryIO:
        """As `Place.open`."""
        return self._files.open(self._at(name), "rb")

    def get(self, name: str, most: int) -> bytes:
        """As `Place.get`."""
        return self._files.cat_file(self._at(name), start=0, end=most + 1)

    def copy(self, name: str, to: str) -> None:
        """As `Place.copy`."""
        self._files.makedirs(self._files._parent(self._at(to)), exist_ok=True)
        self._files.cp_file(self._at(name), self._at(to))

    def names(self, folder: str) -> list[str]:
        """As `Place.names`."""
        with suppress(FileNotFoundError):
            self._files.invalidate_cache()
            return [str(each).rstrip("/").rpartition("/")[2] for each in self._files.ls(self._at(folder), detail=False)]
        return []

    def remove(self, name: str) -> None:
        """As `Place.remove`."""
        with suppress(FileNotFoundError):
            self._files.rm(self._at(name), recursive=True)

    def clear(self, folder: str) -> None:
        """As `Place.clear`."""
        with suppress(FileNotFoundError):
            self._files.rm(self._at(folder), recursive=True)

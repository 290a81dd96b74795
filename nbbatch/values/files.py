"""Files as values: a path that is equal when its content is.

A `File` is made by reading the file once, for its SHA-256. From then on size and time of the last change are a quick look, and the
digest is made again only where they differ. What was read in this process is not read again for as long as it looks the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple, cast, final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_plain_validator_function, plain_serializer_function_ser_schema, str_schema

from nbbatch.base import ranges
from nbbatch.base.errors import FileChanged
from nbbatch.values.tree import is_tree, joined, parted

TAG = "$file"
CONTENT = itemgetter(slice(1, 3))
"""What counts of what is stored of a file."""
_TICK_NS = 50_000_000
"""How long a file system may give one time to what is written at different ones …"""
_COARSE_NS = 2_000_000_000
"""… and those that count in whole seconds, or in two."""
_TRIES = 3
_MOST_KNOWN = 100_000
_text = partial(ranges.text, what="the name of a file")
_known: dict[tuple[Any, ...], str] = {}
"""Digests that this process made, by path and all that tells a change."""
_noted: ContextVar[list[File] | None] = ContextVar("files of a value that is being read", default=None)


class Look(NamedTuple):
    """What a file was when it was looked at."""

    digest: str
    size: int
    mtime_ns: int
    settled: bool
    """Whether a later change surely has another time: not of what was written in the very moment it was read."""


@final
class File:
    """A file as a value: equal to another if name and content are, wherever it lies and whenever it was written.

    A step that takes one is given the file as it was, or fails with `FileChanged` before it begins. ``run.retry()``, ``run.rerun()`` and
    ``reuse=`` take a changed file for what it is: another input. It can be given wherever a path can, and is a field of any model;
    a path or text is taken for it in parameters.

    Args:
        path: Of a file that is there.
        folder: A folder above it. ``name`` is then the path within it; otherwise the last part of the path.

    Raises:
        TypeError: ``path`` is no path.
        ValueError: It is not in ``folder``, or its name is no text.
        FileNotFoundError: There is none.
        OSError: It is a folder or no plain file, or it cannot be read.
        FileChanged: It is being written just now.

    Example:
        >>> _ = Path("orders.csv").write_text("id,price")
        >>> file = nb.File("orders.csv")
        >>> file.name, file.size
        ('orders.csv', 8)
    """

    __slots__ = ("_look", "_name", "_path")

    _look: Look
    _name: str
    _path: str

    def __init__(self, path: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None) -> None:
        at = _absolute(path)
        self._set(str(at), at.name if folder is None else at.relative_to(_absolute(folder)).as_posix(), look(str(at)))

    def _set(self, path: str, name: str, seen: Look) -> None:
        self._path, self._name, self._look = path, name, seen

    @classmethod
    def of(cls, path: str, name: str, seen: Look) -> File:
        """One that was looked at before, and is not now."""
        made = cls.__new__(cls)
        made._set(path, name, seen)
        return made

    # --- what it is -------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Where it lies; nothing is looked at.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").path
            PosixPath('...orders.csv')
        """
        return Path(self._path)

    @property
    def name(self) -> str:
        """Its path within the folder that it was found in, with ``/``; else the last part of its path.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").name
            'orders.csv'
        """
        return self._name

    @property
    def digest(self) -> str:
        """SHA-256 of its content, in hexadecimal digits.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> len(nb.File("orders.csv").digest)
            64
        """
        return self._look.digest

    @property
    def size(self) -> int:
        """In bytes.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").size
            8
        """
        return self._look.size

    @property
    def mtime_ns(self) -> int:
        """When it was last changed: nanoseconds since 1970.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").mtime_ns > 0
            True
        """
        return self._look.mtime_ns

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        return (self._name, self._look.digest) == (other._name, other._look.digest)

    def __hash__(self) -> int:
        return hash((self._name, self._look.digest))

    def __repr__(self) -> str:
        return f"<File {self._path} · {self.size:,} bytes · {self.digest[:8]}>"

    def __str__(self) -> str:
        return self._path

    def __reduce__(self) -> tuple[Any, ...]:
        return File.of, (self._path, self._name, self._look)

    # --- its content ------------------------------------------------------------------------------

    def check(self) -> File:
        """Look whether it still is what it was: at size and time, and at its content only where they differ.

        Returns:
            Itself.

        Raises:
            FileChanged: It has another content now.
            FileNotFoundError: It is not there any more.
            OSError: It cannot be read.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").check().name
            'orders.csv'
        """
        now, was = _stat(self._path), self._look
        if now.st_size == was.size and now.st_mtime_ns == was.mtime_ns and was.settled:
            return self
        if now.st_size != was.size or look(self._path).digest != was.digest:
            raise FileChanged(
                f"{self._path} is not the file that was given any more: it had {was.size:,} bytes (SHA-256 {was.digest[:8]}…) and has "
                f"{now.st_size:,} now, of other content. run.retry() runs failed chunks with their files as they are now; a file "
                "among the parameters is another input: submit them anew"
            )
        return self

    def renew(self) -> File:
        """The same file as it is now; equal if its content is.

        Raises:
            FileNotFoundError: It is not there any more.
            OSError: It cannot be read.
            FileChanged: It is being written just now.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> file = nb.File("orders.csv")
            >>> file.renew() == file
            True
        """
        return File.of(self._path, self._name, look(self._path))

    def __fspath__(self) -> str:
        return self.check()._path

    def open(
        self, mode: str = "r", *, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open it for reading, as ``open`` does. Errors as of `check`.

        Raises:
            ValueError: ``mode`` would change it.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> with nb.File("orders.csv").open() as lines:
            ...     next(lines)
            'id,price'
        """
        if set(mode) & set("wax+"):
            raise ValueError(
                f"a File is what was read: write to {self._path!r} by its path, and make nb.File(path) anew"
            )
        return Path(self).open(mode, encoding=encoding, errors=errors, newline=newline)

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Its content as text. Errors as of `check`.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").read_text()
            'id,price'
        """
        return Path(self).read_text(encoding, errors)

    def read_bytes(self) -> bytes:
        """Its content. Errors as of `check`.

        Example:
            >>> _ = Path("orders.csv").write_text("id,price")
            >>> nb.File("orders.csv").read_bytes()
            b'id,price'
        """
        return Path(self).read_bytes()

    # --- in models --------------------------------------------------------------------------------

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_plain_validator_function(
            _validated, serialization=plain_serializer_function_ser_schema(as_json, when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(str_schema()), "format": "file-path"}


def files(folder: str | os.PathLike[str], pattern: str = "*") -> list[File]:
    """The files in a folder, by name; each is read once for its digest.

    Args:
        folder: Which.
        pattern: As of ``Path.glob``: ``"*.ndjson"``, or ``"**/*.csv"`` for folders within it too.

    Returns:
        Their ``name`` is the path within the folder, so that a folder that was copied or moved holds equal files.

    Raises:
        TypeError: ``folder`` is no path.
        ValueError: The name of a file is no text.
        FileNotFoundError: There is no such folder.
        OSError: A file in it cannot be read.
        FileChanged: One is being written just now.

    Example:
        >>> _ = Path("orders.csv").write_text("id,price")
        >>> [file.name for file in nb.files(".", "orders.*")]
        ['orders.csv']
    """
    at = _absolute(folder)
    if not at.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(at))
    found = sorted((each.relative_to(at).as_posix(), str(each)) for each in at.glob(pattern) if each.is_file())
    return [File.of(_text(path), name, look(path)) for name, path in found]


def _absolute(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"nb.File takes the path of a file, not {path!r:.80}")
    given = str(path) if isinstance(path, File) else os.fspath(cast("os.PathLike[str]", path))
    return Path(os.path.abspath(_text(str(Path(given).expanduser()))))  # noqa: PTH100 - links stay as they are


# --- looking --------------------------------------------------------------------------------------


def look(path: str) -> Look:
    """What a file is now.

    Raises:
        FileNotFoundError, OSError, FileChanged: As `File`.
    """
    found = _stat(path)
    if digest := _known.get((path, *_tells(found))):
        return Look(digest, found.st_size, found.st_mtime_ns, settled=True)
    for _ in range(_TRIES):
        with Path(path).open("rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if _tells(before) == _tells(after):
            settled = _is_settled(before.st_mtime_ns, time.time_ns())
            if settled:
                _remember((path, *_tells(before)), digest)
            return Look(digest, before.st_size, before.st_mtime_ns, settled)
    raise FileChanged(
        f"{path} is being written: it changed while it was read, {_TRIES} times. Name it when it is complete"
    )


def _stat(path: str) -> os.stat_result:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the look
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "No such file", path) from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "It is a folder; nb.files(folder, pattern) gives what is in it", path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "It is no plain file", path)
    return found


def _tells(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _is_settled(mtime_ns: int, now_ns: int) -> bool:
    """Whether what is written from now on has a later time.

    >>> _is_settled(1_500_000_000, 1_540_000_000), _is_settled(1_500_000_000, 1_600_000_000), _is_settled(1_000_000_000, 1_600_000_000)
    (False, True, False)
    """
    return now_ns - mtime_ns > (_TICK_NS if mtime_ns % 1_000_000_000 else _COARSE_NS)


def _remember(key: tuple[Any, ...], digest: str) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[key] = digest


# --- stored and read ------------------------------------------------------------------------------


def as_json(file: File) -> dict[str, Any]:
    """A file as plain JSON values."""
    seen = file._look  # pyright: ignore[reportPrivateUsage]
    path = file._path  # pyright: ignore[reportPrivateUsage]
    return {"path": path, "name": file.name, **seen._asdict()}


def _validated(given: Any) -> File:
    if isinstance(given, File):
        return given
    try:
        if isinstance(given, dict):
            return _of_json(given)  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(given, str | os.PathLike):
            return File(given)  # pyright: ignore[reportUnknownArgumentType]
    except FileChanged as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
    raise ValueError("a file's path is needed, or an nb.File")


def _of_json(given: dict[str, Any]) -> File:
    wanted = {"path": str, "name": str, "digest": str, "size": int, "mtime_ns": int, "settled": bool}
    if set(given) != set(wanted) or not all(type(given[name]) is kind for name, kind in wanted.items()):
        raise ValueError(f"a stored nb.File has {', '.join(wanted)}")
    digest, size, mtime_ns, settled = (given[name] for name in Look._fields)
    return File.of(given["path"], given["name"], Look(digest, size, mtime_ns, settled))


def stored(file: File) -> list[Any]:
    """What stands behind its tag."""
    return [*as_json(file).values()]


def unstored(tree: list[Any]) -> File:
    """What `stored` wrote; it is not looked at, but noted for who wants to."""
    path, name, *seen = tree
    made = File.of(path, name, Look(*seen))
    noted = _noted.get()
    if noted is not None:
        noted.append(made)
    return made


def shown(tree: list[Any]) -> dict[str, Any]:
    """What stands behind its tag as plain JSON values; of `content`, what that left."""
    names = ("path", "name", *Look._fields)
    return dict(zip(names if len(tree) == len(names) else names[1:3], tree, strict=True))


def noting(read: Callable[..., Any], *given: Any) -> tuple[Any, list[File]]:
    """A value as ``read`` gives it, and the files in it."""
    found: list[File] = []
    token = _noted.set(found)
    try:
        return read(*given), found
    finally:
        _noted.reset(token)


def content(data: bytes) -> bytes:
    """A stored value without what of its files does not count: where they lie, and when they were written.

    >>> content(b' [{"$file":["/a/x","x","12ab",3,7,true]}]')
    b' [{"$file":["x","12ab"]}]'
    """
    return _with_files(data, CONTENT)


def renewed(data: bytes) -> bytes:
    """A stored value with its files as they are now; those that are gone or cannot be read stay as they were."""

    def now(tree: list[Any]) -> list[Any]:
        file = unstored(tree)
        try:
            return stored(file.renew())
        except (OSError, FileChanged):  # which its chunk fails with
            return tree

    return _with_files(data, now)


def _with_files(data: bytes, change: Callable[[list[Any]], list[Any]]) -> bytes:
    if not is_tree(data) or b'"$file"' not in data:
        return data
    tree, parts = parted(data)
    return joined(changed(tree, change), parts)


def changed(tree: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """A JSON with tags whose files are others."""
    if isinstance(tree, list):
        return [changed(each, change) for each in tree]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(tree, dict):
        return tree
    if TAG in tree:
        return {TAG: change(tree[TAG])}  # pyright: ignore[reportUnknownArgumentType]
    return {name: changed(each, change) for name, each in tree.items()}  # pyright: ignore[reportUnknownVariableType]

"""Files stored with an instance, as its steps read them.

They are rows of the store. What a step opens is a copy in a temporary folder of this process, made when the first step
asks for it (for worker processes: with the first chunk that goes there), and gone with the engine's memory of the
instance. So steps on this machine read a plain file. Workers elsewhere have them in memory. What a process leaves that is killed, the next opening of any store
removes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from nbbatch.base import private_folder
from nbbatch.base.errors import NotFoundError
from nbbatch.base.private_file import replaced


@dataclass(frozen=True, slots=True)
class Files:
    """Attachments that lie in a folder: what travels to worker processes."""

    folder: str
    names: tuple[str, ...]

    def open(self, name: str) -> BinaryIO:
        """One of them, opened for reading."""
        return (Path(self.folder) / str(_place(self.names, name))).open("rb")


@dataclass(frozen=True, slots=True)
class Carried:
    """Attachments in the memory of a worker on another host."""

    contents: Mapping[str, Any]
    """What has the bytes of each."""

    def open(self, name: str) -> BinaryIO:
        """One of them, opened for reading."""
        _place(tuple(self.contents), name)
        return BytesIO(self.contents[name])


class Attachments:
    """The attachments of one instance."""

    def __init__(self, names: Sequence[str], read: Callable[[str], bytes]) -> None:
        """Nothing is read yet.

        Args:
            names: Of the attachments there are.
            read: Gives the content of one, on any thread.
        """
        self.names = tuple(names)
        self._read = read
        self._folder: str | None = None
        self._lock = threading.Lock()

    def open(self, name: str) -> BinaryIO:
        """One of them, opened for reading."""
        return self._path(_place(self.names, name)).open("rb")

    def files(self) -> Files:
        """All of them as files."""
        paths = [self._path(place) for place in range(len(self.names))]
        return Files(str(paths[0].parent), self.names)

    def contents(self) -> dict[str, bytes]:
        """All of them."""
        return {name: self._read(name) for name in self.names}

    def _path(self, place: int) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder, _ = private_folder.made_for(self, "attachments")
            path = Path(self._folder) / str(place)
            if not path.exists():
                with replaced(path) as file:
                    file.write(self._read(self.names[place]))
            return path


def _place(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise NotFoundError(f"the instance has no attachment {name!r}; it has {', '.join(map(repr, names)) or 'none'}")
    return names.index(name)

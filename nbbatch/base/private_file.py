"""Files that hold somebody's data: readable for the user alone, and never written through a link."""

from __future__ import annotations

import os
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
    number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(number, "w+b") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise

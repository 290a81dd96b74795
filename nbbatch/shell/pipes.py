"""Standard output and error whose reader may leave, as in ``nbbatch ls | head``: what is written from then on goes nowhere."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Pipe(io.RawIOBase):
    """The raw stream of the file that another stream writes to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_read = True

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        if self.is_read:
            try:
                return os.write(self.fileno(), data)
            except OSError as error:
                self.is_read = False
                if not isinstance(error, BrokenPipeError):  # the disk is full: said once, not when Python ends, too
                    raise
        return memoryview(data).nbytes


def quiet(stream: TextIO) -> TextIO:
    """A stream that takes all that is written to it, whether anybody reads it or not; a terminal, and what is no file, stays as it is."""
    try:
        stream.fileno()
    except (OSError, ValueError):
        return stream
    if stream.isatty():
        return stream
    buffered = io.BufferedWriter(_Pipe(stream))
    return io.TextIOWrapper(buffered, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)


def is_read(stream: TextIO) -> bool:
    """Whether anybody may still read what is written to it."""
    return getattr(getattr(getattr(stream, "buffer", None), "raw", None), "is_read", True)

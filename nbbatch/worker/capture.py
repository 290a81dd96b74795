"""Text that a step prints or logs goes to its attempt, not into whichever notebook cell runs now.

Two process-wide hooks, put in place when the first step runs and neutral outside of steps:

- ``sys.stdout`` and ``sys.stderr`` become a thin proxy that asks a context variable where to write.
- the log record factory, chained to the present one, copies records made inside a step, and puts the ids of the
  attempt on them as ``nb_instance``, ``nb_step``, ``nb_chunk`` and ``nb_attempt``. Records made elsewhere have none:
  give a format that names them ``logging.Formatter(..., defaults=...)``. A handler on the root logger would do too,
  but it would make ``logging.basicConfig()`` in the user's notebook a no-op.

Threads that a step starts by itself carry no context: what they print goes where it went before.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from io import TextIOBase
from typing import Any, TextIO

MAX_LOG_CHARS = 1_000_000
"""Characters kept of one attempt's log; what comes later is dropped and said so."""

_holders: list[None] = []
"""One for each who may run steps. No lock: hooks that go too early are back with the next micro-batch."""
buffer: ContextVar[LogBuffer | None] = ContextVar("nbbatch_log", default=None)


class LogBuffer:
    """Collects the text of one attempt, up to MAX_LOG_CHARS."""

    said = False
    """Whether there is anything to keep; most attempts say nothing, and cost nothing here."""
    aloud = False
    """Whether what is said goes where it would go without a step: a debugger talks there."""
    _size = 0

    def ids(self) -> dict[str, Any]:
        """What a log record carries of the attempt."""
        return {}

    def write(self, text: str) -> None:
        if not self._size:
            self.said = True
            self._parts: list[str] = []
        room = MAX_LOG_CHARS - self._size
        self._size += len(text)
        if room > 0:
            self._parts.append(text[:room])

    def text(self) -> str:
        """All that was written, as far as there was room."""
        if not self._size:
            return ""
        dropped = self._size - MAX_LOG_CHARS
        tail = f"\n… {dropped} more characters dropped" if dropped > 0 else ""
        return "".join(self._parts) + tail


class _Proxy(TextIOBase):
    """A stream that writes to the running attempt's log, or else to the stream it stands for."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def write(self, text: str, /) -> int:
        log = buffer.get()
        if log is None or log.aloud:
            return self._target.write(text)
        log.write(text)
        return len(text)

    def flush(self) -> None:
        log = buffer.get()
        if (log is None or log.aloud) and not self._target.closed:
            self._target.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def install() -> None:
    """Put the hooks in place where they are not; cheap to call before every micro-batch."""
    if not isinstance(sys.stdout, _Proxy) and sys.stdout is not None:
        sys.stdout = _Proxy(sys.stdout)
    if not isinstance(sys.stderr, _Proxy) and sys.stderr is not None:
        sys.stderr = _Proxy(sys.stderr)
    if not isinstance(logging.getLogRecordFactory(), _Factory):
        logging.setLogRecordFactory(_Factory(logging.getLogRecordFactory()))


def hold() -> None:
    """Somebody may run steps from here on: a batch that is open, say."""
    _holders.append(None)


def let_go() -> None:
    """Somebody who called `hold` runs none any more; with the last one the hooks go."""
    _holders.pop()
    if not _holders:
        _remove()


@contextmanager
def held() -> Generator[None]:
    """Run steps, and leave the streams as they were."""
    hold()
    try:
        yield
    finally:
        let_go()


def _remove() -> None:
    """Take the hooks away again where they are still on top."""
    if isinstance(sys.stdout, _Proxy):
        sys.stdout = sys.stdout._target  # pyright: ignore[reportPrivateUsage]
    if isinstance(sys.stderr, _Proxy):
        sys.stderr = sys.stderr._target  # pyright: ignore[reportPrivateUsage]
    factory = logging.getLogRecordFactory()
    if isinstance(factory, _Factory):
        logging.setLogRecordFactory(factory.inner)


class _Factory:
    """Log record factory that copies each record made inside a step into the attempt's log."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.inner(*args, **kwargs)
        log = buffer.get()
        if log is None:
            return record
        record.__dict__.update(log.ids())
        if not log.aloud and not _printed_anyway(record):
            log.write(f"{record.levelname} {record.name}: {_message(record)}\n")
        return record


def _printed_anyway(record: logging.LogRecord) -> bool:
    """Without any handler, logging prints warnings to stderr, which the proxy captures already."""
    last = logging.lastResort
    return last is not None and record.levelno >= last.level and not logging.getLogger(record.name).hasHandlers()


def _message(record: logging.LogRecord) -> str:
    """The record's text; a wrong format string is logging's to report, not ours to fail on."""
    try:
        text = record.getMessage()
    except Exception:
        text = str(record.msg)
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text

"""Text that a step prints or logs goes to its attempt, not into whichever notebook cell runs now.

Three process-wide hooks, put in place when the first step runs and neutral outside of steps:

- ``sys.stdout`` and ``sys.stderr`` become a thin proxy that asks a context variable where to write.
- the log record factory, chained to the present one, copies records made inside a step, and puts the ids of the
  attempt on them as ``nb_instance``, ``nb_step``, ``nb_chunk`` and ``nb_attempt``. Records made elsewhere have none:
  give a format that names them ``logging.Formatter(..., defaults=...)``. A handler on the root logger would do too,
  but it would make ``logging.basicConfig()`` in the user's notebook a no-op.

- ``warnings.showwarning`` keeps what is warned of inside a step with the attempt, before it is shown as it would be.

Threads that a step starts by itself carry no context: what they print goes where it went before.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

MAX_LOG_CHARS = 1_000_000
"""Characters kept of one attempt's log; what comes later is dropped and said so."""

_holders: set[object] = set()
"""Who may run steps. No lock: hooks that go too early are back with the next micro-batch."""
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

    def warned(self, text: str) -> bool:  # noqa: ARG002
        """Keep a warning; False: it is one that is kept already."""
        return True

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


_OWN = ("write", "writelines", "flush")
"""What the proxy does itself."""


class _Proxy:
    """A stream that writes to the running attempt's log, and is the stream it stands for in all else.

    No subclass of ``io.TextIOBase``: its methods would hide those of the stream, and its finalizer would close it.
    """

    _target: TextIO

    def __init__(self, target: TextIO) -> None:
        object.__setattr__(self, "_target", target)

    def write(self, text: str, /) -> int:
        log = buffer.get()
        if log is None or log.aloud or not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            return self._target.write(text)  # what is no text is refused as the stream does
        log.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        log = buffer.get()
        if (log is None or log.aloud) and not self._target.closed:
            self._target.flush()

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride] - for isinstance()
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:  # who wraps `write`, as IPython does, wraps ours: set on the stream, it would call itself
            object.__setattr__(self, name, value)
        else:
            setattr(self._target, name, value)

    def __enter__(self) -> Any:
        return self._target.__enter__()

    def __exit__(self, *error: object) -> Any:
        return self._target.__exit__(*error)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Any:
        return iter(self._target)

    def __next__(self) -> str:
        return next(self._target)

    def __repr__(self) -> str:
        return repr(self._target)


def install() -> None:
    """Put the hooks in place where they are not; cheap to call before every micro-batch."""
    if type(sys.stdout) is not _Proxy and sys.stdout is not None:
        sys.stdout = _Proxy(sys.stdout)
    if type(sys.stderr) is not _Proxy and sys.stderr is not None:
        sys.stderr = _Proxy(sys.stderr)
    if not isinstance(logging.getLogRecordFactory(), _Factory):
        logging.setLogRecordFactory(_Factory(logging.getLogRecordFactory()))
    if not isinstance(warnings.showwarning, _Shows):
        warnings.showwarning = _Shows(warnings.showwarning)


class _NeverWarned(Warning):
    """Nobody warns of it."""


def hear_anew() -> None:
    """Have warnings shown again that were shown before: by default Python shows those of a line once."""
    warnings.simplefilter("default", _NeverWarned, append=True)  # any change of the filters forgets what was shown


def hold(who: object) -> None:
    """Somebody may run steps from here on: a batch that is open, say."""
    _holders.add(who)


def let_go(who: object) -> None:
    """Somebody who called `hold` runs none any more; with the last one the hooks go. May be called twice."""
    _holders.discard(who)
    if not _holders:
        _remove()


@contextmanager
def held() -> Generator[None]:
    """Run steps, and leave the streams as they were."""
    who = object()
    hold(who)
    try:
        yield
    finally:
        let_go(who)


def _remove() -> None:
    """Take the hooks away again where they are still on top."""
    if type(sys.stdout) is _Proxy:
        sys.stdout = sys.stdout._target  # pyright: ignore[reportPrivateUsage]
    if type(sys.stderr) is _Proxy:
        sys.stderr = sys.stderr._target  # pyright: ignore[reportPrivateUsage]
    factory = logging.getLogRecordFactory()
    if isinstance(factory, _Factory):
        logging.setLogRecordFactory(factory.inner)
    if isinstance(warnings.showwarning, _Shows):
        warnings.showwarning = warnings.showwarning.inner


class _Shows:
    """``warnings.showwarning`` that keeps warnings of a step with its attempt: each text once, in every attempt."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        log = buffer.get()
        if log is not None and not log.aloud:
            hear_anew()
            if not log.warned(f"{category.__name__}: {_said_of(message)}"):
                return
        self.inner(message, category, *where, **more)


def _said_of(message: Warning | str) -> str:
    try:
        return str(message)
    except Exception as error:  # its text is the step's; the warning still has to be told
        return f"a text that could not be made ({type(error).__name__})"


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

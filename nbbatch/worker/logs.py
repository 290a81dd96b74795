"""What steps log in worker processes: as much as in threads, kept with the attempt in the same form, and handled where the store is open.

    engine's process: levels() ──with the micro-batch──▶ worker: collected() ──with its results──▶ engine's process: hand_on()

A worker process knows nothing of ``logging.basicConfig`` and the like in a notebook. So levels travel to it, and where a logger has handlers
it gets one there that keeps the records. They are handled once their micro-batch has ended, in the thread that brings its results.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from nbbatch.worker.capture import MAX_LOG_CHARS

Record = Mapping[str, Any]
"""The attributes of a log record, none of them an object of anybody's class."""
_PLAIN = (str, int, float, bool, type(None))

_TOKEN = secrets.token_hex(8)
log = logging.getLogger("nbbatch")
_kept: ContextVar[_Kept | None] = ContextVar("nbbatch_records", default=None)


class Level(NamedTuple):
    """How a logger is set."""

    logger: str
    level: int
    propagate: bool
    disabled: bool
    has_handlers: bool


class Levels(NamedTuple):
    """How all loggers of a process are set."""

    disable: int
    """As ``logging.disable`` takes it."""
    loggers: tuple[Level, ...]
    """The root as "", and those that are not as they begin."""
    process: str = ""
    """Which one."""


def levels() -> Levels:
    """How the loggers of this process are set."""
    root, every = logging.root, list(logging.root.manager.loggerDict.items())  # others may be made meanwhile
    found = [_level(name, each) for name, each in every if isinstance(each, logging.Logger) and _is_set(each)]
    return Levels(root.manager.disable, (_level("", root), *found), _process())


def _process() -> str:
    return f"{_TOKEN} {os.getpid()}"


def _is_set(logger: logging.Logger) -> bool:
    return bool(logger.level or logger.handlers or logger.disabled or not logger.propagate)


def _level(name: str, logger: logging.Logger) -> Level:
    return Level(name, logger.level, logger.propagate, logger.disabled, bool(logger.handlers))


# --- in the worker --------------------------------------------------------------------------------


class _Kept:
    """The records of a micro-batch, up to MAX_LOG_CHARS of text."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.last: logging.LogRecord | None = None
        self._chars = self._dropped = 0

    def add(self, record: logging.LogRecord) -> None:
        """Keep one, while there is room."""
        if self._chars >= MAX_LOG_CHARS:
            self._dropped += 1
            return
        self.records.append(_plain(record))
        self._chars += len(self.records[-1]["msg"])

    def all(self) -> tuple[Record, ...]:
        """Those that were kept, and a word about those that were not."""
        if self._dropped:
            said = (
                f"{self._dropped:,} more records of a micro-batch were dropped: it logged {MAX_LOG_CHARS:,} characters"
            )
            self.records.append(_plain(logging.LogRecord("nbbatch", logging.WARNING, "", 0, said, (), None)))
        return tuple(self.records)


class _Keeps(logging.Handler):
    """Stands in a worker for all handlers of a logger."""

    applied = Levels(0, ())
    """How the loggers of this process were set last."""

    def emit(self, record: logging.LogRecord) -> None:
        kept = _kept.get()
        if kept is None:  # of a thread that a step has started: where it would go in a process by itself
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)
        elif kept.last is not record:  # on its way to the root it passes several
            kept.last = record
            kept.add(record)


_keeps = _Keeps()


@contextmanager
def collected(as_in: Levels | None) -> Generator[_Kept]:
    """Keep what is logged in this block, by levels as in another process; of this one, handlers have it at once."""
    if as_in is not None and as_in != _keeps.applied and as_in.process != _process():
        _apply(as_in)
    kept = _Kept()
    before = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(before)


def _apply(as_in: Levels) -> None:
    """Set the loggers of this process."""
    gone = {each.logger for each in _keeps.applied.loggers} - {each.logger for each in as_in.loggers}
    for each in (*(Level(name, logging.NOTSET, True, False, False) for name in gone), *as_in.loggers):
        logger = logging.getLogger(each.logger or None)
        logger.setLevel(each.level)
        logger.propagate, logger.disabled = each.propagate, each.disabled
        (logger.addHandler if each.has_handlers else logger.removeHandler)(_keeps)
    logging.disable(as_in.disable)
    _keeps.applied = as_in


def _plain(record: logging.LogRecord) -> Record:
    """A record that another process can read: its text made, and what is no plain value as text."""
    trace = record.exc_text or (logging.Formatter().formatException(record.exc_info) if record.exc_info else None)
    more = {"msg": _text(record.getMessage, record.msg), "args": None, "exc_info": None, "exc_text": trace}
    found = record.__dict__ | more
    return {name: each if type(each) in _PLAIN else _text(each.__str__, "…") for name, each in found.items()}


def _text(make: Callable[[], str], otherwise: object) -> str:
    """A text that user code makes: a wrong format string, or a class that cannot be printed, fails no step."""
    try:
        return str.__str__(make())  # of no class but str
    except Exception:
        return f"{otherwise!s}"


# --- in the engine's process ----------------------------------------------------------------------


def hand_on(records: Iterable[Record]) -> None:
    """Have the loggers of this process handle what was logged in a worker; never raises."""
    for each in records:
        try:
            record = logging.makeLogRecord(dict(each))
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        except Exception:  # of a handler or filter: whatever it is, the results are not to wait for it
            log.debug("a record of a worker could not be handled", exc_info=True)

"""What a step raised, as text that can be stored, whatever the error is. Pure."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from nbbatch.base.errors import RetryLater, Signal
from nbbatch.base.rows import Failure
from nbbatch.code.modules import module_of

MAX_TEXT_CHARS = 200_000
"""Error messages and tracebacks longer than this lose their middle."""
MAX_LINE_CHARS = 300
"""Of a line of source."""
_LIBRARY = re.compile(r"site-packages|/lib/python\d|<frozen")
"""Files whose frames are not the user's own."""
_WORKER = str(Path(__file__).parent) + os.sep
"""Frames of files in this folder are left out of a traceback's beginning."""


class Hides(Protocol):
    """What hides secrets."""

    def whole(self, text: str) -> str:
        """The text without whole secrets."""
        ...

    def pieces(self, text: str) -> str:
        """The text without pieces of secrets."""
        ...


def failure(error: BaseException, hides: Hides | None = None) -> Failure | None:
    """What is stored of an error or signal, secrets as stars; None of a `RetryLater` without a reason."""
    if isinstance(error, Signal):
        reason = tidy(_reason(error), hides)
        return None if isinstance(error, RetryLater) and not reason else Failure(type(error).__name__, reason, "")
    name = type_name(type(error))
    trace, raised = _traceback(error)
    return Failure(clean(name), tidy(text_of(error), hides), tidy(trace, hides), tidy(raised, hides)[:MAX_LINE_CHARS])


def type_name(kind: type[BaseException]) -> str:
    """A class of errors by the name that users write: of a private module, where it is imported from.

    >>> from pydantic import ValidationError
    >>> type_name(ValueError), type_name(ValidationError)
    ('ValueError', 'pydantic.ValidationError')
    """
    module = kind.__module__
    if module in {"builtins", "__main__"}:
        return kind.__qualname__
    if "._" in f".{module}":
        module = module_of(kind)
        public = module.removesuffix("_core")  # pydantic_core is to pydantic what a private module is
        module = public if getattr(sys.modules.get(public), kind.__qualname__, None) is kind else module
    return f"{module}.{kind.__qualname__}"


def tidy(text: str, hides: Hides | None) -> str:
    """Text as it is stored. Secrets go before it is cut, lest a part of one is left."""
    cleaned = clean(text)
    return shorten(cleaned) if hides is None else hides.pieces(shorten(hides.whole(cleaned)))


def _reason(signal: Signal) -> str:
    try:
        return str(getattr(signal, "reason", ""))
    except Exception as other:  # as in `text_of`
        return f"<a reason whose text could not be made: {type(other).__name__}>"


def user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the user's own frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_WORKER):
        frames = frames.tb_next
    return frames or error.__traceback__


def _traceback(error: BaseException) -> tuple[str, str]:
    """The traceback, and the innermost line of the user's own code: of a library's frames the last before them."""
    try:
        told = traceback.TracebackException(type(error), error, user_frames(error), compact=True)
        return "".join(told.format()), raising_line(told.stack)
    except Exception as other:  # an exception whose attributes raise must not hide the failure
        return f"{type(error).__name__} (its traceback could not be formatted: {type(other).__name__})", ""


def raising_line(frames: Sequence[traceback.FrameSummary]) -> str:
    """The function and the source line of the last frame that is no library's; "" without frames.

    >>> raising_line([traceback.FrameSummary("cell.py", 3, "price", line="return 1 / 0")])
    'price: return 1 / 0'
    """
    if not frames:
        return ""
    last = next((each for each in reversed(frames) if not _LIBRARY.search(each.filename)), frames[-1])
    return f"{last.name}: {last.line or f'line {last.lineno}'}"


def text_of(error: BaseException) -> str:
    """What an error says of itself."""
    try:
        return str(error)
    except Exception as other:  # a __str__ that raises is the step's; the failure still has to be told
        return f"<{type(error).__name__} whose text could not be made: {type(other).__name__}>"


def clean(text: str) -> str:
    r"""Text that can be stored and shown: NUL and lone surrogates written as escapes.

    >>> clean("a" + chr(0) + "b" + chr(0xD800))
    'a\\x00b\\ud800'
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def shorten(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    r"""Text without its middle where it is longer than ``limit`` characters.

    >>> shorten("abcdefghij", 4)
    'ab\n… 6 characters left out …\nij'
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"

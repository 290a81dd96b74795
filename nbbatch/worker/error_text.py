"""What a step raised, as text that can be stored, whatever the error is. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, quote_plus

from nbbatch.base.errors import RetryLater, Signal
from nbbatch.base.rows import Failure
from nbbatch.values.codec import MASK

LEAST_SECRET = 4
"""Secrets of fewer characters are left in texts: nothing could be read otherwise."""
MAX_TEXT_CHARS = 200_000
"""Error messages and tracebacks longer than this lose their middle."""
_WORKER = str(Path(__file__).with_name("attempt.py"))
"""Whose frames are left out of a traceback."""


def failure(error: BaseException) -> Failure | None:
    """What is stored of an error or signal; None of a `RetryLater` without a reason."""
    if isinstance(error, Signal):
        reason = _reason(error)
        return None if isinstance(error, RetryLater) and not reason else Failure(type(error).__name__, reason, "")
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    return Failure(clean(name), shorten(clean(text_of(error))), shorten(clean(_traceback(error))))


def _reason(signal: Signal) -> str:
    try:
        return shorten(clean(str(getattr(signal, "reason", ""))))
    except Exception as other:  # as in `text_of`
        return f"<a reason whose text could not be made: {type(other).__name__}>"


def user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the user's own frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == _WORKER:
        frames = frames.tb_next
    return frames or error.__traceback__


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, user_frames(error))
    except Exception as other:  # an exception whose attributes raise must not hide the failure
        return f"{type(error).__name__} (its traceback could not be formatted: {type(other).__name__})"
    return "".join(lines)


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


def starred(text: str, secrets: Iterable[str]) -> str:
    """A text with stars for the secrets in it, as they are or as an address or a traceback writes them.

    >>> starred("GET /?key=a%2Fbcd", ["a/bcd"])
    'GET /?key=**********'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= LEAST_SECRET:
            for written in (secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]):
                text = text.replace(written, MASK)
    return text


def shorten(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    r"""Text without its middle where it is longer than ``limit`` characters.

    >>> shorten("abcdefghij", 4)
    'ab\n… 6 characters left out …\nij'
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"

"""Numbers and texts on their way into the store, checked where they are declared or said. Pure.

The one home of such checks: each takes the value and what it is called, returns it as it is stored, or raises ValueError with the
name and the range. What means "no limit" (``math.inf``, ``sys.maxsize``, ``10**30``) is taken as that.
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

NO_LIMIT = 2**31 - 1
"""Counts from here on are no limit: a store's columns hold them, and nothing that runs gets there."""
MAX_ID = 2**63 - 1
"""Ids and versions at most."""
MAX_RECORDS = 10**15
"""Records of one attempt at most, so that sums over many of them have room."""
RATES = 1e-9, 1e9
"""Starts a second at least (one in thirty years), and from which on there is no limit."""


def whole(value: Any, what: str, least: int = 1, most: int = MAX_ID) -> int:
    """A whole number.

    >>> whole(7, "version=")
    7
    >>> whole(-7, "version=")
    Traceback (most recent call last):
    ValueError: version= must be a whole number, 1 or more, not -7
    """
    number = _at_least(value, what, least)
    if number > most:
        raise ValueError(f"{what} must be a whole number, at most {most:,}, not {shown(value)}")
    return number


def limit(value: Any, what: str, least: int = 1) -> int:
    """A number of things at most; `NO_LIMIT` where it means that.

    >>> limit(3, "max_attempts="), limit(math.inf, "max_attempts=") == limit(10**30, "max_attempts=") == NO_LIMIT
    (3, True)
    """
    return NO_LIMIT if real(value) == math.inf else min(_at_least(value, what, least), NO_LIMIT)


def budget(value: Any, what: str) -> float:
    """Failures that are allowed: a number (int), or a share (float).

    >>> budget(3, "max_failed="), budget(0.5, "max_failed="), budget(math.inf, "max_failed=") == NO_LIMIT
    (3, 0.5, True)
    """
    number = index(value)
    if number is None:
        number = real(value)
    if number is None or not number >= 0:
        raise ValueError(f"{what} must be 0 or more, not {shown(value)}")
    return min(number, NO_LIMIT)


def share(value: Any, what: str) -> float:
    """A number between 0 and 1."""
    number = real(value)
    if number is None or not 0 < number < 1:
        raise ValueError(f"{what} must be above 0 and below 1, not {shown(value)}")
    return number


def portion(value: Any, what: str) -> float:
    """A number from 0 to 1."""
    number = real(value)
    if number is None or not 0 <= number <= 1:
        raise ValueError(f"{what} must be from 0 to 1, not {shown(value)}")
    return number


def rate(value: Any, what: str) -> float | None:
    """Starts a second; None: without a limit.

    >>> rate(2, "rate="), rate(math.inf, "rate="), rate(None, "rate=")
    (2.0, None, None)
    """
    number = math.inf if value is None else real(value)
    if number is None or not number >= RATES[0]:
        raise ValueError(f"{what} must be above 0 ({RATES[0]:g} at least), not {shown(value)}")
    return number if number < RATES[1] else None


def flag(value: Any, what: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, not {shown(value)}")  # noqa: TRY004 - one kind of error for all of it
    return value


def text(value: Any, what: str) -> str:
    r"""Text that can be stored as it is.

    >>> text("a\ud800", "key=")
    Traceback (most recent call last):
    ValueError: key= must be text without lone surrogates (half a character), not 'a\ud800'
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, not {shown(value)}")  # noqa: TRY004 - one kind of error for all of it
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} must be text without lone surrogates (half a character), not {shown(value)}"
        ) from None
    return value


def shown(value: Any) -> str:
    """A value in an error's text, whatever it is and however long."""
    try:
        said = repr(value)
    except Exception as error:  # an object that cannot be shown, or an int of 5,000 digits
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return said if len(said) <= 100 else f"{said[:100]}…"


def _at_least(value: Any, what: str, least: int) -> int:
    number = index(value)
    if number is None or number < least:
        raise ValueError(f"{what} must be a whole number, {least} or more, not {shown(value)}")
    return number


def index(value: Any) -> int | None:
    """A whole number of whatever type (numpy's too), but no bool."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def real(value: Any) -> float | None:
    """A number of whatever type (numpy's too), but no bool; None: it is none. One too large for a float is infinite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value >= 0 else -math.inf  # pyright: ignore[reportOperatorIssue] - a Real

"""Times as people give them: `duration` reads a length of time, `moment` a point in time, `delay` either. Pure.

A number is seconds. Text is a number with a unit ("90 s", "10 min", "1 h 30 min"); for a point in time also ISO 8601 or
an HTTP date. A datetime without a zone is local time, everywhere.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta

from nbbatch.base.ranges import real, shown

Duration = float | timedelta | str
"""Seconds, a timedelta, or text."""
Moment = datetime | date | float | timedelta | str
"""A datetime or its text; or how long ago: seconds, a timedelta, or text."""

LONGEST = 10 * 366 * 86400
"""Seconds that anything may be told to wait. More than that is another unit, or a point in time."""

_UNITS = {
    "ms": 0.001, "millisecond": 0.001, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600,
    "hour": 3600, "d": 86400, "day": 86400, "w": 604800, "week": 604800,
}  # fmt: skip
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)[\s,]*", re.IGNORECASE)
_HTTP = re.compile(r"[a-z]{3,9}, ?\d", re.IGNORECASE)
_EPOCH = datetime.fromtimestamp(0, UTC)


def duration(said: Duration, name: str) -> float:
    """Seconds, 0 or more.

    Args:
        said: Seconds, a timedelta, or text.
        name: What it was given for, as the error says it: ``"timeout="``.

    Raises:
        ValueError: It is none of these, negative, or longer than ten years.

    >>> duration("1.5 h", ""), duration(timedelta(minutes=2), ""), duration("1 h 30 min", ""), duration("90", "")
    (5400.0, 120.0, 5400.0, 90.0)
    >>> duration(1e12, "timeout=")
    Traceback (most recent call last):
    ValueError: timeout= takes at most ten years, not 1000000000000.0; it is in seconds
    """
    seconds = _seconds(said)
    if seconds is None or math.isnan(seconds) or seconds < 0:
        raise ValueError(
            f"{name} takes seconds, 0 or more, a timedelta, or text such as '90 s' or '10 min'; not {shown(said)}"
        )
    if seconds > LONGEST:
        raise ValueError(f"{name} takes at most ten years, not {shown(said)}; it is in seconds")
    return seconds


def patience(said: Duration | None, name: str) -> float | None:
    """Seconds to wait at most, 0 or more; None: without a limit, which more than ten years is too.

    >>> patience("10 min", ""), patience(math.inf, ""), patience(None, "")
    (600.0, None, None)
    """
    seconds = math.inf if said is None else _seconds(said)
    return None if seconds is not None and seconds > LONGEST else duration(said, name)  # pyright: ignore[reportArgumentType]


def moment(said: Moment | None, now_us: int, name: str = "as_of=") -> int | None:
    """Microseconds since 1970 UTC of a point in time; None stays None.

    Args:
        said: A datetime or date (without a zone: local time), its text, or how long ago: seconds, a timedelta, "10 min",
            "2 hours ago".
        now_us: The present.
        name: What it was given for, as the error says it.

    Raises:
        ValueError: It is none of these.

    >>> moment("10 min ago", 700_000_000), moment("1970-01-01T00:00:01+00:00", 0), moment(timedelta(seconds=1), 3_000_000)
    (100000000, 1000000, 2000000)
    """
    if said is None:
        return None
    found = _point(said)
    if found is None:
        found = _ago(said.strip().removesuffix("ago") if isinstance(said, str) else said, now_us, name)
    if found is None:
        raise ValueError(
            f"{name} takes a datetime, its ISO text, or how long ago: seconds, a timedelta, or text such as '10 min ago', "
            f"'2 hours ago'; not {shown(said)}"
        )
    return found


def portable(said: Moment | None, now_us: int, name: str) -> float | str | None:
    """A point in time as it is told to a process with another clock or zone: seconds ago, or ISO text with a zone.

    Args:
        said: As for `moment`.
        now_us: The present here.
        name: What it was given for, as the error says it.

    Raises:
        ValueError: It is no point in time.

    >>> portable("10 min ago", 700_000_000, ""), portable("1970-01-01T00:00:01+00:00", 0, "")
    (600.0, '1970-01-01T00:00:01+00:00')
    """
    at = moment(said, now_us, name)
    if said is None or at is None:
        return None
    ago = (now_us - at) / 1e6
    return ago if _point(said) is None and ago <= LONGEST else time_of(at).isoformat()


def delay(said: Duration | datetime, now_us: int, name: str) -> float:
    """Seconds from now: a length of time, or until a point in time, of which 0 once it is over.

    Args:
        said: As for `duration`; or a datetime, its ISO text or an HTTP date, as a ``Retry-After`` header has it.
        now_us: The present.
        name: What it was given for, as the error says it.

    Raises:
        ValueError: It is none of these, negative, or longer than ten years.

    >>> delay("120", 0, ""), delay("Thu, 01 Jan 1970 00:01:00 GMT", 20_000_000, "")
    (120.0, 40.0)
    """
    point = None if _seconds(said) is not None else _point(said)
    if point is not None:
        return duration(max(0, point - now_us) / 1e6, name)
    if isinstance(said, datetime) or _seconds(said) is None:
        raise ValueError(
            f"{name} takes seconds, a timedelta, a datetime, or text such as '10 min' or an HTTP date; not {shown(said)}"
        )
    return duration(said, name)


def in_words(us: int) -> str:
    """A time as a page says it.

    >>> in_words(1_000_001)
    '1970-01-01 00:00:01 UTC'
    """
    return f"{time_of(us):%Y-%m-%d %H:%M:%S} UTC"


def time_of(us: int) -> datetime:
    """Microseconds since 1970 UTC as a time with its zone.

    >>> str(time_of(1_000_001))
    '1970-01-01 00:00:01.000001+00:00'
    """
    return _EPOCH + timedelta(microseconds=us)


def _ago(said: object, now_us: int, name: str) -> int | None:
    """The point in time so long ago; None: it is no length of time."""
    ago = _seconds(said)
    if ago is None or not 0 <= ago < math.inf:
        return None
    if ago > LONGEST and not isinstance(said, timedelta):
        raise ValueError(f"{name} takes seconds ago, not since 1970: give datetime.fromtimestamp(…) for {shown(said)}")
    return max(0, now_us - round(ago * 1e6))


def _seconds(said: object) -> float | None:
    """A length of time; None: it is no such thing."""
    if isinstance(said, timedelta):
        return said.total_seconds()
    if isinstance(said, str):
        return _spelled(said.strip())
    return real(said)


def _spelled(text: str) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    total, place = 0.0, 0
    while found := _PART.match(text, place):
        word = found[2].lower()
        unit = _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if unit is None:
            return None
        total, place = total + float(found[1]) * unit, found.end()
    return total if place and place == len(text) else None


def _point(said: object) -> int | None:
    """A point in time; None: it is no such thing."""
    if isinstance(said, str):
        said = _parsed(said.strip())
    elif isinstance(said, date) and not isinstance(said, datetime):
        said = datetime.combine(said, time())  # local time, as a datetime without a zone
    if not isinstance(said, datetime):
        return None
    try:
        return (said.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (OverflowError, ValueError):  # the first or last day there is
        return None


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    if not _HTTP.match(text):
        return None
    from email.utils import parsedate_to_datetime  # takes a while to import, and only HTTP dates need it

    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None

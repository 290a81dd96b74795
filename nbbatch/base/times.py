"""A time as people say it → microseconds since 1970 UTC. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_AGO = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)s?\s+ago\s*", re.IGNORECASE)

Moment = datetime | str


def moment(said: Moment | None, now_us: int) -> int | None:
    """Microseconds since 1970 UTC of a time; None stays None.

    Args:
        said: A datetime (without a zone: local time), its ISO text, or how long ago: "10 min ago", "2 hours ago".
        now_us: The present.

    Raises:
        ValueError: It is none of these.

    >>> moment("10 min ago", 700_000_000), moment("1970-01-01T00:00:01+00:00", 0)
    (100000000, 1000000)
    """
    if said is None:
        return None
    if isinstance(said, str):
        ago = _AGO.fullmatch(said)
        if ago and ago[2].lower() in _UNITS:
            return now_us - round(float(ago[1]) * _UNITS[ago[2].lower()] * 1e6)
        said = _parsed(said)
    if not isinstance(said, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _refused(said)
    return (said.astimezone(UTC) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def time_of(us: int) -> datetime:
    """Microseconds since 1970 UTC as a time with its zone.

    >>> str(time_of(1_000_001))
    '1970-01-01 00:00:01.000001+00:00'
    """
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise _refused(text) from None


def _refused(said: object) -> ValueError:
    return ValueError(
        f"as_of= takes a datetime, its ISO text or how long ago, such as '10 min ago', '2 hours ago'; not {said!r}"
    )

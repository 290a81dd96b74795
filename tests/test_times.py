"""Times as people give them."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.base.times import LONGEST, delay, duration, moment
from nbbatch.testing import START_US
from tests.jobs import numbers, summing
from tests.kit import HandClock

NOW_US = 1_700_000_000_000_000  # 14 November 2023, 22:13:20 UTC
NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
HOUR_US = 3_600_000_000


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is three hours before UTC."""
    monkeypatch.setenv("TZ", "EAST-03:00")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (0, 0), (90, 90), (0.5, 0.5), (timedelta(minutes=2), 120), ("90", 90), ("90 s", 90), ("1.5h", 5400), ("10 min", 600),
        ("2 Hours", 7200), ("1 h 30 min", 5400), ("1 day, 2 hours", 93_600), ("250 ms", 0.25), ("2w", 1_209_600),
        (LONGEST, LONGEST),
    ],
)  # fmt: skip
def test_a_duration_is_seconds_a_timedelta_or_text(said: Any, seconds: float) -> None:
    """V7"""
    assert duration(said, "timeout=") == seconds
    assert delay(said, NOW_US, "timeout=") == seconds
    assert moment(said, NOW_US) == NOW_US - round(seconds * 1e6)


@pytest.mark.parametrize(
    "wrong",
    [-1, math.nan, math.inf, 1e12, timedelta(seconds=-1), timedelta.max, "", "soon", "10 parsecs", "10 min soon", "1 2 s", True,
     None, [60], b"60"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_is(wrong: Any) -> None:
    """V7"""
    with pytest.raises(ValueError, match=r"^timeout= takes .* not ") as told:
        duration(wrong, "timeout=")
    assert repr(wrong) in str(told.value)
    with pytest.raises(ValueError, match=r"^RetryLater takes .* not "):
        delay(wrong, NOW_US, "RetryLater")


@pytest.mark.parametrize(
    "said",
    [
        NOW - timedelta(hours=1), "2023-11-14T21:13:20+00:00", "2023-11-14 21:13:20Z", "20231114T211320Z", "1 hour ago", "1 h",
        " 60 min ago ", 3600, timedelta(hours=1), "Tue, 14 Nov 2023 21:13:20 GMT",
    ],
)  # fmt: skip
def test_a_point_in_time_is_a_datetime_its_text_or_how_long_ago(said: Any) -> None:
    """V7"""
    assert moment(said, NOW_US) == NOW_US - HOUR_US


@pytest.mark.parametrize(
    "wrong",
    [1_764_000_000, pytest.param(time.time(), id="the present"), -1, math.inf, "when", "10 parsecs ago", True, [1]],
)
def test_what_is_no_point_in_time_is_refused_with_what_is(wrong: Any) -> None:
    """V7"""
    with pytest.raises(ValueError, match=r"^since= takes "):
        moment(wrong, NOW_US, "since=")


def test_what_is_longer_ago_than_time_goes_back_is_the_beginning() -> None:
    assert moment(timedelta.max, NOW_US) == 0


@pytest.mark.usefixtures("east")
def test_a_datetime_without_a_zone_is_local_time_everywhere(batch: nb.Batch, clock: HandClock) -> None:
    """V8"""
    local = datetime(2023, 11, 15, 1, 13, 20)  # noqa: DTZ001 - without a zone
    assert clock.now() == START_US == NOW_US
    assert moment(local, 0) == NOW_US
    assert delay(local, NOW_US - 5_000_000, "") == 5
    assert moment(str(local), 0) == moment("2023-11-15T01:13:20", 0) == NOW_US
    assert moment(date(2023, 11, 15), 0) == moment("2023-11-15", 0) == NOW_US - HOUR_US - 800_000_000
    with pytest.raises(ValueError, match="as_of= takes"):
        moment(datetime.min, 0)  # noqa: DTZ901 - which is before the first day in UTC
    run = batch.submit(summing(), 3)
    run.wait(10)
    clock.advance(60)

    early, late = local - timedelta(seconds=1), local + timedelta(seconds=1)
    assert batch.instances(since=early).height == 1
    assert batch.instances(since=late).is_empty()
    assert run.chunks(as_of=early).is_empty()
    assert run.chunks(as_of=late).height == 5
    assert batch.purge(older_than=early) == 0
    assert batch.purge(older_than=late) == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (5, 5), (timedelta(minutes=1), 60), ("90", 90), ("10 min", 600), (lambda: datetime.now(UTC) + timedelta(hours=1), 3600),
        (lambda: datetime.now() + timedelta(hours=1), 3600),  # noqa: DTZ005 - local time
        (lambda: format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True), 7200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0), (datetime(2020, 1, 1, tzinfo=UTC), 0),
    ],
)  # fmt: skip
def test_retry_later_takes_a_time_in_every_form(said: Any, seconds: float) -> None:
    """V7"""
    signal = nb.RetryLater(said() if callable(said) else said, "busy")  # a time to come is made when it is asked for

    assert seconds - 50 < signal.seconds <= seconds + 1
    assert pickle.loads(pickle.dumps(signal)).seconds == signal.seconds


@pytest.mark.parametrize("wrong", [-1, math.nan, 1_764_000_000_000, "soon", None, datetime(2099, 1, 1, tzinfo=UTC)])
def test_retry_later_refuses_what_is_no_time(wrong: Any) -> None:
    """V7"""
    with pytest.raises(nb.ValueNotStorable, match="RetryLater takes"):
        nb.RetryLater(wrong)


def test_options_of_a_step_take_times_in_every_form() -> None:
    """V7"""
    step = nb.step(timeout="1.5 min", backoff=timedelta(minutes=2))(numbers.function)

    assert step.options.timeout == 90
    assert step.options.backoff == nb.Backoff("2 min", 300) == nb.Backoff(120, "5 min")
    with pytest.raises(
        nb.DefinitionError, match=r"timeout= must be above 0: seconds, a timedelta or text .* not 'soon'"
    ):
        nb.step(timeout="soon")(numbers.function)

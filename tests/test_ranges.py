"""Numbers and texts that the store cannot hold are refused where they are declared or said, by name."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.base.times import LONGEST
from tests.jobs import drop, each, numbers, one_step, summing
from tests.kit import HandClock, settle

NAN, INF = math.nan, math.inf
HALF = "half \ud800 a character"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_attempts", 0), ("max_attempts", NAN), ("max_attempts", -(10**30)), ("max_attempts", True), ("max_attempts", 2.5),
        ("concurrency", 0), ("concurrency", NAN), ("max_skipped", -1), ("max_skipped", -INF), ("max_failed", NAN),
        ("max_failed", -1), ("max_failed", -(10**400)), ("rate", 0), ("rate", NAN), ("rate", 5e-324), ("timeout", 0),
        ("timeout", NAN), ("timeout", timedelta(-1)), ("timeout", "for long"), ("weight", NAN), ("weight", 10**400), ("backoff", -1),
        ("backoff", NAN), ("backoff", 1e15), ("backoff", INF), ("backoff", "for long"), ("description", HALF), ("name", HALF),
        ("gate", 1), ("retry_on", [3]),
    ],
)  # fmt: skip
def test_an_option_out_of_its_range_is_refused_by_name(option: str, value: Any) -> None:
    """C60"""
    with pytest.raises(nb.DefinitionError, match=option):
        nb.step(**{option: value})(drop.function)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("version", 0),
        ("version", 2**63),
        ("version", True),
        ("start_limit", NAN),
        ("max_failed", NAN),
        ("description", HALF),
    ],
)
def test_an_option_of_a_job_out_of_its_range_is_refused_by_name(option: str, value: Any) -> None:
    """C60"""
    with pytest.raises(nb.DefinitionError, match=option):
        nb.Job("odd", numbers >> drop, **{option: value})


@pytest.mark.parametrize("field", ["base", "cap", "jitter"])
@pytest.mark.parametrize("value", [NAN, -1, "long", None])
def test_a_backoff_out_of_its_range_is_refused_by_name(field: str, value: Any) -> None:
    """C60"""
    if (field, value) != ("cap", None):
        with pytest.raises(nb.DefinitionError, match=field):
            nb.Backoff(**{field: value})


def test_an_int_too_long_to_be_printed_is_refused_too() -> None:
    """C60"""
    with pytest.raises(nb.DefinitionError, match=r"version= must be .* not a int that cannot be shown"):
        nb.Job("odd", numbers >> drop, version=10**5000)


@pytest.mark.parametrize("much", [INF, sys.maxsize, 10**30, 10**400], ids=["inf", "maxsize", "1e30", "1e400"])
def test_what_means_no_limit_is_none(batch: nb.Batch, much: Any) -> None:
    """C61"""

    def visit(i: int) -> None:
        if i == 1:
            raise LookupError("odd")
        if i == 2:
            raise ValueError("even")

    step = nb.step(
        max_attempts=much, concurrency=much, max_skipped=much, max_failed=much, rate=much, timeout=much, skip_on=LookupError,
        fail_on=ValueError, backoff=nb.Backoff(cap=much),
    )(visit)  # fmt: skip
    run = batch.submit(nb.Job("much", numbers >> step, max_failed=much, start_limit=much), 4)

    assert run.wait(10) == "COMPLETED"
    assert sorted(run.chunks("visit")["status"]) == ["COMPLETED", "COMPLETED", "FAILED", "SKIPPED"]


@pytest.mark.parametrize(
    ("say", "name"),
    [
        (lambda: nb.context().records(2**70), "records"),
        (lambda: nb.context().records(-1), "records"),
        (lambda: nb.context().records(NAN), "records"),
        (lambda: nb.context().records("3"), "records"),  # type: ignore[arg-type]
        (lambda: _raise(nb.RetryLater(1_764_000_000_000)), "RetryLater"),
        (lambda: _raise(nb.RetryLater(NAN)), "RetryLater"),
        (lambda: _raise(nb.RetryLater(-1)), "RetryLater"),
        (lambda: _raise(nb.RetryLater(timedelta.max)), "RetryLater"),
        (lambda: _raise(nb.RetryLater("soon")), "RetryLater"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_a_step_says_out_of_range_fails_its_chunk_at_once_and_nothing_else(
    batch: nb.Batch, say: Callable[[], object], name: str
) -> None:
    """C62"""
    run = batch.submit(each(lambda i: say() if i == 1 else None, max_failed=1), 3)

    assert run.wait(10) == "COMPLETED"
    assert sorted(run.chunks("visit")["status"]) == ["COMPLETED", "COMPLETED", "FAILED"]
    (error,) = run.errors().iter_rows(named=True)
    assert error["error_type"] == "nbbatch.ValueNotStorable"
    assert name in error["error"]


def test_a_delay_may_be_a_timedelta_and_long(batch: nb.Batch, clock: HandClock) -> None:
    delays = iter([timedelta(minutes=1), LONGEST])
    run = batch.submit(one_step(lambda _: _raise(nb.RetryLater(next(delays)))), 1)
    settle(batch)
    assert run.chunks()["polls"].item() == 1
    clock.advance(60)
    settle(batch)

    assert run.chunks()["polls"].item() == 2
    assert (run.chunks()["due"].item() - datetime.fromtimestamp(0, tz=run.chunks()["due"].item().tzinfo)).days > 3650
    assert batch.submit(summing(), 3).result(10) == 6


@pytest.mark.parametrize("text", [HALF, "nul \0 in it"])
def test_texts_that_a_step_leaves_are_kept_as_escapes(batch: nb.Batch, text: str) -> None:
    """C62"""

    def say(i: int) -> None:
        nb.context().warn(text)
        nb.context().recovered(text)
        nb.context().log.info(text)
        print(text)
        raise [nb.SkipChunk(text), nb.FailChunk(text), ValueError(text)][i]

    run = batch.submit(each(say, max_attempts=1), 3)
    run.wait(10)

    assert sorted(run.chunks("visit")["status"]) == ["FAILED", "FAILED", "SKIPPED"]
    shown = repr((run.warnings, run.logs().rows(), run.errors().rows(), run.skips().rows()))
    assert "\\ud800" in shown or "\\\\x00" in shown
    assert pl.Series([shown]).str.len_chars().item() > 0


def test_a_reason_is_cleaned_and_has_to_be_text(batch: nb.Batch) -> None:
    run = batch.submit(each(lambda _: _raise(nb.FailChunk()), max_attempts=1), 2)
    run.wait(10)
    first, second = run.chunks("visit")["id"]
    run.skip(first, HALF)
    with pytest.raises(ValueError, match="the reason must be text, not None"):
        run.skip(second, None)  # type: ignore[arg-type]

    assert run.skips()["reason"].to_list() == ["half \\ud800 a character"]


def test_texts_of_a_submit_are_refused_by_name_and_nothing_is_stored(batch: nb.Batch) -> None:
    """S60"""
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"in": deep}
    with pytest.raises(ValueError, match="key= must be text without lone surrogates"):
        batch.submit(summing(), 1, key=HALF)
    with pytest.raises(ValueError, match="key= must be text, not 3"):
        batch.submit(summing(), 1, key=3)  # type: ignore[arg-type]
    with pytest.raises(nb.ParameterError, match=r"attach\.half \\ud800 a character: .* lone surrogates"):
        batch.submit(summing(), 1, attach={HALF: b""})
    with pytest.raises(nb.ParameterError, match=r"user_data: .*recursion"):
        batch.submit(summing(), 1, user_data=deep)

    assert batch.instances().is_empty()
    assert batch.submit(summing(), 3, user_data={HALF: HALF}).user_data == {HALF: HALF}


def test_ages_as_long_as_can_be_said_are_before_everything(batch: nb.Batch) -> None:
    run = batch.submit(summing(), 3)
    run.wait(10)

    assert batch.cancel(older_than=timedelta.max) == batch.purge(older_than=timedelta.max) == 0
    with pytest.raises(ValueError, match="older_than="):
        batch.purge(older_than=timedelta.min)
    with pytest.raises(ValueError, match="older_than="):
        batch.purge(older_than=10**400)
    for odd in (2**63, -1, 10**5000):
        with pytest.raises(nb.NotFoundError):
            batch.instance(odd)
        with pytest.raises(nb.NotFoundError):
            run.chunk(odd)


def test_rows_beside_one_that_cannot_be_stored_are_not_stored_twice(store: Path) -> None:
    """R60"""
    with nb.open(store, executor=nb.inline()) as batch:
        inner = batch._store

        def write(*texts: str) -> None:
            with inner.transaction():
                inner.append("user_data", [(place, 1, 0, text) for place, text in enumerate(texts)])

        with pytest.raises(nb.ValueNotStorable, match="a value cannot be stored"):
            batch._engine.call(write, "{}", "{}", "{}", HALF)
        batch._engine.call(write, "[]", "[]", "[]")

        assert batch.sql("SELECT data FROM user_data")["data"].to_list() == ["[]"] * 3


def _raise(error: BaseException) -> None:
    raise error

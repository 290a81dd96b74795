"""Micro-batches: their inputs are read in one call, and one that takes too long gives back what it has not begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch.base.items import Fresh
from nbbatch.values.codec import codec_for
from nbbatch.values.many import MOST_BYTES, decoded
from nbbatch.values.parameters import ParamsCodec
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import MicroBatch, StoredParams
from tests.kit import HandClock

SLOW = 20
"""Items from this one on are slow."""


class Reading(BaseModel):
    code: str
    value: float | None = None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (int, [0, -7, 10**30]),
        (str, ["", 'a, "b"', "[1]"]),
        (Reading, [Reading(code="a"), Reading(code="b", value=0.1)]),
        (list[datetime], [[datetime(2026, 1, 2, tzinfo=UTC)], []]),
    ],
)
def test_many_values_are_read_in_one_call(kind: Any, values: list[Any]) -> None:
    codec = codec_for(kind)
    assert decoded(codec, [codec.encode(value) for value in values]) == values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (list[datetime], [[], [datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Zurich"))]]),
        (Any, [1, {2, 3}]),
        (str, ["a", "b" * MOST_BYTES]),
    ],
)
def test_values_that_are_no_plain_json_are_read_one_by_one(kind: Any, values: list[Any]) -> None:
    codec = codec_for(kind)
    stored = [codec.encode(value) for value in values]
    assert decoded(codec, stored) is None
    assert list(map(repr, map(codec.decode, stored))) == list(map(repr, values))


def test_one_stored_value_is_never_read_as_two() -> None:
    assert decoded(codec_for(int), [b"1,2", b"3"]) is None
    assert decoded(codec_for(int), [b"1", None]) is None


def test_an_input_that_is_not_read_fails_alone() -> None:
    @nb.step(max_attempts=1)
    def plus(i: int) -> int:
        return i + 1

    node = nb.Job("plus", _items(1) >> plus >> total).current()[1]
    micro = MicroBatch(1, node, StoredParams(ParamsCodec(Any), b"null"), Fresh(range(3), [b"1", b'"no"', b"3"]))

    results = run_chunks(micro)

    assert [*results.odd] == [1]
    assert results.odd[1].failure is not None
    assert results.outputs == [b"2", b"4"]


@nb.step
def total(values: Iterable[int]) -> int:
    return sum(values)


def _items(n: int) -> Any:
    @nb.step
    def items() -> Iterator[int]:
        yield from range(n)

    return items


def test_a_worker_gives_back_what_it_has_not_begun() -> None:
    @nb.step
    def plus(i: int) -> int:
        if i == 1:
            raise ValueError(i)
        return i + 1

    node = nb.Job("plus", _items(1) >> plus >> total).current()[1]
    time = count(0, 40)
    stored = [str(i).encode() for i in range(9)]
    micro = MicroBatch(
        1, node, StoredParams(ParamsCodec(Any), b"null"), Fresh(range(9), stored), lambda: next(time), most_us=100
    )

    results = run_chunks(micro)

    assert (results.outputs, [*results.odd], results.left) == ([b"1"], [1], 7)


def test_no_result_waits_for_chunks_that_turn_out_slow(batch: nb.Batch, clock: HandClock) -> None:
    """A step that was quick and is not any more is stored one by one; each chunk runs once, and none is charged."""
    ran: list[int] = []
    together: list[int] = []

    @nb.step
    def work(i: int) -> int:
        ran.append(i)
        if i >= SLOW:
            clock.advance(1.0)
        return i

    def note(live: Any, step: Any, items: Any, results: Any) -> None:
        slow = (
            [item for item in items if item.data is not None and int(item.data) >= SLOW] if step.node.index == 1 else []
        )
        together.append(len(slow))

    batch._engine.observer.function = note
    run = batch.submit(nb.Job("slow", _items(60) >> work >> total))

    assert run.result(30) == sum(range(60))
    assert sorted(ran) == [*range(60)]
    assert max(together) == 1
    assert set(run.attempts("work")["attempt"]) == {1}

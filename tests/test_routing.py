"""Branches: parallel, conditional, joined; ways past steps; deciders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch.base.rows import Item
from nbbatch.definition import routing
from nbbatch.values.parameters import ParamsCodec
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import MicroBatch, StoredParams
from tests.jobs import double, drop, numbers, total
from tests.kit import HandClock, count, settle, statuses


class Small(BaseModel):
    n: int


class Big(BaseModel):
    n: int


class Part(BaseModel):
    n: int


@nb.step
def sized(n: int) -> Iterator[Small | Big]:
    for i in range(n):
        yield Small(n=i) if i < 2 else Big(n=i)


@nb.step
def split(big: Big) -> Iterator[Part]:
    yield Part(n=big.n)
    yield Part(n=-big.n)


@nb.step
def whole(small: Small) -> Part:
    return Part(n=small.n)


@nb.step
def listing(parts: Iterable[Part]) -> list[int]:
    return [part.n for part in parts]


@nb.step
def squared(i: int) -> int:
    return i * i


def never(value: Any) -> None:
    raise AssertionError(f"{value} was not to come here")


def parity(i: int) -> str:
    return "odd" if i % 2 else "even"


def size(i: int) -> str:
    return "small" if i < 2 else "large"


# --- parallel and conditional, by type ------------------------------------------------------------


def test_parallel_branches_give_both_results_to_the_join(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("parallel", numbers >> (double | squared) >> total), 4)

    assert run.result(10) == sum(2 * i + i * i for i in range(4))
    assert run.steps()["completed"].to_list() == [1, 4, 4, 1]


def test_a_branch_that_gets_nothing_holds_nobody_up(batch: nb.Batch) -> None:
    """G3"""
    run = batch.submit(nb.Job("quiet", sized >> (split | whole) >> listing), 2)

    assert run.result(10) == [0, 1]
    assert run.steps()["chunks"].to_list() == [1, 0, 2, 1]
    assert run.progress == 1.0


def test_a_reduction_after_branches_reads_in_the_order_of_the_items(threaded: nb.Batch) -> None:
    """G6"""
    run = threaded.submit(nb.Job("ordered", sized >> (split | whole) >> listing), 5)

    assert run.result(10) == [0, 1, 2, -2, 3, -3, 4, -4]


def test_a_gate_after_branches_opens_when_all_of_them_are_done(batch: nb.Batch, clock: HandClock) -> None:
    """G1"""
    waits = True

    @nb.step
    def later(i: int) -> int:
        if waits and i == 1:
            raise nb.RetryLater(60)
        return i

    gated = nb.step(gate=True, name="gated")(double.function)
    run = batch.submit(nb.Job("join", numbers >> (squared | later) >> gated >> total), 2)
    settle(batch)

    assert statuses(run, "gated") == ["GATE_WAITING"] * 3
    waits = False
    clock.advance(60)
    assert run.result(10) == 2 * (0 + 1 + 0 + 1)


def test_a_gate_waits_for_a_branch_that_ended_before_it(batch: nb.Batch, clock: HandClock) -> None:
    """G1"""
    waits = True

    @nb.step
    def noted(i: int) -> None:
        if waits:
            raise nb.RetryLater(60)

    run = batch.submit(nb.Job("ended", numbers >> (double | noted) >> total), 2)
    settle(batch)

    assert count(run) == {"COMPLETED": 3, "POLL_WAITING": 2}
    waits = False
    clock.advance(60)
    assert run.result(10) == 2


def test_progress_over_branches_is_the_weighted_share_of_each(batch: nb.Batch) -> None:
    """L3"""

    @nb.step
    def stuck(i: int) -> int:
        raise nb.RetryLater(60)

    run = batch.submit(nb.Job("share", numbers >> (double | stuck) >> total), 4)
    settle(batch)

    assert run.progress == pytest.approx(0.25 + 0.25)


def test_a_failure_in_one_branch_lets_the_other_end_and_then_fails_the_instance(batch: nb.Batch) -> None:
    """G4"""

    @nb.step
    def failing(i: int) -> int:
        raise nb.FailChunk("no")

    run = batch.submit(nb.Job("half", numbers >> (double | failing) >> total), 3)

    assert run.wait(10) == "FAILED"
    assert run.steps()["completed"].to_list() == [1, 3, 0, 0]


# --- past a step ----------------------------------------------------------------------------------


@nb.step
def some_past(n: int) -> Iterator[Big | Part]:
    yield Big(n=n)
    yield Part(n=100)


@nb.step
def named_past(n: int) -> Iterator[int]:
    for i in range(n):
        yield nb.to(total, i) if i % 2 else i


def test_what_only_a_later_step_accepts_goes_past_the_ones_between(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("past", some_past >> (split | nb.to(listing)) >> listing), 7)

    assert run.result(10) == [7, -7, 100]


def test_what_is_given_to_a_named_step_goes_there_alone(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("named", named_past >> (double | nb.to(total)) >> total), 4)

    assert run.result(10) == 0 + 1 + 4 + 3
    assert run.steps()["chunks"].to_list() == [1, 2, 1]


def test_a_named_step_may_be_any_of_those_that_follow(batch: nb.Batch) -> None:
    @nb.step
    def pick(n: int) -> int:
        return nb.to("squared", n)

    run = batch.submit(nb.Job("pick", pick >> (double | squared) >> total), 5)

    assert run.result(10) == 25


def test_a_way_past_may_lead_over_a_whole_branch_and_into_a_gate(batch: nb.Batch) -> None:
    gated = nb.step(gate=True, name="gated")(double.function)

    @nb.step
    def start(n: int) -> Iterator[int]:
        yield nb.to("gated", n)
        yield n

    run = batch.submit(nb.Job("far", start >> (double >> squared | nb.to(gated)) >> gated >> total), 3)

    assert run.result(10) == 2 * 3 + 2 * 36
    assert [node.sources for node in nb.Job("far", start >> (double | nb.to(gated)) >> gated >> total).nodes][2] == (
        0,
        1,
    )


def test_a_way_past_may_be_begun_before_what_gives_to_it(batch: nb.Batch) -> None:
    tail = (split | nb.to(listing)) >> listing

    assert batch.submit(nb.Job("tail", some_past >> tail), 7).result(10) == [7, -7, 100]


def test_one_way_may_lead_past_two_joints(batch: nb.Batch) -> None:
    @nb.step
    def start(n: int) -> Iterator[int]:
        yield nb.to(total, 1000)
        yield n

    chain = start >> (double | nb.to(total)) >> (squared | nb.to(total)) >> total

    assert batch.submit(nb.Job("twice", chain), 3).result(10) == 1036


def test_naming_a_step_that_does_not_follow_fails_the_chunk_and_says_how_to_write_it(batch: nb.Batch) -> None:
    @nb.step
    def lost(n: int) -> int:
        return nb.to("total", n)

    run = batch.submit(nb.Job("lost", lost >> double >> total), 1)

    assert run.wait(10) == "FAILED"
    text = run.errors()["error"][0]
    assert "step 'lost' gives a value to 'total', but what follows it is 'double'" in text
    assert "lost >> (… | nb.to(total)) >> total" in text


def test_a_named_step_that_does_not_take_the_value_fails_the_chunk(batch: nb.Batch) -> None:
    @nb.step
    def wrong(n: int) -> Iterator[Big | Part]:
        yield nb.to("listing", Big(n=1))

    run = batch.submit(nb.Job("wrong", wrong >> (split | nb.to(listing)) >> listing), 1)

    assert run.wait(10) == "FAILED"
    assert "gives a Big to 'listing', which takes Part" in run.errors()["error"][0]


def test_ways_past_work_in_worker_processes(store: Any) -> None:
    executor = nb.processes(2)
    with nb.open(store, executor=executor) as batch:
        chain = named_past >> (nb.choose(parity, {"even": double, "odd": squared}) | nb.to(total)) >> total

        assert batch.submit(nb.Job("pool", chain), 4).result(30) == 0 + 1 + 4 + 3
    executor.shutdown()


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        (lambda: numbers >> (double | nb.to(total)) >> squared, r"nb.to\(total\) leads to step 'total'.* 'squared'"),
        (
            lambda: sized >> (split | nb.to(listing)),
            "gives Small, but step 'split' takes Big, step 'listing' takes Part",
        ),
        (lambda: numbers >> (double | nb.to(listing)), "'listing' takes Part, which no step before it gives"),
        (lambda: nb.Job("loose", numbers >> (drop | nb.to(total))), r"no end: nb.to\(total\) .* add >> total"),
        (lambda: nb.to("total"), "takes a step, or a step's name and a value"),
        (lambda: nb.to(never), "takes a step"),
    ],
)
def test_a_way_past_that_leads_nowhere_is_an_error_at_definition(chain: Callable[[], Any], text: str) -> None:
    """D2"""
    with pytest.raises(nb.DefinitionError, match=text):
        chain()


# --- deciders -------------------------------------------------------------------------------------


def test_each_value_takes_the_branch_its_decider_names(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("choice", numbers >> nb.choose(parity, {"even": double, "odd": squared}) >> total), 5)

    assert run.result(10) == (0 + 4 + 8) + (1 + 9)
    assert run.steps()["chunks"].to_list() == [1, 3, 2, 1]


def test_branches_of_a_choice_may_be_chains_ends_and_ways_past(batch: nb.Batch) -> None:
    def third(i: int) -> int:
        return i % 3

    choice = nb.choose(third, {0: double >> squared, 1: drop, 2: nb.to(total)})
    run = batch.submit(nb.Job("mixed", numbers >> choice >> total), 6)

    assert run.result(10) == (0 + 36) + (2 + 5)
    assert run.steps()["chunks"].to_list() == [1, 2, 2, 2, 1]


def test_choices_nest_and_the_inner_decider_is_asked_only_where_the_outer_led(batch: nb.Batch) -> None:
    asked: list[int] = []

    def inner(i: int) -> str:
        asked.append(i)
        return size(i)

    third = nb.step(name="third")(double.function)
    choice = nb.choose(parity, {"even": nb.choose(inner, {"small": double, "large": squared}), "odd": third})
    run = batch.submit(nb.Job("nested", numbers >> choice >> total), 4)

    assert run.result(10) == 0 + 2 + 4 + 6
    assert asked == [0, 2]


def test_a_choice_may_be_all_that_ends_a_chain(batch: nb.Batch) -> None:
    other = nb.step(name="other")(drop.function)
    run = batch.submit(nb.Job("ends", numbers >> nb.choose(parity, {"even": drop, "odd": other})), 3)

    assert run.wait(10) == "COMPLETED"
    assert run.steps()["completed"].to_list() == [1, 2, 1]


def test_a_key_without_a_branch_fails_the_chunk_and_names_those_there_are(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("key", numbers >> nb.choose(parity, {"even": double, "both": squared}) >> total), 2)

    assert run.wait(10) == "FAILED"
    assert (
        "decider 'parity' gave 'odd', which has no branch; the branches are 'even', 'both'" in run.errors()["error"][0]
    )


def test_what_a_decider_raises_counts_as_an_error_of_the_step_before(batch: nb.Batch) -> None:
    broken = True

    def sick(i: int) -> str:
        if broken:
            raise OSError("not today")
        return "only"

    run = batch.submit(nb.Job("sick", numbers >> nb.choose(sick, {"only": double}) >> total), 2)
    settle(batch)

    assert run.errors()["step"].to_list() == ["numbers"]
    broken = False
    batch._clock.advance(100)  # type: ignore[attr-defined]
    assert run.result(10) == 2


@pytest.mark.parametrize(
    ("chain", "text"),
    [
        (lambda: numbers >> nb.choose(parity, {"even": double, "odd": split}), "gives int, but .*'split' takes Big"),
        (lambda: numbers >> nb.choose(parity, {}), "at least one branch"),
        (lambda: numbers >> nb.choose("even", {"even": double}), "takes a function"),
        (lambda: numbers >> nb.choose(parity, {"even": double, "odd": total}), "reduction 'total' stands in a branch"),
        (lambda: numbers >> nb.choose(parity, {"even": never}), "decorate it with @nb.step"),
        (lambda: nb.Job("first", nb.choose(parity, {"even": drop})), "needs one first step"),
        (lambda: numbers >> nb.choose(parity, {"even": double, "odd": double}), "two steps are named 'double'"),
    ],
)
def test_a_choice_that_cannot_work_is_an_error_at_definition(chain: Callable[[], Any], text: str) -> None:
    """D2"""
    with pytest.raises(nb.DefinitionError, match=text):
        chain()


def test_routing_survives_a_restart(store: Any, clock: HandClock) -> None:
    """R1"""
    waits = True

    @nb.step
    def later(i: int) -> int:
        if waits:
            raise nb.RetryLater(60)
        return i

    job = nb.Job("restart", named_past >> (nb.choose(parity, {"even": later, "odd": squared}) | nb.to(total)) >> total)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(job, 4)
        settle(batch)
    waits = False
    clock.advance(60)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.submit(job, 4).result(10) == 0 + 1 + 2 + 3


def test_parallel_branches_run_at_the_same_time(threaded: nb.Batch) -> None:
    meeting = threading.Barrier(2)

    @nb.step
    def left(i: int) -> int:
        meeting.wait(10)
        return i

    @nb.step
    def right(i: int) -> int:
        meeting.wait(10)
        return i

    assert threaded.submit(nb.Job("meet", numbers >> (left | right) >> total), 1).result(15) == 0


def test_values_that_go_one_way_each_travel_as_columns_and_types_are_prepared_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    real = routing.adapter_of
    monkeypatch.setattr(routing, "_made_adapter", lru_cache(lambda kind: made.append(kind) or real(kind)))

    @nb.step
    def first(n: int) -> list[int]:
        return [n]

    @nb.step
    def pair(i: list[int]) -> list[int]:
        return nb.to("odd", i) if i[0] == 5 else i

    @nb.step
    def odd(i: list[int]) -> None: ...

    @nb.step
    def even(i: list[int]) -> None: ...

    ways = nb.choose(lambda i: i[0] % 2, {0: even, 1: odd})
    node = nb.Job("ways", first >> pair >> ways).current()[1]
    items = [Item(i, 1, f"[{i}]".encode()) for i in range(6)]
    results = run_chunks(MicroBatch(1, node, StoredParams(ParamsCodec(int), b"1"), items))

    assert results.odd == {}
    assert results.outputs == [item.data for item in items]
    assert [node.targets[0] == target for target in results.targets] == [True, False] * 3
    assert made == [list[int]]
    assert results.part(1, 3).targets == results.targets[1:3]


def test_a_value_for_two_branches_stands_beside_those_for_one(batch: nb.Batch) -> None:
    @nb.step
    def both(i: int) -> int | str:
        return i if i % 2 else str(i)

    @nb.step
    def counts(i: int) -> int:
        return i

    @nb.step
    def anything(i: int | str) -> int:
        return 100 * int(i)

    run = batch.submit(nb.Job("both", numbers >> both >> (counts | anything) >> total), 5)

    assert run.result(10) == 4 + 1_000
    assert run.steps()["records"].to_list()[:2] == [5, 7]

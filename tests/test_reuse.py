"""What has not changed is not done again: outputs of equal chunks that completed before are taken, and whoever asks is told why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule
from pydantic import BaseModel, SecretStr

import nbbatch as nb
from nbbatch.engine import reuse
from tests.jobs import numbers, total
from tests.kit import HandClock, TickingClock, count, is_first_try, log, look_for_trouble, ran, settle
from tests.kit import troubles as _troubles


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def clock() -> HandClock:
    return TickingClock()


@pytest.fixture
def troubles() -> dict[int, Exception]:
    _troubles.clear()
    return _troubles


@nb.step(reuse=True)
def double(value: int) -> int:
    log(value)
    return 2 * value


@nb.step(reuse=True)
def added(values: Iterable[int]) -> int:
    log("added")
    return sum(values)


doubling = nb.Job("doubling", numbers >> double >> added)


def reasons(run: nb.JobHandle[Any], step: str) -> list[str | None]:
    return run.reuse(step)["reason"].to_list()


def since() -> list[Any]:
    """What ran since this was asked last."""
    done = sorted(ran, key=str)
    ran.clear()
    return done


# --- what is reused -------------------------------------------------------------------------------


def test_only_what_is_new_runs_and_all_else_is_as_if_it_had(batch: nb.Batch) -> None:
    first = batch.submit(doubling, 3)
    assert (first.result(10), since()) == (6, [0, 1, 2, "added"])
    same = batch.submit(doubling, 3)
    assert (same.result(10), since(), count(same)) == (6, [], {"COMPLETED": 5})
    more = batch.submit(doubling, 4)
    assert (more.result(10), since()) == (12, [3, "added"])
    assert list(more.outputs("double")) == [0, 2, 4, 6]
    assert more.reuse("double").rows() == [
        (chunk, "double", origin is not None, 1 if origin else None, origin, None if origin else "new input")
        for chunk, origin in zip(more.chunks("double")["id"], [2, 3, 4, None], strict=True)
    ]
    assert more.steps()["reused"].to_list() == [0, 3, 0]
    assert more.attempts("double")["origin"].to_list() == [2, 3, 4, None]
    for told in (repr(more), more._repr_html_(), more._page()["text/plain"]):
        assert "reused 3" in told


def test_a_step_without_reuse_runs_each_time(batch: nb.Batch) -> None:
    plain = nb.Job("plain", numbers >> nb.step(double.function, name="double") >> total)
    for _ in range(2):
        run = batch.submit(plain, 2)
        assert (run.result(10), since(), reasons(run, "double")) == (2, [0, 1], ["never asked"] * 2)


def test_a_job_says_it_for_all_its_steps_but_those_that_say_otherwise(batch: nb.Batch) -> None:
    def kept(value: int) -> int:
        log("kept")
        return value

    def always(value: int) -> int:
        log("always")
        return value

    def never(value: int) -> int:
        log("never")
        return value

    chain = numbers >> nb.step(kept) >> nb.step(always=True)(always) >> nb.step(reuse=False)(never) >> total
    job = nb.Job("parts", chain, reuse=True)
    assert (batch.submit(job, 1).result(10), since()) == (0, ["always", "kept", "never"])
    assert (batch.submit(job, 1).result(10), since()) == (0, ["always", "never"])
    with pytest.raises(nb.DefinitionError, match="always=True means that it is done again"):
        nb.step(always=True, reuse=True)(kept)
    with pytest.raises(nb.DefinitionError, match="reuse= must be True or False"):
        nb.Job("parts", chain, reuse="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_submit_says_what_may_be_taken(batch: nb.Batch) -> None:
    plain = nb.Job("plain", numbers >> nb.step(double.function, name="double") >> total)
    first = batch.submit(plain, 2, reuse=True)
    assert (first.result(10), since()) == (2, [0, 1])
    assert (batch.submit(plain, 2, reuse=True).result(10), since()) == (2, [])
    fresh = batch.submit(plain, 2)
    assert (fresh.result(10), since()) == (2, [0, 1])
    off = batch.submit(doubling, 2, reuse=False)
    assert (off.result(10), since(), reasons(off, "double")) == (2, [0, 1, "added"], ["never asked"] * 2)
    of_run = batch.submit(doubling, 3, reuse=off)
    assert (of_run.result(10), since(), reasons(of_run, "double")) == (6, [2, "added"], [None, None, "new input"])
    other = batch.submit(doubling, 3, reuse=first)
    assert (other.result(10), since()) == (6, [2, "added"])
    assert reasons(other, "double") == [None, None, "of another instance"]
    with pytest.raises(TypeError, match="reuse= takes True, False or a run"):
        batch.submit(doubling, 3, reuse=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_step_takes_only_what_it_reads_of_the_parameters(batch: nb.Batch) -> None:
    class Params(BaseModel):
        n: int
        rate: int = 1
        note: str = ""

    @nb.step
    def given(params: Params) -> Iterator[int]:
        yield from range(params.n)

    @nb.step(reuse=True)
    def scaled(value: int, params: Params) -> int:
        log(value)
        return value * params.rate

    @nb.step(reuse=True)
    def whole(value: int, params: Params) -> int:
        log(str(params))
        return value + len(params.note)

    job = nb.Job("scaling", given >> scaled >> whole >> total)
    assert (batch.submit(job, Params(n=2)).result(10), len(since())) == (1, 4)
    noted = batch.submit(job, Params(n=2, note="x"))
    assert (noted.result(10), since()) == (3, ["n=2 rate=1 note='x'"] * 2)
    assert reasons(noted, "whole") == ["parameter changed: note"] * 2
    rated = batch.submit(job, Params(n=2, rate=3, note="x"))
    assert rated.result(10) == 5
    assert reasons(rated, "scaled") == ["parameter changed: rate"] * 2


def test_an_edit_runs_again_what_it_means_and_a_comment_nothing(batch: nb.Batch) -> None:
    def job(body: str, factor: int = 1) -> nb.Job[int, int]:
        space: dict[str, Any] = {"log": log, "FACTOR": factor, "__name__": "cell"}
        source = f"def scaled(value: int) -> int:\n{body}"
        code = compile(source, f"<cell {len(cells)}>", "exec")
        cells.append(source)
        import linecache

        linecache.cache[code.co_filename] = (len(source), None, source.splitlines(keepends=True), code.co_filename)
        exec(code, space)
        return nb.Job("edited", numbers >> nb.step(space["scaled"], reuse=True) >> total)

    cells: list[str] = []
    plain = "    log(value)\n    return value * FACTOR\n"
    assert (batch.submit(job(plain), 2).result(10), since()) == (1, [0, 1])
    assert (batch.submit(job(f'    "says"\n    # why\n{plain}'), 2).result(10), since()) == (1, [])
    factor = batch.submit(job(plain, factor=3), 2)
    assert (factor.result(10), reasons(factor, "scaled")) == (3, ["code changed: FACTOR"] * 2)
    edited = batch.submit(job(plain.replace("FACTOR", "7")), 2)
    assert (edited.result(10), reasons(edited, "scaled")) == (7, ["code changed: FACTOR, scaled"] * 2)
    since()
    assert (batch.submit(job(plain), 2).result(10), since()) == (1, [])  # back to what it was


def test_a_name_that_stands_for_another_type_is_a_change(inline: nb.Batch) -> None:
    def job(kind: type) -> nb.Job[int, None]:
        def typed(value: Any) -> Any:
            log(value)
            return value

        typed.__annotations__ = {"value": int, "return": kind}
        return nb.Job(f"typed {kind.__name__}", numbers >> nb.step(typed, reuse=True) >> nothing)

    nothing = nb.step(_takes_any)
    assert (inline.submit(job(int), 2).result(10), since()) == (None, [0, 1])
    assert (inline.submit(job(int), 2).result(10), since()) == (None, [])
    other = inline.submit(job(float), 2)
    assert (other.result(10), since(), reasons(other, "typed")) == (None, [0, 1], ["types changed"] * 2)


def _takes_any(value: float) -> None:
    """The end of it."""


def test_equal_inputs_are_sought_once(inline: nb.Batch) -> None:
    @nb.step
    def same(n: int) -> Iterator[int]:
        yield from [7] * n

    ends = nb.step(_takes_any, reuse=True)
    job, chunks = nb.Job("same", same >> ends), 20_000
    inline.submit(job, chunks).result(30)
    again = inline.submit(job, chunks)
    again.result(5)  # each with each would take a minute
    assert again.steps()["reused"].to_list() == [0, chunks]


def test_what_is_made_of_what_was_taken_is_looked_up_in_the_same_transaction(
    inline: nb.Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = list[int](), inline._engine._reuse._look
    monkeypatch.setattr(inline._engine._reuse, "_look", lambda parts, *rest: (looks.append(1), look(parts, *rest)))
    job = nb.Job("long", nb.step(numbers.function, name="numbers", reuse=True) >> double >> _named("b") >> _end())
    inline.submit(job, 700).result(20)
    looks.clear()
    again = inline.submit(job, 700)
    again.result(10)
    assert (again.steps()["reused"].to_list(), len(looks)) == ([1, 700, 700, 700], 1)
    assert list(again.outputs("double")) == list(range(0, 1400, 2))


def _end() -> nb.Step[float, None]:
    return nb.step(_takes_any, name="end", reuse=True)


def _named(name: str) -> nb.Step[int, int]:
    @nb.step(name=name, reuse=True)
    def same(value: int) -> int:
        log(name)
        return value

    return same


def test_the_newest_of_equal_results_is_taken_in_a_later_step_too(
    inline: nb.Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbbatch.engine.reuse.MANY", 0)
    job = nb.Job("newest", numbers >> double >> _named("b") >> _named("c") >> _end())
    first = inline.submit(job, 3)
    first.result(10)

    def origins() -> list[set[int]]:
        run = inline.submit(job, 3, new=True)
        run.result(10)
        return [set(run.reuse(step)["instance"].to_list()) for step in ("double", "b", "c")]

    assert origins() == [{first.id}] * 3
    newer = inline.submit(job, 3, new=True, reuse=False)
    newer.result(10)
    assert origins() == [{newer.id}] * 3
    assert newer.rerun(step="b", quiet=True) is not None
    newer.result(10)
    assert origins() == [{newer.id}] * 3


@pytest.mark.parametrize("records", [(1, 3, 1), (10**15, 10**15, 10**15)])
def test_whatever_records_a_step_says_it_had_each_output_is_taken_once(inline: nb.Batch, records: list[int]) -> None:
    @nb.step(reuse=True)
    def parts(value: int) -> Iterator[int]:
        nb.context().records(records[value])
        yield from range((2, 1, 1)[value])

    job = nb.Job("parts", numbers >> parts >> double >> _end())
    for _ in range(2):
        run = inline.submit(job, 3, new=True)
        run.result(10)
        assert (list(run.outputs("double")), count(run)) == ([0, 2, 0, 0], {"COMPLETED": 12})
    assert since() == [0, 0, 0, 1]


def test_digests_that_are_taken_along_are_those_that_others_look_for(
    inline: nb.Batch, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbbatch.engine.reuse.MANY", 0)

    @nb.step(reuse=True)
    def anything(value: int) -> Any:
        log(value)
        return {"all": {value, value + 1}, "text": "x" * value}

    @nb.step(reuse=True)
    def bag(value: Any) -> set[int]:
        log("bag")
        return set(value["all"])

    @nb.step(reuse=True)
    def size(values: set[int]) -> int:
        log("size")
        return len(values)

    job = nb.Job("bags", numbers >> anything >> bag >> size >> _named("plain") >> _end())
    inline.submit(job, 20).result(10)
    kept = inline.submit(job, 20, new=True)
    kept.result(10)
    inline.purge(older_than=0, keep_last=1)
    ran.clear()
    third = inline.submit(job, 20, new=True)  # finds by what was kept with the second one, which took all
    third.result(10)
    assert (since(), set(third.reuse("size")["instance"])) == ([], {kept.id})


def test_a_plan_says_before_a_submit_what_would_be_reused_and_leaves_nothing(batch: nb.Batch) -> None:
    whole = nb.Job("planned", nb.step(numbers.function, name="numbers", reuse=True) >> double >> added)
    assert str(whole.plan(batch, 3)) == "numbers: 0 reused, 1 to run (1 new input)\nand what comes of those that run"
    first = batch.submit(whole, 3)
    assert (first.id, first.result(10)) == (1, 6)
    since()
    same = whole.plan(batch, 3)
    assert (same.reused, same.runs, str(same)) == (
        5, 0, "numbers: 1 reused, 0 to run\ndouble: 3 reused, 0 to run\nadded: 1 reused, 0 to run",
    )  # fmt: skip
    other = whole.plan(batch, 4)
    assert str(other).startswith("numbers: 0 reused, 1 to run (1 parameter changed)")
    assert doubling.plan(batch, 3).lines[0].reasons == {"never asked": 1}
    assert (since(), batch.instances().height, batch.submit(whole, 3).id) == ([], 1, 2)


# --- what never is --------------------------------------------------------------------------------


def test_what_failed_was_skipped_or_came_of_retry_later_runs(inline: nb.Batch, clock: HandClock) -> None:
    @nb.step(reuse=True, max_attempts=1)
    def odd(value: int) -> int:
        log(value)
        if value == 1 and is_first_try(value):
            raise ValueError
        if value == 2:
            raise nb.SkipChunk("two")
        if value == 3 and is_first_try(value):
            raise nb.RetryLater(1)
        return value

    job = nb.Job("odd", numbers >> odd >> total, max_failed=1)
    first = inline.submit(job, 4)
    settle(inline)
    clock.advance(2)
    assert first.wait(10) == "COMPLETED"
    assert since() == [0, 1, 2, 3, 3]
    again = inline.submit(job, 4)
    settle(inline)
    clock.advance(2)
    assert (again.wait(10), since()) == ("COMPLETED", [1, 2, 3, 3])
    assert reasons(again, "odd") == [None, "did not complete before", "did not complete before", "came of RetryLater"]


def test_a_step_that_may_know_a_secret_runs(batch: nb.Batch) -> None:
    class Login(BaseModel):
        token: SecretStr
        n: int = 2

    @nb.step(reuse=True)
    def opened(login: Login) -> Iterator[int]:
        log("opened")
        yield from range(login.n)

    @nb.step(reuse=True)
    def read(value: int, login: Login) -> int:
        log(login.token.get_secret_value())
        return value

    job = nb.Job("secret", opened >> read >> double >> total)
    for _ in range(2):
        ran.clear()
        assert batch.submit(job, Login(token=SecretStr("abc"))).result(10) == 2
        assert since()[-3:] == ["abc", "abc", "opened"]
    stored = json.dumps(batch.sql("SELECT 1").rows()) + str(batch._store.fetch("reuse_keys"))
    assert "abc" not in stored


def test_what_was_dropped_is_not_there_to_be_taken(batch: nb.Batch) -> None:
    assert (batch.submit(doubling, 2, retain="none").result(10), since()) == (2, [0, 1, "added"])
    after = batch.submit(doubling, 2)
    assert (after.result(10), since(), reasons(after, "double")) == (2, [0, 1, "added"], ["output dropped"] * 2)
    assert (batch.submit(doubling, 2, retain="none").result(10), since()) == (2, [])


def test_a_purge_of_the_origin_leaves_what_was_taken_and_others_may_take_it(batch: nb.Batch, clock: HandClock) -> None:
    batch.submit(doubling, 3).result(10)
    kept = batch.submit(doubling, 3)
    kept.result(10)
    assert batch.purge(older_than=0, keep_last=1) == 1
    assert (list(kept.outputs("double")), kept.report) == ([0, 2, 4], 6)
    ran.clear()
    third = batch.submit(doubling, 4)
    assert (third.result(10), since()) == (12, [3, "added"])
    assert set(third.reuse("double")["instance"].drop_nulls()) == {kept.id}
    batch.purge(older_than=0)
    assert (batch.submit(doubling, 2).result(10), since()) == (2, [0, 1, "added"])


def test_a_rerun_runs_what_is_chosen(batch: nb.Batch) -> None:
    batch.submit(doubling, 3).result(10)
    run = batch.submit(doubling, 3)
    run.result(10)
    ran.clear()
    run.rerun(step="double", where=pl.col("value") == 1, quiet=True)
    assert (run.result(10), since()) == (6, [1])  # what comes of it is looked up
    assert (reasons(run, "double")[-1], reasons(run, "added")) == ("asked to run again", [None])
    run.rerun(step="added", quiet=True)
    assert (run.result(10), since(), reasons(run, "added")) == (6, ["added"], ["asked to run again"])


# --- before each attempt --------------------------------------------------------------------------


@nb.step(reuse=True, max_attempts=2, backoff=60)
def checked(value: int) -> int:
    log(value)
    look_for_trouble(value)
    return 10 * value


checking = nb.Job("checking", numbers >> checked >> added)


@pytest.mark.parametrize(
    ("trouble", "after_s"), [(ValueError("bad"), 120), (nb.RetryLater(60), 120), (nb.FailChunk("bad"), 0)]
)
def test_what_another_one_has_completed_meanwhile_is_not_tried_again(
    batch: nb.Batch, clock: HandClock, troubles: dict[int, Exception], trouble: Exception, after_s: int
) -> None:
    troubles[1] = trouble
    run = batch.submit(checking, 3)
    settle(batch)
    assert (since(), reasons(run, "checked")) == ([0, 1, 2], ["new input"] * 3)
    between = clock.now()
    troubles.clear()
    other = batch.submit(checking, 3, new=True)
    assert (other.result(10), since()) == (30, [1, "added"])
    clock.advance(after_s)
    if run.status == "FAILED":
        run.retry(quiet=True)
    assert (run.result(10), since(), reasons(run, "checked")) == (30, [], ["new input", None, "new input"])
    chunk = run.chunks("checked")["id"][1]
    assert run.steps()["reused"].to_list() == [0, 1, 1]
    assert run.chunk(chunk).attempts()["origin"].to_list() == [None, other.reuse("checked")["chunk"][1]]
    assert run.history(chunk=chunk)["status"].to_list()[-2:] == ["IN_PROGRESS", "COMPLETED"]
    assert (
        run.reuse("checked", as_of=datetime.fromtimestamp(between / 1e6, UTC))["reason"].to_list() == ["new input"] * 3
    )
    assert count(run) == {"COMPLETED": 5}


def test_what_was_cancelled_is_looked_up_before_it_is_retried(batch: nb.Batch, troubles: dict[int, Exception]) -> None:
    troubles[1] = ValueError("bad")
    run = batch.submit(checking, 3)
    settle(batch)
    run.cancel()
    troubles.clear()
    assert batch.submit(checking, 2, new=True).result(10) == 10
    since()
    assert (run.retry(quiet=True).result(10), since()) == (30, ["added"])


def test_a_retry_after_an_edit_takes_what_the_new_code_gave(batch: nb.Batch, troubles: dict[int, Exception]) -> None:
    def edited(value: int) -> int:
        log(value)
        return 7 * value

    troubles[1] = nb.FailChunk("bad")
    run = batch.submit(checking, 3)
    run.wait(10)
    mended = nb.Job("checking", numbers >> nb.step(name="checked", reuse=True)(edited) >> added)
    assert batch.submit(mended, 2, new=True).result(10) == 7
    since()
    assert (run.retry(mended, quiet=True).result(10), since()) == (27, ["added"])


def test_what_was_asked_to_run_again_runs_however_often_it_is_tried(
    batch: nb.Batch, troubles: dict[int, Exception]
) -> None:
    run = batch.submit(checking, 2)
    run.result(10)
    since()
    troubles[1] = nb.FailChunk("bad")
    run.rerun(step="checked", where=pl.col("value") == 1, quiet=True)
    assert (run.wait(10), since()) == ("FAILED", [1])
    troubles.clear()
    assert (run.retry(quiet=True).result(10), since(), reasons(run, "checked")[-1]) == (
        10, [1, "added"], "asked to run again",
    )  # fmt: skip


def test_a_retry_with_a_changed_file_is_another_input(batch: nb.Batch, store: Path) -> None:
    folder = store.parent / "in"
    folder.mkdir()
    (folder / "a").write_text("x")

    @nb.step
    def found(place: str) -> Iterator[nb.File]:
        yield from nb.files(place)

    @nb.step(reuse=True, max_attempts=1)
    def length(file: nb.File) -> int:
        log(text := file.path.read_text())
        if text == "x" and is_first_try(text):
            raise ValueError
        return len(text)

    job = nb.Job("lengths", found >> length >> total)
    run = batch.submit(job, str(folder))
    run.wait(10)
    (folder / "a").write_text("longer")
    assert run.retry(quiet=True).result(10) == 6
    (folder / "a").write_text("x")
    assert (batch.submit(job, str(folder)).result(10), since()) == (1, ["longer", "x", "x"])
    (folder / "a").write_text("longer")
    assert (batch.submit(job, str(folder)).result(10), since()) == (6, [])


def test_what_waits_for_its_next_attempt_is_looked_up_after_an_opening_too(
    store: Path, clock: HandClock, troubles: dict[int, Exception]
) -> None:
    troubles[1] = ValueError("bad")
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(checking, 3)
        settle(batch)
    troubles.clear()
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.submit(checking, 2).result(10) == 10
        since()
        (run,) = batch.resume(checking)
        clock.advance(120)
        assert (run.result(10), since()) == (30, ["added"])


# --- every shape of chain -------------------------------------------------------------------------


def test_fan_outs_branches_gates_and_steps_that_give_nothing(batch: nb.Batch) -> None:
    @nb.step(reuse=True)
    def spread(value: int) -> Iterator[int | str]:
        log("spread")
        yield from (value, str(value), value + 10)

    @nb.step(reuse=True)
    def whole(value: int) -> int:
        log(value)
        return value

    @nb.step(reuse=True)
    def text(value: str) -> int:
        log(value)
        return 100 * int(value)

    @nb.step(reuse=True, gate=True)
    def last(value: int) -> None:
        log(f"last {value}")

    job = nb.Job("shapes", numbers >> spread >> (whole | text) >> last)
    first = batch.submit(job, 2)
    first.wait(10)
    assert len(since()) == 14
    second = batch.submit(job, 2)
    assert (second.wait(10), since()) == ("COMPLETED", [])
    for step in ("spread", "whole", "text", "last"):
        assert list(second.inputs(step)) == list(first.inputs(step))
    assert second.steps()["reused"].to_list() == [0, 2, 4, 2, 6]


def test_a_decider_that_changes_is_a_change(batch: nb.Batch) -> None:
    @nb.step(reuse=True)
    def same(value: int) -> int:
        log(value)
        return value

    @nb.step
    def low(value: int) -> int:
        return -value

    @nb.step
    def high(value: int) -> int:
        return value

    def job(bound: int) -> nb.Job[int, int]:
        return nb.Job(
            "decided", numbers >> same >> nb.choose(lambda value: value < bound, {True: low, False: high}) >> total
        )

    assert (batch.submit(job(1), 3).result(10), since()) == (3, [0, 1, 2])
    assert (batch.submit(job(1), 3).result(10), since()) == (3, [])
    moved = batch.submit(job(2), 3)
    assert (moved.result(10), since(), set(reasons(moved, "same"))) == (1, [0, 1, 2], {"where outputs go changed"})


def test_another_job_may_take_it_and_gives_it_on_in_its_own_way(batch: nb.Batch) -> None:
    batch.submit(doubling, 3).result(10)
    ran.clear()

    @nb.step
    def shown(value: int) -> str:
        return f"<{value}>"

    @nb.step
    def joined(values: Iterable[str]) -> str:
        return "".join(values)

    assert batch.submit(nb.Job("shown", numbers >> double >> shown >> joined), 3).result(10) == "<0><2><4>"
    assert since() == []


def test_frames_big_values_in_files_and_sub_jobs(store: Path) -> None:
    @nb.step(reuse=True)
    def table(value: int) -> pl.DataFrame:
        log(value)
        return pl.DataFrame({"a": [Random(value).randbytes(300_000)]})

    @nb.step(reuse=True)
    def rows(frame: pl.DataFrame) -> int:
        log("rows")
        return frame.height

    folder = store.parent / "values"
    inner = nb.Job("inner", numbers >> double >> added)
    outer = nb.Job("outer", numbers >> inner.as_step(reuse=True) >> total)
    tables = nb.Job("tables", numbers >> table >> rows >> total)
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        first = batch.submit(tables, 2)
        assert (first.result(10), since()) == (2, [0, 1, "rows", "rows"])
        second = batch.submit(tables, 2)
        assert (second.result(10), since()) == (2, [])
        batch.purge(older_than=0, keep_last=1)
        batch._engine.leftovers.settle()
        assert [frame["a"][0] for frame in second.inputs("rows")] == [
            Random(seed).randbytes(300_000) for seed in (0, 1)
        ]
        next(folder.glob(f"*/{second.id}/*")).unlink()
        third = batch.submit(tables, 2)
        assert (third.result(10), len(since())) == (2, 1)
        assert sorted(reasons(third, "table"), key=str) == [None, "output dropped"]

        assert batch.submit(outer, 3).result(10) == 2
        since()
        again = batch.submit(outer, 3)
        assert (again.result(10), since(), again.steps()["reused"].to_list()) == (2, [], [0, 3, 0])


# --- exact under everything -----------------------------------------------------------------------


def test_two_that_run_at_once_both_run_and_agree(threaded: nb.Batch) -> None:
    runs = [threaded.submit(doubling, 50, new=True) for _ in range(4)]
    assert [run.result(30) for run in runs] == [2450] * 4
    assert [list(run.outputs("double")) for run in runs] == [[2 * value for value in range(50)]] * 4


def test_a_store_that_is_closed_and_opened_again_goes_on_to_reuse(store: Path) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(doubling, 3).result(10)
        paused = batch.submit(doubling, 5)
        paused.pause()
        settle(batch)
    ran.clear()
    with nb.open(store, executor=nb.inline()) as batch:
        (run,) = batch.resume(doubling)
        assert (run.resume().result(10), set(since()) <= {3, 4, "added"}) == (20, True)
        assert (batch.submit(doubling, 5).result(10), since()) == (20, [])


KILLED = """
import os, signal, sys
import nbbatch as nb
from tests.test_reuse import doubling
batch = nb.open(sys.argv[1], executor=nb.inline())
batch.submit(doubling, 30).result(60)
inner, calls = batch._engine._reuse._look, []
def look(parts, *rest):
    inner(parts, *rest)
    calls.append(len(parts))
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
batch._engine._reuse._look = look
batch.submit(doubling, 40, new=True).result(60)
"""


def test_a_kill_within_a_lookup_loses_and_doubles_nothing(store: Path) -> None:
    code = [sys.executable, "-c", KILLED, str(store), "1"]
    subprocess.run(code, cwd=Path(__file__).parent.parent, check=False)
    with nb.open(store, executor=nb.inline()) as batch:
        (run,) = batch.resume(doubling)
        assert (run.result(20), count(run)) == (1560, {"COMPLETED": 42})
        assert sum(run.steps()["reused"]) == 30


KEYS = """
import sys
from dataclasses import dataclass
from collections.abc import Iterable, Iterator
from pydantic import BaseModel
import nbbatch as nb
class Item(BaseModel):
    tags: set[str]
    ages: dict[str, float]
WORDS = {"a", "b", "c", "d", "e"}
TABLE = {word: frozenset((word, word * 2)) for word in WORDS}
@dataclass(frozen=True)
class Rule:
    names: frozenset[str]
RULE = Rule(frozenset(WORDS))
class Params(BaseModel):
    names: set[str]
    limit: float = 0.5
@nb.step
def first(params: Params) -> Iterator[Item]:
    for age in range(400):
        yield Item(tags=set(params.names) | WORDS, ages={"x": age + 0.5})
@nb.step(reuse=True)
def second(item: Item, params: Params) -> set[str]:
    return item.tags | set(TABLE) | RULE.names | params.names
@nb.step(reuse=True)
def third(items: Iterable[set[str]]) -> int:
    return sum(map(len, items))
with nb.open(sys.argv[1], executor=nb.inline()) as batch:
    run = batch.submit(nb.Job("keys", first >> second >> third), Params(names={"u", "v", "w", "x"}), new=True)
    run.result(20)
    assert "polars" not in sys.modules  # a quarter of a second, for a run of some milliseconds
    print(run.steps()["reused"].to_list(), run.reuse()["reason"].to_list())
"""


def test_keys_are_the_same_in_every_process_whatever_the_seed_of_hashes(store: Path) -> None:
    script = store.parent / "keys.py"
    script.write_text(KEYS)
    for seed, found in (("1", "[0, 0, 0]"), ("2", "[0, 400, 1]"), ("77", "[0, 400, 1]")):
        done = subprocess.run(
            [sys.executable, str(script), str(store)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.stdout.startswith(found), done.stdout


def test_a_file_is_what_it_holds_and_one_that_a_step_has_made_must_still_be_there(store: Path) -> None:
    folder = store.parent / "in"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(name)

    @nb.step
    def found(place: str) -> Iterator[nb.File]:
        yield from nb.files(place)

    @nb.step(reuse=True)
    def shouted(file: nb.File) -> nb.File:
        log(file.name)
        made = file.path.parent.parent / f"{file.name}.out"
        made.write_text(file.path.read_text().upper())
        return nb.File(made)

    @nb.step(reuse=True)
    def joined(files: Iterable[nb.File]) -> str:
        return "".join(each.path.read_text() for each in files)

    job = nb.Job("files", found >> shouted >> joined)
    with nb.open(store, executor=nb.inline()) as batch:
        assert (batch.submit(job, str(folder)).result(10), since()) == ("AB", ["a", "b"])
        (folder / "b").touch()
        assert (batch.submit(job, str(folder)).result(10), since()) == ("AB", [])
        (folder / "b").write_text("c")
        assert (batch.submit(job, str(folder)).result(10), since()) == ("AC", ["b"])
        (store.parent / "a.out").unlink()
        again = batch.submit(job, str(folder))
        assert (again.result(10), since(), reasons(again, "shouted")) == ("AC", ["a"], ["output dropped", None])


# --- as if it had never been ----------------------------------------------------------------------


_MANY = reuse.MANY


class Story(RuleBasedStateMachine):
    """Edits, new items, other parameters, purges, reruns and openings in any order: results are those of runs without reuse."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp()) / "store.duckdb"
        self.clock = HandClock()
        self.items, self.factor, self.rate, self.strict = 3, 1, 1, False
        self.batch = self._open()

    def _open(self) -> nb.Batch:
        return nb.open(self.place, executor=nb.inline(), clock=self.clock, serve=False)

    def _job(self) -> nb.Job[dict[str, int], Any]:
        factor, strict = self.factor, self.strict

        @nb.step
        def given(params: dict[str, int]) -> Iterator[int]:
            yield from range(params["n"])

        @nb.step(reuse=True)
        def spread(value: int) -> Iterator[int | str]:
            yield value * factor
            if value % 2:
                yield str(value)

        @nb.step(reuse=True, max_attempts=1)
        def whole(value: int, params: dict[str, int]) -> int:
            look_for_trouble(value)
            if strict and value % 3 == 2:
                raise nb.SkipChunk("strict")
            return value + params["rate"]

        @nb.step(reuse=True)
        def text(value: str) -> int:
            return 100 * int(value)

        @nb.step(reuse=True)
        def listed(values: Iterable[int]) -> list[int]:
            return list(values)

        return nb.Job("story", given >> spread >> (whole | text) >> listed)

    def _expected(self) -> list[int]:
        found: list[int] = []
        for value in range(self.items):
            if not (self.strict and value * self.factor % 3 == 2):
                found.append(value * self.factor + self.rate)
            if value % 2:
                found.append(100 * value)
        return found

    @rule(items=st.integers(0, 6))
    def other_items(self, items: int) -> None:
        self.items = items

    @rule(factor=st.integers(1, 3), strict=st.booleans())
    def edit(self, factor: int, strict: bool) -> None:
        self.factor, self.strict = factor, strict

    @rule(many=st.sampled_from([0, reuse.MANY]))
    def how_digests_come(self, many: int) -> None:
        reuse.MANY = many

    @rule(rate=st.integers(1, 2))
    def other_parameter(self, rate: int) -> None:
        self.rate = rate

    @rule(retain=st.sampled_from(["all", "all", "failed", "none"]), wish=st.sampled_from([None, None, True, False]))
    def run(self, retain: str, wish: bool | None) -> None:
        params = {"n": self.items, "rate": self.rate}
        run = self.batch.submit(self._job(), params, new=True, retain=retain, reuse=wish)
        assert run.result(20) == self._expected()
        assert not run._engine().live

    @rule(step=st.sampled_from(["spread", "whole", "listed"]))
    def run_and_rerun(self, step: str) -> None:
        run = self.batch.submit(self._job(), {"n": self.items, "rate": self.rate}, new=True)
        assert run.result(20) == self._expected()
        if run.chunks(step).height:
            run.rerun(step=step, quiet=True)
            assert run.result(20) == self._expected()

    @rule(bad=st.integers(0, 9), between=st.booleans())
    def run_and_retry(self, bad: int, between: bool) -> None:
        _troubles[bad] = nb.FailChunk("bad")
        run = self.batch.submit(self._job(), {"n": self.items, "rate": self.rate}, new=True)
        ended = run.wait(20)
        _troubles.clear()
        if between:
            self.run("all", None)
        if ended == "FAILED":
            run.retry(quiet=True)
        assert run.result(20) == self._expected()

    @rule()
    def leave_and_open(self) -> None:
        run = self.batch.submit(self._job(), {"n": self.items, "rate": self.rate}, new=True)
        self.batch.close()
        self.batch = self._open()
        for each in self.batch.resume(self._job()):
            each.wait(20)
        assert self.batch.instance(run.id, self._job()).result(20) == self._expected()

    @rule(keep=st.integers(0, 2))
    def purge(self, keep: int) -> None:
        self.clock.advance(1)
        self.batch.purge(older_than=0, keep_last=keep)

    def teardown(self) -> None:
        reuse.MANY = _MANY
        self.batch.close()
        shutil.rmtree(self.place.parent)


test_whatever_happens_results_are_as_without_reuse = Story.TestCase
test_whatever_happens_results_are_as_without_reuse.settings = settings(
    max_examples=5, stateful_step_count=12, deadline=None
)

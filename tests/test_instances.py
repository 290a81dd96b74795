"""Submitting, and the life of an instance."""

from __future__ import annotations

import asyncio
import math
import shlex
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, SecretStr

import nbbatch as nb
from tests.jobs import double, drop, each, numbers, one_step, summing, total
from tests.kit import HandClock, count, settle, statuses


class Old(BaseModel):
    day: str


class Renewed(BaseModel):
    day: str
    book: str


class Colour(Enum):
    RED = "red"


class Params(BaseModel):
    size: int = Field(gt=0)
    day: date = date(2026, 1, 2)
    price: Decimal = Decimal("1.10")
    colour: Colour = Colour.RED
    folder: Path = Path("daten/ü")
    note: str | None = None
    password: SecretStr | None = None
    pages: Annotated[int, nb.NonIdentifying] = 10


seen: list[Params] = []


@nb.step
def start(params: Params) -> Iterator[int]:
    seen.append(params)
    yield from range(params.size)


def job(**options: object) -> nb.Job[Params, int]:
    return nb.Job("params", start >> double >> total, **options)


def hold(batch: nb.Batch, value: int = 1) -> nb.JobHandle[None]:
    """An instance that stays unfinished until the clock moves."""

    def later(n: int) -> None:
        raise nb.RetryLater(1000)

    run = batch.submit(one_step(later, "held"), value)
    settle(batch)
    return run


def test_invalid_parameters_list_every_problem_and_store_nothing(batch: nb.Batch) -> None:
    """S1"""
    with pytest.raises(nb.ParameterError) as caught:
        batch.submit(job(), {"size": 0, "day": "never", "colour": "blue", "extra": 1})

    assert [problem.split(":")[0] for problem in caught.value.problems] == ["size", "day", "colour", "extra"]
    assert batch.instances().is_empty()


def test_problems_of_validate_refuse_the_submit(batch: nb.Batch) -> None:
    """S1"""
    with pytest.raises(nb.ParameterError, match="too many"):
        batch.submit(job(validate=lambda params: ["size: too many"]), Params(size=5))

    assert batch.instances().is_empty()


def test_parameters_come_back_equal(batch: nb.Batch) -> None:
    """S3"""
    params = Params(size=1, note="✓ naïve \0", password=SecretStr("hush"))
    seen.clear()
    run = batch.submit(job(), params)
    run.wait(10)

    assert seen == [params]
    assert run.params.model_copy(update={"password": None}) == params.model_copy(update={"password": None})


def test_a_secret_reaches_the_worker_and_nothing_else(store: Path, clock: HandClock) -> None:
    """S4"""
    seen.clear()
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(job(), Params(size=1, password=SecretStr("hush-hush")))
        run.wait(10)
        assert seen[0].password is not None
        assert seen[0].password.get_secret_value() == "hush-hush"
        shown = f"{run!r} {run._repr_html_()} {batch.instances().rows()} {run.logs().rows()}"

    assert "hush-hush" not in shown
    assert b"hush-hush" not in store.read_bytes()


def test_equal_parameters_attach_to_the_unfinished_instance(batch: nb.Batch) -> None:
    """S5"""
    run = hold(batch)

    assert hold(batch).id == run.id
    assert hold(batch, 2).id != run.id


def test_defaults_order_and_non_identifying_fields_make_no_difference(batch: nb.Batch) -> None:
    """S5"""
    paused = batch.submit(job(), {"size": 3, "note": None})
    one = job().params.identity(Params(size=3, pages=99))
    two = job().params.identity(job().check({"pages": 1, "day": "2026-01-02", "size": 3}))

    assert one == two
    assert paused._row.identity == one


def test_after_its_end_equal_parameters_make_a_new_instance(batch: nb.Batch) -> None:
    """S6"""
    runs = [batch.submit(summing(), 3) for _ in range(2) if not settle(batch)]
    for run in runs:
        run.wait(10)

    assert runs[0].id != runs[1].id or batch.submit(summing(), 3).id != runs[0].id


def test_a_key_names_one_instance_whatever_its_state(batch: nb.Batch) -> None:
    """S6"""
    first = batch.submit(summing(), 3, key="march")
    first.wait(10)

    assert batch.submit(summing(), 3, key="march").id == first.id
    assert batch.submit(summing(), 3, new=True).id != first.id


def test_a_key_of_a_raised_version_names_an_instance_of_its_own(batch: nb.Batch) -> None:
    """S10"""
    first = batch.submit(summing(), 3, key="march")
    changed = nb.Job("summing", numbers >> total, version=2)

    assert first.result(10) == 6
    assert batch.submit(changed, 3, key="march").result(10) == 3
    assert batch.submit(summing(), 3, key="march").id == first.id


def test_the_same_key_with_other_parameters_is_refused_with_the_difference(batch: nb.Batch) -> None:
    """S6"""
    batch.submit(job(), Params(size=3), key="march")

    with pytest.raises(nb.StateError, match="size") as caught:
        batch.submit(job(), Params(size=4), key="march")
    assert "3" in str(caught.value)
    assert "4" in str(caught.value)


def test_key_and_new_exclude_each_other(batch: nb.Batch) -> None:
    """S6"""
    with pytest.raises(ValueError, match="exclude each other"):
        batch.submit(summing(), 3, key="march", new=True)


def test_a_paused_instance_is_attached_to_but_stays_paused(batch: nb.Batch) -> None:
    """S7"""
    run = hold(batch)
    run.pause()

    assert hold(batch).id == run.id
    assert run.status == "PAUSED"


def test_a_cancelled_instance_is_returned_under_its_key_as_it_is(batch: nb.Batch) -> None:
    """S7"""

    def later(n: int) -> None:
        raise nb.RetryLater(1000)

    run = batch.submit(one_step(later), 1, key="k")
    run.cancel()

    assert batch.submit(one_step(later), 1, key="k").status == "CANCELLED"


def test_twenty_threads_that_submit_the_same_make_one_instance(batch: nb.Batch) -> None:
    """S8"""

    def later(n: int) -> None:
        raise nb.RetryLater(1000)

    held = one_step(later)
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda _: batch.submit(held, 1).id, range(20)))

    assert len(ids) == 1


def test_another_shape_under_the_same_version_is_refused(batch: nb.Batch) -> None:
    """S9"""

    @nb.step
    def later(i: int) -> int:
        raise nb.RetryLater(1000)

    run = batch.submit(nb.Job("shaped", numbers >> later >> total), 2)
    settle(batch)

    with pytest.raises(nb.ShapeError, match="version"):
        batch.submit(nb.Job("shaped", numbers >> later >> double >> total), 2)
    assert run.status == "IN_PROGRESS"


def test_another_shape_under_the_same_version_begins_no_new_instance(store: Path) -> None:
    """S9"""
    longer = numbers >> double >> nb.step(double.function, name="again") >> total
    with nb.open(store) as batch:
        batch.submit(nb.Job("shaped", numbers >> double >> total), 2).wait(10)
        for _ in range(2):
            with pytest.raises(
                nb.ShapeError, match=r"version 1 had another chain in instance 1: .* >> again.*nothing was stored"
            ):
                batch.submit(nb.Job("shaped", longer), 3)
        assert batch.submit(nb.Job("shaped", longer, version=2), 3).result(10) == 12
    with nb.open(store) as batch:
        with pytest.raises(nb.ShapeError):
            batch.submit(nb.Job("shaped", longer), 3, key="mine")
        assert batch.instances().height == 2
        assert batch.submit(nb.Job("shaped", numbers >> double >> total), 3).result(10) == 6
        batch.purge(older_than=0)

        assert batch.submit(nb.Job("shaped", longer), 3).result(10) == 12


def test_a_sub_job_of_another_shape_fails_its_chunk_and_says_so(inline: nb.Batch) -> None:
    inline.submit(nb.Job("inner", numbers >> total), 2).wait(10)
    outer = nb.Job("outer", numbers >> nb.Job("inner", numbers >> double >> total).as_step() >> total)
    run = inline.submit(outer, 1)

    assert run.wait(10) == "FAILED"
    assert "inner' version 1 had another chain in instance 1" in run.errors()["error"][0]


def test_edited_bodies_of_the_same_shape_go_on_with_the_new_code(batch: nb.Batch, clock: HandClock) -> None:
    """S9"""

    def old(n: int) -> None:
        raise nb.RetryLater(10)

    def new(n: int) -> None:
        return None

    first = nb.Job("edited", nb.step(name="work")(old))
    second = nb.Job("edited", nb.step(name="work")(new))
    run = batch.submit(first, 1)
    settle(batch)
    batch.submit(second, 1)
    clock.advance(10)
    run.wait(10)

    assert run.attempts()["code"].to_list() == [first.nodes[0].step.fingerprint, second.nodes[0].step.fingerprint]


def test_a_paused_instance_is_resumed_with_mended_code(batch: nb.Batch, clock: HandClock) -> None:
    """S9 L7"""

    def old(n: int) -> None:
        raise nb.RetryLater(10)

    run = batch.submit(one_step(old), 1)
    settle(batch)
    run.pause()
    run.resume(one_step(lambda n: None))
    clock.advance(10)

    assert run.wait(10) == "COMPLETED"


def test_a_job_that_is_refused_leaves_the_handle_as_it_was(batch: nb.Batch) -> None:
    """S9"""
    run = batch.submit(summing(), 3)
    run.wait(10)

    with pytest.raises(nb.StateError):
        run.resume(summing("other"))
    with pytest.raises(nb.StateError, match=r"of job 'summing', not of 'other'"):
        batch.instance(run.id, summing("other"))
    assert run.job is not None
    assert run.job.name == "summing"


def test_two_versions_run_side_by_side(batch: nb.Batch) -> None:
    """S10"""
    one = batch.submit(nb.Job("v", numbers >> total, version=1), 3)
    two = batch.submit(nb.Job("v", numbers >> double >> total, version=2), 3)

    assert (one.result(10), two.result(10)) == (3, 6)
    assert batch.jobs().select("job", "version").rows() == [("v", 1), ("v", 2)]


def test_an_instance_whose_job_is_unknown_waits_and_disturbs_no_other(store: Path) -> None:
    """S11"""
    with nb.open(store, executor=nb.inline()) as batch:
        hold(batch)
    with nb.open(store, executor=nb.inline()) as batch:
        waiting = batch.instance(1)

        assert "waits for its job" in repr(waiting)
        with pytest.raises(nb.StateError, match="waits for its job"):
            waiting.wait(1)
        assert batch.submit(summing(), 3).result(10) == 6


def test_states_from_queued_to_completed_are_in_the_history(batch: nb.Batch) -> None:
    """L1"""
    run = batch.submit(summing(), 2)
    run.wait(10)

    own = run.history().filter(run.history()["chunk"].is_null())["status"].to_list()
    assert own == ["QUEUED", "IN_PROGRESS", "FINALIZE", "COMPLETED"]


def test_an_error_shows_while_it_lasts(batch: nb.Batch, clock: HandClock) -> None:
    """L1"""
    outcomes = iter([OSError(), None, None, None])

    def flaky(value: int) -> None:
        if error := next(outcomes):
            raise error

    run = batch.submit(each(flaky), 3)
    settle(batch)
    during = run.status
    clock.advance(10)
    run.wait(10)
    own = run.history().filter(run.history()["chunk"].is_null())["status"].to_list()

    assert during == "ERRORED"
    assert own == ["QUEUED", "IN_PROGRESS", "ERRORED", "COMPLETED"]


def test_progress_never_falls_and_is_one_only_at_a_good_end(threaded: nb.Batch) -> None:
    """L3"""
    run = threaded.submit(summing(), 3_000)
    shares = [run.progress]
    while not run.done():
        shares.append(run.progress)

    assert shares == sorted(shares)
    assert all(share < 1 for share in shares[:-1])
    assert run.progress == 1.0


def test_replaying_the_history_gives_the_states_shown(batch: nb.Batch, clock: HandClock) -> None:
    """L5"""

    def mixed(value: int) -> None:
        if value % 3 == 1:
            raise OSError("now and then")
        if value % 3 == 2:
            raise nb.RetryLater(5)

    run = batch.submit(each(mixed, max_attempts=2), 9)
    for _ in range(3):
        settle(batch)
        clock.advance(5)
    settle(batch)
    last = {row["chunk"]: row["status"] for row in run.history().iter_rows(named=True)}

    assert last.pop(None) == run.status
    assert last == dict(run.chunks().select("id", "status").iter_rows())


def test_cancel_ends_every_open_chunk_and_the_instance(batch: nb.Batch) -> None:
    """L6"""

    def later(n: int) -> None:
        if n:
            raise nb.RetryLater(1000)

    run = batch.submit(each(later), 5)
    settle(batch)

    assert run.cancel() is True
    assert count(run) == {"COMPLETED": 2, "CANCELLED": 4}
    assert run.status == "CANCELLED"
    assert run._row.ended_us is not None
    assert run.cancel() is False


def test_a_running_chunk_sees_the_cancel_and_its_late_result_is_dropped(threaded: nb.Batch) -> None:
    """L6"""
    started, told = threading.Event(), threading.Event()

    @nb.step
    def patient(n: int) -> int:
        started.set()
        while not nb.context().cancelled:
            pass
        told.set()
        return n

    run = threaded.submit(nb.Job("late", patient >> drop), 1)
    assert started.wait(10)
    run.cancel()

    assert told.wait(10)
    settle(threaded)
    assert count(run) == {"CANCELLED": 1}
    with pytest.raises(nb.JobCancelled):
        run.result(10)


def test_pause_holds_over_a_restart_until_resume(store: Path, clock: HandClock) -> None:
    """L7"""
    ran: list[int] = []

    def work(n: int) -> None:
        if not ran:
            ran.append(n)
            raise nb.RetryLater(10)
        ran.append(n)

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(one_step(work), 1)
        settle(batch)
        run.pause()
        clock.advance(20)
        settle(batch)
        assert ran == [1]
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        (run,) = batch.resume(one_step(work))
        settle(batch)
        assert (run.status, ran) == ("PAUSED", [1])
        run.resume()
        assert run.wait(10) == "COMPLETED"


def test_retry_runs_only_the_failed_chunks_with_a_fresh_budget(batch: nb.Batch) -> None:
    """L8"""
    broken = True
    seen: list[int] = []

    @nb.step(max_attempts=1)
    def fragile(i: int) -> int:
        seen.append(i)
        if broken and i == 2:
            raise OSError("bad cell")
        return i

    run = batch.submit(nb.Job("heal", numbers >> fragile >> total), 4)
    assert isinstance(run.exception(10), nb.JobFailed)
    broken = False
    run.retry()

    assert run.result(10) == 6
    assert sorted(seen) == [0, 1, 2, 2, 3]
    assert run.attempts("fragile", chunk=4)["attempt"].to_list() == [1, 2]


def test_retry_takes_up_a_cancelled_instance(batch: nb.Batch, clock: HandClock) -> None:
    """L8"""
    wait = True

    @nb.step
    def work(i: int) -> int:
        if wait and i:
            raise nb.RetryLater(1000)
        return i

    run = batch.submit(nb.Job("again", numbers >> work >> total), 4)
    settle(batch)
    run.cancel()
    wait = False
    run.retry()

    assert run.result(10) == 6


def test_lists_are_ordered_limited_and_filtered(batch: nb.Batch) -> None:
    """L13"""
    for n in range(5):
        batch.submit(summing("a" if n % 2 else "b"), n).wait(10)

    assert batch.instances(limit=2, offset=1)["id"].to_list() == [4, 3]
    assert batch.instances(job="a")["id"].to_list() == [4, 2]
    assert batch.instances(status="FAILED").is_empty()
    assert batch.instances().equals(batch.instances())


ASKED_WRONGLY: list[tuple[str, Callable[[Any], object]]] = [
    (r"a job is needed here, not <chain ", lambda batch: batch.submit(numbers >> total, 3)),
    (r"a job is needed here, not 'summing'", lambda batch: batch.resume("summing")),
    (r"job= takes a name here, such as 'summing'", lambda batch: batch.instances(job=summing())),
    (r"job= takes a name", lambda batch: batch.cancel(summing())),
    (r"job= takes a name", lambda batch: batch.purge(older_than=timedelta(0), job=summing())),
    (r"older_than= takes a datetime.* not 'long'", lambda batch: batch.purge(older_than="long")),
    (r"purge.. needs older_than=", lambda batch: batch.purge(older_than=None)),
    (r"older_than= takes seconds ago, not since 1970", lambda batch: batch.cancel(older_than=1_764_000_000)),
    (r"since= takes a datetime.* not nan", lambda batch: batch.instances(since=math.nan)),
    (r"limit= takes a number of rows, 0 or more, or None for all; not -1", lambda batch: batch.instances(limit=-1)),
    (r"limit= takes a number of rows.* not 2.5", lambda batch: batch.submit(summing(), 3).chunks(limit=2.5)),
    (r"offset= takes a number of rows, 0 or more; not -2", lambda batch: batch.submit(summing(), 3).errors(offset=-2)),
    (r"an instance is named by its id.* not 'x'", lambda batch: batch.instance("x")),
    (r"a chunk is named by its id.* not 'x'", lambda batch: batch.submit(summing(), 3).chunk("x")),
    (r"no state 'DONE'; there are QUEUED, .* CANCELLED", lambda batch: batch.instances(status="DONE")),
    (r"no state 'failed'; there", lambda batch: batch.submit(summing(), 3).chunks(status="failed")),
    (r"executor= takes an executor.* not 4; a number is workers=", lambda batch: nb.open(batch.path, executor=4)),
    (r"workers= must be a whole number, 1 or more, not 0", lambda batch: nb.open(batch.path, workers=0)),
    (r"1 or more, not 0", lambda _: nb.threads(0)),
    (r"a job is needed here, not 'summing'", lambda batch: batch.submit(summing(), 3).plan("summing")),
    (r"@nb.step decorates a function, not <step double", lambda _: nb.step(double)),
    (r"diff.. compares with another run, not 5", lambda batch: batch.submit(summing(), 3).diff(5, step="each")),
]


@pytest.mark.parametrize(("told", "ask"), ASKED_WRONGLY)
def test_what_is_asked_for_wrongly_is_told_with_what_to_ask_for(
    batch: nb.Batch, told: str, ask: Callable[[Any], object]
) -> None:
    """L13"""
    with pytest.raises((TypeError, ValueError), match=told):
        ask(batch)


def test_submitting_what_has_ended_says_so_in_a_line(batch: nb.Batch, caplog: pytest.LogCaptureFixture) -> None:
    """S6"""
    failing = one_step(lambda _: 1 / 0, max_attempts=1)
    with caplog.at_level("INFO"):
        for job in (failing, summing()):
            batch.submit(job, 3).wait(10)
        assert caplog.messages == []
        for job in (failing, summing()):
            batch.submit(job, 3).wait(10)
        batch.submit(failing, 3, new=True).wait(10)
        batch.submit(failing, 3, key="mine").wait(10)
        batch.submit(failing, 4).wait(10)

    assert [(record.levelname, record.getMessage()[:66]) for record in caplog.records] == [
        ("WARNING", "instance 3 begins anew, as instance 1 of equal parameters ended FA"),
        ("INFO", "instance 4 begins anew, as instance 2 of equal parameters ended CO"),
    ]
    assert "batch.instance(1, job).retry()" in caplog.messages[0]


def test_a_key_does_not_hide_that_the_same_is_unfinished_or_was_done_by_another_version(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S5, S6, S10"""

    @nb.step
    def later(_: int) -> None:
        raise nb.RetryLater("1 hour")

    job = nb.Job("later", later)
    with nb.open(store, nb.inline()) as batch:
        batch.submit(job, 3, key="day")
        batch.submit(job, 3)
        batch.submit(job, 4)
        batch.submit(job, 4, key="other")
        assert [text[:50] for text in caplog.messages] == [
            "instance 2 begins beside instance 1 of equal param",
            "instance 4 begins beside instance 3 of equal param",
        ]
        assert "has key 'day'" in caplog.messages[0]
        batch.cancel()
    with nb.open(store, nb.inline()) as batch:
        batch.submit(job, 5, key="five")
    caplog.clear()
    with nb.open(store, nb.inline()) as batch:  # it has not seen the job
        batch.submit(job, 5)
        batch.submit(job, 6)
        batch.submit(nb.Job("later", later, version=2), 3, key="day")
    beside, of_version = caplog.messages
    assert "instance 6 begins beside instance 5" in beside
    assert "instance 1 of version 1, with key 'day' too, ended CANCELLED" in of_version


def test_what_is_refused_after_a_change_of_the_job_says_what_brings_it_back(store: Path) -> None:
    """S6, S9"""

    @nb.step
    def bill(day: Old) -> None:
        raise nb.FailChunk("no shop")

    @nb.step
    def billed(day: Renewed) -> None: ...

    @nb.step
    def before(day: Old) -> Old:
        return day

    with nb.open(store, nb.inline()) as batch:
        run = batch.submit(nb.Job("bill", bill), Old(day="monday"), key="k")
        assert f"nbbatch errors {shlex.quote(str(store))} 1; nbbatch retry" in str(run.exception(10))
        with pytest.raises(nb.StateError, match=r"older form \(book.*upgrade="):
            batch.submit(
                nb.Job("bill", nb.step(name="bill")(billed.function)), Renewed(day="monday", book="main"), key="k"
            )
        with pytest.raises(nb.ShapeError, match="The job given is version 2: give the definition of version 1"):
            run.retry(nb.Job("bill", before >> bill, version=2))


def test_a_program_that_is_told_to_end_logs_it(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), nb.open(store, nb.inline()) as batch:
        batch._sigterm.begin()  # pyright: ignore[reportPrivateUsage] - what the signal does first
    assert "SIGTERM: what runs in" in caplog.text


def test_a_run_can_be_awaited(threaded: nb.Batch) -> None:
    async def main() -> int:
        return await threaded.submit(summing(), 10)

    assert asyncio.run(main()) == 90


def test_waiting_has_a_limit(batch: nb.Batch) -> None:
    with pytest.raises(TimeoutError, match="goes on"):
        hold(batch).result(0.01)


def test_an_idle_engine_makes_no_turns(batch: nb.Batch) -> None:
    hold(batch)
    before = batch._engine.turns
    threading.Event().wait(0.1)

    assert batch._engine.turns - before <= 1


def test_a_step_may_submit_a_job(threaded: nb.Batch) -> None:
    @nb.step
    def outer(n: int) -> int:
        return threaded.submit(summing(), n).result(10)

    @nb.step
    def keep(values: Iterable[int]) -> int:
        return sum(values)

    assert threaded.submit(nb.Job("outer", outer >> keep), 4).result(10) == 12
    assert statuses(threaded.instance(2)) == ["COMPLETED"] * 6


from collections.abc import Iterable  # noqa: E402 - named in a string above, as cells often do


def test_who_waits_for_a_paused_run_is_told_how_it_goes_on(inline: nb.Batch, clock: HandClock) -> None:
    waits = [True]

    def later(_: int) -> None:
        if waits:
            raise nb.RetryLater(1)

    run = inline.submit(one_step(later), 3)
    run.pause()
    told = pytest.raises(TimeoutError, match=r"is PAUSED, and run\.resume")
    with pytest.warns(UserWarning, match=r"is PAUSED .*run\.resume\(\)"), told:
        run.wait(0.01)

    waits.clear()
    run.resume()
    clock.advance(1)
    assert run.wait(10) == "COMPLETED"


@pytest.mark.parametrize("how", ["wait", "result", "progress", "await"])
def test_who_waits_already_when_a_run_is_paused_is_told_too(inline: nb.Batch, clock: HandClock, how: str) -> None:
    waits = [True]

    def later(_: int) -> None:
        if waits:
            raise nb.RetryLater(1)

    async def awaited(run: nb.JobHandle[None]) -> None:
        await run

    run = inline.submit(one_step(later), 3)
    settle(inline)
    waiting = {
        "wait": run.wait, "result": run.result, "progress": lambda: run.wait(progress=True),
        "await": lambda: asyncio.run(awaited(run)),
    }[how]  # fmt: skip
    told = list[str]()

    def resumed(message: Warning | str, *_: object, **__: object) -> None:
        told.append(str(message))
        waits.clear()
        run.resume()
        clock.advance(1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = resumed
        pause = threading.Timer(0.05, run.pause)
        pause.start()
        waiting()
        pause.join()

    (text,) = told
    assert "is PAUSED and will not end by itself; run.resume()" in text

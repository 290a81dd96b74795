"""Looking into failed chunks, running them again, and what it leaves behind."""

from __future__ import annotations

import linecache
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch import testing
from nbbatch.heal import inputs
from tests.jobs import double, numbers, summing, total
from tests.kit import HandClock, count, settle


class Order(BaseModel):
    number: int
    price: str
    currency: str | None = "EUR"


@nb.step
def orders(n: int) -> Iterator[Order]:
    """Of 10,000 orders 31 have no currency and 216 a decimal comma."""
    for i in range(n):
        yield Order(
            number=i,
            price="1,5" if i % 46 == 7 and i < 46 * 217 else "1.5",
            currency=None if i % 320 == 3 and i < 320 * 31 else "EUR",
        )


@nb.step(max_attempts=1)
def value(order: Order) -> float:
    if order.currency is None:
        raise LookupError(f"order {order.number} has no currency")
    return float(order.price)


@nb.step
def revenue(values: Iterable[float]) -> float:
    return sum(values)


def mended() -> nb.Job[int, float]:
    @nb.step(name="value", max_attempts=1)
    def fixed(order: Order) -> float:
        return float(order.price.replace(",", "."))

    return nb.Job("revenue", orders >> fixed >> revenue)


BROKEN = nb.Job("revenue", orders >> value >> revenue)


def scaled(factor: int, fail: int = -1) -> nb.Job[int, int]:
    """n → 0 … n-1 → times a factor, where one value may fail → their sum."""

    @nb.step(name="scale", max_attempts=1)
    def scale(n: int) -> int:
        if n == fail:
            raise ValueError(f"cannot scale {n}")
        return factor * n

    return nb.Job("scaled", numbers >> scale >> total)


def test_triage_names_both_reasons_and_a_retry_runs_exactly_the_failed_chunks(
    threaded: nb.Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = threaded.submit(BROKEN, 10_000)
    run.wait(30)
    found = run.failures()

    assert [(each.cause.type, len(each)) for each in found] == [("ValueError", 216), ("LookupError", 31)]
    assert found[0].cause.line == "value: return float(order.price)"
    assert found[1].cause.message == "order … has no currency"
    assert '216 of 216 have price = "1,5"; 0 of 9,753 good ones do' in repr(found)
    assert "31 of 31 have currency null; 0 of 9,753 good ones do" in repr(found)

    before = run.attempts("value", limit=100_000).height
    failed = set(run.chunks("value", status="FAILED")["id"])
    capsys.readouterr()
    old, new = BROKEN.nodes[1].step.fingerprint, mended().nodes[1].step.fingerprint
    assert run.retry(mended()).result(30) == 15_000.0

    added = run.attempts("value", limit=100_000).filter(pl.col("code") == new)
    assert f"value {old[:4]} → {new[:4]}: 247 to retry, 9,753 kept" in capsys.readouterr().out
    assert run.attempts("value", limit=100_000).height == before + 247
    assert set(added["chunk"]) == failed
    assert added.height == 247


def test_the_versions_of_a_step_are_listed_with_their_difference(batch: nb.Batch) -> None:
    """S9"""
    run = batch.submit(scaled(2, fail=1), 3)
    run.wait(10)
    run.retry(scaled(3), quiet=True).wait(10)
    versions = run.code("scale")

    assert [(each.attempts, each.failed) for each in versions] == [(3, 1), (1, 0)]
    assert "-factor = 2" in versions.diff()
    assert "+factor = 3" in versions.diff()


def test_a_group_can_be_retried_or_skipped_on_its_own(batch: nb.Batch, capsys: pytest.CaptureFixture[str]) -> None:
    """L10"""
    run = batch.submit(BROKEN, 1_000)
    run.wait(10)
    commas, nothing = run.failures()
    commas.retry().wait(10)
    assert f"{len(commas)} to retry, 974 kept, {len(nothing)} left as they are" in capsys.readouterr().out
    nothing.skip("test data")
    assert run.chunks(status="SKIPPED")["id"].to_list() == nothing.ids
    assert run.status == "FAILED"
    commas.retry(mended()).wait(10)

    assert run.status == "COMPLETED"
    assert run.result() == 1.5 * (1_000 - len(nothing))
    assert run.chunks(status="SKIPPED")["error"].unique().to_list() == ["test data"]


def test_skipping_the_last_failed_chunks_lets_the_run_end(batch: nb.Batch) -> None:
    """L10"""
    run = batch.submit(scaled(2, fail=1), 3)
    run.wait(10)
    (group,) = run.failures()
    group.skip("no use")

    assert run.result(10) == 4
    assert repr(run.failures()) == "nothing failed"


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (nb.Job("scaled", numbers >> double >> total), nb.ShapeError),
        (summing("another"), nb.StateError),
    ],
    ids=["another chain", "another job"],
)
def test_a_retry_with_a_job_that_cannot_heal_changes_and_promises_nothing(
    batch: nb.Batch, job: nb.Job[int, int], error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """S9"""
    run = batch.submit(scaled(2, fail=1), 3)
    run.wait(10)
    before = run.history().rows()

    for refused in (lambda: run.plan(job), lambda: run.retry(job), lambda: run.rerun(job, step="scale")):
        with pytest.raises(error):
            refused()
    assert run.history().rows() == before
    assert capsys.readouterr().out == ""
    assert run.retry(scaled(2)).result(10) == 6


def test_a_replay_gives_what_is_stored_and_stores_nothing(batch: nb.Batch) -> None:
    run = batch.submit(scaled(2), 3)
    run.wait(10)
    before = run.history().height
    replay = run.chunk(4).replay()

    assert (replay.outputs, replay.same, run.history().height) == ([4], True, before)
    with pytest.raises(nb.DefinitionError, match=r"@nb\.step"):
        run.chunk(4).replay(abs)  # type: ignore[arg-type]
    assert run.chunk(4).replay(scaled(5).nodes[1].step).changes[0] == ("value", "4", "10")


CELL = """
@nb.step(name="fit", max_attempts={attempts}, backoff=60)
def fit(n: int) -> int:
    return 12 // (n - {place})
"""


def fitting(names: dict[str, Any], place: int, attempts: int = 1) -> nb.Job[int, int]:
    """Run the cell of a step, and that of its job."""
    text = CELL.format(place=place, attempts=attempts)
    name = f"/tmp/ipykernel_1/{place}.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), names)
    return nb.Job("fits", numbers >> names["fit"] >> total)


def test_a_replay_runs_the_step_whose_cell_was_run_again_and_a_retry_tells_of_it(
    inline: nb.Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"nb": nb, "__name__": "shop"}
    run = inline.submit(fitting(names, 1), 3)
    run.wait(10)
    (chunk,) = map(run.chunk, run.chunks(status="FAILED")["id"])
    assert isinstance(chunk.replay().error, ZeroDivisionError)

    old = names["fit"]
    fitting(names, 7)
    assert chunk.replay().outputs == [-2]
    assert isinstance(chunk.replay(old).error, ZeroDivisionError)
    run.retry().wait(10)
    code = names["fit"].fingerprint[:4]
    assert f"fit was defined again since, as {code}: run the cell of the job too" in capsys.readouterr().out

    names["as_it_was"] = old
    assert isinstance(chunk.replay().error, ZeroDivisionError)
    assert str(run.plan()).count("\n") == 0


def test_a_plan_counts_chunks_that_wait_for_another_attempt_which_runs_its_code(
    inline: nb.Batch, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"nb": nb, "__name__": "shop"}
    run = inline.submit(fitting(names, 1, attempts=3), 3)
    settle(inline)
    before = names["fit"].fingerprint[:4]

    mended = fitting(names, 7, attempts=3)
    said = f"fit {before} → {names['fit'].fingerprint[:4]}: 0 to retry, 2 kept, 1 waiting for another attempt, which runs this code"
    assert str(run.plan(mended)) == said
    run.retry(mended)
    assert capsys.readouterr().out == f"{said}\n"
    clock.advance(600)
    assert run.result(10) == 12 // (0 - 1) + 12 // (1 - 7) + 12 // (2 - 1)


def test_the_code_of_two_runs_is_compared(inline: nb.Batch) -> None:
    names: dict[str, Any] = {"nb": nb, "__name__": "shop"}
    before, after = (inline.submit(fitting(names, place), 3, new=True) for place in (7, 8))
    before.wait(10)
    after.wait(10)

    changes = after.code("fit").since(before.code("fit")).splitlines()
    assert "-    return 12 // (n - 7)" in changes
    assert "+    return 12 // (n - 8)" in changes
    assert after.code("fit").since(after.code("fit")) == ""


@pytest.mark.parametrize("chunk", [1, 5])
def test_the_first_step_and_the_reduction_are_replayed_too(batch: nb.Batch, chunk: int) -> None:
    run = batch.submit(scaled(2), 3)
    run.wait(10)

    assert run.chunk(chunk).replay().same


def test_a_replay_of_an_async_step_runs_beside_a_running_event_loop(batch: nb.Batch) -> None:
    @nb.step
    async def later(n: int) -> int:
        return n + nb.context().chunk

    run = batch.submit(nb.Job("later", numbers >> later >> total), 2)
    run.wait(10)

    async def cell() -> Any:
        return run.chunk(3).replay().outputs

    import asyncio

    assert asyncio.run(cell()) == [4]


def test_debug_stops_at_the_raising_line(batch: nb.Batch) -> None:
    run = batch.submit(scaled(2, fail=1), 3)
    run.wait(10)
    stopped: list[str] = []

    def post_mortem(frames: Any) -> None:
        while frames.tb_next:
            frames = frames.tb_next
        stopped.append(f"{frames.tb_frame.f_code.co_name} n={frames.tb_frame.f_locals['n']}")

    replay = run.chunk(3).debug(post_mortem=post_mortem)

    assert stopped == ["scale n=1"]
    with pytest.raises(ValueError, match="cannot scale 1"):
        replay.reraise()


def test_a_chunk_knows_its_lineage(batch: nb.Batch) -> None:
    run = batch.submit(scaled(2), 3)
    run.wait(10)

    assert [each.step for each in run.chunk(3).lineage] == ["numbers", "scale"]


CHILD = """
import sys
import nbbatch as nb
from nbbatch import testing
from nbbatch.heal import inputs
from tests.test_heal import value

with nb.open(sys.argv[1]) as batch:
    chunk = batch.instance(1).chunk(int(sys.argv[2]))
    assert (chunk.input["number"], chunk.outputs, chunk.parent.input, chunk.parent.outputs[3]) == (3, [], 10, chunk.input)
    for refused in (chunk.replay, chunk.debug, batch.instance(1).retry):
        try:
            refused()
        except nb.StateError as error:
            assert "not known here" in str(error)
    stopped = []
    replay = chunk.debug(value, post_mortem=lambda frames: stopped.append(frames))
    print(type(replay.error).__name__, replay.error, len(stopped))
"""


def test_a_copied_store_is_replayed_and_debugged_in_a_process_that_only_knows_the_step(
    store: Path, tmp_path: Path
) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(BROKEN, 10)
        run.wait(10)
        chunk = run.failures()[0].example
    copy = tmp_path / "elsewhere" / "copy.duckdb"
    copy.parent.mkdir()
    shutil.copy(store, copy)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(copy), str(chunk)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )

    assert done.stdout == "LookupError order 3 has no currency 1\n", done.stderr


def test_a_rerun_does_chosen_chunks_and_what_came_of_them_again(batch: nb.Batch) -> None:
    """L9"""
    run = batch.submit(scaled(2), 4)
    assert run.result(10) == 12
    chosen = run.chunks("scale")["id"].to_list()[2:]
    run.rerun(scaled(10), step="scale", where=pl.col("value") >= 2)

    assert run.result(10) == 0 + 2 + 20 + 30
    assert run.attempts("scale").height == 6
    assert count(run) == {"COMPLETED": 6}
    assert set(run.chunks("scale")["id"]).isdisjoint(chosen)
    gone = run.history().filter(pl.col("status") == "SUPERSEDED")
    assert set(gone["chunk"]) == {*chosen, 6}
    assert run.chunk(chosen[0]).status == "SUPERSEDED"
    assert run.progress == 1.0
    assert run.outputs("scale") == [0, 2, 20, 30]


def test_a_rerun_of_the_first_step_does_all_again(batch: nb.Batch) -> None:
    """L9"""
    run = batch.submit(scaled(2), 4)
    run.wait(10)
    run.rerun(scaled(3), step="numbers")

    assert run.result(10) == 18
    assert run.steps()["chunks"].to_list() == [1, 4, 1]


def test_a_rerun_of_the_reduction_keeps_its_inputs(batch: nb.Batch) -> None:
    """L9"""
    run = batch.submit(scaled(2), 4)
    run.wait(10)
    run.rerun(step="total")

    assert run.result(10) == 12
    assert run.attempts("scale").height == 4
    assert run.attempts("total").height == 2


def test_the_report_is_gone_until_a_reduction_that_is_run_again_gives_one(batch: nb.Batch, clock: HandClock) -> None:
    """L9"""
    later = [False]

    @nb.step
    def total_later(values: Iterable[int]) -> int:
        if later[0]:
            later[0] = False
            raise nb.RetryLater(60)
        return sum(values)

    run = batch.submit(nb.Job("later", numbers >> total_later), 4)
    run.result(10)
    later[0] = True
    run.rerun(step="total_later", quiet=True)
    settle(batch)

    assert run.report is None
    clock.advance(60)
    assert run.result(10) == 6


def test_a_rerun_behind_a_gate_waits_for_it_again(store: Path, clock: HandClock) -> None:
    """L9 G1"""
    held = [False]
    ran: list[int] = []

    @nb.step
    def first(n: int) -> int:
        if held[0]:
            raise nb.RetryLater(10)
        return n

    @nb.step(gate=True)
    def second(n: int) -> None:
        ran.append(n)

    job = nb.Job("gated", numbers >> first >> second)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(job, 3)
        run.wait(10)
        held[0] = True
        run.rerun(step="first", where=pl.col("value") == 1)
        settle(batch)
        assert ran == [0, 1, 2]
        held[0] = False
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        (run,) = batch.resume(job)
        clock.advance(10)
        run.wait(10)

    assert ran == [0, 1, 2, 1]


def test_a_rerun_is_refused_while_the_instance_runs_and_changes_nothing(batch: nb.Batch) -> None:
    @nb.step
    def wait(n: int) -> None:
        raise nb.RetryLater(100)

    run = batch.submit(nb.Job("waits", numbers >> wait), 2)
    settle(batch)
    before = run.history().rows()

    with pytest.raises(nb.StateError, match="pause"):
        run.rerun(step="wait")
    assert run.history().rows() == before


def test_a_rerun_of_an_unknown_column_lists_those_there_are(batch: nb.Batch) -> None:
    run = batch.submit(scaled(2), 2)
    run.wait(10)

    with pytest.raises(nb.NotFoundError, match="they have chunk, status, value"):
        run.rerun(step="scale", where=pl.col("path") == "x")


@pytest.mark.parametrize("where", [pl.col("value"), pl.col("value").str.ends_with("x"), "value > 3"])
def test_a_rerun_says_what_where_takes(batch: nb.Batch, where: Any) -> None:
    run = batch.submit(scaled(2), 2)
    run.wait(10)

    with pytest.raises(ValueError, match=r"such as pl\.col\('size'\) > 3"):
        run.rerun(step="scale", where=where)


def snapshot(run: nb.JobHandle[Any], **at: Any) -> list[Any]:
    chunks = run.chunks(**at).select("id", "step", "status", "attempts", "errors", "polls")
    return [
        chunks.rows(),
        run.steps(**at).rows(),
        run.errors(**at).height,
        run.history(**at).rows(),
        run.attempts(**at).height,
    ]


def test_as_of_every_second_is_what_was_seen_then(batch: nb.Batch, clock: HandClock) -> None:
    tries: dict[int, int] = {}

    @nb.step(max_attempts=3, backoff=nb.Backoff(base=2, jitter=0))
    def shaky(n: int) -> int:
        tries[n] = tries.get(n, 0) + 1
        if n and tries[n] <= n:
            raise OSError(f"try {tries[n]} of {n}")
        return n

    run = batch.submit(nb.Job("shaky", numbers >> shaky >> total), 5)
    seen: list[tuple[Any, list[Any], list[Any]]] = []

    def live(seconds: int) -> None:
        for _ in range(seconds):
            settle(batch)
            now = pl.Series([clock.now()]).cast(pl.Datetime("us", "UTC"))[0]
            seen.append((now, snapshot(run), batch.instances()["status"].to_list()))
            clock.advance(1)

    live(8)
    assert run.status == "FAILED"
    run.retry(quiet=True)
    live(4)
    run.rerun(step="shaky", where=pl.col("value") > 2)
    live(8)

    assert run.status == "COMPLETED"
    for at, then, status in seen:
        assert snapshot(run, as_of=at) == then
        assert batch.instances(as_of=at)["status"].to_list() == status
    assert run.chunks(as_of=f"{len(seen)} s ago")["status"].to_list() == [row[2] for row in seen[0][1][0]]


def test_as_of_says_what_it_takes(batch: nb.Batch) -> None:
    run = batch.submit(summing(), 1)

    for said in ("yesterday-ish", [5]):
        with pytest.raises(ValueError, match="10 min ago"):
            run.chunks(as_of=said)  # type: ignore[arg-type]


def test_a_diff_tells_per_item_what_changed(batch: nb.Batch) -> None:
    one, two = batch.submit(scaled(2), 4), batch.submit(scaled(2, fail=3), 5)
    one.wait(10)
    two.wait(10)
    diff = one.diff(two, step="scale")

    assert (diff.changed, diff.added, diff.removed, diff.same) == (1, 1, 0, 3)
    assert one.diff(batch.submit(scaled(7), 4, new=True), step="numbers").step == "numbers"
    rows = diff.frame().select("change", "input", "field", "before", "after").rows()
    assert rows == [
        ("changed", "3", "status", "COMPLETED", "FAILED"),
        ("changed", "3", "value", "6", None),
        ("added", "4", "status", None, "COMPLETED"),
    ]


def test_markup_in_what_heals_shows_as_text(batch: nb.Batch) -> None:
    """V3"""

    @nb.step(max_attempts=1)
    def evil(n: int) -> None:
        raise ValueError("<script>alert(1)</script>")

    run = batch.submit(nb.Job("evil", numbers >> evil), 1)
    run.wait(10)
    html = run.failures()._repr_html_() + run.code("evil")._repr_html_() + run.chunk(2).replay()._repr_html_()

    assert "<script>" not in html


def test_a_preview_runs_a_few_items_of_each_step_and_guesses_the_rest() -> None:
    ran: list[int] = []

    @nb.step(max_attempts=1)
    def invert(n: int) -> float:
        ran.append(nb.context().chunk)
        return 1 / n

    preview = nb.Job("preview", numbers >> invert >> revenue).preview(1_000, limit=3)

    assert [(step.name, len(step.tried), step.offered) for step in preview] == [
        ("numbers", 1, 1),
        ("invert", 3, 1_000),
        ("revenue", 1, 2),
    ]
    assert len(ran) == 3
    assert preview["invert"].frame()["error"].to_list() == ["ZeroDivisionError: division by zero", None, None]
    assert preview["revenue"].tried[0].outputs == [1.5]
    assert preview.chunks == 1_002
    assert "about 1,002 chunks" in repr(preview)


def test_a_preview_keeps_what_steps_print_and_leaves_the_streams_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """C15"""

    @nb.step
    def say(n: int) -> None:
        print("item", n)

    before = sys.stdout
    preview = nb.Job("preview", numbers >> say).preview(2)

    assert [each.log for each in preview["say"].tried] == ["item 0\n", "item 1\n"]
    assert (sys.stdout, capsys.readouterr().out) == (before, "")
    with pytest.raises(nb.NotFoundError, match="'numbers', 'say'"):
        preview["sing"]


def test_a_preview_goes_into_steps_that_are_jobs() -> None:
    @nb.step
    def invert(n: int) -> float:
        return 1 / n

    inner = nb.Job("inner", numbers >> invert >> revenue)
    preview = nb.Job("outer", numbers >> summing("sums").as_step() >> inner.as_step() >> revenue).preview(4)

    assert [[each for tried in step.tried for each in tried.outputs] for step in preview][1] == [0, 0, 2, 6]
    assert preview["inner"].frame()["error"].to_list() == [None, None, *["ZeroDivisionError: division by zero"] * 2]


def test_a_preview_refuses_wrong_parameters() -> None:
    """S1"""
    with pytest.raises(nb.ParameterError):
        summing().preview("many")  # type: ignore[arg-type]


def test_a_step_is_called_like_its_function() -> None:
    """D6"""
    assert list(numbers(3)) == [0, 1, 2]
    assert revenue([1.0, 2.0]) == 3.0


@nb.step
def pages(n: int) -> Iterator[list[int]]:
    for first in range(0, n, 8):
        yield list(range(first, first + 8))


def inverse(bad: set[int], **options: Any) -> nb.Job[int, float]:
    @nb.step(max_attempts=1, bisect=True, **options)
    def invert(page: list[int]) -> float:
        if bad & set(page):
            raise ValueError("poison")
        return float(sum(page))

    return nb.Job("inverse", pages >> invert >> revenue)


def test_a_failing_page_is_halved_until_the_poison_item_stands_alone(batch: nb.Batch) -> None:
    run = batch.submit(inverse({5}), 16)
    run.wait(10)
    failed = run.chunks("invert", status="FAILED")["id"].to_list()

    assert [run.chunk(each).input for each in failed] == [[5]]
    assert [each.input for each in run.chunk(failed[0]).lineage[1:]] == [list(range(8)), [4, 5, 6, 7], [4, 5], [5]]
    assert run.chunks("invert").height == 5  # two pages, one of which is four pieces now
    run.failures()[0].skip("poison")
    assert run.result(10) == sum(range(16)) - 5


def test_two_poison_items_are_both_found(batch: nb.Batch) -> None:
    run = batch.submit(inverse({1, 6}, max_failed=2), 8)

    assert run.result(10) == sum(range(8)) - 7
    assert sorted(run.chunk(each).input for each in run.chunks("invert", status="FAILED")["id"]) == [[1], [6]]


def test_a_skipped_class_of_errors_leaves_out_items_of_a_page_that_is_split(store: Path) -> None:
    """L10"""
    job = inverse({1, 6}, skip_on=ValueError, max_skipped=2)
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(job, 8)

        assert run.result(10) == sum(range(8)) - 7
        alone = [chunk for chunk in run.chunks("invert", status="SKIPPED")["id"] if not run.chunk(chunk).children]
        assert [run.chunk(each).input for each in alone] == [[1], [6]]


def test_split_pages_count_for_no_limit_of_skips_after_a_restart_either(store: Path, clock: HandClock) -> None:
    """L10"""

    @nb.step(bisect=True, skip_on=ValueError, max_skipped=1, backoff=60)
    def invert(page: list[int]) -> float:
        if len(page) == 1 and clock.now() < testing.START_US + 60_000_000:
            raise OSError("not yet")
        if 1 in page:
            raise ValueError("poison")
        return float(sum(page))

    job = nb.Job("later", pages >> invert >> revenue)
    for seconds in (0, 100):
        clock.advance(seconds)
        with nb.open(store, executor=nb.inline(), clock=clock) as batch:
            run = batch.submit(job, 8)
            settle(batch)
            assert run.chunks("invert", status="FAILED").height == 0
            assert (run.status == "COMPLETED") == (seconds > 0)


def test_bisect_needs_a_page() -> None:
    """D1"""
    with pytest.raises(nb.DefinitionError, match="bisect=True"):

        @nb.step(bisect=True)
        def one(value: int) -> None: ...


def test_what_was_looked_into_says_that_its_batch_is_closed(store: Path) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(scaled(2, fail=1), 2)
        run.wait(10)
        chunk = run.chunk(2)

    assert "closed" in repr(run)
    assert "closed" in repr(chunk)
    assert "closed" in run._repr_html_()
    assert "closed" in chunk._repr_html_()
    with pytest.raises(nb.StoreClosed):
        chunk.attempts()


@pytest.mark.parametrize("after", [{}, None, [1]], ids=str)
def test_a_list_that_was_empty_differs_from_what_else_it_may_be(batch: nb.Batch, after: Any) -> None:
    def listing(given: Any) -> nb.Job[int, None]:
        @nb.step
        def rows(n: int) -> Iterator[Any]:
            yield {"rows": given}

        @nb.step
        def drop(row: Any) -> None: ...

        return nb.Job("listing", rows >> drop)

    run = batch.submit(listing([]), 1)
    run.wait(30)
    assert not run.chunk(1).replay(listing(after).nodes[0].step).same
    assert run.chunk(1).replay().same


class Visit(BaseModel):
    patient: str
    day: int


@pytest.mark.parametrize(
    ("item", "told", "in_error"),
    [
        ("a.csv", "a.csv", "chunk 3 (a.csv): ValueError"),
        (nb.File, "a.csv", "chunk 3 (a.csv): ValueError"),
        (Visit(patient="Ada", day=2), "patient=Ada · day=2", "chunk 3: ValueError"),
        ("two\nlines " * 20, f"{'two lines ' * 7}two lines…", f"({'two lines ' * 7}two lines…): ValueError"),
    ],
)
def test_what_failed_is_told_by_its_input(
    inline: nb.Batch, tmp_path: Path, item: Any, told: str, in_error: str
) -> None:
    """The text of an exception goes to logs: fields of a model are not in it."""
    (tmp_path / "a.csv").write_text("1")
    made = nb.File(tmp_path / "a.csv") if item is nb.File else item

    def items(n: int) -> Iterator[Any]:
        yield from ["good", made]

    def fail(each: Any) -> None:
        if each != "good":
            raise ValueError("no")

    kind = type(made)
    items.__annotations__["return"] = Iterator[str | kind]
    fail.__annotations__["each"] = str | kind
    run = inline.submit(nb.Job("fail", nb.step(items) >> nb.step(max_attempts=1)(fail)), 1)
    group = run.failures()[0] if run.wait(10) == "FAILED" else None

    assert group is not None
    assert (group.input, f"chunk 3 ({told}): no" in str(group)) == (told, True)
    assert run.failures().frame()["input"].to_list() == [told]
    with pytest.raises(nb.JobFailed) as caught:
        run.result()
    assert in_error in str(caught.value)


def test_inputs_of_many_chunks_are_read_in_pages(inline: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "AT_ONCE", 2)
    run = inline.submit(summing(), 5)
    run.wait(10)
    ids = run.chunks("double")["id"].to_list()

    told = inputs.briefs(run._store, run.id, ids[::-1])

    assert {chunk: each.input for chunk, each in told.items()} == dict(zip(ids, "01234", strict=True))

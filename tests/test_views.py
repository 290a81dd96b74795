"""Frames and what shows in a cell."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from random import Random

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.base.rows import EventRow
from nbbatch.base.states import CHUNK_BY_CODE, INSTANCE_BY_CODE, ChunkStatus
from nbbatch.store import frames
from tests.jobs import drop, each, numbers, one_step, summing
from tests.kit import engine, settle

FRAMES = ["steps", "chunks", "attempts", "errors", "history", "logs"]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_has_the_same_columns_and_types_when_empty(batch: nb.Batch, name: str) -> None:
    """V1"""

    def noisy(n: int) -> None:
        print("noise")
        raise nb.FailChunk("no")

    run = batch.submit(each(noisy), 3)
    run.wait(10)
    full = getattr(run, name)()
    empty = {
        "steps": lambda: frames.steps(batch._store, 99),
        "chunks": lambda: frames.chunks(batch._store, 99, None, None, 10, 0),
    }.get(name, lambda: frames.of_instance(batch._store, name, 99, None, None, 10, 0))()

    assert full.height > 0
    assert empty.height == 0
    assert empty.schema == full.schema


@pytest.mark.parametrize("name", ["chunks", "attempts", "errors", "skips", "history", "logs", "instances"])
def test_a_frame_that_was_cut_unasked_says_how_much_is_left_out(batch: nb.Batch, name: str) -> None:
    """V6"""

    def speak(n: int) -> None:
        print("said")
        raise nb.SkipChunk("no") if n % 2 else nb.FailChunk("no")

    run = batch.submit(each(speak), 8)
    run.wait(10)
    for n in range(3):
        batch.submit(summing(), n).wait(10)
    frame = getattr(batch if name == "instances" else run, name)
    whole = frame(limit=None)
    short = frames.Unasked(2)  # as the default, but smaller

    with pytest.warns(UserWarning, match=rf"2 rows are given and {whole.height - 2} more left out; limit=None") as told:
        assert frame(limit=short).equals(whole[:2])
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=rf"and {whole.height - 3} more left out"):
        assert frame(limit=short, offset=1).equals(whole[1:3])
    assert frame(limit=2).equals(whole[:2])
    assert frame(limit=frames.Unasked(whole.height)).equals(whole)
    assert isinstance(inspect.signature(frame).parameters["limit"].default, frames.Unasked)


def test_a_printed_frame_shows_first_what_people_look_for(batch: nb.Batch) -> None:
    """V6"""
    run = batch.submit(each(lambda _: 1 / 0, max_attempts=1), 3)
    run.wait(10)

    for frame, wanted in (
        (run.chunks(), ["id", "step", "status", "attempts", "seconds", "error_type", "error"]),
        (run.attempts(), ["chunk", "step", "attempt", "status", "seconds", "error_type", "error"]),
        (run.steps(), ["step", "chunks", "completed", "failed", "queued", "in_progress", "median_seconds"]),
        (batch.instances(), ["id", "job", "status", "progress", "seconds", "error"]),
    ):
        shown = [*frame.columns[:4], *frame.columns[-4:]]  # what polars prints of a wide frame
        assert [name for name in shown if name in wanted] == wanted


def test_times_carry_utc_and_states_are_strings(batch: nb.Batch) -> None:
    """V1"""
    run = batch.submit(summing(), 3)
    run.wait(10)
    frames = [run.chunks(), run.attempts(), run.history(), run.steps(), batch.instances(), batch.jobs()]
    types = {dtype for frame in frames for dtype in frame.dtypes if isinstance(dtype, pl.Datetime)}

    assert types == {pl.Datetime("us", "UTC")}
    assert run.chunks()["status"].dtype == pl.String


def test_the_sql_macros_name_the_states_as_the_code_does(batch: nb.Batch) -> None:
    """V1"""
    for macro, names in (("chunk_status", CHUNK_BY_CODE), ("instance_status", INSTANCE_BY_CODE)):
        rows = batch.sql(f"SELECT i, {macro}(i) FROM range(1, {len(names) + 1}) r(i)").rows()
        assert dict(rows) == {code: status.value for code, status in names.items()}


def test_an_unknown_step_lists_those_there_are(batch: nb.Batch) -> None:
    run = batch.submit(summing(), 1)

    with pytest.raises(nb.NotFoundError, match="'numbers', 'double', 'total'"):
        run.chunks("nmbers")


def test_a_view_never_sees_half_a_transaction(threaded: nb.Batch) -> None:
    """V2"""
    run = threaded.submit(nb.Job("seen", numbers >> drop), 20_000)
    while not run.done():
        steps = run.steps()
        first, second = steps["completed"].to_list()
        total_chunks = steps["chunks"].to_list()[1]
        assert total_chunks in (0, 20_000)
        assert second <= 20_000
        assert first == 1 or total_chunks == 0


def test_markup_in_names_values_and_errors_shows_as_text(batch: nb.Batch) -> None:
    """V3"""

    def evil(n: int) -> None:
        nb.context().warn("<script>warn()</script>")
        raise nb.FailChunk("<script>alert(1)</script>")

    job = one_step(evil, "<b>job</b>")
    run = batch.submit(job, 1)
    run.wait(10)
    html = run._repr_html_() + batch._repr_html_() + job._repr_html_() + run.chunk(1)._repr_html_()

    assert "<script>" not in html
    assert "<b>job" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM chunk",
        "SELECT 1; DROP TABLE chunk",
        "ATTACH 'other.db' AS other",
        "COPY chunk TO 'out.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SET threads = 4",
        "PRAGMA database_list",
        "not sql at all",
        "INSTALL httpfs",
    ],
)
def test_sql_refuses_everything_but_a_read_of_the_store(batch: nb.Batch, query: str) -> None:
    """V5"""
    with pytest.raises(nb.QueryRefused):
        batch.sql(query)
    assert batch.submit(summing(), 3).result(10) == 6


def test_sql_reads_the_store(batch: nb.Batch) -> None:
    batch.submit(summing(), 3).wait(10)

    assert batch.sql("SELECT status, count(*) AS n FROM chunks GROUP BY ALL").rows() == [("COMPLETED", 5)]


def test_a_run_says_in_one_line_how_it_stands(batch: nb.Batch) -> None:
    run = batch.submit(summing("nightly"), 3)
    run.wait(10)

    assert repr(run) == "✓ COMPLETED · nightly v1 #1 · 5 chunks (5 COMPLETED)"


def test_a_chunk_leads_to_its_family(batch: nb.Batch) -> None:
    run = batch.submit(summing(), 3)
    run.wait(10)
    chunk = run.chunk(3)

    assert (chunk.input, chunk.outputs, chunk.step, chunk.status) == (1, [2], "double", "COMPLETED")
    assert chunk.parent is not None
    assert [child.id for child in chunk.parent.children] == [2, 3, 4]
    assert chunk.attempts().height == 1


def test_looking_starts_no_work(batch: nb.Batch) -> None:
    ran: list[int] = []
    job = one_step(ran.append)
    repr(job)
    job._repr_html_()
    settle(batch)

    assert ran == []
    assert "no instances" in repr(batch)


def test_the_counts_of_steps_are_those_of_their_chunks(batch: nb.Batch) -> None:
    """V1"""

    def mixed(i: int) -> None:
        if i % 5 == 1:
            raise nb.FailChunk("no good")
        if i % 5 == 2:
            raise OSError("later")
        if i % 5 == 3:
            raise nb.RetryLater(60)

    run = batch.submit(each(mixed, max_attempts=3), 20)
    settle(batch)
    live = run.steps()
    run.pause()
    failed = run.chunks(status="FAILED")["id"].to_list()
    run.skip(failed[0], "known")
    run.cancel()

    assert live.schema == run.steps().schema
    for steps in (live, run.steps()):
        assert steps.select(
            pl.sum_horizontal(pl.col("queued", "errored", "poll_waiting", *_ENDED))
        ).to_series().to_list() == [1, 20]
    chunks = run.chunks()
    for state in _ENDED:
        counted = chunks.filter(pl.col("status") == state.upper()).height
        assert run.steps()[state].sum() == counted, state
    assert live.row(1, named=True)["errored"] == 4
    assert live.row(1, named=True)["poll_waiting"] == 4


_ENDED = ("completed", "failed", "skipped", "cancelled")


@pytest.mark.parametrize("longest", [5_000, 10**10], ids=["quick", "slow"])
def test_the_median_and_the_95th_percentile_are_right_to_a_thousandth(store: Path, longest: int) -> None:
    """V1"""
    event = partial(EventRow, step=0, attempt=1, errors=0, polls=0, status=ChunkStatus.COMPLETED.code, started_us=1)
    with nb.open(store, nb.inline()) as batch:
        run, owner, random = batch.submit(one_step(str), 1), engine(batch), Random(longest)
        settle(batch)

        def add(took: list[int]) -> None:
            rows = [event(id=-at, chunk=-at, instance=run.id, ended_us=1 + us) for at, us in enumerate(took)]
            with owner.store.transaction():
                owner.store.append("event", rows)

        for count in (1, 18, 4_000):
            owner.call(add, [int(longest ** random.random()) for _ in range(count)])
            took = batch.sql(
                "SELECT (ended_us - started_us) / 1e6 AS s FROM event WHERE ran(started_us, ended_us, worker)"
            )
            near = [pytest.approx(took["s"].quantile(share, "linear"), rel=1e-3) for share in (0.5, 0.95)]
            for values in (("steps", run.id, None), ("live_steps", run.id)):
                frame = batch._store.frame(*values)
                assert [frame["median_seconds"][0], frame["p95_seconds"][0]] == near

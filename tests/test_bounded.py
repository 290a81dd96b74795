"""What it takes to look at a run of many chunks: pages of it, sums over it, never the whole of it at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.engine import state
from nbbatch.heal import failures
from nbbatch.panel import attempt_sums
from nbbatch.panel.session import Session
from nbbatch.store.queries import QUERIES
from tests.jobs import each, total

MANY = 100_000
OTHERS = 20
HELD_ROWS = 500
"""What a query may hold at once, in whatever place of the run it looks."""


@pytest.fixture(scope="module")
def run() -> Iterator[nb.JobHandle[Any]]:
    """Many chunks, of which every thousandth failed, beside other runs: the more there are, the fewer DuckDB thinks that each has."""

    def fail(n: int) -> None:
        if n % 1_000 == 7:
            raise ValueError(f"row {n}")

    with nb.open(":memory:", executor=nb.inline()) as batch:
        handle = batch.submit(each(fail, max_attempts=1), MANY)
        handle.wait(50)
        for _ in range(OTHERS):
            batch.submit(each(fail), 1, new=True).wait(10)
        yield handle


def held(run: nb.JobHandle[Any], query: str, *values: Any) -> int:
    """The most rows that one operator of a query keeps: what is built for a join, grouped, or ordered; scans pass by."""
    ((_, plan),) = (
        run._store.cursor().execute(f"EXPLAIN (ANALYZE, FORMAT json) {QUERIES[query]}", list(values)).fetchall()
    )
    found = [0]

    def visit(node: dict[str, Any]) -> None:
        below = node.get("children", [])
        if "JOIN" in node["type"]:
            found.append(below[1]["intermediate_rows"])
        if "GROUP_BY" in node["type"] or node["type"] in ("TOP_N", "ORDER_BY", "WINDOW"):
            found.append(node["intermediate_rows"])
        for child in below:
            visit(child)

    visit(json.loads(plan)["operator"][0])
    return max(found)


def columns(run: nb.JobHandle[Any], query: str, *values: Any) -> set[str]:
    """The columns of the table of errors, logs and warnings that a query reads."""
    ((_, plan),) = run._store.cursor().execute(f"EXPLAIN (FORMAT json) {QUERIES[query]}", list(values)).fetchall()
    found = set[str]()

    def visit(node: dict[str, Any]) -> None:
        told = node["extra_info"]
        if told.get("Table", "").endswith("detail"):
            read = told["Projections"]
            found.update([read] if isinstance(read, str) else read)
        for child in node["children"]:
            visit(child)

    visit(json.loads(plan)[0])
    return found


def test_failures_are_grouped_and_shown_without_reading_whole_texts(run: nb.JobHandle[Any]) -> None:
    """V4"""
    for query, *values in (("failed_kinds", 1, None, 9), ("first_error", 1), ("page_errors", 1, 0, MANY)):
        read = columns(run, query, *values)
        assert "head" in read, query
        assert read.isdisjoint({"error", "traceback", "log"}), query
    assert columns(run, "first_failure", 1) >= {"error"}


def test_rare_kinds_of_failures_count_with_others_of_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """V4"""
    monkeypatch.setattr(failures, "MAX_KINDS", 3)
    names = ["ab", "ab", "ab", "cd", "cd", "ef", "gh", "ij"]

    def fail(n: int) -> None:
        if n == 8:
            raise KeyError(n)
        raise ValueError(f"no customer {names[n]}")

    with nb.open(":memory:", executor=nb.inline()) as batch:
        handle = batch.submit(each(fail, max_attempts=1), 9)
        handle.wait(10)
        found = handle.failures()

    assert [(group.cause.message, len(group)) for group in found] == [
        ("no customer ab", 6),
        ("no customer cd", 2),
        ("…", 1),
    ]
    assert found[0].ids == [2, 3, 4, 7, 8, 9]


@pytest.mark.parametrize("first", [1, MANY // 2, MANY - 20])
def test_a_page_of_chunks_holds_little_more_than_its_rows(run: nb.JobHandle[Any], first: int) -> None:
    """V4"""
    assert held(run, "chunks", run.id, None, None, first, first + 19, None, 20, 0) <= HELD_ROWS
    assert held(run, "chunks", run.id, None, None, 0, 2**62, None, 20, 0) > MANY  # what it would be without ids
    assert run.chunks(limit=20, offset=first - 1)["id"].to_list() == list(range(first, first + 20))


def test_sums_over_all_chunks_hold_little_more_than_what_is_odd(run: nb.JobHandle[Any]) -> None:
    """V4"""
    assert held(run, "steps", run.id, None) <= HELD_ROWS
    assert held(run, "live_steps", run.id) <= HELD_ROWS
    assert run.steps().select("chunks", "completed", "failed").rows() == [(1, 1, 0), (MANY, MANY - 100, 100)]


def test_the_panel_catches_up_a_page_at_a_time_and_sends_little(run: nb.JobHandle[Any]) -> None:
    """V4"""
    panel = Session(run, run._store, run._engine())
    panel.step(0.0)
    before, reads = panel.sums.seen, 1
    while not panel.snapshot.whole:
        panel.step(0.0)
        assert panel.sums.seen - before <= attempt_sums.PAGE
        before, reads = panel.sums.seen, reads + 1

    assert reads == -(-panel.sums.seen // attempt_sums.PAGE)
    for tab in ("now", "failures", "chunks", "timeline", "log", "history"):
        panel.ask({"do": "tab", "tab": tab})
        assert len(json.dumps(panel.step(0.0))) < 60_000
    assert panel.snapshot.chunks == MANY + 1


def test_the_window_of_unclaimed_chunks_is_bounded_by_their_bytes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V4"""
    monkeypatch.setattr(state, "WINDOW_BYTES", 40_000)
    began, release = threading.Event(), threading.Event()
    held: list[int] = []

    @nb.step
    def texts(n: int) -> Iterator[str]:
        for i in range(n):
            yield f"{i:04}" * 250

    @nb.step(concurrency=1)  # so that what is claimed leaves the window one by one
    def work(text: str) -> int:
        began.set()
        release.wait(10)
        held.append(batch._engine.live[1].steps[1].ready.bytes)
        return int(text[:4])

    with nb.open(store, workers=1) as batch:
        run = batch.submit(nb.Job("texts", texts >> work >> total), 500)
        assert began.wait(10)
        live = batch._engine.live[1].steps[1]
        assert live.last - live.cursor > 400
        release.set()

        assert run.result(30) == sum(range(500))
    assert max(held) <= 41_100

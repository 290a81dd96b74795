"""Branches, sub-jobs, a gate, a reduction and retries, killed again and again at seeded moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import nbbatch as nb
from tests.crash.mixed import ITEMS, expected, job
from tests.crash.test_kill import kill_after, start

KILLS = 50
LONGEST = 0.12
"""Seconds after opening at which a kill comes at the latest."""


def check(store: Path) -> None:
    """Hold the finished store against an undisturbed run: no sub-instance too many, no output missing or twice."""
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1, job)
        assert run.result(1) == expected()
        half = ITEMS // 2
        assert run.steps()["completed"].to_list() == [1, half, half, ITEMS, 1]
        subs = batch.instances(job="below")
        assert subs["status"].to_list() == ["COMPLETED"] * half
        assert len({batch.instance(each).parent.id for each in subs["id"]}) == half  # type: ignore[union-attr]
        completed = batch.sql("SELECT count(*) AS n FROM attempts WHERE status = 'COMPLETED' GROUP BY chunk")
        assert set(completed["n"]) == {1}


@pytest.mark.timeout(240)
def test_branches_sub_jobs_gate_reduction_and_retries_outlive_fifty_kills(tmp_path: Path) -> None:
    """R1"""
    moments = random.Random("mixed")
    kills = finished = 0
    while kills < KILLS:
        store, printed = tmp_path / f"{finished}.duckdb", ""
        while not printed:
            wait = moments.random() * LONGEST + 0.002 if kills < KILLS else 60.0
            printed, _ = kill_after(start(store, module="mixed"), wait)
            kills += not printed
        check(store)
        finished += 1

"""Processes are killed with SIGKILL at seeded random moments; what they leave must be as if nothing had happened.

A reader counts more than the report: every chunk completed once, every parent's outputs exactly those of an undisturbed
run, no attempt without its end.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import nbbatch as nb
from tests.crash.child import ITEMS, PAGES, job

KILLS = {"inline": (18, 0.08), "threads": (20, 0.12), "processes": (14, 0.8)}
"""Per executor: kills, and the longest time after opening, in seconds, at which one comes."""


def start(store: Path, *more: str, module: str = "child") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tests.crash.{module}", str(store), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def kill_after(child: subprocess.Popen[str], seconds: float) -> tuple[str, int]:
    """Kill the child and its workers some time after it has opened the store.

    What it printed after that, and how many chunks it had found claimed.
    """
    assert child.stdout is not None
    word, found = child.stdout.readline().split()
    assert word == "open"
    timer = threading.Timer(seconds, os.killpg, (child.pid, signal.SIGKILL))
    timer.start()
    printed = child.stdout.read()
    child.wait()
    timer.cancel()
    child.stdout.close()
    return printed, int(found)


def check(store: Path) -> None:
    """Hold the finished store against an undisturbed run."""
    total = ITEMS * PAGES
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1, job)
        assert run.result(1) == [n**2 for n in range(total)]
        assert run.steps()["completed"].to_list() == [1, ITEMS, total, 1]
        completed = batch.sql("SELECT chunk, count(*) AS n FROM attempts WHERE status = 'COMPLETED' GROUP BY chunk")
        assert completed.height == 1 + ITEMS + total + 1
        assert set(completed["n"]) == {1}
        shape = "SELECT step, count(*), count(DISTINCT (parent, seq)), max(seq) FROM chunk WHERE seq IS NOT NULL GROUP BY step"
        assert sorted(batch.sql(shape).rows()) == [
            (0, 1, 1, 0), (1, ITEMS, ITEMS, ITEMS - 1), (2, total, total, PAGES - 1),
        ]  # fmt: skip
        outputs = "SELECT count(*) AS n, count(DISTINCT parent) AS parents FROM output"
        assert batch.sql(outputs).row(0) == (total, total)
        assert batch.sql("SELECT count(*) FROM staged").item() == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KILLS)
def test_killed_at_random_moments_a_run_ends_with_the_outputs_of_an_undisturbed_one(tmp_path: Path, kind: str) -> None:
    """R1"""
    most, longest = KILLS[kind]
    moments = random.Random(f"seed {kind}")
    kills, finished, orphans = 0, 0, 0
    while kills < most:
        store = tmp_path / f"{finished}.duckdb"
        printed = ""
        while not printed:
            wait = moments.random() * longest + 0.002 if kills < most else 60.0
            printed, found = kill_after(start(store, kind), wait)
            kills += not printed
            orphans += found
        check(store)
        finished += 1

    print(f"{kind}: {kills} kills, {finished} runs, {orphans} claimed chunks found")
    assert orphans > 0


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_the_chunk_that_ran_when_the_process_was_killed_loses_an_attempt(tmp_path: Path, kind: str) -> None:
    """R4"""
    store, flag = tmp_path / "store.duckdb", tmp_path / "running"
    child = start(store, kind, str(flag))
    while not flag.exists():
        assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()

    with nb.open(store, executor=nb.inline()) as batch:
        assert batch.recovered == (1, 1, 0)
        assert batch.instance(1).errors()["error_type"].to_list() == ["ProcessDied"]


@pytest.mark.parametrize(("mode", "step"), [((), "numbers"), (("stream",), "streaming")], ids=["slices", "stream"])
def test_killed_on_the_way_of_what_a_fan_out_gave_nothing_is_lost_or_twice(
    tmp_path: Path, mode: tuple[str, ...], step: str
) -> None:
    """R1, C21"""
    store = tmp_path / "store.duckdb"
    ends: list[subprocess.Popen[str]] = []
    for where in (0, 1, 4, 1_000) if not mode else (25, 75, 1_000):
        child = start(store, str(where), *mode, module="wide")
        printed, _ = child.communicate()
        ends.append(child)

    assert [child.returncode for child in ends] == [-signal.SIGKILL] * (len(ends) - 1) + [0]
    assert printed.strip() == str(2 * sum(range(100)))
    with nb.open(store, executor=nb.inline()) as batch:
        shape = "SELECT count(*), count(DISTINCT (parent, seq)), max(seq) FROM chunk WHERE step = 1"
        assert batch.sql(shape).row(0) == (100, 100, 99)
        assert batch.sql(f"SELECT count(*) FROM attempts WHERE step = '{step}' AND status = 'COMPLETED'").item() == 1
        assert batch.sql("SELECT count(*) FROM staged").item() == 0

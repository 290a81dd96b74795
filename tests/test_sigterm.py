"""SIGTERM charges no attempt: the process ends as it would have, or drains where it was asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import nbbatch as nb

SCRIPT = """
import os, subprocess, sys, time, nbbatch as nb
from collections.abc import Iterator
from pathlib import Path
go = Path(sys.argv[1] + ".go")
@nb.step
def numbers(n: int) -> Iterator[int]: yield from range(n)
@nb.step(max_attempts=1)
def work(i: int) -> None:
    os.write(1, b"up\\n")
    {work}
if __name__ == "__main__":
    pool = {pool}
    batch = nb.open(sys.argv[1], pool, {options})
    run = batch.submit(nb.Job("work", numbers >> work), 6, key="k")
    {then}
"""
WHEN_TOLD = "while not go.exists(): time.sleep(0.01)"
FOR_EVER = "time.sleep(60)"
THREADS, PROCESSES = "nb.threads(2)", "nb.processes(2)"


class Script:
    """A program that works on a store, in a session of its own."""

    def __init__(
        self, store: Path, work: str, options: str = "", pool: str = THREADS, then: str = "run.wait()"
    ) -> None:
        file = store.with_suffix(".py")
        file.write_text(SCRIPT.format(work=work, options=options, pool=pool, then=then))
        command = [sys.executable, str(file), str(store)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.told: list[str] = []
        self.wait_for("up")

    def wait_for(self, word: str, times: int = 1) -> None:
        """Until it has said so, so many times in all."""
        assert self._process.stdout is not None
        while sum(word in line for line in self.told) < times:
            line = self._process.stdout.readline()
            assert line, self.told
            self.told.append(line)

    def terminate(self, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self._process.pid, signal.SIGTERM)

    def end(self) -> int:
        """Its exit status."""
        assert self._process.stdout is not None
        self.told.extend(self._process.stdout)
        self._process.stdout.close()
        return self._process.wait(30)


def stands(store: Path) -> dict[str, int]:
    """Chunks of the step by state, once the store is opened again; nothing was charged."""
    with nb.open(store, nb.inline()) as batch:
        run = batch.instance(1)
        assert batch.recovered.lost == batch.recovered.failed == 0
        assert run.errors().is_empty(), run.errors().to_dicts()
        assert set(run.chunks("work")["errors"]) == {0}
        return dict(run.chunks("work")["status"].value_counts().iter_rows())


@pytest.mark.parametrize("pool", [THREADS, PROCESSES])
@pytest.mark.parametrize("group", [True, False])
def test_a_process_that_is_terminated_ends_at_once_and_charges_nothing(pool: str, group: bool, store: Path) -> None:
    """R40"""
    script = Script(store, FOR_EVER, pool=pool)
    script.terminate(group=group)

    assert script.end() == -signal.SIGTERM
    assert stands(store) == {"QUEUED": 6}


@pytest.mark.parametrize("pool", [THREADS, PROCESSES])
def test_a_process_that_drains_stores_what_ends_in_time_and_begins_nothing(pool: str, store: Path) -> None:
    """R40"""
    then = "try: run.wait()\n    except SystemExit: print('told to end', flush=True); raise"
    script = Script(store, WHEN_TOLD, 'on_sigterm="drain", grace=20', pool, then)
    script.wait_for("up", 2)
    script.terminate(group=True)
    script.wait_for("told")
    store.with_name("store.duckdb.go").touch()

    assert script.end() == 75
    found = stands(store)
    assert found["COMPLETED"] >= 2
    assert found["QUEUED"] >= 1
    assert found["COMPLETED"] + found["QUEUED"] == 6


@pytest.mark.parametrize("pool", [THREADS, PROCESSES])
def test_what_does_not_end_in_the_grace_is_put_back_uncharged(pool: str, store: Path) -> None:
    """R40"""
    script = Script(store, FOR_EVER, 'on_sigterm="drain", grace=0.2', pool)
    script.terminate()

    assert script.end() == 75
    assert stands(store) == {"QUEUED": 6}


def test_a_step_whose_own_child_is_terminated_with_it_is_not_charged(store: Path) -> None:
    """R40"""
    child = "import time; print(1, flush=True); time.sleep(60)"
    work = f"try: subprocess.run([sys.executable, '-c', '{child}'], check=True)\n    finally: time.sleep(0.5)"  # hears of it later
    script = Script(store, work, 'on_sigterm="drain", grace=20')
    script.wait_for("1")
    script.terminate(group=True)

    assert script.end() == 75
    assert stands(store) == {"QUEUED": 6}


@pytest.mark.parametrize("how", ["goes on", "is told again"])
def test_a_program_that_goes_on_in_spite_of_it_is_ended(how: str, store: Path) -> None:
    """R40"""
    lines = [
        "from nbbatch.worker import sigterm", f"sigterm.SPARE_SECONDS = {0.2 if how == 'goes on' else 600}",
        "try: run.wait()", "except SystemExit: print('told to end', flush=True)", "time.sleep(600)",
    ]  # fmt: skip
    script = Script(store, FOR_EVER, 'on_sigterm="drain", grace=0.2', then="\n    ".join(lines))
    script.terminate()
    script.wait_for("told")
    if how == "is told again":
        script.terminate()

    assert script.end() == 75
    assert stands(store) == {"QUEUED": 6}


def test_the_handler_that_was_there_is_there_again(store: Path) -> None:
    """R40"""
    mine: Callable[..., None] = lambda *_: None  # noqa: E731
    usual = signal.signal(signal.SIGTERM, mine)
    try:
        with nb.open(store, nb.inline()):
            assert signal.getsignal(signal.SIGTERM) is mine
        with nb.open(store, nb.inline(), on_sigterm="drain"):
            assert signal.getsignal(signal.SIGTERM) is not mine
        assert signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with nb.open(store, nb.inline()), nb.open(":memory:", nb.inline()):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_opened(store: Path) -> None:
    """R40"""
    with pytest.raises(ValueError, match='"drain" or None'):
        nb.open(store, on_sigterm="wait")
    with pytest.raises(ValueError, match="a time that ends"):
        nb.open(store, on_sigterm="drain", grace=float("inf"))
    told: list[str] = []

    def elsewhere() -> None:
        try:
            nb.open(store, on_sigterm="drain")
        except ValueError as error:
            told.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert "main thread" in told[0]
    assert not store.exists()

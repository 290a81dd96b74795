"""Looks at a store while its owner commits, checkpoints and is killed: each shows a state that was, and keeps nobody out."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import nbbatch as nb

KILLS = int(os.environ.get("NBBATCH_LOOK_KILLS", "4"))
LOOKS = int(os.environ.get("NBBATCH_LOOKS", "10"))
"""Of each life."""


class Owner:
    """Works on a store; ``said`` are the COMPLETED instances that it has acknowledged, with the time it did."""

    def __init__(self, store: Path, serve: str) -> None:
        self.said: list[tuple[float, int]] = []
        command = [sys.executable, "-m", "tests.crash.working", str(store), serve]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._begun = threading.Event()
        self._reader.start()
        assert self._begun.wait(50), "it has completed nothing"

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append((time.monotonic(), int(line)))
            self._begun.set()

    def kill(self) -> int:
        self.process.kill()
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
        self.process.wait()
        return self.said[-1][1]


def newest(store: nb.Look | nb.Batch) -> int:
    """The newest instance that is COMPLETED; 0 without any."""
    return max(store.instances(status="COMPLETED")["id"], default=0)


def check(look: nb.Look, at_least: int) -> None:
    """What is seen in one statement is of one moment: no attempt without its chunk, no ended instance that is not whole."""
    assert newest(look) >= at_least
    counts = look.sql(
        "SELECT instance, count(*) AS chunks, count(*) FILTER (status = 'COMPLETED') AS completed FROM chunks "
        "WHERE instance IN (SELECT id FROM instances WHERE status = 'COMPLETED') GROUP BY instance"
    )
    assert (counts["chunks"] == 502).all()
    assert (counts["completed"] == 502).all()


@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("serve", ["yes", "no"])
def test_each_look_is_a_state_that_was_through_commits_checkpoints_and_kills(store: Path, serve: str) -> None:
    chance, acknowledged = random.Random(17), 0
    for _ in range(KILLS):
        owner = Owner(store, serve)
        with nb.look(store) as look:
            assert look.via == ("owner" if serve == "yes" else "copy")
            for _ in range(LOOKS):
                old = time.monotonic() - 2.0
                known = [count for at, count in owner.said if at <= old]
                check(look, max([acknowledged, *known]))
                time.sleep(chance.random() * 0.2)
            acknowledged, until = max(acknowledged, owner.kill()), time.monotonic() + 2.0
            while newest(look) < acknowledged and time.monotonic() < until:
                pass  # a copy is looked at again after half a second
            check(look, acknowledged)
            assert look.via == "copy"
    with nb.open(store, workers=2) as batch:
        assert newest(batch) >= acknowledged

"""A store that cannot be written in mid-run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nbbatch as nb
from tests.crash.full import CHUNKS


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(store: Path) -> None:
    """R6"""
    command = [sys.executable, "-m", "tests.crash.full", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}

    assert "could not be written, nothing of this change is stored" in " ".join(told["refused"])
    assert 0 < int(told["kept"][0]) < 2 * CHUNKS
    assert told["kept"][1] == "IN_PROGRESS"
    assert told["resumed"] == ["COMPLETED", str(2 * CHUNKS + 1)]
    with nb.open(store) as batch:
        rows = batch.sql("SELECT count(*), count(DISTINCT (parent, seq)), count(data) FROM chunk").row(0)
        ended = batch.sql("SELECT count(*) FROM event WHERE status = 6").item()
    assert rows == (2 * CHUNKS + 1, 2 * CHUNKS + 1, 2 * CHUNKS)
    assert ended == 2 * CHUNKS + 1

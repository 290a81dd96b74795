"""A minute of the laboratory: seeds that are always the same, so that what fails can be looked at again."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

SECONDS = 60


@pytest.mark.timeout(300)
def test_random_chains_outlive_kills_and_their_users_for_a_minute() -> None:
    """R1"""
    command = [sys.executable, "-m", "tests.crash.torture", "--seed", "1", "--seconds", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost, 0 doubled, 0 illegal" in done.stdout
    kills, actions = re.search(r" (\d+) kills, (\d+) actions", done.stdout).groups()  # type: ignore[union-attr]
    assert min(int(kills), int(actions)) > 0

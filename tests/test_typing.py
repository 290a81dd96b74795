"""mypy, pyright and ty infer the types of a job and reject a broken chain."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = Path("tests") / "typing"
BROKEN = (ROOT / FOLDER / "broken.py").read_text(encoding="utf-8").splitlines()
BIN = Path(sys.executable).parent
CHECKERS = {
    "mypy": [str(BIN / "mypy"), "--strict", "--no-error-summary", "--cache-dir=/dev/null"],
    "pyright": [str(BIN / "pyright"), "--pythonpath", sys.executable],
    "ty": [str(BIN / "ty"), "check", "--python", sys.executable, "--output-format", "concise"],
}


def check(checker: str, name: str) -> str:
    command = [*CHECKERS[checker], str(FOLDER / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_infers_the_job_and_its_report(checker: str) -> None:
    """D7"""
    assert not re.findall(r"api\.py:\d+.*error.*", check(checker, "api.py"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_rejects_a_broken_chain(checker: str) -> None:
    """D7"""
    wanted = {number for number, line in enumerate(BROKEN, 1) if line.endswith("# error")}
    found = {int(number) for number in re.findall(r"broken\.py:(\d+):.*error", check(checker, "broken.py"))}

    assert found == wanted

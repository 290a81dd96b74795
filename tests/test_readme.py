"""The README says what is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = Path(__file__).parent / "readme" / "census.py"


def test_the_first_program_is_the_file_that_is_tested() -> None:
    first = re.search(r"```python\n(.*?)```", README, re.DOTALL)

    assert first is not None
    assert first[1] == PROGRAM.read_text(encoding="utf-8")


def test_the_first_program_finds_something_to_count_wherever_it_is_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rows = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "nbbatch").glob("*.py"))
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(PROGRAM)], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.stdout.startswith(f"total={rows}\n"), done.stderr
        assert "report" in done.stdout
        assert done.stderr == ""


def test_the_readme_names_the_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for command in ("demo", "test"):
        assert f"make {command} " in README
        assert f"\n{command}: " in makefile


def test_its_pictures_are_there() -> None:
    """Its links are followed with those of the site."""
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)

    assert "docs/pictures/running-light.webp" in pictures
    assert [name for name in pictures if not (ROOT / name).is_file()] == []

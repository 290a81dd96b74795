"""Which tests reach a line, and how long each takes: measured file by file, and kept until the file or the package changes."""

from __future__ import annotations

import hashlib
import json
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from coverage import CoverageData

from tests.mutants.runs import pytest
from tests.mutants.sample import ROOMS, ROOT

LEFT_OUT = ("browser", "crash", "mutants", "readme", "typing")
"""Folders of tests that start processes or take long, or are no tests."""
ALSO_LEFT_OUT = (
    "test_architecture.py",
    "test_behaviours.py",
    "test_binder.py",
    "test_model.py",
    "test_readme.py",
    "test_typing.py",
)
"""… and files."""
HALF = ["-k", "not [threads"]
"""Laws that run on the dispatcher's thread and on another one: the former are enough, and take the same way each time."""
MOST_TESTS, MOST_SECONDS = 200, 200.0
"""Tests that a mutant is tried with at most."""


class Reached(NamedTuple):
    """What the tests of one file reach."""

    lines: dict[str, list[str]]
    """``path:line`` → tests."""
    seconds: dict[str, float]
    """Of each test."""


class Coverage:
    """What all tests reach."""

    def __init__(self, files: Iterable[Reached]) -> None:
        self._files = list(files)

    def of(self, path: str, line: int) -> list[str]:
        """The tests to try with a change of a line: of each file in turn the quickest that is left.

        A line that runs at import, or that no test reaches, is tried with tests of the rest of its file.
        """
        per_file = self._per_file(lambda key: key == f"{path}:{line}")
        if not any(per_file):
            per_file = self._per_file(lambda key: key.startswith(f"{path}:"))
        chosen, total = list[str](), 0.0
        for seconds, test in (each for row in zip_longest(*per_file) for each in row if each):
            if len(chosen) < MOST_TESTS and (total := total + seconds) < MOST_SECONDS:
                chosen.append(test)
        return chosen

    def _per_file(self, wanted: Callable[[str], bool]) -> list[list[tuple[float, str]]]:
        """Seconds and tests that reach a line that is wanted, the quickest first, by file."""
        return [
            sorted(
                (each.seconds.get(test, 9.0), test)
                for test in {t for key, tests in each.lines.items() if wanted(key) for t in tests}
            )
            for each in self._files
        ]


def test_files() -> list[str]:
    """The files of tests that are run."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [
        str(path.relative_to(ROOT))
        for path in found
        if path.relative_to(ROOT / "tests").parts[0] not in LEFT_OUT and path.name not in ALSO_LEFT_OUT
    ]


def measure(folder: Path, file: str, kept: Path) -> Reached:
    """What the tests of a file reach, by running them or from what is kept of an earlier run."""
    cache = kept / f"{Path(file).stem}-{_digest([*sorted((ROOT / 'nbbatch').rglob('*.*')), ROOT / file])}.json"
    if not cache.exists():
        code = pytest(
            folder,
            file,
            *HALF,
            "--timeout=120",
            "--cov",
            "--cov-context=test",
            "--cov-report=",
            "--junitxml=times.xml",
            seconds=900,
        )
        if code not in (0, 5):
            print(f"{file}: {code}\n{(folder / 'output.txt').read_text()[-1_500:]}", file=sys.stderr)
        cache.write_text(json.dumps(_read(folder)._asdict() if code != 5 else dict(lines={}, seconds={})))
    return Reached(**json.loads(cache.read_text()))


def _read(folder: Path) -> Reached:
    lines: dict[str, list[str]] = defaultdict(list)
    data = CoverageData(str(folder / ".coverage"))
    data.read()
    for name in data.measured_files():
        path = str(Path(name).relative_to(folder))
        for line, contexts in data.contexts_by_lineno(name).items() if path.startswith(ROOMS) else ():
            lines[f"{path}:{line}"] = sorted({context.partition("|")[0] for context in contexts if context})
    cases: Any = ET.parse(folder / "times.xml").iter("testcase")
    seconds = {f"{c.get('classname').replace('.', '/')}.py::{c.get('name')}": float(c.get("time")) for c in cases}
    return Reached(lines, seconds)


def _digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        if path.suffix != ".pyc":
            found.update(path.read_bytes())
    return found.hexdigest()[:16]

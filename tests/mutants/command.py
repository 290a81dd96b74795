"""The command: measure, sample, try, and print the score with each survivor as a diff."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from tests.mutants.coverage import Coverage, measure, test_files
from tests.mutants.runs import TIMED_OUT, copied, prepare, pytest
from tests.mutants.sample import ROOT, Mutant, mutants

T, R = TypeVar("T"), TypeVar("R")
KEPT = ROOT / ".mutants"
SECONDS = 900
"""A mutant that takes longer counts as killed; so does one with which a single test takes longer than 40."""


class Workplaces:
    """Copies of the project, each for one run at a time."""

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs)
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            self._free.put(copied(KEPT / f"copy-{number}"))

    def map(self, function: Callable[[Path, T], R], items: Iterable[T]) -> Iterable[R]:
        """Call a function with a free copy and each item."""
        return self._pool.map(partial(self._call, function), items)

    def _call(self, function: Callable[[Path, T], R], item: T) -> R:
        folder = self._free.get()
        try:
            return function(folder, item)
        finally:
            self._free.put(folder)


def tried(coverage: Coverage, folder: Path, mutant: Mutant) -> str:
    """What became of a mutant: ``failed``, ``timed out``, ``survived`` or ``uncovered``."""
    kept = KEPT / "mutants" / hashlib.sha256(f"{mutant.path}\n{mutant.code}".encode()).hexdigest()[:24]
    if kept.exists():
        return kept.read_text()
    tests = coverage.of(mutant.path, mutant.line)
    if not tests:
        return "uncovered"
    code = _with(folder, mutant, tests)
    found = {0: "survived", TIMED_OUT: "timed out"}.get(code, "failed")
    if found != "survived":
        kept.write_text(found)
    return found


def _with(folder: Path, mutant: Mutant, tests: list[str]) -> int:
    """Run tests with a mutant in the place of its file."""
    file = folder / mutant.path
    try:
        _put(file, mutant.code)
        return pytest(folder, "-x", "--timeout=40", *tests, seconds=SECONDS)
    finally:
        _put(file, (ROOT / mutant.path).read_text(encoding="utf-8"))


def _put(file: Path, code: str) -> None:
    """Python takes a compiled file for current by its second and size, which two mutants may share."""
    file.write_text(code, encoding="utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    prepare()
    (KEPT / "mutants").mkdir(parents=True, exist_ok=True)
    places = Workplaces(asked.jobs)
    coverage = Coverage(places.map(lambda folder, file: measure(folder, file, KEPT), test_files()))
    sample = list(islice(mutants(asked.seed), asked.sample))
    counts: Counter[str] = Counter()
    for mutant, found in zip(sample, places.map(partial(tried, coverage), sample), strict=True):
        counts[found] += 1
        if found in ("survived", "uncovered"):
            print(f"{found}: {len(coverage.of(mutant.path, mutant.line))} tests\n{mutant.diff()}\n", flush=True)
        if not counts.total() % 10:
            print(json.dumps(dict(tried=counts.total(), **counts)), flush=True)
    killed = counts["failed"] + counts["timed out"]
    print(json.dumps(dict(sample=len(sample), seed=asked.seed, **counts)))
    print(f"{killed / len(sample):.0%} killed")

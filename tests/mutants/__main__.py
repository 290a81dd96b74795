"""``python -m tests.mutants [--sample 300] [--seed 1] [--jobs 2]``: a mutation run over the engine and the store.

    cosmic-ray's mutations ──▶ those that change code ──▶ a sample by seed ──▶ each in a copy of the project,
    against the tests that cover its line, the quickest first, until one fails

Mutations of annotations alone are left out: nothing evaluates them. A mutant is killed if a test fails or takes too long.
Prints the score, and each survivor as a diff.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray import plugins
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_db import WorkDB, use_db
from coverage import CoverageData

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("nbbatch/engine", "nbbatch/store")
LEFT_OUT = [
    "--ignore=tests/browser",
    "--ignore=tests/crash",
    "--ignore=tests/typing",
    "--deselect=tests/test_architecture.py",
]
MOST_TESTS = 60
"""Tests that a mutant is tried with at most: of a line that all tests reach, the quickest."""
SECONDS = 300


class Mutant(NamedTuple):
    """One change to one file."""

    path: str
    line: int
    operator: str
    code: str

    def diff(self) -> str:
        before = (ROOT / self.path).read_text(encoding="utf-8").splitlines()
        return "\n".join(
            difflib.unified_diff(before, self.code.splitlines(), self.path, self.operator, n=1, lineterm="")
        )


class _Bare(ast.NodeTransformer):
    """A syntax tree without annotations."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name is ast's


@lru_cache(maxsize=8)
def bare(code: str) -> str:
    """The code without what nothing evaluates; empty if it is no code."""
    try:
        return ast.dump(_Bare().visit(ast.parse(code)))
    except SyntaxError:
        return ""


def mutations() -> list[Any]:
    """All that cosmic-ray would change."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.name != "__init__.py"]
    with tempfile.TemporaryDirectory() as folder, use_db(f"{folder}/session.sqlite", WorkDB.Mode.create) as session:
        init(paths, session, {})
        return sorted(
            (item.mutations[0] for item in session.pending_work_items),
            key=lambda each: (str(each.module_path), each.operator_name, each.occurrence),
        )


def mutants(seed: int) -> Iterator[Mutant]:
    """Mutants in an order of their own for each seed: those that change what the code does, as far as its syntax tells."""
    found = mutations()
    random.Random(seed).shuffle(found)
    for spec in found:
        code = Path(spec.module_path).read_text(encoding="utf-8")
        changed = mutate_code(code, plugins.get_operator(spec.operator_name)(), spec.occurrence)
        if changed and bare(changed) not in ("", bare(code)):
            yield Mutant(str(Path(spec.module_path).relative_to(ROOT)), spec.start_pos[0], spec.operator_name, changed)


def pytest(folder: Path, *args: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=seconds)


def copied(folder: str) -> Path:
    """The project's tracked files in a folder of their own."""
    made = Path(folder)
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, made / name)
    return made


def measured(folder: Path) -> tuple[dict[tuple[str, int], set[str]], dict[str, float]]:
    """The tests that reach each line, and the seconds of each test."""
    done = pytest(
        folder, "tests", *LEFT_OUT, "--cov", "--cov-context=test", "--cov-report=", f"--junitxml={folder}/times.xml"
    )
    print(done.stdout[-2_000:], file=sys.stderr)
    if done.returncode > 1:
        sys.exit("the tests could not be run, so that nothing is known of what they reach")
    data = CoverageData(str(folder / ".coverage"))
    data.read()
    reached: dict[tuple[str, int], set[str]] = {}
    for name in data.measured_files():
        for line, contexts in data.contexts_by_lineno(name).items():
            tests = {context.partition("|")[0] for context in contexts if context}
            reached[str(Path(name).relative_to(folder)), line] = tests
    cases = ET.parse(folder / "times.xml").iter("testcase")
    times = {f"{c.get('classname', '').replace('.', '/')}.py::{c.get('name')}": float(c.get("time", 0)) for c in cases}
    return reached, times


def tried(mutant: Mutant, tests: list[str]) -> bool:
    """Whether the tests kill a mutant."""
    with tempfile.TemporaryDirectory() as folder:
        made = copied(folder)
        (made / mutant.path).write_text(mutant.code, encoding="utf-8")
        try:
            return bool(tests) and pytest(made, "-x", "--timeout=60", *tests, seconds=SECONDS).returncode != 0
        except subprocess.TimeoutExpired:
            return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reached, times = measured(copied(folder))
    sample = list(islice(mutants(asked.seed), asked.sample))
    tests = [
        sorted(reached.get((m.path, m.line), ()), key=lambda test: times.get(test, 9.0))[:MOST_TESTS] for m in sample
    ]
    killed = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for mutant, covering, dead in zip(sample, tests, pool.map(tried, sample, tests), strict=True):
            killed += dead
            if not dead:
                print(f"survived, {len(covering)} tests\n{mutant.diff()}\n", flush=True)
    uncovered = sum(not covering for covering in tests)
    print(json.dumps(dict(sample=len(sample), seed=asked.seed, killed=killed, uncovered=uncovered)))
    print(f"{killed / len(sample):.0%} killed")


if __name__ == "__main__":
    main()

"""``python -m benchmarks.compare REF [W1 …]``: this tree against another commit, by turns, and what moved beyond noise.

Both are measured by this tree's benchmark, or, where the other one does not know what that asks for, each by its own; in this
environment, each workload in a process of its own. A figure has moved if in
every turn it was on the same side, by `LEAST` in the middle one. The CPU time of each process stands beside its figures: it says
more than they do while something else runs on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.measure import Figure, short

HERE = Path(__file__).resolve().parent.parent
LEAST = 0.05
"""Share by which a figure has to differ to count as moved."""
QUICK = ("W1", "W2", "W5")
Key = tuple[str, str]
"""Workload, and what is measured."""


class Side:
    """One tree, and what it gave, turn by turn."""

    def __init__(self, library: Path, place: Path) -> None:
        self.path = place
        self.values: dict[Key, list[float]] = defaultdict(list)
        self.figures: dict[Key, Figure] = {}
        place.mkdir()
        (place / "nbbatch").symlink_to(library / "nbbatch")
        (place / "benchmarks").symlink_to(HERE / "benchmarks")
        if self._python("-c", "import benchmarks.workloads").returncode:
            (place / "benchmarks").unlink()
            (place / "benchmarks").symlink_to(library / "benchmarks")
            print(f"{place.name} is measured by its own benchmark")

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.path)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, check=False)

    def run(self, workload: str, kept: Path) -> bool:
        """Measure a workload once; whether that was possible."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        made = self._python("-m", "benchmarks", workload, "--runs", "1", "--json", str(kept))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if made.returncode:
            print(f"{workload} does not run in {self.path.name}: {made.stderr.strip().splitlines()[-1:]}")
            return False
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        for row in json.loads(kept.read_text())["figures"]:
            self._add(Figure(*(row[name] for name in ("workload", "what", "unit", "values", "bound"))))
        self._add(Figure(workload, "CPU of all of it", "s", [cpu]))
        return True

    def _add(self, figure: Figure) -> None:
        key = figure.workload, figure.what
        self.figures[key] = figure
        self.values[key].append(figure.median)


def lines(before: Side, now: Side) -> list[str]:
    """The table, as Markdown."""
    found = ["| | | then | now | now / then | |", "| --- | --- | ---: | ---: | --- | --- |"]
    for key, figure in now.figures.items():
        pairs = [(a, b) for a, b in zip(before.values[key], now.values[key], strict=False) if a]
        if not pairs:
            continue
        turns = sorted(b / a for a, b in pairs)
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        shown = f"{statistics.median(turns):.2f} ({turns[0]:.2f} to {turns[-1]:.2f})"
        then, present = (f"{short(each)} {figure.unit}" for each in medians)
        found.append(f"| {key[0]} | {key[1].strip()} | {then} | {present} | {shown} | {verdict(figure, turns)} |")
    return found


def verdict(figure: Figure, turns: list[float]) -> str:
    """Whether a figure moved beyond noise, and whether that is better.

    >>> verdict(Figure("W5", "", "ms", []), [0.7, 0.8, 0.9]), verdict(Figure("W1", "", "chunks/s", []), [0.9, 1.2, 1.3])
    ('better', '')
    """
    middle = statistics.median(turns)
    if turns[0] <= 1 <= turns[-1] or abs(middle - 1) < LEAST:
        return ""
    less_is_better = figure.bound.startswith("<=") or (
        not figure.bound and figure.unit in ("s", "ms", "ms/s", "MB", "bytes", "%")
    )
    return "better" if (middle < 1) == less_is_better else "worse"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("ref", help="a commit, branch or tag")
    parser.add_argument("workloads", nargs="*", default=list(QUICK), help=f"default: {' '.join(QUICK)}")
    parser.add_argument("--runs", type=int, default=5, help="turns")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(folder / "tree"), given.ref], check=True)
        try:
            before, now = Side(folder / "tree", folder / given.ref.replace("/", "-")), Side(HERE, folder / "now")
            for workload in given.workloads:
                for _ in range(given.runs):
                    if not all(side.run(workload, folder / "figures.json") for side in (before, now)):
                        break
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.runs} turns\n")
            print("\n".join(lines(before, now)))
        finally:
            subprocess.run([*git, "remove", "--force", str(folder / "tree")], check=True)


if __name__ == "__main__":
    main()

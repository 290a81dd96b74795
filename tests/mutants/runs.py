"""Runs of pytest in a copy of the project, each in a process of its own.

The processes are forked from a server that has imported the heavy libraries already, so that a run begins at once.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.mutants.sample import ROOT

TIMED_OUT = -1


def prepare() -> None:
    """Have the server import what every test needs, and nothing of the project."""
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(["pytest", "duckdb", "polars", "pydantic", "ipywidgets"])


def copied(folder: Path) -> Path:
    """The project's tracked files in a folder of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def pytest(folder: Path, *args: str, seconds: float | None = None) -> int:
    """Run tests there. Returns pytest's exit code, or `TIMED_OUT`; the output is in ``output.txt``."""
    run = multiprocessing.Process(target=_run, args=(str(folder), args))
    run.start()
    run.join(seconds)
    if run.exitcode is None:
        run.kill()
        run.join()
        return TIMED_OUT
    return run.exitcode


def _run(folder: str, args: tuple[str, ...]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ["PYTHONPATH"] = folder
    os.environ["COVERAGE_FILE"] = f"{folder}/.coverage"
    with open("output.txt", "w") as output:  # noqa: PTH123
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.path[:] = [folder, *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "nbbatch")]:
        del sys.modules[name]
    import pytest

    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *args]))

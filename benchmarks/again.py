"""The same incremental task on what people use for it: a first run, an unchanged one, one with a changed file, one with a changed step.

Files that hold a number each are read (step 1), the numbers are squared (step 2) and summed. Each run is a process of its own, as that of
the next day is, and what a peer keeps lies in a folder. Seconds are those of the work, without imports. Each peer runs in the shape that is
quickest for it. Peers that are not installed in the environment that is named are left out, with a word.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

PEERS = {"redun": "redun, threads", "joblib": "joblib.Memory, serial", "datachain": "DataChain, delta"}
ITEMS = 1_000
FEWER = {"redun": 100}
"""Of those for which 1,000 take many minutes."""
RUNS = ("first", "same", "item", "step")
SAID = {"first": "the first run", "same": "  unchanged", "item": "  one file changed", "step": "  step 2 changed"}
STEPS = """from pathlib import Path


def read(path):
    return int(Path(path).read_text())


def square(number):
    return number * number + {changed}
"""


def measure(runs: int, full: bool, python: str = sys.executable) -> list[Any]:
    """Seconds of each run, ours by this Python and the peers' by another one."""
    from benchmarks.measure import Figure  # here, as the peers' environment has no polars
    from benchmarks.peers import has

    n = 10_000 if full else ITEMS
    figures: list[Any] = []
    for name, what in {"nbbatch": "nbbatch, reuse=True", **PEERS}.items():
        by = sys.executable if name == "nbbatch" else python
        if not has(by, name):
            print(f"R   {what}: skipped, {name} is not installed")
            continue
        items = FEWER.get(name, n)
        times = [_series(by, name, items) for _ in range(runs)]
        for place, run in enumerate(RUNS):
            values = [each[place] for each in times]
            figures.append(Figure("R", f"{what}, {items:,} files: {SAID[run].strip()}", "s", values))
    return figures


def _series(python: str, name: str, n: int) -> list[float]:
    """Seconds of the four runs, one after another on one folder."""
    from benchmarks.measure import folder

    with folder() as where:
        (where / "data").mkdir()
        for number in range(n):
            _write(where / "data" / f"{number:06}.txt", number, age_s=60)
        found: list[float] = []
        for run in RUNS:
            if run == "item":
                _write(where / "data" / "000007.txt", -3, age_s=30)
            (where / "steps.py").write_text(STEPS.format(changed=int(run == "step")))
            command = [python, "-m", "benchmarks.again", name, run, str(where)]
            places = os.pathsep.join(map(str, (Path.cwd(), where)))
            here = {**os.environ, "PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"}
            ran = subprocess.run(command, check=True, capture_output=True, timeout=900, env=here)
            seconds, total = json.loads(ran.stdout.splitlines()[-1])
            _check(name, run, total, n)
            found.append(seconds)
    return found


def _write(path: Path, number: int, *, age_s: float) -> None:
    path.write_text(str(number))
    when = time.time() - age_s
    os.utime(path, (when, when))


def _check(name: str, run: str, total: int, n: int) -> None:
    """Raises RuntimeError where a peer is quick as it is wrong."""
    wanted = sum(number * number for number in range(n)) + (n if run == "step" else 0)
    wanted += 9 - 49 if run in ("item", "step") else 0
    if total != wanted:
        raise RuntimeError(f"{name} gives {total} for the run {run!r}, and it is {wanted}")


# --- in a process of its own: each gives seconds and the sum --------------------------------------

Ran = tuple[float, int]


def nbbatch(run: str, where: Path, steps: ModuleType) -> Ran:
    """Chunks of files; only finding them is done each time."""
    from collections.abc import Iterable, Iterator

    import nbbatch as nb

    @nb.step
    def find(folder: Path) -> Iterator[nb.File]:
        yield from nb.files(folder)

    @nb.step
    def total(numbers: Iterable[int]) -> int:
        return sum(numbers)

    steps.read.__annotations__ = {"path": nb.File, "return": int}
    steps.square.__annotations__ = {"number": int, "return": int}
    read, square = (nb.step(each, reuse=True) for each in (steps.read, steps.square))
    job = nb.Job("again", find >> read >> square >> total)
    started = time.perf_counter()
    with nb.open(where / "again.duckdb") as batch:
        found = batch.submit(job, where / "data", new=True).result()
    return time.perf_counter() - started, found


def joblib(run: str, where: Path, steps: ModuleType) -> Ran:
    """Memory knows no files: the time of the last change is an argument."""
    from joblib import Memory

    memory = Memory(str(where / "joblib"), verbose=0)
    square = memory.cache(steps.square)

    def read(path: str, mtime_ns: int) -> int:
        return steps.read(path)

    cached = memory.cache(read)
    started = time.perf_counter()
    paths = sorted((where / "data").iterdir())
    found = sum(square(cached(str(path), path.stat().st_mtime_ns)) for path in paths)
    return time.perf_counter() - started, found


def redun(run: str, where: Path, steps: ModuleType) -> Ran:
    """A task per file and step in threads; results are kept in SQLite."""
    import logging

    from redun import File, Scheduler, task
    from redun.config import Config

    logging.disable(logging.CRITICAL)

    @task(namespace="again", version="1")
    def read(file: File) -> int:
        return steps.read(file.path)

    @task(namespace="again", version=run if run == "step" else "1")
    def square(number: int) -> int:
        return steps.square(number)

    @task(namespace="again", version="1")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @task(namespace="again", version="1", check_valid="full")
    def main(files: list[File]) -> int:
        return total([square(read(file)) for file in files])

    started = time.perf_counter()
    scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{where}/redun.db"}}))
    scheduler.load()
    found = scheduler.run(main([File(str(path)) for path in sorted((where / "data").iterdir())]))
    return time.perf_counter() - started, found


def datachain(run: str, where: Path, steps: ModuleType) -> Ran:
    """A dataset whose new version takes what did not change from the one before; where a step changed it is made as a whole."""
    os.environ |= {"DATACHAIN_ROOT_DIR": str(where / "datachain"), "DO_NOT_TRACK": "1", "DATACHAIN_NO_ANALYTICS": "1"}
    os.chdir(where)
    import datachain as dc

    def read(file: dc.File) -> int:
        return steps.read(where / "data" / Path(file.path).name)

    def square(number: int) -> int:
        return steps.square(number)

    read.__annotations__, square.__annotations__ = {"file": dc.File, "return": int}, {"number": int, "return": int}
    started = time.perf_counter()
    chain = dc.read_storage((where / "data").as_uri(), update=True, delta=run in ("same", "item"), delta_on="file.path")
    kept = chain.map(number=read).map(squared=square).save(f"again{int(run == 'step')}")
    return time.perf_counter() - started, kept.sum("squared")


KINDS: dict[str, Callable[[str, Path, ModuleType], Ran]] = {
    "nbbatch": nbbatch, "joblib": joblib, "redun": redun, "datachain": datachain
}  # fmt: skip


def _main(name: str, run: str, where: Path) -> None:
    import importlib

    print(json.dumps(KINDS[name](run, where, importlib.import_module("steps"))))


if __name__ == "__main__":
    partial(_main, sys.argv[1], sys.argv[2])(Path(sys.argv[3]))

"""Run the job of notebook 01 in a process of its own: ``python run_import.py FOLDER OUT``.

The job is not repeated here: it is what the notebook's cells tagged ``job`` define. The store is ``OUT/fhir.duckdb``,
so the same command after a crash goes on where it stopped. Prints what the steps log, then how the run ended.
"""

from __future__ import annotations

import argparse
import json
import linecache
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("01-fhir-bulk-import.ipynb")


def job_cells(notebook: Path = NOTEBOOK) -> dict[str, Any]:
    """The names that the notebook's job cells define; only these cells run."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}  # as in a kernel
    for cell in cells:
        if "job" in cell["metadata"].get("tags", ()):
            source, name = "".join(cell["source"]), f"{notebook.name}[{cell['id']}]"
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for tracebacks
            exec(compile(source, name, "exec", dont_inherit=True), names)
    return names


class Kill(logging.Handler):
    """Ends this process by SIGKILL at the n-th page, while other pages are being worked on."""

    def __init__(self, pages: int) -> None:
        super().__init__()
        self.left = pages

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - called under the handler's lock
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--page-lines", type=int, default=500)
    parser.add_argument("--kill-after", type=int, metavar="PAGES", help="die in the middle, to see what is left")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    if arguments.kill_after:
        logging.getLogger("nbbatch.step").addHandler(Kill(arguments.kill_after))
    arguments.out.mkdir(parents=True, exist_ok=True)

    names = job_cells()
    nb, params = names["nb"], names["Params"]
    with nb.open(arguments.out / "fhir.duckdb") as batch:
        wanted = params(folder=arguments.folder, out=arguments.out, page_lines=arguments.page_lines)
        run = batch.submit(names["fhir_import"], wanted)
        manifest = run.result()
    print(f"{manifest.resources} resources, {len(manifest.bad)} bad lines", flush=True)


if __name__ == "__main__":
    main()

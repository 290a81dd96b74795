"""Run notebook 01 without a browser and show what it made; this is ``make demo``.

The folder is ``build/demo`` in the repository, or what NBBATCH_DEMO_DIR names. NBBATCH_FHIR_DATA names the folder of
a FHIR bulk export, compressed files and folders below it included; without it a small synthetic one is generated. The executed notebook is saved in the folder too;
the one in the repository stays as it is, unless ``--save`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent
NOTEBOOK = NOTEBOOKS / "01-fhir-bulk-import.ipynb"
TIMEOUT_SECONDS = 600


class ThisPython(AsyncKernelManager):
    """Starts the kernel in the Python that runs this file, whatever kernels are registered on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def execute(notebook: Path, copy: Path) -> None:
    """Execute a notebook in its own folder and save the result as a copy, also when a cell fails."""
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content, timeout=TIMEOUT_SECONDS, kernel_manager_class=ThisPython, store_widget_state=False,
        resources={"metadata": {"path": str(notebook.parent)}},
    )  # fmt: skip
    try:
        client.execute()
    finally:
        nbformat.write(content, copy)


def show(manifest: Path) -> None:
    """Print a manifest as tables."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    rows = [(t["type"], f"{t['resources']:,}", len(t["parts"])) for t in content["types"]]
    _table(
        ("resource type", "resources", "Parquet files"),
        [*rows, ("all", f"{content['resources']:,}", sum(r[2] for r in rows))],
    )
    _table(("file", "line", "bad line"), [(b["file"], b["line"], b["reason"]) for b in content["bad"]])
    _table(
        ("sent more than once", "where"),
        [(f"{d['type']}/{d['id']}", ", ".join(d["places"])) for d in content["duplicates"]],
    )


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    if not rows:
        return
    texts = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    texts.insert(1, tuple("-" * width for width in widths))
    for text in texts:
        cells = zip(text, widths, strict=True)
        print("  ".join(f"{cell:>{width}}" if _number(cell) else f"{cell:<{width}}" for cell, width in cells).rstrip())
    print()


def _number(text: str) -> bool:
    return text.replace(",", "").isdigit()


def export() -> Path | None:
    """The export that is to be imported; None: the synthetic one. Ends the program where it is no folder."""
    named = os.environ.get("NBBATCH_FHIR_DATA")
    if not named:
        return None
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        sys.exit(f"NBBATCH_FHIR_DATA names {folder}, which is no folder")
    os.environ["NBBATCH_FHIR_DATA"] = str(folder)  # the notebook is executed in another folder
    if not any(path.name.lower().endswith((".ndjson", ".ndjson.gz")) for path in folder.rglob("*")):
        print(f"{folder} holds no *.ndjson or *.ndjson.gz, nor do the folders below it: there is nothing to import\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--save", action="store_true", help="replace the repository's notebook by the executed one, stripped"
    )
    arguments = parser.parse_args()
    folder = export()
    demo = Path(os.environ.get("NBBATCH_DEMO_DIR") or NOTEBOOKS.parent / "build" / "demo").resolve()
    demo.mkdir(parents=True, exist_ok=True)
    os.environ["NBBATCH_DEMO_DIR"] = str(demo)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH")]))
    executed = demo / NOTEBOOK.name
    print(f"Executing {NOTEBOOK.name} …\n", flush=True)
    execute(NOTEBOOK, executed)
    out = demo / (folder.name if folder else "sample")
    show(out / "manifest.json")
    print(f"Parquet   {out}/<resource type>/*.parquet")
    print(f"manifest  {out / 'manifest.json'}")
    print(f"store     {demo / 'fhir.duckdb'}")
    print(f"notebook  {executed}")
    if arguments.save:
        from strip import strip_file  # beside this file: there only when it runs as a script

        NOTEBOOK.write_bytes(executed.read_bytes())
        strip_file(NOTEBOOK)


if __name__ == "__main__":
    main()

"""Bring notebooks into one stable form: ``python strip.py [--outputs] NOTEBOOK...``.

Keeps outputs (``--outputs`` drops them), numbers executed cells from 1, and removes what differs from machine to
machine or hides the saved picture: widget state, execution times, the kernel's display name and Python version,
and where packages and the kernel's files lie in tracebacks.
Running it twice changes nothing.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"}


def strip(notebook: NotebookNode, *, outputs: bool = False) -> NotebookNode:
    """The notebook itself, changed in place."""
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), language_info=NotebookNode(LANGUAGE))
    executed = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode(tags=tags) if tags else NotebookNode()
        if cell.cell_type != "code":
            continue
        if outputs or cell.execution_count is None:
            cell.execution_count, cell.outputs = None, []
            continue
        executed += 1
        cell.execution_count = executed
        cell.outputs = [_output(output, executed) for output in cell.outputs]
    return notebook


def _output(output: NotebookNode, count: int) -> NotebookNode:
    if output.output_type == "execute_result":
        output.execution_count = count
    output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    output.pop("transient", None)
    if "text" in output:
        output.text = _anywhere(output.text)
    for kind in [each for each in output.get("data", {}) if each.startswith("text/")]:
        output.data[kind] = _anywhere(output.data[kind])
    return output


def _anywhere(text: str) -> str:
    """A text without where this machine keeps packages and cells."""
    text = re.sub(r"(/[\w.+-]+)+/site-packages/", "site-packages/", text)
    return re.sub(r"(/[\w.+-]+)+/ipykernel_\d+/\d+\.py", "cell.py", text)


def strip_file(path: Path, *, outputs: bool = False) -> bool:
    """Strip a file; whether that changed it."""
    before = path.read_text(encoding="utf-8")
    after = nbformat.writes(strip(nbformat.reads(before, as_version=4), outputs=outputs)) + "\n"
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--outputs", action="store_true", help="drop outputs too")
    arguments = parser.parse_args()
    for each in arguments.notebooks:
        print(each, "changed" if strip_file(each, outputs=arguments.outputs) else "unchanged")

"""The pages for those who ask a machine: each as Markdown beside its HTML, and ``llms.txt``, which lists them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs._site.from_code import ROOT, filled

INCLUDED = re.compile(r"^```\{include\} (\S+)\n:code: python\n```$", re.MULTILINE)
FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
CONTENTS = re.compile(r"^```\{toctree\}\n.*?^```\n*", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)(?:\{[^}]*\})?")
MOST_SHOWN = 4_000
"""Characters of what a cell shows."""
SUMMARY = "Durable, typed, per-item batch jobs that live in a Jupyter notebook: a Python library on DuckDB, polars and pydantic."


def source(page: str) -> Path | None:
    """The file of a page."""
    return next((path for end in (".md", ".ipynb") if (path := ROOT / f"{page}{end}").is_file()), None)


def as_markdown(path: Path) -> str:
    """A page as plain Markdown: parts from code filled in, a notebook as its texts and code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return plain(filled(text), path)
    return "\n\n".join(part for each in json.loads(text)["cells"] for part in _cell(each)) + "\n"


def plain(text: str, path: Path) -> str:
    """Markdown without what only the site understands: included files in their places, no tables of contents, no pictures."""
    text = INCLUDED.sub(lambda found: f"```python\n{(path.parent / found[1]).read_text(encoding='utf-8')}```", text)
    for away in (FRONT, CONTENTS):
        text = away.sub("", text)
    return PICTURE.sub(r"(Picture: \1)", text).replace(".ipynb)", ".md)").rstrip() + "\n"


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    """The text of a cell, or its code and what it shows as text."""
    text = "".join(cell["source"])
    yield text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
    shown = [
        "".join(each.get("text") or each.get("data", {}).get("text/plain") or ()).rstrip()
        for each in cell.get("outputs", ())
    ]
    if any(shown):
        yield "```text\n{}\n```".format("\n".join(filter(None, shown))[:MOST_SHOWN])


def listing(titles: Mapping[str, str]) -> str:
    """The text of llms.txt."""
    lines = [f"- [{title}]({page}.md)" for page, title in titles.items()]
    return "\n".join(["# nbbatch", "", f"> {SUMMARY}", "", "## Pages", "", *lines, ""])


def write(folder: Path, titles: Mapping[str, str]) -> None:
    """Write them into the folder of the built site, with the notebooks themselves and what they import.

    Args:
        folder: Where the site is.
        titles: Of the pages, by name.
    """
    for page in titles:
        path = source(page)
        if path is not None:
            made = folder / f"{page}.md"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(as_markdown(path), encoding="utf-8")
    for beside in (each for ending in ("*.ipynb", "*.py") for each in (ROOT / "notebooks").glob(ending)):
        shutil.copy(beside, folder / "notebooks" / beside.name)
    (folder / "llms.txt").write_text(listing(titles), encoding="utf-8")

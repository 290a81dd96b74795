"""The pages for those who ask a machine: each as Markdown beside its HTML, and ``llms.txt``, which lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from docs._site.from_code import ROOT, filled

SUMMARY = "Durable, typed, per-item batch jobs that live in a Jupyter notebook: a Python library on DuckDB, polars and pydantic."


def source(page: str) -> Path | None:
    """The file of a page."""
    return next((path for end in (".md", ".ipynb") if (path := ROOT / f"{page}{end}").is_file()), None)


def as_markdown(path: Path) -> str:
    """A page as plain Markdown: parts from code filled in, a notebook as its texts and code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return filled(text)
    cells = json.loads(text)["cells"]
    return "\n\n".join(_cell(each["cell_type"], "".join(each["source"])) for each in cells) + "\n"


def _cell(kind: str, text: str) -> str:
    return text if kind == "markdown" else f"```python\n{text}\n```"


def listing(titles: Mapping[str, str]) -> str:
    """The text of llms.txt."""
    lines = [f"- [{title}]({page}.md)" for page, title in titles.items()]
    return "\n".join(["# nbbatch", "", f"> {SUMMARY}", "", "## Pages", "", *lines, ""])


def write(folder: Path, titles: Mapping[str, str]) -> None:
    """Write them into the folder of the built site.

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
    (folder / "llms.txt").write_text(listing(titles), encoding="utf-8")

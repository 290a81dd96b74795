"""The tables for people who come from batch2 and Spring Batch: every row has code that is real and a test that exists."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch import testing
from nbbatch.definition import Options
from nbbatch.definition.listeners import EVENTS

ROOT = Path(__file__).parent.parent
PARTS: dict[str, Any] = {"nb": nb, "run": nb.JobHandle, "batch": nb.Batch, "testing": testing, "job": nb.Job}
WORDS = {"nb.step": {*Options.__dataclass_fields__, "name", "description"}}


def words(call: ast.Call) -> set[str]:
    """The keywords that what a row calls takes."""
    name = ast.unparse(call.func)
    part, _, attribute = name.partition(".")
    if name in WORDS or part not in PARTS:
        return WORDS.get(name, set())
    return set(inspect.signature(getattr(PARTS[part], attribute)).parameters)


def rows(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    head = next(place for place, line in enumerate(lines) if re.fullmatch(r"\|.*\| code \| test \|", line))
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[head:] if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells[2:]]


def suite() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}


PAGES = ["from-batch2.md", "from-spring-batch.md"]
ROWS = [pytest.param(row, id=row[0]) for page in PAGES for row in rows(page)]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_code_of_names_that_exist(row: list[str]) -> None:
    code = ast.parse(row[2].strip("`"))
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PARTS:
            assert hasattr(PARTS[node.value.id], node.attr), ast.unparse(node)
        if isinstance(node, ast.Call) and node.keywords and (known := words(node)):
            assert {word.arg for word in node.keywords} <= known, ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "job.on":
            assert ast.literal_eval(node.args[0]) in EVENTS


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_a_test_of_the_suite(row: list[str]) -> None:
    assert len(row) == 4
    assert row[3].strip("`") in suite()


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_merely_planned(page: str) -> None:
    assert not re.search(r"planned|to do|not yet", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.IGNORECASE)

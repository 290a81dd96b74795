"""The list of laws in docs/behaviours.md and the tests that hold them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"\b[DSCGLRVN][1-9]\d?\b")


def promised() -> list[str]:
    text = (ROOT / "docs" / "behaviours.md").read_text(encoding="utf-8")
    return re.findall(r"^- \*\*([A-Z]\d+)\*\* ", text, re.MULTILINE)


def held() -> dict[str, list[str]]:
    """Law → the tests whose docstrings name it."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, text in _docstrings(path):
            for number in NUMBER.findall(text):
                found.setdefault(number, []).append(name)
    return found


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def test_every_promise_has_a_test() -> None:
    assert sorted(set(promised()) - set(held())) == []


def test_every_law_a_test_names_is_promised() -> None:
    unlisted = sorted(set(held()) - set(promised()))
    assert unlisted == [], f"add a line for each of {unlisted} to docs/behaviours.md"


def test_no_number_is_given_twice() -> None:
    assert len(promised()) == len(set(promised()))

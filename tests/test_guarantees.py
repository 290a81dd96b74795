"""docs/guarantees.md names tests that there are, and one for each fault."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_holds_a_guarantee_is_there() -> None:
    found = set(NAMED.findall(TEXT))
    missing = {f"{path}::{name}" for path, name in found if name not in functions(ROOT / path)}

    assert len(found) > 40
    assert missing == set()


def functions(path: Path) -> set[str]:
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "---" not in line]
    faults = [row for row in rows if not row.startswith("| fault |")]

    assert len(faults) > 30
    assert [row for row in faults if not NAMED.search(row)] == []


def test_what_nbbatch_promises_of_strangers_files_is_linked() -> None:
    for name in ("README.md", "docs/guarantees.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "SECURITY.md)" in text
    assert "docs/guarantees.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for page in ("SECURITY.md", "docs/guarantees.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), (page, target)

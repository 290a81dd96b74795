"""The shape of the house: layers, sizes, surface, and what no file may say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.base import states

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "nbbatch").rglob("*.py"))
MOST_LINES = 600
MOST_FUNCTION_LINES = 45


def test_imports_point_down_the_layers() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_modules_and_functions_stay_small(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := _code_lines(node)) > MOST_FUNCTION_LINES
    ]

    assert len(text.splitlines()) <= MOST_LINES
    assert not long


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert node.end_lineno is not None
    first = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node.end_lineno - (first[0].lineno if first else node.end_lineno) + 1


def test_the_public_names_are_sorted_and_documented() -> None:
    assert nb.__all__ == sorted(nb.__all__)
    for name in nb.__all__:
        assert getattr(nb, name).__doc__, name


def test_a_light_import_pulls_in_no_notebook_and_no_polars() -> None:
    code = (
        "import sys, nbbatch\n"
        "heavy = {'polars', 'IPython', 'ipywidgets', 'anywidget', 'altair', 'matplotlib', 'numpy', 'pandas', 'loky'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_importing_takes_less_than_half_a_second_of_the_processor() -> None:
    code = "import time; t = time.process_time(); import nbbatch; print(time.process_time() - t)"
    best = min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5))

    assert best < 0.5


def test_every_state_has_its_own_code_and_its_transitions() -> None:
    for enum, table in (
        (states.ChunkStatus, states.CHUNK_TRANSITIONS),
        (states.InstanceStatus, states.INSTANCE_TRANSITIONS),
    ):
        assert sorted(member.code for member in enum) == list(range(1, len(enum) + 1))
        assert set(table) == set(enum)


def test_no_file_names_a_local_path_or_a_download_host() -> None:
    told = re.compile(r"/wo" r"rk/|\.\./sha" r"red|py" r"pi\.org|pythonhos" r"ted|registry\.np" r"mjs|/ro" r"ot/")
    files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    guilty = [
        name
        for name in files
        if not name.startswith(".ci/")
        and (ROOT / name).is_file()
        and told.search((ROOT / name).read_bytes().decode("utf-8", "replace"))
    ]

    assert files or not os.environ.get("CI")
    assert not guilty


def test_the_design_has_a_line_for_every_room() -> None:
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    lines = [
        line.split("|")[1] for line in text.split("## Rooms")[1].split("## ")[0].splitlines() if line.startswith("| `")
    ]
    modules = {
        path.stem for path in (ROOT / "nbbatch").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert sorted({name for line in lines for name in re.findall("`(.+?)`", line)}) == sorted(modules - {"__init__"})

"""The guides do what they say: the code of each page is run in order, in one place, and prints what stands below it.

In the info string of a block, ``file=NAME`` has it written instead of run, and ``not-run`` says that the tests have no place for
it (a cluster, a server elsewhere); it is compiled all the same.
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nbbatch as nb
from nbbatch import batch as batches
from nbbatch.shell import frontend

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = {"command-line", "deploy", "testing"}
"""Pages whose code other tests run."""
FENCE = re.compile(r"^```(\w+)([^\n{]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHER_COMMANDS = ("pip install", "jupyter lab", "python ", "kill ", "ssh ", "git ", "mkdocs")
"""What stands in blocks of commands beside ``nbbatch``."""


class Block(NamedTuple):
    kind: str
    info: str
    text: str
    line: int
    """Of its first line in the page."""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(each[1], each[2].strip(), each[3], text.count("\n", 0, each.start(3))) for each in FENCE.finditer(text)
    ]


PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page.stem not in ELSEWHERE and any(each.kind in ("python", "sh") for each in blocks(page))
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page opens is closed, and what it writes is elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    for number in range(20):  # the folder of the reader's own
        (tmp_path / "project" / f"module{number:02}.py").write_text("pass\n" * (number + 1))
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for batch in list(batches._working):
        batch.close()
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS).with_suffix("")))
def test_the_code_of_a_page_runs_and_prints_what_it_says(page: Path, capsys: Any) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        if block.kind == "python":
            capsys.readouterr()
            run(page, block, names)
            printed = capsys.readouterr().out
        elif block.kind == "sh":
            for line in block.text.splitlines():
                command(line)
            printed = capsys.readouterr().out
        elif block.kind == "text" and "not-run" not in block.info:
            check(block, printed)


def run(page: Path, block: Block, names: dict[str, Any]) -> None:
    """Run a block; its functions have their source in the page, at the lines where it stands there."""
    if block.info.startswith("file="):
        Path(block.info.removeprefix("file=")).write_text(block.text)
        return
    code = compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True)
    if "not-run" not in block.info:
        exec(code, names)


def command(line: str) -> None:
    """Run a line of a terminal, if it is one of ours."""
    if line.startswith("nbbatch "):
        assert frontend.run(shlex.split(line, comments=True)[1:]) == 0, line
    else:
        assert not line or line.startswith(OTHER_COMMANDS), line


def check(block: Block, printed: str) -> None:
    """What is printed is what the page says, where it has no "..."."""
    same = doctest.OutputChecker().check_output(block.text, printed, doctest.ELLIPSIS)
    assert same, f"line {block.line}: the page says\n{block.text}\nand printed is\n{printed}"


KILLED = """
while run.steps()["completed"].sum() < 2:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_kill_of_the_first_page_costs_nothing(tmp_path: Path) -> None:
    cells = [each for each in blocks(DOCS / "start.md") if each.kind == "python"]
    killed = next(place for place, each in enumerate(cells) if "new=True" in each.text)
    program = "".join(each.text for each in cells[: killed + 1])
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-c", f"import os, signal\n{program}{KILLED}"], env={**os.environ, "PYTHONPATH": path}
    )
    names: dict[str, Any] = {"__name__": "__main__"}
    run(DOCS / "start.md", cells[0], names)
    with nb.open("first.duckdb") as batch:
        again = batch.submit(names["job"], names["FOLDER"])
        ran = again.chunks("measure", status="COMPLETED")["id"].to_list()
        again.wait(30)

        assert ended.returncode == -signal.SIGKILL
        assert again.id == 2
        assert again.status == "COMPLETED"
        assert ran
        assert again.attempts("measure").filter(chunk=ran[0]).height == 1
        assert set(again.attempts("measure")["status"]) <= {"COMPLETED", "QUEUED", "ERRORED"}


def test_extras_that_pages_install_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [
        extra
        for page in DOCS.rglob("*.md")
        for found in re.findall(r"nbbatch\[([\w,]+)\]", page.read_text(encoding="utf-8"))
        for extra in found.split(",")
    ]

    assert named
    assert set(named) <= extras.keys()


# --- error texts ----------------------------------------------------------------------------------


@cache
def told() -> list[str]:
    """Every text in the code of the package, with "…" for what is filled in."""
    found: list[str] = []
    for module in (ROOT / "nbbatch").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(each.value if isinstance(each, ast.Constant) else "…" for each in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def errors() -> list[str]:
    """The error texts that the page on troubleshooting explains."""
    text = (DOCS / "guides" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### (.+)$", text, re.MULTILINE)


def test_the_errors_that_are_explained_are_those_of_the_code() -> None:
    texts = told()
    said = {error: ".*".join(map(re.escape, error.split("…"))) for error in errors()}

    assert said
    assert [error for error, form in said.items() if not any(re.search(form, text, re.DOTALL) for text in texts)] == []


def test_what_an_error_says_to_see_is_there() -> None:
    """A text with "see batch.problems" names something public."""
    owners = {"batch": nb.Batch, "run": nb.JobHandle, "chunk": nb.ChunkHandle, "nb": nb}
    found = [each for text in told() for each in re.findall(r"\(see (\w+)\.(\w+)\)", text)]
    named = [(owner, name) for owner, name in found if owner in owners]

    assert named
    assert [f"{owner}.{name}" for owner, name in named if not hasattr(owners[owner], name)] == []


def test_every_call_that_a_text_names_is_there() -> None:
    """Error texts, warnings and docstrings name what to call next."""
    owners = {"batch": nb.Batch, "run": nb.JobHandle, "chunk": nb.ChunkHandle, "nb": nb, "job": nb.Job, "look": nb.Look}
    call = re.compile(rf"(?<![\w./{{])({'|'.join(owners)})\.([a-z]\w+)")
    named = {found for text in told() for found in call.findall(text)} - {("run", "id")}

    assert ("run", "retry") in named
    assert sorted(f"{owner}.{name}" for owner, name in named if not hasattr(owners[owner], name)) == []

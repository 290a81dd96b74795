"""What the documents tell people to type works: every block of commands is run, in order, beside the files that they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "docs" / "command-line.md"]
FENCE = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    document: str
    heading: str
    commands: str


def blocks() -> list[Block]:
    """Commands in the documents."""
    found: list[Block] = []
    for document in DOCUMENTS:
        for part in re.split(r"^## ", document.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            commands = [text for kind, _, text in FENCE.findall(part) if kind == "sh"]
            found += [Block(document.stem, part.partition("\n")[0], text) for text in commands]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are that documents show, and what commands leave for those after them."""
    made = tmp_path_factory.mktemp("documents")
    for document in DOCUMENTS:
        for _, name, text in FENCE.findall(document.read_text(encoding="utf-8")):
            if name:
                (made / name).write_text(text)
    return made


@pytest.mark.timeout(240)
@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.document}: {block.heading}")
def test_commands_work_as_they_are_written(folder: Path, block: Block) -> None:
    program = f'nbbatch() {{ "{sys.executable}" -m nbbatch "$@"; }}\n{block.commands}'
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr

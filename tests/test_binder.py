"""The Binder configuration fits the project."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_binder_runs_a_python_the_project_supports() -> None:
    version = re.fullmatch(r"python-(\d+\.\d+)\n", (ROOT / "binder" / "runtime.txt").read_text())

    assert version is not None
    assert version[1] in SpecifierSet(PROJECT["requires-python"])


def test_binder_installs_the_project_and_allows_the_tested_versions() -> None:
    lines = (ROOT / "binder" / "requirements.txt").read_text().splitlines()
    tested = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and line[0] != "#"
    )
    pins = [Requirement(line) for line in lines if not line.startswith(".")]

    assert lines[0].startswith(".[")
    assert {pin.name for pin in pins} == {Requirement(needed).name for needed in PROJECT["dependencies"]}
    for pin in pins:
        assert tested[pin.name] in pin.specifier


def test_post_build_stops_at_the_first_error() -> None:
    script = ROOT / "binder" / "postBuild"

    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    assert "\nset -e\n" in script.read_text()


def test_the_tested_versions_satisfy_the_project() -> None:
    tested = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and line[0] != "#"
    )

    for needed in PROJECT["dependencies"]:
        requirement = Requirement(needed)
        assert tested[requirement.name] in requirement.specifier

"""The Binder configuration fits the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
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


# --- what repo2docker builds ----------------------------------------------------------------------


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> str:
    """The Dockerfile that repo2docker makes of the repository."""
    packs = pytest.importorskip("repo2docker.buildpacks", reason="the extra nbbatch[test] is not installed")
    monkeypatch.chdir(ROOT)
    pack = packs.PythonBuildPack("buildpack-deps:jammy")
    pack.platform = "linux/amd64"
    assert pack.detect()
    assert pack.python_version == (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    return pack.render({})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_image_copies_the_sources_installs_them_warms_up_and_starts(image: str) -> None:
    steps = [
        "COPY --chown=1000:1000 src/ ",
        'install --no-cache-dir -r "binder/requirements.txt"',
        "RUN ./binder/postBuild",
    ]
    places = [image.index(step) for step in [*steps, 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"']]

    assert places == sorted(places)


def test_what_post_build_and_start_name_is_there() -> None:
    scripts = [(ROOT / "binder" / name).read_text(encoding="utf-8") for name in ("postBuild", "start")]
    named = [path for script in scripts for path in re.findall(r"notebooks/\w+\.py", script)]
    made = re.search(r"run_import\.py \S+ (\S+)", scripts[0])

    assert named
    assert all((ROOT / path).is_file() for path in named)
    assert made is not None
    assert f'NBBATCH_STORES="$PWD/{made[1]}"' in scripts[1]
    assert scripts[1].endswith('\nexec "$@"\n')


LINK = re.compile(r"https://mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/[\w.-]+\?urlpath=([\w%.-]+)")


@pytest.mark.parametrize("page", ["README.md", "docs/notebooks.md"])
def test_links_to_binder_open_notebooks_that_are_there(page: str) -> None:
    links = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    opened = [unquote(path) for _, path in links]

    assert {f"https://github.com/{repository}" for repository, _ in links} == {PROJECT["urls"]["Source"]}
    assert "lab/tree/notebooks/01-fhir-bulk-import.ipynb" in opened
    assert "voila/render/notebooks/dashboard.ipynb" in opened
    assert all((ROOT / re.sub("^(lab/tree|voila/render)/", "", path)).is_file() for path in opened)


@pytest.mark.skipif(not os.environ.get("NBBATCH_BINDER"), reason="installs everything anew: make binder")
@pytest.mark.timeout(900)
def test_an_empty_environment_is_built_and_runs_what_binder_opens(tmp_path: Path) -> None:
    """As the image is built, but in a virtual environment."""
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    repository = tmp_path / "repository"
    for name in filter(None, files):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, repository / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NBBATCH_FHIR_DATA")}
    inside = {**kept, "PATH": f"{tmp_path}/env/bin:{os.environ['PATH']}"}
    for command in (
        "pip install -q --no-cache-dir -r binder/requirements.txt",
        "binder/postBuild",
        "binder/start jupyter execute notebooks/dashboard.ipynb",
        "binder/start jupyter execute notebooks/01-fhir-bulk-import.ipynb",
    ):
        began = time.monotonic()
        subprocess.run(command, shell=True, check=True, cwd=repository, env=inside)
        print(f"{time.monotonic() - began:6.1f} s  {command}")

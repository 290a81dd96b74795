"""What the documents tell people to type works: every block of commands is run, in order, beside the files that they show.

No image is built and no pod is started: tests have no Docker daemon and no cluster. What they would run is run here, and what the files say of
each other is compared.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from nbbatch.shell.exit_codes import Exit

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "docs" / "command-line.md", ROOT / "docs" / "deploy.md"]
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
    program = made / "bin" / "nbbatch"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nbbatch "$@"\n')
    program.chmod(0o755)
    return made


def run(command: list[str], folder: Path) -> None:
    """Run a command in the folder, which is to end well."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.timeout(240)
@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.document}: {block.heading}")
def test_commands_work_as_they_are_written(folder: Path, block: Block) -> None:
    program = f'nbbatch() {{ python -m nbbatch "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\n{block.commands}'
    run(["bash", "-euo", "pipefail", "-c", program], folder)


# --- schedulers -----------------------------------------------------------------------------------


def text_of(kind: str, name: str = "") -> str:
    """A block of the page on running unattended."""
    found = FENCE.findall((ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"))
    return next(text for each, file, text in found if (each, file) == (kind, name))


def setting(name: str) -> str:
    """What the unit says."""
    return re.findall(rf"^{name}=(.*)$", text_of("ini", "shop.service"), re.MULTILINE)[0]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("line", text_of("crontab").splitlines())
def test_lines_of_a_crontab_work(folder: Path, line: str) -> None:
    command = line.split(maxsplit=5)[5].replace("\\%", "%").replace("/srv/shop", str(folder))
    run(["sh", "-c", command], folder)
    if "run" in command:
        assert "COMPLETED" in (folder / "nightly.log").read_text()


@pytest.mark.timeout(240)
def test_what_the_unit_starts_works(folder: Path) -> None:
    shell, option, command = setting("ExecStart").split(maxsplit=2)
    run([shell, option, command.strip("'").replace("%%", "%")], folder)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_units_are_valid(folder: Path) -> None:
    for name in ("shop.service", "shop.timer"):
        unit = folder / "units" / name
        unit.parent.mkdir(exist_ok=True)
        unit.write_text((folder / name).read_text().replace("/srv/shop", str(folder)))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "./shop.service", "./shop.timer"], cwd=folder / "units", capture_output=True, text=True
    )  # fmt: skip

    assert checked.returncode == 0, checked.stderr


@pytest.mark.timeout(240)
def test_what_a_pod_starts_works(folder: Path) -> None:
    yaml = pytest.importorskip("yaml")
    _, job = yaml.safe_load_all(text_of("yaml", "job.yaml"))
    pod = job["spec"]["template"]["spec"]
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text_of("dockerfile", "Dockerfile"), re.MULTILINE)
    words = json.loads(entry)
    assert words[0] == "python"
    (folder / "data").mkdir(exist_ok=True)
    run([sys.executable, *words[1:], *(each.replace("/data", "data") for each in pod["containers"][0]["args"])], folder)

    assert (folder / "data" / "shop.duckdb").exists()
    codes = [
        code
        for rule in job["spec"]["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", [])
    ]
    assert {Exit(code) for code in codes} == {Exit.PUT_BACK, Exit.FAILED, Exit.WRONG_USE}


def inside(words: list[str], folder: Path) -> None:
    """Run in the folder what a container would run."""
    assert words[:1] == ["python"]
    run([sys.executable, *(each.replace("/data", "data") for each in words[1:])], folder)


@pytest.mark.timeout(240)
def test_what_a_container_starts_and_is_asked_works(folder: Path) -> None:
    document = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    steps = [line.split(maxsplit=1) for line in text_of("dockerfile", "Dockerfile").splitlines()]
    assert [word for word, _ in steps] == ["FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT"]
    told = dict(steps)
    (extra,) = re.findall(r"nbbatch\[(\w+)\]", told["RUN"])
    assert (
        extra
        in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    assert (folder / told["COPY"].split()[0]).exists()
    assert f"useradd --uid 1000 {told['USER']}" in told["RUN"]
    (built,) = re.findall(r"^docker build -t (\S+) \.$", document, re.MULTILINE)
    (started,) = re.findall(rf"^docker run .* {built} (.*)$", document, re.MULTILINE)
    (folder / "data").mkdir(exist_ok=True)
    inside([*json.loads(told["ENTRYPOINT"]), *shlex.split(started)], folder)
    asked = re.findall(r"(?:docker exec shop|kubectl exec \S+ --) (python [^\n`]*)", document)
    assert len(asked) == 2
    for each in asked:
        inside(shlex.split(each), folder)


def test_the_parts_of_a_pod_fit_together() -> None:
    yaml = pytest.importorskip("yaml")
    claim, job = yaml.safe_load_all(text_of("yaml", "job.yaml"))
    pod = job["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    (mount,) = container["volumeMounts"]

    assert (claim["kind"], job["kind"], job["apiVersion"]) == ("PersistentVolumeClaim", "Job", "batch/v1")
    assert claim["metadata"]["name"] == volume["persistentVolumeClaim"]["claimName"]
    assert mount["name"] == volume["name"]
    assert container["args"][2].startswith(f"{mount['mountPath']}/")
    assert container["image"] in re.findall(
        r"docker build -t (\S+)", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    )
    assert pod["restartPolicy"] == "Never"  # which a policy for failures of pods needs
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1000


def test_whoever_ends_a_run_waits_longer_than_the_grace() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    graces = [int(each) for each in re.findall(r'--grace[",\s]+(\d+)', text)]
    waits = [int(each) for each in re.findall(r"(?:TimeoutStopSec=|--stop-timeout |GracePeriodSeconds: )(\d+)", text)]

    assert len(graces) == len(waits) == 3
    assert max(graces) + 10 < min(waits)

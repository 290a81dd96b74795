"""``nbbatch run`` under a scheduler: told to end, it puts back what runs, and the same command goes on, wherever that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.shell import launching

MODULE = """
import os, time
from collections.abc import Iterable, Iterator
import nbbatch as nb

@nb.step
def numbers(count: int) -> Iterator[int]:
    yield from range(count)

@nb.step(max_attempts=1)
def slow(number: int) -> int:
    print("begun", number, file=open("begun", "a"))
    time.sleep(float(os.environ["SECONDS"]))
    return number

@nb.step
def total(found: Iterable[int]) -> int:
    return sum(found)

job = nb.Job("slow", numbers >> slow >> total)
"""
COMMAND = ["-m", "nbbatch", "run", "slow:job", "store.duckdb", "--count", "6", "--key", "k", "--workers", "2"]
ROOT = Path(__file__).parent.parent


class Run:
    """``nbbatch run``, as a process of its own or as the first one of a namespace with its own host name."""

    def __init__(self, folder: Path, seconds: float, *options: str, host: str | None = None) -> None:
        self._begun = folder / "begun"
        self._begun.unlink(missing_ok=True)
        command = [sys.executable, *COMMAND, *options]
        if host is not None:
            inside = f'hostname {host}; exec "$@"'
            command = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "sh", "-c", inside, "sh", *command]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": path, "SECONDS": str(seconds)}, stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.pid = self.process.pid

    def begun(self) -> None:
        """Until a step runs."""
        while not self._begun.exists():
            assert self.process.poll() is None, self.process.communicate()
            threading.Event().wait(0.02)

    def inner(self) -> int:
        """The process id of the first process of the namespace, from outside."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def end(self) -> tuple[int, str]:
        """Exit code and what it said on standard error."""
        said = self.process.communicate(timeout=50)[1]
        return self.process.returncode, said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(MODULE)
    return tmp_path


def charged(folder: Path) -> list[int]:
    """Errors that chunks are charged with."""
    with nb.look(folder / "store.duckdb") as look:
        return look.instance(1).chunks("slow")["errors"].to_list()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["threads", "processes"])
def test_a_run_that_is_told_to_end_puts_back_what_runs_and_exits_with_75(
    folder: Path, how: signal.Signals, options: tuple[str, ...]
) -> None:
    """R40"""
    run = Run(folder, 30, "--grace", "0.2", *options)
    run.begun()
    run.process.send_signal(how)
    code, said = run.end()

    assert code == 75, said
    assert charged(folder) == [0] * 6
    code, said = Run(folder, 0).end()
    assert code == 0, said
    with nb.look(folder / "store.duckdb") as look:
        assert look.instances().height == 1
        assert (look.instance(1).report, charged(folder)) == (15, [0] * 6)


def test_what_is_put_back_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R40"""
    with pytest.raises(SystemExit), launching.opened(folder / "store.duckdb"):
        raise SystemExit(75)

    assert "the rest is put back; the same command goes on" in capsys.readouterr().err


def test_what_ends_within_the_grace_is_stored(folder: Path) -> None:
    """R40"""
    run = Run(folder, 1, "--grace", "20")
    run.begun()
    run.process.terminate()

    assert run.end()[0] == 75
    with nb.look(folder / "store.duckdb") as look:
        assert 1 <= look.instance(1).chunks("slow", status="COMPLETED").height < 6


def has_namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "--pid", "--uts", "--fork", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not has_namespaces(), reason="no namespaces may be made here")
def test_a_container_that_is_evicted_goes_on_elsewhere_and_charges_nothing(folder: Path) -> None:
    """R40"""
    for number in range(3):
        run = Run(folder, 0.5, "--grace", "0.1" if number < 2 else "20", host=f"node{number}")
        run.begun()
        os.kill(run.inner(), signal.SIGTERM)
        code, said = run.end()
        assert code == 75, said
    code, said = Run(folder, 0, host="node9").end()

    assert code == 0, said
    with nb.look(folder / "store.duckdb") as look:
        assert (look.instance(1).report, charged(folder)) == (15, [0] * 6)

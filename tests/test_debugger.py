"""A failed chunk in the debugger: in a plain script, and in a notebook's kernel."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parent.parent
JOB = """
from collections.abc import Iterator
import nbbatch as nb

@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)

@nb.step(max_attempts=1)
def invert(n: int) -> None:
    half = n / 2
    print("inverting", n)
    1 / half

@nb.step(name="invert")
async def later(n: int) -> None:
    print("later", n)

batch = nb.open(":memory:", workers=2)
run = batch.submit(nb.Job("invert", numbers >> invert), 2)
run.wait(10)
chunk = run.chunk(run.failures()[0].example)
"""
SCRIPT = """
print("raised", type(chunk.debug().error).__name__)

@nb.step(name="invert")
def mended(n: int) -> None:
    breakpoint()
    print("mended", n)

print("gave", chunk.debug(mended).error)
print("left", type(chunk.debug(mended).error).__name__)
batch.close()
"""


def test_a_script_stops_at_the_raising_line_and_at_breakpoints(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(JOB + SCRIPT)
    typed = ["p half", "q", "p n + 40", "c", "q", "y"]  # from Python 3.14 on, to quit at a breakpoint is to leave
    done = subprocess.run(
        [sys.executable, str(script)], input="\n".join(typed) + "\n", capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, timeout=50,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    said = done.stdout.replace("(Pdb) ", "")
    assert said.startswith("inverting 0\n> "), said
    for part in ("invert()\n-> 1 / half\n0.0\n", "raised ZeroDivisionError\n", "\n40\nmended 0\n"):
        assert part in said
    assert "gave None\n" in said
    assert said.endswith(("left BdbQuit\n", "left SystemExit\n"))


class ThisPython(KernelManager):
    """Starts the kernel in the Python that runs the tests."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


Cell = Callable[..., str]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Any]:
    """A client of a kernel of its own."""
    manager = ThisPython()
    manager.start_kernel(
        cwd=str(tmp_path), env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    )
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(30)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def cell(kernel: Any) -> Cell:
    """Runs a cell, types what it asks for, and gives all that it shows."""

    def run(code: str, *typed: str) -> str:
        lines, shown = iter(typed), list[str]()

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            shown.append(
                content.get("text") or content.get("data", {}).get("text/plain", "") or content.get("ename", "")
            )

        kernel.execute_interactive(
            code, timeout=30, output_hook=show, stdin_hook=lambda _: kernel.input(next(lines)), allow_stdin=True
        )
        return re.sub(r"\x1b\[[0-9;]*m", "", "".join(shown))

    return run


def test_a_kernel_debugs_a_chunk_and_goes_back_to_it(cell: Cell) -> None:
    assert cell(JOB) == ""
    debugged = cell("chunk.debug()", "p half", "q")
    assert "invert()" in debugged
    assert "\n0.0\n" in debugged
    assert "half" in cell("%debug", "p half, n", "q")
    assert "ZeroDivisionError" in cell("chunk.replay().reraise()")
    assert "(0.0, 0)" in cell("%debug", "p half, n", "q")

    assert cell("print(chunk.replay(later).error, repr(chunk.replay(later).log))") == "None 'later 0\\n'\n"
    assert cell("batch.close()") == ""


def test_a_breakpoint_of_jupyterlab_stops_a_replay(kernel: Any, cell: Cell) -> None:
    numbers = count(1)

    def ask(command: str, **arguments: Any) -> Any:
        asked = {"type": "request", "seq": next(numbers), "command": command, "arguments": arguments}
        message = kernel.session.msg("debug_request", asked)
        kernel.control_channel.send(message)
        while (answer := kernel.control_channel.get_msg(timeout=30))["parent_header"]["msg_id"] != message["header"][
            "msg_id"
        ]:
            pass
        return answer["content"].get("body")

    cell("import polars, nbbatch.heal.failures")  # before the debugger traces what is imported
    ask("initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
    ask("attach")
    path = ask("dumpCell", code=JOB)["sourcePath"]
    cell(JOB)
    line = JOB.split("1 / half", maxsplit=1)[0].count("\n") + 1
    ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": line}], sourceModified=False)
    ask("configurationDone")
    kernel.execute("chunk.replay()")
    while (event := kernel.iopub_channel.get_msg(timeout=30)["content"]).get("event") != "stopped":
        pass
    thread = event["body"]["threadId"]
    frame = ask("stackTrace", threadId=thread)["stackFrames"][0]
    seen = ask("evaluate", expression="(n, half)", frameId=frame["id"])["result"]
    ask("continue", threadId=thread)

    assert (frame["name"], frame["line"], seen) == ("invert", line, "(0, 0.0)")

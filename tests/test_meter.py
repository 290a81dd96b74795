"""Laws of the progress line in scripts."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.pictures import progress_line
from nbbatch.pictures.progress_line import PlainLine, Reading
from tests.jobs import one_step, summing

READING = Reading("census #1", 5, 10, 0.5, " · about 3.0 s left")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Seen:
    """A line that keeps what it is shown."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.closed = False

    def show(self, reading: Reading) -> None:
        self.readings.append(reading)

    def close(self) -> None:
        self.closed = True


def test_on_a_terminal_the_line_is_drawn_over() -> None:
    stream = Terminal()
    line = PlainLine(stream)
    line.show(READING)
    line.show(READING._replace(done=6, share=0.6, eta=""))
    line.close()

    first, second = stream.getvalue().split("\r")[1:]
    assert first == "census #1: 5/10 chunks · 50% · about 3.0 s left"
    assert second.rstrip() == "census #1: 6/10 chunks · 60%"
    assert len(second) == len(first) + 1


def test_in_a_file_each_tenth_of_the_work_is_one_line() -> None:
    stream = io.StringIO()
    line = PlainLine(stream)
    for done in range(101):
        line.show(Reading("census #1", done, 100, done / 100, ""))
    line.close()

    assert stream.getvalue().count("\n") == 11


def test_the_last_reading_is_always_drawn() -> None:
    ending: Future[str] = Future()
    ending.set_result("done")
    seen = Seen()

    assert progress_line.watch(ending, lambda: READING, None, seen) == "done"
    assert seen.readings == [READING]
    assert seen.closed


def test_waiting_with_a_line_ends_as_waiting_does(batch: nb.Batch, capsys: pytest.CaptureFixture[str]) -> None:
    run = batch.submit(summing(), 5)

    assert run.wait(10, progress=True) is nb.InstanceStatus.COMPLETED
    assert re.search(r"7/7", capsys.readouterr().err)


def test_a_timeout_is_told_with_a_line_too(threaded: nb.Batch) -> None:
    hold = threading.Event()
    run = threaded.submit(one_step(lambda _: hold.wait(10)), 1)
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait(0.01, progress=True)
    hold.set()

    assert run.wait(10) is nb.InstanceStatus.COMPLETED


def test_without_tqdm_and_rich_the_line_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "find_spec", lambda _: None)

    assert isinstance(progress_line.line(), PlainLine)


@pytest.mark.parametrize(("library", "made"), [("tqdm", progress_line.TqdmLine), ("rich", progress_line.RichLine)])
def test_a_line_of_a_library_draws_the_counts(
    library: str, made: type[progress_line.Line], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    line = made()
    line.show(READING)
    line.close()

    assert re.search(r"census #1.*50%", capsys.readouterr().err, re.DOTALL)


INTERRUPTED = """
import os, signal, threading, nbbatch as nb
go, hold = threading.Event(), threading.Event()
@nb.step
def slow(n: int) -> None:
    go.set()
    hold.wait(20)
batch = nb.open({store!r})
run = batch.submit(nb.Job("slow", slow), 1)
go.wait(20)
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    run.wait(20, progress=True)
except KeyboardInterrupt as stop:
    print(*stop.__notes__, run.status)
hold.set()
print(run.wait(20))
batch.close()
"""


def test_an_interrupt_ends_the_waiting_and_not_the_run(store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(store=str(store))],
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert done.stdout == "instance 1 goes on in the background; run.cancel() ends it IN_PROGRESS\nCOMPLETED\n", (
        done.stderr
    )

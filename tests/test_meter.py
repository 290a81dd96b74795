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
from nbbatch.pictures.progress_line import Line, Reading
from tests.jobs import one_step, summing

READING = Reading("census #1", 5, 10, 0.5, "about 3.0 s left")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_tqdm_draws_a_bar_over_itself() -> None:
    pytest.importorskip("tqdm")
    line = Line(stream := Terminal())
    line.show(READING)
    line.show(READING._replace(done=6, share=0.6, eta=""), last=True)

    drawn = [each for each in stream.getvalue().split("\r") if "census" in each]
    assert re.fullmatch(r"census #1:  50%\|.+\| 5/10 chunks \[00:00, about 3.0 s left\] *", drawn[0])
    assert re.search(r"6/10 chunks \[00:00\]\s*$", drawn[-1])
    assert stream.getvalue().count("\n") == 1


def test_on_a_terminal_without_tqdm_the_lines_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    line = Line(stream := Terminal())
    line.show(READING)
    line.show(READING, last=True)

    assert stream.getvalue() == "census #1: 5/10 chunks · 50% · about 3.0 s left\n"


def test_in_a_file_each_tenth_of_the_work_is_one_line() -> None:
    line = Line(stream := io.StringIO())
    for done in range(101):
        line.show(READING._replace(done=done, total=100, share=done / 100))

    assert stream.getvalue().count("\n") == 11


def test_in_a_file_a_long_listing_is_one_line_for_each_digit_of_what_it_has_given() -> None:
    line = Line(stream := io.StringIO())
    for given in range(0, 2_500, 50):
        line.show(Reading("census #1", 0, 1, 0.0, "", given))

    assert stream.getvalue().splitlines() == [
        f"census #1: 0/1 chunks · 0%{said}"
        for said in ("", " · 50 given so far", " · 100 given so far", " · 1,000 given so far")
    ]


def test_in_a_notebook_without_widgets_the_lines_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "in_notebook", lambda: True)
    monkeypatch.setattr(progress_line, "find_spec", lambda _: None)
    line = Line(stream := io.StringIO())
    for done in range(101):
        line.show(READING._replace(done=done, total=100, share=done / 100), last=done == 100)

    assert "\r" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 11


def test_in_a_file_the_last_reading_is_printed_though_no_tenth_was_reached() -> None:
    line = Line(stream := io.StringIO())
    line.show(READING)
    line.show(READING._replace(label="census #1 FAILED", done=6, share=0.51), last=True)

    assert stream.getvalue().splitlines()[-1].startswith("census #1 FAILED: 6/10")


def test_the_last_reading_is_always_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    ending: Future[str] = Future()
    ending.set_result("done")

    assert progress_line.watch(ending, lambda: READING, None) == "done"
    assert "5/10" in capsys.readouterr().err


class Full(io.StringIO):
    """What stands for a file on a full disk, or a terminal that was closed."""

    def write(self, _: str) -> int:
        raise OSError("nothing can be written any more")


@pytest.mark.parametrize("stream", [Full(), None])
def test_a_line_that_cannot_be_drawn_ends_no_waiting(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending: Future[str] = Future()
    ending.set_result("done")
    monkeypatch.setattr(sys, "stderr", stream)

    assert progress_line.watch(ending, lambda: READING, None) == "done"


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

"""The streams that stand for ``sys.stdout`` and ``sys.stderr`` while steps may run."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest

import nbbatch as nb
from tests.jobs import one_step


@contextmanager
def standing_for(name: str, path: Path) -> Generator[TextIO]:
    """Have a file be `sys.stdout` or `sys.stderr`; not in a fixture, as pytest sets them anew before each test."""
    usual = getattr(sys, name)
    with path.open("w", encoding="latin-1", errors="replace", newline="\n") as file:
        setattr(sys, name, file)
        try:
            yield file
        finally:
            setattr(sys, name, usual)


def asked(stream: TextIO) -> dict[str, Any]:
    """What libraries ask of a standard stream."""
    facts: dict[str, Any] = {
        name: getattr(stream, name)
        for name in ("encoding", "errors", "newlines", "line_buffering", "name", "mode", "closed", "buffer")
    }
    facts |= {
        name: getattr(stream, name)() for name in ("fileno", "isatty", "writable", "readable", "seekable", "tell")
    }
    return facts | {
        "types": [isinstance(stream, kind) for kind in (io.TextIOWrapper, io.TextIOBase, io.IOBase, io.RawIOBase)]
    }


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_standard_stream_stays_a_whole_file_while_a_batch_is_open(name: str, batch: nb.Batch, tmp_path: Path) -> None:
    """C40"""
    with standing_for(name, tmp_path / "out") as file:
        before = asked(file)
        run = batch.submit(one_step(lambda n: print("to the attempt", file=getattr(sys, name))), 1)
        run.wait(10)
        stream = getattr(sys, name)

        assert stream is not file
        assert asked(stream) == before
        assert "to the attempt" in run.logs()["text"][0]
        subprocess.run([sys.executable, "-c", "print('from a process')"], stdout=stream, check=True)
        stream.writelines(["a line ", "of two parts\n"])
        stream.reconfigure(line_buffering=True)
        assert file.line_buffering
    assert (tmp_path / "out").read_text() == "from a process\na line of two parts\n"


def test_a_step_is_refused_what_no_text_stream_takes(batch: nb.Batch, tmp_path: Path) -> None:
    """C40"""
    with standing_for("stdout", tmp_path / "out"):
        run = batch.submit(one_step(lambda n: sys.stdout.write(b"bytes"), max_attempts=1), 1)  # pyright: ignore[reportArgumentType]

        assert run.wait(10) == "FAILED"
    assert run.errors()["error_type"].to_list() == ["TypeError"]


def test_a_stream_that_is_no_longer_used_closes_nothing(store: Path, tmp_path: Path) -> None:
    """C40"""
    with standing_for("stdout", tmp_path / "out") as file:
        with nb.open(store, executor=nb.inline()) as batch:
            batch.submit(one_step(lambda n: None), 1).wait(10)
            sys.stdout = file  # what a cell does that wants its output back
        gc.collect()

        assert not file.closed

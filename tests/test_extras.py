"""What is stored with an instance beside its parameters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from tests.jobs import drop, each, numbers, one_step, total
from tests.kit import HandClock, settle


@nb.step
def line(number: int) -> int:
    with nb.context().attachment("table") as table:
        return int(table.read().split()[number])


look_up = nb.Job("look_up", numbers >> line >> total)


@pytest.mark.parametrize(
    "make", [nb.inline, lambda: nb.threads(2), lambda: nb.processes(1)], ids=["inline", "threads", "processes"]
)
def test_steps_open_what_was_attached_wherever_they_run(store: Path, tmp_path: Path, make: Any) -> None:
    table = tmp_path / "table.txt"
    table.write_text("10 20 30")
    executor = make()
    with nb.open(store, executor=executor) as batch:
        run = batch.submit(look_up, 3, attach={"table": table, "other": b"x"})
        table.unlink()

        assert run.result(20) == 60
        assert run.attachments().select("name", "bytes").rows() == [("table", 8), ("other", 1)]
        assert run.attachments(as_of="1 h ago").is_empty()
        assert run.attachment("table") == b"10 20 30"
    executor.shutdown()


def test_attachments_outlive_the_process_that_brought_them(store: Path, clock: HandClock) -> None:
    """S2"""
    waits = True

    def read(value: int) -> None:
        if waits:
            raise nb.RetryLater(60)
        with nb.context().attachment("a") as file:
            assert file.read() == b"kept"

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(one_step(read), 1, attach={"a": b"kept"})
        settle(batch)
    waits = False
    clock.advance(60)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.submit(one_step(read), 1).wait(10) == "COMPLETED"


READER = """
import os, sys
import nbbatch as nb

@nb.step
def read(n: int) -> None:
    assert nb.context().attachment("a").read() == b"precious"
    os.write(1, b"read")
    sys.stdin.read()

nb.open(sys.argv[1], executor=nb.inline()).submit(nb.Job("read", read), 1, attach={"a": b"precious"}).wait()
"""


@contextmanager
def reading(folder: Path) -> Generator[None]:
    """A process that has an attachment open, with a place of its own for temporary files; killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(folder / "store.duckdb")], env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.read(4) == b"read"
            yield
        finally:
            process.kill()


def test_what_a_killed_process_leaves_of_attachments_is_removed_by_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R37"""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with reading(tmp_path):
        (folder,) = tmp_path.glob("nbbatch-attachments-*")
        modes = {oct(each.stat().st_mode & 0o777) for each in (folder, *folder.iterdir())}
        nb.open(":memory:").close()

        assert (folder / "0").read_bytes() == b"precious"  # it is in use
        assert modes == {"0o700", "0o600"}
    nb.open(":memory:").close()
    assert not folder.exists()


def test_an_attachment_that_is_not_there_fails_the_chunk_and_names_those_there_are(batch: nb.Batch) -> None:
    run = batch.submit(one_step(lambda value: nb.context().attachment("b")), 1, attach={"a": b""})

    assert run.wait(10) == "FAILED"
    assert run.errors()["error"].to_list() == ["the instance has no attachment 'b'; it has 'a'"]
    with pytest.raises(nb.NotFoundError, match="has no attachment 'b'"):
        run.attachment("b")


def test_the_same_submit_with_the_same_attachments_finds_the_instance_and_with_others_is_refused(
    batch: nb.Batch,
) -> None:
    """S5"""

    def later(value: int) -> None:
        raise nb.RetryLater(60)

    run = batch.submit(one_step(later), 1, attach={"a": b"1"})

    assert batch.submit(one_step(later), 1, attach={"a": b"1"}).id == run.id
    with pytest.raises(nb.StateError, match="was submitted with another content of a"):
        batch.submit(one_step(later), 1, attach={"a": b"2"})
    assert batch.instances().height == 1


def test_what_cannot_be_stored_with_an_instance_is_said_at_once_and_nothing_is_stored(batch: nb.Batch) -> None:
    """S1"""
    with pytest.raises(nb.ParameterError) as refused:
        batch.submit(each(print), 1, attach={"a": Path("nowhere"), " ": b""}, user_data={"x": {1}})

    assert len(refused.value.problems) == 3
    assert batch.instances().height == 0


def test_user_data_comes_back_and_may_be_replaced(batch: nb.Batch) -> None:
    def later(value: int) -> None:
        raise nb.RetryLater(60)

    run = batch.submit(one_step(later), 1, user_data={"ticket": 7, "who": ["Ann", None]})
    assert run.user_data == {"ticket": 7, "who": ["Ann", None]}
    batch.submit(one_step(later), 1, user_data={"ticket": 8})

    assert run.user_data == {"ticket": 8}
    assert batch.submit(one_step(later), 2).user_data == {}


def test_an_instance_without_extras_has_empty_frames_of_the_same_shape(batch: nb.Batch) -> None:
    """V1"""
    bare, full = batch.submit(nb.Job("bare", drop), 1), batch.submit(nb.Job("full", drop), 1, attach={"a": b""})

    assert bare.attachments().schema == full.attachments().schema
    assert (bare.attachments().height, full.attachments().height) == (0, 1)

"""A store's file gives back what was purged, and does not grow by being opened; nothing is lost whatever happens meanwhile."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.store import rewriting
from tests.jobs import numbers, summing


@nb.step
def noise(i: int) -> str:
    return random.Random(i).randbytes(20_000).hex()  # does not compress


@nb.step
def take(text: str) -> int:
    return len(text)


@nb.step
def drop(length: int) -> None: ...


noisy = nb.Job("noisy", numbers >> noise >> take >> drop)


def filled(store: Path) -> None:
    """A store with a big run and a small one; the big one is purged, and the store is not closed yet when this returns."""
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(noisy, 200).wait()
        batch.submit(summing(), 5).wait()


def purged(store: Path) -> None:
    """Purge the big one and close."""
    with nb.open(store) as batch:
        assert batch.purge(older_than=0, job="noisy") == 1


def seen(store: Path) -> list[pl.DataFrame]:
    """All that a store tells of the small run."""
    with nb.look(store) as look:
        run = look.instance(2)
        return [look.instances(), run.steps(), run.chunks(), run.attempts(), run.history()]


def left_over(store: Path) -> list[str]:
    return [each.name for each in store.parent.iterdir() if each != store]


def test_a_purge_of_a_third_is_given_back_at_once(store: Path) -> None:
    """L12"""
    with nb.open(store, executor=nb.inline()) as batch:
        for count in (75, 150):
            batch.submit(noisy, count).wait()
    size = store.stat().st_size
    with nb.open(store) as batch:
        assert batch.purge(keep_last=1) == 1
    assert store.stat().st_size < 0.8 * size


def test_the_file_gives_back_what_was_purged_and_keeps_the_rest_as_it_was(store: Path) -> None:
    """L12"""
    filled(store)
    before, size = seen(store), store.stat().st_size
    store.chmod(0o640)
    purged(store)

    assert store.stat().st_size < size / 2
    assert store.stat().st_mode & 0o777 == 0o640
    assert left_over(store) == []
    after = seen(store)
    assert after[0].equals(before[0].filter(id=2))
    assert all(a.equals(b) for a, b in zip(after[1:], before[1:], strict=True))
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(summing(), 4)
        assert (run.result(), run.id, run.chunks()["id"].min()) == (12, 3, before[2]["id"].max() + 1)  # type: ignore[operator]


def test_a_store_does_not_grow_by_being_opened_and_closed(store: Path) -> None:
    """L12"""
    sizes: list[int] = []
    for _ in range(12):
        with nb.open(store, executor=nb.inline()) as batch:
            batch.submit(summing(), 3, new=True).wait()
        sizes.append(store.stat().st_size)

    assert max(sizes) < 3 * sizes[0]
    with nb.open(store) as batch:
        assert batch.instances()["id"].to_list() == [*range(12, 0, -1)]


def test_a_file_that_is_full_is_left_as_it_is(store: Path) -> None:
    filled(store)
    number = store.stat().st_ino
    with nb.open(store) as batch:
        batch.purge(older_than=0, job="summing")

    assert store.stat().st_ino == number


CHILD = """
import os, signal, sys
from nbbatch.store import rewriting
from tests.test_rewriting import purged
from pathlib import Path

store, point = Path(sys.argv[1]), sys.argv[2]
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if point == "folder made":
    rewriting._rewrite = kill
elif point == "copied":
    rewriting.share_as = kill
elif point == "on the disk":
    rewriting._state = lambda path, asked=[]: kill() if asked else asked.append(1)
elif point == "replaced":
    rewriting._sync_folder = kill
purged(store)
"""


@pytest.mark.parametrize("point", ["folder made", "copied", "on the disk", "replaced"])
def test_a_process_that_is_killed_while_it_writes_the_file_anew_loses_nothing(store: Path, point: str) -> None:
    """R1"""
    filled(store)
    before = seen(store)
    ended = subprocess.run([sys.executable, "-c", CHILD, str(store), point])

    assert ended.returncode == -signal.SIGKILL
    with nb.open(store, executor=nb.inline()) as batch:
        assert batch.instances()["id"].to_list() == [2]
        assert batch.instance(2).report == 20
    assert all(a.equals(b) for a, b in zip(seen(store)[1:], before[1:], strict=True))
    assert left_over(store) == []


def opening(store: Path) -> str:
    """What another process is told that opens the store."""
    code = f"import nbbatch as nb; nb.open({str(store)!r}).close(); print('opened')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return ran.stdout + ran.stderr


def test_nobody_opens_the_store_while_its_file_is_written_anew(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)
    said: list[str] = []
    share_as = rewriting.share_as

    def asking(path: Path, number: int) -> None:
        said.append(opening(store))
        share_as(path, number)

    monkeypatch.setattr(rewriting, "share_as", asking)
    purged(store)

    assert len(said) == 1
    assert "StoreLocked" in said[0]
    assert opening(store) == "opened\n"


def test_a_store_that_somebody_opened_meanwhile_is_left_to_them(store: Path) -> None:
    filled(store)
    code = f"import nbbatch as nb; b = nb.open({str(store)!r}); print('open', flush=True); input(); b.close(); print('well')"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "open\n"
        number = store.stat().st_ino
        rewriting.rewrite(store)
        assert store.stat().st_ino == number
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "well\n"
    assert left_over(store) == []


def test_a_file_with_another_name_and_one_with_a_log_are_left_as_they_are(store: Path) -> None:
    filled(store)
    number = store.stat().st_ino
    store.with_name("other").hardlink_to(store)
    rewriting.rewrite(store)
    assert store.stat().st_ino == number
    store.with_name("other").unlink()
    log = Path(f"{store}.wal")
    log.write_bytes(b"something")
    rewriting.rewrite(store)
    assert (store.stat().st_ino, log.read_bytes()) == (number, b"something")
    log.unlink()
    rewriting.rewrite(store)
    assert store.stat().st_ino != number


def test_a_folder_without_room_keeps_the_file_as_it_is(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rewriting, "share_as", full)
    purged(store)

    assert left_over(store) == []
    assert seen(store)[0]["id"].to_list() == [2]


def test_somebody_elses_folder_of_that_name_is_left_alone(store: Path) -> None:
    folder = rewriting._folder(store)
    folder.mkdir()
    (folder / "mine").write_text("mine")
    filled(store)
    purged(store)

    assert (folder / "mine").read_text() == "mine"
    assert [each.name for each in folder.iterdir()] == ["mine"]

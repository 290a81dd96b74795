"""Opening and closing, interrupted, failed or in the way of each other: nothing stays open, nothing of others is touched."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nbbatch as nb
from nbbatch.engine.settle import Changes
from nbbatch.engine.updates import CallUpdate
from nbbatch.store import connection, writing
from nbbatch.worker import executors, running
from tests.jobs import each, one_step, summing
from tests.kit import HandClock, engine

LONG = "SELECT count(*) FROM range(100_000_000_000) a, range(100) b"


def opens(store: Path) -> None:
    """Show that a store can be opened and works."""
    with nb.open(store, nb.inline()) as batch:
        assert batch.submit(summing(), 3).result(10) == 6


# --- the file of marks -----------------------------------------------------------------------------


def _link(at: Path, mine: Path) -> None:
    at.symlink_to(mine)


def _dangling(at: Path, mine: Path) -> None:
    mine.unlink()
    at.symlink_to(mine)


def _loop(at: Path, mine: Path) -> None:
    at.symlink_to(at)


def _socket(at: Path, mine: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(at))


OTHERS: dict[str, Callable[[Path, Path], Any]] = {
    "link": _link,
    "dangling link": _dangling,
    "loop of links": _loop,
    "hard link": lambda at, mine: at.hardlink_to(mine),
    "text": lambda at, mine: at.write_text("my notes"),
    "empty": lambda at, mine: at.touch(),
    "as long": lambda at, mine: at.write_bytes(bytes(running._SIZE)),
    "folder": lambda at, mine: at.mkdir(),
    "pipe": lambda at, mine: os.mkfifo(at),
    "socket": _socket,
}


def _seen(path: Path) -> Any:
    found = path.lstat()
    content = path.read_bytes() if path.is_file() else path.readlink() if path.is_symlink() else None
    return found.st_mode, found.st_ino, found.st_size, content


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_others_where_the_marks_go_is_left_alone(kind: str, tmp_path: Path) -> None:
    """R30"""
    store, mine, at = tmp_path / "s", tmp_path / "mine", tmp_path / "s.running"
    nb.open(store).close()
    mine.write_text("precious")
    OTHERS[kind](at, mine)
    before = [_seen(path) for path in (at, mine) if os.path.lexists(path)]

    for _ in range(2):
        with pytest.raises(nb.StoreUnreadable, match=r"s\.running is in the way.*move it away"):
            nb.open(store)
    assert [_seen(path) for path in (at, mine) if os.path.lexists(path)] == before
    at.rmdir() if kind == "folder" else at.unlink()
    opens(store)


OTHER_USER = """
import os, sys, nbbatch as nb
nb.open(":memory:").close()  # imports what is needed while it can be read
if not os.getuid():
    os.setgid(65534)
    os.setuid(65534)
try:
    nb.open(sys.argv[1])
except nb.StoreUnreadable as error:
    print(error)
os.chmod(sys.argv[1] + ".running", 0o600) if os.getuid() != 65534 else os.remove(sys.argv[1] + ".running")
nb.open(sys.argv[1]).close()
print("opened")
"""


def test_marks_that_this_user_cannot_read_are_told(tmp_path: Path) -> None:
    """R30"""
    store = tmp_path / "s"
    die = "import os, sys, nbbatch as nb; nb.open(sys.argv[1], nb.inline()); os._exit(0)"
    subprocess.run([sys.executable, "-c", die, str(store)], check=True)
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o777)
    Path(f"{store}.running").chmod(0o000)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    told = subprocess.run([sys.executable, "-c", OTHER_USER, str(store)], capture_output=True, text=True).stdout

    assert "s.running was left by an earlier process and cannot be read: Permission denied" in told
    assert told.endswith("opened\n")


def test_what_a_killed_process_left_half_made_is_made_anew(store: Path) -> None:
    """R30"""
    nb.open(store).close()
    Path(f"{store}.running.new").touch()
    opens(store)

    assert sorted(path.name for path in store.parent.iterdir()) == [store.name]


def test_closing_leaves_alone_what_took_the_place_of_the_marks(store: Path) -> None:
    """R30"""
    with nb.open(store, nb.inline()):
        marks = Path(f"{store}.running")
        marks.unlink()
        marks.write_text("my notes")

    assert marks.read_text() == "my notes"


# --- no room ---------------------------------------------------------------------------------------


@pytest.fixture
def small() -> Iterator[Callable[[int], None]]:
    """Sets the size that files may have, as a full disk would."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, usual[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("most", [0, 4_096, 30_000])
@pytest.mark.parametrize("is_new", [True, False])
def test_where_there_is_no_room_opening_raises_and_later_works(
    store: Path, most: int, is_new: bool, small: Callable[[int], None]
) -> None:
    """R31"""
    if not is_new:
        nb.open(store).close()
    before = {path.name for path in store.parent.iterdir()}
    small(most)
    with pytest.raises(nb.StoreError):
        nb.open(store)
    small(resource.RLIM_INFINITY)

    assert {path.name for path in store.parent.iterdir()} <= before | ({f"{store.name}.wal"} if not is_new else set())
    opens(store)


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, r"\. Free disk space\."), (errno.EACCES, "permissions of its folder")]
)
def test_what_keeps_a_store_from_opening_is_told_with_what_helps(number: int, advice: str) -> None:
    """R31"""
    told = str(connection.unreadable("s", OSError(number, os.strerror(number))))

    assert re.search(advice, told)
    assert "Restore" not in told


# --- interrupted -----------------------------------------------------------------------------------


class Interrupted(HandClock):
    """A clock at whose n-th reading somebody presses Ctrl-C; at 0 when the engine asks to be woken by it."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def now(self) -> int:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().now()

    def subscribe(self, wake: Callable[[], None]) -> None:
        if self.left < 0:
            raise KeyboardInterrupt
        super().subscribe(wake)


@pytest.mark.parametrize("at", [1, 2, 0])
def test_an_opening_that_is_interrupted_leaves_nothing_open(at: int, store: Path) -> None:
    """R31"""
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        nb.open(store, clock=Interrupted(at))

    assert threading.active_count() == threads
    opens(store)


class Stuck:
    """A job whose step holds until it is let go."""

    def __init__(self) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        self.job = one_step(self._hold)

    def _hold(self, value: int) -> None:
        self.begun.set()
        self.gate.wait(30)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.gate.set()


def _interrupt_when(true: Callable[[], bool]) -> threading.Thread:
    """Press Ctrl-C for the main thread as soon as something is the case and it waits: between two calls Python is deaf."""
    state = Path(f"/proc/self/task/{threading.main_thread().native_id}/stat")

    def watch() -> None:
        while not true() or (state.exists() and state.read_text().rpartition(") ")[2][0] != "S"):
            pass
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("again", [True, False])
def test_a_close_that_is_interrupted_lets_the_store_go(again: bool, store: Path, stuck: Stuck) -> None:
    """R31"""
    batch = nb.open(store)
    run = batch.submit(stuck.job, 1)
    assert stuck.begun.wait(10)
    watch = _interrupt_when(lambda: engine(batch)._stopping)
    with pytest.raises(KeyboardInterrupt):
        batch.close()
    watch.join()
    if again:
        batch.close()

    stuck.gate.set()
    with nb.open(store) as batch:
        assert batch.submit(stuck.job, 1).id == run.id
        assert batch.instance(run.id).wait(10) == "COMPLETED"


def test_an_opening_waits_for_a_close_that_goes_on(store: Path, stuck: Stuck) -> None:
    """R31"""
    batch = nb.open(store)
    run = batch.submit(stuck.job, 1)
    assert stuck.begun.wait(10)
    closer = threading.Thread(target=batch.close)
    closer.start()
    while not engine(batch)._stopping:
        pass
    opened: list[nb.Batch] = []
    opener = threading.Thread(target=lambda: opened.append(nb.open(store)))
    opener.start()
    stuck.gate.set()
    opener.join(10)

    with opened[0] as after:
        assert after is not batch
        assert after.instance(run.id).status == "COMPLETED"
    closer.join()


def in_turn(batch: nb.Batch, write: Callable[[], None]) -> None:
    """Have the dispatcher write something in its next transaction."""
    dispatcher = engine(batch)
    call = partial(dispatcher.call, lambda: dispatcher.pending.append(CallUpdate(Changes(writes=[write]))))
    threading.Thread(target=suppressed, args=(call,)).start()


def suppressed(call: Callable[[], Any]) -> None:
    with suppress(nb.StoreError):
        call()


def test_a_transaction_longer_than_the_timeout_is_written_before_the_store_is_let_go(store: Path) -> None:
    """R31"""
    batch = nb.open(store)
    begun, gate = threading.Event(), threading.Event()
    kept = batch._store

    def write() -> None:
        begun.set()
        gate.wait(30)
        kept.keep_code("long", "a step", "source", 0)

    in_turn(batch, write)
    assert begun.wait(10)
    closer = threading.Thread(target=batch.close, args=(0,))
    closer.start()
    while not kept._closing:
        pass
    gate.set()
    closer.join(10)

    with nb.open(store) as batch:
        assert batch.sql("SELECT step FROM code").item() == "a step"


def test_a_transaction_that_does_not_end_is_interrupted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R31"""
    monkeypatch.setattr(writing, "COMMIT_SECONDS", 0.1)
    batch = nb.open(store)
    begun = threading.Event()
    kept = batch._store

    def write() -> None:
        begun.set()
        kept._con.execute(LONG).fetchall()

    in_turn(batch, write)
    assert begun.wait(10)
    batch.close(0)

    opens(store)


@pytest.mark.parametrize("how", ["swallows", "blocks"])
def test_an_async_step_that_does_not_end_by_its_cancellation_holds_no_store(
    how: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R31"""
    monkeypatch.setattr(executors, "CANCEL_SECONDS", 0.3)
    begun, gate = threading.Event(), threading.Event()

    async def swallow(value: int) -> None:
        begun.set()
        while not gate.is_set():
            try:
                await asyncio.sleep(0.01) if how == "swallows" else gate.wait(30)
            except asyncio.CancelledError:
                continue

    @nb.step
    async def only(value: int) -> None:
        await swallow(value)

    batch = nb.open(store)
    batch.submit(nb.Job("only", only), 1)
    assert begun.wait(10)
    batch.close(0)

    opens(store)
    gate.set()


# --- the end of the process -------------------------------------------------------------------------

SCRIPTS = {
    "thread": "def hang(value: int) -> None: begun.set(); time.sleep(1000)",
    "aside": "async def hang(value: int) -> None: begun.set(); await asyncio.to_thread(time.sleep, 1000)",
    "async": "async def hang(value: int) -> None: begun.set(); time.sleep(1000)",
}
SCRIPT = """
import asyncio, sys, threading, time, nbbatch as nb
sys.modules["nbbatch.batch"].EXIT_SECONDS = 0.5
begun = threading.Event()
{step}
batch = nb.open(sys.argv[1])
run = batch.submit(nb.Job("hang", nb.step(hang)), 1)
begun.wait(10)
{more}
"""


@pytest.mark.parametrize("more", ["", "batch.close(0.1)", "raise ValueError"])
@pytest.mark.parametrize("step", SCRIPTS)
def test_a_step_that_hangs_does_not_keep_a_process_from_ending(step: str, more: str, store: Path) -> None:
    """R32"""
    code = SCRIPT.format(step=SCRIPTS[step], more=more)
    ended = subprocess.run([sys.executable, "-c", code, str(store)], timeout=30, capture_output=True, text=True)

    assert ended.returncode == (1 if more.startswith("raise") else 0)
    assert not ended.stderr or more.startswith("raise")
    assert "leaked" not in ended.stderr
    with nb.open(store) as batch:
        assert batch.recovered == (1, 0, 0)
        assert batch.instance(1).status == "IN_PROGRESS"


# --- one file, several names ------------------------------------------------------------------------


def test_what_this_process_reads_costs_it_no_store(store: Path, tmp_path: Path) -> None:
    """R10"""
    other = "import sys, nbbatch as nb\ntry: nb.open(sys.argv[1])\nexcept nb.StoreLocked as error: print(error.pid)"
    with nb.open(store, nb.inline()) as batch:
        batch.submit(summing(), 3).wait()
        shutil.copytree(store.parent, tmp_path / "copied")
        child = os.fork()  # which lives on a while, and keeps nothing
        if not child:  # pragma: no cover
            try:
                nb.open(store)
            except nb.StoreLocked as error:
                os._exit(int(error.pid != os.getppid()))
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        told = subprocess.run([sys.executable, "-c", other, str(store)], capture_output=True, text=True)
        assert told.stdout == f"{os.getpid()}\n", told.stderr


ORPHANED = """
import os, signal, sys, nbbatch as nb
nb.open(sys.argv[1])
read, write = os.pipe()
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


def test_a_child_that_outlives_a_killed_process_keeps_no_store(store: Path) -> None:
    """R10"""
    with subprocess.Popen([sys.executable, "-c", ORPHANED, str(store)], stdin=subprocess.PIPE) as killed:
        killed.wait()
        opens(store)
        assert not Path(f"{store}.running").exists()
        killed.stdin.close()


def test_a_file_that_is_replaced_before_it_is_locked_is_not_the_one_that_is_opened(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R10"""
    with nb.open(store, nb.inline()) as batch:
        batch.submit(summing(), 3).wait()
    connect, moments = duckdb.connect, ["opened"]

    def late(path: str, **options: Any) -> duckdb.DuckDBPyConnection:
        opened = connect(path, **options)
        if path == str(store) and moments:
            moments.pop()
            shutil.copy(store, f"{store}.new")
            Path(f"{store}.new").replace(store)
        return opened

    monkeypatch.setattr(duckdb, "connect", late)
    with nb.open(store, nb.inline()) as batch:
        batch.submit(summing(), 4).wait()
    monkeypatch.undo()
    with nb.open(store) as batch:
        assert batch.instances()["id"].to_list() == [2, 1]


BUSY = """
import sys, threading, nbbatch as nb
from contextlib import suppress

rounds = [threading.Semaphore(0), threading.Semaphore(0)]

def go(path, done):
    while True:
        with nb.open(path, nb.inline()) as batch, suppress(nb.StoreError):
            batch.backup(path + ".copy", overwrite=True)
        done.release()

for number, done in enumerate(rounds):
    threading.Thread(target=go, args=(sys.argv[1] + str(number), done), daemon=True).start()
for done in rounds:
    done.acquire()
sys.exit(5)
"""


def test_a_process_that_ends_while_its_threads_open_and_copy_stores_ends_as_it_says(store: Path) -> None:
    """R10"""
    ended = subprocess.run([sys.executable, "-c", BUSY, str(store)], capture_output=True, text=True)

    assert ended.returncode == 5, ended.stderr


def test_a_store_under_another_name_is_the_same_batch(tmp_path: Path) -> None:
    """R3"""
    store = tmp_path / "real" / "s.duckdb"
    store.parent.mkdir()
    nb.open(store).close()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "link").symlink_to(store)
    (tmp_path / "hard").hardlink_to(store)
    with nb.open(tmp_path / "hard") as batch:
        for name in ("real/s.duckdb", "folder/s.duckdb", "link"):
            assert nb.open(tmp_path / name) is batch


def test_a_store_is_not_opened_beside_a_log_that_lies_under_its_other_name(tmp_path: Path) -> None:
    """R3"""
    store, other = tmp_path / "s", tmp_path / "other"
    code = "import os, sys, nbbatch as nb; nb.open(sys.argv[1], nb.inline()); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(store)], check=True)
    other.hardlink_to(store)

    for how in (nb.open, nb.look):
        with pytest.raises(nb.StoreUnreadable, match=r"another name of .*s, beside which s\.wal"):
            how(other)
    opens(store)
    opens(other)


def test_a_pool_that_is_used_for_a_second_opening_keeps_its_time_limits(store: Path) -> None:
    """C20"""
    pool = nb.processes(1)
    for _ in range(2):
        with nb.open(store, pool) as batch:
            run = batch.submit(each(lambda value: signal.pause() and None, timeout=0.5, max_attempts=1), 1, new=True)
            assert run.wait(50) == "FAILED"
            assert run.errors()["error_type"].to_list() == ["TimeoutError"]
    pool.shutdown(wait=True)

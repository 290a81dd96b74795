"""Opening, closing, and what a dead process leaves behind. Real kills are in tests/crash."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nbbatch as nb
from nbbatch.base import locks
from nbbatch.base.rows import ChunkRow, ClaimRow, EventRow
from nbbatch.base.states import CHUNK_ENDED, ChunkStatus
from nbbatch.engine import recovery
from nbbatch.store import queries, rewriting
from nbbatch.store.connection import LONGEST_NAME
from nbbatch.store.database import Store
from tests.jobs import double, each, numbers, one_step, summing, total
from tests.kit import HandClock, count, engine, settle, statuses


class Foreign(Executor):
    """One of another library, which does not tell how many workers it has."""


def abandon(batch: nb.Batch) -> None:
    """Leave a batch as a killed process would: nothing drained, the file let go."""
    batch._access.closed = True
    engine = batch._engine
    engine._stopping = True
    engine.flights.clear()
    engine.wake()
    engine._thread.join(10)
    batch._store.close()
    locks.let_go(batch._marks._lock)
    batch._forget()


def lose(store: Path, clock: HandClock, job: nb.Job[int, Any], started: threading.Event, params: int = 1) -> None:
    """Run a job until its step has started, then lose the process."""
    batch = nb.open(store, workers=1, clock=clock)
    batch.submit(job, params)
    assert started.wait(10)
    abandon(batch)


def test_a_claimed_chunk_is_queued_again_with_the_lost_attempt_on_record(store: Path, clock: HandClock) -> None:
    """R1"""
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []

    def work(n: int) -> None:
        runs.append(n)
        started.set()
        if len(runs) == 1:
            release.wait(10)

    lose(store, clock, one_step(work), started)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.recovered == (1, 1, 0)
        run = batch.instance(1)
        assert statuses(run) == ["QUEUED"]
        assert run.attempts().select("attempt", "status", "error_type").rows() == [(1, "ERRORED", "ProcessDied")]
        (run,) = batch.resume(one_step(work))
        assert run.wait(10) == "COMPLETED"
        assert run.attempts()["attempt"].to_list() == [1, 2]
    release.set()


def test_every_id_is_given_once(store: Path, clock: HandClock) -> None:
    """C4"""
    started, release = threading.Event(), threading.Event()

    def work(n: int) -> None:
        started.set()
        release.wait(10)

    lose(store, clock, each(work, max_attempts=9), started, 40)
    release.set()
    with nb.open(store, workers=2, clock=clock) as batch:
        run = batch.submit(each(work, max_attempts=9), 40)
        clock.advance(3600)
        assert run.wait(10) == "COMPLETED"

        for table in ("event", "chunk", "claim"):
            ids = batch.sql(f"SELECT id FROM {table}")["id"].to_list()
            assert len(ids) == len(set(ids)) > 1, table


def test_reopening_runs_no_user_code(store: Path, clock: HandClock) -> None:
    """R2"""
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []

    def work(n: int) -> None:
        runs.append(n)
        started.set()
        release.wait(10)

    lose(store, clock, one_step(work), started)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        settle(batch)
        assert len(runs) == 1
    release.set()


def test_reopening_in_one_process_returns_the_same_batch(store: Path) -> None:
    """R3"""
    with nb.open(store) as batch:
        assert nb.open(store) is batch
        assert nb.open(os.path.relpath(store)) is batch
    assert "closed" in repr(batch)


@pytest.mark.parametrize("make", [lambda: nb.threads(3), nb.inline, Foreign])
def test_a_cell_that_makes_its_executor_may_run_twice(make: Callable[[], Executor], store: Path) -> None:
    """R3"""
    with nb.open(store, make()) as batch:
        assert nb.open(store, make()) is batch


@pytest.mark.parametrize(
    "other",
    [{"executor": nb.inline()}, {"executor": nb.threads(2)}, {"workers": 2}, {"executor": nb.threads(3), "workers": 2}],
)
def test_who_asks_for_other_workers_than_a_store_has_is_warned(other: dict[str, Any], store: Path) -> None:
    """R3"""
    with nb.open(store, workers=3) as batch:
        with pytest.warns(UserWarning, match=r"store.duckdb is open already.*close\(\) it first") as told:
            assert nb.open(store, **other) is batch

        assert told[0].filename == __file__
        assert nb.open(store, nb.threads(3), workers=3) is batch


def test_a_second_process_is_told_who_holds_the_store(store: Path) -> None:
    """R3"""
    code = (
        "import sys, nbbatch as nb\n"
        "try: nb.open(sys.argv[1])\n"
        "except nb.StoreLocked as error: print(error.pid, error)\n"
    )
    with nb.open(store, executor=nb.inline()) as batch:
        asked = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, check=True)
        assert batch.submit(summing(), 3).result(10) == 6

    assert asked.stdout.startswith(f"{os.getpid()} ")
    assert "batch.close()" in asked.stdout


def test_a_chunk_lost_too_often_is_failed(store: Path, clock: HandClock) -> None:
    """R4"""
    release = threading.Event()
    for _ in range(2):
        started = threading.Event()

        def deadly(n: int, started: threading.Event = started) -> None:
            started.set()
            release.wait(10)

        lose(store, clock, one_step(deadly, max_attempts=2), started)

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.recovered == (0, 0, 1)
        run = batch.instance(1)
        assert statuses(run) == ["FAILED"]
        assert "the process died while it ran" in run.errors()["error"].to_list()[-1]
        (run,) = batch.resume(one_step(lambda n: None, max_attempts=2))
        assert run.wait(10) == "FAILED"
    release.set()


def test_a_chunk_that_was_claimed_and_had_not_begun_loses_no_attempt(store: Path, clock: HandClock) -> None:
    """R4"""
    started, release = threading.Event(), threading.Event()
    warm = iter(range(40))

    def work(n: int) -> None:
        if next(warm, None) is None:
            started.set()
            release.wait(10)

    job = each(work, max_attempts=1)
    batch = nb.open(store, workers=1, clock=clock)
    batch.submit(job, 400)
    assert started.wait(10)
    abandon(batch)

    try:
        with nb.open(store, executor=nb.inline(), clock=clock) as batch:
            assert batch.recovered.queued > 0
            assert batch.recovered[1:] == (0, 1)
            found = count(batch.instance(1))
            assert found["FAILED"] == 1
            assert found["QUEUED"] == 401 - found["COMPLETED"] - 1
    finally:
        release.set()


def test_waits_keep_their_due_time_over_a_restart(store: Path, clock: HandClock) -> None:
    """C10"""
    runs: list[int] = []

    def poll(n: int) -> None:
        runs.append(n)
        if len(runs) == 1:
            raise nb.RetryLater(100)

    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(one_step(poll), 1)
        settle(batch)
    clock.advance(50)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(one_step(poll), 1)
        settle(batch)
        assert statuses(run) == ["POLL_WAITING"]
        clock.advance(50)
        assert run.wait(10) == "COMPLETED"


@pytest.mark.parametrize("many", [recovery.MANY_IDS, 0], ids=["looked through", "told at once"])
def test_a_half_done_run_goes_on_where_it_was(
    store: Path, clock: HandClock, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1"""
    monkeypatch.setattr(recovery, "MANY_IDS", many)
    seen: list[int] = []

    @nb.step
    def work(i: int) -> int:
        seen.append(i)
        if i == 5 and seen.count(5) == 1:
            raise nb.FailJob("stop here")
        return i

    job = nb.Job("half", numbers >> work >> total)
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        run = batch.submit(job, 2_000)
        assert isinstance(run.exception(30), nb.JobFailed)
        done = run.steps()["completed"].to_list()[1]
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.instance(1, job).retry().result(30) == sum(range(2_000))

    assert len(seen) == 2_001
    assert 0 < done < 2_000


def _foreign(path: Path) -> None:
    duckdb.connect(str(path)).execute("CREATE TABLE mine (i INTEGER)").close()


def _newer(path: Path) -> None:
    nb.open(path).close()
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE meta SET value = '99' WHERE name = 'format'")


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda path: path.write_bytes(b""), "another kind of file"),
        (lambda path: path.write_text("hello" * 5000), "another kind of file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: Path(f"{path}.wal").write_bytes(b"x"), "would lose what the log holds"),
        (_foreign, "not a store of nbbatch"),
        (_newer, "Upgrade nbbatch"),
    ],
    ids=["empty", "text", "folder", "log alone", "foreign", "newer"],
)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(store: Path, prepare: object, text: str) -> None:
    """R5"""
    prepare(store)  # type: ignore[operator]
    before = store.read_bytes() if store.is_file() else None

    with pytest.raises(nb.StoreUnreadable, match=text):
        nb.open(store)
    assert before is None or store.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """R5"""
    with pytest.raises(nb.StoreUnreadable, match="does not exist"):
        nb.open(tmp_path / "nowhere" / "store.duckdb")


def test_a_name_of_any_letters_may_be_as_long_as_the_files_beside_it_allow(tmp_path: Path) -> None:
    """R5"""
    longest = "日" * (LONGEST_NAME // 3)
    with nb.open(tmp_path / longest, executor=nb.inline()) as batch:
        batch.submit(summing(), 3).wait(10)
        assert batch.address
        assert batch._store.checkpoint()
        batch.backup(tmp_path / longest.replace("日", "本"))
    assert len(os.fsencode(rewriting._folder(tmp_path / longest).name)) <= 255
    assert sorted(each.name for each in tmp_path.iterdir()) == [longest, longest.replace("日", "本")]
    for name in ("x" * (LONGEST_NAME + 1), "which?.duckdb", "which?/store.duckdb"):
        with pytest.raises(nb.StoreUnreadable, match=r"too long for the files beside|has a \?"):
            nb.open(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_truncated_store_is_refused(store: Path) -> None:
    """R5"""
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(summing(), 500).wait(10)
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 3])

    with pytest.raises(nb.StoreUnreadable):
        nb.open(store)
    assert len(store.read_bytes()) == len(whole) // 3


def test_an_interrupt_while_waiting_leaves_the_run_going(store: Path) -> None:
    """R7"""
    code = (
        "import os, signal, sys, threading, nbbatch as nb\n"
        "from tests.jobs import each\n"
        "gate = threading.Event()\n"
        "batch = nb.open(sys.argv[1], workers=2)\n"
        "run = batch.submit(each(lambda i: gate.wait(20) and None), 4)\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try: run.wait()\n"
        "except KeyboardInterrupt as stop: print(run.status, *stop.__notes__)\n"
        "gate.set(); print(run.wait(10)); batch.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=50)

    assert done.stdout.splitlines() == [
        "IN_PROGRESS instance 1 goes on in the background; run.cancel() ends it",
        "COMPLETED",
    ], done.stderr


def test_closing_waits_for_running_attempts_and_records_them(store: Path) -> None:
    """R7"""
    started, release = threading.Event(), threading.Event()

    def work(n: int) -> None:
        started.set()
        release.wait(10)

    batch = nb.open(store, workers=1)
    batch.submit(each(work), 3)
    assert started.wait(10)
    threading.Timer(0.1, release.set).start()
    batch.close()

    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1)
        assert batch.recovered == (0, 0, 0)
        assert "IN_PROGRESS" not in statuses(run)
        assert set(run.attempts()["status"]) == {"COMPLETED"}


def test_a_script_that_ends_without_closing_exits_in_time_and_silently(store: Path) -> None:
    """R7"""
    code = (
        "import sys, nbbatch as nb\n"
        "from tests.jobs import summing\n"
        "batch = nb.open(sys.argv[1])\n"
        "run = batch.submit(summing(), 100)\n"
        "print(run.result(20), run.steps().height)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=50)

    assert (done.returncode, done.stdout, done.stderr) == (0, "9900 3\n", "")


def test_a_forked_child_is_refused(store: Path) -> None:
    """R10"""
    with nb.open(store, executor=nb.inline()) as batch:
        read, write = os.pipe()
        if not (child := os.fork()):  # pragma: no cover - the child
            try:
                batch.submit(summing(), 1)
            except nb.StoreClosed as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)

    assert b"before a fork" in os.read(read, 1000)


def test_what_is_closed_says_so(store: Path) -> None:
    batch = nb.open(store, executor=nb.inline())
    run = batch.submit(summing(), 1)
    run.wait(10)
    batch.close()

    with pytest.raises(nb.StoreClosed, match=r"nb\.open\(\) opens it again"):
        run.chunks()
    assert "opens it again" in repr(run)
    assert "opens it again" in run._repr_html_()


def test_a_store_in_memory_needs_no_file() -> None:
    with nb.open(":memory:", executor=nb.inline()) as one, nb.open(":memory:", executor=nb.inline()) as two:
        assert one is not two
        assert one.submit(nb.Job("m", numbers >> double >> total), 3).result(10) == 6
        assert two.instances().is_empty()


def test_the_last_batch_that_closes_gives_stdout_and_logging_back(store: Path) -> None:
    before = sys.stdout, logging.getLogRecordFactory()
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(summing(), 1).wait(10)
        assert sys.stdout is not before[0]

    assert (sys.stdout, logging.getLogRecordFactory()) == before


LONG = "SELECT count(*) FROM range(100_000_000_000) a, range(100) b"
READS: dict[str, Callable[[Store], Any]] = {
    "rows": lambda store: store.fetch("long"),
    "frame": lambda store: store.frame("long"),
    "stream": lambda store: list(store.stream("long")()),
}


@pytest.mark.parametrize("how", READS)
def test_who_reads_while_a_batch_closes_hears_that_it_is_closed(
    store: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7"""
    importlib.import_module("polars")  # computes for long itself
    monkeypatch.setitem(queries.QUERIES, "long", LONG)
    batch = nb.open(store)
    heard: list[BaseException] = []

    def read() -> None:
        try:
            READS[how](batch._store)
        except BaseException as error:
            heard.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    wait_until_busy(reader)
    batch.close()
    reader.join(10)

    assert [type(error) for error in heard] == [nb.StoreClosed]
    with pytest.raises(nb.StoreClosed):
        READS[how](batch._store)


def test_pages_that_a_dead_fan_out_staged_are_forgotten_on_opening(
    store: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1"""
    monkeypatch.setattr("nbbatch.worker.attempt.PAGE_OUTPUTS", 10)
    paged, release = threading.Event(), threading.Event()

    @nb.step
    def pages(n: int) -> Iterator[int]:
        yield from range(n)
        paged.set()
        release.wait(10)

    job = nb.Job("pages", pages >> double >> total)
    batch = nb.open(store, workers=1, clock=clock)
    batch.submit(job, 25)
    assert paged.wait(10)
    settled(batch)
    staged = batch.sql("SELECT count(*) FROM staged").item()
    abandon(batch)
    release.set()

    assert staged == 20
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        assert batch.sql("SELECT count(*) FROM staged").item() == 0
        assert batch.submit(job, 25).result(10) == 2 * sum(range(25))


@pytest.mark.parametrize("losses", [2, 3])
def test_chunks_that_were_lost_twice_run_one_at_a_time(store: Path, clock: HandClock, losses: int) -> None:
    """R4"""
    release = threading.Event()

    def work(n: int, started: threading.Semaphore) -> None:
        started.release()
        release.wait(10)

    for lost in range(losses):
        started = threading.Semaphore(0)
        batch = nb.open(store, workers=2, clock=clock)
        batch.submit(each(partial(work, started=started), max_attempts=9), 2)
        clock.advance(3600)
        for _ in range(2 if lost < 2 else 1):  # after two losses they run apart
            assert started.acquire(timeout=10)
        abandon(batch)
    started = threading.Semaphore(0)
    with nb.open(store, workers=2, clock=clock) as batch:
        run = batch.submit(each(partial(work, started=started), max_attempts=9), 2)
        clock.advance(3600)
        assert started.acquire(timeout=10)
        settled(batch)

        assert sorted(statuses(run, "visit")) == ["IN_PROGRESS", "QUEUED"]
        release.set()
        assert run.wait(10) == "COMPLETED"


def settled(batch: nb.Batch) -> None:
    """Let the dispatcher take what has arrived: a call is answered by the turn that follows it."""
    for _ in range(3):
        batch._engine.call(int)


def test_a_thread_takes_its_connection_with_it(store: Path) -> None:
    """V40"""
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(summing(), 1)
        run.wait(10)
        before = len(batch._store.cursors._open)
        for _ in range(3):
            reader = threading.Thread(target=lambda: run.status)
            reader.start()
            reader.join()

        assert len(batch._store.cursors._open) == before


def wait_until_busy(thread: threading.Thread) -> None:
    """Until a thread has computed for longer than it takes to begin a query."""
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    while time.clock_gettime(clock) < 0.1:
        assert thread.is_alive()


def test_attempts_that_have_not_ended_are_found_among_many_that_have(store: Path) -> None:
    """R1"""

    @nb.step
    def poll(i: int) -> None:
        raise nb.RetryLater(3600)

    first, many = 1_000_000, 9_000
    lost, twice, again, late = first + 7, first + 5_345, first + 8_000, first + 8_999
    with nb.open(store, nb.inline()) as batch:
        run, owner = batch.submit(nb.Job("polls", poll), 1), engine(batch)
        place = {"instance": run.id, "step": 0}
        claim = partial(ClaimRow, session=owner.store.session, chunks=1, claimed_us=1, **place)
        event = partial(
            EventRow, status=ChunkStatus.COMPLETED.code, errors=0, polls=0, started_us=1, ended_us=2, **place
        )
        claims = [claim(id=-at, first=at, attempt=1)._replace(chunks=500) for at in range(first, first + many, 500)]
        claims += [claim(id=-1, first=twice, attempt=1), claim(id=-2, first=again, attempt=2)]
        claims.append(claim(id=-3, first=first - 5_000, attempt=1)._replace(session=owner.store.session - 1))
        ended = [at for at in range(first, first + many) if at not in (lost, twice)]
        events = [event(id=-at, chunk=at, attempt=2 if at == late else 1) for at in ended]
        events.append(event(id=-1, chunk=first + 3_000, attempt=1))  # by hand

        def write() -> None:
            with owner.store.transaction():
                owner.store.append("claim", claims)
                owner.store.append("event", events)

        owner.call(write)

        assert batch.sql("SELECT chunk, attempt FROM running ORDER BY chunk").rows() == [
            (lost, 1),
            (twice, 1),
            (again, 2),
        ]


def test_chunks_before_the_first_open_one_need_not_be_looked_through(store: Path) -> None:
    """R1"""
    first, part = 1_000_000 // 4_096 * 4_096, 4_096
    with nb.open(store, nb.inline()) as batch:
        owner = engine(batch)
        chunk = partial(ChunkRow, instance=9, parent=None, seq=None, created_us=1, data=None, session=None)
        event = partial(EventRow, instance=9, attempt=1, errors=0, polls=0, started_us=1, ended_us=2)
        chunks = [chunk(id=first + at, step=1 + at // (2 * part)) for at in range(3 * part)]
        events = [
            event(id=-each.id, chunk=each.id, step=each.step, status=status.code)
            for each, status in zip(chunks, itertools.cycle(CHUNK_ENDED), strict=False)
        ]

        def opens(*more: EventRow, but: Collection[int] = ()) -> dict[int, int]:
            with owner.store.trial():
                owner.store.append("chunk", chunks)
                owner.store.append("event", [each for each in events if each.chunk - first not in but])
                owner.store.append("event", more)
                return dict(owner.store.rows("first_open", 9))

        polled = events[-1]._replace(id=-1, status=ChunkStatus.POLL_WAITING.code)
        retried = events[7]._replace(id=-1)
        assert owner.call(opens) == {}
        assert owner.call(partial(opens, polled, but={3 * part - 1})) == {2: first + 2 * part}
        assert owner.call(partial(opens, but={part + 5, 2 * part})) == {1: first + part, 2: first + 2 * part}
        assert owner.call(partial(opens, retried)) == {1: first}

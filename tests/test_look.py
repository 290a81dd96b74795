"""Looking at a store that another process holds, or nobody; ordering things there; copies of a live store."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict
from rich.console import Console

import nbbatch as nb
from nbbatch import instance
from nbbatch.base import private_folder
from nbbatch.panel import terminal
from nbbatch.serving import wire
from nbbatch.serving.meter import CREDIT, SHARE, Meter, Turns
from nbbatch.store import copying, rewriting
from nbbatch.store.database import Store
from nbbatch.store.queries import QUERIES
from nbbatch.store.reading import is_read
from tests.jobs import summing
from tests.kit import is_locked
from tests.looked import going, job

going.set()  # in this process no step waits
FUZZED = int(os.environ.get("NBBATCH_FUZZED", "300"))
"""Requests of a hostile client."""


class Owner:
    """A process that owns a store: of its 20 items one has failed, and the step behind a gate waits to be let go."""

    def __init__(self, path: Path, serve: str) -> None:
        command = [sys.executable, "-m", "tests.looked", str(path), serve]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.process.wait(5)

    def end_run(self) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def owned(store: Path, request: pytest.FixtureRequest) -> Iterator[Owner]:
    owner = Owner(store, getattr(request, "param", "yes"))
    yield owner
    owner.kill()


def test_a_look_shows_what_the_owner_has_and_its_orders_are_carried_out(store: Path, owned: Owner) -> None:
    with nb.look(store) as look:
        assert (look.via, look.owner, look.age) == ("owner", owned.process.pid, 0.0)
        run = look.instance(1)
        assert run.attached
        assert run.steps()["completed"].to_list() == [1, 19, 0, 0]
        assert run.chunks(status="FAILED").height == 1
        assert run.outputs("doubled")[:3] == [0, 2, 4]
        assert "seven is not taken" in repr(run.failures())
        assert "looked at" in look._repr_html_()  # pyright: ignore[reportPrivateUsage]
        assert run.pause().status == "PAUSED"
        assert "PAUSED" in repr(run)
        assert run.resume().status != "PAUSED"
        assert owned.end_run() == "COMPLETED"
        assert run.wait(30) == "COMPLETED"
        assert run.result() == 2 * (sum(range(20)) - 7)
        assert run.skip(run.chunks(status="FAILED")["id"][0], "not taken").skips().height == 1
        assert not run.cancel()


class Fit(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    depth: int
    scores: pd.DataFrame


@nb.step
def fit(depth: int) -> Fit:
    return Fit(depth=depth, scores=pd.DataFrame({"score": [0.5]}, index=[f"depth {depth}"]))


@nb.step
def best(fits: Iterable[Fit]) -> pd.DataFrame:
    return next(iter(fits)).scores


def test_a_colleague_reads_frames_without_the_job_and_models_with_it(store: Path) -> None:
    fitting = nb.Job("fits", fit >> best)
    with nb.open(store, executor=nb.inline()) as batch:
        scores = batch.submit(fitting, 2).result()
    instance._seen.clear()  # as in a process that has not seen the job  # pyright: ignore[reportPrivateUsage]
    with nb.look(store) as look:
        (seen,) = look.instance(1).outputs("fit")
        assert seen["depth"] == 2
        assert seen["scores"].equals(scores)
        assert look.instance(1).result().equals(scores)
        assert look.instance(1).report.equals(scores)
        (typed,) = look.instance(1, fitting).outputs("fit")
        assert type(typed) is Fit
        with pytest.raises(nb.StateError, match="is of job 'fits', not of 'looked at'"):
            look.instance(1, job)


def test_frames_by_the_owner_are_those_of_the_batch(store: Path, owned: Owner) -> None:
    with nb.look(store) as look:
        run = look.instance(1)
        names = ("steps", "chunks", "attempts", "errors", "skips", "history", "logs", "attachments")
        told = {name: getattr(run, name)() for name in names}
        now = run.now()
        assert set(now["step"]) == {"held"}
        assert set(now["chunk"]) <= set(run.chunks("held", status="IN_PROGRESS")["id"])
        listed, jobs = look.instances(), look.jobs()
        selected = look.sql("SELECT id, status FROM chunks ORDER BY id DESC")
        owned.kill()
        assert look.via == "copy"
        assert run.now().schema == now.schema
        assert run.now().is_empty()
        for name in set(names) - {"steps"}:
            assert getattr(run, name)().equals(told[name]), name
        assert run.steps().columns == told["steps"].columns
        assert run.steps()["completed"].equals(told["steps"]["completed"])
        assert look.instances().equals(listed)
        assert look.jobs().equals(jobs)
        assert look.sql("SELECT id, status FROM chunks ORDER BY id DESC").equals(selected)


def test_a_look_outlives_its_owner_keeps_nobody_out_and_finds_the_next_one(store: Path, owned: Owner) -> None:
    with nb.look(store) as look:
        assert look.via == "owner"
        owned.kill()
        assert look.instances().height == 1
        assert look.via == "copy"
        with pytest.raises(nb.StateError, match="no process has"):
            look.instance(1).pause()
        with nb.open(store) as batch:
            assert look.via in ("owner", "batch")
            run = batch.instance(1, job)
            run.cancel()
            assert look.instance(1).status == "CANCELLED"
        assert look.instance(1).status == "CANCELLED"


def test_closing_waits_for_nobody_who_might_look(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = nb.open(store)
    monkeypatch.setattr(batch._owner._server, "timeout", None)  # so that only a knock ends its waiting
    waiting = batch._owner._thread
    batch.close()
    assert not waiting.is_alive()


@pytest.mark.parametrize("owned", ["no"], indirect=True)
def test_of_an_owner_that_does_not_answer_a_copy_is_seen(store: Path, owned: Owner) -> None:
    assert owned.address == "None"
    with nb.look(store) as look:
        assert look.via == "copy"
        assert look.instance(1).steps()["completed"][1] == 19
        with pytest.raises(nb.StateError):
            look.instance(1).cancel()


def test_an_owner_that_is_stopped_holds_up_nobody_who_looks(
    store: Path, owned: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbbatch.serving.looking.READ_SECONDS", 0.2)
    monkeypatch.setattr("nbbatch.serving.looking.SILENT_SECONDS", 1_000)
    with nb.look(store) as look:
        for place in ("looking", "client"):
            monkeypatch.setattr(f"nbbatch.serving.{place}.HELLO_SECONDS", 0.2)
        owned.process.send_signal(signal.SIGSTOP)
        assert look.instance(1).steps()["completed"][1] == 19
        assert look.via == "copy"
        with pytest.raises(nb.StateError, match="does not answer, and was not asked to pause instance 1"):
            look.instance(1).pause()
        with nb.look(store) as another:
            assert another.via == "copy"
        monkeypatch.undo()
        owned.process.send_signal(signal.SIGCONT)
        assert look.instance(1).pause().status == "PAUSED"  # an order asks again at once


@pytest.mark.parametrize("owned", ["127.0.0.1:0"], indirect=True)
def test_over_a_port_only_who_knows_the_token_is_answered(owned: Owner) -> None:
    assert owned.address.startswith("nbbatch://127.0.0.1:")
    with nb.look(owned.address) as look:
        assert look.instance(1).attached
    with pytest.raises(nb.StoreError, match="nobody answers"):
        nb.look(owned.address[:-3] + "xyz")


def test_what_only_the_owner_can_do_is_refused_and_says_where_it_is_done(store: Path, owned: Owner) -> None:
    with nb.look(store) as look:
        run = look.instance(1)
        with pytest.raises(nb.StateError, match="only looks"):
            run.rerun(step="doubled")
        for given in ({"job": job}, {"params": {}}, {"params": 0}):
            with pytest.raises(nb.StateError, match="its own code"):
                run.retry(**given)
        with pytest.raises(nb.NotFoundError):
            look.instance(99)
        with pytest.raises(nb.QueryRefused):
            look.sql("DELETE FROM chunk")
        with pytest.raises(nb.StoreLocked, match=r"nb\.look"):
            nb.open(store)
        with pytest.raises(AttributeError, match="starts nothing"):
            look.submit  # type: ignore[attr-defined]  # noqa: B018
    assert owned.process.poll() is None


def test_the_owner_purges_what_a_look_asks_for_and_refuses_what_it_would_refuse_itself(
    store: Path, owned: Owner
) -> None:
    with nb.look(store) as look:
        look.instance(1).cancel()
        with pytest.raises(ValueError, match="removes instances that have ended"):
            look.purge(older_than=0, status="PAUSED")
        with pytest.raises(ValueError, match="needs older_than="):
            look.purge()
        with pytest.raises(ValueError, match="keep_last="):
            look.purge(keep_last=-1)
        with pytest.raises(TypeError, match="takes a name"):
            look.purge(older_than=0, job=job)  # type: ignore[arg-type]
        now = datetime.now()  # noqa: DTZ005 - without a zone, as people give it
        assert look.purge(older_than=timedelta(hours=1)) == look.purge(older_than=now - timedelta(hours=1)) == 0
        assert look.purge(older_than=0, status=("FAILED",)) == look.purge(keep_last=1) == 0
        assert look.purge(older_than=now.date() + timedelta(days=2), job="looked at") == 1
        assert look.instances().is_empty()
        owned.kill()
        with pytest.raises(nb.StateError, match="no process has"):
            look.purge(older_than=0)


def test_a_closed_look_says_so(store: Path) -> None:
    with nb.open(store):
        pass
    look = nb.look(store)
    look.close()
    look.close()
    with pytest.raises(nb.StoreClosed):
        look.instances()
    assert "closed" in repr(look)


def test_the_copy_that_a_look_read_is_thrown_away_as_it_is(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with nb.open(store) as batch:
        batch.submit(job, 3).wait()
    settled: list[str] = []
    real = Store.checkpoint
    monkeypatch.setattr(Store, "checkpoint", lambda self: (settled.append(self.path), real(self))[1])
    nb.look(store).close()
    assert settled == []


def test_a_copy_that_turns_out_to_be_damaged_is_let_go(store: Path) -> None:
    nb.open(store).close()
    with duckdb.connect(str(store)) as con:
        con.execute("DROP VIEW instances; CREATE TABLE instances (id INTEGER)")
    with pytest.raises(nb.StoreError):
        nb.look(store)

    assert copying._open == {}


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(nb.StoreUnreadable, match="No such file"):
        nb.look(tmp_path / "none.duckdb")
    (tmp_path / "text.duckdb").write_text("not a store")
    with pytest.raises(nb.StoreUnreadable, match="text"):
        nb.look(tmp_path / "text.duckdb")
    assert (tmp_path / "text.duckdb").read_text() == "not a store"


def test_a_folder_is_one_table_over_its_stores_and_says_which_cannot_be_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with nb.open(tmp_path / f"{name}.duckdb", executor=nb.inline()) as batch:
            batch.submit(job, 3).wait()
    (tmp_path / "c.duckdb").write_text("no")
    with nb.look(tmp_path.glob("*.duckdb")) as looks:
        table = looks.instances()
        assert table.columns[0] == "store"
        assert sorted(Path(each).name for each in table["store"]) == ["a.duckdb", "b.duckdb"]
        assert list(looks.refused) == [str(tmp_path / "c.duckdb")]
        assert looks[tmp_path / "a.duckdb"].instance(1).status == "COMPLETED"
        assert "c.duckdb" in repr(looks)
    assert "a.duckdb: 1 instance" in repr(nb.look(tmp_path))
    (tmp_path / "links").mkdir()
    for name in ("a", "again"):
        (tmp_path / "links" / f"{name}.duckdb").symlink_to(tmp_path / "a.duckdb")
    with nb.look(tmp_path / "links") as links:  # a store is seen once, and where it is
        assert links.instances()["store"].to_list() == [str(tmp_path / "a.duckdb")]
    with nb.look([]) as none:
        assert none.instances().schema == table.schema


def test_the_process_that_holds_a_store_may_look_at_it_and_keeps_it(store: Path) -> None:
    with nb.open(store, executor=nb.inline(), serve=False) as batch:
        batch.submit(job, 3).wait()
        with nb.look(store) as look:
            assert look.via == "batch"
            assert look.instance(1).status == "COMPLETED"
            look.backup(store.with_name("copy.duckdb"))
            assert not look.instance(1).cancel()
            assert look.purge(keep_last=0) == 1
        opening = subprocess.run([sys.executable, "-c", f"import nbbatch as nb; nb.open({str(store)!r})"], capture_output=True, text=True)  # fmt: skip
        assert "StoreLocked" in opening.stderr


def test_the_environment_can_have_nobody_answered(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBBATCH_SERVE", "0")
    with nb.open(store) as batch:
        assert batch.address is None
        assert not wire.beside(str(store)).exists()


# --- copies ---------------------------------------------------------------------------------------


def test_a_backup_of_a_running_store_is_whole_and_opens_as_it_was(store: Path, owned: Owner) -> None:
    with nb.look(store) as look:
        copy = look.backup(store.with_name("copy.duckdb"))
        with pytest.raises(FileExistsError, match="overwrite"):
            look.backup(copy)
        look.backup(copy, overwrite=True)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(each.name for each in store.parent.iterdir() if "copy" in each.name or "backup" in each.name) == [
        "copy.duckdb"
    ]
    with nb.open(copy) as batch:
        assert batch.instance(1).steps()["completed"].to_list() == [1, 19, 0, 0]
    assert owned.end_run() == "COMPLETED"


def test_a_copy_that_began_before_its_store_was_opened_here_ends_without_costing_the_lock(store: Path) -> None:
    nb.open(store).close()
    linked = store.with_name("linked.duckdb")
    for each in (store, linked):
        if each is linked:
            linked.hardlink_to(store)
        source = copying.Source(str(each))
        with nb.open(store):
            source.close()
            assert is_locked(store)
        with pytest.raises(ValueError, match="closed file"):
            source.state()
        assert not is_locked(store)


def test_a_copy_of_a_file_that_was_written_anew_meanwhile_is_of_the_new_one(store: Path, tmp_path: Path) -> None:
    with nb.open(store, nb.inline()) as batch:
        batch.submit(summing(), 3).wait()
    source = copying.Source(str(store))
    rewriting.rewrite(store)
    with nb.open(store, nb.inline()) as batch:
        batch.submit(summing(), 4).wait()
        copying.take(source, tmp_path / "copy.duckdb")
        source.close()
        assert is_locked(store)

    with nb.open(tmp_path / "copy.duckdb") as copy:
        assert copy.instances()["id"].to_list() == [2, 1]


def test_the_owner_backs_up_while_it_works_and_keeps_the_lock(threaded: nb.Batch, store: Path) -> None:
    run = threaded.submit(job, 15)
    run.wait()
    copy = threaded.backup(store.with_name("copy.duckdb"))
    assert is_locked(store)
    with nb.open(copy) as batch:
        assert batch.instance(1).report == run.report


KILLED = """
import os, signal, sys, nbbatch as nb
from nbbatch.store import backup
backup._fill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
nb.look(sys.argv[1]).backup(sys.argv[2])
"""


def test_what_a_process_leaves_that_was_killed_while_it_backed_up_is_removed_by_the_next_backup(
    store: Path, tmp_path: Path
) -> None:
    nb.open(store).close()
    to = tmp_path / "copies"
    to.mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store), str(to / "copy.duckdb")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = to.iterdir()
    (to / ".nbbatch-mine").mkdir()
    with nb.look(store) as look:
        look.backup(to / "copy.duckdb")

    assert left.name.startswith(".nbbatch-backup-")
    assert sorted(each.name for each in to.iterdir()) == [".nbbatch-mine", "copy.duckdb"]


def test_a_store_that_is_written_to_all_the_time_is_held_for_its_backup(store: Path) -> None:
    with nb.open(store) as batch:
        source, held = copying.Source(str(store)), list[bool]()
        copy, copies = source.copy, iter([False] * copying.FREE_TRIES + [True])
        source.copy = lambda to: copy(to) and next(copies)  # type: ignore[method-assign]
        copying.take(source, store.with_name("copy"), lambda _: None, lambda run: held.append(run()) or held[-1])
        assert held == [True]
        batch.close()
        source.close()


def test_a_copy_takes_the_place_of_no_store_that_is_open_and_leaves_no_log_of_another(
    store: Path, owned: Owner, tmp_path: Path
) -> None:
    linked, other = tmp_path / "linked.duckdb", tmp_path / "other.duckdb"
    linked.hardlink_to(store)
    with nb.look(store) as look:
        for place in (store, linked):
            with pytest.raises(nb.StoreError, match="the store itself"):
                look.backup(place, overwrite=True)
        with nb.open(other, executor=nb.inline()) as batch:
            batch.submit(job, 3).wait()
            with pytest.raises(nb.StoreError, match="open here"):
                look.backup(other, overwrite=True)
            with pytest.raises(nb.StoreError, match="the store itself"):
                batch.backup(other, overwrite=True)
            with pytest.raises(nb.StoreError, match="that a process has open"):
                batch.backup(store, overwrite=True)
        Path(f"{other}.wal").write_bytes(b"of another")
        look.backup(other, overwrite=True)
        assert look.via == "owner"
    assert not Path(f"{other}.wal").exists()
    with nb.open(other) as batch:
        assert batch.instance(1).steps()["completed"].to_list() == [1, 19, 0, 0]
    assert owned.end_run() == "COMPLETED"


def test_a_store_in_memory_cannot_be_backed_up(tmp_path: Path) -> None:
    with nb.open(":memory:") as batch, pytest.raises(nb.StoreError, match="memory"):
        batch.backup(tmp_path / "copy.duckdb")


def test_a_copy_during_which_a_header_came_is_made_again(store: Path) -> None:
    with nb.open(store) as batch:
        source = copying.Source(str(store))
        copy = store.with_name("copy")
        asked: list[float] = []
        state, states = source.state, iter("abcdee")
        source.state = lambda: (next(states), state())  # type: ignore[method-assign]
        copying.take(source, copy, asked.append)
        assert asked == [copying.PAUSE_SECONDS] * 2
        source.state = object  # type: ignore[method-assign]
        with pytest.raises(nb.StoreError, match="each of"):
            copying.take(source, copy, lambda _: None)
        assert not copy.exists()
        batch.close()
        source.close()


# --- who asks -------------------------------------------------------------------------------------


def connected(address: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(address)
    return client


def test_nonsense_harms_neither_the_owner_nor_others(store: Path, owned: Owner) -> None:
    chance = random.Random(5)
    odd: list[Any] = [None, [], ["x"] * 9, [[{}]], [2**70]]
    for turn in range(FUZZED):
        with connected(owned.address) as client, suppress(OSError):
            match turn % 4:
                case 0:
                    client.sendall(chance.randbytes(chance.randrange(200)))
                case 1:
                    client.sendall((2**32 - 1).to_bytes(4) * 2)
                case 2:
                    text = json.dumps({"do": chance.choice(["read", "count", "sql", "live", "pause", "skip", "purge", "x", None]),
                                       "query": chance.choice([[], 3, "purge", "chunks", "steps", "SELECT 1; DROP TABLE chunk"]),
                                       "values": chance.choice(odd), "older_than": chance.choice(odd), "status": chance.choice([3, {}, "x"]),
                                       "instance": chance.choice([None, "1", -1, 2**70, 99])}).encode()  # fmt: skip
                    client.sendall(len(text).to_bytes(4) + bytes(4) + text)
                    wire.receive(client, 10**6)
                case _:
                    client.sendall(b"\0\0\0\x10\0\0\0\0[[[[")
    with nb.look(store) as look:
        assert look.via == "owner"
        assert look.instance(1).steps()["completed"].to_list() == [1, 19, 0, 0]
    assert owned.end_run() == "COMPLETED"


def test_no_query_that_writes_can_be_named(owned: Owner) -> None:
    with connected(owned.address) as client:
        for query in [name for name in QUERIES if not is_read(name)] + ["", "no such"]:
            wire.send(client, {"do": "read", "query": query, "values": []})
            assert wire.receive(client, 10**6)[0]["error"] == "QueryRefused", query


def test_the_socket_is_the_users_alone(store: Path, owned: Owner) -> None:
    place = Path(owned.address)
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(wire.beside(str(store)).stat().st_mode) == 0o600
    assert len(os.fsencode(place)) < 104


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_not_answered(owned: Owner) -> None:
    place = Path(owned.address)
    place.parent.chmod(0o777)  # even where the folder's mode would let them in
    place.chmod(0o777)
    asking = (
        "import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(%r);"
        't = b\'{"do": "hello"}\'; s.sendall(len(t).to_bytes(4) + bytes(4) + t); print(len(s.recv(100)))'
    )
    asked = subprocess.run([sys.executable, "-c", asking % owned.address], capture_output=True, text=True)
    assert asked.stdout.strip() in ("0", ""), asked.stderr


def test_a_file_of_another_kind_beside_the_store_is_left_alone(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    beside = wire.beside(str(store))
    beside.write_text("mine")
    with nb.open(store, executor=nb.inline()) as batch:
        assert batch.address is None
        assert batch.submit(job, 3).wait() == "COMPLETED"
    assert beside.read_text() == "mine"
    assert "nobody can look" in caplog.text


def test_what_an_owner_leaves_that_was_killed_is_replaced(store: Path, owned: Owner) -> None:
    owned.kill()
    assert wire.found_at(str(store))
    with nb.open(store) as batch:
        found = wire.found_at(str(store))
        assert found is not None
        assert found.url == batch.address
    assert not wire.beside(str(store)).exists()


def test_the_folders_of_killed_owners_and_of_those_who_looked_are_removed_by_the_next_opening(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        temporary = Path(short)
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr("tempfile.tempdir", None)
        looking = f"import nbbatch as nb, os; nb.look({str(store)!r}).instances(); os.kill(os.getpid(), 9)"
        (long := temporary / ("long" * 30)).mkdir()
        with monkeypatch.context() as changed:
            changed.setenv("TMPDIR", str(long))
            owner = Owner(store, "yes")  # for its socket that path is too long
            owner.kill()
            elsewhere = Path(owner.address).parent
            assert (elsewhere.parent, elsewhere.exists()) == (Path(private_folder.SHORT), True)
        long.rmdir()
        for serve, left in (("yes", "owner"), ("no", "look")):
            owner = Owner(store, serve)
            subprocess.run([sys.executable, "-c", looking], capture_output=True, check=False)
            owner.kill()
            (folder,) = temporary.iterdir()
            assert folder.name.startswith(f"nbbatch-{left}-")
        with nb.open(store), nb.look(store) as look:
            assert look.instances().height == 1
            assert not folder.exists()
            assert not elsewhere.exists()
        assert list(temporary.iterdir()) == []


def test_what_would_hold_a_working_owner_up_is_read_from_a_copy(store: Path, owned: Owner) -> None:
    with connected(owned.address) as client:
        wire.send(client, {"do": "sql", "query": "SELECT nothing", "brief": True})
        assert wire.receive(client, 10**6)[0]["error"] == "QueryRefused"
    with nb.look(store) as look:
        assert look.sql("SELECT max(a.range * b.range % 7) AS most FROM range(30000) a, range(10000) b").item() == 6
        assert look.via == "owner"


def test_looks_take_no_more_than_their_share_of_a_working_engines_time() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    looked = 0.0
    while now[0] < 100:
        now[0] += meter.wait(busy=True)
        now[0] += 0.1
        looked += 0.1
        meter.took(0.1)
    assert looked <= 100 * SHARE + CREDIT + 0.2
    now[0] += meter.wait(busy=True)
    meter.took(1.0)
    assert meter.wait(busy=False) == 0.0
    meter.took(1.0)
    assert meter.wait(busy=True) > 0  # a moment in which nothing ran gives no credit


@pytest.mark.parametrize("owned", ["127.0.0.1:0"], indirect=True)
def test_how_a_run_stands_is_seen_at_once_though_its_owner_has_no_time_for_queries(owned: Owner) -> None:
    with nb.look(owned.address) as look, nb.look(owned.address) as another:
        run = look.instance(1)
        watched = terminal.Watched(run)
        assert "running" in drawn(watched)
        begun = time.monotonic()
        with suppress(nb.QueryRefused):  # on a slow machine it is stopped
            another.sql("SELECT max(a.range * b.range % 7) FROM range(30000) a, range(10000) b")
        paid = (time.monotonic() - begun - CREDIT) / SHARE
        begun = time.monotonic()
        assert run.pause().status == "PAUSED"
        assert "paused" in drawn(watched)
        assert run.resume().status == "ERRORED"
        assert run.params == 20
        assert time.monotonic() - begun < paid / 2, "looks waited until the query was paid for"


def drawn(watched: terminal.Watched) -> str:
    console = Console(width=120, record=True, file=StringIO())
    console.print(watched.drawn())
    return console.export_text()


def test_those_who_look_take_turns_in_the_order_in_which_they_came() -> None:
    turns, order, threads = Turns(), list[int](), list[threading.Thread]()

    def look(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        for number in range(5):
            threads.append(threading.Thread(target=look, args=(number,)))
            threads[-1].start()
            while len(turns._queue) < number + 2:
                pass
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_an_owners_address_is_checked() -> None:
    for odd in ("nbbatch://", "nbbatch://host/token", "nbbatch://host:port/token", "nbbatch://host:1/"):
        with pytest.raises(ValueError, match="HOST:PORT/TOKEN"):
            nb.look(odd)


def opened(path: Path, **options: Any) -> nb.Batch:
    return nb.open(path, **options)


@pytest.mark.parametrize("where", ["nowhere", "127.0.0.1:x"])
def test_a_place_to_answer_at_is_checked(store: Path, where: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        opened(store, serve=where)
    with opened(store) as batch:
        assert batch.address

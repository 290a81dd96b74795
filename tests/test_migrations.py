"""Stores of an older format: the first one, made of the present one, and synthetic newer ones."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch.store import database as stores
from nbbatch.store import migrations
from tests.jobs import each, numbers, summing, total
from tests.kit import count, is_locked, settle

NEXT = {
    5: "CREATE TABLE label (instance BIGINT, text VARCHAR); INSERT INTO label SELECT id, job FROM submitted",
    6: "ALTER TABLE label ADD COLUMN size INTEGER; UPDATE label SET size = length(text); DROP VIEW instances",
}


@pytest.fixture
def old(store: Path) -> Path:
    """A store of the present format with a run that ended and one that is paused."""
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(summing(), 50).wait(10)
        batch.submit(summing("paused"), 5).pause()
        settle(batch)
    return store


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This nbbatch knows two formats more."""
    monkeypatch.setattr(stores, "FORMAT", 7)
    monkeypatch.setattr(migrations, "MIGRATIONS", NEXT)
    return monkeypatch


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path)) as con:
        return con.execute(query).fetchall()


def test_an_older_store_opens_as_the_present_one_with_a_copy_beside_it(old: Path, newer: pytest.MonkeyPatch) -> None:
    """R9"""
    before = old.read_bytes()
    with nb.open(old, executor=nb.inline()) as batch:
        (paused,) = batch.resume(summing("paused"))
        assert (batch.instance(1, summing()).result(), count(batch.instance(1))) == (2450, {"COMPLETED": 52})
        assert paused.resume().result(10) == 20

    assert rows(old, "SELECT text, size FROM label ORDER BY instance") == [("summing", 7), ("paused", 6)]
    assert rows(old, "SELECT value FROM meta WHERE name = 'format'") == [("7",)]
    assert rows(old, "SELECT status FROM instances ORDER BY id") == [("COMPLETED",), ("COMPLETED",)]
    copy = old.with_name("store.format5.duckdb")
    assert copy.read_bytes() == before
    newer.undo()
    with nb.open(copy, executor=nb.inline()) as batch:
        assert batch.instances()["status"].to_list() == ["PAUSED", "COMPLETED"]
    with pytest.raises(nb.StoreUnreadable, match="has store format 7; this nbbatch knows up to 5"):
        nb.open(old)


def test_what_a_log_holds_is_in_the_copy_too(old: Path, newer: pytest.MonkeyPatch) -> None:
    """R9"""
    newer.undo()
    code = (
        "import os, signal, sys, nbbatch as nb\nfrom tests.jobs import summing\n"
        "nb.open(sys.argv[1]).submit(summing('last'), 3).wait(10)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(old)], cwd=Path(__file__).parent.parent)
    assert done.returncode == -signal.SIGKILL
    assert Path(f"{old}.wal").exists()
    newer.setattr(stores, "FORMAT", 7)
    newer.setattr(migrations, "MIGRATIONS", NEXT)
    nb.open(old).close()

    for store in (old, old.with_name("store.format5.duckdb")):
        assert rows(store, "SELECT job FROM submitted ORDER BY id") == [("summing",), ("paused",), ("last",)]


def test_nobody_else_opens_a_store_while_its_copy_is_made(old: Path, newer: pytest.MonkeyPatch) -> None:
    """R9"""
    copy, seen = migrations.keep_copy, list[bool]()

    def asking(*given: Any) -> Path:
        made = copy(*given)
        seen.append(is_locked(old))
        return made

    newer.setattr(migrations, "keep_copy", asking)
    with nb.open(old):
        seen.append(is_locked(old))

    assert seen == [True, True]


def test_a_second_copy_does_not_take_the_place_of_another_one(old: Path, newer: pytest.MonkeyPatch) -> None:
    """R9"""
    copy = old.with_name("store.format5.duckdb")
    copy.write_text("somebody's")
    nb.open(old).close()

    assert copy.read_text() == "somebody's"
    assert rows(old.with_name("store.format5.2.duckdb"), "SELECT count(*) FROM submitted") == [(2,)]


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({**NEXT, 5: "CREATE TABLE extra (id INTEGER); SELECT nothing FROM nowhere"}, "nowhere"),
        ({5: NEXT[5]}, "can no longer migrate"),
    ],
    ids=["a statement that fails", "too old"],
)
def test_what_cannot_be_migrated_is_left_as_it_is(
    old: Path, newer: pytest.MonkeyPatch, known: Mapping[int, str], text: str
) -> None:
    """R9 R5"""
    newer.setattr(migrations, "MIGRATIONS", known)
    with pytest.raises(nb.StoreUnreadable, match=text):
        nb.open(old)

    newer.undo()
    assert rows(old, "SELECT count(*) FROM duckdb_tables() WHERE table_name IN ('label', 'extra')") == [(0,)]
    with nb.open(old) as batch:
        assert batch.instances().height == 2


def test_without_room_for_a_copy_nothing_is_changed(old: Path, newer: pytest.MonkeyPatch) -> None:
    """R9 R5"""
    before = old.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    newer.setattr(migrations, "replaced", full)
    with pytest.raises(nb.StoreUnreadable, match="could not be made"):
        nb.open(old)

    assert old.read_bytes() == before


CHILD = """
import os, signal, sys
import nbbatch as nb
from nbbatch.store import migrations
from nbbatch.store import database
from tests.test_migrations import NEXT

class Deadly(dict):
    times = 0
    def __getitem__(self, number):
        self.times += number == 5
        if self.times == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)

database.FORMAT, migrations.MIGRATIONS = 7, Deadly(NEXT)
nb.open(sys.argv[1])
"""


def test_a_kill_in_the_middle_leaves_the_old_store(old: Path) -> None:
    """R9"""
    for moment in ("1", "2", "2"):  # while it is tried whether it can be done, and then in the middle of it, twice
        assert not old.with_name("store.format5.duckdb").exists() or moment == "2"
        done = subprocess.run([sys.executable, "-c", CHILD, str(old), moment], cwd=Path(__file__).parent.parent)
        assert done.returncode == -signal.SIGKILL

    assert not old.with_name("store.format5.2.duckdb").exists()
    for store in (old, old.with_name("store.format5.duckdb")):
        with nb.open(store, executor=nb.inline()) as batch:
            assert batch.instance(1, summing()).result() == 2450
            assert {name for (name,) in batch._store.fetch("tables")}.isdisjoint({"label"})


def test_views_are_made_anew_so_that_a_corrected_one_reaches_old_stores(old: Path) -> None:
    """A store that an earlier nbbatch wrote, with a view that was wrong and a macro that was not there yet."""
    with duckdb.connect(str(old)) as con:
        con.execute("CREATE OR REPLACE VIEW chunks AS SELECT id, instance, 'WRONG' AS status FROM chunk")
        con.execute("DROP MACRO TABLE attempts_of")

    with nb.open(old, executor=nb.inline()) as batch:
        assert count(batch.instance(1)) == {"COMPLETED": 52}
        assert batch.sql("SELECT DISTINCT status FROM chunks WHERE instance = 1").rows() == [("COMPLETED",)]
        assert batch.instance(1).attempts()["status"].to_list() == ["COMPLETED"] * 52


FOURTH = """
ALTER TABLE superseded DROP COLUMN copy;
ALTER TABLE lookup DROP COLUMN until_us;
UPDATE lookup SET near = (SELECT max(chunk) FROM reusable WHERE reusable.key = lookup.near) WHERE near IS NOT NULL;
UPDATE meta SET value = '4' WHERE name = 'format';
"""
"""Makes a store of format 4 of one of format 5."""
THIRD = f"""
{FOURTH}
ALTER TABLE submitted DROP COLUMN reuse;
ALTER TABLE code DROP COLUMN parts;
DROP TABLE reuse_key;
DROP TABLE reusable;
DROP TABLE lookup;
UPDATE meta SET value = '3' WHERE name = 'format';
"""
"""Makes a store of format 3 of one of format 5."""
SECOND = f"""
{THIRD}
ALTER TABLE detail DROP COLUMN head;
ALTER TABLE detail DROP COLUMN raised;
UPDATE meta SET value = '2' WHERE name = 'format';
"""
"""Makes a store of format 2 of one of format 5."""
FIRST = f"""
{SECOND}
ALTER TABLE submitted ALTER version TYPE INTEGER;
ALTER TABLE event ALTER records TYPE INTEGER;
UPDATE submitted SET key = 'sub-job of chunk ' || parent WHERE parent IS NOT NULL;
ALTER TABLE submitted DROP COLUMN parent;
UPDATE meta SET value = '1' WHERE name = 'format';
"""
"""Makes a store of format 1 of one of format 5."""


def made_older(store: Path, statements: str) -> None:
    """Have a store be of an older format."""
    with duckdb.connect(str(store)) as con:
        for view in rows_of(con, "SELECT view_name FROM duckdb_views() WHERE NOT internal"):
            con.execute(f"DROP VIEW {view}")
        for macro in rows_of(
            con,
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal AND function_type = 'table_macro'",
        ):
            con.execute(f"DROP MACRO TABLE {macro}")
        con.execute(statements)


def test_a_store_of_the_first_format_opens_and_its_sub_jobs_are_found_by_their_chunks(store: Path) -> None:
    """R9 S1"""
    outer = nb.Job("outer", numbers >> summing("inner").as_step() >> total)
    with nb.open(store, executor=nb.inline()) as batch:
        assert batch.submit(outer, 3).result(10) == 2
        batch.submit(summing("keyed"), 3, key="sub-job of chunk x").result(10)
    made_older(store, FIRST)

    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1, outer)
        inner = run.chunk(run.chunks("inner")["id"][0]).subjob
        assert (inner.parent.id, inner.result()) == (run.chunks("inner")["id"][0], 0)
        assert batch.instances()["key"].drop_nulls().to_list() == ["sub-job of chunk x"]
        wide = nb.Job("wide", numbers >> nb.step(handle_bytes), version=202501011200)
        run = batch.submit(wide, 1)
        assert (run.id, run.wait(10), batch.instances()["version"][0]) == (6, "COMPLETED", 202501011200)
        assert run.steps()["records"].to_list() == [1, 3_000_000_000]


def test_failures_of_a_store_of_the_second_format_are_told_apart_as_before(store: Path) -> None:
    """R9"""

    def fail(value: int) -> None:
        if value % 2:
            raise ValueError(f"odd {value}")
        json.loads("{" * value)

    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(each(fail, max_attempts=1), 9)
        run.wait(10)
        before = repr(run.failures())
        assert (
            "4 × ValueError: odd …  [visit, fail: raise ValueError" in before,
            "[visit, fail: json.loads" in before,
        ) == (True, True)
    made_older(store, SECOND)

    with nb.open(store, executor=nb.inline()) as batch:
        assert repr(batch.instance(1).failures()) == before


def test_what_a_store_of_the_third_format_did_before_is_done_once_more_and_then_reused(store: Path) -> None:
    """R9"""
    job = nb.Job("twice", numbers >> nb.step(twice, reuse=True) >> total)
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(job, 3).result(10)
    made_older(store, THIRD)

    with nb.open(store, executor=nb.inline()) as batch:
        reasons = [
            batch.submit(job, 3, new=True).wait(10) and batch.instance(k).reuse("twice")["reason"].to_list()
            for k in (2, 3)
        ]
        assert reasons == [["new input"] * 3, [None] * 3]


def test_why_chunks_of_a_store_of_the_fourth_format_ran_is_told_as_before(store: Path) -> None:
    """R9"""

    def scaled(value: int, params: Factor) -> int:
        return value * params.factor

    first = nb.step(name="numbers")(items)
    job = nb.Job("scaled", first >> nb.step(scaled, reuse=True) >> total)
    with nb.open(store, executor=nb.inline()) as batch:
        before = [
            batch.submit(job, Factor(n=3, factor=factor)).wait(10) and batch.instance(k).reuse("scaled")
            for k, factor in ((1, 2), (2, 5))
        ]
        assert before[1]["reason"].to_list() == ["parameter changed: factor"] * 3
    made_older(store, FOURTH)

    with nb.open(store, executor=nb.inline()) as batch:
        assert [batch.instance(k).reuse("scaled").rows() for k in (1, 2)] == [frame.rows() for frame in before]
        again = batch.submit(job, Factor(n=3, factor=5), new=True)
        assert (again.result(10), again.reuse("scaled")["reused"].to_list()) == (15, [True] * 3)


class Factor(BaseModel):
    n: int
    factor: int


def items(params: Factor) -> Iterator[int]:
    yield from range(params.n)


def twice(value: int) -> int:
    return 2 * value


def handle_bytes(i: int) -> None:
    nb.context().records(3_000_000_000)


def rows_of(con: duckdb.DuckDBPyConnection, query: str) -> list[object]:
    return [value for (value,) in con.execute(query).fetchall()]

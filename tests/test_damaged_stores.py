"""A file that is no whole store is refused by one clear error and stays as it is, with no file or lock beside it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nbbatch as nb
from nbbatch.store import inspection
from tests.jobs import summing


def execute(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as con:
        for statement in statements:
            con.execute(statement).fetchall()


def a_store(path: Path) -> None:
    with nb.open(path, executor=nb.inline()) as batch:
        batch.submit(summing(), 50).wait(10)


def expect_refused(path: Path, match: str | None = None) -> None:
    """It is refused, nothing in the folder is changed, and nobody holds the file."""
    before = {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}

    with pytest.raises(nb.StoreUnreadable, match=match):
        nb.open(path)
    assert {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()} == before


FOREIGN = {
    "view": "CREATE VIEW sales AS SELECT 1 AS a",
    "sequence": "CREATE SEQUENCE numbers",
    "table": "CREATE TABLE mine (a INTEGER)",
    "macro": "CREATE MACRO twice(a) AS a * 2",
    "type": "CREATE TYPE mood AS ENUM ('ok', 'bad')",
    "schema": "CREATE SCHEMA own",
    "tables of our names": "CREATE TABLE meta (a INTEGER); CREATE TABLE submitted (a INTEGER)",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_database_of_others_is_left_as_it_is(store: Path, kind: str) -> None:
    """R38"""
    execute(store, FOREIGN[kind])

    expect_refused(store, "not a store of nbbatch")


ODD = {
    "a newer format": "UPDATE meta SET value = '99' WHERE name = 'format'",
    "no format": "UPDATE meta SET value = NULL WHERE name = 'format'",
    "a format that is no number": "UPDATE meta SET value = 'two' WHERE name = 'format'",
    "no row of the format": "DELETE FROM meta",
    "a column of another type": "ALTER TABLE event ALTER attempt TYPE VARCHAR",
    "one column more": "ALTER TABLE chunk ADD COLUMN more INTEGER",
    "a default": "ALTER TABLE chunk ALTER seq SET DEFAULT 7",
    "a table less": "DROP TABLE gate",
    "a view in place of a table": "DROP TABLE gate; CREATE VIEW gate AS SELECT 1",
    "endless claims": "INSERT INTO claim VALUES (1, 1, 1, 1, 1, 1000000000, 1, 0)",
    "a negative claim": "INSERT INTO claim VALUES (1, 1, 1, 1, 1, -5, 1, 0)",
    "ids that are no numbers": "INSERT INTO meta VALUES ('last_chunk', 'many')",
}


@pytest.mark.parametrize("kind", ODD)
def test_a_store_with_what_nbbatch_never_writes_is_refused(store: Path, kind: str) -> None:
    """R38"""
    a_store(store)
    execute(store, *ODD[kind].split(";"))

    expect_refused(store)


def test_one_flipped_bit_is_refused_or_does_no_harm(tmp_path: Path) -> None:
    """R38"""
    good = tmp_path / "good.duckdb"
    a_store(good)
    data, dice = good.read_bytes(), random.Random(11)
    for number in range(25):
        folder = tmp_path / str(number)
        folder.mkdir()
        path, place = folder / "s.duckdb", dice.randrange(12_288 if number % 2 else len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :])
        bad = path.read_bytes()
        try:
            batch = nb.open(path, executor=nb.inline())
        except nb.StoreUnreadable:
            assert path.read_bytes() == bad
            assert [each.name for each in folder.iterdir()] == ["s.duckdb"]
        else:
            batch.close()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def empty(path: Path) -> None:
    path.touch()


def log_is_a_pipe(path: Path) -> None:
    a_store(path)
    os.mkfifo(f"{path}.wal")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [pipe, loop, device, empty, log_is_a_pipe])
def test_what_is_no_plain_file_is_refused_at_once(store: Path, make: Callable[[Path], None]) -> None:
    """R38"""
    make(store)

    with pytest.raises(nb.StoreUnreadable):
        nb.open(store)
    assert not Path(f"{store}.running").exists()


def killed(tmp_path: Path) -> dict[str, bytes]:
    """The files that a store has whose process died, by what their names end with."""
    path = tmp_path / "alive.duckdb"
    with nb.open(path, executor=nb.inline()) as batch:
        for n in range(3):
            batch.submit(summing(), n).wait(10)
        return {each.name.removeprefix(path.name): each.read_bytes() for each in tmp_path.iterdir()}


def placed(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for end, content in files.items():
        (folder / f"s.duckdb{end}").write_bytes(content)
    return folder / "s.duckdb"


def test_a_damaged_log_is_told(tmp_path: Path) -> None:
    """R38"""
    files = killed(tmp_path)
    log = files[".wal"]
    damaged = {
        "zeros": bytes(len(log)),
        "noise": random.Random(3).randbytes(len(log)),
        "zeros at the beginning": bytes(100) + log[100:],
        "zeros in the middle": log[: len(log) // 2] + bytes(300) + log[len(log) // 2 + 300 :],
        "an impossible size": log[:50] + log[50:].replace(b"\0\0\0\0\0\0", b"\0\0\0\0\0\x40", 1),
    }
    for kind, bad in damaged.items():
        expect_refused(placed(tmp_path / kind, {**files, ".wal": bad}), "log")


def test_a_log_that_ends_within_a_transaction_opens(tmp_path: Path) -> None:
    """R38"""
    files = killed(tmp_path)
    path = placed(tmp_path / "torn", {**files, ".wal": files[".wal"] + files[".wal"][200:300]})

    with nb.open(path) as batch:
        assert batch.instances().height == 3


def test_a_log_that_is_gone_is_told_until_one_says_to_do_without(tmp_path: Path) -> None:
    """R38"""
    files = killed(tmp_path)
    del files[".wal"]
    path = placed(tmp_path / "lost", files)
    expect_refused(path, r"s\.duckdb\.wal is gone")
    Path(f"{path}.running").unlink()

    with nb.open(path) as batch:
        assert batch.instances().height == 0


def test_a_store_that_is_refused_keeps_the_log_of_a_process_that_died(tmp_path: Path) -> None:
    """R38"""
    files = killed(tmp_path)
    path = placed(tmp_path / "in the way", {**files, ".running": b"my own"})
    expect_refused(path, "in the way")
    Path(f"{path}.running").unlink()

    with nb.open(path) as batch:
        assert batch.instances().height == 3


def test_an_older_store_that_is_damaged_is_refused_and_not_copied(store: Path) -> None:
    """R38"""
    a_store(store)
    execute(store, "UPDATE meta SET value = '1' WHERE name = 'format'", "ALTER TABLE chunk ALTER seq TYPE VARCHAR")

    expect_refused(store)


def test_a_file_that_this_process_has_open_is_told(store: Path) -> None:
    """R38"""
    a_store(store)
    with duckdb.connect(str(store)), pytest.raises(nb.StoreError, match="This process has it open"):
        nb.open(store)


def test_a_log_that_another_process_takes_away_just_now_is_no_damaged_one(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, open_it = Path(f"{store}.wal"), Path.open
    for take_away in (log.unlink, lambda: log.write_bytes(b"")):
        log.write_bytes(b"something")

        def late(path: Path, mode: str, take_away: Callable[[], object] = take_away) -> Any:
            monkeypatch.undo()
            take_away()
            return open_it(path, mode)

        monkeypatch.setattr(Path, "open", late)
        inspection.check_log(store)

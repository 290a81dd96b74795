"""A process that is killed in the middle of a checkpoint leaves a store that opens, with all that was committed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.store import checkpoint
from nbbatch.store.copying import HEADERS
from nbbatch.store.queries import QUERIES
from tests.jobs import summing

BLOCK = 262_144


def catalog(batch: nb.Batch) -> list[int]:
    """Where the blocks of the catalog are."""
    rows = batch._engine.call(lambda: batch._store._con.execute(QUERIES["catalog_blocks"]).fetchall())
    return [HEADERS + block * BLOCK for (block,) in rows]


def left_in_a_checkpoint(store: Path, *, ended: bool) -> Path:
    """A copy of a store as a kill leaves it in a checkpoint: a block half written; or when the new header is there already."""
    with nb.open(store) as batch:
        batch.submit(summing(), 300).wait()
        batch._engine.call(batch._store.checkpoint)
        batch.submit(summing(), 400).wait()
        (place, *_) = catalog(batch)
        source, copy = batch._store.source(), store.with_name("killed.duckdb")
        with checkpoint.kept(batch._engine.call(lambda: batch._store._con), source):
            assert source.copy(copy)
        with copy.open("r+b") as file:
            if ended:
                kept = checkpoint.beside(copy)
                data = bytearray(kept.read_bytes())
                data[32 + 4096 : 32 + 4104] = b"another!"  # of the header, as if the one in the file were newer
                kept.write_bytes(data)
            else:
                file.seek(place + 100_000)
                file.write(os.urandom(50_000))
    return copy


def test_a_block_that_was_half_written_is_put_back_and_nothing_is_lost(store: Path) -> None:
    copy = left_in_a_checkpoint(store, ended=False)
    with nb.open(copy) as batch:
        assert batch.instance(1).result() == sum(2 * i for i in range(300))
        assert batch.instance(2).result() == sum(2 * i for i in range(400))
    assert not checkpoint.beside(copy).exists()


def test_without_what_was_kept_the_same_store_does_not_open(store: Path) -> None:
    copy = left_in_a_checkpoint(store, ended=False)
    checkpoint.beside(copy).unlink()
    with pytest.raises(nb.StoreUnreadable, match="checksum"):
        nb.open(copy)


def test_where_the_new_header_counts_nothing_is_put_back(store: Path) -> None:
    copy = left_in_a_checkpoint(store, ended=True)
    with nb.open(copy) as batch:
        assert batch.instance(2).status == "COMPLETED"
    assert not checkpoint.beside(copy).exists()


def test_a_look_at_a_store_in_the_middle_of_a_checkpoint_is_right(store: Path) -> None:
    copy = left_in_a_checkpoint(store, ended=False)
    with nb.look(copy) as look:
        assert look.instance(2).status == "COMPLETED"
    assert checkpoint.beside(copy).exists()


def test_what_is_kept_is_the_users_alone_and_is_gone_after_the_checkpoint(store: Path) -> None:
    with nb.open(store) as batch:
        batch.submit(summing(), 300).wait()
        batch._engine.call(batch._store.checkpoint)
        with checkpoint.kept(batch._engine.call(lambda: batch._store._con), batch._store.source()):
            assert stat.S_IMODE(checkpoint.beside(store).stat().st_mode) == 0o600
        assert not checkpoint.beside(store).exists()


def test_a_file_of_another_kind_of_that_name_is_left_alone_and_harms_nothing(store: Path) -> None:
    place = checkpoint.beside(store)
    place.write_text("mine")
    with nb.open(store) as batch:
        batch.submit(summing(), 300).wait()
        assert not batch._engine.call(batch._store.checkpoint)
    with nb.open(store) as batch:
        assert batch.instance(1).status == "COMPLETED"
    assert place.read_text() == "mine"


def test_a_long_log_is_written_into_the_file(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 20_000)
    with nb.open(store) as batch:
        for _ in range(5):
            batch.submit(summing(), 300, new=True).wait()
        assert store.with_name("store.duckdb.wal").stat().st_size < 60_000


def test_who_has_the_store_open_is_not_disturbed_by_an_opening_that_finds_its_checkpoint(store: Path) -> None:
    with nb.open(store) as batch:
        batch.submit(summing(), 300).wait()
        batch._engine.call(batch._store.checkpoint)
        with checkpoint.kept(batch._engine.call(lambda: batch._store._con), batch._store.source()):
            opening = subprocess.run([sys.executable, "-c", f"import nbbatch as nb; nb.open({str(store)!r})"], capture_output=True, text=True)  # fmt: skip
            assert "StoreLocked" in opening.stderr
            assert checkpoint.beside(store).exists()


def test_what_another_opening_has_put_back_just_now_is_missed_by_nobody(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1"""
    nb.open(store).close()
    monkeypatch.setattr(checkpoint, "_is_ours", lambda _: True)  # as it was a moment ago
    checkpoint.put_back(store)
    monkeypatch.undo()

    with nb.open(store) as batch:
        assert batch.instances().is_empty()

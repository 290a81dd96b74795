"""The file of a store is deleted, moved or replaced while it is open: that is told, and nothing else is harmed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import nbbatch as nb
from tests.jobs import each, summing


def _delete(store: Path) -> None:
    for path in store.parent.glob(f"{store.name}*"):
        path.unlink()


def _move(store: Path) -> None:
    for path in store.parent.glob(f"{store.name}*"):
        path.rename(store.parent / path.name.replace(store.name, "moved"))


def _replace(store: Path) -> None:
    _move(store)
    shutil.copy(store.parent / "moved", store)


HOW: dict[str, Callable[[Path], None]] = {
    "deleted": _delete,
    "moved": _move,
    "replaced": _replace,
    "folder": lambda store: shutil.rmtree(store.parent),
}


@pytest.mark.parametrize("how", HOW)
def test_a_store_that_is_displaced_under_a_run_is_told_at_once_and_at_the_end(how: str, tmp_path: Path) -> None:
    """R36"""
    store = tmp_path / "folder" / "s"
    store.parent.mkdir()
    begun, gate = threading.Event(), threading.Event()

    def work(value: int) -> None:
        begun.set()
        gate.wait(10)

    batch = nb.open(store, workers=1)
    run = batch.submit(each(work), 500)
    assert begun.wait(10)
    HOW[how](store)
    gate.set()

    with pytest.raises(nb.StoreError, match=r"was (deleted or moved|replaced).* while it was open"):
        run.wait(10)
    with pytest.raises(nb.StoreError, match="while it was open"):
        batch.close()
    batch.close()
    if how == "moved":
        with nb.open(tmp_path / "folder" / "moved", nb.inline()) as moved:
            assert moved.instances().height == 1


def test_a_store_opened_in_the_place_of_a_deleted_one_is_a_new_one(store: Path) -> None:
    """R36"""
    nb.open(store, nb.inline())
    _delete(store)

    with pytest.warns(UserWarning, match="while it was open"):
        batch = nb.open(store, nb.inline())
    with batch:
        assert batch.submit(summing(), 3).result(10) == 6

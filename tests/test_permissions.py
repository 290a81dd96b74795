"""A store and the files beside it are for the user alone, from their first byte on; whom the store is shared with, they are shared with too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbbatch as nb
from tests.jobs import summing


@pytest.fixture(autouse=True)
def lax() -> Iterator[None]:
    """What the system would make is readable and writable for everybody."""
    usual = os.umask(0)
    yield
    os.umask(usual)


def modes(store: Path) -> dict[str, str]:
    return {each.name.removeprefix(store.name): oct(each.stat().st_mode & 0o777) for each in store.parent.iterdir()}


def test_a_store_and_the_files_beside_it_are_for_the_user_alone(store: Path) -> None:
    """R39"""
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(summing(), 50).wait(10)

        assert modes(store) == {"": "0o600", ".wal": "0o600", ".running": "0o600", ".serving": "0o600"}
    assert modes(store) == {"": "0o600"}


def test_a_log_is_private_before_anything_is_written_into_it(store: Path) -> None:
    """R39"""
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(summing(), 50).wait(10)
        batch.purge(older_than=0)  # which writes the log into the file

        assert Path(f"{store}.wal").stat().st_size == 0
        assert modes(store)[".wal"] == "0o600"
        batch.submit(summing(), 3).wait(10)
        assert Path(f"{store}.wal").stat().st_size > 0
        assert modes(store)[".wal"] == "0o600"


def test_the_files_beside_a_store_are_shared_as_it_is(store: Path) -> None:
    """R39"""
    nb.open(store).close()
    store.chmod(0o660)
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(summing(), 3).wait(10)

        assert modes(store) == {"": "0o660", ".wal": "0o660", ".running": "0o660", ".serving": "0o600"}


def test_making_a_store_leaves_nothing_beside_it(store: Path) -> None:
    """R39"""
    nb.open(store).close()

    assert [each.name for each in store.parent.iterdir()] == [store.name]

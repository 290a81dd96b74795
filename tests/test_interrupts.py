"""A signal that comes while the main thread reads the store does what it does anywhere else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nbbatch as nb
from nbbatch.base import interrupts
from nbbatch.store import connection
from tests.kit import engine

ENDLESS = "SELECT count(*) FROM range(5_000_000_000) t(i) WHERE i % 7 = 3"
"""Much longer than until the signal; a thread of DuckDB that has missed the interrupt, which happens once in a long while, ends all the same."""


def read_until_signalled(batch: nb.Batch, handler: Callable[..., Any]) -> None:
    cursors = engine(batch).store.cursors
    kept = signal.signal(signal.SIGUSR1, handler)
    try:
        threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
        with cursors.reading():
            cursors.mine().execute(ENDLESS).fetchall()
    finally:
        signal.signal(signal.SIGUSR1, kept)


def test_a_query_that_the_user_interrupts_raises_what_the_keyboard_does(batch: nb.Batch) -> None:
    """R7."""
    with pytest.raises(KeyboardInterrupt):
        read_until_signalled(batch, signal.default_int_handler)
    assert batch.instances().is_empty()


def test_opening_a_store_that_the_user_interrupts_raises_what_the_keyboard_does(tmp_path: Path) -> None:
    """R7."""
    kept = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt), connection.clear_errors("a store"):
            duckdb.connect().execute(ENDLESS).fetchall()
    finally:
        signal.signal(signal.SIGUSR1, kept)


def test_a_query_during_which_the_process_is_told_to_end_ends_it(
    batch: nb.Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R40."""
    monkeypatch.setattr("nbbatch.base.interrupts._endings", [])

    def told(*_: Any) -> None:
        raise interrupts.ending(75)

    with pytest.raises(SystemExit) as ended:
        read_until_signalled(batch, told)
    assert ended.value.code == 75

"""What a short run costs in the store: statements and transactions are counted, no time is measured."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.base.columns import Columns
from nbbatch.base.errors import ValueNotStorable
from nbbatch.base.rows import OutputRow
from nbbatch.engine.pools import Lane, adapted
from nbbatch.engine.state import MANY, TRUSTED, LiveStep
from nbbatch.store.database import Store
from nbbatch.store.inserting import ARROW_ROWS, INSERT_ROWS
from tests.jobs import each, numbers
from tests.kit import engine

GATE = {"instance": 1, "step": 0}


class Counted:
    """A connection that notes what it runs."""

    def __init__(self, con: Any) -> None:
        self.con = con
        self.run: list[str] = []

    def execute(self, statement: Any, *values: Any) -> Any:
        self.run.append(str(getattr(statement, "query", statement)))
        return self.con.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.con, name)


def counted(batch: nb.Batch) -> list[str]:
    """What the engine's connections run from now on."""
    store: Any = batch._store
    store._con = store._inserts._con = Counted(store._con)
    store._inserts._quick = Counted(store._inserts._quick)
    store._inserts._quick.run = store._con.run
    return store._con.run


def test_each_turn_of_a_run_of_one_item_is_one_statement_and_a_submit_reads_nothing() -> None:
    job = each(lambda _: None)
    with nb.open(":memory:", workers=1) as batch:
        for _ in range(3):
            batch.submit(job, 1).result(20)
        read: list[str] = []
        fetch = batch._store.fetch
        batch._store.fetch = lambda query, *values: read.append(query) or fetch(query, *values)
        ran, before = counted(batch), engine(batch).turns
        batch.submit(job, 1).result(20)

        assert len(ran) <= engine(batch).turns - before <= len(job.nodes) + 1
        assert not any(text.startswith(("BEGIN", "COMMIT", "SELECT")) for text in ran), ran
        assert read == []


def test_many_rows_of_a_table_are_planned_once_and_stored_as_they_came() -> None:
    def page(first: int) -> Columns:
        made = Columns(OutputRow)
        seqs = range(first, first + ARROW_ROWS)
        made.extend(ARROW_ROWS, instance=1, step=2, parent=3, seq=seqs, data=[str(seq).encode() for seq in seqs])
        return made

    with nb.open(":memory:") as batch:
        store, ran = batch._store, counted(batch)

        def write(first: int) -> None:
            with store.transaction():
                store.append("output", page(first))

        engine(batch).call(write, 0)
        begun = len(ran)
        for first in (ARROW_ROWS, 2 * ARROW_ROWS):
            engine(batch).call(write, first)

        assert [text.split()[0].upper() for text in ran[begun:]] == ["BEGIN", "EXECUTE", "COMMIT"] * 2
        stored = pl.DataFrame(
            store.cursor().execute("SELECT seq, data FROM output ORDER BY seq").fetchall(), orient="row"
        )
        assert stored.rows() == [(seq, str(seq).encode()) for seq in range(3 * ARROW_ROWS)]


def add_gate(store: Store, event: Any) -> None:
    store.add("gate", id=event, **GATE)


def gates(store: Store) -> list[Any]:
    return [event for (event,) in store.cursor().execute("SELECT id FROM gate ORDER BY id").fetchall()]


@pytest.mark.parametrize("rows", [1, INSERT_ROWS, INSERT_ROWS + 1])
def test_rows_of_a_transaction_are_stored_together_or_not_at_all(rows: int) -> None:
    with nb.open(":memory:") as batch:
        store = batch._store

        def write(last: Any) -> None:
            with store.transaction():
                store.add("user_data", id=1, instance=1, created_us=1, data="{}")
                for event in (*range(1, rows), last):
                    add_gate(store, event)

        with pytest.raises(ValueNotStorable, match="cannot be stored"):
            engine(batch).call(write, "no number")
        assert (gates(store), store.count("user_data", 1)) == ([], 0)

        engine(batch).call(write, rows)
        assert (gates(store), store.count("user_data", 1)) == ([*range(1, rows + 1)], 1)


def test_a_transaction_reads_what_it_has_added_and_a_trial_leaves_nothing() -> None:
    with nb.open(":memory:") as batch:
        store = batch._store

        def tried() -> list[Any]:
            with store.trial():
                store.add("user_data", id=1, instance=1, created_us=1, data="{}")
                return store.rows("user_data", 1)

        assert engine(batch).call(tried) == [("{}",)]
        assert store.count("user_data", 1) == 0


def sizes(batch: nb.Batch) -> list[int]:
    """How many chunks of the second step each micro-batch takes from now on."""
    claims, found = engine(batch)._claims, list[int]()
    take = claims.take

    def noted(live: Any, step: Any, lane: Any, changes: Any) -> Any:
        items = take(live, step, lane, changes)
        if step.node.index == 1 and items:
            found.append(len(items))
        return items

    claims.take = noted
    return found


def test_a_run_begins_with_micro_batches_as_large_as_those_before_it_where_there_are_many() -> None:
    """Also in another batch: what a step takes is known in the process."""
    job = each(lambda _: None)
    with nb.open(":memory:", workers=1) as batch:
        first = sizes(batch)
        batch.submit(job, 10 * MANY).result(20)
    with nb.open(":memory:", workers=1) as batch:
        later = sizes(batch)
        batch.submit(job, 10 * MANY).result(20)
        seen = len(later)
        batch.submit(job, MANY - 1).result(20)

    assert first[0] == later[seen] == 1
    assert max(later[:seen]) > 10 * TRUSTED


def test_a_micro_batch_sized_by_other_runs_gives_back_early_what_it_has_not_begun() -> None:
    """L13: no result waits long because of what another run did."""
    lane = Lane(adapted(nb.inline()))
    learned, new = SimpleNamespace(mean_us=5.0), SimpleNamespace(mean_us=0.0)

    assert 3 * lane.most_us(new) < lane.most_us(learned)  # type: ignore[arg-type]
    assert lane.most_us(new) <= 30_000  # type: ignore[arg-type]


def test_where_a_worker_waits_little_is_claimed_ahead_of_slow_steps() -> None:
    lane = Lane(adapted(nb.threads(2)), 2)
    slow: Any = SimpleNamespace(behind_us=0.0, likely_us=10_000, mean_us=10_000, size=1, likely_size=1)

    def claimed() -> int:
        lane.was_idle = lane.taken < lane.workers
        before = lane.taken
        while lane.has_room(slow):
            lane.taken += 1
        return lane.taken - before

    assert claimed() == 4  # one that runs and one ahead
    lane.taken = 2
    assert claimed() > 4


def test_the_rest_is_claimed_ahead_while_workers_do_the_first_so_that_no_result_waits_for_it() -> None:
    go, claimed = threading.Event(), threading.Semaphore(0)
    job = each(lambda _: go.wait(20))
    with nb.open(":memory:", workers=2) as batch:
        go.set()
        batch.submit(job, 2).result(20)
        for learned in engine(batch).live._learned.values():
            learned.mean_us = 10_000
        take = engine(batch)._claims.take
        engine(batch)._claims.take = lambda *given: claimed.release() or take(*given)
        go.clear()
        run = batch.submit(job, 20)
        found = [
            claimed.acquire(timeout=10) for _ in range(1 + 2 * 2 + 1)
        ]  # the numbers, what two workers have, and more
        go.set()
        run.result(20)

    assert all(found)


class Gated(Executor):
    """Passes calls on to threads, and begins each once it is let in."""

    def __init__(self) -> None:
        self.inner, self.entries, self.handed = nb.threads(8), threading.Semaphore(0), threading.Semaphore(0)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.handed.release()
        return self.inner.submit(lambda: self.entries.acquire(timeout=20) and fn(*args, **kwargs))


@pytest.mark.parametrize(("items", "likely_us"), [(20, 100_000), (3 * MANY, 5_000)])
def test_each_worker_elsewhere_has_a_call_on_its_way_beside_the_one_it_runs(items: int, likely_us: int) -> None:
    """Hand-over takes long there, so that a worker that has ended a call is to find the next one: from the first one on."""
    pool = Gated()
    with nb.open(":memory:", nb.executor(pool, workers=2)) as batch:
        job = each(lambda _: None)
        pool.entries.release(3)
        batch.submit(job, 2).result(20)
        for learned in engine(batch).live._learned.values():
            learned.mean_us = likely_us
        while pool.handed.acquire(blocking=False):
            pass
        run = batch.submit(job, items)
        pool.entries.release()  # for the numbers
        found = [pool.handed.acquire(timeout=10) for _ in range(1 + 2 * 2)]

        assert all(found)
        assert engine(batch).call(lambda: engine(batch)._lanes.main.taken) == 2 * 2
        pool.entries.release(items)
        run.result(20)


def test_quick_attempts_of_a_limited_async_step_are_claimed_ahead_for_many_commits() -> None:
    @nb.step(concurrency=3)
    async def ask(i: int) -> None: ...

    job = nb.Job("asking", numbers >> ask)

    def claimed(likely_us: float) -> int:
        step = LiveStep(job.nodes[1])
        step.learned.mean_us = likely_us
        return step.free()

    assert [claimed(likely) for likely in (0, 1e6, 30_000, 20)] == [6, 6, 12, 15]

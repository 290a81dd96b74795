"""What runs now, and since when: `run.now()`, and the marks of workers that it is read from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.base.rows import Item
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Kind
from nbbatch.engine.now import Running
from nbbatch.panel.now_page import MOST_ROWS, shown
from nbbatch.panel.session import Session
from nbbatch.worker import running
from nbbatch.worker.attempt import run_chunks
from nbbatch.worker.context import MicroBatch, StoredParams
from nbbatch.worker.running import TOLD_EACH, Marks
from tests.jobs import each
from tests.kit import HandClock, settle


def test_what_runs_is_told_with_its_worker_its_input_and_since_when(batch: nb.Batch, clock: HandClock) -> None:
    seen: list[pl.DataFrame] = []

    def look(value: int) -> None:
        if value == 2:
            clock.advance(41)
            seen.append(batch.instance(1).now().filter(chunk=nb.context().chunk))

    run = batch.submit(each(look), 3)
    run.wait(10)
    ended = run.attempts("visit").filter(chunk=seen[0]["chunk"][0]).row(0, named=True)
    (row,) = seen[0].rows(named=True)

    assert (row["step"], row["attempt"], row["worker"], row["input"]) == ("visit", 1, ended["worker"], "2")
    assert (row["started"], row["seconds"]) == (ended["started"], 41.0)
    assert ended["ended"] - ended["started"] == timedelta(seconds=41)
    assert run.now().is_empty()
    assert run.now().schema == seen[0].schema


def test_a_fan_out_tells_how_many_it_has_given(inline: nb.Batch) -> None:
    told: list[int] = []

    @nb.step
    def give(count: int) -> Iterator[int]:
        for number in range(count):
            yield number
            if number in (0, 2, count - 1):
                told.append(inline.instance(1).now()["given"][0])
                assert inline.instance(1)._reading().given == told[-1]

    @nb.step
    def take(number: int) -> None:
        if number == 0:
            assert inline.instance(1).now()["given"][0] is None

    inline.submit(nb.Job("gives", give >> take), TOLD_EACH + 100).wait(10)

    assert told[:2] == [1, 3]
    assert TOLD_EACH <= told[2] <= TOLD_EACH + 100


def micro_batch(look: nb.Step[int, None], marks: Marks, clock: HandClock, count: int) -> MicroBatch:
    job = nb.Job("one", each_number >> look)
    node = job.current()[1]
    assert node.step.kind is Kind.NONE
    items = [Item(chunk, 1, b"%d" % chunk) for chunk in range(1, count + 1)]
    params = StoredParams(job.params, b"1")
    return MicroBatch(1, node, params, items, clock.now, marks=marks, slots=marks.take(1))


@nb.step
def each_number(count: int) -> Iterator[int]:
    yield from range(count)


def test_since_when_is_that_of_the_chunk_not_of_the_micro_batch_it_came_with(clock: HandClock) -> None:
    marks, since, began = Marks(None, 1), list[int](), clock.now()

    @nb.step
    def look(value: int) -> None:
        since.append(marks.since_us[micro.slots[0]] - began)
        clock.advance(value)

    micro = micro_batch(look, marks, clock, 3)
    run_chunks(micro)

    assert since == [0, 1_000_000, 3_000_000]
    assert marks.workers[micro.slots[0]] == threading.get_ident()


def test_a_slot_that_is_handed_out_again_says_nothing_of_whom_it_was_of(clock: HandClock) -> None:
    marks = Marks(None, 1)

    @nb.step
    def look(value: int) -> None:
        clock.advance(value)

    micro = micro_batch(look, marks, clock, 1)
    run_chunks(micro)
    marks.give_back(micro.slots)
    (slot,) = marks.take(1)

    assert (marks.cells[slot], marks.workers[slot]) == (0, 0)


def test_the_snapshot_has_what_runs_and_what_is_told_of_it(inline: nb.Batch, clock: HandClock) -> None:
    seen: list[Session] = []

    @nb.step(max_attempts=1, max_failed=1.0)
    def look(value: int) -> int:
        clock.advance(10)
        if value == 3:
            raise ValueError("three")
        if value == 8:
            run = inline.instance(1)
            seen.append(Session(run, run._store, run._engine()))
            seen[0].step()
        return value

    @nb.step
    def last(value: int) -> None:
        clock.advance(1)

    run = inline.submit(nb.Job("many", each_number >> look >> last), 10)
    run.wait(10)
    now, after = seen[0].snapshot, Session(run, run._store, run._engine())
    after.step()

    assert [(each.step, each.chunk) for each in now.running] == [(1, 10)]
    assert (now.workers, now.causes, now.failed) == (1, 1, 1)
    assert [step.growing for step in now.steps] == [False, False, True]
    assert now.growing
    assert now.done_us is None or now.done_us > now.at_us
    assert len(now.rates) <= 60
    assert max(now.rates) > 0
    assert after.snapshot.slowest is not None
    assert after.snapshot.slowest[0] == "look"
    assert 0.8 < after.snapshot.slowest[1] < 1
    assert not after.snapshot.growing
    assert after.snapshot.running == ()
    assert after.snapshot.states == {ChunkStatus.COMPLETED: 19, ChunkStatus.FAILED: 1}


def test_since_when_a_run_is_paused_is_told(inline: nb.Batch, clock: HandClock) -> None:
    run = inline.submit(each(lambda value: None), 2)
    run.wait(10)
    paused = inline.submit(each(lambda value: inline.instance(2).pause() if value == 0 else None), 2, key="other")
    began = clock.now()
    with pytest.raises(TimeoutError):
        paused.wait(0.1)
    clock.advance(60)
    session = Session(paused, paused._store, paused._engine())

    assert session.snapshot.paused_us == began
    assert session.snapshot.running == ()
    assert Session(run, run._store, run._engine()).snapshot.paused_us is None


def test_marks_of_an_older_form_are_read(tmp_path: Path) -> None:
    store = str(tmp_path / "s.duckdb")
    marks = Marks(store, 3)
    marks.cells[0] = 7
    name = Path(running.name_of(store))
    data = name.read_bytes()
    marks.close()
    name.write_bytes(data[: running._OLD_SIZE])

    assert running.left(store) == running.Left(frozenset({7}), 3)


def test_the_first_tab_and_the_plain_page_say_what_runs_and_since_when(inline: nb.Batch, clock: HandClock) -> None:
    seen: list[tuple[str, str]] = []

    def look(value: int) -> None:
        clock.advance(0.25 if value < 40 else 41)
        if value == 40:
            run = inline.instance(1)
            session = Session(run, run._store, run._engine())
            session.step()
            seen.append((session.step()["body"], run._repr_html_()))

    began = clock.now()
    run = inline.submit(each(look), 41)
    run.wait(10)
    (body, page), after = seen[0], Session(run, run._store, run._engine())

    assert f'data-since="{(began + 10_000_000) // 1000}"' in body
    assert all(
        part in body
        for part in ("visit", "<code>40</code>", 'data-chunk="42"', "data-usual=", run.attempts()["worker"][-1])
    )
    assert "41 s · usually 250 ms" in page
    assert after.tab == "timeline"
    after.ask({"do": "tab", "tab": "now"})
    assert "has ended" in after.step()["body"]
    assert "What ran" not in run._repr_html_()


def test_of_very_many_attempts_those_are_listed_that_run_longest() -> None:
    many = tuple(Running(0, chunk, 1, f"w{chunk}", 1_000 - chunk, None, "") for chunk in range(3 * MOST_ROWS))

    assert [each.chunk for each in shown(many)] == list(range(2 * MOST_ROWS, 3 * MOST_ROWS))


@pytest.mark.parametrize("why", ["paused", "waiting to retry"])
def test_where_nothing_runs_it_is_said_why(inline: nb.Batch, why: str) -> None:
    def stop(value: int) -> None:
        if why == "paused":
            inline.instance(1).pause()
        else:
            raise ValueError

    run = inline.submit(each(stop, backoff=60), 2)
    settle(inline)

    assert why in Session(run, run._store, run._engine()).step()["body"]

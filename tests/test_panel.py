"""The panel without a browser: what a session reads, sends and does; how often the poller sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.cockpit import ledger
from nbbatch.cockpit.ledger import Ledger
from nbbatch.cockpit.session import Poller, Session
from nbbatch.options import options
from tests.kit import engine

HOSTILE = "<script>alert(1)</script>\u202e" + "x" * 1_000_000
hold = threading.Event()


@nb.step
def find(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step(max_attempts=1, max_failed=1.0)
def work(number: int) -> int:
    print(f"working on {number} {HOSTILE if number == 3 else ''}")
    if number % 10 == 7:
        raise ValueError(f"row {number}: {HOSTILE}")
    return number


@nb.step
def held(number: int) -> int:
    hold.wait(20)
    return number


@nb.step
def total(numbers: Iterable[int]) -> int:
    return sum(numbers)


job = nb.Job("orders", find >> work >> total)
slow = nb.Job("slow", find >> held >> total)
TABS = ("timeline", "failures", "chunks", "log", "history")


def session(run: nb.JobHandle[Any]) -> Session:
    return Session(run, run._store, run._engine())


@pytest.fixture
def ended(threaded: nb.Batch) -> nb.JobHandle[int]:
    run = threaded.submit(job, 100)
    run.wait()
    return run


@pytest.fixture
def going(threaded: nb.Batch) -> Iterator[nb.JobHandle[int]]:
    hold.clear()
    run = threaded.submit(slow, 50)
    yield run
    run.cancel()
    hold.set()


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_bounded_escaped_and_has_a_frame(ended: nb.JobHandle[int], tab: str) -> None:
    panel = session(ended)
    panel.step()
    panel.ask({"do": "tab", "tab": tab})
    shown = panel.step()

    assert shown["tab"] == tab
    assert shown["body"]
    assert len(json.dumps(shown)) < 50_000
    assert "<script" not in json.dumps(shown)
    assert not panel.frame.is_empty()


def test_the_snapshot_agrees_with_the_frames(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.step()
    now = panel.snapshot
    steps = ended.steps()

    assert (now.done, now.failed, now.errors, now.share) == (102, 10, 10, 1.0)
    assert [step.total for step in now.steps] == steps["chunks"].to_list()
    assert now.steps[1].median == pytest.approx(steps["median_seconds"][1], rel=0.12)


def test_events_are_read_once_in_pages_and_give_the_same_sums(
    ended: nb.JobHandle[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ledger(ended.id)
    whole.read(ended._store)
    monkeypatch.setattr(ledger, "PAGE", 7)
    paged = Ledger(ended.id)
    while paged.read(ended._store):
        pass

    assert paged.durations == whole.durations
    assert sum(bar.attempts for bar in paged.bars()) == sum(bar.attempts for bar in whole.bars()) == 102
    assert [(group.count, group.type) for group in paged.groups()] == [(10, "ValueError")]
    assert paged.whole
    assert not paged.read(ended._store)


def test_chunks_are_filtered_paged_and_inspected(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.ask({"do": "tab", "tab": "chunks"})
    panel.ask({"do": "chunks", "step": "1", "status": "FAILED", "after": 0})
    panel.step()
    failed = panel.frame
    panel.ask({"do": "inspect", "chunk": failed["id"][0]})
    card = panel.step()["inspector"]
    panel.ask({"do": "chunks", "step": "", "status": "", "after": 0})
    first = panel.step()["body"]

    assert failed["status"].to_list() == ["FAILED"] * 10
    assert failed["id"].to_list() == ended.chunks(status="FAILED")["id"].to_list()
    assert "ValueError" in card
    assert "Lineage" in card
    assert 'data-next="20"' in first


def test_what_cannot_be_done_is_told_in_the_panel(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.ask({"do": "inspect", "chunk": 10**9})
    shown = panel.step()

    assert "has no chunk" in shown["head"]["note"]
    assert shown["head"]["cannot"]["cancel"] == "the run is completed"


def test_the_history_shows_the_run_as_it_was(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.ask({"do": "tab", "tab": "history"})
    panel.ask({"do": "at", "share": 0.0})
    panel.step()
    begun = panel.frame
    panel.ask({"do": "at", "share": 1.0})
    panel.step()
    over = panel.frame

    assert begun["completed"].sum() == 0
    assert over["completed"].to_list() == ended.steps()["completed"].to_list()
    assert over["failed"].to_list() == ended.steps()["failed"].to_list()


def test_buttons_pause_resume_and_cancel(going: nb.JobHandle[int]) -> None:
    panel = session(going)
    for does, status in (("pause", "PAUSED"), ("resume", "IN_PROGRESS"), ("cancel", "CANCELLED")):
        panel.ask({"do": does})

        assert panel.step()["head"]["status"] == status
    assert panel.step()["head"]["cannot"]["cancel"]


def test_looking_starts_no_work_and_changes_nothing(going: nb.JobHandle[int]) -> None:
    going.pause()
    before = going.chunks()
    panel = session(going)
    for tab in TABS:
        panel.ask({"do": "tab", "tab": tab})
        panel.step()

    assert going.chunks().equals(before)


def test_equal_values_are_sent_once_a_new_page_gets_one_and_the_last_is_always_sent(going: nb.JobHandle[int]) -> None:
    sent: list[dict[str, Any]] = []
    over = threading.Event()
    going.pause()
    poller = Poller(session(going), sent.append, lambda _: over.set())
    poller.session._take = lambda now=poller.session.snapshot: now  # type: ignore[method-assign]
    poller.tick()
    poller.tick()
    assert len(sent) == 1
    poller.ask({"do": "hello", "tab": "timeline"})
    del poller.session._take
    going.cancel()

    assert over.wait(10)
    assert sent[-1]["head"]["status"] == "CANCELLED"
    poller.wait(5)
    poller.close()


def test_a_closed_batch_is_told_not_raised(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    ended.batch.close()

    assert "closed" in panel.step()["head"]["note"]


def test_options_choose_how_a_run_is_displayed(ended: nb.JobHandle[int], capsys: pytest.CaptureFixture[str]) -> None:
    before = options.display
    try:
        options.display = "none"
        assert ended._ipython_display_() is None
        options.display = "text"
        ended._ipython_display_()
        options.display = "brightly"
        with pytest.raises(ValueError, match="auto, live"):
            ended._ipython_display_()
        options.display = "auto"
        with pytest.raises(NotImplementedError):
            ended._ipython_display_()
    finally:
        options.display = before

    assert "COMPLETED" in capsys.readouterr().out
    assert engine(ended.batch)


def test_the_widget_sends_one_trait_and_answers_its_page(ended: nb.JobHandle[int]) -> None:
    pytest.importorskip("anywidget")
    panel = ended.panel()
    panel._poller.wait(10)
    panel._on_message(panel, {"do": "tab", "tab": "log"}, [])
    panel._poller.wait(10)

    assert panel.shown["tab"] == "log"
    assert panel.frame.columns == ended.logs().columns
    assert "application/vnd.jupyter.widget-view+json" in panel.bundle()
    panel.close()

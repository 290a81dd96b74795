"""The panel without a browser: what a session reads, sends and does; how often the poller sends."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.base.display import options
from nbbatch.panel import attempt_sums, chunk_table
from nbbatch.panel.attempt_sums import AttemptSums
from nbbatch.panel.poller import Poller
from nbbatch.panel.session import Session
from tests.jobs import each
from tests.kit import HandClock, engine

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
TABS = ("now", "failures", "chunks", "timeline", "log", "history")


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
    assert panel.frame().is_empty() == (tab == "now")


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
    whole = AttemptSums(ended.id)
    whole.read(ended._store)
    monkeypatch.setattr(attempt_sums, "PAGE", 7)
    paged = AttemptSums(ended.id)
    while paged.read(ended._store):
        pass

    assert paged.durations == whole.durations
    for sums in (paged, whole):
        _, bars, _ = sums.timeline.drawn(ended._store, ended.id, sums.seen, single=0)
        assert sum(bar.attempts for bar in bars) == 102
        assert [(group.count, group.cause.type) for group in sums.error_groups()] == [(10, "ValueError")]
    assert paged.whole
    assert not paged.read(ended._store)


def test_the_panel_and_the_picture_show_one_timeline(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.step()
    lanes, bars, _ = panel.sums.timeline.drawn(ended._store, ended.id, panel.sums.seen, single=0)
    attempts = ended.attempts()
    seconds = dict(attempts.group_by("worker").agg(attempts["seconds"].sum()).rows())
    shown = ended.timeline().text

    assert lanes == sorted(set(attempts["worker"]))
    assert re.findall(r"^  (\S+) ", shown, re.MULTILINE) == lanes
    for place, worker in enumerate(lanes):
        spent = sum(bar.busy * (bar.end - bar.start) for bar in bars if bar.lane == place)
        assert spent == pytest.approx(attempts.filter(attempts["worker"] == worker)["seconds"].sum(), abs=1e-3)
    assert seconds


def test_the_panel_and_the_handle_group_failures_alike(batch: nb.Batch) -> None:
    def odd(i: int) -> None:
        if i % 2:
            raise ValueError(f"no customer {chr(97 + i % 26)}{chr(97 + i // 26)} in row {i}")
        if i % 5 == 0:
            raise KeyError(i)

    run = batch.submit(each(odd, max_attempts=1, max_failed=1.0), 60)
    run.wait(10)
    panel = session(run)
    panel.step()

    assert {(group.cause, group.count) for group in panel.sums.error_groups()} == {
        (group.cause, len(group)) for group in run.failures()
    }
    assert len(run.failures()) == 2


def test_chunks_are_filtered_paged_and_inspected(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.ask({"do": "tab", "tab": "chunks"})
    panel.ask({"do": "chunks", "step": "1", "status": "FAILED", "after": 0})
    panel.step()
    failed = panel.frame()
    panel.ask({"do": "inspect", "chunk": failed["id"][0]})
    card = panel.step()["inspector"]
    panel.ask({"do": "chunks", "step": "", "status": "", "after": 0})
    first = panel.step()["body"]

    assert failed["status"].to_list() == ["FAILED"] * 10
    assert failed["id"].to_list() == ended.chunks(status="FAILED")["id"].to_list()
    assert "ValueError" in card
    assert "Lineage" in card
    assert 'data-next="40,40"' in first
    assert "1–40 of 102, in order of creation" in first


def listed(panel: Session, **asked: Any) -> tuple[list[int], str]:
    panel.ask({"do": "chunks", "step": "", "status": "", **asked})
    return panel.frame()["id"].to_list() if (body := panel.step()["body"]) else [], body


def test_chunks_are_listed_slowest_or_newest_first_and_found_by_their_id(
    inline: nb.Batch, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = inline.submit(each(lambda value: clock.advance(1 + value * 7 % 10)), 10)
    run.wait(10)
    monkeypatch.setattr(chunk_table, "ROWS", 4)
    panel, _ = opened(run, "chunks")
    took = run.chunks("visit").sort("seconds", descending=True)["id"].to_list()
    slowest, body = listed(panel, step=1, order="slowest")
    after, _ = listed(panel, step=1, order="slowest", offset=4)
    newest, _ = listed(panel, order="newest")
    jumped, there = listed(panel, jump=6)

    assert slowest + after == took[:8]
    assert "1–4 of 10, slowest first" in body
    assert all(part in body for part in ("<code>7</code>", "8 s", run.attempts()["worker"][-1]))
    assert newest == run.attempts()["chunk"].to_list()[:-5:-1]
    assert jumped == [6, 7, 8, 9]
    assert "6–9 of 11" in there


def test_the_inspector_sets_attempts_side_by_side_shows_the_way_of_a_chunk_and_how_to_run_it_again(
    inline: nb.Batch,
) -> None:
    @nb.step(backoff=0, max_attempts=3, max_failed=1)
    def try_it(number: int) -> None:
        print(f"at attempt {nb.context().attempt}")
        raise OSError(f"no. {nb.context().attempt} failed")

    run = inline.submit(nb.Job("tries", find >> try_it), 1)
    run.wait(10)
    panel, _ = opened(run, "chunks")
    panel.ask({"do": "inspect", "chunk": 2})
    card = panel.step()["inspector"]
    beside = card[card.index("Attempts side by side") :]

    assert 'data-copy="batch.instance(1).chunk(2).replay()"' in card
    assert ">find 1</button> → <b>try_it 2</b>" in card
    assert re.search(r"<details open><summary>input</summary><pre>0</pre>", card)
    assert all(
        f"attempt {n}</th>" in beside and f"no. {n} failed" in beside and f"at attempt {n}" in beside for n in (1, 2, 3)
    )
    assert len(card) < 50_000


def test_a_list_of_chunks_renews_itself_while_the_run_moves_and_at_its_end(going: nb.JobHandle[int]) -> None:
    panel, _ = opened(going, "chunks")
    _, before = listed(panel, status="COMPLETED")
    still = panel.step()["body"]
    panel._due = 0.0  # its time has come
    hold.set()
    going.wait(10)
    after = panel.step()["body"]

    assert "1–1 of 1" in before == still
    assert "1–40 of 52" in after
    panel._due = 0.0
    panel.filter = chunk_table.Filter(step=1)
    assert panel.step()["body"] == after


def test_a_step_that_is_chosen_is_what_every_tab_is_about(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    bodies: dict[str, list[str]] = {}
    for step in (1, 2):
        panel.ask({"do": "step", "step": step})
        for tab in TABS:
            panel.ask({"do": "tab", "tab": tab})
            bodies.setdefault(tab, []).append(panel.step()["body"])
    shown = panel.step()

    assert shown["step"] == 2
    assert bodies["timeline"][0] != bodies["timeline"][1]
    assert shown["filter"][0] == 2
    assert ["ValueError" in each for each in bodies["failures"]] == [True, False]
    assert ["working on" in each for each in bodies["log"]] == [True, False]
    assert ["100 of" in each or "90 of" in each for each in bodies["history"]] == [True, False]
    panel.ask({"do": "step", "step": 99})
    assert "IndexError" in panel.step()["head"]["note"]
    panel.ask({"do": "step", "step": None})
    assert panel.step()["step"] is None


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
    begun = panel.frame()
    panel.ask({"do": "at", "share": 1.0})
    panel.step()
    over = panel.frame()

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
    while len(going.chunks()) < 51:  # the first step may still run when it is paused, and gives its chunks then
        pass
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


def test_a_run_that_is_purged_while_it_is_shown_is_told_and_its_thread_rests(ended: nb.JobHandle[int]) -> None:
    over = threading.Event()
    poller = Poller(session(ended), lambda _: None, lambda _: over.set())
    before = poller.session.step()
    ended.batch.purge(older_than=0)
    after = poller.session.step()

    assert "purged" in after["head"]["note"]
    assert set(after["head"]["cannot"].values()) == {"the run was purged"}
    assert after["chain"] == before["chain"]
    assert poller._is_over()
    assert over.is_set()


def test_what_cannot_be_read_for_a_moment_is_told_with_the_last_figures_and_comes_back(
    ended: nb.JobHandle[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = session(ended)
    before = panel.step()
    with monkeypatch.context() as broken:
        broken.setattr(panel, "_take", lambda: 1 // 0)
        doubtful = panel.step()
    after = panel.step()

    assert "ZeroDivisionError" in doubtful["old"]
    assert {**doubtful, "old": None} == {**before, "old": None}
    assert "old" not in after


def test_nothing_can_be_pressed_in_the_panel_of_a_closed_batch_and_its_thread_rests(threaded: nb.Batch) -> None:
    hold.clear()
    sent: list[dict[str, Any]] = []
    poller = Poller(session(threaded.submit(slow, 50)), sent.append, lambda _: None)
    poller.start()
    hold.set()
    threaded.close()
    for message in ({"do": "pause"}, {"do": "tab", "tab": "chunks"}):
        poller.ask(message)
        poller.wait(5)

    assert poller._thread is None
    assert set(sent[-1]["head"]["cannot"].values()) == {"the batch is closed"}
    assert (sent[-1]["tab"], "closed" in sent[-1]["body"]) == ("chunks", True)


def test_what_still_runs_of_a_cancelled_run_is_cancelled_in_every_figure(going: nb.JobHandle[int]) -> None:
    panel = session(going)
    panel.ask({"do": "chunks", "status": "IN_PROGRESS"})
    panel.step()
    while panel._chunks().rows.is_empty():
        panel.step()
    going.cancel()
    panel.step()
    panel.filter = chunk_table.Filter(step=1)

    assert set(panel._chunks().rows["status"]) == {"CANCELLED"}
    head = panel.step()["head"]
    assert head["facts"].startswith("1 of 51 chunks · 50 cancelled")
    assert head["bar"] == [["COMPLETED", 1], ["CANCELLED", 50]]


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

    assert panel.heard == 1
    assert panel.shown["tab"] == "log"
    assert panel.frame().columns == ended.logs().columns
    assert "application/vnd.jupyter.widget-view+json" in panel.bundle()
    panel.close()


# --- failures by cause, chunks left out, sub-jobs, reruns -----------------------------------------


@nb.step(max_attempts=1, max_failed=1.0)
def parse(number: int) -> int:
    if number in (3, 4) and not mended.is_set():
        raise ValueError(f"row {number} has no id")
    if number == 5:
        raise nb.SkipChunk("is a header")
    return number


mended = threading.Event()
parsing = nb.Job("parsing", find >> parse >> total)


@pytest.fixture
def failed(threaded: nb.Batch) -> nb.JobHandle[int]:
    mended.clear()
    run = threaded.submit(parsing, 8)
    run.wait()
    return run


def opened(run: nb.JobHandle[Any], tab: str) -> tuple[Session, str]:
    panel = session(run)
    panel.ask({"do": "tab", "tab": tab})
    return panel, panel.step()["body"]


def test_failures_are_shown_by_cause_with_what_inputs_have_in_common_and_skips_by_reason(
    failed: nb.JobHandle[int],
) -> None:
    _, body = opened(failed, "failures")

    assert "2 × ValueError in parse" in body
    assert "row … has no id" in body
    assert "raised by <code>parse: raise ValueError" in body
    assert "1 in parse — is a header" in body


def test_a_group_of_failures_is_retried_and_the_cell_stays_clean(
    failed: nb.JobHandle[int], capsys: pytest.CaptureFixture[str]
) -> None:
    panel, _ = opened(failed, "failures")
    (key,) = panel._groups
    mended.set()
    panel.ask({"do": "retry-group", "group": key})
    note = panel.step()["head"]["note"]
    failed.wait(10)
    panel.step()

    assert note == "2 failed with ValueError: queued again."
    assert failed.steps()["completed"].to_list() == [1, 7, 1]
    assert "Chunks left out" in panel.step()["body"]
    assert capsys.readouterr().out == ""


def test_a_group_of_failures_is_left_out_with_its_cause_as_the_reason(failed: nb.JobHandle[int]) -> None:
    panel, _ = opened(failed, "failures")
    (key,) = panel._groups
    panel.ask({"do": "skip-group", "group": key})
    panel.step()

    assert failed.chunks(status="SKIPPED")["id"].len() == 3
    assert "left out in the panel: ValueError: row … has no id" in panel.step()["body"]
    panel.ask({"do": "skip-group", "group": key})
    assert "have changed" in panel.step()["head"]["note"]


def test_a_retry_says_what_it_does_where_it_is_offered_and_when_it_is_pressed(
    failed: nb.JobHandle[int], capsys: pytest.CaptureFixture[str]
) -> None:
    panel = session(failed)
    offered = panel.step()["head"]["plan"]
    panel.ask({"do": "retry"})
    note = panel.step()["head"]["note"]

    assert "unchanged: 2 to retry, 6 kept" in offered
    assert note == f"Queued again. {offered}"
    assert capsys.readouterr().out == ""


def test_chunks_that_a_rerun_replaced_count_nowhere_and_can_be_looked_into(failed: nb.JobHandle[int]) -> None:
    old = failed.chunks(step="parse")["id"].to_list()
    mended.set()
    failed.rerun(step="parse").wait(10)
    panel, _ = opened(failed, "chunks")
    frames = [panel.frame()]
    panel.ask({"do": "tab", "tab": "history"})
    panel.step()
    panel.ask({"do": "inspect", "chunk": old[0]})
    card = panel.step()["inspector"]

    assert set(old).isdisjoint(frames[0]["id"])
    assert [step.total for step in panel.snapshot.steps] == [1, 8, 1]
    assert panel.frame()["chunks"].to_list() == [1, 8, 1]
    assert "superseded" in card


@pytest.mark.parametrize("status", ["QUEUED", "COMPLETED", "FAILED", "SKIPPED", "IN_PROGRESS", "CANCELLED"])
def test_a_page_of_a_state_lists_what_the_frame_lists(
    failed: nb.JobHandle[int], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_table, "ROWS", 3)
    monkeypatch.setattr(chunk_table, "RANGE", 2)
    panel, _ = opened(failed, "chunks")
    found: list[int] = []
    after: tuple[int, int | None] | None = (0, 0)
    while after is not None:
        panel.ask({"do": "chunks", "step": "", "status": status, "after": after[0], "offset": after[1]})
        panel.step()
        found += panel.frame()["id"].to_list()
        after = panel._chunks().next

    assert found == failed.chunks(status=status)["id"].to_list()


def test_pages_of_untouched_chunks_follow_each_other(going: nb.JobHandle[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_table, "ROWS", 5)
    going.pause()  # nothing more is claimed
    panel, _ = opened(going, "chunks")
    panel.ask({"do": "chunks", "step": "1", "status": "QUEUED", "after": 0})
    panel.step()
    first = panel._chunks()
    panel.ask({"do": "chunks", "step": "1", "status": "QUEUED", "after": first.next and first.next[0]})
    panel.step()
    second = panel._chunks()
    everything = going.chunks(status="QUEUED")["id"].to_list()

    assert first.next is not None
    assert [*first.rows["id"], *second.rows["id"]] == everything[:10]


@nb.step
def pick(count: int) -> int:
    return count


@nb.step
def keep(found: Iterable[int]) -> int:
    return sum(found)


nested = nb.Job("nested", pick >> parsing.as_step() >> keep)


def test_the_inspector_opens_the_sub_job_of_a_chunk_and_leads_back(threaded: nb.Batch) -> None:
    mended.set()
    run = threaded.submit(nested, 4)
    run.wait(10)
    (chunk,) = run.chunks(step="parsing")["id"]
    panel = session(run)
    panel.ask({"do": "inspect", "chunk": chunk})
    card = panel.step()["inspector"]
    panel.ask({"do": "instance", "instance": 2})
    below = panel.step()["inspector"]
    panel.ask({"do": "inspect", "chunk": threaded.instance(2).chunks(limit=1)["id"][0]})
    deep = panel.step()

    assert 'data-instance="2"' in card
    assert "batch.instance(2)" in below
    assert f'data-chunk="{chunk}"' in below
    assert "of step find" in deep["inspector"]
    assert deep["head"]["note"] == ""


# --- a batch --------------------------------------------------------------------------------------


def test_a_batch_lists_its_instances_and_opens_the_one_that_is_clicked(
    failed: nb.JobHandle[int], threaded: nb.Batch
) -> None:
    pytest.importorskip("anywidget")
    other = threaded.submit(parsing, 3)
    other.wait(10)
    listing = threaded.panel()
    listing._on_message(None, {"do": "open", "instance": 1}, [])
    first = listing.opened
    listing._on_message(None, {"do": "open", "instance": 2}, [])
    second = listing.opened
    listing._on_message(None, {"do": "open", "instance": 2}, [])

    assert 'data-instance="1"' in listing._table.shown["page"]
    assert (first.run.id, second.run.id, listing.opened) == (1, 2, None)
    assert first._poller.closed
    assert listing.view.children == (listing._table,)
    listing._on_message(None, {"do": "open", "instance": 99}, [])
    assert "99" in listing._table.shown["page"]
    listing.close()


def test_two_pages_that_open_an_instance_at_once_leave_one_panel_open(failed: nb.JobHandle[int]) -> None:
    widgets = pytest.importorskip("nbbatch.panel.widgets")
    failed.batch.submit(parsing, 3).wait(10)
    both, made = threading.Event(), list[Any]()

    def panel(instance: int) -> Any:
        made.append(failed.batch.instance(instance).panel())
        if instance == 1:
            other.start()
            both.wait(0.2)  # where the other page may come between, it does
        else:
            both.set()
        return made[-1]

    listing = widgets.Listing(failed.batch._runs(), panel, lambda: True, failed.batch._page)
    other = threading.Thread(target=listing.open, args=(2,))
    listing.open(1)
    other.join(10)

    (opened,) = [each for each in made if not each._poller.closed]
    assert listing.opened is opened
    assert listing.view.children == (listing._table, opened)
    assert listing._table.shown["opened"] == opened.run.id
    listing.close()


def test_the_overview_has_what_runs_first_counts_that_filter_and_pages(threaded: nb.Batch) -> None:
    mended.set()
    hold.clear()
    going = threaded.submit(slow, 1)  # one worker of several
    for count in range(24):
        threaded.submit(parsing, count + 1).wait(10)
    page = threaded._runs()
    first = page()
    page.choose({"offset": 20})
    second = page()
    page.choose({"group": "running"})
    running = page()
    html, text = threaded._page().values()

    hold.set()
    going.cancel()
    assert re.findall(r'data-instance="(\d+)"', first) == ["1", *map(str, range(25, 6, -1))]
    assert re.findall(r'data-instance="(\d+)"', running) == ["1"]
    assert len(re.findall("data-instance", second)) == 5
    assert "1–20 of 25" in first
    assert 'data-filter="completed"' in first
    for said in (first, html, text):
        assert "25 runs in" in said
        assert "1 running, 24 completed" in said
    assert "… 5 more" in html
    assert "object" not in text


def test_a_batch_at_rest_shows_itself_as_a_plain_table(threaded: nb.Batch) -> None:
    with pytest.raises(NotImplementedError):
        threaded._ipython_display_()
    assert "button" not in threaded._repr_html_()
    assert "batch.submit" in threaded._repr_html_()
    assert threaded._runs()().count("<tr") == 1


# --- empty states ---------------------------------------------------------------------------------


def test_what_a_closed_batch_left_behind_says_so_when_it_is_shown(ended: nb.JobHandle[int]) -> None:
    chunk = ended.chunk(1)
    ended.batch.close()

    for shown in (ended, chunk):
        assert "closed batch" in repr(shown)
        assert "opens it again" in shown._repr_html_()
    with pytest.raises(NotImplementedError):
        ended._ipython_display_()


def test_what_is_shown_live_is_drawn_for_good_before_its_batch_is_closed(ended: nb.JobHandle[int]) -> None:
    pages: list[str] = []
    looks = ended._access.last_looks
    looks[lambda: pages.append(ended._repr_html_() + ended.batch._repr_html_())] = lambda: False
    looks[lambda: 1 // 0] = lambda: False
    ended.wait()
    assert pages == []
    ended.batch.close()

    assert len(pages) == 1
    assert "completed, 10 failed" in pages[0]
    assert "closed" not in pages[0]


def test_who_has_waited_for_an_end_finds_it_drawn(ended: nb.JobHandle[int]) -> None:
    drawn: list[str] = []
    looks = ended._access.last_looks
    looks[lambda: drawn.append(ended._repr_html_())] = ended.done
    ended.wait()

    assert len(drawn) == 1
    assert "completed, 10 failed" in drawn[0]


def as_page(words: str) -> dict[str, str]:
    return {"text/html": words, "text/plain": words}


def test_the_page_of_the_end_outlives_one_that_was_begun_before_it(ended: nb.JobHandle[int]) -> None:
    pytest.importorskip("anywidget")
    panel = ended.panel()
    panel._poller.wait(10)

    def begun_before() -> dict[str, str]:
        panel.rest(as_page("the end"))
        return as_page("before")

    panel.keep(begun_before, over=True)
    panel.keep(lambda: as_page("a look that came late"), over=True)

    assert panel.record == {"html": "the end", "text": "the end", "over": True, "final": True}
    panel.close()


def test_a_run_that_ends_while_it_is_displayed_is_drawn_for_good_after_its_panel(
    ended: nb.JobHandle[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    widgets = pytest.importorskip("nbbatch.panel.widgets")
    replaced, updates = threading.Event(), list[bool]()

    def publish(_: Any, transient: Any, update: bool) -> None:
        updates.append(update)
        if update:
            replaced.set()

    def page() -> dict[str, str]:
        if not updates and threading.current_thread() is threading.main_thread():
            replaced.wait(0.2)  # where the panel's thread may go before, it does
        return as_page("the end")

    monkeypatch.setattr(widgets, "_publish", publish)
    widgets.show_run(ended, ended._store, ended._engine(), page, ended._access.last_looks)

    assert replaced.wait(10)
    assert updates == [False, True]


def test_beside_a_panel_stands_the_plain_page_and_each_page_says_of_when_it_is(ended: nb.JobHandle[int]) -> None:
    for shown in (ended.panel(), ended.batch.panel()):
        bundle = shown._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert re.search(r"As it stood at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", bundle["text/html"])
        assert "orders" in bundle["text/html"]
        assert "object at 0x" not in bundle["text/plain"]
        shown.close()


def test_panel_page_and_text_say_the_same_of_a_run(ended: nb.JobHandle[int]) -> None:
    panel = session(ended)
    panel.step()
    head = panel.step()["head"]
    page, text = ended._page().values()

    assert head["word"] == "✓ completed, 10 failed"
    for words in (
        head["word"],
        f"{head['name']} {head['which']}",
        "run.retry(job)",
        *(fact["label"] for fact in head["tiles"]),
    ):
        assert words in page
        assert words in text
    assert {fact["label"]: fact["value"] for fact in head["tiles"]}["Failed"] == "10"
    assert head["tiles"][0]["key"] == "result"
    assert head["barWords"] in page


def test_what_a_run_says_of_its_state_as_it_goes(going: nb.JobHandle[int]) -> None:
    panel = session(going)
    tiles = {fact["key"]: fact for fact in panel.step()["head"]["tiles"]}
    going.pause()
    paused = panel.step()["head"]

    assert list(tiles) == ["done", "failed", "running", "rate", "eta"]
    assert tiles["eta"]["note"] == "not known yet"
    assert re.fullmatch(r"‖ paused since \d\d:\d\d UTC", paused["word"])
    assert paused["since"] > 1e12
    assert paused["next"] == [("run.resume()", "goes on")]
    assert "paused since" in going._page()["text/plain"]


def test_a_page_that_is_kept_tells_no_time_left(tmp_path: Path) -> None:
    hold.clear()
    with nb.open(tmp_path / "kept.duckdb", workers=1) as batch:
        run = batch.submit(slow, 3)
        live = run._engine().live[run.id]
        live.eta = lambda _: 61.0  # type: ignore[method-assign]
        assert "about 1:01 left" in repr(run)
        assert "1:01 left" not in run._repr_html_() + run._page()["text/plain"]
        hold.set()


def test_a_run_that_waits_for_its_job_stands_still_in_its_panel(tmp_path: Path) -> None:
    hold.clear()
    with nb.open(tmp_path / "waits.duckdb", workers=1) as batch:
        batch.submit(slow, 3)
        batch.close(0)  # before all of it is done
    hold.set()
    with nb.open(tmp_path / "waits.duckdb", workers=1) as batch:
        panel = session(batch.instance(1))
        first, second = (
            panel.step(20),
            panel.step(20),
        )  # a slow disk may take longer than a look has for what was before

    assert {**first, "at": 0} == {**second, "at": 0}
    assert first["head"]["word"] == "◷ waiting for its job"
    assert first["head"]["next"][0][0] == "batch.resume(job)"
    assert first["head"]["cannot"]["pause"] == "the run waits for its job"


@pytest.mark.parametrize("tab", TABS)
def test_a_run_without_a_finished_chunk_has_words_for_every_tab(threaded: nb.Batch, tab: str) -> None:
    hold.clear()
    run = threaded.submit(nb.Job("begins", held >> find >> total), 1)
    panel, body = opened(run, tab)
    assert body
    assert panel.frame() is not None
    run.cancel()
    hold.set()


@pytest.mark.parametrize("tab", TABS)
def test_no_message_is_over_fifty_kilobytes_whatever_steps_say(threaded: nb.Batch, tab: str) -> None:
    @nb.step(max_attempts=2, backoff=0.001, max_failed=1.0)
    def shouts(number: int) -> None:
        print('"<&>"' * 400)
        raise type(f"E{number}<" + "x" * 60, (Exception,), {})(
            '"<&>"' * 400 + "abcdefghijklmnopqrstuvwxyz"[number % 26] * 9
        )

    run = threaded.submit(nb.Job("shouting " + "<" * 90, find >> shouts), 60)
    run.wait(20)
    panel, _ = opened(run, tab)
    panel.ask({"do": "inspect", "chunk": 5})
    shown = panel.step()
    inspector = shown.pop("inspector")

    assert len(json.dumps(shown).encode()) < 50_000
    assert len(json.dumps(inspector).encode()) < 50_000


def test_hung_calls_that_hold_all_workers_are_told_in_the_panel(store: Path) -> None:
    release = threading.Event()

    @nb.step(timeout=0.05, max_attempts=1)
    def hang(i: int) -> None:
        if i < 2:
            release.wait(20)

    with nb.open(store, workers=2) as batch:
        run = batch.submit(nb.Job("hang", find >> hang, max_failed=2), 5)
        while not run.warnings:
            pass
        panel = session(run)
        panel.ask({"do": "pause"})
        note = panel.step()["head"]["note"]

        assert "all 2 workers are taken by calls that go on past their timeout= (step 'hang' of job 'hang')" in note
        assert note.startswith("Paused")
        run.resume()
        release.set()
        run.wait(10)
        assert "workers" not in panel.step()["head"]["note"]

"""Laws of the dashboard, without a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.dashboard import Dashboard
from tests.jobs import one_step, summing

# ipywidgets reaches for a kernel's comm; outside of a kernel its dummy takes what is sent
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def page(tmp_path: Path, batch: nb.Batch) -> Iterator[Dashboard]:
    assert batch.usable
    made = Dashboard(tmp_path, [summing()])
    yield made
    made.close()


def pick(page: Dashboard) -> None:
    page.store.value = page.store.options[0][1]


def test_it_lists_stores_and_opens_none_by_itself(page: Dashboard) -> None:
    assert [name for name, _ in page.store.options] == ["store.duckdb"]
    assert page.look is None
    assert page.hold.disabled


def test_a_picked_store_shows_its_instances_and_the_panel_of_one(page: Dashboard, batch: nb.Batch) -> None:
    batch.submit(summing(), 3).wait(10)
    pick(page)

    assert page.look is not None
    assert page.look.instances()["id"].to_list() == [1]
    assert "summing v1" in page.listing._table.shown["page"]
    page.listing.open(1)
    assert page.listing.opened.shown["head"]["which"] == "v1 #1"
    assert page.batch is None


def test_a_store_that_somebody_holds_is_not_taken_and_its_buttons_reach_who_holds_it(
    page: Dashboard, store: Path
) -> None:
    hold = threading.Event()
    job = one_step(lambda _: hold.wait(10))
    with nb.open(store.with_name("a.duckdb"), workers=1) as other:
        run = other.submit(job, 1)
        page.refresh()
        pick(page)
        assert page.hold.disabled
        assert "held by process" in page.hold.tooltip
        page.listing.open(1)
        page.listing.opened._poller.ask({"do": "cancel"})
        assert run.wait(10) == "CANCELLED"
        hold.set()


def test_a_store_that_nobody_holds_is_held_here_when_asked_and_its_jobs_go_on(tmp_path: Path) -> None:
    job, path = summing(), tmp_path / "left.duckdb"
    with nb.open(path, executor=nb.inline()) as batch:
        batch.submit(job, 3).pause()
    with closing(Dashboard(tmp_path)) as stranger, closing(Dashboard(tmp_path, [job])) as friend, ExitStack() as after:
        pick(stranger)
        assert "no jobs are known here" in stranger.hold.tooltip
        pick(friend)
        assert not friend.hold.disabled
        friend.hold.click()
        assert friend.batch is not None, friend.note.value
        after.enter_context(friend.batch)
        assert friend.look is not None
        friend.look.instance(1).resume()
        assert friend.batch.instance(1).wait(30) == "COMPLETED"
        seen = threading.Event()
        stranger.hold.observe(lambda it: "held by process" in it["new"] and seen.set(), names="tooltip")
        assert stranger.live() is stranger
        assert seen.wait(30), stranger.hold.tooltip


def test_any_number_of_pages_show_one_store(tmp_path: Path) -> None:
    with nb.open(tmp_path / "left.duckdb", executor=nb.inline()) as batch:
        batch.submit(summing(), 3).wait()
    pages = [Dashboard(tmp_path) for _ in range(3)]
    for page in pages:
        pick(page)
        assert "summing v1" in page.listing._table.shown["page"]
    for page in pages:
        page.close()


def test_a_store_that_cannot_be_seen_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.duckdb").write_bytes(b"<b>no store</b>" * 500)
    page = Dashboard(tmp_path)
    pick(page)
    page.close()

    assert "broken.duckdb" in page.note.value or page.look is None
    assert page.listing is None


def test_a_new_store_is_listed_and_the_one_that_is_shown_stays(page: Dashboard, tmp_path: Path) -> None:
    pick(page)
    look = page.look
    (tmp_path / "a.duckdb").touch()
    page.refresh()

    assert [name for name, _ in page.store.options] == ["a.duckdb", "store.duckdb"]
    assert page.look is look
    (tmp_path / "a.duckdb").unlink()

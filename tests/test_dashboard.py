"""Laws of the dashboard, without a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.dashboard import SURE_TEXT, Dashboard
from tests.jobs import one_step, summing
from tests.kit import HandClock

# ipywidgets reaches for a kernel's comm; outside of a kernel its dummy takes what is sent
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def page(tmp_path: Path, batch: nb.Batch) -> Iterator[Dashboard]:
    made = Dashboard(tmp_path, [summing()])
    yield made
    made.close()


def pick(page: Dashboard) -> None:
    page.store.value = page.store.options[0][1]


def enabled(page: Dashboard) -> set[str]:
    return {name for name, button in page.buttons.items() if not button.disabled}


def test_it_lists_stores_and_opens_none_by_itself(page: Dashboard) -> None:
    assert [name for name, _ in page.store.options] == ["store.duckdb"]
    assert page.batch is None
    assert enabled(page) == set()


def test_a_picked_store_shows_its_newest_instance(page: Dashboard, batch: nb.Batch) -> None:
    batch.submit(summing(), 3).wait(10)
    batch.submit(summing(), 4).wait(10)
    pick(page)

    assert page.batch is batch
    assert page.frame() is not None
    assert page.frame()["id"].to_list() == [2, 1]
    assert page.instances.value == 2
    assert "summing v1 #2" in page.detail.value
    assert enabled(page) == set()


def test_buttons_are_offered_where_they_can_work_and_say_why_not(tmp_path: Path, batch: nb.Batch) -> None:
    broken = [True]

    def fails(_: int) -> None:
        if broken:
            raise TypeError("odd")

    job = one_step(fails)
    batch.submit(job, 1).wait(10)
    stranger, friend = Dashboard(tmp_path), Dashboard(tmp_path, [job])
    pick(stranger)
    pick(friend)

    assert enabled(stranger) == set()
    assert stranger.buttons["Pause"].tooltip == "it ended failed"
    assert stranger.buttons["Retry failed"].tooltip == "its job 'one' is not known here: give it in jobs="
    assert enabled(friend) == {"Retry failed"}
    broken.clear()
    friend.buttons["Retry failed"].click()
    assert batch.instance(1).wait(10) is nb.InstanceStatus.COMPLETED
    stranger.close()
    friend.close()


def test_cancel_asks_once(tmp_path: Path) -> None:
    hold = threading.Event()
    with nb.open(tmp_path / "held.duckdb", workers=1) as batch:
        run = batch.submit(one_step(lambda _: hold.wait(10)), 1)
        page = Dashboard(tmp_path)
        pick(page)
        page.buttons["Cancel"].click()
        asked = page.buttons["Cancel"].description, run.done()
        page.buttons["Cancel"].click()
        hold.set()
        page.close()

        assert asked == (SURE_TEXT, False)
        assert run.status is nb.InstanceStatus.CANCELLED
        assert page.buttons["Cancel"].description == "Cancel"


def test_a_paused_run_is_resumed(tmp_path: Path) -> None:
    hold = threading.Event()
    job = one_step(lambda _: hold.wait(10))
    with nb.open(tmp_path / "held.duckdb", workers=1) as batch:
        run = batch.submit(job, 1)
        page = Dashboard(tmp_path, [job])
        pick(page)
        page.buttons["Pause"].click()
        paused = run.status
        page.buttons["Resume"].click()
        hold.set()
        page.close()

        assert paused is nb.InstanceStatus.PAUSED
        assert run.wait(10) is nb.InstanceStatus.COMPLETED


def test_a_store_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.duckdb").write_bytes(b"<b>no store</b>" * 500)
    page = Dashboard(tmp_path)
    pick(page)
    page.close()

    assert "broken.duckdb" in page.note.value
    assert page.batch is None


def test_a_closed_store_leaves_an_empty_page(store: Path, clock: HandClock, tmp_path: Path) -> None:
    with nb.open(store, executor=nb.inline(), clock=clock) as batch:
        batch.submit(summing(), 3).wait(10)
        page = Dashboard(tmp_path)
        pick(page)
    page.look()
    page.close()

    assert page.instances.options == ()
    assert page.detail.value == ""

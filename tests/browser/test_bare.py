"""The page side of the panel by itself: accessibility, themes, high contrast, the keyboard's order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import nbbatch as nb
from nbbatch.cockpit.session import Session
from tests.browser import slow_jobs
from tests.browser.conftest import SHOTS, Bare, violations

TABS = ("Timeline", "Failures", "Chunks", "Log", "History")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nb.JobHandle[int]]:
    with nb.open(tmp_path_factory.mktemp("bare") / "bare.duckdb", workers=4) as batch:
        made = batch.submit(slow_jobs.orders, 48)
        made.wait(30)
        yield made


@pytest.fixture
def bare(browser_page: Any, run: nb.JobHandle[int]) -> Iterator[Bare]:
    yield Bare(browser_page, Session(run, run._store, run._engine()))
    browser_page.emulate_media(color_scheme="light", forced_colors="none")


def shoot(bare: Bare, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    bare.panel.screenshot(path=str(SHOTS / f"{name}.png"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_tab_of_the_panel(bare: Bare, theme: str) -> None:
    bare.page.emulate_media(color_scheme=theme)
    found: list[str] = []
    for tab in TABS:
        bare.open(tab)
        if tab == "Chunks":
            bare.panel.get_by_role("button", name="Inspect chunk 9", exact=True).click()
            bare.answer()
        found += violations(bare.page, ".nbc")
        shoot(bare, f"bare-{tab.lower()}-{theme}")

    assert found == []


def test_in_high_contrast_the_bar_is_seen_and_what_cannot_be_pressed_differs(bare: Bare) -> None:
    bare.page.emulate_media(forced_colors="active")
    shoot(bare, "bare-high-contrast")
    look = "(name) => { const s = getComputedStyle(document.querySelector(name)); return [s.backgroundColor, s.borderStyle]; }"
    fill, _ = bare.page.evaluate(look, ".nbc-fill")
    bar, edge = bare.page.evaluate(look, ".nbc-bar")
    _, off = bare.page.evaluate(look, "[data-do=cancel]")

    assert fill != bar
    assert (edge, off) == ("solid", "dotted")


def test_axe_sees_grey_on_grey(bare: Bare) -> None:
    bare.page.add_style_tag(content=".nbc-facts { color: #999; background: #aaa; }")

    assert any("color-contrast" in each for each in violations(bare.page, ".nbc"))


def test_axe_finds_nothing_serious_on_the_plain_page(browser_page: Any, run: nb.JobHandle[int]) -> None:
    plain = f"{run._repr_html_()}{run.chain()._repr_html_()}{run.chunk(9)._repr_html_()}"
    browser_page.set_content(f"<!doctype html><html lang=en><title>run</title><main id=here>{plain}</main>")

    assert violations(browser_page, "#here") == []


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(bare: Bare) -> None:
    order = []
    for _ in range(5):
        bare.page.keyboard.press("Tab")
        order.append(bare.page.evaluate("document.activeElement.textContent.slice(0, 12)"))

    assert order[:3] == ["Pause", "Cancel", "Retry failed"]
    assert order[3] == "Timeline"


def test_a_slider_redraws_the_chain_as_it_was(bare: Bare) -> None:
    bare.open("History")
    over = bare.panel.locator(".nbc-pane:not([hidden]) svg text").all_text_contents()
    bare.panel.get_by_label("Moment of the run").fill("300")
    bare.page.wait_for_function("window.sent.some(each => each.do === 'at')")
    bare.answer()
    then = bare.panel.locator(".nbc-pane:not([hidden]) svg text").all_text_contents()

    assert any("As it was after" in each for each in then)
    assert then != over
    assert any("queued" in each or "in progress" in each for each in then)


def test_a_press_that_the_kernel_does_not_hear_is_said_to_wait(bare: Bare) -> None:
    bare.panel.get_by_role("button", name="Retry failed").click()

    expect(bare.panel.locator(".nbc-note")).to_contain_text("Interrupting the cell ends its waiting, not the run")


def test_the_sides_of_the_bundle_stay_small() -> None:
    folder = Path(nb.__file__).parent / "cockpit"

    assert sum(len((folder / name).read_bytes()) for name in ("panel.js", "panel.css")) < 25_000


def test_failures_of_one_cause_are_retried_by_a_press_and_left_out_by_two(bare: Bare) -> None:
    bare.open("Failures")
    bare.page.evaluate("window.sent.splice(0)")
    skip = bare.panel.get_by_role("button", name="Skip these 2")
    skip.click()
    before = bare.page.evaluate("window.sent.length")
    bare.panel.get_by_role("button", name="Skip these 2 for good?").click()
    bare.panel.get_by_role("button", name="Retry these 2").click()
    (key,) = bare.session._groups

    assert before == 0
    assert bare.page.evaluate("window.sent") == [
        {"do": "skip-group", "group": key},
        {"do": "retry-group", "group": key},
    ]

"""The page side of the panel by itself: accessibility, themes, high contrast, the keyboard's order."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import nbbatch as nb
from nbbatch.panel import facts, front
from nbbatch.panel.session import Session
from nbbatch.pictures.chain_picture import StepFacts
from tests.browser import slow_jobs
from tests.browser.conftest import BARE, SHOTS, Bare, violations

TABS = ("Now", "Failures", "Chunks", "Timeline", "Log", "History")


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


def test_figures_that_could_not_be_read_are_greyed_with_their_time_and_come_back(bare: Bare) -> None:
    bare.page.evaluate("() => model.put({ ...model.shown, old: 'It could not be read just now.' })")
    alert = bare.panel.get_by_role("alert")

    expect(alert).to_contain_text(re.compile(r"could not be read just now\. Last heard at \d\d:\d\d:\d\d\."))
    assert "nbc-old" in bare.panel.get_attribute("class")
    bare.answer()
    expect(alert).to_be_hidden()
    assert "nbc-old" not in bare.panel.get_attribute("class")


def test_the_page_counts_on_for_what_runs_long_and_not_for_what_was_quick(bare: Bare) -> None:
    bare.page.evaluate(
        """() => {
            const at = window.model.shown.at;
            const cell = (before) => `<td data-since="${at - before}" data-usual="0.02" data-most="0.03">` +
                '<span class="nbc-meter"><i></i></span><span class="nbc-took"></span></td>';
            const body = `<table><tr>${cell(41500)}${cell(25)}</tr></table>`;
            window.model.put({ ...window.model.shown, tab: "now", body });
        }"""
    )
    took = bare.panel.locator(".nbc-took")

    expect(took).to_have_text([re.compile(r"^4[123] s · usually 20 ms$"), "25 ms"])
    expect(took.first).to_have_text(re.compile(r"^4[2-9] s · usually 20 ms$"))
    expect(took.last).to_have_text("25 ms")
    assert bare.panel.locator(".nbc-late").count() == 1


def test_in_high_contrast_states_have_patterns_and_what_cannot_be_pressed_differs(bare: Bare) -> None:
    bare.page.evaluate("() => model.put({ ...model.shown, head: { ...model.shown.head, ended: false, failed: 0 } })")
    bare.page.emulate_media(forced_colors="active")
    bare.page.wait_for_function("() => !document.querySelector('[data-do=cancel]').hidden")
    shoot(bare, "bare-high-contrast")
    look = "(name) => { const s = getComputedStyle(document.querySelector(name)); return [s.backgroundImage, s.borderStyle]; }"
    well, _ = bare.page.evaluate(look, "[data-s=COMPLETED]")
    failed, _ = bare.page.evaluate(look, "[data-s=FAILED]")
    _, edge = bare.page.evaluate(look, "header .nbc-bar")
    _, off = bare.page.evaluate(look, "[data-do=cancel]")

    assert (well, failed[:9]) == ("none", 'url("data')
    assert (edge, off) == ("solid", "dotted")


def test_axe_sees_grey_on_grey(bare: Bare) -> None:
    bare.page.add_style_tag(content=".nbc-facts { color: #999; background: #aaa; }")

    assert any("color-contrast" in each for each in violations(bare.page, ".nbc"))


def test_axe_finds_nothing_serious_on_the_plain_page(browser_page: Any, run: nb.JobHandle[int]) -> None:
    plain = f"{run._repr_html_()}{run.chain()._repr_html_()}{run.chunk(9)._repr_html_()}"
    browser_page.set_content(f"<!doctype html><html lang=en><title>run</title><main id=here>{plain}</main>")

    assert violations(browser_page, "#here") == []


FOCUS = "() => { const it = document.activeElement; return it.dataset.do ?? it.dataset.fact ?? it.dataset.step ?? it.id.split('-').pop(); }"


def test_the_keyboard_reaches_everything_in_the_order_of_the_page_and_moves_within_tabs_and_chain(bare: Bare) -> None:
    order = []
    for _ in range(7):
        bare.page.keyboard.press("Tab")
        order.append(bare.page.evaluate(FOCUS))
        seen = bare.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert seen != "none", order
    bare.page.keyboard.press("Shift+Tab")
    bare.page.keyboard.press("ArrowRight")
    bare.page.keyboard.press("ArrowRight")
    bare.page.keyboard.press("Enter")
    chosen = bare.page.evaluate(FOCUS)
    bare.answer()
    bare.page.keyboard.press("Tab")
    bare.page.keyboard.press("Enter")
    bare.answer()
    alone = bare.panel.locator("[aria-pressed=true]").count()

    assert order == ["retry", "look", "took", "slowest", "failed", "0", "failures"]
    assert chosen == "2"
    assert alone == 0


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


def test_a_press_that_is_not_done_at_once_says_whether_the_kernel_has_heard_it(bare: Bare) -> None:
    retry = bare.panel.get_by_role("button", name=re.compile("^Retry .* failed"))
    retry.click()
    expect(bare.panel.locator(".nbc-note")).to_contain_text("Interrupting the cell ends its waiting, not the run")
    retry.evaluate("button => { button.click(); window.model.shown.heard = 1; }")

    expect(bare.panel.locator(".nbc-note")).to_contain_text("The kernel has heard it")


def test_the_sides_of_the_bundle_stay_small() -> None:
    assert len((front.PANEL + front.CSS).encode()) < 50_000


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


def test_a_press_is_heard_though_markup_comes_anew_between_down_and_up(bare: Bare) -> None:
    bare.open("Failures")
    bare.page.evaluate("window.sent.splice(0)")
    button = bare.panel.get_by_role("button", name="Inspect chunk").first
    button.hover()
    bare.page.mouse.down()
    anew(bare)
    bare.page.mouse.up()
    bare.page.evaluate("() => new Promise(requestAnimationFrame)")

    assert [each["do"] for each in bare.page.evaluate("window.sent")] == ["inspect"]
    expect(bare.panel.locator(".nbc-anew")).to_be_attached()


def test_a_press_in_the_overview_is_heard_though_its_rows_come_anew_between_down_and_up(browser_page: Any) -> None:
    rows = (
        '<table><tbody><tr><th><button type="button" data-instance="1">#1</button></th><td>{}</td></tr></tbody></table>'
    )
    esm = front.OVERVIEW.replace("export default { render };", "const panel = { render };")
    shown = json.dumps({"page": rows.format("20 %"), "opened": None})
    browser_page.set_content(BARE.format(css=front.CSS, esm=esm, shown=shown))
    browser_page.get_by_role("button", name="#1").hover()
    browser_page.mouse.down()
    browser_page.evaluate("page => model.put({ page, opened: null })", rows.format("30 %"))
    browser_page.mouse.up()

    assert browser_page.evaluate("window.sent") == [{"do": "open", "instance": 1}]
    expect(browser_page.get_by_role("cell", name="30 %")).to_be_visible()


def anew(bare: Bare) -> None:
    """The open tab's markup comes again, a little different."""
    bare.page.evaluate("() => model.put({ ...model.shown, body: model.shown.body + '<i class=nbc-anew></i>' })")
    bare.page.evaluate("() => new Promise(requestAnimationFrame)")


def test_what_is_marked_stays_marked(bare: Bare) -> None:
    bare.open("Failures")
    bare.page.evaluate("() => getSelection().selectAllChildren(document.querySelector('.nbc-said'))")
    marked = bare.page.evaluate("String(getSelection())")
    anew(bare)

    assert bare.page.evaluate("String(getSelection())") == marked != ""
    bare.page.evaluate("() => getSelection().removeAllRanges()")
    expect(bare.panel.locator(".nbc-anew")).to_be_attached()


def test_focus_and_question_outlive_new_markup_and_a_double_click_is_no_answer(bare: Bare) -> None:
    bare.open("Failures")
    bare.page.evaluate("window.sent.splice(0)")
    bare.panel.get_by_role("button", name="Skip these 2").dblclick()
    anew(bare)
    bare.panel.get_by_role("button", name="Skip these 2 for good?").wait_for()

    assert bare.page.evaluate("window.sent") == []
    assert bare.page.evaluate("document.activeElement.textContent") == "Skip these 2 for good?"


def test_closing_the_inspector_gives_the_focus_back_to_what_opened_it(bare: Bare) -> None:
    bare.open("Chunks")
    bare.panel.get_by_role("button", name="Inspect chunk 9", exact=True).click()
    bare.answer()
    inspector = bare.panel.get_by_role("region", name="Inspector")
    expect(inspector).to_be_focused()
    expect(inspector).to_be_in_viewport()
    inspector.get_by_role("button", name="Close").click()
    bare.answer()

    expect(bare.panel.get_by_role("button", name="Inspect chunk 9", exact=True)).to_be_focused()


def test_a_view_that_comes_later_shows_the_tab_and_filter_of_its_panel(
    browser_page: Any, run: nb.JobHandle[int]
) -> None:
    session = Session(run, run._store, run._engine())
    session.ask({"do": "tab", "tab": "chunks"})
    session.ask({"do": "chunks", "step": 1, "status": "FAILED"})
    later = Bare(browser_page, session).panel

    expect(later.get_by_role("tab", name="Chunks")).to_have_attribute("aria-selected", "true")
    expect(later.get_by_label("State")).to_have_value("FAILED")
    expect(later.get_by_label("Step", exact=True)).to_have_value("1")
    expect(later.locator("tbody tr")).to_have_count(2)


STICKS_OUT = """() => [...document.querySelectorAll('.nbc-step')].flatMap((box) => {
  const right = box.getBoundingClientRect().right;
  return [...box.querySelectorAll('*')].filter((each) => each.getBoundingClientRect().right > right).map((each) => each.textContent);
})"""


def test_a_long_chain_has_a_map_shows_what_is_active_and_is_readable_when_narrow(bare: Bare) -> None:
    states = nb.ChunkStatus
    counts = [
        {states.QUEUED: 3_636}, {states.COMPLETED: 999_998, states.FAILED: 1},
        {states.GATE_WAITING: 12_345, states.QUEUED: 12_345, states.ERRORED: 12_345, states.FAILED: 12_345},
    ]  # fmt: skip
    names = ["ein sehr langer Name eines Schrittes", "数据处理数据处理数据处理", "WWWWWWWWWW"]
    steps = [
        StepFacts(names[place % 3], "one", "int", "int", False, (place + 1,) if place < 99 else (), counts[place % 3])
        for place in range(100)
    ]
    steps[60] = replace(steps[60], counts={states.IN_PROGRESS: 3})
    shown = bare.session.step() | {"chain": facts.chain(replace(bare.session.snapshot, steps=tuple(steps)))}
    bare.page.set_viewport_size({"width": 500, "height": 1080})
    bare.page.evaluate("shown => model.put(shown)", shown)
    bare.page.evaluate("() => new Promise(requestAnimationFrame)")
    sticks_out = bare.page.evaluate(STICKS_OUT)
    height = bare.panel.locator(".nbc-chain").bounding_box()["height"]
    letters = bare.page.evaluate(
        "() => parseFloat(getComputedStyle(document.querySelector('.nbc-step small')).fontSize)"
    )
    expect(bare.panel.locator(".nbc-step").nth(60)).to_be_in_viewport()
    found = violations(bare.page, ".nbc")
    bare.panel.locator(".nbc-map button").nth(3).click()
    expect(bare.panel.locator(".nbc-step").nth(3)).to_be_in_viewport()
    bare.page.set_viewport_size({"width": 1180, "height": 1080})

    assert bare.page.evaluate("window.sent").pop() == {"do": "step", "step": 3}
    assert sticks_out == []
    assert height <= 260
    assert letters >= 12
    assert found == []


class Newcomer:
    """Somebody who sees the panel for the first time; clicks are counted."""

    def __init__(self, bare: Bare) -> None:
        self.bare, self.clicks = bare, 0

    def reads(self, where: str, words: str) -> None:
        expect(self.bare.panel.locator(where).first).to_contain_text(re.compile(words))

    def clicks_on(self, name: str) -> None:
        self.bare.panel.get_by_role("button", name=re.compile(name)).first.click()
        self.bare.answer()
        self.clicks += 1


stuck = threading.Event()


@nb.step(max_attempts=1, max_failed=1.0)
def price(number: int) -> int:
    if number == 150:
        stuck.wait(30)
    time.sleep(0.005)
    if number % 40 == 7:
        raise ValueError(f"row {number} has no price")
    return number


@pytest.fixture
def going(browser_page: Any, tmp_path: Path) -> Iterator[Bare]:
    """Of a run with 2 workers, of which one has been at the same chunk for long."""
    stuck.clear()
    with nb.open(tmp_path / "going.duckdb", workers=2) as batch:
        run = batch.submit(nb.Job("prices", slow_jobs.find >> price >> slow_jobs.clean >> slow_jobs.report), 4_000)
        while run.eta is None or "150" not in run.now()["input"].to_list():
            run.errors()
        yield Bare(browser_page, Session(run, run._store, run._engine()))
        stuck.set()
        run.cancel()


def test_what_a_newcomer_wants_to_know_is_two_clicks_away_at_most(going: Bare) -> None:
    someone = Newcomer(going)
    going.page.wait_for_function("() => document.querySelector('.nbc-late')")
    someone.reads(".nbc-status", r"running, \d+ failed")  # is it healthy?
    someone.reads("[data-fact=failed]", r"1 cause")
    someone.reads("[data-fact=eta]", r"Done about\d\d:\d\d.* left")  # when is it done?
    someone.reads("tr:has(.nbc-late)", r"price150.*usually")  # what is stuck?
    unclicked = someone.clicks
    someone.clicks_on("^Failed")  # which inputs failed, and why?
    someone.reads(".nbc-cause", r"ValueError in price.*has no price")
    someone.clicks_on("^Inspect chunk")
    someone.reads(".nbc-inspector", r"input\s*\d+")
    looked = someone.clicks
    someone.clicks_on(r"^Retry th")  # the same tab: a click opened it, and this is the second
    someone.reads(".nbc-note", "queued again")

    assert (unclicked, looked, someone.clicks) == (0, 2, 3)

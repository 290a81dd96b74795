"""The panel in JupyterLab."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Lab, violations, watched
from tests.browser.keyboard import Keyboard, walk_overview, walk_panel

START = (
    "import nbbatch as nb, slow_jobs\nbatch = nb.open({path!r}, workers=4)\n"
    "run = batch.submit(slow_jobs.orders, {count})\n"
)


def start(name: str, count: int) -> str:
    return START.format(path=f"{name}.duckdb", count=count)


def facts(lab: Lab) -> str:
    return lab.panel.locator(".nbc-facts").text_content() or ""


def status(lab: Lab) -> Any:
    return lab.panel.locator(".nbc-status")


def test_the_panel_becomes_a_plain_page_that_outlives_its_kernel_and_is_exported_without_a_network(
    lab: Lab, browser_page: Any
) -> None:
    path = lab.run("moves", start("moves", 60), "run")
    expect(status(lab)).to_contain_text("▶")
    lab.wait_idle()
    moves(lab)
    expect(lab.panel.locator("header .nbc-bar i").first).to_be_attached()
    lab.shoot("running-light")
    caption = lab.page.locator(".jp-OutputArea table caption", has_text="COMPLETED")
    caption.wait_for()
    lab.command("docmanager:save", wait=True)
    data = json.loads(path.read_text())["cells"][1]["outputs"][0]["data"]
    lab.shoot("finished-static", lab.page.locator(".jp-OutputArea").last)
    lab.leave()
    caption.wait_for(state="detached")
    lab.open(path.name)
    caption.wait_for()

    assert not any("widget" in kind for kind in data)
    assert len("".join(data["text/html"]).encode()) <= 20_480
    browser_page.set_content(exported(path))
    expect(browser_page.locator("table caption", has_text="COMPLETED")).to_be_visible()
    expect(browser_page.locator("table", has_text="60")).to_contain_text("fetch")


def exported(path: Path) -> str:
    """The notebook as a page of HTML by itself."""
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="").from_filename(str(path))
    return html


def moves(lab: Lab) -> None:
    """Wait until the panel has said something new."""
    before = facts(lab)
    lab.page.wait_for_function("was => document.querySelector('.nbc-facts').textContent !== was", arg=before)


def cancel(lab: Lab) -> float:
    """Press Cancel and again when asked; seconds from the press until the kernel had ended the run."""
    lab.page.evaluate("() => addEventListener('click', () => { window.pressed = Date.now() / 1000; }, true)")
    lab.panel.get_by_role("button", name="Cancel", exact=True).click()
    lab.panel.get_by_role("button", name="Cancel for good?").click()
    lab.page.locator(".jp-OutputArea caption", has_text="CANCELLED").wait_for()
    return float(lab.ask("run._row.ended_us / 1e6")) - lab.page.evaluate("window.pressed")


def test_cancel_ends_the_run_within_a_second_after_its_cell_is_over_and_while_a_cell_awaits_it(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.run("awaits", start("awaits", 5_000) + "run", "try:\n    await run\nexcept nb.JobCancelled:\n    print('over')")
    expect(status(lab)).to_contain_text("▶")
    moves(lab)
    awaited = cancel(lab)
    lab.page.locator(".jp-OutputArea", has_text="over").first.wait_for()
    lab.leave()
    lab.run("over", start("over", 5_000) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.wait_idle()
    over = cancel(lab)
    with capsys.disabled():
        print(f" [Cancel ended the run after {awaited:.2f} s while a cell awaited it, {over:.2f} s after its cell]")

    assert 0 < awaited < 1
    assert 0 < over < 1


def test_an_interrupt_of_a_waiting_cell_leaves_the_run_going_and_then_buttons_are_heard(lab: Lab) -> None:
    lab.run("interrupts", start("interrupts", 3_000) + "run", "run.wait()")
    expect(status(lab)).to_contain_text("▶")
    moves(lab)
    lab.panel.get_by_role("button", name="Pause").click()
    expect(lab.panel.locator(".nbc-note")).to_contain_text(re.compile("Interrupting the cell|Paused"))
    lab.command("notebook:interrupt-kernel")
    lab.page.locator(".jp-OutputArea", has_text="KeyboardInterrupt").first.wait_for()

    expect(status(lab)).to_contain_text("paused")
    lab.panel.get_by_role("button", name="Resume").click()
    expect(status(lab)).to_contain_text("▶")
    moves(lab)


def test_buttons_are_heard_while_a_cell_waits_for_the_run(lab: Lab) -> None:
    lab.run("waits", start("waits", 3_000) + "run", "run.wait()")
    expect(status(lab)).to_contain_text("▶")
    moves(lab)
    lab.panel.get_by_role("button", name="Pause").click()

    expect(status(lab)).to_contain_text("paused")
    lab.panel.get_by_role("button", name="Resume").click()
    expect(status(lab)).to_contain_text("▶")
    lab.page.locator(".jp-InputPrompt", has_text="[*]").wait_for()


MANY = """
for each in [batch.submit(slow_jobs.orders, 0, key=str(number)) for number in range(24)]:
    each.wait()
run = batch.submit(slow_jobs.orders, 4_000)
run"""


def test_every_control_is_reached_and_used_by_keys_alone_which_are_none_of_the_notebook(front_end: Lab) -> None:
    name = f"keys-{front_end.kind}"
    front_end.run(name, start(name, 0) + MANY, "batch")
    shown = front_end.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    listing = shown.locator(".nbc-listing")
    listing.get_by_role("button", name="completed 25").wait_for()
    front_end.panel.get_by_role("tab", name="Failures (").wait_for()
    walk_overview(Keyboard(front_end.page, listing))
    front_end.panel.locator(".nbc-facts").click()
    Keyboard(front_end.page, front_end.panel).press("x", "d", "d", "ArrowDown", "b", "Shift+Enter")
    cells = shown.locator(".jp-Cell").count()
    walk_panel(Keyboard(front_end.page, front_end.panel))

    assert cells == 2
    expect(shown.locator(".jp-Cell")).to_have_count(2)


def test_every_tab_of_an_ended_run_and_the_inspector_show_hostile_text_as_text(lab: Lab) -> None:
    lab.run("tabs", start("tabs", 60) + "run.wait()\npanel = run.panel()\npanel")
    panel = lab.panel
    expect(status(lab)).to_contain_text("completed")
    lab.shoot("ended-light")
    panel.get_by_role("tab", name=re.compile("Failures")).click()
    panel.locator("summary", has_text="traceback").first.click()
    expect(panel.locator("pre", has_text="<script>").first).to_be_visible()
    lab.shoot("failures-light")
    panel.get_by_role("tab", name="Chunks").click()
    panel.get_by_label("State").select_option("FAILED")
    expect(panel.locator("tbody tr")).to_have_count(2)
    panel.get_by_role("button", name="Inspect chunk").first.click()
    expect(panel.get_by_role("region", name="Inspector")).to_be_visible()
    lab.shoot("inspector-light")
    lab.page.keyboard.press("Escape")
    expect(panel.locator(".nbc-inspector")).to_be_hidden()
    panel.get_by_role("tab", name="Log").click()
    expect(panel.locator("pre", has_text="fetched").first).to_be_visible()
    panel.get_by_role("tab", name="History").click()
    panel.get_by_label("Moment of the run").fill("300")
    expect(panel.locator(".nbc-moment")).to_contain_text("ms of ")
    lab.shoot("history-light")
    found = violations(lab.page, ".jp-NotebookPanel:not(.lm-mod-hidden) .nbc")

    assert found == []
    assert lab.page.evaluate("window.hacked") is None


def test_the_panel_follows_the_dark_theme_and_a_button_retries_failed_chunks(lab: Lab) -> None:
    lab.run("dark", start("dark", 400) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.command("apputils:change-theme", {"theme": "JupyterLab Dark"}, wait=True)
    try:
        lab.page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
        lab.page.wait_for_selector("#jupyterlab-splash", state="detached")
        expect(status(lab)).to_contain_text("failed")
        lab.shoot("running-dark")
        ink, paper = lab.panel.evaluate(
            "node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]"
        )
        lab.panel.get_by_role("button", name=re.compile("Retry .*failed")).click()
        expect(lab.panel.locator(".nbc-note")).to_contain_text("Queued again. fetch")
    finally:
        lab.command("apputils:change-theme", {"theme": "JupyterLab Light"}, wait=True)

    assert _light(ink) > 0.7
    assert _light(paper) < 0.3


def _light(colour: str) -> float:
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]
    return sum(parts) / 3 / (1 if colour.startswith("color(") else 255)


def test_a_panel_without_its_kernel_says_so_and_running_the_cells_again_attaches(lab: Lab) -> None:
    lab.run("restarts", start("restarts", 1_000) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.restart()
    expect(lab.panel.locator(".nbc-gone")).to_be_visible()
    expect(lab.panel.get_by_role("button", name="Pause")).to_be_hidden()
    lab.shoot("kernel-gone-light")
    lab.wait_idle()
    lab.command("notebook:run-all-cells")
    expect(lab.panel.locator(".nbc-gone")).to_be_hidden()
    expect(status(lab)).to_contain_text("▶")

    expect(lab.panel.locator(".nbc-title")).to_contain_text("#1")


def outputs(path: Path, cell: int = 0) -> list[dict[str, Any]]:
    """What a saved notebook holds of a cell: the data of its outputs."""
    return [each["data"] for each in json.loads(path.read_text())["cells"][cell]["outputs"]]


def test_a_panel_moves_again_after_its_page_was_reloaded_and_the_file_holds_the_plain_page_whenever_it_is_saved(
    front_end: Lab,
) -> None:
    lab, name = front_end, f"reloads-{front_end.kind}"
    path = lab.run(name, start(name, 500) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.page.wait_for_timeout(1_100)  # the panel looks where it stands once a second
    lab.command("docmanager:save", wait=True)
    going = outputs(path)
    lab.load(path.name)
    lab.panel.wait_for()
    twin = lab.page.locator("[data-nbbatch-of]").is_visible()  # already now: nothing is to move under the hand
    expect(status(lab)).to_contain_text("▶")
    moves(lab)
    lab.ask("run.wait()")  # who waits draws the end, beside the panel's own thread
    lab.page.locator(".jp-OutputArea table caption", has_text="COMPLETED").wait_for()
    lab.command("docmanager:save", wait=True)
    ended = outputs(path)

    assert not twin
    assert ["text/html" in each for each in going] == [True, False]
    assert "As it stood at" in "".join(going[0]["text/html"])
    assert [sorted(each) for each in ended] == [["text/html", "text/plain"]]
    assert "completed" in "".join(ended[0]["text/html"])


def test_a_second_tab_on_the_same_kernel_shows_and_steers_the_same_run(lab: Lab, chromium: Any) -> None:
    path = lab.run("twice", start("twice", 3_000) + "run")
    lab.panel.wait_for()
    expect(status(lab)).to_contain_text("▶")
    lab.page.wait_for_timeout(1_100)  # the panel looks where it stands once a second
    lab.command("docmanager:save", wait=True)
    second = Lab(lab.server, watched(chromium, [], []), [], [])
    second.load(path.name)
    second.panel.get_by_role("button", name="Pause").click()
    expect(status(lab)).to_contain_text("paused")
    lab.panel.get_by_role("button", name="Resume").click()
    expect(status(second)).to_contain_text("▶")
    second.page.context.close()
    moves(lab)
    assert lab.ask("run.status.value") != "'PAUSED'"


def test_a_batch_is_a_table_in_which_a_click_opens_an_instance_and_rests_as_a_plain_one(lab: Lab) -> None:
    lab.run("table", start("table", 40) + "other = batch.submit(slow_jobs.orders, 80)\nbatch")
    table = lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .nbc-listing")
    button = table.get_by_role("button", name="Open instance 2")
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    opened = lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .nbc:not(.nbc-listing)")
    expect(opened.locator(".nbc-title")).to_contain_text("#2")
    found = violations(lab.page, ".jp-NotebookPanel:not(.lm-mod-hidden) .nbc-listing")
    lab.shoot("batch-light", lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea").last)
    lab.page.locator(".jp-OutputArea table caption", has_text="2 COMPLETED").wait_for()

    expect(table).to_have_count(0)
    assert found == []


def test_closing_the_batch_leaves_the_last_picture_of_run_and_batch(lab: Lab) -> None:
    lab.run("closes", start("closes", 20) + "run", "batch", "run.wait()\nbatch.close()")
    captions = lab.page.locator(".jp-OutputArea table caption")
    expect(captions).to_have_count(2)
    lab.wait_idle()

    expect(captions.first).to_contain_text("completed")
    expect(captions.last).to_contain_text("1 completed")
    expect(lab.page.locator(".jp-OutputArea .nbc")).to_have_count(0)

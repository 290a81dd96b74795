"""The panel in JupyterLab."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Lab

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


def test_the_panel_moves_after_its_cell_is_over_and_becomes_a_plain_page_at_the_end(lab: Lab) -> None:
    path = lab.run("moves", start("moves", 160), "run")
    expect(status(lab)).to_contain_text("▶")
    lab.wait_idle()
    before = facts(lab)
    lab.page.wait_for_function("was => document.querySelector('.nbc-facts').textContent !== was", arg=before)
    expect(lab.panel.locator(".nbc-fill")).to_be_attached()
    lab.shoot("running-light")
    page = lab.page.locator(".jp-OutputArea table caption", has_text="COMPLETED")
    page.wait_for()
    lab.command("docmanager:save", wait=True)
    data = json.loads(path.read_text())["cells"][1]["outputs"][0]["data"]

    assert not any("widget" in kind for kind in data)
    assert len("".join(data["text/html"]).encode()) <= 20_480
    lab.shoot("finished-static", lab.page.locator(".jp-OutputArea").last)


def test_the_panel_moves_while_a_cell_awaits_the_run_and_cancel_ends_it(lab: Lab) -> None:
    lab.run("awaits", start("awaits", 5_000) + "run", "try:\n    await run\nexcept nb.JobCancelled:\n    print('over')")
    expect(status(lab)).to_contain_text("▶")
    before = facts(lab)
    lab.page.wait_for_function("was => document.querySelector('.nbc-facts').textContent !== was", arg=before)
    lab.panel.get_by_role("button", name="Cancel", exact=True).click()
    began = time.monotonic()
    lab.panel.get_by_role("button", name="Cancel for good?").click()
    lab.page.locator(".jp-OutputArea", has_text="CANCELLED").first.wait_for()

    assert time.monotonic() - began < 3


def test_pause_holds_resume_goes_on_and_the_keyboard_reaches_them(lab: Lab) -> None:
    lab.run("pauses", start("pauses", 2_000) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.panel.get_by_role("button", name="Pause").focus()
    lab.page.keyboard.press("Enter")
    expect(status(lab)).to_contain_text("paused")
    lab.shoot("paused-light")
    lab.panel.get_by_role("button", name="Resume").click()
    expect(status(lab)).to_contain_text("▶")
    tab = lab.panel.get_by_role("tab", name="Timeline")
    tab.focus()
    lab.page.keyboard.press("ArrowRight")

    expect(lab.panel.get_by_role("tab", name=re.compile("Failures"))).to_have_attribute("aria-selected", "true")


def test_every_tab_of_an_ended_run_and_the_inspector_show_hostile_text_as_text(lab: Lab) -> None:
    lab.run("tabs", start("tabs", 60) + "run.wait()\npanel = run.panel()\npanel")
    panel = lab.panel
    expect(status(lab)).to_contain_text("completed")
    lab.shoot("ended-light")
    panel.get_by_role("tab", name=re.compile("Failures")).click()
    panel.locator("summary", has_text="ValueError").first.click()
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
    panel.get_by_label("Moment of the run").fill("400")
    expect(panel.locator(".nbc-moment")).to_contain_text(" of ")
    lab.shoot("history-light")

    assert lab.page.evaluate("window.hacked") is None


def test_failed_chunks_are_retried_by_a_button(lab: Lab) -> None:
    lab.run("retries", start("retries", 400) + "run")
    panel = lab.panel
    expect(panel.locator(".nbc-facts")).to_contain_text("failed")
    panel.get_by_role("button", name="Retry failed").click()

    expect(panel.locator(".nbc-note")).to_contain_text("queued again")


def test_the_panel_follows_the_dark_theme(lab: Lab) -> None:
    lab.run("dark", start("dark", 400) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.command("apputils:change-theme", {"theme": "JupyterLab Dark"}, wait=True)
    try:
        lab.page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
        lab.page.wait_for_selector("#jupyterlab-splash", state="detached")
        expect(lab.panel.locator(".nbc-facts")).to_contain_text("failed")
        lab.shoot("running-dark")
        ink, paper = lab.panel.evaluate(
            "node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]"
        )
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
    lab.command("kernelmenu:restart")
    lab.page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(lab.panel.locator(".nbc-gone")).to_be_visible()
    expect(lab.panel.get_by_role("button", name="Pause")).to_be_hidden()
    lab.shoot("kernel-gone-light")
    lab.wait_idle()
    lab.command("notebook:run-all-cells")
    expect(lab.panel.locator(".nbc-gone")).to_be_hidden()
    expect(status(lab)).to_contain_text("▶")

    expect(lab.panel.locator(".nbc-name")).to_contain_text("#1")


def test_a_saved_panel_moves_again_after_the_page_was_reloaded(lab: Lab) -> None:
    path = lab.run("reloads", start("reloads", 1_500) + "run")
    expect(status(lab)).to_contain_text("▶")
    lab.command("docmanager:save", wait=True)
    lab.load(path.name)
    expect(status(lab)).to_contain_text("▶")
    before = facts(lab)

    lab.page.wait_for_function("was => document.querySelector('.nbc-facts').textContent !== was", arg=before)

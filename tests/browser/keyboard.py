"""A walk through every control of the panel and of the overview by keys alone, for each front end."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

FOCUSED = """() => {
    const it = document.activeElement, seen = getComputedStyle(it);
    const box = it.getBoundingClientRect();
    return {
        name: it.getAttribute("aria-label") ?? it.textContent,
        seen: it.matches("[tabindex='-1']:not([role]), .nbc-pane") || seen.outlineStyle !== "none",
        inView: box.bottom > 0 && box.top < innerHeight,
    };
}"""
FARTHEST = 60
"""Presses of Tab to any control, at most: a page of chunks has 40 that open one."""


class Keyboard:
    """Somebody without a mouse."""

    def __init__(self, page: Any, panel: Any) -> None:
        self.page, self.panel = page, panel

    def press(self, *keys: str) -> None:
        """These keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def to(self, name: str, key: str = "Tab") -> None:
        """Go on to the next control of that name, which then shows that it has the focus."""
        passed: list[str] = []
        for _ in range(FARTHEST):
            self.press(key)
            found = self.page.evaluate(FOCUSED)
            passed.append(found["name"][:40])
            if re.search(name, found["name"]):
                assert found["seen"], f"{name} has the focus and does not show it"
                assert found["inView"], f"{name} has the focus out of sight"
                return
        raise AssertionError(f"no {key} leads to {name!r}, but to {passed}")

    def back(self, name: str) -> None:
        """The same the other way."""
        self.to(name, "Shift+Tab")

    def shows(self, words: str, where: str = "") -> None:
        """Wait until the panel shows this."""
        it = self.panel.locator(where) if where else self.panel
        expect(it.first).to_contain_text(re.compile(words))


def walk_panel(keys: Keyboard) -> None:
    """All of a run's panel, from its first button to its last tab: of `slow_jobs.orders`, running with some failed."""
    panel = keys.panel
    panel.focus()
    buttons(keys)
    chain(keys)
    failures(keys)
    chunks(keys)
    for tab in ("Timeline", "Log"):
        keys.press("ArrowRight")
        expect(panel.get_by_role("tab", name=tab)).to_be_focused()
    keys.press("ArrowRight")
    keys.to("Moment of the run")
    before = panel.locator(".nbc-moment").text_content()
    keys.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    expect(panel.locator(".nbc-moment")).not_to_have_text(before or "")
    keys.back("Cancel")
    keys.press("Enter")
    keys.shows(r"Cancel for good\?", "[data-do=cancel]")
    keys.press("Enter")
    keys.shows("cancelled")


def buttons(keys: Keyboard) -> None:
    keys.to("^Pause$")
    keys.press("Enter")
    keys.shows("paused", ".nbc-status")
    keys.press("Enter")
    keys.shows("▶", ".nbc-status")
    keys.press("Space")
    keys.shows("paused", ".nbc-status")
    keys.to("^Retry .*failed$")
    keys.press("Enter")
    keys.shows("Queued again", ".nbc-note")
    keys.back("Resume")
    keys.press("Enter")
    expect(keys.panel.get_by_role("tab", name=re.compile(r"Failures \("))).to_be_visible()
    keys.press("Enter")
    keys.shows("paused", ".nbc-status")
    keys.to("^Failed")
    keys.press("Enter")
    expect(keys.panel.get_by_role("tab", name=re.compile("Failures"))).to_be_focused()


def chain(keys: Keyboard) -> None:
    keys.back("^find: ")
    keys.press("ArrowRight", "ArrowRight", "Enter")
    keys.shows("All tabs show clean alone")
    keys.press("ArrowLeft", "Enter")
    keys.shows("All tabs show fetch alone")
    keys.to("Show all steps")
    keys.press("Enter")
    expect(keys.panel.locator("[aria-pressed=true]")).to_have_count(0)


def failures(keys: Keyboard) -> None:
    keys.to("^Failures")
    keys.to("^traceback$")
    keys.press("Enter")
    expect(keys.panel.locator("details[open] pre").first).to_be_visible()
    keys.back("^Retry th")
    keys.press("Enter")
    keys.shows("queued again", ".nbc-note")


def chunks(keys: Keyboard) -> None:
    keys.back("^Failures")
    keys.press("ArrowRight")
    keys.to("^Step$")
    keys.press("f", "e")
    keys.shows("^fetch", ".nbc-list tbody td")
    keys.to("^State$")
    keys.press("c", "o")
    keys.shows(".* of ", ".nbc-list caption")
    keys.to("^Order$")
    keys.press("s")
    keys.shows("slowest first", ".nbc-list caption")
    keys.to("^Jump to chunk$")
    keys.page.keyboard.type("30")
    keys.press("Enter")
    keys.shows(r"from chunk \d+, of", ".nbc-list caption")
    keys.to("^Next")
    keys.to("^Inspect chunk")
    opener = keys.page.evaluate("document.activeElement.dataset.chunk")
    keys.press("Enter")
    inspector = keys.panel.get_by_role("region", name="Inspector")
    expect(inspector).to_be_focused()
    keys.to("^Close$")
    keys.to("^Copy$")
    keys.press("Enter")
    keys.shows("Copied|Marked", "[data-copy]")
    keys.press("Escape")
    expect(keys.panel.locator(f"[data-chunk='{opener}']").first).to_be_focused()
    keys.back("^Chunks")


def walk_overview(keys: Keyboard) -> None:
    """All of an overview: of more completed runs than a page has, beside one that goes on."""
    keys.panel.focus()
    keys.to("^completed ")
    keys.press("Enter")
    expect(keys.panel.locator(".nbc-filters [aria-pressed=true]")).to_have_text(re.compile("completed"))
    expect(keys.panel.get_by_role("button", name=re.compile("^completed"))).to_be_focused()
    keys.to("^Next")
    keys.press("Enter")
    keys.shows("21–", ".nbc-pages")
    keys.back("Previous$")
    keys.press("Space")
    keys.shows("1–20 of", ".nbc-pages")
    keys.back("^Open instance")
    keys.press("Enter")
    expect(keys.panel.locator("[aria-expanded=true]")).to_be_focused()
    keys.press("Enter")
    expect(keys.panel.locator("[aria-expanded=true]")).to_have_count(0)

"""The dashboard as a web page of its own: Voila on notebooks/dashboard.ipynb."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from tests.browser.conftest import HERE, ROOT, SHOTS, Server, violations, watched
from tests.browser.keyboard import Keyboard, walk_overview, walk_panel
from tests.browser.test_lab import MANY, start

STORE = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(ROOT)!r}]
import nbbatch as nb, slow_jobs
with nb.open("orders.duckdb", workers=4) as batch:
    batch.submit(slow_jobs.orders, 60).wait()
    batch.submit(slow_jobs.strict, 12).wait()
    batch.submit(slow_jobs.orders, 4_000, key="unfinished")
"""
"""A store with an ended instance, a failed one, and one that waits for its job since its process was closed."""


@pytest.fixture(scope="module")
def voila(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, list[str], list[str]]]:
    root = tmp_path_factory.mktemp("voila")
    subprocess.run([sys.executable, "-c", STORE], cwd=root, check=True, capture_output=True, timeout=60)
    notebook = (ROOT / "notebooks" / "dashboard.ipynb").read_text()
    given = notebook.replace("JOBS = []", "import slow_jobs\\nJOBS = [slow_jobs.orders, slow_jobs.strict]")
    assert given != notebook
    (root / "dashboard.ipynb").write_text(given)
    cells = [new_code_cell(cell) for cell in (start("keys", 0) + MANY, "batch")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(metadata={"kernelspec": kernel}, cells=cells), root / "keys.ipynb")
    server = Server(tmp_path_factory.mktemp("jupyter-voila"), root, "voila")
    outside: list[str] = []
    console: list[str] = []
    page = watched(chromium, outside, console)
    try:
        yield page, f"{server.url}/voila/render/dashboard.ipynb", outside, console
    finally:
        page.context.close()
        server.stop()


def press(page: Any, name: str) -> None:
    button = page.locator(".nbd").get_by_role("button", name=name, exact=True)
    expect(button).to_be_enabled()
    button.click()


def test_a_colleague_picks_a_store_sees_its_instances_and_acts(
    voila: tuple[Any, str, list[str], list[str]],
) -> None:
    page, url, outside, console = voila
    page.goto(url)
    page.locator(".nbd select").first.select_option(label="orders.duckdb")
    shown = page.locator(".nbd")
    expect(shown.get_by_role("button", name="Open instance")).to_have_count(3)
    press(page, "Hold it here")
    expect(shown.get_by_role("row", name="Open instance 3")).to_contain_text("running")
    press(page, "Open instance 3")
    press(page, "Pause")
    expect(shown.get_by_role("button", name="Resume", exact=True)).to_be_visible()
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / "dashboard-light.png"))
    found = violations(page, ".nbd")
    press(page, "Resume")
    press(page, "Cancel")
    press(page, "Cancel for good?")
    expect(shown).to_contain_text("cancelled")
    press(page, "Open instance 2")
    expect(shown.get_by_role("region", name="Run")).to_contain_text("strict-check")
    shown.get_by_role("tab", name="Failures").click()
    expect(shown).to_contain_text("row 7 has no id")
    press(page, "Retry 1 failed")
    expect(shown).to_contain_text("1 to retry, 11 kept")
    page.reload()  # the kernel of the page that was left holds the store, and answers this one
    page.locator(".nbd select").first.select_option(label="orders.duckdb")
    expect(shown.get_by_role("button", name="Open instance")).to_have_count(3)

    assert found == []
    assert [each for each in outside if "font" not in each.lower()] == []
    # style sheets that Voila asks a network for, the good-bye of a page that is left, which Voila refuses by itself, and
    # Notebook 7's extension of JupyterLab, which Voila loads without what it needs
    known = ("ERR_FAILED", "403", "shared module")
    assert [each for each in console if not any(part in each for part in known)] == []


def test_every_control_of_a_page_is_reached_and_used_by_keys_alone(
    voila: tuple[Any, str, list[str], list[str]],
) -> None:
    page, url, _, _ = voila
    page.goto(url.replace("dashboard.ipynb", "keys.ipynb"))
    listing, panel = page.locator(".nbc-listing"), page.locator(".nbc[aria-label=Run]")
    listing.get_by_role("button", name="completed 25").wait_for()
    panel.get_by_role("tab", name="Failures (").wait_for()
    walk_overview(Keyboard(page, listing))
    walk_panel(Keyboard(page, panel))

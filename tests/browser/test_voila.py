"""The dashboard as a web page of its own: Voila on notebooks/dashboard.ipynb."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import HERE, ROOT, SHOTS, Server, violations, watched

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
    server = Server(tmp_path_factory.mktemp("jupyter-voila"), root, "voila")
    outside: list[str] = []
    console: list[str] = []
    page = watched(chromium, outside, console)
    try:
        yield page, f"{server.url}/voila/render/dashboard.ipynb", outside, console
    finally:
        page.context.close()
        server.stop()


def pick(page: Any, told: str) -> None:
    """Choose the instance whose line says this."""
    line = page.locator(".nbd select[size] option", has_text=told).first
    page.locator(".nbd select[size]").select_option(label=line.text_content())


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
    lines = page.locator(".nbd select[size] option")
    expect(lines).to_have_count(3)
    pick(page, "unfinished")
    press(page, "Resume")
    expect(lines.filter(has_text="unfinished")).to_contain_text("▶")
    press(page, "Pause")
    expect(lines.filter(has_text="unfinished")).to_contain_text("paused")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / "dashboard-light.png"))
    found = violations(page, ".nbd")
    press(page, "Resume")
    expect(lines.filter(has_text="unfinished")).to_contain_text("▶")
    press(page, "Cancel")
    press(page, "Really cancel?")
    expect(lines.filter(has_text="unfinished")).to_contain_text("cancelled")
    pick(page, "strict-check")
    expect(page.locator(".nbd")).to_contain_text("row 7 has no id")
    press(page, "Retry failed")

    expect(page.locator(".nbd [role=status]")).to_contain_text("1 to retry, 11 kept")
    assert found == []
    assert [each for each in outside if "font" not in each.lower()] == []
    assert [each for each in console if "ERR_FAILED" not in each] == []  # style sheets that Voila asks a network for

"""``python -m benchmarks.cockpit [chunks]``: what the panel of a big run costs, in the kernel and in a browser.

The browser's part needs ``nbbatch[browser]`` and Chromium; without them only the kernel's part is measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbbatch as nb
from nbbatch.panel.poller import TICK
from nbbatch.panel.session import TABS, Session

ASKED = (
    {"do": "chunks", "step": "1", "status": "FAILED", "after": 0},
    {"do": "chunks", "step": "1", "status": "QUEUED", "after": 0},
    {"do": "chunks", "step": "1", "status": "COMPLETED", "after": 0},
    {"do": "chunks", "step": "", "status": "", "after": 0},
    {"do": "inspect", "chunk": 1000},
    {"do": "close"},
    {"do": "at", "share": 0.5},
)
"""What a reader asks for, tab by tab."""


@nb.step
def find(count: int) -> Iterator[int]:
    yield from range(count)


@nb.step(max_attempts=1, max_failed=1.0)
def work(number: int) -> int:
    if number % 1000 == 7:
        raise ValueError(f"row {number} has no id")
    return number


@nb.step
def total(numbers: Iterable[int]) -> int:
    return sum(1 for _ in numbers)


million = nb.Job("million", find >> work >> total)


class Timed:
    """A store that writes down how long each query takes."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.seconds: list[tuple[float, str]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("fetch", "frame", "rows"):
            return found

        def timed(query: str, *values: Any) -> Any:
            began = time.perf_counter()
            try:
                return found(query, *values)
            finally:
                self.seconds.append((time.perf_counter() - began, " ".join(query.split())[:90]))

        return timed

    def figures(self) -> str:
        """Median, 99th percentile and the slowest, in ms, with its words."""
        ordered = sorted(self.seconds)
        middle, late = (ordered[int(share * len(ordered))][0] for share in (0.5, 0.99))
        slowest, query = ordered[-1]
        return f"{len(ordered):,} queries of {1e3 * middle:.1f} ms, 99 % below {1e3 * late:.0f}, slowest {1e3 * slowest:.0f}: {query}"


def look(run: nb.JobHandle[Any], name: str, pace: float) -> None:
    """Open a panel and every tab, as often a second as a panel does; print what it cost."""
    store = Timed(run._store)
    began = time.perf_counter()
    panel = Session(run, store, run._engine())  # type: ignore[arg-type]
    sizes = [len(json.dumps(panel.step()))]
    first = time.perf_counter() - began
    looks: list[float] = []
    for message in [step for tab in TABS for step in ({"do": "tab", "tab": tab}, *ASKED)]:
        panel.ask(message)
        began = time.perf_counter()
        sizes.append(len(json.dumps(panel.step())))
        looks.append(time.perf_counter() - began)
        time.sleep(max(0.0, pace - looks[-1]))
    looks.sort()
    print(f"{name}: first value after {1e3 * first:.0f} ms; a look takes {1e3 * looks[len(looks) // 2]:.0f} ms"
          f" (most {1e3 * looks[-1]:.0f}); values of at most {max(sizes):,} bytes")  # fmt: skip
    print(f"  {store.figures()}")


def kernel(chunks: int, path: Path) -> None:
    """The kernel's part: sessions without a page, while the run goes on and after it."""
    with nb.open(path, workers=2) as batch:
        run = batch.submit(million, chunks)
        while run.progress < 0.1:
            time.sleep(0.1)
        look(run, f"{chunks:,} chunks, running from {run.progress:.0%} on", TICK)
        print(f"  now at {run.progress:.0%}")
        run.wait()
        look(run, f"{chunks:,} chunks, ended", 0.0)


OPEN = """import nbbatch as nb
from benchmarks.cockpit import million
from nbbatch.panel import widgets
batch = nb.open("browser.duckdb", workers=2)"""
START = "run = batch.submit(million, {chunks})\nrun"
WATCH = """() => {
    window.gaps = []; window.slow = []; let before = performance.now();
    const frame = (now) => { window.gaps.push(now - before); before = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    new PerformanceObserver((list) => list.getEntries().forEach((each) => window.slow.push(each.duration)))
        .observe({ type: "longtask" });
}"""
PAINTED = """() => new Promise((done) => {
    const look = () => document.querySelector(".nbc-facts")?.textContent ? requestAnimationFrame(() => done(performance.now()))
        : requestAnimationFrame(look);
    look();
})"""


def browser(chunks: int, folder: Path) -> None:
    """The page's part: first paint, answers to clicks, frames and messages while the run goes on."""
    from playwright.sync_api import sync_playwright

    from tests.browser import conftest

    for name in ("jupyter", "notebooks"):
        (folder / name).mkdir()
    server = conftest.Server(folder / "jupyter", folder / "notebooks", "lab")
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=conftest.CHROMIUM, headless=True, args=conftest.FLAGS)
            sizes: list[int] = []
            page = conftest.watched(chromium, [], [])
            page.on("websocket", lambda socket: socket.on("framereceived", lambda data: sizes.append(len(data))))
            lab = conftest.Lab(server, page, [], [])
            lab.run("million", OPEN)
            lab.page.wait_for_function("() => document.querySelector('.jp-InputArea-prompt').textContent === '[1]:'")
            _measure(lab, chunks, sizes)
            chromium.close()
    finally:
        server.stop()


def _measure(lab: Any, chunks: int, sizes: list[int]) -> None:
    page = lab.page
    page.evaluate(
        "code => window.jupyterapp.shell.currentWidget.content.model.sharedModel.addCell({ cell_type: 'code', source: code })",
        START.format(chunks=chunks),
    )  # fmt: skip
    page.evaluate(WATCH)
    sizes.clear()
    began = page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; return performance.now(); }"
    )
    lab.command("notebook:run-cell")
    print(f"in JupyterLab: first paint {page.evaluate(PAINTED) - began:.0f} ms after the cell was run")
    page.evaluate("() => { window.gaps.length = window.slow.length = 0; }")
    clicks: list[list[float | None]] = []
    for tab in ("Failures", "Chunks", "Log", "History", "Timeline") * 2:
        clicks.append(_click(page, tab))
        page.wait_for_timeout(100)
    lab.shoot("million-running-light")
    drawn, heard = (sorted(each for each in column if each) or [0.0] for column in zip(*clicks, strict=True))
    gaps, slow = page.evaluate("[window.gaps, window.slow]")
    gaps.sort()
    print(f"  a click on a tab is drawn after {drawn[len(drawn) // 2]:.0f} ms (most {drawn[-1]:.0f}), what the kernel "
          f"answers after {heard[len(heard) // 2]:.0f} ms (most {heard[-1]:.0f})")  # fmt: skip
    print(f"  frames {gaps[len(gaps) // 2]:.0f} ms apart, 99 % below {gaps[int(0.99 * len(gaps))]:.0f}, longest {gaps[-1]:.0f}; "
          f"longest task of the page {max(slow, default=0):.0f} ms; messages of at most {max(sizes):,} bytes")  # fmt: skip
    print(f"  then: {lab.panel.locator('.nbc-facts').text_content() if lab.panel.count() else 'the run was over'}")


def _click(page: Any, tab: str) -> list[float | None]:
    """Milliseconds until a tab that was clicked is drawn, and until what the kernel answered is; None: nothing new."""
    return page.evaluate(
        """(tab) => new Promise((done) => {
            const button = [...document.querySelectorAll(".nbc [role=tab]")].find((each) => each.textContent.startsWith(tab));
            if (!button) return done([0, null]);
            const pane = document.getElementById(button.getAttribute("aria-controls"));
            const began = performance.now();
            let drawn = 0;
            const answer = (heard) => { watch.disconnect(); done([drawn, heard]); };
            const watch = new MutationObserver(() => answer(performance.now() - began));
            watch.observe(pane, { childList: true, subtree: true, characterData: true });
            button.click();
            requestAnimationFrame(() => { drawn = performance.now() - began; });
            setTimeout(() => answer(null), 1500);
        })""",
        tab,
    )


def main() -> None:
    chunks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        kernel(chunks, Path(folder) / "kernel.duckdb")
        if all(map(find_spec, ("playwright", "jupyterlab", "anywidget"))):
            browser(chunks, Path(folder))


if __name__ == "__main__":
    main()

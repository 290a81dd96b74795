"""``make gallery``: the panel and the overview in every state they may be in, as pictures in build/gallery, to be looked at.

Needs ``nbbatch[browser]`` and Chromium. The page side runs beside a session, without Jupyter. With a path of a store, its first run is
drawn too: that of ``python -m benchmarks.cockpit``, say.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import nbbatch as nb
from docs.make_pictures import Night, Order, Priced, ordered, overview, report
from nbbatch.panel.session import Session
from tests.browser.conftest import CHROMIUM, FLAGS, Bare

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "gallery"
SECONDS = 60.0


class Gates:
    """What steps wait for, so that a run stands still to be looked at."""

    def __init__(self) -> None:
        self.find = {0: threading.Event(), 1_200: threading.Event()}
        self.price = threading.Semaphore(0)

    def open(self, prices: int = 1_000_000) -> None:
        """Let orders be found, and so many of them be priced."""
        for each in self.find.values():
            each.set()
        if prices:
            self.price.release(prices)


gates = Gates()


@nb.step
def find(night: Night) -> Iterator[Order]:
    """Orders; the first, and the last of many, when it may."""
    for number in range(night.orders):
        if number in (0, 1_200):
            gates.find[number].wait(SECONDS)
        yield ordered(number)


@nb.step(max_attempts=2, backoff=0.01, max_failed=0.3)
def price(order: Order) -> Priced:
    """Read the amount; now and then the rates do not answer."""
    gates.price.acquire(timeout=SECONDS)
    time.sleep(0.004)
    if order.id % 50 == 7:
        raise TimeoutError("the rates did not answer within 2 s")
    return Priced(id=order.id, cents=round(100 * float(order.amount)))


@nb.step
def book(order: Priced) -> Priced:
    """Write it into the books."""
    return order


nightly = nb.Job("nightly-orders", find >> price >> book >> report)


@nb.step(max_failed=3)
def strictly(order: Order) -> Priced:
    """Read the amount, or fail."""
    return Priced(id=order.id, cents=round(100 * float(order.amount)))


strict = nb.Job("strict-orders", find >> strictly >> report)


def _long(count: int) -> nb.Job[int, int]:
    """A chain of that many steps."""

    @nb.step
    def start(number: int) -> Iterator[int]:
        yield from range(number)

    @nb.step
    def end(numbers: Iterable[int]) -> int:
        return sum(numbers)

    def passing(place: int) -> nb.Step[int, int]:
        def on(number: int) -> int:
            if place == count // 2:
                gates.price.acquire(timeout=SECONDS)
            return number

        on.__name__ = f"pass_{place}"
        return nb.step(on)

    chain: Any = start
    for place in range(count - 2):
        chain = chain >> passing(place)
    return nb.Job("long-chain", chain >> end)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the run did not come to where it was to be drawn")
        time.sleep(0.02)


def finished(run: nb.JobHandle[Any]) -> nb.JobHandle[Any]:
    """The run, when it has ended."""
    run.wait()
    return run


class Gallery:
    """Draws what is given to it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def panel(
        self, name: str, run: Any, tab: str | None = None, *, width: int = 1060, scheme: str = "light", forced: str = "none",
        asked: Iterable[dict[str, Any]] = (), put: str = "",
    ) -> None:  # fmt: skip
        """A run's panel: one tab of it, after what was asked for, on a page of that width and those colours."""
        self.page.set_viewport_size({"width": width, "height": 1000})
        self.page.emulate_media(color_scheme=scheme, forced_colors=forced)
        session = Session(run, run._store, run._engine())
        until(lambda: session.step() is not None and session.snapshot.whole)
        bare = Bare(self.page, session)
        bare.answer()
        if tab:
            bare.open(tab)
        for message in asked:
            session.ask(message)
        bare.answer()
        if put:
            self.page.evaluate(put)
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(350)  # the bar's growth
        self._shoot(name, self.page.locator("#here"))

    def runs(
        self, name: str, batch: nb.Batch, *, width: int = 1060, scheme: str = "light", forced: str = "none"
    ) -> None:
        """The runs of a store."""
        self.page.set_viewport_size({"width": width, "height": 1000})
        self.page.emulate_media(color_scheme=scheme, forced_colors=forced)
        overview(self.page, batch)
        self._shoot(name, self.page.locator("#here"))

    def _shoot(self, name: str, locator: Any) -> None:
        locator.screenshot(path=str(FOLDER / f"{name}.png"))
        print(f"{name}.png", flush=True)


LOOKS: dict[str, dict[str, Any]] = {
    "": {}, "-dark": {"scheme": "dark"}, "-forced": {"forced": "active"}, "-360": {"width": 392}, "-1600": {"width": 1632},
}  # fmt: skip
"""Widths are those of the panel and 32 px of the page's margins."""
TABS = ("Now", "Failures", "Chunks", "Timeline", "Log", "History")


def going(gallery: Gallery, folder: Path) -> None:
    """States of a run that has not ended."""
    with nb.open(folder / "going.duckdb", workers=6) as batch:
        run = batch.submit(nightly, Night(orders=1_500))
        gallery.panel("starting", run)
        gates.find[0].set()
        until(lambda: run.now()["given"].sum() >= 1_000)
        gallery.panel("fan-out", run)
        gates.find[1_200].set()
        gates.price.release(400)
        until(lambda: len(run.now()) == 6 and sum(run.steps()["completed"]) > 700)
        for name, look in LOOKS.items():
            gallery.panel(f"running{name}", run, "Now", **look)
        for tab in TABS[1:]:
            gallery.panel(f"running-{tab.lower()}", run, tab)
        gallery.panel("running-one-step", run, "Chunks", asked=[{"do": "step", "step": 1}])
        gallery.panel("stale", run, put="() => model.put({ ...model.shown, old: 'It could not be read just now.' })")
        gallery.panel("kernel-gone", run, put="() => model.fire('comm_live_update')")
        run.pause()
        gallery.panel("paused", run)
        gates.open()
        run.cancel()
        gallery.panel("cancelled", run)
    gates.__init__()


def waiting(gallery: Gallery, folder: Path) -> None:
    """A store that was opened again, without the job."""
    with nb.open(folder / "waits.duckdb", workers=6) as batch:
        gates.open(100)
        run = batch.submit(nightly, Night(orders=400))
        until(lambda: sum(run.steps()["completed"]) > 100)
        threading.Timer(0.5, gates.open).start()
    with nb.open(folder / "waits.duckdb", workers=6) as batch:
        gallery.panel("waiting-for-its-job", batch.instance(run.id))
        gallery.panel("waiting-for-its-job-chunks", batch.instance(run.id), "Chunks")


def ended(gallery: Gallery, folder: Path) -> None:
    """States of a run that has ended, and what a look into one shows."""
    gates.open()
    with nb.open(folder / "ended.duckdb", workers=6) as batch:
        well = finished(batch.submit(nightly, Night(orders=6)))
        gallery.panel("completed", well)
        run = finished(batch.submit(nightly, Night(orders=400)))
        for name, look in LOOKS.items():
            gallery.panel(f"completed-with-failures{name}", run, **look)
        for tab in TABS:
            gallery.panel(f"ended-{tab.lower()}", run, tab)
        failed = run.chunks(status="FAILED")["id"][0]
        for name, look in LOOKS.items():
            gallery.panel(f"inspector{name}", run, "Chunks", asked=[{"do": "inspect", "chunk": failed}], **look)
        gallery.panel("history-moment", run, "History", asked=[{"do": "at", "share": 0.4}])
        stopped = finished(batch.submit(strict, Night(orders=400)))
        gallery.panel("failed", stopped)
        gallery.panel("failed-360", stopped, width=392)
        gallery.panel("failing", *_failing(batch))


def _failing(batch: nb.Batch) -> tuple[nb.JobHandle[Any], str]:
    gates.__init__()
    run = batch.submit(nightly, Night(orders=2_000))
    gates.open(900)
    until(lambda: sum(run.steps()["failed"]) > 20 and len(run.now()) == 6)
    threading.Timer(20, gates.open).start()
    return run, "Failures"


def long(gallery: Gallery, folder: Path) -> None:
    """Forty steps."""
    gates.__init__()
    with nb.open(folder / "long.duckdb", workers=6) as batch:
        run = batch.submit(_long(40), 100)
        gates.price.release(40)
        until(lambda: run.steps()["completed"][20] == 100 and len(run.now()) > 0)  # all are before the one that waits
        for name, look in LOOKS.items():
            gallery.panel(f"forty-steps{name}", run, **look)
        gallery.panel("forty-steps-timeline", run, "Timeline")
        gates.open()


def many(gallery: Gallery, folder: Path) -> None:
    """A hundred runs."""
    gates.__init__()
    gates.open(0)
    with nb.open(folder / "many.duckdb", workers=6) as batch:
        gates.price.release(20_000)
        for turn in range(94):
            made = batch.submit(
                strict if turn % 9 == 4 else nightly, Night(orders=40 + turn), key=f"night-{turn + 1:02}"
            )
            made.wait()
        for each in range(3):
            batch.submit(nightly, Night(orders=300), key=f"other-{each}").pause() if each else batch.submit(
                nightly, Night(orders=8)
            ).cancel()
        gates.__init__()
        gates.open(0)
        runs = [batch.submit(nightly, Night(orders=300 + each)) for each in range(3)]
        gates.price.release(300)
        until(lambda: len(batch.instances()) >= 100 and runs[0].progress > 0.3)
        for name, look in LOOKS.items():
            gallery.runs(f"hundred-runs{name}", batch, **look)
        gates.open()


def stored(gallery: Gallery, path: Path) -> None:
    """A run of a store that was made elsewhere."""
    with nb.open(path) as batch:
        run = batch.instance(1)
        for tab in TABS:
            gallery.panel(f"{path.stem}-{tab.lower()}", run, tab)
        gallery.panel(f"{path.stem}-360", run, width=392)


def main(words: list[str]) -> None:
    """Draw all of them, or those of the parts that are named."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    parts = {part.__name__: part for part in (going, waiting, ended, long, many)}
    paths = [Path(word) for word in words if word not in parts]
    chosen = [parts[word] for word in words if word in parts] or ([] if paths else list(parts.values()))
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        gallery = Gallery(chromium.new_page())
        for part in chosen:
            part(gallery, Path(folder))
        for path in paths:
            stored(gallery, path)
        chromium.close()


if __name__ == "__main__":
    main(sys.argv[1:])

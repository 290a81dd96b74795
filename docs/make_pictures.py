"""``make pictures``: the pictures of the panel in docs/pictures, drawn by Chromium from a run of this moment.

Needs ``nbbatch[browser]`` and Chromium. The panel's page side runs beside a session, without Jupyter.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import nbbatch as nb
from nbbatch.panel.session import Session

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"


class Night(BaseModel):
    """Parameters of the job."""

    orders: int


class Order(BaseModel):
    """One order of the night."""

    id: int
    country: str
    amount: str


class Priced(BaseModel):
    """An order with its amount in cents."""

    id: int
    cents: int


class Report(BaseModel):
    """What the night brought."""

    orders: int
    cents: int


def ordered(number: int) -> Order:
    """An order; now and then its amount has a decimal comma."""
    country = ("AT", "FR", "NL", "PL")[number % 4]
    return Order(id=number, country=country, amount=f"{number},50" if number % 40 == 13 else f"{number}.50")


def _work(least: float, most: float) -> None:
    time.sleep(random.uniform(least, most))


@nb.step
def find(night: Night) -> Iterator[Order]:
    """Orders; those of one country write amounts with a comma."""
    for number in range(night.orders):
        yield ordered(number)


@nb.step(max_attempts=2, backoff=0.05, max_failed=0.1)
def price(order: Order) -> Priced:
    """Read the amount; now and then the rates do not answer."""
    _work(0.02, 0.07)
    if random.random() < 0.02:
        raise TimeoutError("the rates did not answer within 2 s")
    return Priced(id=order.id, cents=round(100 * float(order.amount)))


@nb.step
def book(order: Priced) -> Priced:
    """Write it into the books."""
    _work(0.01, 0.03)
    return order


@nb.step
def report(orders: Iterable[Priced]) -> Report:
    """Sum up."""
    cents = [order.cents for order in orders]
    return Report(orders=len(cents), cents=sum(cents))


nightly = nb.Job("nightly-orders", find >> price >> book >> report)


def shoot(page: Any, run: nb.JobHandle[Any], tab: str, names: dict[str, str]) -> None:
    """Pictures of one tab: from theme to file name, all of the same moment."""
    from tests.browser.conftest import Bare

    bare = Bare(page, Session(run, run._store, run._engine()))
    bare.open(tab)
    for theme, name in names.items():
        page.emulate_media(color_scheme=theme)
        page.mouse.move(0, 0)
        bare.panel.screenshot(path=str(FOLDER / f"{name}.png"))


def overview(page: Any, batch: nb.Batch) -> None:
    """Draw the runs of a store, as ``batch`` and the dashboard show them."""
    import json

    from nbbatch.panel import front
    from tests.browser.conftest import BARE

    esm = front.OVERVIEW.replace("export default { render };", "const panel = { render };")
    shown = json.dumps({"page": batch._runs()(), "opened": 0}).replace("</", "<\\/")
    page.set_content(BARE.format(css=front.CSS, esm=esm, shown=shown))
    page.locator(".nbc-runs").wait_for()


def shoot_overview(page: Any, batch: nb.Batch) -> None:
    """A picture of it."""
    page.emulate_media(color_scheme="light")
    overview(page, batch)
    page.locator(".nbc").screenshot(path=str(FOLDER / "overview.png"))


def main() -> None:
    """Make all of them anew."""
    sys.path.insert(0, str(ROOT))
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM, FLAGS

    FOLDER.mkdir(exist_ok=True)
    random.seed(7)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1060, "height": 900}, device_scale_factor=1.3)
        with nb.open(Path(folder) / "orders.duckdb", workers=6) as batch:
            for orders in (12, 40, 9):
                batch.submit(nightly, Night(orders=orders)).wait()
            run = batch.submit(nightly, Night(orders=1_500))
            while run.progress < 0.5:
                time.sleep(0.05)
            shoot(page, run, "Now", {"light": "panel-light", "dark": "panel-dark"})
            shoot_overview(page, batch)
            run.wait()
            shoot(page, run, "Failures", {"light": "failures"})
            run.chain().save(FOLDER / "chain.svg")
        chromium.close()
    for made in sorted(FOLDER.iterdir()):
        print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

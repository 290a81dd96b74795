"""``make pictures``: the moving picture of the README, filmed by Chromium from a run of this moment, light and dark.

Needs ``nbbatch[browser]`` and Chromium. Each theme is filmed in a page of its own, both from one run.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

import nbbatch as nb
from docs.make_pictures import FOLDER, ROOT, Night, nightly
from nbbatch.panel.session import Session

ORDERS = 500
SIZE = {"width": 900, "height": 500}
PAUSE_SECONDS = 0.1
"""Between frames; they are shown as far apart as they were taken."""
LAST_SECONDS = 4
"""How long the end is shown before it begins anew."""
THEMES = ("light", "dark")


class Film:
    """Frames of one page, and when each was taken."""

    def __init__(self, chromium: Any, run: nb.JobHandle[Any], theme: str) -> None:
        from tests.browser.conftest import Bare

        page = chromium.new_page(viewport=SIZE, device_scale_factor=1)
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        self.theme, self._bare = theme, Bare(page, Session(run, run._store, run._engine()))
        self._bare.open("Now")
        self._frames: list[tuple[float, Image.Image]] = []

    def shoot(self) -> None:
        """Take a frame of what the run shows now."""
        self._bare.answer()
        shot = self._bare.page.screenshot()
        self._frames.append((time.monotonic(), Image.open(io.BytesIO(shot)).convert("RGB")))

    def save(self) -> Path:
        """Write all frames as one moving picture."""
        times, images = zip(*self._frames, strict=True)
        shown = [round(1000 * (later - first)) for first, later in pairwise(times)]
        path = FOLDER / f"running-{self.theme}.webp"
        images[0].save(
            path, save_all=True, append_images=images[1:], duration=[*shown, 1000 * LAST_SECONDS],
            loop=0, quality=80, method=4,
        )  # fmt: skip
        return path


def film(chromium: Any, run: nb.JobHandle[Any]) -> list[Path]:
    """Film a run to its end."""
    films = [Film(chromium, run, theme) for theme in THEMES]
    while not run.done():
        for each in films:
            each.shoot()
        time.sleep(PAUSE_SECONDS)
    for each in films:
        each.shoot()
    return [each.save() for each in films]


def main() -> None:
    """Make both anew."""
    sys.path.insert(0, str(ROOT))
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM, FLAGS

    random.seed(7)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with nb.open(Path(folder) / "orders.duckdb", workers=4) as batch:
            batch.submit(nightly, Night(orders=40)).wait()  # so that it knows how long a step takes
            made = film(chromium, batch.submit(nightly, Night(orders=ORDERS)))
        chromium.close()
    for path in made:
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB, {Image.open(path).n_frames} frames")


if __name__ == "__main__":
    main()

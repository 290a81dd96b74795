"""Two notebooks, a terminal and a page of Voila on one store, beside the process that works on it: all show what is so, none costs much, and
each may be killed.

Takes two minutes and wants a quiet machine: only with NBBATCH_TOGETHER=1 (``make together``), which prints what was measured.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from tests.browser.conftest import HERE, ROOT, Lab, Server, watched

pytestmark = pytest.mark.skipif(not os.environ.get("NBBATCH_TOGETHER"), reason="only with NBBATCH_TOGETHER=1")

SECONDS = 1.0
"""How soon a page shows what has happened …"""
SLOWER = 1.1
"""… and how much longer a run may take than without any."""
RUN = 3_000
PAUSED, RUNNING = "‖ paused", "▶ running"
ENDLESS = 1_000_000
OPEN = ".jp-NotebookPanel:not(.lm-mod-hidden) .nbc"


class Owner:
    """Works on a store."""

    def __init__(self, store: Path, count: int) -> None:
        command = [sys.executable, str(HERE / "owner.py"), str(store), str(count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.run = int(self.process.stdout.readline())

    def go(self) -> None:
        """Have it go on with the run."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def ended(self) -> tuple[float, float]:
        """Seconds that the run took, and seconds of a core."""
        self.go()
        assert self.process.stdout
        took, cpu = self.process.stdout.readline().split()
        self.process.communicate()
        return float(took), float(cpu)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Terminal:
    """``nbbatch watch`` on a terminal."""

    def __init__(self, store: Path, run: int) -> None:
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        command = [sys.executable, "-m", "nbbatch", "watch", str(store), str(run)]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        self._said = ""
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(ours,), daemon=True).start()

    def _read(self, ours: int) -> None:
        with suppress(OSError):  # its end
            while part := os.read(ours, 65_536):
                with self._news:
                    self._said = (self._said + part.decode(errors="replace"))[-20_000:]
                    self._news.notify_all()

    def shows(self, words: str, seconds: float) -> bool:
        """Whether what it draws from now on has these words."""
        with self._news:
            self._said = ""
            return self._news.wait_for(lambda: re.search(words, self._said, re.IGNORECASE), seconds) is not None


class Sights:
    """All that look at one run."""

    def __init__(self, lab: Lab, other: Lab, voila: Server, dashboard: Any, terminal: Terminal) -> None:
        self.voila = voila
        self.pages = {
            "notebook": (lab.page, OPEN),
            "other notebook": (other.page, OPEN),
            "voila": (dashboard, ".nbd .nbc"),
        }
        self.terminal: Terminal | None = terminal

    def show(self, words: str, seconds: float = 30, since: Callable[[], float] = time.time) -> dict[str, float]:
        """Seconds until each of them shows these words, since something was done."""
        found, threads = dict[str, float](), list[threading.Thread]()
        terminal = self.terminal
        if terminal is not None:

            def read() -> None:
                assert terminal.shows(words, seconds)
                found["terminal"] = time.time()

            threads.append(threading.Thread(target=read))
            threads[0].start()
        for page, where in self.pages.values():
            page.evaluate(
                "([where, words]) => { window.seen = null; const look = () => document.querySelector(where)?.textContent.match("
                "new RegExp(words, 'i')) ? (window.seen = Date.now()) : setTimeout(look, 10); look(); }",
                [where, words],
            )
        for name, (page, _) in self.pages.items():
            page.wait_for_function("() => window.seen", timeout=seconds * 1000)
            found[name] = page.evaluate("window.seen") / 1000
        for thread in threads:
            thread.join()
        begun = since()
        return {name: max(0.0, at - begun) for name, at in found.items()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "shared.duckdb"


def order(store: Path, word: str, run: int) -> float:
    """Have the owner do it; returns when it was done."""
    with nb.look(store) as look:
        getattr(look.instance(run), word)()
    return time.time()


NOTEBOOK = "import nbbatch as nb, os\nrun = nb.look({path!r}).instance({run})\nrun.panel()"


@pytest.fixture
def sights(
    chromium: Any, one_lab: Lab, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, store: Path
) -> Iterator[Callable[[int], Sights]]:
    """Opens all that look at a run."""
    ends: list[Callable[[], object]] = []
    run_name = tmp_path.name  # a notebook of its own for each test

    def opened(run: int) -> Sights:
        terminal = Terminal(store, run)
        ends.append(terminal.process.kill)
        page = watched(chromium, [], [])
        other = Lab(one_lab.server, page, [], [])
        for lab, name in ((one_lab, f"one-{run_name}"), (other, f"other-{run_name}")):
            lab.run(name, NOTEBOOK.format(path=str(store), run=run))
            lab.panel.wait_for()
        (tmp_path / "dashboard.ipynb").write_text((ROOT / "notebooks" / "dashboard.ipynb").read_text())
        server = Server(tmp_path_factory.mktemp("jupyter-together"), tmp_path, "voila")
        ends.append(server.stop)
        dashboard = watched(chromium, [], [])
        ends.extend([page.context.close, dashboard.context.close])
        dashboard.goto(f"{server.url}/voila/render/dashboard.ipynb")
        dashboard.locator(".nbd select").first.select_option(label=store.name)
        dashboard.locator(".nbd").get_by_role("button", name=f"Open instance {run}").click()
        dashboard.locator(".nbd .nbc").wait_for()
        return Sights(one_lab, other, server, dashboard, terminal)

    yield opened
    for end in reversed(ends):
        end()


def said(what: str, figures: dict[str, float]) -> None:
    sys.__stdout__.write(f"\n{what}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()) + "\n")  # type: ignore[union-attr]


@pytest.mark.timeout(600)
def test_a_run_that_is_looked_at_takes_little_longer(
    store: Path, tmp_path: Path, sights: Callable[[int], Sights]
) -> None:
    alone = [Owner(tmp_path / f"alone-{turn}.duckdb", RUN).ended() for turn in range(2)]
    owner = Owner(store, RUN)
    looking = sights(owner.run)
    looking.show(PAUSED)
    took, cpu = owner.ended()

    figures = {"alone": alone[0][0], "alone again": alone[1][0], "looked at": took}
    said("seconds of a run", figures | {"of a core alone": min(alone)[1], "of a core looked at": cpu})
    assert took <= SLOWER * min(alone)[0]


@pytest.mark.timeout(600)
def test_all_that_look_are_live_and_each_may_be_killed(
    store: Path, sights: Callable[[int], Sights], one_lab: Lab
) -> None:
    owner = Owner(store, ENDLESS)
    owner.go()
    looking = sights(owner.run)
    kernel = int(one_lab.ask("os.getpid()"))
    worst: dict[str, float] = {}
    for _ in range(4):
        for word, shown in (("pause", PAUSED), ("resume", RUNNING)):
            with ThreadPoolExecutor() as aside:
                done = aside.submit(order, store, word, owner.run)
                lags = looking.show(shown, since=done.result)
            said(f"seconds until each shows '{shown}'", lags)
            worst = {name: max(lag, worst.get(name, 0.0)) for name, lag in lags.items()}
    said("at most", worst)
    assert looking.terminal
    looking.terminal.process.kill()
    looking.terminal = None
    os.kill(kernel, signal.SIGKILL)
    del looking.pages["notebook"]
    order(store, "pause", owner.run)
    looking.show(PAUSED)
    os.killpg(looking.voila.process.pid, signal.SIGKILL)
    del looking.pages["voila"]
    order(store, "resume", owner.run)
    looking.show(RUNNING)
    owner.kill()
    owner = Owner(store, ENDLESS)  # another one goes on with the run
    owner.go()
    looking.show(RUNNING)
    order(store, "pause", owner.run)
    looking.show(PAUSED)
    owner.kill()

    assert max(worst.values()) <= SECONDS

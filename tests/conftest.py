"""Fixtures of the whole suite."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import nbbatch as nb
from tests.kit import HandClock

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore Ctrl-C


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a test's store is."""
    return tmp_path / "store.duckdb"


@pytest.fixture
def inline(store: Path, clock: HandClock) -> Iterator[nb.Batch]:
    """A batch whose steps run one after another on the engine's own thread, on a clock moved by hand."""
    with nb.open(store, executor=nb.inline(), clock=clock) as opened:
        yield opened


@pytest.fixture(params=["inline", "threads"])
def batch(request: pytest.FixtureRequest, store: Path, clock: HandClock) -> Iterator[nb.Batch]:
    """A batch on a clock moved by hand: the law holds on the engine's own thread and on another one."""
    executor = nb.inline() if request.param == "inline" else None
    with nb.open(store, executor=executor, workers=1 if executor is None else None, clock=clock) as opened:
        yield opened


@pytest.fixture
def threaded(store: Path) -> Iterator[nb.Batch]:
    """A batch on four threads and the real clock."""
    with nb.open(store, workers=4) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_widget_stays() -> Iterator[None]:
    """ipywidgets keeps every widget until it is closed, and with it the batch it shows."""
    yield
    if "ipywidgets" in sys.modules:
        sys.modules["ipywidgets"].Widget.close_all()


collect_ignore = ["readme", "typing"]  # a program, and code that is only checked: importing them runs them
if find_spec("cosmic_ray") is None:  # which comes with `make mutants`
    collect_ignore.append("mutants")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After a run of the whole suite, say how many laws and tests there are."""
    passed = len(terminalreporter.stats.get("passed", []))
    if config.args == config.getini("testpaths"):
        from tests.test_behaviours import promised

        terminalreporter.write_line(f"{len(promised())} laws promised in docs/behaviours.md; {passed} tests passed")

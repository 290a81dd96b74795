"""A progress line for scripts: through tqdm or rich where one is installed, else plain words on stderr.

The waiting thread draws it between two looks at the end; the engine knows nothing of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol, TextIO, TypeVar

LOOK_SECONDS = 0.25
"""Between two looks at the run."""
T = TypeVar("T")


class Reading(NamedTuple):
    """How a run stands."""

    label: str
    done: int
    """Chunks that ended."""
    total: int
    """Chunks there are so far."""
    share: float
    """Of the work, 0 to 1."""
    eta: str
    """In words; "" while unknown."""


class Line(Protocol):
    """Something that shows readings one after another in the same place."""

    def show(self, reading: Reading) -> None:
        """Draw this one."""

    def close(self) -> None:
        """End the line; what was drawn last stays."""


class PlainLine:
    """Words on a stream: drawn over on a terminal, elsewhere a line for every tenth of the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._tenth = -1
        self._width = 0

    def show(self, reading: Reading) -> None:
        """Draw this one."""
        words = f"{reading.label}: {reading.done:,}/{reading.total:,} chunks · {reading.share:.0%}{reading.eta}"
        if self._terminal:
            self._stream.write("\r" + words.ljust(self._width))
            self._width = len(words)
        elif int(reading.share * 10) > self._tenth:
            self._tenth = int(reading.share * 10)
            self._stream.write(words + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._terminal and self._width:
            self._stream.write("\n")
            self._stream.flush()


class TqdmLine:
    """A bar of tqdm's."""

    def __init__(self) -> None:
        from tqdm import tqdm  # pyright: ignore[reportMissingModuleSource, reportUnknownVariableType]

        self._bar: Any = tqdm(total=0, unit="chunk", file=sys.stderr)

    def show(self, reading: Reading) -> None:
        """Draw this one."""
        self._bar.total, self._bar.n = reading.total, reading.done
        self._bar.set_description_str(reading.label, refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """End the line."""
        self._bar.close()


class RichLine:
    """A bar of rich's."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

        columns: Any = (*progress.Progress.get_default_columns(), progress.MofNCompleteColumn())
        self._progress: Any = progress.Progress(*columns, console=Console(stderr=True), auto_refresh=False)
        self._bar: Any = self._progress.add_task("", total=None)
        self._progress.start()

    def show(self, reading: Reading) -> None:
        """Draw this one."""
        label = reading.label.replace("[", "\\[")
        self._progress.update(self._bar, description=label, completed=reading.done, total=reading.total, refresh=True)

    def close(self) -> None:
        """End the line."""
        self._progress.stop()


def line() -> Line:
    """The best line there is here."""
    if find_spec("tqdm"):
        return TqdmLine()
    if find_spec("rich"):
        return RichLine()
    return PlainLine(sys.stderr)


def watch(ending: Future[T], look: Callable[[], Reading], timeout: float | None, drawn: Line | None = None) -> T:
    """Wait for an end and draw how it comes nearer; the last reading is drawn in any case.

    Args:
        ending: What is waited for.
        look: Reads how it stands; called in this thread.
        timeout: Seconds; None waits without limit.
        drawn: Where to draw; default: `line`.

    Raises:
        TimeoutError: It has not ended in time.
    """
    drawn = drawn or line()
    until = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, max(0.0, until - time.monotonic()))
            try:
                return ending.result(left)
            except TimeoutError:
                if ending.done() or (until is not None and time.monotonic() >= until):
                    raise
            drawn.show(look())
    finally:
        drawn.show(look())
        drawn.close()

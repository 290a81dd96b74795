"""A progress bar for scripts: tqdm's on a terminal or in a notebook, elsewhere a plain line for every tenth of the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any, NamedTuple, TextIO, TypeVar

from nbbatch.base.clock import result_of
from nbbatch.base.display import in_notebook

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} chunks [{elapsed}{postfix}]"
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
    """In words; "" while unknown or over."""
    given: int = 0
    """What fan-outs that run have given, while nothing is known of the time left."""


class Line:
    """Readings one after another: drawn over each other by tqdm, or printed below each other.

    Plain lines are few: the first of each tenth of the work, and before there is more to tell one for each digit of what was given.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self._bar = stream, None if stream is None else _bar(stream)
        self._told, self._words = (-1, 0), ""

    def show(self, reading: Reading, *, last: bool = False) -> None:
        """Draw it; of plain lines those that are told, and the last. Where nothing can be drawn any more, nothing is."""
        if self._stream is None:
            return
        try:
            self._draw(reading, last)
        except OSError:  # its terminal was closed, who read it has left, the disk is full: the run goes on all the same
            self._stream = None

    def _draw(self, reading: Reading, last: bool) -> None:
        label, done, total, share, eta, given = reading
        eta = eta or (f"{given:,} given so far" if given else "")
        told = int(share * 10), len(str(given))
        if self._bar is not None:
            self._bar.total, self._bar.n, self._bar.postfix = total, done, eta
            self._bar.set_description_str(label)
        elif told > self._told or last:
            self._told, before = told, self._words
            self._words = f"{label}: {done:,}/{total:,} chunks · {share:.0%}{eta and ' · '}{eta}"
            if self._words != before:
                print(self._words, file=self._stream, flush=True)
        if last and self._bar is not None:
            self._bar.close()


def _bar(stream: TextIO) -> Any:
    """tqdm's bar; None where nothing can be drawn over, or ``nbbatch[progress]`` is not installed.

    In a notebook the bar is a widget: without ipywidgets tqdm would write it once more at each look, and a saved notebook keeps all.
    """
    if not stream.isatty() and not (in_notebook() and find_spec("ipywidgets")):
        return None
    try:
        from tqdm.auto import tqdm  # pyright: ignore[reportMissingModuleSource, reportUnknownVariableType]
    except ImportError:
        return None
    return tqdm(total=0, file=stream, bar_format=_FORMAT)


def watch(ending: Future[T], look: Callable[[], Reading], timeout: float | None) -> T:
    """Wait for an end and draw on stderr how it comes nearer; the last reading is drawn in any case.

    Args:
        ending: What is waited for.
        look: Reads how it stands; called in this thread.
        timeout: Seconds; None waits without limit.

    Raises:
        TimeoutError: It has not ended in time.
    """
    line = Line(sys.stderr)
    try:
        return result_of(ending, timeout, lambda: line.show(look()))
    finally:
        line.show(look(), last=True)

"""How objects display themselves: ``nb.options``, and in which environment they do."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

DISPLAYS = ("auto", "live", "static", "text", "none")


@dataclass(slots=True)
class Options:
    """How objects display themselves.

    Attributes:
        display: How a run is displayed in a cell. "auto": live in a notebook while it runs, if anywidget is installed, otherwise
            as static HTML; "live": the same, but an error if it cannot be live; "static"; "text"; "none". Default: the
            environment variable NBBATCH_DISPLAY, or "auto".

    Example:
        >>> nb.options.display = "text"
    """

    display: str = field(default_factory=lambda: os.environ.get("NBBATCH_DISPLAY", "auto"))

    def shown(self) -> str:
        """The display that is set.

        Raises:
            ValueError: ``display`` has an unknown value.
        """
        if self.display not in DISPLAYS:
            raise ValueError(f"nb.options.display is {self.display!r}; it can be {', '.join(DISPLAYS)}")
        return self.display


options = Options()


@contextmanager
def needing(extra: str) -> Generator[None]:
    """Around imports of what an extra installs: the error tells which extra to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"this needs {error.name or extra}, which is not installed: pip install 'nbbatch[{extra}]'", name=error.name
        ) from error


def plural(number: int, noun: str) -> str:
    """How many there are, in words.

    >>> plural(1, "attempt"), plural(2_000, "attempt")
    ('1 attempt', '2,000 attempts')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def safe(text: str) -> str:
    r"""Text that does nothing to a terminal, whoever wrote it: control and direction signs are written as escapes.

    >>> safe("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


def in_notebook() -> bool:
    """Whether a notebook kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def warn(text: str) -> None:
    """Warn whoever called nbbatch, at their line."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nbbatch":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def display(it: object, live: Callable[[], bool], show: Callable[[], None]) -> None:
    """Show a run or a batch as the last line of a cell, as ``nb.options.display`` says.

    Args:
        it: What is shown; its repr is the text.
        live: Whether anything in it still moves.
        show: Displays it live.

    Raises:
        NotImplementedError: IPython is to fall through to the plain page.
        ImportError: Live was asked for and the widgets are not installed.
    """
    how = options.shown()
    if how == "none":
        return
    if how == "text":
        print(repr(it))  # noqa: T201 - what was asked for
        return
    if how == "static" or not live() or not in_notebook():
        raise NotImplementedError
    try:
        show()
    except ImportError:
        if how == "live":
            raise
        raise NotImplementedError from None

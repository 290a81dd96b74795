"""Switches of the whole process, as ``nb.options``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

DISPLAYS = ("auto", "live", "static", "text", "none")


@dataclass(slots=True)
class Options:
    """How things show themselves.

    Attributes:
        display: Of a run in a cell. "auto": live in a notebook while it runs, if anywidget is installed, else static
            HTML; "live": the same, and an error where it cannot be; "static"; "text"; "none". Default: the environment
            variable NBBATCH_DISPLAY, else "auto".
    """

    display: str = field(default_factory=lambda: os.environ.get("NBBATCH_DISPLAY", "auto"))

    def shown(self) -> str:
        """The display chosen.

        Raises:
            ValueError: It is none there is.
        """
        if self.display not in DISPLAYS:
            raise ValueError(f"nb.options.display is {self.display!r}; it can be {', '.join(DISPLAYS)}")
        return self.display


options = Options()

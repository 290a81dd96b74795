"""The instances of a batch, live: a table in which a click opens one's panel below it. Showing it starts no work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import ipywidgets as w  # pyright: ignore[reportMissingTypeStubs]
import traitlets

from nbbatch.base.errors import NbbatchError
from nbbatch.panel.widget import CSS, Panel, in_place, settling
from nbbatch.pictures import static

_HERE = Path(__file__).parent
LOOK_SECONDS = 1.0
"""Between two looks at the store."""


class Table(anywidget.AnyWidget):
    """The table itself."""

    _esm = (_HERE / "overview.js").read_text(encoding="utf-8")
    _css = CSS
    shown = traitlets.Dict().tag(sync=True)


class Listing:
    """The table, and the panel of the instance that is open.

    Attributes:
        opened: The panel below the table; None while none is open.
    """

    def __init__(self, page: Callable[[], str], panel: Callable[[int], Panel], moves: Callable[[], bool]) -> None:
        """Draw the table once; `live` goes on looking.

        Args:
            page: Gives the table as markup.
            panel: Makes the panel of an instance.
            moves: Whether anything is still to be expected.
        """
        self._page, self._panel, self._moves = page, panel, moves
        self.opened: Panel | None = None
        self._stop = threading.Event()
        self._table = Table(shown={"page": page(), "opened": 0})
        self._table.on_msg(self._on_message)
        self.view: Any = w.VBox([self._table])

    def _on_message(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        if content.get("do") != "open":
            return
        try:
            self.open(int(content["instance"]))
        except NbbatchError as error:  # closed meanwhile, or purged: told where it was asked
            self._table.shown = {"page": static.line(str(error)), "opened": 0}

    def open(self, instance: int) -> None:
        """Show the panel of an instance below the table; that of the one already open is closed."""
        before, self.opened = self.opened, None
        if before is None or before.run.id != instance:
            self.opened = self._panel(instance)
        self.view.children = (self._table, *([self.opened] if self.opened else []))
        if before is not None:
            before.close()
        self.look()

    def look(self) -> None:
        """Read the store; what has changed goes to the page."""
        self._table.shown = {"page": self._page(), "opened": self.opened.run.id if self.opened else 0}

    def live(self, at_end: Callable[[], None] = lambda: None) -> None:
        """Look once a second until nothing moves any more, then call ``at_end``."""

        def look_on() -> None:
            while self._moves() and not self._stop.wait(LOOK_SECONDS):
                try:
                    self.look()
                except NbbatchError:  # the batch was closed meanwhile
                    break
            if not self._stop.is_set():
                at_end()

        threading.Thread(target=look_on, name="nbbatch-instances", daemon=True).start()

    def close(self) -> None:
        """Look no more, and take it off the page; runs go on."""
        self._stop.set()
        if self.opened is not None:
            self.opened.close()
        self._table.close()
        self.view.close()

    def bundle(self) -> dict[str, Any]:
        """What a page needs to show it, by type."""
        return dict(self.view._repr_mimebundle_())  # pyright: ignore[reportPrivateUsage]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return self.bundle()


def show(listing: Listing, page: Callable[[], dict[str, str]], last_looks: set[Callable[[], None]]) -> None:
    """Display a listing; once nothing moves any more, or the batch closes, its place is taken by the plain page."""
    place = f"nbbatch-batch-{uuid4().hex}"
    in_place(place, {**listing.bundle(), **page()})
    listing.live(settling(place, page, last_looks))

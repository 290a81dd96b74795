"""What a page shows live: `Panel` of a run, and `Listing`, the instances of a batch, in which a click opens one's panel.

Showing them starts no work. At the end of what they show, or when its batch closes, the plain page takes their place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from nbbatch.base.display import needing
from nbbatch.base.errors import NbbatchError
from nbbatch.engine.dispatcher import Engine
from nbbatch.panel.session import Poller, Run, Session
from nbbatch.panel.snapshot import Snapshot
from nbbatch.pictures import static
from nbbatch.pictures.style import variables
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

with needing("notebooks"):
    import anywidget
    import ipywidgets as w  # pyright: ignore[reportMissingTypeStubs]
    import traitlets
    from IPython.display import publish_display_data as _publish  # pyright: ignore[reportUnknownVariableType]

_HERE = Path(__file__).parent
LOOK_SECONDS = 1.0
"""Between two looks at the store for the instances of a batch."""
_CSS = variables(".nbc") + (_HERE / "panel.css").read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """A run in one cell: how it stands, its chain, and tabs to look closer. Showing it starts no work."""

    # text, not paths: of a path anywidget remembers every widget, for reloading it
    _esm = (_HERE / "panel.js").read_text(encoding="utf-8")
    _css = _CSS
    shown = traitlets.Dict().tag(sync=True)
    inspector = traitlets.Unicode().tag(sync=True)
    """Sent by itself: it changes by clicks alone."""

    def __init__(
        self, run: Run, store: Reader, engine: Engine, at_end: Callable[[Snapshot], None] = lambda _: None
    ) -> None:
        session = Session(run, store, engine)
        super().__init__(shown=session.step())
        self.run = run
        self._poller = Poller(session, self._send_shown, at_end)
        self.on_msg(self._on_message)
        self._poller.start()

    def _send_shown(self, shown: dict[str, Any]) -> None:
        self.inspector = shown["inspector"]
        self.shown = {name: part for name, part in shown.items() if name != "inspector"}

    def _on_message(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        self._poller.ask(content)

    def bundle(self) -> dict[str, Any]:
        """What a page needs to show it, by type."""
        view = cast("Any", super()._repr_mimebundle_())
        return dict(view[0] if isinstance(view, tuple) else view or {})  # pyright: ignore[reportUnknownArgumentType]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride] - some versions name them
        """With the plain page beside it, for whoever can show no widget."""
        return {**self.bundle(), **self.run._page()}  # pyright: ignore[reportPrivateUsage] - as of all its parts

    def frame(self) -> pl.DataFrame:
        """What the open tab shows, as a polars frame."""
        return self._poller.session.frame()

    def close(self) -> None:
        """Stop looking, and take the panel away; the run goes on."""
        poller = getattr(self, "_poller", None)
        if poller is not None:
            poller.close()
        super().close()


class Table(anywidget.AnyWidget):
    """The table itself."""

    _esm = (_HERE / "overview.js").read_text(encoding="utf-8")
    _css = _CSS
    shown = traitlets.Dict().tag(sync=True)


class Listing:
    """The table, and the panel of the instance that is open.

    Attributes:
        opened: The panel below the table; None while none is open.
    """

    def __init__(
        self, page: Callable[[], str], panel: Callable[[int], Panel], moves: Callable[[], bool], plain: Callable[[], dict[str, str]]
    ) -> None:  # fmt: skip
        """Draw the table once; `live` goes on looking.

        Args:
            page: Gives the table as markup.
            panel: Makes the panel of an instance.
            moves: Whether anything is still to be expected.
            plain: Gives the plain page, for whoever can show no widget, as ``text/html`` and ``text/plain``.
        """
        self._page, self._panel, self.moves, self._plain = page, panel, moves, plain
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
            while self.moves() and not self._stop.wait(LOOK_SECONDS):
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
        return {**self.bundle(), **self._plain()}


# --- in place of the last line of a cell ----------------------------------------------------------


def show_run(
    run: Any,
    store: Reader,
    engine: Engine,
    page: Callable[[], dict[str, str]],
    last_looks: dict[Callable[[], None], Callable[[], bool]],
) -> None:
    """Display a run's panel; when the run has ended or its batch closes, its place is taken by the plain page.

    Args:
        run: The handle.
        store: Of its batch.
        engine: Of its batch.
        page: Gives the run as ``text/html`` and ``text/plain``.
        last_looks: What is called before the batch is closed.
    """
    place = f"nbbatch-{run.id}-{uuid4().hex}"
    settle = settling(place, page, last_looks, run.done)
    panel = Panel(run, store, engine, lambda _: settle())
    in_place(place, {**panel.bundle(), **page()})


def show_batch(
    listing: Listing, page: Callable[[], dict[str, str]], last_looks: dict[Callable[[], None], Callable[[], bool]]
) -> None:
    """Display a listing; once nothing moves any more, or the batch closes, its place is taken by the plain page."""
    place = f"nbbatch-batch-{uuid4().hex}"
    in_place(place, {**listing.bundle(), **page()})
    listing.live(settling(place, page, last_looks, lambda: not listing.moves()))


def settling(
    place: str, page: Callable[[], dict[str, str]], last_looks: dict[Callable[[], None], Callable[[], bool]],
    is_over: Callable[[], bool],
) -> Callable[[], None]:  # fmt: skip
    """What puts the plain page into a place, once: at the end of what is shown, or before its batch is closed."""
    guard = threading.Lock()  # a run may end while its batch is being closed

    def settle() -> None:
        with guard:
            if settle in last_looks:
                in_place(place, page(), update=True)
                del last_looks[settle]

    last_looks[settle] = is_over
    return settle


def in_place(name: str, data: dict[str, Any], *, update: bool = False) -> None:
    """Display something under a name, or put it where that is shown."""
    _publish(data, transient={"display_id": name}, update=update)

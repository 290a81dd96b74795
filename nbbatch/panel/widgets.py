"""What a page shows live: `Panel` of a run, and `Listing`, the instances of a batch, in which a click opens one's panel.

Showing them starts no work. At the end of what they show, or when its batch closes, the plain page takes their place.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from nbbatch.base.display import needing
from nbbatch.base.errors import NbbatchError
from nbbatch.engine.dispatcher import Engine
from nbbatch.panel import front
from nbbatch.panel.poller import Poller
from nbbatch.panel.runs_page import RunsPage
from nbbatch.panel.session import Run, Session
from nbbatch.panel.snapshot import Snapshot
from nbbatch.pictures import static
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

with needing("notebooks"):
    import anywidget
    import ipywidgets as w  # pyright: ignore[reportMissingTypeStubs]
    import traitlets
    from IPython.display import publish_display_data as _publish  # pyright: ignore[reportUnknownVariableType]

LOOK_SECONDS = 0.5
"""Between two looks at the store for the instances of a batch."""
RECORD_SECONDS = 15.0
"""Between two plain pages of what goes on, which a save of the notebook writes; more where they take long to make …"""
RECORD_SHARE = 0.01
"""… so that they take this share of the time at most."""


def hear(*widgets: Any) -> None:
    """Have what a page says to these widgets arrive in the subshell that the page names.

    ipykernel 7.4 sends it to where the last message to the page came from. For a thread that is the last request of any page: its
    subshell may be gone, and the click with it, or be busy with a cell.
    """
    for each in widgets:
        each.comm._reply_subshell_for = None


class Recorded(anywidget.AnyWidget):
    """A widget with its plain page, for a page that writes it into the notebook: see ``notebook.js``."""

    place = traitlets.Unicode().tag(sync=True)
    """Id of the widget that stands in the cell."""
    record = traitlets.Dict().tag(sync=True)
    """``html`` and ``text``; ``over``: nothing moves any more; ``final``: it takes the place of the widget."""
    _due = 0.0
    _known: dict[str, Any] | None = None
    """The record as it was when `keep` was last called."""

    def __init__(self, **state: Any) -> None:
        self._guard = threading.Lock()
        super().__init__(**state)

    def open(self) -> None:
        """Tell pages of it."""
        super().open()
        hear(self)

    def keep(self, page: Callable[[], dict[str, str]], *, over: bool) -> None:
        """Have a save of the notebook write this page from now on, unless one is there for good. One that came meanwhile is newer."""
        began = time.monotonic()
        if self.record.get("final") if over else began < self._due:
            return
        made = page()
        with self._guard:
            if self._known in (None, self.record):
                self._put(made, over=over)
                now = time.monotonic()
                self._due = now + max(RECORD_SECONDS, (now - began) / RECORD_SHARE)
            self._known = self.record

    def rest(self, page: dict[str, str]) -> None:
        """Have this page take the place of the widget."""
        with self._guard:
            self._put(page, over=True, final=True)

    def _put(self, page: dict[str, str], *, over: bool, final: bool = False) -> None:
        self.record = {"html": page["text/html"], "text": page["text/plain"], "over": over, "final": final}


class Panel(Recorded):
    """A run in one cell: how it stands, its chain, and tabs to look closer. Showing it starts no work."""

    _esm = front.PANEL
    _css = front.CSS
    shown = traitlets.Dict().tag(sync=True)
    inspector = traitlets.Unicode().tag(sync=True)
    """Sent by itself: it changes by clicks alone."""
    heard = traitlets.Int().tag(sync=True)
    """Messages that have arrived. What they ask for may take longer, and is counted by ``answered`` once it is done."""

    def __init__(
        self, run: Run, store: Reader, engine: Engine, at_end: Callable[[Snapshot], None] = lambda _: None
    ) -> None:
        session = Session(run, store, engine)
        super().__init__(shown=session.step())
        self.run, self.place = run, self.model_id or ""
        self._poller = Poller(session, self._send_shown, at_end)
        self._keep()
        self.on_msg(self._on_message)
        self._poller.start()

    def _send_shown(self, shown: dict[str, Any]) -> None:
        self.inspector = shown["inspector"]
        self.shown = {name: part for name, part in shown.items() if name != "inspector"}
        self._keep()

    def _keep(self) -> None:
        now = self._poller.session.snapshot
        if not self.record.get("final") or not now.ended:
            with contextlib.suppress(NbbatchError):  # closed meanwhile: what was kept last stays
                self.keep(self.run._page, over=now.ended and now.whole)  # pyright: ignore[reportPrivateUsage] - as of all its parts

    def _on_message(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        self.heard += 1
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


class Table(Recorded):
    """The table itself."""

    _esm = front.OVERVIEW
    _css = front.CSS
    shown = traitlets.Dict().tag(sync=True)


class Listing:
    """The table, and the panel of the instance that is open.

    Attributes:
        opened: The panel below the table; None while none is open.
    """

    def __init__(
        self, page: RunsPage, panel: Callable[[int], Panel], moves: Callable[[], bool], plain: Callable[[], dict[str, str]]
    ) -> None:  # fmt: skip
        """Draw the table once; `live` goes on looking.

        Args:
            page: Gives the table as markup, of the runs that are chosen.
            panel: Makes the panel of an instance.
            moves: Whether anything is still to be expected.
            plain: Gives the plain page, for whoever can show no widget, as ``text/html`` and ``text/plain``.
        """
        self._page, self._panel, self.moves, self._plain = page, panel, moves, plain
        self.opened: Panel | None = None
        self._stop = threading.Event()
        self._guard = threading.RLock()  # messages, of each page in a thread of its own, and the looking thread
        self._table = Table(shown={"page": page(), "opened": 0})
        self._table.on_msg(self._on_message)
        self.view: Any = w.VBox([self._table])
        self._table.place = self.view.model_id
        self._table.keep(plain, over=False)

    def _on_message(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        try:
            if content.get("do") == "open":
                self.open(int(content["instance"]))
            elif content.get("do") == "choose":
                with self._guard:
                    self._page.choose(content)
                self.look()
        except (NbbatchError, ValueError, KeyError) as error:  # closed meanwhile, or purged: told where it was asked
            self._table.shown = {"page": static.line(str(error)), "opened": 0}

    def open(self, instance: int) -> None:
        """Show the panel of an instance below the table; that of the one already open is closed."""
        with self._guard:
            before, self.opened = self.opened, None
            if before is None or before.run.id != instance:
                self.opened = self._panel(instance)
            self.view.children = (self._table, *([self.opened] if self.opened else []))
            if before is not None:
                before.close()
            self.look()

    def look(self) -> None:
        """Read the store; what has changed goes to the page."""
        with self._guard:
            self._table.shown = {"page": self._page(), "opened": self.opened.run.id if self.opened else 0}
        self._table.keep(self._plain, over=not self.moves())

    def live(self, at_end: Callable[[], None] = lambda: None) -> None:
        """Look twice a second until nothing moves any more, then call ``at_end``."""

        def look_on() -> None:
            while self.moves() and not self._stop.wait(LOOK_SECONDS):
                try:
                    self.look()
                except NbbatchError:  # the batch was closed meanwhile
                    break
            if not self._stop.is_set():
                at_end()

        threading.Thread(target=look_on, name="nbbatch-instances", daemon=True).start()

    def rest(self, page: dict[str, str]) -> None:
        """Have this page take the place of the table."""
        self._table.rest(page)

    def close(self) -> None:
        """Look no more, and take it off the page; runs go on."""
        self._stop.set()
        with self._guard:
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
    panels: list[Panel] = []

    def rest(data: dict[str, str]) -> None:
        for panel in panels:
            panel.rest(data)

    guard = threading.Lock()
    settle = settling(place, page, last_looks, run.done, rest, guard)
    with guard:  # the run may end at any moment: then its plain page comes after the panel, not before
        panels.append(Panel(run, store, engine, lambda _: settle()))
        in_place(place, {**panels[0].bundle(), **page()})


def show_batch(
    listing: Listing, page: Callable[[], dict[str, str]], last_looks: dict[Callable[[], None], Callable[[], bool]]
) -> None:
    """Display a listing; once nothing moves any more, or the batch closes, its place is taken by the plain page."""
    place = f"nbbatch-batch-{uuid4().hex}"
    in_place(place, {**listing.bundle(), **page()})
    listing.live(settling(place, page, last_looks, lambda: not listing.moves(), listing.rest, threading.Lock()))


def settling(
    place: str, page: Callable[[], dict[str, str]], last_looks: dict[Callable[[], None], Callable[[], bool]],
    is_over: Callable[[], bool], rest: Callable[[dict[str, str]], None], guard: threading.Lock,
) -> Callable[[], None]:  # fmt: skip
    """What puts the plain page into a place, once: at the end of what is shown, or before its batch is closed.

    ``rest`` hands it to the widget too: a page that was loaded again does not know the place any more.
    """

    def settle() -> None:
        with guard:  # a run may end while its batch is being closed
            if settle in last_looks:
                data = page()
                in_place(place, data, update=True)
                rest(data)
                del last_looks[settle]

    last_looks[settle] = is_over
    return settle


def in_place(name: str, data: dict[str, Any], *, update: bool = False) -> None:
    """Display something under a name, or put it where that is shown."""
    _publish(data, transient={"display_id": name}, update=update)

"""The widget: `Panel` puts a `Session` into a page; `show` displays a run, live while it goes on and plain at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import anywidget
import traitlets
from IPython.display import publish_display_data as _publish  # pyright: ignore[reportUnknownVariableType]

from nbbatch.engine.dispatcher import Engine
from nbbatch.panel.session import Poller, Run, Session
from nbbatch.panel.snapshot import Snapshot
from nbbatch.pictures.style import variables
from nbbatch.store.database import Store

if TYPE_CHECKING:
    import polars as pl

_HERE = Path(__file__).parent
CSS = variables(".nbc") + (_HERE / "panel.css").read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """A run in one cell: how it stands, its chain, and tabs to look closer. Showing it starts no work."""

    # text, not paths: of a path anywidget remembers every widget, for reloading it
    _esm = (_HERE / "panel.js").read_text(encoding="utf-8")
    _css = CSS
    shown = traitlets.Dict().tag(sync=True)
    inspector = traitlets.Unicode().tag(sync=True)
    """Sent by itself: it changes by clicks alone."""

    def __init__(
        self, run: Run, store: Store, engine: Engine, at_end: Callable[[Snapshot], None] = lambda _: None
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
        view = cast("Any", self._repr_mimebundle_())
        return dict(view[0] if isinstance(view, tuple) else view or {})  # pyright: ignore[reportUnknownArgumentType]

    def frame(self) -> pl.DataFrame:
        """What the open tab shows, as a polars frame."""
        return self._poller.session.frame()

    def close(self) -> None:
        """Stop looking, and take the panel away; the run goes on."""
        poller = getattr(self, "_poller", None)
        if poller is not None:
            poller.close()
        super().close()


def show(
    run: Any, store: Store, engine: Engine, page: Callable[[], dict[str, str]], last_looks: set[Callable[[], None]]
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
    settle = settling(place, page, last_looks)
    panel = Panel(run, store, engine, lambda _: settle())
    in_place(place, {**panel.bundle(), **page()})


def settling(place: str, page: Callable[[], dict[str, str]], last_looks: set[Callable[[], None]]) -> Callable[[], None]:
    """What puts the plain page into a place, once: at the end of what is shown, or before its batch is closed."""
    guard = threading.Lock()  # a run may end while its batch is being closed

    def settle() -> None:
        with guard:
            if settle in last_looks:
                in_place(place, page(), update=True)
                last_looks.discard(settle)

    last_looks.add(settle)
    return settle


def in_place(name: str, data: dict[str, Any], *, update: bool = False) -> None:
    """Display something under a name, or put it where that is shown."""
    _publish(data, transient={"display_id": name}, update=update)

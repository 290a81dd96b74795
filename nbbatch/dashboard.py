"""A page for a colleague without code: pick a store, see its instances, open one, act on it.

    folder of stores ─▶ Dashboard ─▶ look ─▶ the overview and panels of a notebook ─▶ orders to the process that has the store open

It reads stores without opening them, so any number of pages may show one, and reloading a page harms nothing. If nobody has a
store open, the page can open it with the jobs that it was given.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from nbbatch.base.display import needing
from nbbatch.base.errors import NbbatchError
from nbbatch.batch import Batch
from nbbatch.batch import open as open_batch
from nbbatch.job import Job
from nbbatch.look import Look
from nbbatch.pictures.markup import clip

with needing("notebooks"):
    import ipywidgets as w  # pyright: ignore[reportMissingTypeStubs]

    from nbbatch.panel.widgets import hear

LOOK_SECONDS = 1.0
"""Between two looks at the folder and at who holds the store."""
_WIDE = "98%"


class Dashboard:
    """Controls for the stores of a folder; displays itself as the last line of a cell.

    Attributes:
        look: The look at the store that is picked; None before one is.
        batch: The store, if this page has opened it; None otherwise.
        listing: The overview of the store that is picked, as ``look.panel()``; None before one is.

    Example:
        >>> from nbbatch.dashboard import Dashboard
        >>> Dashboard("stores/", [job]).live()  # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str] = ".", jobs: Iterable[Job[Any, Any]] = ()) -> None:
        """Create the controls. Nothing is opened, and displaying starts no work.

        Args:
            folder: The folder of the stores (``*.duckdb``).
            jobs: The jobs with which a store that nobody has open can be opened here: the button "Hold it here" opens it and
                continues their unfinished instances. Without them it can only be read.
        """
        self.folder = Path(folder).expanduser()
        self.look: Look | None = None
        self.batch: Batch | None = None
        self.listing: Any = None
        self._jobs = list(jobs)
        self._listing_anew, self._path = False, None
        self._stop = threading.Event()
        self._lock = threading.RLock()  # what is picked, and the looking thread
        self.store: Any = w.Dropdown(
            description="Store", options=self._stores(), value=None, layout=w.Layout(width=_WIDE)
        )
        self.hold: Any = w.Button(description="Hold it here", disabled=True)
        self.note = w.HTML()
        self.view = w.VBox([self.store, w.HBox([self.hold]), self.note])
        self.view.add_class("nbd")
        hear(self.store, self.hold)
        self.store.observe(self._picked, names="value")
        self.hold.on_click(self._held)

    def _stores(self) -> list[tuple[str, str]]:
        return [(path.name, str(path)) for path in sorted(self.folder.glob("*.duckdb"))]

    # --- looking ----------------------------------------------------------------------------------

    def _picked(self, change: Any) -> None:
        with self._lock:
            if self._listing_anew or (self.look and change["new"] == self._path):
                return
            self._leave()
            self._path = change["new"]
            if change["new"]:
                try:
                    self.look = Look(str(Path(change["new"]).resolve()))
                    self.listing = self.look.panel()
                except NbbatchError as error:
                    self._say(str(error))
            shown = [] if self.listing is None else [self.listing.view]
            self.view.children = (*self.view.children[:3], *shown)
            self.refresh()

    def _leave(self) -> None:
        for each in (self.listing, self.look):
            if each is not None:
                each.close()
        self.look = self.listing = None
        self._say("")

    def refresh(self) -> None:
        """Update the list of stores and who has the picked one open; called once a second while the page is `live`.

        Example:
            >>> Dashboard("stores/").refresh()  # doctest: +SKIP
        """
        with self._lock:
            stores = self._stores()
            if list(self.store.options) != stores:
                chosen, self._listing_anew = self.store.value, True  # new options choose the first of them
                self.store.options = stores
                self.store.value = None
                self._listing_anew = False
                self.store.value = chosen if chosen in [path for _, path in stores] else None
            why = self._cannot_hold()
            self.hold.disabled, self.hold.tooltip = bool(why), why or "Open the store here and go on with its jobs"

    def _cannot_hold(self) -> str:
        """Why the store cannot be held here; "" if it can."""
        if self.look is None:
            return "pick a store first"
        if (owner := self.look.owner) is not None:
            return f"it is held by process {owner}, which does what is asked for here"
        return "" if self._jobs else "no jobs are known here: give them in jobs="

    def live(self) -> Dashboard:
        """Update the page once a second from now on, until `close`.

        Example:
            >>> Dashboard("stores/").live()  # doctest: +SKIP
        """
        threading.Thread(target=self._look_on, name="nbbatch-dashboard", daemon=True).start()
        return self

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.refresh()
            except NbbatchError as error:  # the store was damaged or removed meanwhile: another may be picked
                self._say(str(error))

    def close(self) -> None:
        """Stop updating and remove the controls from the page. A store that this page has opened stays open, and its runs continue.

        Example:
            >>> Dashboard("stores/").close()  # doctest: +SKIP
        """
        self._stop.set()
        with self._lock:
            self._leave()
        self.view.close()

    # --- acting -----------------------------------------------------------------------------------

    def _held(self, _: Any) -> None:
        with self._lock:
            if self.look is None or self._cannot_hold():
                return
            try:
                self.batch = open_batch(self.look.path)
                for job in self._jobs:
                    self.batch.resume(job)
            except NbbatchError as error:
                self._say(str(error))
            self.refresh()

    def _say(self, text: str) -> None:
        self.note.value = f'<div role="status">{escape(clip(text, 600))}</div>' if text else ""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)  # pyright: ignore[reportPrivateUsage]

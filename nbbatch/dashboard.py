"""A page of controls for a colleague without code: pick a store, see its instances, look into one, act on it.

    folder of stores ─▶ Dashboard ─▶ batch ─▶ instances ─▶ one run: chain, steps, errors, buttons

Everything shown is the static picture of the moment; a thread looks once a second and sends what has changed, until the
page is closed. Buttons call what a notebook calls; a refusal is shown in its own words.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbbatch.base.display import needing
from nbbatch.base.errors import NbbatchError
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.batch import Batch
from nbbatch.batch import open as open_batch
from nbbatch.job import Job
from nbbatch.pictures.markup import clip
from nbbatch.run import JobHandle

if TYPE_CHECKING:
    import polars as pl

with needing("notebooks"):
    import ipywidgets as w  # pyright: ignore[reportMissingTypeStubs]

LOOK_SECONDS = 1.0
"""Between two looks at the store."""
MOST = 50
"""Newest instances listed."""
SURE_TEXT = "Really cancel?"
_WIDE = "98%"


class Dashboard:
    """Controls over the stores of a folder; shows itself as the last line of a cell.

    Attributes:
        batch: The store that is open; None before one is picked.
    """

    def __init__(self, folder: str | os.PathLike[str] = ".", jobs: Iterable[Job[Any, Any]] = ()) -> None:
        """Make the controls; no store is opened before one is picked, and displaying starts no work.

        Args:
            folder: Where stores (``*.duckdb``) lie.
            jobs: Definitions with which instances can be resumed and retried; without its job an instance can only be
                watched, paused and cancelled.
        """
        self.folder = Path(folder).expanduser()
        self.batch: Batch | None = None
        self._frame: pl.DataFrame | None = None
        self._jobs = {(job.name, job.version): job for job in jobs}
        self._sure: int | None = None
        self._stop = threading.Event()
        self._lock = threading.RLock()  # buttons and the looking thread
        self._make()

    def _make(self) -> None:
        self.store: Any = w.Dropdown(
            description="Store", options=self._stores(), value=None, layout=w.Layout(width=_WIDE)
        )
        self.instances: Any = w.Select(description="Instances", rows=8, options=[], layout=w.Layout(width=_WIDE))
        self.note = w.HTML()
        self.detail = w.HTML()
        self.buttons = {
            name: self._button(name, act)
            for name, act in (
                ("Pause", self._pause), ("Resume", self._resume), ("Cancel", self._cancel), ("Retry failed", self._retry),
            )
        }  # fmt: skip
        self.store.observe(self._picked, names="value")
        self.instances.observe(self._chosen, names="value")
        self.view = w.VBox([self.store, self.note, self.instances, w.HBox([*self.buttons.values()]), self.detail])
        self.view.add_class("nbd")
        self._enable(None)

    def _button(self, name: str, act: Callable[[JobHandle[Any]], object]) -> Any:
        def pressed(_: Any) -> None:
            self._act(name, act)

        button = w.Button(description=name, disabled=True)
        button.on_click(pressed)
        return button

    def _stores(self) -> list[tuple[str, str]]:
        return [(path.name, str(path)) for path in sorted(self.folder.glob("*.duckdb"))]

    # --- looking ----------------------------------------------------------------------------------

    def _picked(self, change: Any) -> None:
        with self._lock:
            self.batch = self._frame = None
            self._say("")
            try:
                self.batch = open_batch(change["new"]) if change["new"] else None
            except NbbatchError as error:
                self._say(str(error))
            self.look()

    def look(self) -> None:
        """Read the store and send to the page what has changed; called once a second while the page is `live`."""
        with self._lock:
            usable = self.batch is not None and self.batch.usable
            self._frame = self.batch.instances(limit=MOST) if self.batch and usable else None
            lines = [] if self._frame is None else [_line(row) for row in self._frame.iter_rows(named=True)]
            if list(self.instances.options) != lines:
                chosen: int | None = self.instances.value
                self.instances.options = lines
                known = [number for _, number in lines]
                self.instances.value = chosen if chosen in known else next(iter(known), None)
            self._show()

    def _chosen(self, _: Any) -> None:
        with self._lock:
            self._sure = None
            self._show()

    def _show(self) -> None:
        run = self._run()
        self.detail.value = "" if run is None else run.chain()._repr_html_() + run._repr_html_()  # pyright: ignore[reportPrivateUsage]
        self._enable(run)

    def _run(self) -> JobHandle[Any] | None:
        number: int | None = self.instances.value
        if self.batch is None or not self.batch.usable or number is None:
            return None
        run: JobHandle[Any] = self.batch.instance(number)
        run.job = run.job or self._jobs.get((_row(run).job, _row(run).version))
        return run

    def frame(self) -> pl.DataFrame | None:
        """The instances listed, as polars; None before a store is picked."""
        return self._frame

    def live(self) -> Dashboard:
        """Look once a second from now on, until `close`."""
        threading.Thread(target=self._look_on, name="nbbatch-dashboard", daemon=True).start()
        return self

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except NbbatchError as error:  # the store was closed meanwhile: say so and go on, another may be picked
                self._say(str(error))

    def close(self) -> None:
        """Look no more and take the controls off the page; the batch stays open and its runs go on."""
        self._stop.set()
        self.view.close()

    # --- acting -----------------------------------------------------------------------------------

    def _act(self, name: str, act: Callable[[JobHandle[Any]], object]) -> None:
        with self._lock:
            run = self._run()
            if run is None:
                return
            try:
                said = act(run)
            except NbbatchError as error:
                said = str(error)
            self._say(f"{name}: {said}" if isinstance(said, str) else "")
            self.look()

    def _pause(self, run: JobHandle[Any]) -> None:
        run.pause()

    def _resume(self, run: JobHandle[Any]) -> None:
        run.resume()

    def _retry(self, run: JobHandle[Any]) -> str:
        plan = run.plan()
        run.retry(quiet=True)
        return str(plan)

    def _cancel(self, run: JobHandle[Any]) -> str | None:
        if self._sure != run.id:
            self._sure = run.id
            return f"press again to cancel instance {run.id}; chunks that are done are kept, and it can be retried"
        self._sure = None
        run.cancel()
        return None

    def _enable(self, run: JobHandle[Any] | None) -> None:
        allowed = {} if run is None else _allowed(run)
        for name, button in self.buttons.items():
            reason = allowed.get(name, "pick an instance first")
            button.disabled, button.tooltip = bool(reason), reason or name
        self.buttons["Cancel"].description = SURE_TEXT if run and self._sure == run.id else "Cancel"

    def _say(self, text: str) -> None:
        self.note.value = f'<div role="status">{escape(clip(text, 600))}</div>' if text else ""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view._repr_mimebundle_(**options)  # pyright: ignore[reportPrivateUsage]


def _line(row: dict[str, Any]) -> tuple[str, int]:
    status = InstanceStatus(row["status"])
    created = row["created"].strftime("%Y-%m-%d %H:%M")
    key = f" · {clip(row['key'], 40)}" if row["key"] else ""
    told = f"{status.look.named} · {clip(row['job'], 60)} v{row['version']} #{row['id']}{key}"
    return f"{told} · {row['progress']:.0%} · {created}", row["id"]


def _row(run: JobHandle[Any]) -> InstanceRow:
    return run._row  # pyright: ignore[reportPrivateUsage] - a person asks for its parts by name


def _allowed(run: JobHandle[Any]) -> dict[str, str]:
    """For each button why it cannot be pressed; "" where it can."""
    status = run.status
    ended = f"it ended {status.look.word}" if status in INSTANCE_ENDED else ""
    unknown = "" if run.job else f"its job {clip(_row(run).job, 60)!r} is not known here: give it in jobs="
    failed = status in (InstanceStatus.FAILED, InstanceStatus.CANCELLED)
    return {
        "Pause": ended or ("it is paused" if status is InstanceStatus.PAUSED else ""),
        "Resume": ended or ("it is at work" if status is not InstanceStatus.PAUSED and run.attached else unknown),
        "Cancel": ended,
        "Retry failed": unknown if failed else "nothing has failed for good",
    }

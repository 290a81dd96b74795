"""One panel's side in the kernel: what is looked at, what was asked for, and what is sent. Knows no widget.

    page ─ messages ─▶ queue ─▶ poller thread ─▶ commands, queries ─▶ `shown` ─▶ page

Messages may arrive on any thread; they are only put on the queue. The one poller thread (`poller`) ends with the run and is
started again by a message. At most four values a second are sent, equal ones are not, the last one always is.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from nbbatch.base.errors import NbbatchError, NotFoundError, StoreClosed
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.engine.dispatcher import Engine
from nbbatch.heal.failures import FailureGroup
from nbbatch.panel import chunk_table, facts, tab_pages
from nbbatch.panel.attempt_sums import AttemptSums
from nbbatch.panel.chunk_table import Filter
from nbbatch.panel.now_page import now_page
from nbbatch.panel.snapshot import Snapshot, take
from nbbatch.pictures import chain_picture
from nbbatch.pictures import timeline as timeline_picture
from nbbatch.pictures.chain_picture import StepFacts
from nbbatch.pictures.markup import clip, tag
from nbbatch.pictures.style import WAITS, duration
from nbbatch.store import frames
from nbbatch.store.reading import Reader

if TYPE_CHECKING:
    import polars as pl

LOG_EVENTS = 200_000
"""How far back the log is looked for."""
CATCH_UP = 0.2
"""Seconds of reading events between two values."""
SINGLE = 100
"""Attempts that have bars of their own in the timeline, at most."""
LIST_AGAIN = 1.0
"""Seconds between two looks at the chunks that are listed, at least …"""
LIST_SHARE = 20
"""… and so many times as long as a look takes."""
GROUP_AGAIN = 2.0
"""Seconds between two groupings of failures while a run goes on."""
BEAT_US = 2_000_000
"""What moves says so at least this often, so that a page that hears nothing knows it."""
NEW_LINE = "\n"
_STATES = [[status.value, status.look.word] for status in ChunkStatus if status is not ChunkStatus.GATE_WAITING]
"""What chunks can be filtered by; those that wait at a gate are listed with the queued ones."""
_PURGED = "The run was purged: this is the last that was seen of it."
_CLOSED = "The batch is closed: this is the last that was seen. nb.open() opens it again."


class Run(Protocol):
    """What a panel needs of a run."""

    @property
    def id(self) -> int: ...
    @property
    def _standing(self) -> InstanceRow: ...
    def _page(self) -> dict[str, str]: ...
    def pause(self) -> Any: ...
    def resume(self) -> Any: ...
    def cancel(self) -> bool: ...
    def plan(self) -> Any: ...
    def retry(self, *, quiet: bool = ...) -> Any: ...
    def failures(self, *, limit: int = ...) -> Sequence[FailureGroup]: ...
    @property
    def batch(self) -> Any: ...
    def chunk(self, chunk: int) -> Any: ...
    def now(self) -> pl.DataFrame: ...
    def attempts(self, *, limit: int | None = ...) -> pl.DataFrame: ...
    def errors(self, *, limit: int | None = ...) -> pl.DataFrame: ...
    def logs(self, *, limit: int | None = ...) -> pl.DataFrame: ...


class Session:
    """The state of one panel. `step` does what is waiting and gives the next value to send; `ask` may come from any thread."""

    def __init__(self, run: Run, store: Reader, engine: Engine) -> None:
        self.run = run
        self._store, self._engine = store, engine
        self.sums = AttemptSums(run.id)
        self.asked: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self.tab = "now"
        self.filter = Filter()
        self.chosen: int | None = None
        """The step that all tabs are about; None: all of them."""
        self.share = 1.0
        """Moment of the history that is looked at, of the time from the first claim until now."""
        self.note = ""
        self.answered = 0
        """Messages of the page that were heard."""
        self.snapshot = self._take()
        if self.snapshot.ended:
            self.tab = "failures" if self.snapshot.failed else "timeline"
        self._planned: object = None
        self._plan = ""
        self.over = ""
        """Why nothing more can be read; "" while it can."""
        self._groups: dict[str, FailureGroup] = {}
        self._groups_of, self._grouped = cast("object", None), 0.0
        self._body, self._stale, self._due, self._read_of = "", True, 0.0, self.snapshot.status
        self._inspector = ""
        self._last: dict[str, Any] = {"head": self._head(), "names": [], "tab": self.tab, "filter": self.filter.told}

    @property
    def _row(self) -> InstanceRow:
        return self.run._standing  # pyright: ignore[reportPrivateUsage] - a person asks for its parts by name

    def _take(self) -> Snapshot:
        return take(self._store, self._engine, self.sums, self._row, self._engine.clock.now())

    # --- what is asked ----------------------------------------------------------------------------

    def ask(self, message: Mapping[str, Any]) -> None:
        """Put a message of the page on the queue; returns at once."""
        self.asked.put(message)

    def step(self, budget: float = CATCH_UP, *, gently: bool = False) -> dict[str, Any]:
        """Do what was asked, read on, and return what the page is to show.

        Args:
            budget: Seconds of reading on, at most.
            gently: While the run goes on, take little of its time, by `AttemptSums.keep_up`.
        """
        try:
            self._read(budget, gently)
            self._last = self._shown()
        except Exception as error:  # a batch closed in the middle of a query shows itself in many ways
            self.over = self._why_over()
            doubt = {
                "old": f"It could not be read just now, and is tried again: {type(error).__name__}: {clip(error, 200)}"
            }
            self._last = {**self._last, **(self._closed(self.over) if self.over else doubt)}
        return self._last

    def _closed(self, why: str) -> dict[str, Any]:
        """What was seen last, with nothing that can be pressed; a tab that was not read is empty and says why."""
        self.note = why
        while not self.asked.empty():
            message = self.asked.get()
            if message.get("do") in ("hello", "tab"):
                self._choose(message)
        head = self._head()
        body = {} if self.tab == self._last["tab"] else {"tab": self.tab, "body": tag("p", why)}
        return {
            "head": {**head, "cannot": dict.fromkeys(head["cannot"], why[0].lower() + why[1:].partition(":")[0])},
            **body,
        }

    def _read(self, budget: float, gently: bool) -> None:
        if not self.asked.empty():
            self.snapshot = self._take()
        while not self.asked.empty():
            self._do(self.asked.get())
        if gently and not self.snapshot.ended:
            self.sums.keep_up(self._store)
        else:
            self.sums.catch_up(self._store, budget)
        self.snapshot = self._take()
        if self.snapshot.ended and self.sums.whole and self.sums.read(self._store):  # what came just before its end
            self.snapshot = self._take()
        self._offer()

    def _offer(self) -> None:
        """What a retry would do, told where it is offered; asked for once a run has ended."""
        now = self.snapshot
        offered = now.ended and now.whole and not cannot(now)["retry"]
        key = (now.status, self.sums.seen) if offered else None
        if key != self._planned:
            self._planned, self._plan = key, ""
            with contextlib.suppress(NbbatchError):  # its job is not known here
                self._plan = clip(str(self.run.plan()).replace(NEW_LINE, "; "), 300) if offered else ""

    def _why_over(self) -> str:
        """Why nothing more can be read, ever; "" if it can."""
        try:
            return "" if self._row else _PURGED
        except StoreClosed:
            return _CLOSED
        except NotFoundError:
            return _PURGED

    def _do(self, message: Mapping[str, Any]) -> None:
        act = {
            "hello": self._choose, "tab": self._choose, "chunks": self._filter, "step": self._step, "inspect": self._inspect,
            "instance": self._instance, "close": self._close, "at": self._at, "pause": self._act, "resume": self._act,
            "cancel": self._act, "retry": self._retry, "retry-group": self._retry_group, "skip-group": self._skip_group,
        }.get(str(message.get("do")))  # fmt: skip
        if act is None:
            return
        self.answered += 1
        try:
            act(message)
        except (NbbatchError, ValueError, TypeError, LookupError) as error:  # told in the panel, where it was asked
            self.note = f"{type(error).__name__}: {clip(error, 300)}"
        self._stale = True

    def _choose(self, message: Mapping[str, Any]) -> None:
        tab = str(message.get("tab"))
        if tab in TABS:
            self.tab = tab

    def _filter(self, message: Mapping[str, Any]) -> None:
        self.filter = chunk_table.asked(message, self._store, self.run.id)

    def _step(self, message: Mapping[str, Any]) -> None:
        step = message.get("step")
        self.chosen = None if step is None else range(len(self.snapshot.steps))[int(step)]
        self.filter = replace(self.filter, step=self.chosen, after=0, offset=0)

    def _inspect(self, message: Mapping[str, Any]) -> None:
        chunk, run = int(message["chunk"]), self.run
        owner = self._store.fetch("chunk_instance", chunk)
        if owner and owner[0][0] != run.id:  # of a sub-job, or of the run that submitted this one
            run = run.batch.instance(owner[0][0])
        self._inspector = tab_pages.chunk_card(run.chunk(chunk))

    def _instance(self, message: Mapping[str, Any]) -> None:
        self._inspector = tab_pages.instance_card(self.run.batch.instance(int(message["instance"])))

    def _close(self, _: Mapping[str, Any]) -> None:
        self._inspector = ""

    def _at(self, message: Mapping[str, Any]) -> None:
        self.share = min(1.0, max(0.0, float(message["share"])))

    def _act(self, message: Mapping[str, Any]) -> None:
        does = str(message["do"])
        acts: dict[str, Callable[[], Any]] = {
            "pause": self.run.pause, "resume": self.run.resume, "cancel": self.run.cancel,
        }  # fmt: skip
        acts[does]()
        self.note = {
            "pause": "Paused: chunks that run finish, nothing new starts.", "resume": "Resumed.",
            "cancel": "Cancelled: late results are dropped. run.retry() takes it up again.",
        }[does]  # fmt: skip

    def _retry(self, _: Mapping[str, Any]) -> None:
        plan = ""
        with contextlib.suppress(NbbatchError):  # its job is not known here, but where it runs
            plan = str(self.run.plan())
        self.run.retry(quiet=True)
        self.note = f"Queued again. {clip(plan.replace(NEW_LINE, '; '), 300)}"

    def _retry_group(self, message: Mapping[str, Any]) -> None:
        group = self._group(message)
        group.retry(quiet=True)
        self.note = f"{len(group):,} failed with {clip(group.cause.type, 60)}: queued again."
        self._groups_of = None

    def _skip_group(self, message: Mapping[str, Any]) -> None:
        group = self._group(message)
        group.skip(tab_pages.reason(group))
        self.note = f"{len(group):,} failed with {clip(group.cause.type, 60)}: left out."
        self._groups_of = None

    def _group(self, message: Mapping[str, Any]) -> FailureGroup:
        group = self._groups.get(str(message.get("group")))
        if group is None or len(group) > tab_pages.SMALL:
            raise NotFoundError("the failures have changed since they were listed; refresh the panel")
        return group

    # --- what is shown ----------------------------------------------------------------------------

    def _shown(self) -> dict[str, Any]:
        now = self.snapshot
        return {
            "head": self._head(),
            "chain": facts.chain(now), "step": self.chosen,
            "names": [clip(step.name, 60) for step in now.steps], "states": _STATES,
            "errors": now.errors,
            "tab": self.tab,
            "body": self._tab_body(),
            "filter": self.filter.told, "share": self.share,
            "moment": self._moment_words() if self.tab == "history" else "",
            "inspector": self._inspector, "at": now.at_us // 1000,
        }  # fmt: skip

    def _tab_body(self) -> str:
        """The markup of the open tab. What costs much is read less often, and the history by a click alone."""
        now = time.monotonic()
        if self._stale or self._is_due(now):
            self._stale, self._read_of = False, self.snapshot.status
            self._body = self._read_tab()
            self._due = time.monotonic() + max(LIST_AGAIN, LIST_SHARE * (time.monotonic() - now))
        return self._body

    def _is_due(self, now: float) -> bool:
        """Whether the open tab is to be read again though nobody asked."""
        if self.tab not in ("chunks", "timeline"):
            return self.tab != "history"
        if self.snapshot.status is not self._read_of:
            return True
        return not (self.snapshot.ended or self._store.busy) and now >= self._due

    def _read_tab(self) -> str:
        match self.tab:
            case "failures":
                return self._failures()
            case "now":
                now = self.snapshot
                return now_page(replace(now, running=tuple(each for each in now.running if self._is_chosen(each.step))))
            case "chunks":
                return tab_pages.chunks_page(self._chunks(), self.filter, self._total())
            case "log":
                since = max(0, self.sums.seen - LOG_EVENTS)
                return tab_pages.log_page(self._store, self._names(), self.run.id, since, self.chosen)
            case "history":
                return self._history()
            case _:
                return self._timeline()

    def _failures(self) -> str:
        now = self.snapshot
        key = (now.errors, now.failed, now.status)
        if key != self._groups_of and (now.ended or time.monotonic() - self._grouped > GROUP_AGAIN):
            self._groups = tab_pages.keyed(self.run.failures(limit=tab_pages.LOOKED)) if now.failed else {}
            self._groups_of, self._grouped = key, time.monotonic()
        only = None if self.chosen is None else now.steps[self.chosen].name
        groups = {key: group for key, group in self._groups.items() if only in (None, group.cause.step)}
        errors = [group for group in self.sums.error_groups() if only in (None, group.cause.step)]
        return tab_pages.failures_page(self._store, self.run.id, self._names(), groups, cannot(now)["retry"], errors)

    def _chunks(self) -> chunk_table.Page:
        return chunk_table.page(self._store, self.run.id, self.filter, self._row.params)

    def _total(self) -> int:
        """How many chunks meet the filter."""
        steps, status = self.snapshot.steps, self.filter.status
        counted = [step.counts for step in (steps if self.filter.step is None else [steps[self.filter.step]])]
        return sum(n for counts in counted for each, n in counts.items() if status in (None, each))

    def _names(self) -> list[str]:
        return [step.name for step in self.snapshot.steps]

    def _timeline(self) -> str:
        now, sums = self.snapshot, self.sums
        lanes, bars, at = sums.timeline.drawn(self._store, self.run.id, sums.seen, SINGLE, now.running, now.at_us)
        bars = [bar for bar in bars if self._is_chosen(bar.step)]
        return timeline_picture.timeline("Who worked on what", self._names(), lanes, bars, self.frame, at).svg

    def _is_chosen(self, step: int) -> bool:
        return self.chosen in (None, step)

    def _history(self) -> str:
        if self.snapshot.elapsed is None:
            return "<p>Nothing was begun yet.</p>"
        steps = self._steps_then()
        if self.chosen is not None:
            steps = [replace(steps[self.chosen], targets=())]
        return chain_picture.chain(f"As it was after {duration(self._moment())}", steps, ends=False).svg

    def _steps_then(self) -> Sequence[StepFacts]:
        if self.share >= 1.0:
            return self.snapshot.steps
        then = frames.counts(self._store, self.run.id, self._moment_us())
        steps = zip(self.snapshot.steps, then, strict=True)
        return [replace(step, counts=count, median=None, p95=None) for step, count in steps]

    def _moment(self) -> float:
        return self.share * (self.snapshot.elapsed or 0.0)

    def _moment_us(self) -> int:
        started = self._row.started_us or 0
        return started + round(self._moment() * 1e6)

    def _moment_words(self) -> str:
        return f"{duration(self._moment())} of {duration(self.snapshot.elapsed or 0.0)}"

    def _head(self) -> dict[str, Any]:
        now = self.snapshot
        name, which = facts.name(now)
        paused = now.status is InstanceStatus.PAUSED
        return {
            "status": now.status.value if now.known else WAITS, "word": facts.state(now), "name": name, "which": which, "facts": facts.below(now),
            "bar": [[status.value, count] for status, count in facts.bar(now)], "barWords": facts.bar_words(now),
            "share": round(now.share, 4), "open": now.growing and not (now.ended or now.done), "tiles": [each.told for each in facts.facts(now)],
            "next": facts.following(now) if now.ended or paused or not now.known else [],
            "note": self._note(), "paused": paused, "since": now.paused_us and now.paused_us // 1000,
            "ended": now.ended, "failed": now.failed, "cannot": cannot(now), "plan": self._plan, "answered": self.answered,
            "beat": 0 if now.ended or paused or not now.known else now.at_us // BEAT_US,
        }  # fmt: skip

    def _note(self) -> str:
        if waits := self.snapshot.waits:
            return f"{self.note} {clip(waits, 300)}".strip()
        if self.note:
            return self.note
        return ""

    def frame(self) -> pl.DataFrame:
        """What the open tab shows, as a frame."""
        if self.tab == "failures":
            return self.run.errors()
        if self.tab == "log":
            return self.run.logs()
        if self.tab == "history":
            return chain_picture.chain("", self._steps_then()).frame()
        if self.tab == "chunks":
            return self._chunks().rows
        if self.tab == "now":
            return self.run.now()
        return self.run.attempts()


TABS = ("now", "failures", "chunks", "timeline", "log", "history")


def cannot(now: Snapshot) -> dict[str, str]:
    """For each button why it cannot be pressed; "" where it can."""
    over = f"the run is {now.status.look.word}" if now.ended else ""
    waits = "" if now.known else "the run waits for its job"
    retry = "" if now.failed or now.status is InstanceStatus.CANCELLED else "nothing has failed"
    return {"pause": over or waits, "cancel": over, "retry": retry or waits}

"""What of a whole store can be read and shown, by who holds it and by who looks: instances, jobs, a SELECT of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbbatch.base import ranges
from nbbatch.base.arguments import answering
from nbbatch.base.names import Answering
from nbbatch.base.states import InstanceStatus
from nbbatch.base.times import Duration, Moment, moment, patience
from nbbatch.instance import Access
from nbbatch.job import Job
from nbbatch.store import frames
from nbbatch.store.user_query import Limits

if TYPE_CHECKING:
    import polars as pl

SQL_SECONDS, SQL_BYTES = 60.0, 1_000_000_000
"""What a query of sql() may take unless it is told otherwise."""


class Overview(Answering):
    """The frames of a store, and how it is shown."""

    _access: Access

    def instance(self, instance: int) -> Any:
        """The handle of an instance."""
        raise NotImplementedError

    # --- views ------------------------------------------------------------------------------------

    def instances(
        self, *, job: str | None = None, status: str | None = None, since: Moment | None = None,
        limit: int | None = frames.ROWS, offset: int = 0, as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per instance, newest first.

        Columns: id, job, status, progress (0 to 1), version, key, parent (the chunk that submitted it as a sub-job), params
        (JSON text, secrets masked), created, started,
        ended, seconds, error. An unfinished instance whose job is not known in this process waits for it; see
        ``repr(batch.instance(id))``.

        Args:
            job: Only this job's name.
            status: Only this state.
            since: Only those created at or after this time: as ``as_of``.
            limit: Rows at most; None: all. Where the usual 100,000 leave some out, a warning says so.
            offset: Rows passed over.
            as_of: As it would have been then: a datetime (without a zone: local time), its ISO text, or how long ago ("10 min
                ago", a timedelta, seconds).

        Raises:
            ValueError: There is no such state, or a time or number is none.
        """
        self._access.engine()
        text = None if status is None else str(InstanceStatus(status))
        now = self._access.engine().clock.now()
        since_us, at_us = moment(since, now, "since="), moment(as_of, now)
        return frames.page(
            self._access.store, "instances", job_name(job), text, since_us, at_us, limit=limit, offset=offset
        )

    def jobs(self, *, as_of: Moment | None = None) -> pl.DataFrame:
        """One row per job and version: job, version, instances, completed, failed, cancelled, unfinished, latest."""
        self._access.engine()
        return self._access.store.frame("jobs", moment(as_of, self._access.engine().clock.now()))

    @answering("batch.sql")
    def sql(
        self, query: str, *, timeout: Duration | None = SQL_SECONDS, max_bytes: int | None = SQL_BYTES
    ) -> pl.DataFrame:
        """Rows of one SELECT over the store; the views instances, chunks, attempts and history read best.

        It reads the store and nothing else: functions that write, that reach files or that change settings are refused. Columns of
        equal names are numbered (``id``, ``id_1``). Intervals come as durations; what polars has no type for comes as text.

        Args:
            query: The SELECT.
            timeout: How long it may take; None: as long as it does.
            max_bytes: By how much the process may grow while it runs, other work in it included; None: without a limit.

        Raises:
            QueryRefused: It is not one SELECT, does more than read the store, or exceeds a limit; or DuckDB refuses it.
            StoreClosed: The batch is closed, or was while the query ran.
            KeyboardInterrupt: Ctrl-C or the notebook's stop button; the query is stopped too.
        """
        self._access.engine()
        most = None if max_bytes is None else ranges.whole(max_bytes, "max_bytes=")
        return self._access.store.query(query, Limits(patience(timeout, "timeout="), most))

    def _repr_html_(self) -> str:
        return self._table(buttons=False)

    def _table(self, *, buttons: bool) -> str:
        from nbbatch.pictures import static

        if not self._access.usable:
            return static.line(repr(self))
        ((total,),) = self._access.store.fetch("count_instances")
        return static.batch(repr(self), self.instances(limit=static.MAX_ROWS), total, buttons=buttons)

    def panel(self) -> Any:
        """The instances as a live table (needs ``nbbatch[notebooks]``), in which a click opens one's panel.

        Showing it starts no work. Where anything runs, ``batch`` as the last line of a cell shows the same.

        Raises:
            ImportError: anywidget is not installed; ``pip install 'nbbatch[notebooks]'``.
        """
        listing = self._listing(lambda: self._access.usable)
        listing.live()
        return listing

    def _listing(self, moves: Callable[[], bool]) -> Any:
        from nbbatch.panel.widgets import Listing

        return Listing(lambda: self._table(buttons=True), lambda each: self.instance(each).panel(), moves)

    def _moves(self) -> bool:
        return self._access.usable and bool(self._access.engine().live)

    def _ipython_display_(self) -> None:
        """Live while anything runs, where a notebook can; else IPython falls through to the plain table."""
        from nbbatch.base.display import display

        display(self, self._moves, self._show)

    def _show(self) -> None:
        from nbbatch.panel.widgets import show_batch

        show_batch(self._listing(self._moves), self._page, self._access.last_looks)

    def _page(self) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}


def job_name(job: str | None) -> str | None:
    if isinstance(job, Job):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"job= takes a name here, such as {job.name!r}: it is for all versions of a job")
    return job

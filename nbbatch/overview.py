"""What an open batch and a look have in common: frames of the whole store, SQL, and how it is displayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbbatch.base import ranges
from nbbatch.base.arguments import answering
from nbbatch.base.names import Answering
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.base.times import Duration, Moment, moment, patience
from nbbatch.instance import Access
from nbbatch.job import Job
from nbbatch.store import frames
from nbbatch.store.user_query import Limits
from nbbatch.values import views

if TYPE_CHECKING:
    import polars as pl

SQL_SECONDS, SQL_BYTES = 60.0, 1_000_000_000
"""What a query of sql() may take unless it is told otherwise."""


class Overview(Answering):
    """The frames of a store, and how it is displayed."""

    _access: Access

    def instance(self, instance: int) -> Any:
        """Return the handle of an instance.

        Raises:
            NotFoundError: There is no such instance.
            TypeError: ``instance`` is not an id.
            StoreClosed: The batch is closed.
        """
        raise NotImplementedError

    # --- views ------------------------------------------------------------------------------------

    def instances(
        self, *, job: str | None = None, status: str | None = None, since: Moment | None = None,
        limit: int | None = frames.ROWS, offset: int = 0, as_of: Moment | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """One row per instance, newest first.

        Columns: id, job, status, progress (0 to 1), version, key, parent (the chunk that submitted it as a sub-job), params
        (JSON text, secrets masked), created, started, ended, seconds, error. An unfinished instance whose job is not known in
        this process waits for it; see ``repr(batch.instance(id))``.

        Args:
            job: Only instances of the job of this name.
            status: Only instances in this state.
            since: Only instances created at or after this time, given as ``as_of``.
            limit: Maximum number of rows; None: all. A warning says if the default of 100,000 leaves rows out.
            offset: Number of rows to skip.
            as_of: Show the frame as of this time: a datetime (local time if it has no zone), its ISO text, or how long ago
                ("10 min ago", a timedelta, seconds).

        Raises:
            ValueError: The state is unknown, or a time or number is invalid.
            TypeError: ``job`` is not a name.
            StoreClosed: The batch is closed.

        Example:
            >>> batch.instances(status="FAILED").filter(id=2).select("id", "job", "status").rows()
            [(2, 'shop', 'FAILED')]
        """
        now = self._access.engine().clock.now()
        text = None if status is None else str(InstanceStatus(status))
        since_us, at_us = moment(since, now, "since="), moment(as_of, now)
        page = frames.page(
            self._access.store, "instances", job_name(job), text, since_us, at_us, limit=limit, offset=offset
        )
        page = _without_tags(page)
        return page if at_us is not None else self._with_live(page)

    def _with_live(self, page: pl.DataFrame) -> pl.DataFrame:
        """The progress of what is worked on is as of now, not as of when it was stored last."""
        live = self._access.engine().live
        ended = {status.value for status in INSTANCE_ENDED}
        rows = page.select("id", "status").iter_rows() if live else ()
        shares = {number: found.share for number, status in rows if status not in ended and (found := live.get(number))}
        if not shares:
            return page
        import polars as pl

        known = pl.col("id").replace_strict(shares, default=None, return_dtype=pl.Float64)
        return page.with_columns(pl.coalesce(known, "progress").alias("progress"))

    def jobs(self, *, as_of: Moment | None = None) -> pl.DataFrame:
        """One row per job and version.

        Columns: job, version, instances, completed, failed, cancelled, unfinished, latest.

        Raises:
            ValueError: ``as_of`` is not a time.
            StoreClosed: The batch is closed.

        Example:
            >>> "shop" in batch.jobs()["job"]
            True
        """
        return self._access.store.frame("jobs", moment(as_of, self._access.engine().clock.now()))

    @answering("batch.sql")
    def sql(
        self, query: str, *, timeout: Duration | None = SQL_SECONDS, max_bytes: int | None = SQL_BYTES
    ) -> pl.DataFrame:
        """Run one SELECT over the store. The views instances, chunks, attempts and history are the easiest to read.

        It can only read the store. Functions that write, access files or change settings are refused. Columns with equal names
        are numbered (``id``, ``id_1``). Intervals are returned as durations, types that polars lacks as text.

        Args:
            query: The SELECT.
            timeout: Maximum duration; None: no limit.
            max_bytes: By how much the memory of this process may grow meanwhile, other work included; None: no limit.

        Raises:
            QueryRefused: The query is not a single SELECT, does more than read the store, exceeds a limit, or is refused by DuckDB.
            ValueError: ``timeout`` is not a duration, or ``max_bytes`` not a number of bytes.
            StoreClosed: The batch is closed, or was closed while the query ran.
            KeyboardInterrupt: Ctrl-C or the notebook's stop button, which stop the query too.

        Example:
            >>> batch.sql("SELECT step, count(*) AS chunks FROM chunks WHERE instance = 1 GROUP BY step ORDER BY step").rows()
            [('price', 3), ('read', 1), ('total', 1)]
        """
        self._access.engine()
        most = None if max_bytes is None else ranges.whole(max_bytes, "max_bytes=")
        return self._access.store.query(query, Limits(patience(timeout, "timeout="), most))

    def _repr_html_(self) -> str:
        from nbbatch.pictures import static

        return self._runs().html() if self._access.usable else static.line(repr(self))

    def _runs(self) -> Any:
        """The runs as a page."""
        from nbbatch.panel.runs_page import RunsPage

        return RunsPage(self._access.store, self._access.engine(), self._access.store.path)

    def panel(self) -> Any:
        """The instances as a live table; a click opens the panel of one. Needs ``nbbatch[notebooks]``.

        Displaying it starts no work. While anything runs, ``batch`` as the last line of a cell shows the same table.

        Raises:
            ImportError: anywidget is not installed; ``pip install 'nbbatch[notebooks]'``.
            StoreClosed: The batch was closed.

        Example:
            >>> batch.panel()  # doctest: +SKIP
        """
        listing = self._listing(lambda: self._access.usable)
        listing.live()
        return listing

    def _listing(self, moves: Callable[[], bool]) -> Any:
        from nbbatch.panel.widgets import Listing

        return Listing(self._runs(), lambda each: self.instance(each).panel(), moves, self._page)

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
        words = self._runs().text() if self._access.usable else repr(self)
        return {"text/html": self._repr_html_(), "text/plain": words}


def job_name(job: str | None) -> str | None:
    if isinstance(job, Job):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"job= takes a name here, such as {job.name!r}: it is for all versions of a job")
    return job


def _without_tags(page: pl.DataFrame) -> pl.DataFrame:
    """Parameters as JSON that anybody reads: stored with tags, they begin with a space."""
    tagged = page["params"].str.starts_with(" ")
    if not tagged.any():
        return page
    import polars as pl

    params = [_plain_json(each) if each and each[0] == " " else each for each in page["params"]]
    return page.with_columns(pl.Series("params", params, pl.String))


def _plain_json(stored: str) -> str:
    try:
        return views.text(stored.encode()) or "null"
    except ValueError:  # damaged: it is shown as it is
        return stored

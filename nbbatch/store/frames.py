"""The read side: frames of what is stored, for one instance or the whole store.

Every frame has the same columns and dtypes when it is empty: names and states are strings, times are
``datetime[μs, UTC]``, durations are seconds. Each is read in one statement on a connection of the calling thread, so
it never sees half a transaction and never holds the engine up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nbbatch.base.display import warn
from nbbatch.base.errors import NotFoundError
from nbbatch.base.states import ChunkStatus
from nbbatch.store.database import Store

if TYPE_CHECKING:
    import polars as pl

_MAX_ID = 2**63 - 1


class Unasked(int):
    """A number of rows that nobody asked for: a frame that is cut there says so."""


ROWS: Final[int] = Unasked(100_000)
"""Rows of a frame unless ``limit=`` says otherwise."""

_COUNTS = ", ".join(f"count(*) FILTER (status = {status.code}) AS {status.name.lower()}" for status in ChunkStatus)

_GONE = "(SELECT chunk FROM superseded WHERE instance = $1)"
"""Chunks that a rerun replaced. What a replaced chunk itself gave is still shown with it."""

INSTANCES = """
SELECT i.id, i.job, i.status, i.progress, i.version, i.key, i.params, i.created, i.started, i.ended, i.seconds, i.error
FROM instances i
WHERE ($1 IS NULL OR i.job = $1) AND ($2 IS NULL OR i.status = $2) AND ($3 IS NULL OR i.created >= make_timestamptz($3))
ORDER BY i.id DESC LIMIT $4 OFFSET $5
"""

# Nearly all chunks have one event, COMPLETED at the first attempt: only the others need a look for their last. Chunks
# that are in progress count as what they were before: `steps` knows better for a live instance.
STEPS = f"""
WITH first_time AS (SELECT *, status = 6 AND attempt = 1 AS good FROM event WHERE instance = $1 AND chunk NOT IN {_GONE}),
odd AS MATERIALIZED (SELECT DISTINCT chunk FROM first_time WHERE NOT good),
last AS (
    SELECT step, status, started_us, ended_us, records FROM first_time WHERE good AND chunk NOT IN (FROM odd)
    UNION ALL
    SELECT step, last.status, last.started_us, last.ended_us, last.records FROM (
        SELECT step, max_by(e, id) AS last FROM first_time e WHERE chunk IN (FROM odd) GROUP BY step, chunk
    )
),
counted AS (
    SELECT step, count(*) AS seen, {_COUNTS},
        min(started_us) AS started_us, max(ended_us) FILTER (status IN (6, 7, 8, 9)) AS ended_us,
        coalesce(sum(records), 0)::BIGINT AS records, count(*) FILTER (status = 6 AND records = 0) AS filtered,
        quantile_cont((ended_us - started_us) / 1e6, [0.5, 0.95]) AS seconds
    FROM last GROUP BY step
),
made AS (SELECT step, count(*) AS chunks FROM chunk WHERE instance = $1 AND id NOT IN {_GONE} GROUP BY step),
waiting AS (
    SELECT m.step, m.chunks, coalesce(c.queued, 0) + coalesce(c.gate_waiting, 0) + m.chunks - coalesce(c.seen, 0) AS open
    FROM made m LEFT JOIN counted c ON c.step = m.step
)
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, coalesce(w.chunks, 0) AS chunks,
    CASE WHEN s.gated AND s.opened_us IS NULL THEN 0 ELSE coalesce(w.open, 0) END AS queued,
    CASE WHEN s.gated AND s.opened_us IS NULL THEN coalesce(w.open, 0) ELSE 0 END AS gate_waiting,
    coalesce(c.in_progress, 0) AS in_progress, coalesce(c.poll_waiting, 0) AS poll_waiting,
    coalesce(c.errored, 0) AS errored, coalesce(c.completed, 0) AS completed, coalesce(c.failed, 0) AS failed,
    coalesce(c.skipped, 0) AS skipped, coalesce(c.cancelled, 0) AS cancelled, coalesce(c.records, 0) AS records,
    CASE WHEN s.kind = 'many' THEN coalesce(c.filtered, 0) ELSE 0 END AS filtered, c.seconds[1] AS median_seconds, c.seconds[2] AS p95_seconds,
    make_timestamptz(c.started_us) AS started, make_timestamptz(c.ended_us) AS ended
FROM step s LEFT JOIN counted c ON c.step = s.step LEFT JOIN waiting w ON w.step = s.step
WHERE s.instance = $1 ORDER BY s.step
"""  # noqa: S608 - constants

# For a live instance, whose chunks the engine has counted: what it takes to look four times a second at a million.
_ZEROS = ", ".join(f"0 AS {status.name.lower()}" for status in ChunkStatus)
LIVE_STEPS = f"""
WITH ended AS (
    SELECT step, min(started_us) AS started_us, max(ended_us) FILTER (status IN (6, 7, 8, 9)) AS ended_us,
        coalesce(sum(records), 0)::BIGINT AS records, count(*) FILTER (status = 6 AND records = 0) AS filtered,
        quantile_cont(ended_us - started_us, [0.5, 0.95]) AS took
    FROM event WHERE instance = $1 AND chunk NOT IN {_GONE} GROUP BY step
)
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, 0 AS chunks, {_ZEROS},
    coalesce(e.records, 0) AS records, CASE WHEN s.kind = 'many' THEN coalesce(e.filtered, 0) ELSE 0 END AS filtered,
    e.took[1] / 1e6 AS median_seconds, e.took[2] / 1e6 AS p95_seconds,
    make_timestamptz(e.started_us) AS started, make_timestamptz(e.ended_us) AS ended
FROM step s LEFT JOIN ended e ON e.step = s.step WHERE s.instance = $1 ORDER BY s.step
"""  # noqa: S608 - constants

# As of a time past: from the chunks as they stood then.
_COUNTS_AT = """
    count(*) FILTER (status = 'QUEUED') AS queued, count(*) FILTER (status = 'GATE_WAITING') AS gate_waiting,
    count(*) FILTER (status = 'IN_PROGRESS') AS in_progress, count(*) FILTER (status = 'POLL_WAITING') AS poll_waiting,
    count(*) FILTER (status = 'ERRORED') AS errored, count(*) FILTER (status = 'COMPLETED') AS completed,
    count(*) FILTER (status = 'FAILED') AS failed, count(*) FILTER (status = 'SKIPPED') AS skipped,
    count(*) FILTER (status = 'CANCELLED') AS cancelled
"""

STEPS_AT = f"""
WITH counted AS (
    SELECT step, count(*) AS chunks, {_COUNTS_AT},
        min(started) AS started, max(ended) AS ended, coalesce(sum(records), 0)::BIGINT AS records,
        count(*) FILTER (status = 'COMPLETED' AND records = 0) AS filtered, median(seconds) AS median_seconds, quantile_cont(seconds, 0.95) AS p95_seconds
    FROM chunks WHERE instance = $1 GROUP BY step
)
SELECT s.step::INTEGER AS position, s.name AS step, s.kind, s.gated, coalesce(c.chunks, 0) AS chunks,
    coalesce(c.queued, 0) AS queued, coalesce(c.gate_waiting, 0) AS gate_waiting,
    coalesce(c.in_progress, 0) AS in_progress, coalesce(c.poll_waiting, 0) AS poll_waiting,
    coalesce(c.errored, 0) AS errored, coalesce(c.completed, 0) AS completed, coalesce(c.failed, 0) AS failed,
    coalesce(c.skipped, 0) AS skipped, coalesce(c.cancelled, 0) AS cancelled, coalesce(c.records, 0) AS records,
    CASE WHEN s.kind = 'many' THEN coalesce(c.filtered, 0) ELSE 0 END AS filtered, c.median_seconds, c.p95_seconds, c.started, c.ended
FROM step s LEFT JOIN counted c ON c.step = s.name
WHERE s.instance = $1 ORDER BY s.step
"""  # noqa: S608 - constants

_STEP_COLUMNS = [
    "step", "chunks", "completed", "failed", "skipped", "cancelled", "errored", "poll_waiting", "gate_waiting", "records",
    "filtered", "position", "kind", "gated", "started", "ended", "queued", "in_progress", "median_seconds", "p95_seconds",
]  # fmt: skip
"""Of a wide frame a terminal shows the first four and the last four."""

CHUNKS = """
SELECT id, step, status, attempts, errors, polls, parent, seq, created, started, ended, due, records, seconds,
    error_type, error
FROM chunks
WHERE instance = $1 AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR status = $3) AND id BETWEEN $4 AND $5
ORDER BY id LIMIT $6 OFFSET $7
"""

PAGE = f"""
SELECT min(id), max(id), count(*) FROM (
    SELECT id FROM chunk
    WHERE instance = $1 AND ($2 IS NULL OR step IN (SELECT s.step FROM step s WHERE s.instance = $1 AND s.name = $2))
        AND id NOT IN {_GONE}
    ORDER BY id LIMIT $3 OFFSET $4
)
"""  # noqa: S608 - constants

ATTEMPTS = """
SELECT chunk, step, attempt, status, started, ended, worker, code, warnings::INTEGER AS warnings,
    recovered::INTEGER AS recovered, records, seconds, error_type, error
FROM attempts
WHERE instance = $1 AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3)
ORDER BY event, chunk LIMIT $4 OFFSET $5
"""

ERRORS = """
SELECT chunk, step, attempt, status, ended, error_type, error, traceback
FROM attempts
WHERE instance = $1 AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3) AND error IS NOT NULL
ORDER BY event, chunk LIMIT $4 OFFSET $5
"""

SKIPS = """
SELECT e.chunk, s.name AS step, e.attempt, make_timestamptz(e.ended_us) AS skipped, e.started_us IS NULL AS by_hand,
    d.error_type, d.error AS reason
FROM event e JOIN step s ON s.instance = e.instance AND s.step = e.step
LEFT JOIN detail d ON d.event = e.id AND d.instance = e.instance
WHERE e.instance = $1 AND e.status = 8 AND ($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR e.chunk = $3)
ORDER BY e.id LIMIT $4 OFFSET $5
"""

HISTORY = """
SELECT happened, chunk, step, attempt, status, text
FROM history
WHERE instance = $1 AND ($2 IS NULL OR step = $2) AND ($3 IS NULL OR chunk = $3)
ORDER BY happened, rank, event, chunk LIMIT $4 OFFSET $5
"""

LOGS = """
WITH said AS (
    SELECT d.chunk, d.attempt, d.event, 0 AS place, 'log' AS kind, d.log AS text FROM detail d
    WHERE d.instance = $1 AND d.log IS NOT NULL
    UNION ALL
    SELECT d.chunk, d.attempt, d.event, i, 'warning', d.warnings[i] FROM detail d, range(1, len(d.warnings) + 1) r(i)
    WHERE d.instance = $1
    UNION ALL
    SELECT d.chunk, d.attempt, d.event, i, 'recovered', d.recovered[i] FROM detail d, range(1, len(d.recovered) + 1) r(i)
    WHERE d.instance = $1
)
SELECT l.chunk, s.name AS step, l.attempt, make_timestamptz(e.ended_us) AS ended, l.kind, l.text
FROM said l JOIN event e ON e.id = l.event AND e.instance = $1
JOIN step s ON s.instance = $1 AND s.step = e.step
WHERE ($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR l.chunk = $3)
ORDER BY l.event, l.kind, l.place LIMIT $4 OFFSET $5
"""

JOBS = """
SELECT job, version, count(*) AS instances, count(*) FILTER (status = 'COMPLETED') AS completed,
    count(*) FILTER (status = 'FAILED') AS failed, count(*) FILTER (status = 'CANCELLED') AS cancelled,
    count(*) FILTER (status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')) AS unfinished, max(created) AS latest
FROM instances GROUP BY job, version ORDER BY job, version
"""

INPUTS = f"""
SELECT c.data FROM chunk c WHERE c.instance = $1 AND c.step = $2 AND c.data IS NOT NULL AND c.id NOT IN {_GONE}
ORDER BY c.id LIMIT $3
"""  # noqa: S608

REDUCTION_INPUTS = f"""
SELECT data FROM output WHERE instance = $1 AND step = $2 AND parent NOT IN {_GONE} ORDER BY parent, seq LIMIT $3
"""  # noqa: S608

OUTPUTS = f"""
SELECT c.data FROM chunk c JOIN chunk p ON p.id = c.parent AND p.instance = c.instance
WHERE c.instance = $1 AND p.step = $2 AND c.seq IS NOT NULL AND c.data IS NOT NULL AND c.step <> $2 AND c.id NOT IN {_GONE}
UNION ALL
SELECT o.data FROM output o JOIN chunk p ON p.id = o.parent AND p.instance = o.instance
WHERE o.instance = $1 AND p.step = $2 AND p.id NOT IN {_GONE}
LIMIT $3
"""  # noqa: S608

CHUNK = """
SELECT c.step, c.data, c.parent FROM chunk c WHERE c.instance = $1 AND c.id = $2
"""

ATTACHMENTS = """
SELECT name, bytes, digest, make_timestamptz(created_us) AS created FROM attachment
WHERE instance = $1 AND ($2 IS NULL OR created_us <= $2) ORDER BY rowid
"""

USER_DATA = "SELECT data FROM user_data WHERE instance = $1 ORDER BY id DESC LIMIT 1"

CHUNK_INSTANCE = "SELECT instance FROM chunk WHERE id = try_cast($1 AS BIGINT)"

IS_REDUCTION = """
SELECT 1 FROM chunk c JOIN step s ON s.instance = c.instance AND s.step = c.step
WHERE c.instance = $1 AND c.id = $2 AND s.kind = 'reduction'
"""

CHILDREN = f"""
SELECT id FROM chunk WHERE instance = $1 AND parent = $2 AND seq IS NOT NULL
    AND ($2 IN {_GONE} OR id NOT IN {_GONE}) ORDER BY seq, id
"""  # noqa: S608

CHUNK_OUTPUTS = f"""
SELECT data FROM (
    SELECT seq, data FROM chunk WHERE instance = $1 AND parent = $2 AND seq IS NOT NULL
        AND ($2 IN {_GONE} OR id NOT IN {_GONE}) AND step <> (SELECT step FROM chunk WHERE instance = $1 AND id = $2)
    UNION ALL SELECT seq, data FROM output WHERE instance = $1 AND parent = $2
) ORDER BY seq
"""  # noqa: S608

WARNINGS = """
SELECT DISTINCT ON (text) text FROM (
    SELECT unnest(warnings) AS text, event FROM detail WHERE instance = $1 AND warnings IS NOT NULL
) ORDER BY event DESC
"""

WARNING_CHARS = 4_000


def of_instance(
    store: Store, query: str, instance: int, step: str | None, chosen: object, limit: int | None, offset: int,
    at_us: int | None = None,
) -> pl.DataFrame:  # fmt: skip
    """A frame of one instance; ``chosen`` is the query's second filter (a state or a chunk id)."""
    if step is not None:
        require_step(store, instance, step)
    return page(store, as_of(query, at_us), instance, step, chosen, limit=limit, offset=offset)


def page(store: Store, query: str, *values: Any, limit: int | None, offset: int) -> pl.DataFrame:
    """Rows of a query whose last two values are its LIMIT (None: all) and OFFSET.

    Raises:
        ValueError: ``limit`` or ``offset`` is negative, or no whole number.
    """
    check_page(limit, offset)
    frame = store.frame(query, *values, limit, offset)
    if is_cut(limit, frame.height):
        ((total,),) = store.fetch(f"SELECT count(*) FROM ({query})", *values, None, offset)  # noqa: S608 - ours
        tell_cut(frame.height, total - frame.height)
    return frame


def check_page(limit: int | None, offset: int = 0) -> None:
    """Raises ValueError where no page is meant."""
    for name, value in (("limit", 0 if limit is None else limit), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            also = ", or None for all" if name == "limit" else ""
            raise ValueError(f"{name}= takes a number of rows, 0 or more{also}; not {value!r}")


def is_cut(limit: int | None, rows: int) -> bool:
    """Whether there may be more rows than were given, and nobody asked for that."""
    return isinstance(limit, Unasked) and rows == limit


def tell_cut(rows: int, more: int) -> None:
    """Warn that rows were left out, if any were."""
    if more:
        warn(f"{rows:,} rows are given and {more:,} more left out; limit=None gives all, limit= and offset= a page")


def as_of(query: str, at_us: int | None) -> str:
    """A query as it would have been answered at a time; None: now.

    >>> as_of("SELECT id FROM chunks", 5), as_of("SELECT id FROM chunks", None)
    ('SELECT id FROM chunks_at(5)', 'SELECT id FROM chunks')
    """
    if at_us is None:
        return query
    time = int(at_us)
    for name in ("chunks", "attempts", "instances"):
        query = re.sub(rf"\bFROM {name}\b", f"FROM {name}_at({time})", query)
    then = f"FROM (SELECT * FROM history WHERE happened <= make_timestamptz({time}))"  # noqa: S608 - a number
    query = re.sub(r"\bFROM history\b", then, query)
    query = query.replace("e.status = 8", f"e.status = 8 AND e.ended_us <= {time}")
    return query.replace("JOIN event e ON e.id = l.event", f"JOIN event e ON e.id = l.event AND e.ended_us <= {time}")


def chunks(
    store: Store, instance: int, step: str | None, status: str | None, limit: int | None, offset: int,
    at_us: int | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Chunks of an instance. The ids of a page are looked up first: the rest need not be joined then."""
    if step is not None:
        require_step(store, instance, step)
    if status is not None or at_us is not None:
        query = as_of(CHUNKS, at_us)
        return page(store, query, instance, step, status, 0, _MAX_ID, limit=limit, offset=offset)
    check_page(limit, offset)
    ((first, last, rows),) = store.fetch(PAGE, instance, step, limit, offset)
    if is_cut(limit, rows):
        tell_cut(rows, store.fetch(PAGE, instance, step, None, offset)[0][2] - rows)
    return store.frame(CHUNKS, instance, step, None, first or 0, last or 0, limit, 0)


def steps(store: Store, instance: int, live: Sequence[Sequence[int]] = (), at_us: int | None = None) -> pl.DataFrame:
    """Steps of an instance.

    Args:
        store: Read from.
        instance: Its id.
        live: Chunks of each step by state code as the engine counts them; empty: the instance is not live.
        at_us: As they stood at this time; None: now.
    """
    if at_us is not None:
        return store.frame(as_of(STEPS_AT, at_us), instance).select(_STEP_COLUMNS)
    if not live:
        return store.frame(STEPS, instance).select(_STEP_COLUMNS)
    import polars as pl

    columns = {status.name.lower(): [counts[status.code] for counts in live] for status in ChunkStatus}
    columns["chunks"] = [sum(counts) for counts in live]
    frame = store.frame(LIVE_STEPS, instance)
    return frame.with_columns(pl.Series(name, values, dtype=pl.Int64) for name, values in columns.items()).select(
        _STEP_COLUMNS
    )


def require_step(store: Store, instance: int, step: str) -> int:
    """Position of a step in the chain.

    Raises:
        NotFoundError: The instance has no step of this name; the text lists those it has.
    """
    names = step_names(store, instance)
    if step not in names:
        raise NotFoundError(f"instance {instance} has no step {step!r}; it has {', '.join(map(repr, names))}")
    return names.index(step)


def step_names(store: Store, instance: int) -> list[str]:
    """Names of an instance's steps, in chain order."""
    return [name for (name,) in store.fetch("SELECT name FROM step WHERE instance = $1 ORDER BY step", instance)]


def warnings(store: Store, instance: int) -> list[str]:
    """Distinct warnings, newest first, as many as fit into 4,000 characters."""
    kept: list[str] = []
    room = WARNING_CHARS
    for (text,) in store.fetch(WARNINGS, instance):
        room -= len(text)
        if room < 0:
            break
        kept.append(text)
    return kept

"""What a retry will do, before it does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.definition import JobDefinition
from nbbatch.engine.commands import check_shape
from nbbatch.store.database import Store

_GONE = "(SELECT chunk FROM superseded WHERE instance = $1)"
# Nearly all chunks have one event, COMPLETED at the first attempt: only the others need a look for their last.
_STANDING = f"""
WITH mine AS (SELECT * FROM event WHERE instance = $1 AND chunk NOT IN {_GONE}),
odd AS MATERIALIZED (SELECT DISTINCT chunk FROM mine WHERE NOT (status = 6 AND attempt = 1)),
last AS (
    SELECT arg_max(step, id) AS step, arg_max(status, id) AS status, arg_max(code, id) AS code,
        $2 IS NULL OR chunk IN (SELECT unnest($2::BIGINT[])) AS chosen
    FROM mine WHERE chunk IN (FROM odd) GROUP BY chunk
),
part AS (
    SELECT step, count(*) FILTER (status IN (7, 9) AND chosen) AS again, count(*) FILTER (status IN (6, 8)) AS kept,
        count(*) FILTER (status IN (7, 9) AND NOT chosen) AS left_out, coalesce(mode(code) FILTER (status = 7), mode(code)) AS code, 0 AS rank
    FROM last GROUP BY step
    UNION ALL
    SELECT step, 0, count(*), 0, arg_max(code, id), 1 FROM mine
    WHERE status = 6 AND attempt = 1 AND chunk NOT IN (FROM odd) GROUP BY step
)
SELECT step, sum(again)::BIGINT, sum(kept)::BIGINT, sum(left_out)::BIGINT, arg_min(code, rank) FROM part GROUP BY step ORDER BY step
"""  # noqa: S608 - a constant
# The same where steps are always done again: what comes of their chunks is found through all descendants.
_STANDING_ALWAYS = """
WITH RECURSIVE family AS (
    SELECT chunk AS id FROM event WHERE instance = $1 AND status = 6 AND step IN (SELECT unnest($2::INTEGER[]))
    UNION
    SELECT c.id FROM chunk c JOIN family f ON c.parent = f.id WHERE c.instance = $1
),
last AS (SELECT chunk, arg_max(status, id) AS status, arg_max(code, id) AS code FROM event
    WHERE instance = $1 AND chunk NOT IN (SELECT chunk FROM superseded WHERE instance = $1) GROUP BY chunk)
SELECT c.step, count(*) FILTER (l.status IN (7, 9) OR c.id IN (FROM family)) AS again,
    count(*) FILTER (l.status IN (6, 8) AND c.id NOT IN (FROM family)) AS kept, 0 AS left_out,
    coalesce(mode(l.code) FILTER (l.status = 7), mode(l.code)) AS code
FROM chunk c LEFT JOIN last l ON l.chunk = c.id
WHERE c.instance = $1 AND c.id NOT IN (SELECT chunk FROM superseded WHERE instance = $1)
GROUP BY c.step ORDER BY c.step
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a retry does to one step."""

    step: str
    before: str | None
    """Fingerprint of the code that failed."""
    after: str
    """Fingerprint of the code that will run."""
    retried: int
    """Chunks that run again: failed and cancelled ones, and of an ended instance those of steps with ``always=True`` and
    all that came of them."""
    kept: int
    """Chunks that ended well and do not."""
    left: int = 0
    """Failed chunks that were not chosen, and stay so."""

    def __str__(self) -> str:
        old, new = (self.before or "")[:4], self.after[:4]
        code = f"{old} → {new}" if old and old != new else f"{new}, unchanged" if old else new
        rest = f", {self.left:,} left as they are" if self.left else ""
        return f"{self.step} {code}: {self.retried:,} to retry, {self.kept:,} kept{rest}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a retry will do; a line for each step that has something to retry."""

    lines: tuple[Line, ...]

    @property
    def retried(self) -> int:
        """Chunks that run again."""
        return sum(line.retried for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(str(line) for line in self.lines if line.retried) or "nothing to retry"

    __repr__ = __str__


def plan(store: Store, instance: int, job: JobDefinition[Any, Any], chunks: list[int] | None = None) -> Plan:
    """What retrying an instance, or some of its chunks, with a job's code would do.

    Raises:
        StateError: The job is another one than the instance's.
        ShapeError: Its chain differs from the one the instance began with.
    """
    row = store.instance(instance, store.cursor())
    check_shape(job, row)
    ended = chunks is None and row.status in INSTANCE_ENDED
    always = [node.index for node in job.nodes if ended and node.step.options.always]
    found = store.fetch(_STANDING_ALWAYS, instance, always) if always else store.fetch(_STANDING, instance, chunks)
    rows = {step: rest for step, *rest in found}
    lines: list[Line] = []
    for node in job.current():
        again, kept, left, code = rows.get(node.index, (0, 0, 0, None))
        lines.append(Line(node.step.name, code, node.code, again, kept, left))
    return Plan(tuple(lines))

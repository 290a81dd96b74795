"""What must hold of a store that was tortured: held against a pure evaluation of the chain, and against the states' tables."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import nbbatch as nb
from nbbatch.states import CHUNK_ENDED, CHUNK_TRANSITIONS, INSTANCE_TRANSITIONS, ChunkStatus
from tests.crash.torture.chains import Chain, Trace
from tests.crash.torture.rules import Rules

COUNTS = [status.name.lower() for status in ChunkStatus]
OWN = {"Boom", "Left", "FailChunk", "FailJob", "SkipChunk", "RetryLater", "JobFailed", "JobCancelled", "ProcessDied"}
"""What attempts may say they ended with: their own faults, and the kills."""


def check(life: Any) -> None:
    """Tell a life's finder all that is wrong with its finished run."""
    world, batch, run = life.world, life.batch, life.handle
    for kind, text in (
        *_result(world.chain, world.rules, batch, run),
        *_transitions(batch),
        *_attempts(batch, world.chain),
        *_orphans(batch),
        *(("gate", text) for text in _early(batch, run)),
        *(("counts", text) for text in differences(batch, run)),
        *(("negative", text) for text in negative(run)),
    ):
        life.found(kind, text)


# --- what the run gave ----------------------------------------------------------------------------


def _result(chain: Chain, rules: Rules, batch: nb.Batch, run: nb.JobHandle[Any]) -> Iterator[tuple[str, str]]:
    trace = Trace(_by_hand(batch, run))
    expected = chain.evaluate(rules, "r", trace)
    if run.status != "COMPLETED":
        yield "unfinished", f"it ended {run.status}: {run.row.error}"
        return
    if chain.ends == "list":
        yield from _compared("report", expected, run.result(1))
    for step, given in trace.given.items():
        made = [out for outs in given.values() for out in outs]
        stored = [each for value in run.outputs(step) for each in (value if isinstance(value, list) else [value])]
        yield from _compared(f"outputs of {step}", sorted(made), sorted(stored))


def _compared(what: str, expected: list[str], stored: list[str]) -> Iterator[tuple[str, str]]:
    lost, more = Counter(expected) - Counter(stored), Counter(stored) - Counter(expected)
    if lost:
        yield "lost", f"{what}: {sum(lost.values())} of {len(expected)} are missing, such as {min(lost)}"
    if more:
        yield "doubled", f"{what}: {sum(more.values())} more than {len(expected)}, such as {min(more)}"
    if not lost and not more and expected != stored:
        yield "order", f"{what}: the order is not that of the items"


def _by_hand(batch: nb.Batch, run: nb.JobHandle[Any]) -> set[tuple[str, str]]:
    """Step and item of what stands skipped by a user."""
    chosen = run.skips().filter(by_hand=True)["chunk"].to_list()
    rows = batch.sql(
        "SELECT k.step, c.data FROM chunks k JOIN chunk c ON c.id = k.id AND c.instance = k.instance "
        f"WHERE k.instance = {run.id} AND k.status = 'SKIPPED' AND list_contains({chosen}::BIGINT[], k.id)"
    ).rows()
    values = [(step, json.loads(data) if data else "r") for step, data in rows]
    return {(step, item) for step, value in values for item in (value if isinstance(value, list) else [value])}


# --- how it came to it ----------------------------------------------------------------------------


def _transitions(batch: nb.Batch) -> Iterator[tuple[str, str]]:
    """Every change of state of every instance and chunk is one that the tables allow, and nothing completes twice."""
    paths: dict[tuple[int, int | None], list[str]] = defaultdict(list)
    of_all = "SELECT instance, chunk, status FROM history ORDER BY instance, happened, event, rank, chunk"  # as `run.history()` has it
    for instance, chunk, status in batch.sql(of_all).rows():
        paths[instance, chunk].append(status)
    for (instance, chunk), path in paths.items():
        yield from _path(f"instance {instance}" if chunk is None else f"chunk {chunk} of {instance}", path, chunk)


def _path(what: str, path: list[str], chunk: int | None) -> Iterator[tuple[str, str]]:
    table: Any = INSTANCE_TRANSITIONS if chunk is None else CHUNK_TRANSITIONS
    legal = {(old, new) for old, following in table.items() for new in following}
    for old, new in pairwise(path):
        if old == "SUPERSEDED" or (new != "SUPERSEDED" and (old, new) not in legal):
            yield "illegal", f"{what}: {' '.join(path)}"
            return
    if chunk is not None and path.count("COMPLETED") > 1:
        yield "doubled", f"{what} completed twice: {' '.join(path)}"


def _attempts(batch: nb.Batch, chain: Chain) -> Iterator[tuple[str, str]]:
    """Errors stay within the budget, are a step's own, and no attempt is on record twice."""
    over = batch.sql(
        "SELECT e.instance, e.chunk, e.errors, s.max_attempts FROM event e JOIN step s ON s.instance = e.instance "
        "AND s.step = e.step WHERE e.errors > s.max_attempts"
    )
    yield from (("budget", f"instance, chunk, errors, most: {row}") for row in over.rows())
    rows = batch.sql("SELECT instance, chunk, attempt, error_type, error, status FROM attempts").rows()
    for row, count in Counter(row[:3] for row in rows).items():
        if count > 1:
            yield "doubled", f"instance, chunk, attempt {row} is on record {count} times"
    for row in rows:
        if row[3] and row[3].rpartition(".")[2] not in OWN:
            yield "charged", f"instance, chunk, attempt: {row}"[:300]


def _orphans(batch: nb.Batch) -> Iterator[tuple[str, str]]:
    """When the run has ended, so have its sub-jobs."""
    frame = batch.instances(limit=10_000)
    for row in frame.filter(~frame["status"].is_in(["COMPLETED", "FAILED", "CANCELLED"])).iter_rows(named=True):
        yield "orphan", f"instance {row['id']} of {row['job']}, key {row['key']}, is {row['status']} for ever"


def _early(batch: nb.Batch, run: nb.JobHandle[Any]) -> Iterator[str]:
    """No chunk behind a gate starts while one of the steps before it is open that was so when it was queued."""
    before = _upstream(run)
    open_since: dict[str, dict[int, Any]] = defaultdict(dict)
    queued: dict[int, Any] = {}
    ended = {status.value for status in CHUNK_ENDED} | {"SUPERSEDED"}
    for row in run.history(limit=None).drop_nulls("chunk").iter_rows(named=True):
        chunk, step, status, at = row["chunk"], row["step"], row["status"], row["happened"]
        if status in ended:
            open_since[step].pop(chunk, None)
            continue
        open_since[step].setdefault(chunk, at)
        if status in ("QUEUED", "GATE_WAITING"):
            queued[chunk] = at
        if status == "IN_PROGRESS":
            for source in before.get(step, ()):
                earlier = [other for other, since in open_since[source].items() if since <= queued[chunk]]
                if earlier:
                    yield f"chunk {chunk} of gated {step} started at {at} while chunk {earlier[0]} of {source} was open"
                    return


def _upstream(run: nb.JobHandle[Any]) -> dict[str, set[str]]:
    """Of each gated step all steps before it."""
    assert run.job is not None
    names = [node.step.name for node in run.job.nodes]
    above: list[set[int]] = []
    for node in run.job.nodes:
        above.append({each for source in node.sources for each in (source, *above[source])})
    return {names[node.index]: {names[each] for each in above[node.index]} for node in run.job.nodes if node.gated}


# --- counts ---------------------------------------------------------------------------------------


def negative(run: nb.JobHandle[Any]) -> list[str]:
    """Counts below zero, and steps whose counts are not those of their chunks."""
    rows = run.steps().iter_rows(named=True)
    return [
        f"{row['step']}: " + ", ".join(f"{word} {row[word]}" for word in COUNTS if row[word])
        for row in rows
        if min(row[word] for word in COUNTS) < 0 or sum(row[word] for word in COUNTS) != row["chunks"]
    ]


def differences(batch: nb.Batch, run: nb.JobHandle[Any]) -> list[str]:
    """Where ``steps()`` and ``chunks()`` say different things of a run at rest."""
    stored = batch.sql(f"SELECT step, status, count(*) FROM chunks WHERE instance = {run.id} GROUP BY ALL").rows()
    told = _told(run.steps().iter_rows(named=True))
    kept = {(step, status): count for step, status, count in stored}
    return [
        f"{key}: steps() says {told.get(key, 0)}, chunks() {kept.get(key, 0)}"
        for key in sorted(told.keys() | kept.keys())
        if told.get(key, 0) != kept.get(key, 0)
    ]


def _told(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], int]:
    return {(row["step"], word.upper()): row[word] for row in rows for word in COUNTS if row[word]}

"""Outcomes → rows. Turns what workers returned into what one transaction will store, and updates the live counts.

Decide, then write: nothing here touches the store. `Changes` collects the rows of one turn of the dispatcher; the
engine writes them in one transaction and only then acknowledges anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nbbatch.base.columns import Columns
from nbbatch.base.items import Fresh, Items
from nbbatch.base.rows import (
    HEAD_CHARS,
    ChunkRow,
    ClaimRow,
    DetailRow,
    EventRow,
    InstanceRow,
    Item,
    Outcome,
    OutputRow,
    Results,
    StagedRow,
    StepRow,
    SupersededRow,
    Waiting,
)
from nbbatch.base.states import CHUNK_ENDED, ChunkStatus
from nbbatch.definition import Kind, Node, Options
from nbbatch.definition.base_step import BaseStep
from nbbatch.engine.decide import too_many
from nbbatch.engine.staged import Sealed, Staged, chunks_of
from nbbatch.engine.state import LiveInstance, LiveStep
from nbbatch.values.views import halves
from nbbatch.worker.hiding import Hider
from nbbatch.worker.pages import Page

SEALED_OUTPUTS = 50_000
"""What a fan-out gives beyond so many outputs …"""
SEALED_BYTES = 32_000_000
"""… or so many bytes becomes chunks a slice a turn: a transaction in which all of it does keeps everything else waiting."""

_COMPLETED = ChunkStatus.COMPLETED
_IN_PROGRESS = ChunkStatus.IN_PROGRESS.code


@dataclass(slots=True)
class Changes:
    """What one transaction will store, in the order of the fields."""

    instances: dict[int, tuple[InstanceRow, list[StepRow]]] = field(
        default_factory=dict[int, tuple[InstanceRow, list[StepRow]]]
    )
    """New ones, with their steps."""
    chunks: Columns = field(default_factory=partial(Columns, ChunkRow))
    followed: Columns = field(default_factory=partial(Columns, ChunkRow))
    """Chunks of which attempts followed at once; their ids are in no order."""
    events: Columns = field(default_factory=partial(Columns, EventRow))
    details: list[DetailRow] = field(default_factory=list[DetailRow])
    superseded: list[SupersededRow] = field(default_factory=list[SupersededRow])
    """Pages that were split."""
    outputs: Columns = field(default_factory=partial(Columns, OutputRow))
    staged: Columns = field(default_factory=partial(Columns, StagedRow))
    claims: list[ClaimRow] = field(default_factory=list[ClaimRow])
    writes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Further statements, after the rows."""
    codes: dict[str, tuple[str, BaseStep, Hider | None]] = field(
        default_factory=dict[str, tuple[str, BaseStep, Hider | None]]
    )
    """Steps whose source is to be kept, by fingerprint."""
    reusable: dict[tuple[int, int, str], tuple[LiveInstance, Node]] = field(
        default_factory=dict[tuple[int, int, str], tuple[LiveInstance, Node]]
    )
    """Steps of which attempts have ended whose outputs others may take, by instance, place and code."""
    after: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """What to do once all of it is durable."""

    def __bool__(self) -> bool:
        return bool(
            self.events or self.chunks or self.claims or self.staged or self.writes or self.outputs or self.instances
        )

    def rows(self) -> list[tuple[str, Columns | Sequence[Sequence[Any]]]]:
        """Rows by table, where there are any."""
        tables = (
            ("chunk", self.chunks), ("chunk", self.followed), ("event", self.events), ("detail", self.details),
            ("superseded", self.superseded), ("output", self.outputs), ("staged", self.staged), ("claim", self.claims),
        )  # fmt: skip
        return [(table, rows) for table, rows in tables if rows]

    def add(self, other: Changes) -> None:
        """Have the changes that others ask for be stored with these."""
        self.instances |= other.instances
        for mine, theirs in (
            (self.chunks, other.chunks), (self.events, other.events), (self.outputs, other.outputs),
            (self.staged, other.staged), (self.followed, other.followed),
        ):  # fmt: skip
            mine.add(theirs)
        self.details += other.details
        self.superseded += other.superseded
        self.claims += other.claims
        self.writes += other.writes
        self.codes |= other.codes
        self.after += other.after


@dataclass(slots=True)
class Clerk:
    """Settles outcomes into `Changes`: holds the id counters and the randomness it needs."""

    take_ids: Callable[[str, int], int]
    run: Callable[..., None]
    """Runs a named statement in the open transaction."""
    report: Callable[[int, bytes], None]
    """Stores a report in the open transaction."""
    random: Callable[[], float]

    def settle(
        self, live: LiveInstance, step: LiveStep, items: Items, results: Results, changes: Changes, now: int,
        code: str,
    ) -> None:  # fmt: skip
        """Record what one micro-batch gave; ``code`` is the fingerprint of what ran."""
        plain = items
        if results.odd:
            plain = [item for place, item in enumerate(items) if place not in results.odd]
        if plain:
            self._settle_plain(live, step, plain, results, changes, now, code)
        for place, outcome in results.odd.items():
            if results.followed:  # its outputs are chunks already
                outcome = outcome._replace(outputs=[], targets=[])  # noqa: PLW2901
            self._settle_odd(live, step, items[place], outcome, changes, now, code)
        self._close(live, step, items, results)
        if live.job.fail_fast and results.odd and live.failing is None:
            live.failing = too_many(live.job.nodes, live.counts)

    def _settle_plain(
        self, live: LiveInstance, step: LiveStep, items: Items, results: Results, changes: Changes, now: int,
        code: str,
    ) -> None:  # fmt: skip
        """Attempts that COMPLETED and left nothing but outputs: whole columns at a time."""
        node, total = step.node, len(items)
        chunks, attempts, errors, polls = _columns(items)
        event = self.take_ids("event", total) + 1
        outputs = results.outputs
        changes.events.extend(
            total, id=range(event, event + total), chunk=chunks, instance=live.id, step=node.index,
            attempt=attempts, status=_COMPLETED.code, errors=errors, polls=polls, started_us=results.started_us,
            ended_us=results.ended_us, records=1 if outputs else 0, code=code, worker=results.worker,
        )  # fmt: skip
        step.counts[_IN_PROGRESS] -= total
        step.counts[_COMPLETED.code] += total
        if step.polling:
            for chunk in chunks:
                step.polling.pop(chunk, None)
        if outputs:
            live.records += total
        if outputs and not results.followed:
            for target, parents, given in _by_target(results.targets or [node.targets[0]] * total, chunks, outputs):
                self._emit(live, target, parents, [0] * len(parents), given, changes, now)

    def _settle_odd(
        self, live: LiveInstance, step: LiveStep, item: Item, outcome: Outcome, changes: Changes, now: int, code: str
    ) -> None:
        node, counts = step.node, step.counts
        event = self.take_ids("event", 1) + 1
        skipped = counts[ChunkStatus.SKIPPED.code]
        since = _polling_since(step, item, outcome)
        status, errors, polls, due = verdict(node.step.options, item, outcome, now, self.random, skipped, since)
        if status in CHUNK_ENDED:
            step.polling.pop(item.chunk, None)
        split = halves(item.data) if _splits(node.step.options, outcome, status) else []
        counts[_IN_PROGRESS] -= 1
        if split:  # its halves take its place, so that nothing counts it
            status = ChunkStatus.SKIPPED
            changes.superseded.append(SupersededRow(chunk=item.chunk, instance=live.id, at_us=now))
        else:
            counts[status.code] += 1
        changes.events.append(
            EventRow(
                id=event, chunk=item.chunk, instance=live.id, step=node.index, attempt=item.attempt, status=status.code,
                errors=errors, polls=polls, started_us=outcome.started_us, ended_us=outcome.ended_us, due_us=due,
                records=outcome.records, code=code, worker=outcome.worker,
            )
        )  # fmt: skip
        if status is _COMPLETED:
            live.records += outcome.records
            self._complete(live, step, item, outcome, changes, now)
        else:
            self._set_aside(live, step, item, outcome, due, status, errors, polls, changes)
        if split:
            self._emit(live, node.index, [item.chunk] * 2, [0, 1], split, changes, now)
        if outcome.failure or outcome.log or outcome.warnings or outcome.recovered:
            changes.details.append(_detail(live, step, item, outcome, event, status, errors, bool(split)))

    def _close(self, live: LiveInstance, step: LiveStep, items: Items, results: Results) -> None:
        step.in_flight -= len(items)
        if step.suspect_in_flight is not None and any(item.chunk == step.suspect_in_flight for item in items):
            step.suspect_in_flight = None
        odd = results.odd.values()
        ended = results.latest_end_us()
        began = min(*results.started_us[:1], *(outcome.started_us for outcome in odd), ended)
        live.learn(step, len(items), ended - began, ended)
        live.changed = True

    def _set_aside(
        self, live: LiveInstance, step: LiveStep, item: Item, outcome: Outcome, due: int | None, status: ChunkStatus,
        errors: int, polls: int, changes: Changes,
    ) -> None:  # fmt: skip
        """An attempt that did not complete: forget its pages, note when it is due again."""
        if live.staged.pop((item.chunk, item.attempt), None) is not None:
            changes.writes.append(lambda: self.run("unstage", item.chunk, item.attempt))
        if due is not None:
            live.wait(Waiting(due, item.chunk, step.node.index, item.attempt, errors, polls, status))
        if outcome.fails_job and outcome.failure and live.failing is None:
            live.failing = outcome.failure.message or "a step raised FailJob"

    def _complete(
        self, live: LiveInstance, step: LiveStep, item: Item, outcome: Outcome, changes: Changes, now: int
    ) -> None:
        """The outputs of one attempt."""
        if outcome.staged and step.node.step.options.stream:
            return  # they are there
        if outcome.staged:
            self._emit_staged(live, item, outcome, changes, now)
        elif step.node.step.kind is Kind.REDUCTION:
            report = live.report = outcome.outputs[0]
            changes.writes.append(lambda: self.report(live.id, report))
        else:
            self._emit_page(live, Page(item, 0, outcome.outputs, outcome.targets), changes, now)

    def publish(self, live: LiveInstance, page: Page, changes: Changes, now: int) -> None:
        """A page of a fan-out that streams: its outputs count from now on."""
        self._emit_page(live, page, changes, now)
        live.streamed.add(page.item.chunk)
        live.changed = True

    def _emit_page(self, live: LiveInstance, page: Page, changes: Changes, now: int) -> None:
        """Outputs of one attempt, each for its step."""
        seqs = range(page.first, page.first + len(page.outputs))
        for target, each, outputs in _by_target(page.targets, seqs, page.outputs) if seqs else ():
            self._emit(live, target, [page.item.chunk] * len(each), each, outputs, changes, now)

    def _emit(
        self, live: LiveInstance, target: int, parents: Sequence[int], seqs: Sequence[int], outputs: list[bytes],
        changes: Changes, now: int,
    ) -> None:  # fmt: skip
        """Outputs for one step become its chunks, or inputs of the reduction."""
        total = len(outputs)
        if target == live.reduction:
            changes.outputs.extend(total, instance=live.id, step=target, parent=parents, seq=seqs, data=outputs)
            return
        first = self.take_ids("chunk", total) + 1
        changes.chunks.extend(
            total, id=range(first, first + total), instance=live.id, step=target, parent=parents, seq=seqs,
            created_us=now, data=outputs,
        )  # fmt: skip
        live.steps[target].emit(first, outputs)

    def _emit_staged(self, live: LiveInstance, item: Item, outcome: Outcome, changes: Changes, now: int) -> None:
        """A fan-out that handed over pages: its last outputs join them, and all are moved in SQL: at once, or many a slice a turn."""
        stage(live, Page(item, outcome.staged, outcome.outputs, outcome.targets), changes)
        key = item.chunk, item.attempt
        staged, until = live.staged.pop(key), outcome.staged + len(outcome.outputs)
        counts, reduction = staged.counts, live.reduction
        if until > SEALED_OUTPUTS or staged.bytes > SEALED_BYTES:
            live.sealed[key] = Sealed(0, until, outcome.ended_us)
            for target in counts.keys() - {reduction}:
                live.steps[target].expect(counts[target])
            return
        chunks = chunks_of(counts, reduction)
        before = self.take_ids("chunk", chunks)
        changes.writes.append(lambda: self.run("move_staged_chunks", *key, 0, until, before, reduction, now))
        if reduction in counts:
            changes.writes.append(lambda: self.run("move_staged_outputs", *key, 0, until, reduction))
        changes.writes.append(lambda: self.run("unstage", *key))
        for target, count in counts.items():
            if target != reduction:
                live.steps[target].emit_many(before + 1, before + chunks, count)


def _columns(items: Items) -> tuple[Sequence[int], Any, Any, Any]:
    """Ids, attempts, errors and polls; one number where they are the same for all."""
    if isinstance(items, Fresh):
        return items.chunks, 1, 0, 0
    chunks, attempts, _, errors, polls = zip(*items, strict=True)
    return chunks, attempts, errors, polls


def _by_target(
    targets: Sequence[int], numbers: Sequence[int], outputs: list[bytes]
) -> Iterator[tuple[int, Sequence[int], list[bytes]]]:
    """The outputs for each step, with their numbers: of the chunks that gave them, or among those of one chunk."""
    if targets.count(targets[0]) == len(targets):
        yield targets[0], numbers, outputs
        return
    for target in sorted(set(targets)):
        places = [place for place, each in enumerate(targets) if each == target]
        yield target, [numbers[place] for place in places], [outputs[place] for place in places]


def stage(live: LiveInstance, page: Page, changes: Changes) -> None:
    """Put a page of a running fan-out aside; it stays invisible until the attempt completes."""
    item, first, outputs, targets = page
    total = len(outputs)
    changes.staged.extend(
        total, chunk=item.chunk, instance=live.id, attempt=item.attempt, step=targets, seq=range(first, first + total),
        data=outputs,
    )  # fmt: skip
    live.staged.setdefault((item.chunk, item.attempt), Staged()).add(targets, sum(map(len, outputs)))


def verdict(
    options: Options,
    item: Item,
    outcome: Outcome,
    now: int,
    random: Callable[[], float],
    skipped: int = 0,
    since: int = 0,
) -> tuple[ChunkStatus, int, int, int | None]:
    """The chunk's next state, its errors and polls so far, and when it is due again (microseconds; None: not).

    ``since`` is when it began to poll. Its last attempt is made when ``max_wait=`` is over.
    """
    if outcome.status is _COMPLETED:
        return _COMPLETED, item.errors, item.polls, None
    if outcome.status is ChunkStatus.POLL_WAITING:
        due = now + round(outcome.delay * 1e6)
        over = due if options.max_wait is None else since + round(options.max_wait * 1e6)
        if options.max_wait is None or now < over:
            return outcome.status, item.errors, item.polls + 1, min(due, over)
        return ChunkStatus.FAILED, item.errors + 1, item.polls + 1, None
    may_skip = options.max_skipped is None or skipped < options.max_skipped
    if outcome.status is ChunkStatus.SKIPPED and may_skip:
        return outcome.status, item.errors, item.polls, None
    errors = item.errors + 1
    if outcome.status is ChunkStatus.ERRORED and errors < options.max_attempts:
        delay = options.backoff.delay(errors, random())
        return ChunkStatus.ERRORED, errors, item.polls, now + round(delay * 1e6)
    is_skipped = outcome.status is ChunkStatus.ERRORED and outcome.skips_last and may_skip
    return ChunkStatus.SKIPPED if is_skipped else ChunkStatus.FAILED, errors, item.polls, None


def _polling_since(step: LiveStep, item: Item, outcome: Outcome) -> int:
    """When a chunk that polls under a ``max_wait=`` began to; 0 for any other."""
    if step.node.step.options.max_wait is None or outcome.status is not ChunkStatus.POLL_WAITING:
        return 0
    return step.polling.setdefault(item.chunk, outcome.started_us)


def _splits(options: Options, outcome: Outcome, status: ChunkStatus) -> bool:
    """Whether a page is split: it failed, or an error that is skipped lies in one of its items."""
    if not options.bisect or outcome.fails_job or outcome.failure is None:
        return False
    by_class = status is ChunkStatus.SKIPPED and outcome.failure.traceback != ""  # signals have none
    return by_class or status is ChunkStatus.FAILED


def _detail(
    live: LiveInstance, step: LiveStep, item: Item, outcome: Outcome, event: int, status: ChunkStatus, errors: int,
    is_split: bool,
) -> DetailRow:  # fmt: skip
    failure = outcome.failure
    message = failure.message if failure else None
    most = step.node.step.options.max_attempts
    if failure and status in CHUNK_ENDED and outcome.status is ChunkStatus.ERRORED and not is_split and most > 1:
        message = f"{message} (error {errors} of at most {most})"
    elif failure and status is ChunkStatus.FAILED and outcome.status is ChunkStatus.SKIPPED:
        limit = f"max_skipped={step.node.step.options.max_skipped} is reached"
        why = "a reduction gives the report" if step.node.step.kind is Kind.REDUCTION else limit
        message = f"{message} (not skipped: {why})"
    elif failure and status is ChunkStatus.FAILED and outcome.status is ChunkStatus.POLL_WAITING:
        limit = f"max_wait= of {step.node.step.options.max_wait:g} s is over"
        failure = failure._replace(type="TimeoutError")
        message = f"{message or 'RetryLater'} (polled {item.polls + 1} times; {limit})"
    elif failure and is_split:
        message = f"split in two, as it failed: {message}"
    return DetailRow(
        chunk=item.chunk, instance=live.id, attempt=item.attempt, event=event,
        error_type=failure.type if failure else None, error=message, traceback=failure.traceback if failure else None,
        log=outcome.log or None, warnings=list(outcome.warnings) or None, recovered=list(outcome.recovered) or None,
        head=message and message[:HEAD_CHARS], raised=failure.raised if failure else None,
    )  # fmt: skip

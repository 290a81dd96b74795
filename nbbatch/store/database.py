"""The durable side: one DuckDB file.

Guarantees. Every public write happens inside `Store.transaction`, which is committed (fsync) before anything is
acknowledged, or rolled back whole. Chunks, events and outputs are inserted, never updated (see schema.sql).

Threads. One thread at a time may write (the engine's dispatcher, or `open` and `close` while there is none);
`cursor` gives each other thread its own connection for reading, which sees whole transactions only.

DuckDB 2.0 facts this rests on: a second process cannot open the file at all; ``commit()`` after a failed statement
rolls back silently, so any exception inside a transaction ends it; appenders release the GIL while they write.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import duckdb

from nbbatch.base.errors import StateError, StoreError
from nbbatch.base.rows import EventRow, InstanceRow, StepCounts, StepRow
from nbbatch.base.states import INSTANCE_ENDED, INSTANCE_TRANSITIONS, ChunkStatus, InstanceStatus
from nbbatch.store import inspection, migrations
from nbbatch.store.connection import MEMORY, check_place, clear_errors, unreadable
from nbbatch.store.last_calls import busy
from nbbatch.store.migrations import FORMAT
from nbbatch.store.queries import QUERIES, VIEWS
from nbbatch.store.reading import as_instance, by_name
from nbbatch.store.writing import Writer, chain_text

log = logging.getLogger("nbbatch")


class Store(Writer):
    """One open store; see the module's notes on threads and transactions."""

    @busy
    def __init__(self, path: str, now_us: int, session: int) -> None:
        """Open or create the file.

        Args:
            path: Of the file, resolved, or ``":memory:"``.
            now_us: The present, for the session row.
            session: The last one that is known to have begun; 0: none.

        Raises:
            StoreLocked: Another process holds it.
            StoreUnreadable: It is damaged, foreign, newer, or cannot be written; nothing was changed.
        """
        is_new = path != MEMORY and not os.path.lexists(path)
        if path != MEMORY:
            check_place(Path(path))
            inspection.check_log(Path(path))
        super().__init__(path, is_new=is_new)
        try:
            with clear_errors(path):
                self._prepare(now_us, session, is_new or path == MEMORY)
                self._begin_writing()
                self._chains: dict[str, int] | None = dict(self.rows("chains"))
                self._kept: set[str] | None = {each for (each,) in self.rows("kept_codes")}
        except BaseException:
            self.close()
            raise
        self._keys: dict[tuple[str, ...], int] | None = None
        self.session = 0
        self.opened_us, self.last_event_before = now_us, self.take_ids("event", 0)
        """When it was opened, and the last event of all sessions before."""

    # --- opening ----------------------------------------------------------------------------------

    def _prepare(self, now_us: int, session: int, is_new: bool) -> None:
        """Make the tables, or bring those of an older format to the present one."""
        found = None if is_new else inspection.format_of(self)
        if not is_new:
            inspection.check_whole(self, found, session)
        if found is None:
            self._con.begin()
            self.run_script(migrations.SCHEMA)
            self.run("begin_store", str(FORMAT), str(now_us))
            self._con.commit()
            return
        migrations.check(self.path, found, FORMAT)
        if found != FORMAT:
            self._con.begin()  # first a try, so that no copy is made of what is no whole store
            self._migrate(found)
            self._con.rollback()
            copy = migrations.keep_copy(self.source(), found)
            self._con.begin()
            self._migrate(found)
            self._con.commit()
            self.checkpoint()
            log.info("%s was brought from store format %d to %d; %s is as it was", self.path, found, FORMAT, copy)

    def _migrate(self, found: int) -> None:
        """Within the open transaction."""
        for statement in migrations.steps(found, FORMAT):
            self.run_script(statement)
        for (drop,) in self.rows("drops"):
            self.run_script(drop)
        self.run("set_format", str(FORMAT))
        self.run_script(VIEWS)
        inspection.columns_of(self)

    @contextmanager
    def opening(self) -> Generator[None]:
        """A transaction that begins a session: while it is the first, errors say that the file is no whole store and is as it was."""
        try:
            with self.transaction():
                yield
        except StoreError as error:
            if isinstance(error.__cause__, duckdb.Error) and not self._is_changed:
                raise unreadable(self.path, error.__cause__) from error
            raise

    def begin_session(self, now_us: int) -> None:
        """Begin a new session within the open transaction, in which the claims of the one before are put back.

        Views and macros are made at every opening, so that a corrected one reaches old stores.
        """
        self.run_script(VIEWS)
        self.session = self.rows("last_session")[0][0] + 1
        self.run("begin_session", self.session, now_us, os.getpid(), str(FORMAT))
        if now_us < self.rows("latest_time")[0][0]:
            self.run("note_set_back", str(now_us))
        self.is_set_back = bool(self.rows("is_set_back")[0][0])
        self.run("unstage_unended")

    def _abandon(self) -> None:
        self._chains = self._kept = self._keys = None
        super()._abandon()

    @busy
    def close(self) -> None:
        """As `Writer.close`; then let go of what was copied from, and write the file anew where most of it is waste."""
        super().close()
        if self._source is not None:
            self._source.close()
        self._give_back()

    def is_at(self, path: str) -> bool:
        """Whether a path is that of this store's file."""
        with suppress(OSError):
            return self._file is not None and os.path.samestat(Path(path).stat(), self._file)
        return False

    # --- instances --------------------------------------------------------------------------------

    def create_instance(self, row: InstanceRow, steps: Sequence[StepRow]) -> None:
        """Store an instance and its chain within the open transaction: it is QUEUED, or IN_PROGRESS where it has started."""
        chain = self._chain(row.shape, steps)
        same = self._columns["submitted"].keys() & {each.name for each in fields(row)}
        self.add("submitted", chain=chain, **{name: getattr(row, name) for name in same})

    def _chain(self, shape: str, steps: Sequence[StepRow]) -> int:
        """The id of a chain of steps, stored once."""
        if self._chains is None:
            self._chains = dict(self.rows("chains"))
        text = chain_text(shape, tuple(steps))
        if text not in self._chains:
            chain = self._chains[text] = self.take_ids("chain", 1) + 1
            self.add("chain", id=chain, shape=shape, steps=text)
            self.add_all("chain_step", [{"chain": chain, **step._asdict()} for step in steps])
        return self._chains[text]

    def reuse_key(self, step: str, code: str, params: str, ways: str) -> int:
        """The id of what makes outputs the same, stored once, within the open transaction."""
        if self._keys is None:
            self._keys = {tuple(rest): number for number, *rest in self.rows("reuse_keys")}
        key = step, code, params, ways
        if key not in self._keys:
            self._keys[key] = self.take_ids("reuse_key", 1) + 1
            self.run("add_reuse_key", self._keys[key], *key)
        return self._keys[key]

    def note(
        self, instance: int, now_us: int | None, status: InstanceStatus | None, text: str | None = None,
        progress: float | None = None, failing: str | None = None, report: bytes | None = None,
    ) -> None:  # fmt: skip
        """Record that something of an instance is otherwise from here on, within the open transaction."""
        event = self.take_ids("event", 1) + 1
        code = None if status is None else status.code
        self.add(
            "instance_event", id=event, instance=instance, ended_us=now_us, status=code, text=text, progress=progress,
            failing=failing, report=report,
        )  # fmt: skip

    def instance(self, instance: int) -> InstanceRow:
        """One instance, seeing the open transaction; the engine's thread only.

        Raises:
            NotFoundError: There is none of this id.
        """
        found = _instances(self._flushed(), "instance", instance)
        return found[0] if found else self.missing(instance)

    def unfinished(self, job: str, version: int, identity: str) -> InstanceRow | None:
        """The newest unfinished, unnamed instance of equal job, version and identifying parameters."""
        found = _instances(self._flushed(), "instances_like", job, version, identity)
        return next((row for row in found if row.status not in INSTANCE_ENDED), None)

    def has_unfinished(self) -> bool:
        """Whether any instance has not ended."""
        return bool(self.rows("has_unfinished"))

    def by_key(self, job: str, version: int, key: str) -> InstanceRow | None:
        """The instance of a job's version that was given this key, whatever its state."""
        found = _instances(self._flushed(), "instance_keyed", job, version, key)
        return found[0] if found else None

    def by_parent(self, job: str, version: int, chunk: int) -> InstanceRow | None:
        """The instance of a job's version that a chunk submitted, whatever its state."""
        found = _instances(self._flushed(), "instance_below", job, version, chunk)
        return found[0] if found else None

    def unfinished_of(self, job: str, version: int) -> list[InstanceRow]:
        """All unfinished instances of a job's version, oldest first."""
        found = _instances(self._flushed(), "instances_of", job, version)
        return [row for row in found if row.status not in INSTANCE_ENDED]

    def set_status(
        self, instance: int, old: InstanceStatus, new: InstanceStatus, now_us: int, *, text: str | None = None,
        progress: float | None = None,
    ) -> None:  # fmt: skip
        """Move an instance from one state to another within the open transaction; the move is kept in its history.

        Raises:
            StateError: The table of transitions has no such move.
        """
        if new not in INSTANCE_TRANSITIONS[old]:
            raise StateError(f"instance {instance} is {old} and cannot become {new}")
        self.note(instance, now_us, new, text, progress, failing="" if new in INSTANCE_ENDED else None)

    def set_progress(self, instance: int, now_us: int, share: float) -> None:
        """Record how far an instance is, for those who see it while nothing works on it."""
        self.note(instance, now_us, None, progress=share)

    def set_failing(self, instance: int, text: str) -> None:
        """Record that a FailJob was raised; the instance ends when its running chunks have."""
        self.note(instance, None, None, failing=text)

    def set_report(self, instance: int, report: bytes) -> None:
        """Store what the reduction returned; empty: there is none any more."""
        self.note(instance, None, None, report=report)

    def first_chunk(self, instance: int) -> int:
        """Id of the chunk an instance began with."""
        return self.rows("first_chunk", instance)[0][0]

    def drop_claim(self, instance: int, claim: int | None, chunks: list[int]) -> None:
        """Forget a claim that no worker has begun; None: it was stored together with its chunks."""
        if claim is None:
            self.run("unclaim", instance, min(chunks), max(chunks), chunks)
        else:
            self.run("drop_claim", claim)

    def counts(self, instance: int) -> list[StepCounts]:
        """How the chunks of each step of an instance stand, in the order of its chain; sees the open transaction."""
        return [StepCounts(*row[:-1], counts=[0, *row[-1]]) for row in self.rows("step_states", instance)]

    def open_gate(self, instance: int, step: int, now_us: int) -> None:
        """Open a step's gate: all its chunks are QUEUED from here on."""
        self.add("gate", id=self.take_ids("event", 1) + 1, instance=instance, step=step, opened_us=now_us)

    def close_gate(self, instance: int, step: int, now_us: int) -> None:
        """Close a step's gate again: what a rerun makes for it waits until the steps before are done."""
        self.add("gate", id=self.take_ids("event", 1) + 1, instance=instance, step=step, closed_us=now_us)

    def release_claims(self, before_session: int) -> None:
        """Forget the claims of earlier sessions, once their orphans are on record."""
        self.run("release_claims", before_session)

    def drop_data(self, instance: int, retain: str, *, finished: bool) -> None:
        """Forget what an ended instance need not keep; its report stays.

        Args:
            instance: Its id.
            retain: "failed": what a retry may want is kept; "none": nothing is.
            finished: Whether it ended COMPLETED without failed chunks, so that no retry will come.
        """
        self.run("drop_inputs", instance, retain == "failed")
        if finished or retain == "none":
            for query in ("drop_outputs", "drop_staged"):  # of a finished one nothing is staged any more
                self.run(query, instance)

    def purge(self, instances: list[int]) -> None:
        """Delete all rows of some instances within the open transaction; none of their ids is given again."""
        self.run("forget_last_ids")
        for kind, last in self.ids.notes().items():
            self.run("note_last_id", kind, str(last))
        self.run("hand_over", instances)
        for table, columns in self._columns.items():
            column = "id" if table == "submitted" else "instance"
            if column in columns:
                self._flushed().execute(QUERIES["purge"].format(table=table, column=column), [instances]).complete()

    def keep_code(
        self, fingerprint: str, step: str, source: str, now_us: int, hides: Callable[[str], str] | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Keep a step's source, and the names it reaches with digests (``parts``), once; ``hides`` puts stars for secrets, in what is kept too."""
        kept = self._kept = {each for (each,) in self.rows("kept_codes")} if self._kept is None else self._kept
        if fingerprint not in kept:
            kept.add(fingerprint)
            text, names = hides(source) if hides else source, json.dumps(parts or {})
            self.add("code", fingerprint=fingerprint, step=step, source=text, first_us=now_us, parts=names)
        if hides:
            for (stored,) in self.rows("code", fingerprint):
                if (hidden := hides(stored)) != stored:
                    self.run("set_code", fingerprint, hidden)

    def change_chunks(
        self, instance: int, to: ChunkStatus, of: Collection[ChunkStatus], now_us: int, *,
        chunks: Sequence[int] | None = None, reason: str | None = None,
    ) -> list[tuple[int, int, int, int]]:  # fmt: skip
        """Change the state of chunks by hand, within the open transaction.

        Args:
            instance: Theirs.
            to: What they become.
            of: Those in one of these states are changed.
            now_us: The present.
            chunks: Only these of them; None: all.
            reason: Kept with each.

        Returns:
            Id, step, attempts and polls of each chunk that was changed.
        """
        before = self.take_ids("event", 0)
        codes, ids = [status.code for status in of], None if chunks is None else list(chunks)
        ((changed,),) = self.rows("change_chunks", instance, before, to.code, codes, ids, now_us)
        self.take_ids("event", changed)
        if reason is not None:
            self.run("note_reason", instance, before, reason)
        return self.rows("changed_chunks", instance, before)

    def events(self, rows: list[EventRow]) -> None:
        """Append events within the open transaction."""
        if rows:
            self.append("event", rows)


def _instances(con: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[InstanceRow]:
    """Rows of a named query of `instance`, by field name."""
    return [as_instance(fields) for fields in by_name(con.execute(QUERIES[query], list(values)))]

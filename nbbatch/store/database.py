"""The durable side: one DuckDB file; with `connection`, the only importer of duckdb.

Guarantees. Every public write happens inside `Store.transaction`, which is committed (fsync) before anything is
acknowledged, or rolled back whole. Chunks, events and outputs are inserted, never updated (see schema.sql).

Threads. One thread at a time may write (the engine's dispatcher, or `open` and `close` while there is none);
`cursor` gives each other thread its own connection for reading, which sees whole transactions only.

DuckDB 2.0 facts this rests on: a second process cannot open the file at all; ``commit()`` after a failed statement
rolls back silently, so any exception inside a transaction ends it; appenders release the GIL while they write.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from nbbatch.base.errors import NotFoundError, QueryRefused, StateError, StoreError, StoreUnreadable
from nbbatch.base.rows import ArrowStream, Columns, EventRow, InstanceRow
from nbbatch.base.states import INSTANCE_BY_CODE, INSTANCE_ENDED, INSTANCE_TRANSITIONS, InstanceStatus
from nbbatch.store import migrations
from nbbatch.store.connection import clear_errors, close, connect
from nbbatch.store.queries import QUERIES, script

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger("nbbatch")

FORMAT = 1
"""Version of the tables in schema.sql."""
SUBJOB_KEY = "sub-job of chunk "
"""The key of an instance that a chunk submitted: this and the chunk's id."""
READ_ROWS = 2_000
"""Rows fetched at a time while a reduction reads its inputs."""

_TABLES = (
    "submitted", "chain", "chain_step", "chunk", "event", "claim", "detail", "output", "staged", "instance_event", "gate",
    "superseded", "attachment", "user_data",
)  # fmt: skip

INSERT_ROWS = 2
"""Up to so many rows, a parsed INSERT is cheaper than an appender that is flushed (0.29 ms for a row, against 0.38)."""
ARROW_ROWS = 300
"""From this many rows on, Arrow columns are cheaper than the appender."""
_ARROW = {
    "chunk": {
        "id": "Int64", "instance": "Int64", "step": "Int16", "parent": "Int64", "seq": "Int32", "created_us": "Int64",
        "data": "Binary", "session": "Int32",
    },
    "event": {
        "id": "Int64", "chunk": "Int64", "instance": "Int64", "step": "Int16", "attempt": "Int32", "status": "Int8",
        "errors": "Int32", "polls": "Int32", "started_us": "Int64", "ended_us": "Int64", "due_us": "Int64",
        "records": "Int32", "code": "String", "worker": "String",
    },
    "output": {"instance": "Int64", "step": "Int16", "parent": "Int64", "seq": "Int32", "data": "Binary"},
    "staged": {
        "chunk": "Int64", "instance": "Int64", "attempt": "Int32", "step": "Int16", "seq": "Int32", "data": "Binary",
    },
}  # fmt: skip


class Store:
    """One open store; see the module's notes on threads and transactions."""

    INSTANCE_TABLES = tuple(table for table in _TABLES if not table.startswith("chain"))
    """Tables whose rows belong to an instance."""

    def __init__(self, path: str, now_us: int) -> None:
        """Open or create the file.

        Args:
            path: Of the file, resolved, or ``":memory:"``.
            now_us: The present, for the session row.

        Raises:
            StoreLocked: Another process holds it.
            StoreUnreadable: It is damaged, foreign, newer, or cannot be written; nothing was changed.
        """
        self.path = path
        self._con = connect(path)
        self._local = threading.local()
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._importing: threading.Thread | None = None
        try:
            self._migrate()
            self._prepare(now_us)
        except BaseException:
            self._con.close()
            raise

    def _migrate(self) -> None:
        """Bring a store of an older format to the present one."""
        with clear_errors(self.path):
            found = self._format() if self._tables() else FORMAT
            migrations.check(self.path, found, FORMAT)
            if found == FORMAT:
                return
            self._con.close()
            copy = migrations.keep_copy(Path(self.path), found)
            self._con = connect(self.path)
            self._con.begin()
            migrations.run(self._rows, self._script, found, FORMAT)
            self._script(script("views"))
            self._con.commit()
            self._con.execute("CHECKPOINT").complete()
            log.info("%s was brought from store format %d to %d; %s is as it was", self.path, found, FORMAT, copy)

    def _script(self, text: str) -> None:
        for statement in self._con.extract_statements(text):
            self._con.execute(statement).complete()

    def _prepare(self, now_us: int) -> None:
        with clear_errors(self.path):
            self._create(now_us)
            self.session = 0
            self._next = {
                "instance": self._scalar("SELECT coalesce(max(id), 0) FROM submitted"),
                "chunk": self._scalar("SELECT coalesce(max(id), 0) FROM chunk"),
                "claim": self._scalar("SELECT coalesce(max(id), 0) FROM claim"),
                "chain": self._scalar("SELECT coalesce(max(id), 0) FROM chain"),
                "event": self._scalar(
                    "SELECT coalesce(max(id), 0) FROM (SELECT max(id) AS id FROM event UNION ALL "
                    "SELECT max(id) FROM instance_event UNION ALL SELECT max(id) FROM gate UNION ALL "
                    "SELECT max(id) FROM user_data)"
                ),
            }
            for name, last in self._rows(
                "SELECT name[6:], value::BIGINT FROM meta WHERE name LIKE 'last\\_%' ESCAPE '\\'"
            ):
                self._next[name] = max(self._next[name], last)
            self.durable_chunk = self._next["chunk"]
            """Chunks up to this id are committed."""
            self._appenders = {table: self._con.appender(table) for table in _TABLES}
            self._begin, self._commit = self._con.extract_statements("BEGIN TRANSACTION; COMMIT")
            self._inserts: dict[tuple[str, int], duckdb.Statement] = {}
            self._dirty: set[str] = set()
            self._chains: dict[str, int] | None = dict(self.rows("chains"))

    def begin_session(self, now_us: int) -> None:
        """Begin a new session within the open transaction, in which the claims of the one before are put back."""
        self.session = self._scalar("SELECT coalesce(max(id), 0) + 1 FROM session")
        self._run("INSERT INTO session VALUES ($1, $2, $3, $4)", self.session, now_us, os.getpid(), str(FORMAT))
        self._run("DELETE FROM staged")

    def _tables(self) -> set[str]:
        return {name for (name,) in self._rows("SELECT table_name FROM duckdb_tables()")}

    def _create(self, now_us: int) -> None:
        """The tables, in a new file; views and macros at every opening, so that a corrected one reaches old stores."""
        is_new = not self._tables()
        self._con.begin()
        if is_new:
            self._script(script("schema"))
            self._run("INSERT INTO meta VALUES ('format', $1), ('created_us', $2)", str(FORMAT), str(now_us))
        self._script(script("views"))
        self._con.commit()

    def _format(self) -> int:
        if "meta" not in self._tables() or "submitted" not in self._tables():
            raise StoreUnreadable(
                f"{self.path} is a DuckDB database, but not a store of nbbatch; it was left as it is. Open another path"
            )
        return int(self._scalar("SELECT value FROM meta WHERE name = 'format'"))

    # --- transactions -----------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Generator[None]:
        """One durable transaction: committed at the end of the block, rolled back if anything in it raises.

        Raises:
            StoreError: The store could not be written (a full disk, say); nothing of the block is stored.
        """
        self._con.execute(self._begin).complete()
        try:
            yield
            self._flush()
            self._con.execute(self._commit).complete()
            self.durable_chunk = self._next["chunk"]
        except BaseException as error:
            self._abandon()
            if isinstance(error, duckdb.Error):
                raise StoreError(
                    f"{self.path} could not be written, nothing of this change is stored: {error}"
                ) from error
            raise

    def _flush(self) -> None:
        for table in self._dirty:
            self._appenders[table].flush()
        self._dirty.clear()

    def _abandon(self) -> None:
        for table in self._dirty:
            self._appenders[table].clear()
        self._dirty.clear()
        self._chains = None
        with suppress(duckdb.Error):  # a failed statement or commit may have ended the transaction already
            self._con.rollback()

    def append(self, table: str, rows: Columns | Sequence[Sequence[Any]]) -> None:
        """Add rows to an insert-only table within the open transaction."""
        if isinstance(rows, Columns):
            if len(rows) >= ARROW_ROWS and self._has_polars():
                self._append_arrow(table, rows)
                return
            rows = rows.rows()
        if 0 < len(rows) <= INSERT_ROWS and table not in self._dirty:
            insert = self._insert_of(table, len(rows), len(rows[0]))
            self._con.execute(insert, [value for row in rows for value in row]).complete()
            return
        self._appenders[table].append_rows(rows)
        self._dirty.add(table)

    def _insert_of(self, table: str, rows: int, columns: int) -> duckdb.Statement:
        """An INSERT of so many rows, parsed once."""
        found = self._inserts.get((table, rows))
        if found is None:
            places = iter(range(1, rows * columns + 1))
            values = ", ".join(f"({', '.join(f'${next(places)}' for _ in range(columns))})" for _ in range(rows))
            (found,) = self._con.extract_statements(f"INSERT INTO {table} VALUES {values}")  # noqa: S608 - constants
            self._inserts[table, rows] = found
        return found

    def _has_polars(self) -> bool:
        """Whether polars is imported; if not, have that done aside, as it takes a third of a second."""
        if self._importing is None:
            self._importing = threading.Thread(target=importlib.import_module, args=("polars",), daemon=True)
            self._importing.start()
        return not self._importing.is_alive()

    def _append_arrow(self, table: str, rows: Columns) -> None:
        """Many rows at once as Arrow columns, at a third of the appender's price per row."""
        import polars as pl

        schema = {name: getattr(pl, kind) for name, kind in _ARROW[table].items()}
        frame = pl.DataFrame(dict(zip(schema, rows.lists, strict=True)), schema=schema)
        self._con.from_arrow(ArrowStream(frame)).insert_into(table)

    def take_ids(self, kind: str, count: int) -> int:
        """Reserve ``count`` ids of a kind (instance, chunk, claim, event) and return the one before the first."""
        last = self._next[kind]
        self._next[kind] = last + count
        return last

    def run(self, query: str, *values: Any) -> None:
        """Run a named statement within the open transaction."""
        self._flush()
        self._run(QUERIES[query], *values)

    def _run(self, sql: str, *values: Any) -> None:
        self._con.execute(sql, list(values)).complete()

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._con.execute(sql, list(values)).fetchall()

    def _scalar(self, sql: str) -> Any:
        row = self._con.execute(sql).fetchall()
        return row[0][0]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a named query, on the writer's connection, seeing the open transaction."""
        self._flush()
        return self._rows(QUERIES[query], *values)

    # --- instances --------------------------------------------------------------------------------

    def create_instance(self, row: InstanceRow, steps: Sequence[tuple[Any, ...]]) -> None:
        """Store an instance and its chain within the open transaction: it is QUEUED, or IN_PROGRESS where it has started."""
        chain = self._chain(row.shape, steps)
        self.append("submitted", [(
            row.id, row.job, row.version, row.key, row.identity, row.params, chain, row.retain, row.created_us,
            row.started_us,
        )])  # fmt: skip

    def _chain(self, shape: str, steps: Sequence[tuple[Any, ...]]) -> int:
        """The id of a chain of steps, stored once."""
        if self._chains is None:
            self._chains = dict(self.rows("chains"))
        text = json.dumps([shape, *steps])
        if text not in self._chains:
            chain = self._chains[text] = self.take_ids("chain", 1) + 1
            self.append("chain", [(chain, shape, text)])
            self.append("chain_step", [(chain, *step) for step in steps])
        return self._chains[text]

    def _note(
        self, instance: int, now_us: int | None, status: InstanceStatus | None, text: str | None = None,
        progress: float | None = None, failing: str | None = None, report: bytes | None = None,
    ) -> None:  # fmt: skip
        event = self.take_ids("event", 1) + 1
        code = None if status is None else status.code
        self.append("instance_event", [(event, instance, now_us, code, text, progress, failing, report)])

    def instance(self, instance: int, cursor: duckdb.DuckDBPyConnection | None = None) -> InstanceRow:
        """One instance.

        Raises:
            NotFoundError: There is none of this id.
        """
        found = _instances(cursor or self._con, "id = $1", instance)
        if not found:
            raise NotFoundError(f"no instance {instance} in {self.path}; batch.instances() lists those there are")
        return found[0]

    def unfinished(self, job: str, version: int, identity: str) -> InstanceRow | None:
        """The newest unfinished, unnamed instance of equal job, version and identifying parameters."""
        found = _instances(
            self._con,
            "job = $1 AND version = $2 AND identity = $3 AND key IS NULL ORDER BY id DESC",
            job,
            version,
            identity,
        )
        return next((row for row in found if row.status not in INSTANCE_ENDED), None)

    def has_unfinished(self) -> bool:
        """Whether any instance has not ended."""
        ended = ", ".join(str(status.code) for status in sorted(INSTANCE_ENDED))
        return bool(self._rows(f"SELECT 1 FROM instance WHERE status NOT IN ({ended}) LIMIT 1"))  # noqa: S608 - constants

    def by_key(self, job: str, version: int, key: str) -> InstanceRow | None:
        """The instance of a job's version that was given this key, whatever its state."""
        found = _instances(self._con, "job = $1 AND version = $2 AND key = $3", job, version, key)
        return found[0] if found else None

    def unfinished_of(self, job: str, version: int) -> list[InstanceRow]:
        """All unfinished instances of a job's version, oldest first."""
        found = _instances(self._con, "job = $1 AND version = $2 ORDER BY id", job, version)
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
        self._note(instance, now_us, new, text, progress, failing="" if new in INSTANCE_ENDED else None)

    def set_failing(self, instance: int, text: str) -> None:
        """Record that a FailJob was raised; the instance ends when its running chunks have."""
        self._note(instance, None, None, failing=text)

    def set_report(self, instance: int, report: bytes) -> None:
        """Store what the reduction returned; empty: there is none any more."""
        self._note(instance, None, None, report=report)

    def first_chunk(self, instance: int) -> int:
        """Id of the chunk an instance began with."""
        return self._rows("SELECT max(id) FROM chunk WHERE instance = $1 AND step = 0", instance)[0][0]

    def drop_claim(self, instance: int, claim: int | None, chunks: list[int]) -> None:
        """Forget a claim that no worker has begun; None: it was stored together with its chunks."""
        if claim is None:
            self.run("unclaim", instance, min(chunks), max(chunks), chunks)
        else:
            self._run("DELETE FROM claim WHERE id = $1", claim)

    def open_gate(self, instance: int, step: int, now_us: int) -> None:
        """Open a step's gate: all its chunks are QUEUED from here on."""
        self.append("gate", [(self.take_ids("event", 1) + 1, instance, step, now_us, None)])

    def close_gate(self, instance: int, step: int, now_us: int) -> None:
        """Close a step's gate again: what a rerun makes for it waits until the steps before are done."""
        self.append("gate", [(self.take_ids("event", 1) + 1, instance, step, None, now_us)])

    def opened_steps(self, instance: int) -> set[int]:
        """Steps whose gate is open."""
        rows = self._rows("SELECT step FROM step WHERE instance = $1 AND opened_us IS NOT NULL", instance)
        return {step for (step,) in rows}

    def release_claims(self, before_session: int) -> None:
        """Forget the claims of earlier sessions, once their orphans are on record."""
        self._run("DELETE FROM claim WHERE session < $1", before_session)

    def drop_data(self, instance: int, retain: str, *, finished: bool) -> None:
        """Forget what an ended instance need not keep; its report stays.

        Args:
            instance: Its id.
            retain: "failed": what a retry may want is kept; "none": nothing is.
            finished: Whether it ended COMPLETED without failed chunks, so that no retry will come.
        """
        self.run("drop_inputs", instance, retain == "failed")
        if finished or retain == "none":
            self.run("drop_outputs", instance)

    def remove(self, table: str, instances: list[int]) -> None:
        """Delete all rows of some instances within the open transaction."""
        column = "id" if table == "submitted" else "instance"
        self._run(f"DELETE FROM {table} WHERE {column} IN (SELECT unnest($1::BIGINT[]))", instances)  # noqa: S608 - constants

    def keep_counters(self) -> None:
        """Note the ids that were given within the open transaction, so that none is given again once its row is gone."""
        self._run("DELETE FROM meta WHERE name LIKE 'last\\_%' ESCAPE '\\'")
        for kind, last in self._next.items():
            self._run("INSERT INTO meta VALUES ($1, $2)", f"last_{kind}", str(last))

    def checkpoint(self) -> None:
        """Write the log into the file and free what was deleted; put off while somebody reads."""
        with suppress(duckdb.Error):
            self._con.execute("CHECKPOINT").complete()

    def keep_code(self, fingerprint: str, step: str, source: str, now_us: int) -> None:
        """Keep a step's source text, once per fingerprint."""
        self._run(
            "INSERT INTO code SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM code WHERE fingerprint = $1)",
            fingerprint, step, source, now_us,
        )  # fmt: skip

    def events(self, rows: list[EventRow]) -> None:
        """Append events within the open transaction."""
        if rows:
            self.append("event", rows)

    # --- reading ----------------------------------------------------------------------------------

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """This thread's connection for reading."""
        found = getattr(self._local, "cursor", None)
        if found is None:
            found = self._local.cursor = self._con.cursor()
            self._cursors.append(found)
        return found

    def fetch(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, on this thread's connection."""
        return self.cursor().execute(QUERIES.get(sql, sql), list(values)).fetchall()

    def frame(self, sql: str, *values: Any) -> pl.DataFrame:
        """Rows of a query as a polars frame, on this thread's connection."""
        import polars as pl

        return pl.DataFrame(ArrowStream(self.cursor().sql(QUERIES.get(sql, sql), params=list(values))))

    def query(self, sql: str) -> pl.DataFrame:
        """Rows of one SELECT that a user wrote.

        Raises:
            QueryRefused: It is more than one statement, not a SELECT, or DuckDB refuses it.
        """
        cursor = self.cursor()
        try:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise QueryRefused("sql() takes exactly one SELECT; the store is changed only by running jobs")
            cursor.execute("BEGIN TRANSACTION READ ONLY").complete()
            try:
                return self.frame(sql)
            finally:
                cursor.rollback()
        except duckdb.Error as error:
            raise QueryRefused(f"DuckDB refuses this query: {error}") from error

    def stream(self, query: str, *values: Any) -> Callable[[], Iterator[bytes]]:
        """A reader of one column of a named query, page by page, on a connection of its own."""

        def read() -> Iterator[bytes]:
            cursor = self._con.cursor()
            try:
                result = cursor.execute(QUERIES[query], list(values))
                while rows := result.fetchmany(READ_ROWS):
                    for (data,) in rows:
                        yield data
            finally:
                cursor.close()

        return read

    def close(self) -> None:
        """Write everything into the database file and let it go. The store cannot be used afterwards."""
        for appender in self._appenders.values():
            appender.clear()
        self._appenders.clear()
        for cursor in self._cursors:
            close(cursor)
        self._con.close()


_COLUMNS = (
    "id, job, version, key, identity, params, shape, retain, status, paused, failing, "
    "created_us, started_us, ended_us, progress, error, report"
)
_FIELDS = _COLUMNS.split(", ")


def _instances(con: duckdb.DuckDBPyConnection, where: str, *values: Any) -> list[InstanceRow]:
    rows = con.execute(f"SELECT {_COLUMNS} FROM instance WHERE {where}", list(values)).fetchall()  # noqa: S608 - constants
    return [_instance(row) for row in rows]


def _instance(row: tuple[Any, ...]) -> InstanceRow:
    fields = dict(zip(_FIELDS, row, strict=True))
    fields["status"] = INSTANCE_BY_CODE[fields["status"]]
    return InstanceRow(**fields)

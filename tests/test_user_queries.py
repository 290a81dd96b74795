"""What batch.sql() gives, and what it refuses."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import nbbatch as nb
from nbbatch.store import user_query
from tests.jobs import summing

ENDLESS = "SELECT sum(a.range * b.range) AS s FROM range(1000000) a, range(1000000) b"


@pytest.fixture(scope="module")
def shared() -> Iterator[nb.Batch]:
    """A batch for queries that need no run."""
    with nb.open(":memory:", executor=nb.inline()) as opened:
        yield opened


@pytest.fixture
def done(inline: nb.Batch) -> Iterator[nb.Batch]:
    """A batch with a run that has ended."""
    inline.submit(summing(), 3).wait(10)
    yield inline
    assert inline.submit(summing(), 4).result(10) == 12  # whatever was asked, the batch goes on


def test_equal_names_of_columns_are_numbered(done: nb.Batch) -> None:
    joined = done.sql("SELECT * FROM chunks c JOIN attempts a ON a.chunk = c.id ORDER BY c.id")

    assert joined.height == 5
    assert {"id", "instance", "instance_1", "step", "step_1"} <= set(joined.columns)
    assert done.sql("SELECT 1 AS a, 2 AS A, 3 AS a, 4 AS a_1").row(0, named=True) == {
        "a": 1,
        "A": 2,
        "a_2": 3,
        "a_1": 4,
    }
    assert done.sql("SELECT id, id FROM chunks ORDER BY id DESC; -- the last first")["id_1"].to_list() == [
        5,
        4,
        3,
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("INTERVAL '26 hours'", timedelta(hours=26)),
        ("TIMESTAMP '2026-01-02' - TIMESTAMP '2026-01-01'", timedelta(days=1)),
        ("NULL::INTERVAL", None),
        ("[INTERVAL 1 DAY]", ["1 day"]),
        ("{'a \"b\"': INTERVAL 1 MONTH, 'c': 2}", {'a "b"': "1 month", "c": 2}),
        ("MAP {'k': union_value(a := 1)}", {"k": "1"}),
        ("MAP {[1]: 2}", "{[1]=2}"),
        ("union_value(a := 1)", "1"),
        ("'101'::BIT", "101"),
        ("TIMETZ '12:00:00+02'", "12:00:00+02"),
        ("12345678901234567890123456789012345678901::BIGNUM", "12345678901234567890123456789012345678901"),
        ("{'a': 1}::VARIANT", "{'a': 1}"),
        ("'a'::ENUM('a', 'b')", "a"),
        ("sum(1)", Decimal(1)),
        ("[1, 2, NULL]", [1, 2, None]),
        ("NULL", None),
    ],
)
def test_any_type_comes_as_one_that_polars_has(shared: nb.Batch, expression: str, value: Any) -> None:
    frame = shared.sql(f"SELECT {expression} AS v")

    assert frame.to_dicts() == [{"v": value}]
    assert "v" in repr(frame)


@pytest.mark.parametrize(
    "expression",
    [
        "INTERVAL 1 MONTH",
        "170141183460469231731687303715884105727::HUGEINT",
        "DATE 'infinity'",
        "TIMESTAMP '-infinity'",
        "[TIMESTAMPTZ 'infinity']",
        "{'a': [DATE '290000-01-01']}",
        "error('as asked')",
        "repeat('x', 5000000000)",
    ],
)
def test_a_value_without_a_form_in_polars_is_refused(shared: nb.Batch, expression: str) -> None:
    with pytest.raises(nb.QueryRefused):
        shared.sql(f"SELECT {expression} AS v")


@pytest.mark.parametrize(
    "query", ["SHOW TABLES", "DESCRIBE chunks", "SUMMARIZE chunk", "VALUES (1), (2)", "FROM duckdb_tables()"]
)
def test_the_catalog_can_be_read(shared: nb.Batch, query: str) -> None:
    assert shared.sql(query).height


def files_of(store: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in store.parent.glob("store.duckdb*") if each.suffix != ".running"}


REACHING = [
    "SELECT * FROM checkpoint()",
    "FROM force_checkpoint()",
    "SELECT count(*) FROM (SELECT * FROM CheckPoint())",
    "WITH a AS MATERIALIZED (FROM checkpoint()) SELECT 1",
    "SELECT (SELECT count(*) FROM checkpoint())",
    "SELECT nextval('numbers')",
    "SELECT setseed(0.5)",
    "SELECT sleep_ms(100)",
    "SELECT write_log('x')",
    "FROM glob('/*')",
    "FROM query('SELECT 1')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM pragma_database_size()",
    "FROM enable_logging()",
    "FROM truncate_duckdb_logs()",
    "FROM '/etc/passwd'",
    "FROM json_execute_serialized_sql('{}')",
]


def test_no_function_writes_or_reaches_outside(done: nb.Batch, store: Path) -> None:
    before = files_of(store)

    for query in REACHING:
        with pytest.raises(nb.QueryRefused):
            done.sql(query)
        assert files_of(store) == before, query


def test_a_variable_of_the_caller_is_no_table(inline: nb.Batch) -> None:
    mine = pl.DataFrame({"a": [1]})

    with pytest.raises(nb.QueryRefused):
        inline.sql("SELECT * FROM mine")
    assert mine.height == 1


def test_views_and_macros_of_others_are_not_read(store: Path) -> None:
    nb.open(store).close()
    with duckdb.connect(str(store)) as con:
        con.execute("CREATE VIEW work AS FROM checkpoint()").fetchall()
        con.execute("CREATE MACRO twice(a) AS nextval(a)").fetchall()

    with nb.open(store) as batch:
        for query in ("FROM work", "SELECT Twice('a')", 'SELECT * FROM main."WORK"'):
            with pytest.raises(nb.QueryRefused, match="did not make"):
                batch.sql(query)
        assert batch.sql("SELECT count(*) FROM chunks").item() == 0


def test_a_query_ends_when_its_time_is_over(done: nb.Batch) -> None:
    with pytest.raises(nb.QueryRefused, match="timeout="):
        done.sql(ENDLESS, timeout="1100 ms")  # above 1 s: a time is compared, not a ratio of two


def test_the_first_day_of_all_is_a_date_as_others_are(done: nb.Batch) -> None:
    frame = done.sql("SELECT DATE '1970-01-01' AS day, TIMESTAMP '1970-01-01' AS at, INTERVAL 0 SECONDS AS none")

    assert frame.dtypes == [pl.Date, pl.Datetime("us"), pl.Duration("us")]


def test_a_query_ends_when_it_takes_too_much_memory(done: nb.Batch) -> None:
    with pytest.raises(nb.QueryRefused, match="max_bytes="):
        done.sql("SELECT range FROM range(1000000000)", max_bytes=100_000_000)
    assert done.sql("SELECT count(*) FROM range(1000)", timeout=None, max_bytes=None).item() == 1000


def test_blocks_of_the_file_that_are_kept_in_memory_are_not_charged_to_a_query(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_query, "LOOK_SECONDS", 0.0005)
    with nb.open(store) as batch:
        batch.submit(nb.Job("noise", noise >> forget), 30_000).wait()
    with nb.open(store) as batch:
        batch.sql("SELECT max(md5(data)) FROM chunk", max_bytes=20_000_000)
        kept = batch.sql("SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'BASE_TABLE'").item()
    assert kept > 30_000_000


@nb.step
def noise(count: int) -> Iterator[bytes]:
    source = random.Random(1)
    yield from (source.randbytes(1_000) for _ in range(count))


@nb.step
def forget(_: bytes) -> None:
    pass


@pytest.mark.parametrize("query", [ENDLESS, "SELECT range AS a, range AS b FROM range(100000000000)"])
def test_ctrl_c_stops_a_query(done: nb.Batch, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    looks: list[int] = []

    def looked() -> int:
        looks.append(0)
        if len(looks) == 2:  # the first is before it begins
            os.kill(os.getpid(), signal.SIGINT)
        return 0

    monkeypatch.setattr(user_query, "_resident", looked)

    with pytest.raises(KeyboardInterrupt):
        done.sql(query)


def test_closing_stops_a_query(store: Path) -> None:
    """R7"""
    batch = nb.open(store)
    heard: list[BaseException] = []

    def ask() -> None:
        try:
            batch.sql(ENDLESS)
        except nb.NbbatchError as error:
            heard.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not any(each.name == "nbbatch sql" for each in threading.enumerate()):
        pass
    batch.close()
    asking.join(10)

    assert [type(each) for each in heard] == [nb.StoreClosed]

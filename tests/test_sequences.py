"""Values of a run: all of them, in the order of the items, read in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch import instance
from nbbatch.store import sequence
from tests.jobs import drop, numbers, summing


class Item(BaseModel):
    n: int


@nb.step
def items(n: int) -> Iterator[Item]:
    for i in range(n):
        yield Item(n=i)


@nb.step
def pairs(item: Item) -> Iterator[int]:
    if item.n in LATE:
        LATE.remove(item.n)
        raise nb.RetryLater(60)
    yield from (10 * item.n, 10 * item.n + 1)


@nb.step
def listed(values: Iterable[int]) -> list[int]:
    return list(values)


class Params(BaseModel):
    size: int


class Report(BaseModel):
    total: int


@nb.step
def sizes(params: Params) -> Iterator[Item]:
    yield from (Item(n=i) for i in range(params.size))


@nb.step
def report(found: Iterable[Item]) -> Report:
    return Report(total=sum(item.n for item in found))


LATE: set[int] = set()
JOB = nb.Job("listing", items >> pairs >> listed)


@pytest.fixture
def run(batch: nb.Batch, clock: Any) -> nb.JobHandle[list[int]]:
    """Of 30 items, of which some end long after those behind them."""
    LATE.update({0, 7, 8, 29})
    run = batch.submit(JOB, 30)
    while not run.done():
        clock.advance(60)
        batch.maintenance()
    return run


def test_values_come_in_the_order_of_the_items_as_the_reduction_reads_them(run: nb.JobHandle[list[int]]) -> None:
    """V9"""
    expected = [value for n in range(30) for value in (10 * n, 10 * n + 1)]

    assert run.result() == expected
    assert run.outputs("pairs") == expected
    assert run.inputs("listed") == expected
    assert run.inputs("pairs") == run.outputs("items") == [Item(n=n) for n in range(30)]
    assert run.inputs("items") == [30]
    assert run.outputs() == [expected]


def test_values_are_a_sequence(run: nb.JobHandle[list[int]]) -> None:
    """V9"""
    values, same = run.outputs("pairs"), run.result()

    assert len(values) == 60
    assert [values[i] for i in range(60)] == same
    assert [values[i] for i in range(-1, -61, -1)] == same[::-1]
    for cut in (slice(5), slice(-5, None), slice(10, 40, 7), slice(None, None, -1), slice(70, 80)):
        assert values[cut] == same[cut]
    assert list(reversed(values)) == same[::-1]
    assert values + [1] == [*same, 1]  # noqa: RUF005
    assert [1] + values == [1, *same]  # noqa: RUF005
    assert 71 in values
    assert values.index(11) == 3
    assert values != same[:-1]
    assert values != [*same[:-1], 0]
    assert values == tuple(same)
    assert values != "text"
    assert pl.Series(values).to_list() == same
    for beyond in (60, -61):
        with pytest.raises(IndexError):
            values[beyond]


def test_a_repr_shows_the_first_values_and_how_many_there_are(run: nb.JobHandle[list[int]], batch: nb.Batch) -> None:
    values = run.outputs("pairs")

    assert repr(run.inputs("items")) == "[30]"
    assert repr(values) == "<60 values: [0, 1, 10, 11, 20, 21, 30, 31, 40, 41, …]>"
    batch.close()
    assert repr(values).startswith("<60 values: the batch on ")


@pytest.mark.parametrize(("name", "value"), [("MOST_VALUES", 3), ("MOST_BYTES", 5), ("FIRST_VALUES", 1)])
def test_pages_may_be_small(
    run: nb.JobHandle[list[int]], monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    """V9"""
    monkeypatch.setattr(sequence, name, value)

    assert run.outputs("pairs") == run.inputs("listed") == run.result()
    assert run.inputs("pairs")[3:] == [Item(n=n) for n in range(3, 30)]


def test_a_page_holds_no_more_bytes_than_fit(batch: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """V9"""

    @nb.step
    def texts(n: int) -> Iterator[str]:
        for _ in range(n):
            yield "x" * 1_000

    @nb.step
    def drop(text: str) -> None: ...

    monkeypatch.setattr(sequence, "MOST_BYTES", 20_000)
    run = batch.submit(nb.Job("texts", texts >> drop), 500)
    run.wait(10)
    pages: list[int] = []
    values = run.inputs("drop")
    read = values._read
    values._read = lambda keys: pages.append(len(keys)) or read(keys)  # type: ignore[func-returns-value]

    assert sum(map(len, values)) == 500_000
    assert max(pages) <= 21
    assert len(pages) >= 500 / 21


def test_more_values_than_a_frame_shows_are_all_there(threaded: nb.Batch) -> None:
    """V9"""
    many = 100_003
    run = threaded.submit(summing(), many)
    run.wait(50)
    values = run.outputs("double")

    assert len(values) == many
    assert values[many - 1] == 2 * (many - 1)
    assert sum(values) == run.result()


def test_after_a_rerun_the_values_are_the_new_ones(run: nb.JobHandle[list[int]]) -> None:
    """V9"""

    @nb.step(name="pairs")
    def negative(item: Item) -> Iterator[int]:
        yield -item.n

    run.rerun(nb.Job("listing", items >> negative >> listed), step="pairs", where=pl.col("n") == 3)

    assert run.result(10)[5:8] == [21, -3, 40]
    assert run.outputs("pairs") == run.inputs("listed") == run.result()
    assert run.inputs("pairs") == [Item(n=n) for n in range(30)]


def test_halves_of_a_split_page_stand_in_its_place(batch: nb.Batch) -> None:
    """V9"""

    @nb.step
    def pages(n: int) -> Iterator[list[int]]:
        yield from ([4 * i + k for k in range(4)] for i in range(n))

    @nb.step(bisect=True, max_failed=5)
    def square(page: list[int]) -> Iterator[int]:
        if 6 in page:
            raise nb.FailChunk("six")
        yield from (i * i for i in page)

    run = batch.submit(nb.Job("squares", pages >> square >> listed), 3)

    assert run.result(10) == [i * i for i in range(12) if i != 6]
    assert run.outputs("square") == run.result()
    assert run.inputs("square") == [[0, 1, 2, 3], [4, 5], [6], [7], [8, 9, 10, 11]]


@pytest.mark.parametrize("given", ["submit", "resume", "instance", "elsewhere"])
def test_values_are_typed_once_their_job_was_seen(
    store: Path, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V10"""
    LATE.clear()
    with nb.open(store) as batch:
        batch.submit(JOB, 2).wait(10)
    monkeypatch.setattr(instance, "_seen", {})  # as in another process
    with nb.open(store) as batch, nb.open(tmp_path / "other.duckdb") as other:
        run = batch.instance(1)
        assert run.inputs("pairs") == [{"n": 0}, {"n": 1}]
        assert run.chunk(2).input == {"n": 0}
        give = {
            "submit": lambda: batch.submit(JOB, 1).wait(10),
            "resume": lambda: batch.resume(JOB),
            "instance": lambda: batch.instance(1, JOB),
            "elsewhere": lambda: other.submit(JOB, 1).wait(10),
        }
        give[given]()

        assert run.inputs("pairs") == [Item(n=0), Item(n=1)]
        assert run.chunk(2).input == Item(n=0)
        assert run.result() == [0, 1, 10, 11]


def test_values_of_an_unknown_job_are_plain_json(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V10"""
    with nb.open(store) as batch:
        run = batch.submit(nb.Job("plain", sizes >> report), Params(size=3))
        assert run.result() == Report(total=3)
        assert run.report == {"total": 3}
        assert run.params == Params(size=3)
    monkeypatch.setattr(instance, "_seen", {})  # as in another process
    with nb.open(store) as batch:
        run = batch.instance(1)

        assert run.params == {"size": 3}
        assert run.inputs("report") == run.outputs("sizes") == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert run.outputs() == [{"total": 3}]
        assert run.result() == run.report == {"total": 3}
        assert run.chunk(1).input == {"size": 3}


def test_a_job_of_the_same_name_and_another_chain_reads_no_values(batch: nb.Batch) -> None:
    """V10"""
    batch.submit(nb.Job("one", numbers >> listed), 2).wait(10)
    instance.saw(nb.Job("one", items >> pairs >> listed))
    run = batch.instance(1)

    assert run.inputs("listed") == [0, 1]
    assert run.report == [0, 1]


def test_a_run_without_a_report_has_none(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("none", numbers >> drop), 2)

    assert run.result(10) is None
    assert run.report is None
    assert run.outputs() == []


def test_a_repr_of_frames_and_long_values_stays_a_line(inline: nb.Batch) -> None:
    @nb.step
    def frames(rows: int) -> Iterator[dict[str, Any]]:
        yield {"frame": pl.DataFrame({"x": range(rows)}), "text": "word " * rows}

    @nb.step
    def only(given: dict[str, Any]) -> pl.DataFrame:
        return given["frame"]

    @nb.step
    def end(frame: pl.DataFrame) -> None:
        assert frame.height

    run = inline.submit(nb.Job("wide", frames >> only >> end), 1_000)
    run.wait()

    assert repr(run.outputs("only")) == "[<DataFrame 1,000 × 1>]"
    assert "\n" not in repr(run.outputs("frames"))
    assert len(repr(run.outputs("frames"))) < 600

"""C: where cost once grew with something that it has nothing to do with. Each line is a ratio to the same work without it, by turns."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
from pydantic import BaseModel

import nbbatch as nb
from benchmarks.jobs import last
from benchmarks.measure import WORKERS, Figure, by_turns, folder, ratios, seconds


class Codes(BaseModel):
    codes: dict[str, str]
    n: int


@nb.step
def items(params: Codes) -> Iterator[int]:
    yield from range(params.n)


@nb.step
def looked_up(i: int, params: Codes) -> None:
    assert params.codes[str(i)]


@nb.step
def counted(i: int, params: Codes) -> None:
    """Hands them on, so that they might be changed."""
    assert len(list(filter(None, params.codes))) > i


def params_large(runs: int) -> list[Figure]:
    """3.8 MB of parameters for a step that runs 500 times."""
    params = Codes(codes={str(i): f"Hemoglobin [Mass/volume] in Blood, variant {i}" for i in range(60_000)}, n=500)
    sides = [nb.Job("params", items >> step) for step in (looked_up, last, counted)]
    taken = by_turns(runs, *(partial(_submitted, job, params) for job in sides))
    readings = [seconds(lambda: Codes.model_validate_json(params.model_dump_json())) for _ in range(runs)]
    return [
        Figure("C", "500 items with 3.8 MB of parameters: to without", "x", ratios(taken[0], taken[1]), "<= 2"),
        Figure("C", "  each copied, where a step may change them", "ms", [2 * each for each in taken[2]]),
        Figure("C", "  to read them once", "ms", [1e3 * each for each in readings]),
    ]


def _submitted(job: nb.Job, params: object) -> float:
    with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
        return seconds(lambda: batch.submit(job, params).result())


@nb.step
def spread(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def later(i: int) -> None:
    raise nb.RetryLater(3_600)


def skip_of_a_large_group(runs: int) -> list[Figure]:
    """10,000 chunks that wait, of an instance that runs."""

    def skipped() -> float:
        with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
            run = batch.submit(nb.Job("skip", spread >> later), 10_000)
            while batch.maintenance()["waiting"] < 10_000:
                pass
            chunks = run.chunks("later", limit=None)["id"].to_list()
            return seconds(lambda: run._skip_some(chunks, "not today"))

    return [Figure("C", "10,000 chunks that wait are skipped", "s", [skipped() for _ in range(runs)], "<= 0.3")]


@nb.step
def one(n: int) -> int:
    return n


pair = nb.Job("pair", one >> last)


def many_runs(runs: int) -> list[Figure]:
    """Instances that are unfinished at once; instances that a store holds."""
    many, few = by_turns(runs, partial(_at_once, 1_600), partial(_at_once, 100))
    return [
        Figure("C", "CPU of an instance among 1,600, to one among 100", "x", ratios(many, few), "<= 1.5"),
        *_stored(runs),
    ]


def _at_once(number: int) -> float:
    """Seconds of CPU an instance."""
    gate = threading.Event()

    @nb.step
    def hold(n: int) -> None:
        gate.wait()

    with nb.open(":memory:", workers=WORKERS) as batch:
        for each in range(WORKERS):
            batch.submit(nb.Job("hold", hold), each)

        def work() -> None:
            handles = [batch.submit(pair, each, new=True) for each in range(number)]
            gate.set()
            for handle in handles:
                handle.wait()

        before = time.process_time()
        work()
        return (time.process_time() - before) / number


def _stored(runs: int) -> list[Figure]:
    with folder() as path:
        stores = [path / f"{number}.duckdb" for number in (10_000, 100)]
        for store in stores:
            with nb.open(store, workers=WORKERS) as batch:
                for handle in [batch.submit(pair, each, new=True) for each in range(int(store.stem))]:
                    handle.wait()
        opened = by_turns(runs, *(partial(_opened, store) for store in stores))
        ran = by_turns(runs, *(partial(_ran, store) for store in stores))
    return [
        Figure("C", "a run in a store of 10,000 instances, to one of 100", "x", ratios(*ran), "<= 1.5"),
        Figure("C", "  opening it", "x", ratios(*opened), "<= 2"),
    ]


def _opened(store: Path) -> float:
    opened: list[nb.Batch] = []
    taken = seconds(lambda: opened.append(nb.open(store, workers=WORKERS)))
    opened[0].close()
    return taken


def _ran(store: Path) -> float:
    with nb.open(store, workers=WORKERS) as batch:
        batch.submit(pair, 0, new=True).result()
        return sorted(seconds(lambda: batch.submit(pair, 1, new=True).result()) for _ in range(15))[7]


def big_global(runs: int) -> list[Figure]:
    """A frame of 200 MB that a step refers to."""
    frame = pl.DataFrame({f"c{i}": pl.int_range(3_200_000, eager=True) for i in range(8)})

    @nb.step
    def look(n: int) -> None:
        assert frame.height

    with nb.open(":memory:", workers=WORKERS) as batch:
        batch.submit(nb.Job("small", last), 1).result()
        before = _most_mb()
        big, small = by_turns(
            runs,
            partial(_submit, batch, nb.Job("look", look)),
            partial(_submit, batch, nb.Job("small", last)),
        )
        more = _most_mb() - before
    return [
        Figure("C", "a submit whose step refers to a frame of 205 MB: more", "s", [a - b for a, b in zip(big, small, strict=True)]),
        Figure("C", "  memory", "MB", [more], "<= 205"),
    ]  # fmt: skip


def _submit(batch: nb.Batch, job: nb.Job) -> float:
    return seconds(lambda: batch.submit(job, 1, new=True).result())


def _most_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@nb.step
def plus(i: int) -> int:
    return i + 1


@nb.step
def minus(i: int) -> int:
    return i - 1


@nb.step
def named(i: int) -> int:
    return nb.to("last", i)


def routes(runs: int) -> list[Figure]:
    """Values that a decider or ``nb.to`` sends on."""
    n = 10_000
    plain = nb.Job("plain", spread >> one >> plus >> last)
    chosen = nb.Job("chosen", spread >> one >> nb.choose(lambda i: i % 2, {0: plus, 1: minus}) >> last)
    direct, to = nb.Job("direct", spread >> one >> last), nb.Job("to", spread >> named >> last)
    taken = by_turns(runs, *(partial(_submitted, job, n) for job in (chosen, plain, to, direct)))
    return [
        Figure("C", f"{n:,} values by nb.choose, to a plain chain", "x", ratios(taken[0], taken[1]), "<= 2"),
        Figure("C", f"{n:,} values by nb.to, to a plain chain", "x", ratios(taken[2], taken[3]), "<= 1.5"),
    ]


def many_threads(runs: int) -> list[Figure]:
    """50 threads that submit 10 times each, beside one that submits 500 times."""

    def submitted(threads: int) -> float:
        def work(batch: nb.Batch, first: int) -> None:
            for each in range(500 // threads):
                batch.submit(pair, first + each, new=True).result()

        with folder() as path, nb.open(path / "bench.duckdb", workers=WORKERS) as batch:
            team = [threading.Thread(target=work, args=(batch, 1_000 * each)) for each in range(threads)]

            def run() -> None:
                for each in team:
                    each.start()
                for each in team:
                    each.join()

            return seconds(run)

    many, single = by_turns(runs, partial(submitted, 50), partial(submitted, 1))
    return [Figure("C", "500 submits from 50 threads, to as many from one", "x", ratios(many, single), "<= 1")]


def measure(runs: int, full: bool) -> list[Figure]:
    """All of them."""
    parts = (params_large, skip_of_a_large_group, many_runs, big_global, routes, many_threads)
    return [figure for part in parts for figure in part(runs)]

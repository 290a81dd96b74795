"""W11 steps on a Dask cluster beside `client.map` and `gather` on the same one. W12 a big global and a grid of models in worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import nbbatch as nb
from benchmarks.measure import WORKERS, Figure, by_turns, folder, ratios, seconds

CLAIMS = {0: (4_000, 20.0), 1: (4_000, 1.5), 5: (2_000, 1.2), 200: (120, 0.95)}
"""Milliseconds of an item → how many of them, and how many times as quick as `client.map` it is to be at least."""


@nb.step
def numbers(n: int) -> Iterator[int]:
    yield from range(n)


@nb.step
def total(values: Iterable[float]) -> float:
    return sum(values)


def sleeping(ms: int) -> nb.Job[int, float]:
    @nb.step
    def work(i: int) -> float:
        if ms:
            time.sleep(ms / 1000)
        return i

    return nb.Job(f"sleeps {ms}", numbers >> work >> total)


def w11(runs: int, full: bool) -> list[Figure]:
    """Needs distributed."""
    if find_spec("distributed") is None:
        print("W11 skipped, distributed is not installed: pip install 'nbbatch[dask]'")
        return []
    import distributed

    options: dict[str, Any] = {"threads_per_worker": 2, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(n_workers=WORKERS, **options) as cluster, distributed.Client(cluster) as client:
        return [figure for ms, (n, least) in CLAIMS.items() for figure in _beside_map(runs, client, ms, n, least)]


def _beside_map(runs: int, client: Any, ms: int, n: int, least: float) -> list[Figure]:
    many = n if ms else 10 * n  # what does nothing is over before micro-batches have grown

    def ours() -> float:
        with folder() as path, nb.open(path / "bench.duckdb", nb.dask(client)) as batch:
            batch.submit(sleeping(ms), 20).result()
            return many / seconds(lambda: batch.submit(sleeping(ms), many).result())

    def bare(i: int) -> int:
        if ms:
            time.sleep(ms / 1000)
        return i

    def theirs() -> float:
        return n / seconds(lambda: client.gather(client.map(bare, range(n), pure=False)))

    mine, others = by_turns(runs, ours, theirs)
    return [
        Figure("W11", f"Dask, {many:,} items of {ms} ms", "items/s", mine),
        Figure("W11", f"  client.map, gather, {n:,} items", "calls/s", others),
        Figure("W11", "  ratio", "x", ratios(mine, others), f">= {least:g}"),
    ]


def w12(runs: int, full: bool) -> list[Figure]:
    """What 100 items of 10 ms take beside a global of 160 MB; and a grid of models beside joblib."""
    with nb.processes(WORKERS) as pool, folder() as path, nb.open(path / "bench.duckdb", pool) as batch:

        def run(job: Callable[[], nb.Job[int, float]], n: int) -> float:
            made = job()
            return seconds(lambda: batch.submit(made, n, new=True).result())

        run(partial(sleeping, 10), 20)
        same = _with_table()
        run(lambda: same, 20)
        unchanging = _with_table(is_shared=True)
        run(lambda: unchanging, 20)
        new, again, shared, small = by_turns(
            runs, lambda: run(_with_table, 100), lambda: run(lambda: same, 100), lambda: run(lambda: unchanging, 100),
            lambda: run(partial(sleeping, 10), 100),
        )  # fmt: skip
        figures = [
            Figure("W12", "processes, 100 items of 10 ms, beside nothing big", "s", small),
            Figure("W12", "  ratio, a global of 160 MB that workers have", "x", ratios(again, small), "<= 1.3"),
            Figure("W12", "  ratio, one that is nb.shared", "x", ratios(shared, small), "<= 1.3"),
            Figure("W12", "  ratio, a new global of 160 MB", "x", ratios(new, small)),
        ]
        return figures + _grid(runs, batch) if find_spec("sklearn") else figures


def _with_table(*, is_shared: bool = False) -> nb.Job[int, float]:
    table = np.random.default_rng().random(20_000_000)
    held = nb.shared(table)

    @nb.step
    def look_up(i: int) -> float:
        time.sleep(0.01)
        return float(table[i])

    @nb.step
    def look_up_shared(i: int) -> float:
        time.sleep(0.01)
        return float(held.value[i])

    return nb.Job(f"looks up {is_shared}", numbers >> (look_up_shared if is_shared else look_up) >> total)


def _grid(runs: int, batch: nb.Batch) -> list[Figure]:
    from joblib import Parallel, delayed
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    data = np.random.default_rng(0).random((1_500, 40))
    wanted = (data[:, 0] + data[:, 1] > 1).astype(int)
    grid = [(trees, depth) for trees in (10, 20, 30, 40) for depth in (2, 4, 6, 8, 10)]

    def fit(trees: int, depth: int) -> float:
        model = RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=0)
        return float(cross_val_score(model, data, wanted, cv=3).mean())

    @nb.step
    def score(i: int) -> float:
        return fit(*grid[i])

    job = nb.Job("grid", numbers >> score >> total)
    with Parallel(WORKERS) as parallel:
        batch.submit(job, 2, new=True).result()
        parallel(delayed(fit)(*each) for each in grid[:2])
        ours, theirs = by_turns(
            runs,
            lambda: seconds(lambda: batch.submit(job, len(grid), new=True).result()),
            lambda: seconds(lambda: parallel(delayed(fit)(*each) for each in grid)),
        )
    return [
        Figure("W12", f"processes, a grid of {len(grid)} random forests", "s", ours), Figure("W12", "  joblib", "s", theirs),
        Figure("W12", "  ratio", "x", ratios(ours, theirs), "<= 1.2"),
    ]  # fmt: skip

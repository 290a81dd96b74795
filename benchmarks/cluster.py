"""Clusters and worker processes beside what they have of their own: W11 Dask, W12 big globals and a grid of models, W13 Ray, W14 frames on Dask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl

import nbbatch as nb
from benchmarks.measure import WORKERS, Figure, by_turns, folder, ratios, seconds

CLAIMS = {0: (4_000, 20.0), 1: (4_000, 1.5), 5: (2_000, 1.2), 200: (120, 0.95)}
"""Milliseconds of an item → how many of them, and how many times as quick as the cluster's own tasks it is to be at least."""


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

    options: dict[str, Any] = {"threads_per_worker": 2, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=WORKERS, **options) as cluster, distributed.Client(cluster) as client:
        pool = nb.dask(client)

        def mapped(bare: Callable[[int], int], n: int) -> None:
            client.gather(client.map(bare, range(n), pure=False))

        return [
            figure for ms in CLAIMS for figure in _beside(runs, "W11", "Dask", pool, ms, "client.map, gather", mapped)
        ]


def w13(runs: int, full: bool) -> list[Figure]:
    """Needs Ray."""
    if find_spec("ray") is None:
        print("W13 skipped, Ray is not installed: pip install 'nbbatch[ray]'")
        return []
    ray: Any = import_module("ray")
    ray.init(
        num_cpus=2 * WORKERS,
        object_store_memory=200_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )

    def remote(bare: Callable[[int], int], n: int) -> None:
        task = ray.remote(bare)
        ray.get([task.remote(i) for i in range(n)])

    try:
        return [
            figure for ms in CLAIMS for figure in _beside(runs, "W13", "Ray", nb.ray(), ms, "its own tasks", remote)
        ]
    finally:
        ray.shutdown()


@nb.step
def make_frame(i: int) -> pl.DataFrame:
    return pl.DataFrame({"a": np.random.default_rng(i).random(125_000)})


@nb.step
def sum_frame(frame: pl.DataFrame) -> float:
    return float(frame["a"].sum())


def w14(runs: int, full: bool) -> list[Figure]:
    """Needs distributed."""
    if find_spec("distributed") is None:
        print("W14 skipped, distributed is not installed: pip install 'nbbatch[dask]'")
        return []
    import distributed

    job = nb.Job("frames", numbers >> make_frame >> sum_frame >> total)
    options: dict[str, Any] = {"threads_per_worker": 2, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=WORKERS, **options) as cluster, distributed.Client(cluster) as client:

        def ours() -> float:
            with folder() as path, nb.open(path / "bench.duckdb", nb.dask(client), values=path / "values") as batch:
                batch.submit(job, 4).result()
                return seconds(lambda: batch.submit(job, 100).result())

        def theirs() -> float:
            def both() -> None:
                made = client.map(make_frame.function, range(100), pure=False)
                client.gather(client.map(sum_frame.function, made, pure=False))

            return seconds(both)

        mine, others = by_turns(runs, ours, theirs)
    return [
        Figure("W14", "Dask, 100 frames of 1 MB, values=", "s", mine), Figure("W14", "  left on workers by client.map", "s", others),
        Figure("W14", "  ratio", "x", ratios(others, mine), ">= 1"),
    ]  # fmt: skip


def _beside(
    runs: int, workload: str, name: str, pool: Any, ms: int, what: str, run: Callable[[Callable[[int], int], int], None]
) -> list[Figure]:
    n, least = CLAIMS[ms]

    def ours() -> float:
        with folder() as path, nb.open(path / "bench.duckdb", pool) as batch:
            batch.submit(sleeping(ms), 20).result()
            return n / seconds(lambda: batch.submit(sleeping(ms), n).result())

    def bare(i: int) -> int:
        if ms:
            time.sleep(ms / 1000)
        return i

    def theirs() -> float:
        run(bare, 20)
        return n / seconds(lambda: run(bare, n))

    with nb.open(":memory:", pool) as batch:  # the processes of all workers import what they need
        batch.submit(sleeping(20), 16 * WORKERS).result()
    mine, others = by_turns(runs, ours, theirs)
    return [
        Figure(workload, f"{name}, {n:,} items of {ms} ms", "items/s", mine),
        Figure(workload, f"  {what}", "calls/s", others),
        Figure(workload, "  ratio", "x", ratios(mine, others), f">= {least:g}"),
    ]  # fmt: skip


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

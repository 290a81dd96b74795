"""Steps run on Dask as on any other executor of concurrent.futures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbbatch as nb
from tests.jobs import summing

distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None, local_directory=str(tmp_path)
    ) as client:
        yield client


@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::ResourceWarning")
def test_a_dask_cluster_runs_the_steps(client: Any, tmp_path: Path) -> None:
    with nb.open(tmp_path / "store.duckdb", executor=client.get_executor(), workers=2) as batch:
        run = batch.submit(summing(), 100)

        assert run.result(30) == 9900
        assert all(worker.startswith("process-") for worker in run.attempts("double")["worker"])

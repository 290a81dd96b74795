"""What every pool owes a run, whoever made it: the same laws on worker processes and on a Dask cluster."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch.worker import adapters
from nbbatch.worker.on_ray import OnRay
from tests.jobs import dies_once, each, numbers
from tests.kit import count, engine


class Pool:
    """A pool that a law is tried on."""

    def __init__(self, executor: Executor, restart: Callable[[], object], connect: str) -> None:
        self.executor = executor
        self.restart = restart
        """Lose all workers."""
        self.connect = connect
        """How another process gets such a pool."""


def on_processes() -> Iterator[Pool]:
    pool = nb.processes(2)
    yield Pool(pool, lambda: kill(pool), "nb.processes(2)")
    pool.shutdown()


def kill(pool: Any) -> None:
    for worker in pool._crew._workers:
        os.kill(worker.process.pid, signal.SIGKILL)


def on_dask() -> Iterator[Pool]:
    distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster) as client,
    ):
        connect = f"nb.dask(__import__('distributed').Client({cluster.scheduler_address!r}))"
        # a restart under load may lose a nanny with its worker for good: it is not waited for, and no law needs both after it
        yield Pool(nb.dask(client), lambda: client.restart(wait_for_workers=False), connect)


def on_ray() -> Iterator[Pool]:
    ray = remote("ray")
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    connect = f"(__import__('ray').init({ray.get_runtime_context().gcs_address!r}, log_to_driver=False), nb.ray())[1]"
    yield Pool(
        nb.ray(), lambda: [os.kill(pid, signal.SIGKILL) for pid in processes_named("ray::_", "ray::IDLE")], connect
    )
    ray.shutdown()


def on_ipyparallel() -> Iterator[Pool]:
    library = remote("ipyparallel")
    cluster = library.Cluster(n=2, log_level=50, engine_timeout=50)
    client = cluster.start_and_connect_sync(activate=False)
    connect = f"nb.ipyparallel(__import__('ipyparallel').Client(cluster_id={cluster.cluster_id!r}))"
    over = threading.Event()
    keeper = threading.Thread(target=keep, args=(cluster, client, over))
    keeper.start()
    yield Pool(nb.ipyparallel(client), lambda: client.send_signal(signal.SIGKILL, block=False), connect)
    over.set()
    keeper.join()
    client.close()
    cluster.stop_cluster_sync()


def keep(cluster: Any, client: Any, over: threading.Event) -> None:
    """Start engines for those that died, which ipyparallel leaves to others."""
    started = 0
    while not over.wait(0.2):
        missing, started = 2 - len(client.ids), max(0, started - 1)
        if missing > 0 and not started:
            cluster.start_engines_sync(missing)
            started = 50  # rounds, in which they come
        started = started if missing > 0 else 0


def remote(name: str) -> Any:
    """A library whose cluster takes long to start: only where it was asked for."""
    if not os.environ.get("NBBATCH_REMOTE"):
        pytest.skip("make test-remote tries this one")
    return pytest.importorskip(name)


def processes_named(*begins: str) -> list[int]:
    """Of Linux."""
    found = (path for path in Path("/proc").glob("[0-9]*/cmdline"))
    return [int(path.parent.name) for path in found if path.read_text(errors="replace").startswith(begins)]


POOLS = {"processes": on_processes, "dask": on_dask, "ray": on_ray, "ipyparallel": on_ipyparallel}
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::ResourceWarning")]


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    yield from POOLS[request.param]()


@pytest.fixture
def batch(pool: Pool, store: Path) -> Iterator[nb.Batch]:
    with nb.open(store, pool.executor) as opened:
        yield opened


def await_path(path: Path) -> None:
    while not path.exists():
        time.sleep(0.005)


def test_what_runs_is_told(batch: nb.Batch, tmp_path: Path) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"

    @nb.step(timeout=50)  # clusters tell when a call begins where its time is limited
    def waits(i: int) -> None:
        begun.touch()
        await_path(gate)

    run = batch.submit(nb.Job("waits", waits), 7)
    await_path(begun)
    while run.now().is_empty():  # the news of a cluster's worker is on its way
        assert not run.done()
    (row,) = run.now().rows(named=True)
    gate.touch()
    run.wait(20)

    assert (row["step"], row["input"], row["attempt"]) == ("waits", "7", 1)
    assert 0 <= row["seconds"] < 50


def test_results_logs_and_workers_are_told(batch: nb.Batch) -> None:
    @nb.step
    def square(i: int) -> int:
        print(f"squares {i}")
        return i * i

    @nb.step
    def every(values: Iterable[int]) -> list[int]:
        return list(values)

    run = batch.submit(nb.Job("squares", numbers >> square >> every), 40)

    assert run.result(50) == [i * i for i in range(40)]
    assert sorted(run.logs()["text"]) == sorted(f"squares {i}\n" for i in range(40))
    assert all("process-" in worker for worker in run.attempts("square")["worker"])


def test_a_worker_that_dies_once_charges_nobody_else(batch: nb.Batch, tmp_path: Path) -> None:
    """R8"""
    run = batch.submit(each(dies_once(tmp_path / "died"), backoff=0), 60)

    assert run.wait(50) == "COMPLETED"
    assert set(run.chunks("visit").filter(errors=1)["seq"]) <= {20}
    assert run.chunks("visit")["errors"].max() <= 1


def test_an_item_that_kills_its_worker_each_time_fails_alone(batch: nb.Batch) -> None:
    """R8"""

    def die(value: int) -> None:
        if value == 30:
            os._exit(9)

    run = batch.submit(each(die, max_attempts=1, max_failed=9), 100)

    assert run.wait(55) == "COMPLETED"
    assert run.chunks("visit", status="FAILED")["seq"].to_list() == [30]
    assert run.chunks("visit")["errors"].sum() == 1


def test_a_stuck_item_is_told_and_charges_nobody_else(batch: nb.Batch, tmp_path: Path) -> None:
    """C20"""
    told = tmp_path / "told"

    @nb.step(timeout=0.5, max_attempts=1, max_failed=1)
    def stick(i: int) -> None:
        while i == 3:
            if nb.context().cancelled:
                told.touch()
                return
            time.sleep(0.01)

    run = batch.submit(nb.Job("stick", numbers >> stick), 8)

    assert run.wait(30) == "COMPLETED"
    assert run.errors().select("error_type").rows() == [("TimeoutError",)]
    assert run.chunks("stick", status="FAILED")["seq"].to_list() == [3]


def test_a_cancelled_run_is_told_to_its_workers(batch: nb.Batch, tmp_path: Path) -> None:
    """C20"""
    begun, told = tmp_path / "begun", tmp_path / "told"

    def heed(value: int) -> None:
        begun.touch()
        while not nb.context().cancelled:
            time.sleep(0.01)
        told.touch()

    run = batch.submit(each(heed), 1)
    await_path(begun)
    run.cancel()
    await_path(told)


def test_a_run_goes_on_when_all_workers_were_lost(pool: Pool, batch: nb.Batch, tmp_path: Path) -> None:
    """R34"""

    def rest(value: int) -> None:
        (tmp_path / str(value)).touch()
        time.sleep(0.02)

    run = batch.submit(each(rest, max_attempts=2, backoff=0), 60)
    await_path(tmp_path / "10")
    pool.restart()

    assert run.wait(50) == "COMPLETED"
    assert run.chunks("visit")["errors"].sum() <= 2


def test_closing_waits_for_what_runs_and_puts_back_what_does_not(pool: Pool, store: Path, tmp_path: Path) -> None:
    """R7"""
    go_on = tmp_path / "go_on"

    def wait(value: int) -> None:
        with (tmp_path / f"ran {value}").open("a") as file:
            file.write("x")
        while value < 2 and not go_on.exists():
            time.sleep(0.01)

    job = each(wait, max_attempts=1)
    batch = nb.open(store, pool.executor)
    batch.submit(job, 30)
    await_path(tmp_path / "ran 0")
    if engine(batch)._lanes.main.workers > 1:
        await_path(tmp_path / "ran 1")
    closing = threading.Thread(target=batch.close)
    closing.start()
    while not engine(batch)._stopping:
        time.sleep(0.005)
    go_on.touch()
    closing.join()

    with nb.open(store, nb.inline()) as again:
        (run,) = again.resume(job)
        assert run.wait(20) == "COMPLETED"
        assert run.errors().is_empty()
        assert set(run.attempts("visit")["attempt"]) == {1}
    assert {(tmp_path / f"ran {value}").read_text() for value in range(30)} == {"x"}


class Loaded:
    """A big value that notes where it is read."""

    def __init__(self, data: bytes, path: str, reads: list[int] | None = None) -> None:
        self.data, self.path, self.reads = data, path, [] if reads is None else reads

    def __reduce__(self) -> tuple[Any, ...]:
        self.reads.append(1)

        def load(data: bytes, path: str) -> Loaded:
            with Path(path).open("a") as file:
                file.write(f"{os.getpid()}\n")
            return Loaded(data, path)

        return load, (self.data, self.path)


def test_a_big_global_goes_to_each_worker_once_and_that_is_said(
    batch: nb.Batch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = Loaded(os.urandom(1_200_000), str(tmp_path / "loads"))

    def first(value: int) -> None:
        assert len(table.data) == 1_200_000
        time.sleep(0.01)

    def second(value: int) -> None:
        assert table.data

    for step in (first, second):
        assert batch.submit(each(step), 60).wait(40) == "COMPLETED"

    loads = (tmp_path / "loads").read_text().split()
    assert len(loads) == len(set(loads)) <= 2
    assert len([record for record in caplog.records if "table (Loaded, 1.2 MB)" in record.message]) == 1


def test_a_shared_value_is_read_once_and_goes_to_each_worker_once(
    batch: nb.Batch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loads, reads = tmp_path / "loads", list[int]()
    table = nb.shared(Loaded(os.urandom(1_200_000), str(loads), reads))

    def use(value: int) -> None:
        assert len(table.value.data) == 1_200_000

    for _ in range(3):
        assert batch.submit(each(use), 40, new=True).wait(40) == "COMPLETED"

    pids = loads.read_text().split()
    assert len(pids) == len(set(pids)) <= 2
    assert len(reads) <= 2  # for its digest, and to send it
    assert "table" not in caplog.text


def test_big_outputs_stay_in_the_folder_of_values_until_a_step_reads_them(
    pool: Pool, store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "values"

    @nb.step
    def make(i: int) -> bytes:
        return bytes([i]) * 300_000

    @nb.step
    def first(data: bytes) -> int:
        assert len(data) == 300_000
        return data[0]

    @nb.step
    def every(values: Iterable[int]) -> list[int]:
        return list(values)

    with nb.open(store, pool.executor, values=folder) as batch:
        run = batch.submit(nb.Job("big", numbers >> make >> first >> every), 5)

        assert run.result(50) == list(range(5))
        assert len([path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 290_000]) == 5


SCRIPT = """
import sys, time, nbbatch as nb
from collections.abc import Iterable, Iterator
@nb.step
def numbers(n: int) -> Iterator[int]: yield from range(n)
@nb.step(max_attempts=2, backoff=0)
def work(i: int) -> int:
    time.sleep(0.01)
    return i
@nb.step
def every(values: Iterable[int]) -> list[int]: return list(values)
job = nb.Job("work", numbers >> work >> every)
if __name__ == "__main__":
    batch = nb.open(sys.argv[1], {pool})
    run = batch.submit(job, 100)
    while run.steps()["completed"][1] < 20: time.sleep(0.01)
    print("far", flush=True)
    run.wait()
"""


def test_a_coordinator_that_is_killed_loses_nothing(pool: Pool, store: Path, tmp_path: Path) -> None:
    """R1"""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{pool}", pool.connect))
    child = subprocess.Popen([sys.executable, str(script), str(store)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while child.stdout.readline().strip() != "far":
        assert child.poll() is None
    child.kill()
    child.wait()
    child.stdout.close()

    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(script.read_text(), str(script), "exec"), space)
    with nb.open(store, pool.executor) as batch:
        (run,) = batch.resume(space["job"])
        assert sorted(run.result(50)) == list(range(100))
        assert count(run).get("FAILED", 0) == 0


ELSEWHERE = """
mount -t tmpfs none "$2" && hostname elsewhere &&
exec "$0" -W ignore -m distributed.cli.dask_worker "$1" --nthreads 2 --no-nanny --no-dashboard --local-directory "$2"
"""


class Words(BaseModel):
    text: str


@pytest.mark.skipif(
    subprocess.run("unshare --mount --uts true", shell=True, capture_output=True).returncode != 0,
    reason="needs namespaces",
)
def test_workers_on_another_host_have_what_steps_need_and_no_file_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")
    store, table = tmp_path / "store.duckdb", os.urandom(200_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # so that nothing temporary is seen there either

    @nb.step
    def places(params: Words) -> Iterator[int]:
        yield from range(20)

    @nb.step(max_attempts=1)
    def read(place: int, params: Words) -> str:
        assert not store.exists()
        with nb.context().attachment("names") as file:
            return f"{file.read().decode()} {len(table)} {len(params.text)}"

    @nb.step
    def kinds(found: Iterable[str]) -> list[str]:
        return sorted(set(found))

    with (
        distributed.LocalCluster(
            processes=False, protocol="tcp://", host="127.0.0.1", n_workers=0, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
        subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--uts",
                "sh",
                "-c",
                ELSEWHERE,
                sys.executable,
                cluster.scheduler_address,
                str(tmp_path),
            ],
            stderr=subprocess.DEVNULL,
        ) as worker,
    ):
        try:
            with nb.open(store, nb.dask(client)) as batch:
                run = batch.submit(
                    nb.Job("far", places >> read >> kinds), Words(text="a" * 150_000), attach={"names": b"Ada"}
                )

                assert run.result(50) == ["Ada 200000 150000"]
                assert {name.partition("@")[2] for name in run.attempts("read")["worker"]} == {"elsewhere"}
        finally:
            worker.kill()


def goes_alone(folder: Path) -> Callable[[int], None]:
    """What fails where another one runs beside it."""

    def run(value: int) -> None:
        (folder / "runs").mkdir()
        time.sleep(0.02)
        (folder / "runs").rmdir()

    return run


def test_no_more_run_at_once_than_a_cluster_has_of_a_resource(store: Path, tmp_path: Path) -> None:
    distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")
    with (
        distributed.LocalCluster(
            processes=False,
            n_workers=1,
            threads_per_worker=3,
            resources={"GPU": 1},
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
        nb.open(store, nb.dask(client, resources={"GPU": 1})) as batch,
    ):
        run = batch.submit(each(goes_alone(tmp_path), max_attempts=1), 6)

        assert run.wait(30) == "COMPLETED"
        # its worker is this very process, whose loggers stay as they are
        assert not [
            each
            for each in logging.getLogger("nbbatch").handlers + logging.root.handlers
            if "nbbatch" in repr(type(each))
        ]
        assert engine(batch)._lanes.main.workers == 1
        with nb.open(":memory:", nb.dask(client, resources={"TPU": 1})) as other:
            waits = other.submit(each(print), 1)
            while "the Dask cluster has none that has {'TPU': 1}" not in repr(waits):
                assert not waits.done()


@pytest.mark.parametrize("pool", ["ray"], indirect=True)
def test_no_more_run_at_once_than_there_are_gpus(pool: Pool, store: Path, tmp_path: Path) -> None:
    with nb.open(store, nb.ray(num_cpus=0, num_gpus=1)) as batch:
        run = batch.submit(each(goes_alone(tmp_path), max_attempts=1), 6)

        assert run.wait(50) == "COMPLETED"
        assert engine(batch)._lanes.main.workers == 1


@pytest.mark.parametrize("why", ["its user scales it", "it adapts to its load"])
def test_workers_that_come_later_work_too(why: str, store: Path) -> None:
    distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
        nb.open(store, nb.dask(client)) as batch,
    ):
        run = batch.submit(each(lambda value: time.sleep(0.05), max_attempts=1), 60)
        while "has no workers" not in repr(run):
            assert not run.done()
        if why == "its user scales it":
            cluster.scale(2)
        else:
            cluster.adapt(minimum=0, maximum=2, interval="20ms")

        assert run.wait(40) == "COMPLETED"
        starts = run.attempts("visit").sort("started")
        assert any(starts["started"][1:].to_numpy() < starts["ended"][:-1].to_numpy())
        while cluster.scheduler.tasks or (cluster.workers and why == "it adapts to its load"):
            time.sleep(0.01)


def test_a_scheduler_that_is_gone_charges_nothing_and_is_told(store: Path) -> None:
    """R34"""
    distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")
    cluster = distributed.LocalCluster(
        n_workers=1, processes=False, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    client = distributed.Client(cluster)
    job = each(lambda value: time.sleep(0.01), max_attempts=1)
    with nb.open(store, nb.dask(client)) as batch:
        run = batch.submit(job, 300)
        while run.steps()["completed"][1] < 5:
            time.sleep(0.01)
        client.close()
        cluster.close()
        while "takes no work" not in repr(run) and "has no workers" not in repr(run):
            assert not run.done()
        with pytest.raises(TimeoutError, match=r"it goes on, but the executor (takes no work|has no workers)"):
            run.wait(0)
        assert "has no workers (the Dask client was closed)" in repr(run)  # not what asking a closed one raises
        assert "batch.close() and nb.open() with another executor" in repr(run)
        assert run.errors().is_empty()
    with nb.open(store, nb.inline()) as again:
        (run,) = again.resume(job)
        assert run.wait(30) == "COMPLETED"


def test_a_scheduler_that_is_reached_anew_knows_what_the_one_before_did(store: Path) -> None:
    distributed: Any = pytest.importorskip("distributed", reason="the extra nbbatch[dask] is not installed")

    def stick(value: int) -> None:
        while not nb.context().cancelled:
            time.sleep(0.005)

    with (
        distributed.LocalCluster(processes=False, n_workers=1, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster) as client,
        nb.open(store, nb.dask(client)) as batch,
    ):
        while not (topics := cluster.scheduler._broker._topics):
            time.sleep(0.005)
        topics.clear()  # as they are in one that was started in its place
        before = client.scheduler_comm
        client.loop.add_callback(before.comm.abort)
        while client.scheduler_comm in (before, None):
            time.sleep(0.005)

        run = batch.submit(each(stick, timeout=0.05, max_attempts=1), 1)

        assert run.wait(20) == "FAILED"  # that it began was told
        assert run.errors()["error_type"].to_list() == ["TimeoutError"]


def test_a_controller_of_ipyparallel_that_is_gone_charges_nothing_and_is_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R34"""
    library = remote("ipyparallel")
    monkeypatch.setattr("nbbatch.worker.on_ipyparallel.ANSWER_SECONDS", 2)
    cluster = library.Cluster(n=1, log_level=50, engine_timeout=50)
    client = cluster.start_and_connect_sync(activate=False)
    job = each(lambda value: time.sleep(0.01), max_attempts=1)
    with nb.open(store, nb.ipyparallel(client)) as batch:
        run = batch.submit(job, 300)
        while run.steps()["completed"][1] < 5:
            assert not run.done()
        cluster.controller.signal(signal.SIGKILL)
        while "controller has not answered" not in repr(run):
            assert not run.done()
        assert run.errors().is_empty()
    client.close()
    cluster.stop_cluster_sync()
    with nb.open(store, nb.inline()) as again:
        (run,) = again.resume(job)
        assert run.wait(30) == "COMPLETED"


LATE = """
import time, ray, nbbatch as nb
from collections.abc import Iterator
from ray.cluster_utils import Cluster
@nb.step
def numbers(n: int) -> Iterator[int]: yield from range(n)
@nb.step(max_attempts=1)
def work(i: int) -> None: time.sleep(0.01)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 10**8, "include_dashboard": False})
ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
with nb.open(":memory:", nb.ray()) as batch:
    run = batch.submit(nb.Job("late", numbers >> work), 20)
    while "has no workers" not in repr(run): assert not run.done()
    cluster.add_node(num_cpus=1, object_store_memory=10**8)
    assert run.wait(60) == "COMPLETED"
    assert batch._engine._lanes.main.workers == 1
ray.shutdown()
cluster.shutdown()
"""


def test_a_node_of_ray_that_comes_later_works_too(tmp_path: Path) -> None:
    remote("ray")
    script = tmp_path / "late.py"
    script.write_text(LATE)
    subprocess.run([sys.executable, "-W", "ignore", str(script)], check=True, timeout=150)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: nb.dask(3), "takes a distributed.Client"),
        (lambda: nb.ray(num_cpus=0), "at least one of them above 0"),
        (lambda: nb.ray(num_gpus=-1), "numbers from 0"),
        (lambda: nb.executor(3), "takes a concurrent.futures.Executor"),  # type: ignore[arg-type]
        (lambda: nb.executor(nb.threads(1), lost=3), "exception classes"),  # type: ignore[arg-type]
        (lambda: nb.executor(nb.threads(1), target_ms=0), "milliseconds"),
        (lambda: nb.executor(nb.threads(1), workers=0), "whole number"),
    ],
)
def test_what_makes_no_pool_is_refused(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        wrong()


def test_an_error_that_means_a_lost_worker_is_known_by_what_its_user_says(store: Path) -> None:
    class Gone(Exception):
        pass

    class Flaky(Executor):
        left = 4

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0 or len(args[0].items) == 1:
                return inner.submit(fn, *args, **kwargs)
            future: Any = nb.inline().submit(lambda: 1 / 0)
            future._exception = Gone()
            return future

    inner = nb.processes(1)
    described = nb.executor(Flaky(), workers=1, lost=Gone, target_ms=20)
    with inner, nb.open(store, described) as batch:
        run = batch.submit(each(lambda value: None, max_attempts=1), 50)

        assert run.wait(30) == "COMPLETED"
        assert run.errors().is_empty()


def test_a_cluster_is_asked_by_one_thread_however_soon_it_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "LOOK_SECONDS", 0.01)

    class Asked(adapters.Elsewhere):
        def count(self) -> int:
            return 1

    pool, before = Asked(), set(threading.enumerate())
    for _ in range(3):
        pool.close("a")
        pool.open("a", print, float)
        pool.open("b", print, float)
        pool.close("b")
    *earlier, last = (thread for thread in threading.enumerate() if thread not in before)
    for thread in earlier:
        thread.join(10)

    assert not any(thread.is_alive() for thread in earlier)
    assert last.is_alive()
    pool.close("a")
    last.join(10)
    assert not last.is_alive()


def test_openings_of_one_pool_of_ray_share_what_passes_words_on_until_it_is_dropped() -> None:
    """Each new one would take a warm worker process."""
    made, killed = list[Any](), list[Any]()
    node = "one"

    def make() -> Any:
        made.append(SimpleNamespace(tell=SimpleNamespace(remote=print)))
        return made[-1]

    class Unwatched(OnRay):
        def watch(self) -> None: ...

    library = SimpleNamespace(
        remote=lambda **_: lambda _: SimpleNamespace(remote=make),
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: node, get_job_id=lambda: "1"),
        kill=killed.append,
    )
    pool = Unwatched(library, {"CPU": 1, "GPU": 0})
    for _ in range(2):
        pool.open("a", print, float)
        pool.close("a")
    assert len(made) == 1

    node = "another"  # after ray.shutdown() and ray.init()
    pool.open("a", print, float)
    pool.close("a")
    assert len(made) == 2
    assert not killed
    del pool
    gc.collect()
    assert killed == made or killed == made[::-1]

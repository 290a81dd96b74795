"""Steps in worker processes: their context, their errors, and workers that die."""

from __future__ import annotations

import atexit
import linecache
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import timedelta
from functools import cached_property
from importlib import import_module, reload
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import BaseModel

import nbbatch as nb
from nbbatch.worker import process_worker, processes, received, travel
from nbbatch.worker.adapters import WorkerLost
from tests.jobs import dies_once, each, numbers
from tests.kit import count, engine


@pytest.fixture
def processed(store: Path) -> Iterator[nb.Batch]:
    """A batch on two worker processes."""
    executor = nb.processes(2)
    with nb.open(store, executor=executor) as opened:
        yield opened
    executor.shutdown(wait=True)


def test_context_tells_the_right_ids_in_processes(processed: nb.Batch) -> None:
    """C16"""

    @nb.step
    def who(i: int) -> tuple[int, int, int, bool, str]:
        here = nb.context()
        return here.instance, here.chunk, here.attempt, here.cancelled, here.step

    @nb.step
    def collect(ids: Iterable[tuple[int, int, int, bool, str]]) -> list[tuple[int, int, int, bool, str]]:
        return list(ids)

    run = processed.submit(nb.Job("who", numbers >> who >> collect), 20)

    assert sorted(run.result(30)) == [(run.id, chunk, 1, False, "who") for chunk in range(2, 22)]


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = list[logging.LogRecord]()
        self.setFormatter(logging.Formatter("%(order)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.levelno == logging.ERROR:
            raise OSError("the file of logs is gone")


@pytest.fixture
def shop() -> Iterator[Heard]:
    """What the logger "shop" of this process hears, as a notebook sets it."""
    logger, heard = logging.getLogger("shop"), Heard()
    logger.setLevel(logging.INFO)
    logger.addHandler(heard)
    yield heard
    logger.removeHandler(heard)
    logger.setLevel(logging.NOTSET)


def logs_a_lot(value: int) -> None:
    class Order:
        def __str__(self) -> str:
            return f"order {value}"

    log = logging.getLogger("shop.orders")
    log.debug("not asked for")
    log.info("at %d", value, extra={"order": Order()})
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("at %s", "one", "too many", extra={"order": None})  # noqa: PLE1205 - as it happens


def test_what_workers_log_at_the_levels_of_the_notebook_is_kept_as_in_threads_and_heard_there(
    processed: nb.Batch, shop: Heard, tmp_path: Path
) -> None:
    """C15, C16"""
    run = processed.submit(each(logs_a_lot), 3)
    assert run.wait(30) == "COMPLETED"
    with nb.open(tmp_path / "threads.duckdb") as threaded, pytest.MonkeyPatch.context() as change:
        change.setattr(shop, "emit", lambda _: None)
        other = threaded.submit(each(logs_a_lot), 3)
        other.wait(30)
        expected = sorted(each for text in other.logs()["text"] for each in text.splitlines() if "File" not in each)

    kept = sorted(each for text in run.logs()["text"] for each in text.splitlines() if "File" not in each)
    assert kept == expected
    assert sum("INFO shop.orders: at" in each for each in kept) == 3
    said = [shop.format(record) for record in shop.records if record.levelno == logging.INFO]
    assert sorted(said) == [f"order {value} at {value}" for value in range(3)]
    odd = [record for record in shop.records if record.levelno == logging.ERROR]
    assert ["ValueError: odd" in shop.format(record) for record in odd] == [True] * 3
    chunks = run.chunks("visit")["id"].to_list()
    assert sorted(vars(record)["nb_chunk"] for record in odd) == chunks
    assert os.getpid() not in {record.process for record in odd}
    logging.getLogger("shop").setLevel(logging.CRITICAL)
    shop.records.clear()
    silent = processed.submit(each(logs_a_lot), 2)
    assert silent.wait(30) == "COMPLETED"
    assert (shop.records, silent.logs().is_empty()) == ([], True)


def test_an_error_that_cannot_travel_is_stored_readably(processed: nb.Batch) -> None:
    """C17"""

    def fail(value: int) -> None:
        class Bound(Exception):
            def __init__(self, lock: object) -> None:
                super().__init__("holds a \0 and \ud800 ✓")
                self.lock = lock

            def __reduce__(self) -> str:
                raise TypeError("not to be pickled")

        raise Bound(object())

    run = processed.submit(each(fail, max_attempts=1), 1)

    assert run.wait(30) == "FAILED"
    error = run.errors().row(0, named=True)
    assert error["error_type"].endswith("Bound")
    assert error["error"] == "holds a \\x00 and \\ud800 ✓"
    assert "in fail" in error["traceback"]


def test_what_worker_processes_run_is_told(processed: nb.Batch, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    os.mkfifo(flag)

    def wait(value: int) -> None:
        if value == 3:
            flag.read_bytes()

    run = processed.submit(each(wait), 4)
    with flag.open("wb"):  # opens once a worker reads, which it does until this closes
        (row,) = run.now().rows(named=True)
    run.wait(30)
    (ended,) = run.attempts("visit").filter(chunk=row["chunk"]).rows(named=True)

    assert (row["step"], row["input"], row["worker"]) == ("visit", "3", ended["worker"])
    assert abs(row["started"] - ended["started"]) <= timedelta(milliseconds=1)  # of one right behind a quick one


def test_a_dead_worker_costs_what_it_ran_one_attempt_and_the_run_goes_on(processed: nb.Batch, tmp_path: Path) -> None:
    """R8"""
    run = processed.submit(each(dies_once(tmp_path / "killed"), backoff=0), 40)

    assert run.wait(60) == "COMPLETED"
    assert count(run) == {"COMPLETED": 41}
    charged = run.attempts("visit").filter(status="ERRORED")
    killer = run.chunks("visit")["id"].to_list()[20]
    assert charged["chunk"].to_list() == [killer]


def test_a_chunk_that_kills_its_worker_every_time_fails_alone(processed: nb.Batch) -> None:
    """R8"""

    def die(value: int) -> None:
        if value == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    run = processed.submit(each(die, backoff=0, max_attempts=3), 30)

    assert run.wait(120) == "FAILED"
    assert count(run) == {"COMPLETED": 30, "FAILED": 1}
    assert run.chunks("visit", status="FAILED")["seq"].to_list() == [5]
    (failed,) = run.chunks("visit", status="FAILED")["id"]
    assert f"run.chunk({failed}).input is what it was given; replay() and debug() run it in this process" in str(
        run.exception()
    )
    assert "debug() stops" not in str(run.exception())  # it would end this very process
    assert "[visit]" in str(run.failures())  # no line of the step raised


def test_a_process_past_its_time_is_killed_and_no_other_one(processed: nb.Batch, tmp_path: Path) -> None:
    """C20"""
    hung, begun, go_on = tmp_path / "hung", tmp_path / "begun", tmp_path / "go_on"
    os.mkfifo(begun)
    os.mkfifo(go_on)

    @nb.step(timeout=1, backoff=0)
    def hang_once(value: int) -> None:
        if value == 3 and not hung.exists():
            hung.write_text(str(os.getpid()))
            signal.pause()

    @nb.step(max_attempts=1)
    def beside(value: int) -> None:
        begun.write_text("x")
        go_on.read_text()

    slow = processed.submit(nb.Job("beside", beside), 0)
    assert begun.read_text() == "x"  # waits for it
    run = processed.submit(nb.Job("hang", numbers >> hang_once), 5)

    assert run.wait(50) == "COMPLETED"
    assert run.errors()["error_type"].to_list() == ["TimeoutError"]
    assert run.attempts("hang_once").filter(attempt=2)["chunk"].to_list() == run.errors()["chunk"].to_list()
    with pytest.raises(ProcessLookupError):
        os.kill(int(hung.read_text()), 0)
    go_on.write_text("x")
    assert slow.wait(50) == "COMPLETED"
    assert slow.attempts().select("attempt", "status").rows() == [(1, "COMPLETED")]


def test_starting_a_process_does_not_count_as_time_of_an_attempt(store: Path) -> None:
    """C20"""
    executor = nb.processes(2)
    with nb.open(store, executor=executor) as batch:
        run = batch.submit(each(lambda value: None, timeout=0.05), 6)

        assert run.wait(50) == "COMPLETED"
        assert run.errors().is_empty()
    executor.shutdown(wait=True)


def test_a_worker_on_another_host_is_named_with_it(processed: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    here = socket.gethostname()
    near = processed.submit(each(print), 2)
    near.wait(30)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")  # of this process: its workers have the real one
    far = processed.submit(each(print), 3)
    far.wait(30)

    names = [set(run.attempts("visit")["worker"]) for run in (near, far)]
    assert all(name.startswith("process-") and "@" not in name for name in names[0])
    assert names[1] == {f"{name.partition('@')[0]}@{here}" for name in names[1]}


def test_a_function_with_a_cache_travels_to_worker_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import functools\n"
        "import nbbatch as nb\n"
        "@functools.cache\n"
        "def fib(n):\n"
        "    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "@nb.step\n"
        "def give(n: int) -> int:\n"
        "    return n\n"
        "@nb.step\n"
        "def take(n: int) -> None:\n"
        "    assert fib(n) == 102_334_155\n"
        "with nb.processes(1) as pool, nb.open(':memory:', executor=pool) as batch:\n"
        "    print(batch.submit(nb.Job('fib', give >> take), 40).wait())\n"
    )

    assert subprocess.check_output([sys.executable, str(script)], text=True).strip() == "COMPLETED"


KINDS_OF_A_SCRIPT = """
from __future__ import annotations
import dataclasses, enum, functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional
import nbbatch as nb

class Colour(enum.Enum):
    RED = enum.auto()

@dataclasses.dataclass
class Part:
    number: int
    colour: Colour = Colour.RED
    above: Optional[Part] = None

@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    parts: list[Part] = dataclasses.field(default_factory=list)
    start: dataclasses.InitVar[int] = 0

class Twice:
    @functools.cached_property
    def number(self) -> int:
        return 2

class Pair(NamedTuple):
    whole: Whole
    number: int = 3

missing = dataclasses.MISSING

@functools.singledispatch
def shown(value: object) -> str:
    return "any"

@shown.register
def _(value: int) -> str:
    return f"int, {shown('')}"

@nb.step(max_attempts=1)
def parts(given: Part) -> Iterator[Part]:
    yield from (Part(number, above=given) for number in range(3))

@nb.step(max_attempts=1)
def whole(part: Part) -> Whole:
    assert missing is dataclasses.MISSING
    assert Twice().number == 2
    assert shown(1) == "int, any"
    return Whole(parts=[part])

@nb.step(max_attempts=1)
def pair(given: Whole) -> Pair:
    return Pair(given)

@nb.step
def all_of(pairs: Iterable[Pair]) -> list[Pair]:
    return list(pairs)

if __name__ == "__main__":
    with nb.open(":memory:", nb.processes(1)) as batch:
        first = Part(9)
        got = batch.submit(nb.Job("kinds", parts >> whole >> pair >> all_of), first).result(60)
        assert got == [Pair(Whole(parts=[Part(number, above=first)])) for number in range(3)], got
"""


def test_classes_of_a_script_travel_with_the_types_of_their_fields_and_without_copies_of_what_is_one_of_a_kind(
    tmp_path: Path,
) -> None:
    script = tmp_path / "kinds.py"
    script.write_text(KINDS_OF_A_SCRIPT)
    said = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_lines_of_a_notebook_cell_are_in_tracebacks_of_workers() -> None:
    text, name = "def fit(n):\n    return 1 / n\n", "/tmp/ipykernel_1/2.py"
    names = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    code, _ = travel.Values().packed(names["fit"], [("step 'fit'", names["fit"])])
    del linecache.cache[name]  # as in a worker

    with pytest.raises(ZeroDivisionError) as raised:
        received.loads(code)[0](0)
    assert "    return 1 / n\n" in "".join(traceback.format_exception(raised.value))


class Words(BaseModel):
    text: str


def test_big_parameters_are_no_part_of_each_micro_batch(processed: nb.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = list[int]()
    sends = processes.dumps
    monkeypatch.setattr(processes, "dumps", lambda call: (data := sends(call), sizes.append(len(data)))[0])

    @nb.step
    def places(params: Words) -> Iterator[int]:
        yield from range(0, len(params.text), 100_000)

    @nb.step
    def sign(place: int, params: Words) -> str:
        return params.text[place]

    @nb.step
    def signs(found: Iterable[str]) -> str:
        return "".join(found)

    run = processed.submit(nb.Job("signs", places >> sign >> signs), Words(text="a" * 1_000_000 + "b" * 1_000_000))

    assert run.result(30) == 10 * "a" + 10 * "b"
    assert 0 < max(sizes) < 100_000
    assert engine(processed)._packer._values._paths == {}


def test_an_array_that_was_changed_in_place_is_as_it_is_now_and_the_last_few_are_kept(
    processed: nb.Batch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(travel, "MOST", 2)
    table = np.zeros(300_000)

    @nb.step
    def look_up(i: int) -> float:
        return float(table[i])

    @nb.step
    def total(values: Iterable[float]) -> float:
        return sum(values)

    job = nb.Job("total", numbers >> look_up >> total)
    totals = []
    for value in (0.0, 0.0, 1.0, 1.0, 0.0, 2.0, 3.0, 4.0, 0.0):
        table[2] = value
        totals.append(processed.submit(job, 4, new=True).result(30))

    assert totals == [0, 0, 1, 1, 0, 2, 3, 4, 0]
    assert caplog.text.count("uses table (ndarray, 2.4 MB)") == 1
    files = engine(processed)._packer._values._paths.values()
    (folder,) = {path.parent for path in files}
    assert len(files) == 2
    assert {*files, folder / "lock"} == set(folder.iterdir())
    processed.close()
    assert not folder.exists()


def test_a_step_pickles_by_name_what_the_notebook_has_by_a_name(processed: nb.Batch) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "pickle": pickle}
    exec(
        "class Model: pass\n"
        "def scale(x): return x\n"
        "def keep(value): assert pickle.loads(pickle.dumps((Model(), scale)))[1] is scale",
        space,
    )

    for name in ("first", "second"):  # each brings a function of its own
        assert processed.submit(each(space["keep"], name, max_attempts=1), 4).wait(30) == "COMPLETED"


def test_a_step_may_use_more_big_values_than_workers_keep(processed: nb.Batch) -> None:
    space: dict[str, Any] = {"__name__": "__main__", **{f"table{place}": bytes(120_000) for place in range(70)}}
    exec(f"def use(value): return len({' + '.join(name for name in space if name != '__name__')})", space)

    run = processed.submit(each(space["use"]), 9)

    assert run.wait(30) == "COMPLETED"


def test_a_big_value_that_methods_use_is_found_once(caplog: pytest.LogCaptureFixture) -> None:
    table = bytes(1_200_000)

    class Model:
        limits: ClassVar = [1, 2]

        @property
        def size(self) -> int:
            return len(table)

        @cached_property
        def kept(self) -> int:
            return len(table)

        @staticmethod
        def first() -> int:
            return table[0]

        @classmethod
        def fit(cls, value: int) -> int:
            return len(table) + value

    _, files = travel.Values().packed(Model, [("step 'find'", each), ("step 'fit'", Model.fit)])
    assert len(files) == 1
    (said,) = caplog.messages
    assert said.startswith("step 'fit' uses table (bytes, 1.2 MB)")


def test_shared_values_in_what_a_variable_holds_travel_apart_from_it() -> None:
    class Rates:
        def __init__(self) -> None:
            self.table = nb.shared(bytes(200_000))

    rates = Rates()
    small, big = {"deep": [rates]}, {"deep": (rates, bytes(150_000))}

    def use() -> tuple[Any, Any]:
        return small, big

    values = travel.Values()
    code, files = values.packed(use, [("step 'use'", use)])
    received.find(files)
    found, held = received.loads(code)[0]()

    assert len(code) < 10_000
    assert sorted(Path(file).stat().st_size // 10_000 for file in files.values()) == [15, 20]
    assert found["deep"][0].table is held["deep"][0].table
    assert (found["deep"][0].table.value, held["deep"][1]) == (rates.table.value, big["deep"][1])


def test_a_shared_value_is_code_by_what_it_holds() -> None:
    def code(value: object) -> str:
        held = nb.shared(value)

        @nb.step
        def use(i: int) -> str:
            return str(held.value)

        return use.fingerprint

    assert code(b"a" * 9) == code(b"a" * 9) != code(b"b" * 9)
    assert code(np.zeros(200_000)) == code(np.zeros(200_000)) != code(np.ones(200_000))


def test_a_shared_value_that_is_used_as_what_it_holds_says_how_that_is_written() -> None:
    table: Any = nb.shared(np.ones(3))

    with pytest.raises(AttributeError, match=r"no 'sum' of its own: write \.value, as in table\.value\.sum"):
        table.sum()
    with pytest.raises(TypeError, match=r"write \.value, as in table\.value\[…\]"):
        table[0]
    assert pickle.loads(pickle.dumps(copy(table))).value.sum() == 3


def test_no_call_of_many_threads_is_left_unheard() -> None:
    """R34"""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns in the midst of everything
    try:
        with nb.processes(2) as pool, ThreadPoolExecutor(4) as callers:
            calls = callers.map(lambda value: pool.submit(abs, -value).result(20), range(3_000))
            assert list(calls) == list(range(3_000))
    finally:
        sys.setswitchinterval(before)


def test_what_is_around_a_step_is_as_in_this_process_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def around(module: str) -> tuple[str | None, str | None, str, str]:
        return os.getenv("NEW"), os.getenv("OLD"), str(Path.cwd()), import_module(module).__name__

    monkeypatch.setenv("OLD", "here")
    with nb.processes(1) as pool:
        assert pool.submit(around, "json").result(20) == (None, "here", str(Path.cwd()), "json")

        monkeypatch.setenv("NEW", "1")
        monkeypatch.delenv("OLD")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "written_since.py").touch()
        monkeypatch.syspath_prepend(tmp_path)

        assert pool.submit(around, "written_since").result(20) == ("1", None, str(tmp_path), "written_since")


def test_a_module_that_is_loaded_anew_here_is_so_in_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (text := tmp_path / "edited.py").write_text("VALUE = 1")
    monkeypatch.syspath_prepend(tmp_path)
    edited = import_module("edited")

    with nb.processes(2) as pool:
        values = [pool.submit(lambda: edited.VALUE) for _ in range(4)]
        assert {each.result(20) for each in values} == {1}

        text.write_text("VALUE = 22")
        assert pool.submit(lambda: edited.VALUE).result(20) == 1  # as it is here, too

        reload(edited)
        values = [pool.submit(lambda: edited.VALUE) for _ in range(4)]
        assert {each.result(20) for each in values} == {22}


def test_processes_that_a_step_starts_are_as_in_this_process_and_end_when_asked() -> None:
    def own() -> tuple[list[int], str | None]:
        with multiprocessing.Pool(1) as inner:
            return inner.map(abs, [-1]), multiprocessing.get_start_method()

    with nb.processes(1) as pool:
        assert pool.submit(own).result(20) == ([1], multiprocessing.get_start_method())


def test_programs_of_a_step_end_with_its_worker_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(held := tmp_path / "held")

    def start() -> None:
        with held.open("w") as out:
            subprocess.run("sleep 20; echo late", stdout=out, shell=True)

    with nb.processes(1) as pool:
        call = pool.submit(start)
        with held.open() as there:  # once the step has begun
            pool.kill(call)
            assert there.read() == ""  # ends when nobody holds it any more

        with pytest.raises(WorkerLost):
            call.result(20)


def test_what_libraries_do_at_the_end_of_a_process_is_done_in_workers(tmp_path: Path) -> None:
    with nb.processes(1) as pool:
        pool.submit(atexit.register, (tmp_path / "tidied").touch).result(20)

    assert (tmp_path / "tidied").exists()


def test_a_worker_ends_with_its_pool_whatever_a_step_has_left_there() -> None:
    def leave() -> None:
        process_worker.LEAVE_SECONDS = 0.1
        threading.Thread(target=threading.Event().wait).start()
        sys.stdout.close()

    with nb.processes(1) as pool:
        pool.submit(leave).result(20)
        assert (worker := pool._crew._workers[0]).process.is_alive()

    assert worker.process.exitcode == 0

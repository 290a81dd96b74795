"""Chains of quick steps whose attempts follow at once in one worker: all that is stored of them is as if each had been claimed by itself."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch.base import ranges
from nbbatch.engine import completions, fused
from tests.crash import fused as killer
from tests.kit import HandClock, engine, settle
from tests.test_failed_commits import HUGE, agrees


@pytest.fixture
def quick(store: Path, clock: HandClock) -> Iterator[nb.Batch]:
    """A thread, and a clock moved by hand: no attempt takes any time."""
    with nb.open(store, workers=1, clock=clock) as opened:
        yield opened


def followers(batch: nb.Batch) -> int:
    """The last chunk that followed at once; 0 without any."""
    return engine(batch).store.ids._given


def chain(
    *steps: Callable[[Any], Any], first: Callable[[int], Iterator[int]] | None = None, **options: Any
) -> nb.Job[int, Any]:
    """n → n, and then the steps."""

    def emit(n: int) -> Iterator[int]:
        yield n

    made: Any = nb.step(first or emit)
    names: list[str] = []
    for each in steps:
        name = getattr(each, "name", None) or each.__name__
        names.append(name)
        again = "" if names.count(name) == 1 else names.count(name)
        made = made >> (each if hasattr(each, "options") else nb.step(name=f"{name}{again}")(each))
    return nb.Job("chain", made, **options)


def known(batch: nb.Batch, job: nb.Job[int, Any], value: int = 0) -> int:
    """Have all its steps be known to be quick; returns the last chunk."""
    for _ in range(3):
        batch.submit(job, value, new=True).wait(20)
    return followers(batch)


def add(n: int) -> int:
    return n + 1


def end(n: int) -> None:
    pass


# --- the same as one by one ----------------------------------------------------------------------


def told(run: nb.JobHandle[Any]) -> list[list[tuple[Any, ...]]]:
    """All that is stored of a run; chunks are named by their way from the first one, as others may be made first."""
    chunks, way = run.chunks(), dict[int | None, str]()
    for chunk, parent, seq in chunks.select("id", "parent", "seq").rows():
        way[chunk] = f"{way.get(parent, '')}.{seq}"
    found: list[list[tuple[Any, ...]]] = []
    for frame in (chunks, run.attempts(), run.history(), run.steps()):
        ids = [name for name in ("id", "chunk", "parent") if name in frame.columns]
        named = frame.with_columns(
            pl.col(name).replace_strict(way, default=None, return_dtype=pl.String) for name in ids
        )
        found.append(named.drop("event", "instance", "worker", strict=False).rows())
    return found


def moody(name: str, mood: str, odd: set[int]) -> Callable[[int], int]:
    """A step that behaves in its own way where its input is odd to it."""

    def work(n: int) -> int:
        here = nb.context()
        if n % 10 in odd:
            print(f"{name} has {n}")
            here.log.info("attempt %d", here.attempt)
            if mood == "warns":
                warnings.warn(f"{n} is odd", stacklevel=1)
                here.recovered("so it is")
                here.records(7)
            elif mood == "waits" and here.attempt < 3:
                raise nb.RetryLater(5)
            elif mood == "skips":
                raise nb.SkipChunk("not this one")
            elif mood == "fails":
                raise nb.FailChunk("never")
            elif mood == "stumbles" and here.attempt == 1:
                raise OSError("once")
            elif mood == "ends":
                raise nb.FailJob("all of it")
        return n + 1

    work.__name__ = name
    return work


MOODS = [  # the last ends a run at what moment ever, where others run beside it
    "",
    "warns",
    "waits",
    "skips",
    "fails",
    "stumbles",
    "ends",
]


def total(values: Iterable[int]) -> int:
    return sum(values)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_stored_is_as_if_each_attempt_had_been_claimed_by_itself(
    quick: nb.Batch, clock: HandClock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)

    def emit(n: int) -> Iterator[int]:
        yield from range(n % 7) if seed % 2 else [n]

    steps: list[Any] = []
    for at in range(chance.randint(2, 4)):
        mood, odd = chance.choice(MOODS[: -1 if seed % 2 else None]), {chance.randrange(10) for _ in range(3)}
        steps.append(
            nb.step(gate=chance.random() < 0.2, max_attempts=3, backoff=nb.Backoff(1, jitter=0))(
                moody(f"step{at}", mood, odd)
            )
        )
    job = chain(
        *steps, nb.step(total) if chance.random() < 0.5 else nb.step(end), first=emit, max_failed=chance.choice([0, 2])
    )
    for n in (11, 12, 13):
        worked_off(quick, clock, job, n)
    before = followers(quick)

    for n in chance.sample(range(20, 40), 2):
        found: list[Any] = []
        for is_on in (True, False):
            monkeypatch.setattr(fused, "IS_ON", is_on)
            at = clock.now()
            found.append((told(worked_off(quick, clock, job, n, from_us=at)), at))
        assert untimed(*found[0]) == untimed(*found[1])
    agrees(quick)
    assert followers(quick) > before or seed % 2 or steps[0].options.gate


@pytest.mark.parametrize("seed", range(3))
def test_in_a_worker_that_shares_no_memory_it_is_stored_alike(
    store: Path, seed: int, monkeypatch: pytest.MonkeyPatch, born: list[str]
) -> None:
    chance = random.Random(seed)

    def emit(n: int) -> Iterator[int]:
        yield n
        if n % 2:
            yield from range(1, 40)

    steps = [
        nb.step(max_attempts=3, backoff=0)(
            moody(f"step{at}", chance.choice(["", "warns", "skips", "fails", "stumbles"]), {chance.randrange(10)})
        )
        for at in range(3)
    ]
    job = chain(*steps, nb.step(total), first=emit, max_failed=99)
    with ThreadPoolExecutor(2) as inner, nb.open(store, nb.executor(inner, workers=2)) as batch:
        for n in (11, 12, 13):
            batch.submit(job, n, new=True).wait(20)
        born.clear()
        for n in chance.sample(range(20, 60), 2):
            found: list[Any] = []
            for is_on in (True, False):
                monkeypatch.setattr(fused, "IS_ON", is_on)
                run = batch.submit(job, n, new=True)
                run.wait(20)
                found.append([sorted(map(str, frame)) for frame in timeless(run)])
            assert found[0] == found[1]
        agrees(batch)

    assert born


def test_a_worker_that_shares_no_memory_tells_user_code_the_id_under_which_its_chunk_is_stored(
    store: Path, born: list[str]
) -> None:
    def emit(n: int) -> Iterator[int]:
        yield from range(n)

    def see(n: int) -> None:
        print(nb.context().chunk)

    job = chain(add, see, first=emit)
    with ThreadPoolExecutor(2) as inner, nb.open(store, nb.executor(inner, workers=2)) as batch:
        known(batch, job, 30)
        run = batch.submit(job, 30, new=True)
        run.wait(20)
        said, ids = run.logs().select("text", "chunk").rows(), run.chunks("see")["id"].to_list()

    assert "see" in born
    assert len(said) == 30
    assert all(text == f"{chunk}\n" for text, chunk in said)
    assert sorted(chunk for _, chunk in said) == sorted(ids)


def test_what_a_step_makes_once_in_a_worker_is_made_once_whether_it_follows_at_once_or_comes_by_itself(
    store: Path, tmp_path: Path, born: list[str]
) -> None:
    made = tmp_path / "made"

    @cache
    def model() -> int:
        with made.open("a") as file:
            return file.write(".")

    def emit(n: int) -> Iterator[int]:
        yield from range(n)

    def use(n: int) -> int:
        return n + model()

    def see(n: int) -> None:
        pass

    job = chain(use, see, first=emit)
    with ThreadPoolExecutor(1) as inner, nb.open(store, nb.executor(inner, workers=1)) as batch:
        for n in (1, 1, 30, 1):
            batch.submit(job, n, new=True).wait(20)

    assert "use" in born
    assert "see" in born
    assert made.read_text() == "."


class Elsewhere:
    """Its module is missing in workers, or it cannot travel at all."""

    def __init__(self, *, travels: bool) -> None:
        self.travels = travels

    def __reduce__(self) -> Any:
        if not self.travels:
            raise TypeError("it cannot travel")
        return is_missing, ()


def is_missing() -> None:
    raise ModuleNotFoundError("No module named 'elsewhere'")


@pytest.mark.parametrize("travels", [True, False])
def test_a_step_that_workers_elsewhere_cannot_have_fails_alone_though_it_is_known_to_be_quick(
    store: Path, tmp_path: Path, travels: bool
) -> None:
    it = Elsewhere(travels=travels)

    def use(n: int) -> None:
        assert it

    job = chain(add, nb.step(max_attempts=2, backoff=0, max_failed=1)(use))
    with nb.open(tmp_path / "here.duckdb", workers=1) as batch:
        known(batch, job)
    with ThreadPoolExecutor(1) as inner, nb.open(store, nb.executor(inner, workers=1)) as batch:
        run = batch.submit(job, 1)
        run.wait(20)

        assert run.chunks().select("step", "errors").rows() == [("emit", 0), ("add", 0), ("use", 1 + travels)]


class Noting(Executor):
    """Notes how many chunks travel in each call."""

    def __init__(self) -> None:
        self.calls, self._inner = list[int](), ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(len(args[0].items))
        return self._inner.submit(fn, *args)


@pytest.mark.parametrize(("steps", "together"), [((add, end), 50), ((add, add, end), 33), ((add, add, add, end), 25)])
def test_no_more_travel_together_than_the_whole_chain_should_take(
    store: Path, born: list[str], steps: tuple[Callable[[int], Any], ...], together: int
) -> None:
    def emit(n: int) -> Iterator[int]:
        yield from range(n)

    pool, job = Noting(), chain(*steps, first=emit)
    with nb.open(store, nb.executor(pool, workers=1, target_ms=100)) as batch:
        known(batch, job, 2)
        for learned in engine(batch).live._learned.values():
            learned.mean_us = 1_000.0
        born.clear()
        pool.calls.clear()
        batch.submit(job, 400, new=True).wait(20)

    assert born
    assert pool.calls[:2] == [1, together]  # the numbers; of 1 ms in each step


class Gone(Exception):
    pass


class Frail(Executor):
    """Its workers die, as told by an error, once a step of theirs has left a file."""

    def __init__(self, file: Path) -> None:
        self.file, self.deaths = file, 0
        self._inner = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._inner.submit(self._run, fn, *args)

    def _run(self, fn: Callable[..., Any], call: Any) -> Any:
        results = fn(call)
        if self.file.exists():
            self.file.unlink()
            self.deaths += 1
            raise Gone
        return results


def test_who_kills_a_worker_elsewhere_by_what_follows_is_charged_alone(
    store: Path, tmp_path: Path, born: list[str]
) -> None:
    file = tmp_path / "killed"

    def emit(n: int) -> Iterator[int]:
        yield from range(n)

    def visit(n: int) -> None:
        if n == 31:
            file.touch()

    job = chain(add, nb.step(max_attempts=2, backoff=0, max_failed=1)(visit), first=emit)
    pool = Frail(file)
    with nb.open(store, nb.executor(pool, workers=1, lost=Gone)) as batch:
        known(batch, job, 20)
        born.clear()
        run = batch.submit(job, 40, new=True)

        assert run.wait(20) == "COMPLETED"
        failed = run.chunks("visit", status="FAILED")
        assert run.chunk(failed["id"].item()).input == 31
        assert run.chunks("visit")["errors"].sum() == 2
        assert run.chunks("add")["errors"].sum() == 0
        assert run.steps()["completed"].to_list() == [1, 40, 39]
        assert pool.deaths > 3  # the first under what followed at once
        agrees(batch)


def test_nothing_follows_elsewhere_in_a_run_that_has_lost_a_worker(
    store: Path, tmp_path: Path, born: list[str]
) -> None:
    def emit(n: int) -> Iterator[int]:
        yield from range(n)

    pool, job, followed = Frail(tmp_path / "killed"), chain(add, end, first=emit), list[int]()
    with nb.open(store, nb.executor(pool, workers=1, lost=Gone)) as batch:
        known(batch, job, 30)
        for is_killed in (True, False):
            born.clear()
            if is_killed:
                pool.file.touch()  # under the listing, before there is anything to follow
            assert batch.submit(job, 30, new=True).wait(20) == "COMPLETED"
            followed.append(len(born))

    assert pool.deaths == 1
    assert followed[0] == 0 < followed[1]


def timeless(run: nb.JobHandle[Any]) -> list[list[tuple[Any, ...]]]:
    """What is told of its chunks, without when: whether it was ERRORED in between is a matter of turns."""
    times = datetime, timedelta, float
    kept = [[tuple(value for value in row if not isinstance(value, times)) for row in frame] for frame in told(run)]
    return [[row for row in frame if row[0] is not None] for frame in kept]


def worked_off(batch: nb.Batch, clock: HandClock, job: nb.Job[int, Any], n: int, from_us: int = 0) -> nb.JobHandle[Any]:
    run = batch.submit(job, n, new=True)
    settle(batch)
    for _ in range(8):
        if not run.done():
            clock.advance(400)
            settle(batch)
    assert run.done(), run
    return run


def untimed(found: list[Any], at: int) -> list[Any]:
    """Times counted from a moment."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at)

    def relative(value: Any) -> Any:
        return value - moment if isinstance(value, datetime) else value

    return [sorted((tuple(map(relative, row)) for row in frame), key=repr) for frame in found]


def test_a_view_of_any_moment_shows_no_attempt_before_its_chunk_nor_a_chunk_before_its_parent_ended(
    store: Path,
) -> None:
    job = chain(add, add, end)
    with nb.open(store, workers=2) as batch:
        known(batch, job)
        run = batch.submit(job, 1, new=True)
        run.result(20)
        rows = batch.sql(
            "SELECT c.id, c.created_us, p.ended_us, e.started_us FROM chunk c JOIN event e ON e.chunk = c.id "
            f"JOIN event p ON p.chunk = c.parent WHERE c.instance = {run.id}"
        ).rows()

    assert len(rows) == 3
    assert all(created == ended <= started for _, created, ended, started in rows)


# --- what follows and what does not --------------------------------------------------------------


@pytest.fixture
def born(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps whose attempts have followed at once."""
    found, bear = list[str](), completions.bear

    def noted(*given: Any) -> None:
        found.append(given[0].job.nodes[given[3].step].step.name)
        bear(*given)

    monkeypatch.setattr(completions, "bear", noted)
    return found


BETWEEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, ["add", "end"]),
    "a gate": ({"gate": True}, ["end"]),
    "one attempt": ({"max_attempts": 1}, []),
    "a limit": ({"concurrency": 1}, []),
    "a time limit": ({"timeout": 60}, []),
    "reuse": ({"reuse": True}, []),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_is_between_two_steps_is_between_them_still(quick: nb.Batch, born: list[str], between: str) -> None:
    options, then = BETWEEN[between]
    job = chain(nb.step(**options)(add), end)
    known(quick, job)
    born.clear()
    quick.submit(job, 1, new=True).result(20)

    assert born == then


def test_nothing_follows_by_a_choice_under_listeners_of_attempts_or_while_it_is_not_known_to_be_quick(
    quick: nb.Batch, born: list[str]
) -> None:
    ways = nb.Job("ways", nb.step(lambda_of) >> (nb.step(name="a")(end) | nb.step(name="b")(end)))
    heard, new = chain(add, end), nb.Job("new", nb.step(lambda_of) >> nb.step(end))
    heard.on("before_attempt")(hear_nothing)
    known(quick, ways)
    known(quick, heard)
    quick.submit(new, 1).result(20)

    assert born == []


def test_no_more_steps_follow_at_once_than_the_stack_has_room_for(
    quick: nb.Batch, born: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "MOST_STEPS", 2)
    job = chain(add, add, add, add, add, end)
    known(quick, job)
    born.clear()
    quick.submit(job, 1, new=True).result(20)

    assert born == ["add", "add2", "add4", "add5"]


def hear_nothing(_: Any) -> None:
    pass


def lambda_of(n: int) -> int:
    return n


def test_a_step_behind_others_follows_once_they_are_known_to_be_quick(quick: nb.Batch) -> None:
    job = chain(add, end)
    assert known(quick, job) > 0
    run = quick.submit(job, 1, new=True)
    run.result(20)

    assert run.chunks()["id"].to_list()[-1] == followers(quick)
    assert quick.sql("SELECT count(*) - count(DISTINCT id) FROM chunk").item() == 0


def test_what_runs_of_an_attempt_that_followed_is_seen_and_its_run_can_be_cancelled(store: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(n: int) -> None:
        if n == 8:
            begun.set()
            go_on.wait(20)

    job = chain(add, hold)
    with nb.open(store, workers=2) as batch:
        known(batch, job)
        run = batch.submit(job, 7, new=True)
        assert begun.wait(20)
        now = run.now()
        with pytest.raises(nb.NotFoundError, match="is stored when its attempt ends"):
            run.chunk(now["chunk"].item())
        run.cancel()
        go_on.set()
        settle(batch)
        last = batch.submit(job, 1, new=True)
        last.result(20)

        assert now["step"].to_list() == ["hold"]
        assert run.status == "CANCELLED"
        assert run.chunks().height == 1
        assert now["chunk"].item() < last.chunks()["id"].min()
        agrees(batch)


def test_a_pause_in_between_holds_what_would_follow(store: Path) -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), list[int]()

    def hold(n: int) -> Iterator[int]:
        if n == 7:
            begun.set()
            go_on.wait(20)
        yield n

    def see(n: int) -> None:
        seen.append(n)

    job = chain(see, first=hold)
    with nb.open(store, workers=2) as batch:
        known(batch, job)
        run = batch.submit(job, 7, new=True)
        assert begun.wait(20)
        run.pause()
        go_on.set()
        settle(batch)
        paused = run.chunks()["status"].to_list()
        run.resume()
        run.result(20)

    assert paused == ["COMPLETED", "QUEUED"]
    assert seen.count(7) == 1


def test_listeners_hear_of_steps_in_their_order(quick: nb.Batch) -> None:
    job, heard = chain(add, end), list[tuple[str, str]]()
    job.on("step_started")(lambda run, step: heard.append(("began", step)))
    job.on("step_ended")(lambda run, step: heard.append(("ended", step)))
    runs: list[Any] = []
    for _ in range(3):
        heard.clear()
        quick.submit(job, 1, new=True).result(20)
        engine(quick).notifications.wait(20)
        runs.append([*heard])

    assert followers(quick) > 0
    assert runs[0] == runs[-1] == [(what, name) for name in ("emit", "add", "end") for what in ("began", "ended")]


def test_what_is_due_again_at_once_is_claimed_in_the_turn_that_stores_it(quick: nb.Batch) -> None:
    held, inner = threading.Event(), engine(quick)

    def once(n: int) -> None:
        if n == 8 and nb.context().attempt == 1:
            held.wait(20)
            raise OSError("once")

    job = chain(add, nb.step(max_attempts=2, backoff=nb.Backoff(0))(once))
    before = known(quick, job)
    run = quick.submit(job, 7, new=True)
    other = threading.Thread(target=lambda: quick.submit(job, 1, new=True))

    def hold() -> None:
        """Have the results and a new run arrive together."""
        held.set()
        while inner._inbox.qsize() < 1:
            pass
        other.start()
        while inner._inbox.qsize() < 2:
            pass

    inner.call(hold)
    run.result(20)
    other.join(20)
    settle(quick)
    last = run.chunks()["id"].to_list()[-1]

    assert before < last == run.attempts()["chunk"].to_list()[-1]
    assert run.chunks()["attempts"].to_list() == [1, 1, 2]
    assert quick.sql(f"SELECT attempt FROM claim WHERE first = {last}")["attempt"].to_list() == [2]
    assert quick.problems == []
    agrees(quick)


def test_what_begins_after_a_cell_was_run_again_runs_its_code(store: Path) -> None:
    begun, go_on, ran = threading.Event(), threading.Event(), list[str]()

    def hold(n: int) -> int:
        if n == 7:
            begun.set()
            go_on.wait(20)
        return n

    def made(code: str) -> nb.Job[int, Any]:
        return chain(hold, nb.step(name="last")(old if code == "old" else new))

    def old(n: int) -> None:
        ran.append(f"old {n}")

    def new(n: int) -> None:
        ran.append(f"new {n}")

    job = made("old")
    with nb.open(store, workers=1) as batch:
        known(batch, job)
        batch.submit(job, 7, key="edited")
        assert begun.wait(20)
        run = batch.submit(made("new"), 7, key="edited")
        go_on.set()
        run.result(20)

    assert ran[-1] == "new 7"


BEGUN, GO_ON = threading.Event(), threading.Event()


def hold_seven(n: int) -> int:
    if n == 7:
        here = sys.modules[__name__]  # what a global holds is a part of the code
        here.BEGUN.set()
        here.GO_ON.wait(20)
    return n


@pytest.mark.parametrize("is_changed", [True, False])
def test_a_worker_elsewhere_that_has_older_code_of_what_follows_has_it_run_for_nothing(
    store: Path, is_changed: bool, born: list[str]
) -> None:
    def made(word: str) -> nb.Job[int, Any]:
        def last(n: int) -> None:
            print(word)

        return chain(hold_seven, last)

    BEGUN.clear()
    GO_ON.clear()
    with ThreadPoolExecutor(1) as inner, nb.open(store, nb.executor(inner, workers=1)) as batch:
        known(batch, made("old"))
        born.clear()
        batch.submit(made("old"), 7, key="edited")
        assert BEGUN.wait(20)
        run = batch.submit(made("new" if is_changed else "old"), 7, key="edited")
        GO_ON.set()
        run.result(20)
        assert run.logs()["text"].to_list() == ["new\n" if is_changed else "old\n"]
        assert ("last" in born) is not is_changed
        agrees(batch)


# --- when a value cannot be stored ---------------------------------------------------------------


@pytest.mark.parametrize("at", ["add", "middle", "end"])
def test_what_cannot_be_stored_fails_its_own_attempt_wherever_it_stands(
    quick: nb.Batch, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    import math

    monkeypatch.setattr(ranges, "MAX_RECORDS", math.inf)

    def spoil(name: str, n: int) -> int:
        if n >= 7 and name == at:
            nb.context().records(HUGE)
        return n

    def add(n: int) -> int:
        return spoil("add", n)

    def middle(n: int) -> int:
        return spoil("middle", n)

    def end(n: int) -> None:
        spoil("end", n)

    job = chain(add, middle, end)
    before = known(quick, job)
    run = quick.submit(job, 7, new=True)
    run.wait(20)

    assert followers(quick) > before
    frame = run.chunks()
    assert frame["step"].to_list()[-1] == at
    assert frame["status"].to_list() == ["COMPLETED"] * (frame.height - 1) + ["FAILED"]
    assert quick.submit(job, 1, new=True).wait(20)
    agrees(quick)


# --- when the process is killed ------------------------------------------------------------------


def live(store: Path) -> list[int]:
    """One process more on the store; the chunks of the last step that it has begun."""
    command = [sys.executable, "-m", "tests.crash.fused", str(store)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == -9
    return [int(line.split()[1]) for line in done.stdout.splitlines()]


def test_who_kills_the_process_is_charged_alone_at_last_and_no_id_is_given_twice(store: Path) -> None:
    lives = [live(store) for _ in range(3)]
    with nb.open(store, workers=2) as batch:
        run = batch.submit(killer.job, killer.KILLS, key=str(killer.KILLS))
        run.wait(20)
        frame = run.chunks()

        assert frame["status"].to_list() == ["COMPLETED", "COMPLETED", "FAILED"]
        assert frame["errors"].to_list() == [0, 0, 2]
        assert lives[1:] == [[frame["id"].to_list()[-1]]] * 2
        assert lives[0][-1] not in batch.sql("SELECT id FROM chunk")["id"].to_list()
        assert frame["id"].to_list()[-1] > max(lives[0])


def test_ids_go_on_without_a_gap_where_the_store_was_closed(store: Path) -> None:
    job = chain(add, end)
    with nb.open(store, workers=1) as batch:
        last = known(batch, job)
    with nb.open(store, workers=1) as batch:
        assert batch.submit(job, 1, new=True).chunks()["id"].min() == last + 1
        batch.purge(older_than=0)
        known(batch, job)

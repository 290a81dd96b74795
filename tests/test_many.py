"""What a turn costs depends on how many instances have something to do, not on how many there are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import nbbatch as nb
from nbbatch.engine import commands
from nbbatch.engine.lives import REFUSED, Lines, Lives
from nbbatch.engine.state import LiveInstance, LiveStep
from tests.jobs import each, one_step
from tests.kit import HandClock, engine


class Held:
    """A step that waits for a signal, and one beside it that does nothing."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def hold(self, _: int) -> None:
        self.gate.wait(20)


@pytest.fixture
def held() -> Iterable[Held]:
    made = Held()
    yield made
    made.gate.set()


def _asked(monkeypatch: pytest.MonkeyPatch, held: Held, many: int) -> float:
    """How often an instance was asked whether it has chunks to claim, and shown, of so many that wait for a worker."""
    asked: Counter[str] = Counter()
    for kind, name in ((LiveStep, "claimable"), (LiveInstance, "show"), (LiveInstance, "release")):
        real = getattr(kind, name)

        def counted(self: Any, *args: Any, real: Any = real, name: str = name) -> Any:
            asked[name] += 1
            return real(self, *args)

        monkeypatch.setattr(kind, name, counted)
    held.gate.clear()
    with nb.open(":memory:", workers=1) as batch:
        batch.submit(one_step(held.hold, name="hold"), 0)
        runs = [batch.submit(one_step(lambda _: None, name="free"), i, new=True) for i in range(many)]
        held.gate.set()
        for run in runs:
            run.wait(20)
    return sum(asked.values()) / many


def test_an_instance_among_many_is_looked_at_as_often_as_one_among_few(
    monkeypatch: pytest.MonkeyPatch, held: Held
) -> None:
    few = _asked(monkeypatch, held, 30)
    monkeypatch.undo()

    assert _asked(monkeypatch, held, 120) < 1.5 * few


def test_skipping_a_group_looks_at_each_queue_once(held: Held) -> None:
    seen: list[int] = []

    class Counted(list[Any]):
        def __iter__(self) -> Any:
            seen.append(len(self))
            return super().__iter__()

    def work(i: int) -> None:
        if i == 0:
            held.gate.wait(20)
        raise nb.RetryLater(3_600)

    with nb.open(":memory:", workers=2, clock=HandClock()) as batch:
        run = batch.submit(each(work), 40)
        live = engine(batch).live[run.id]
        while len(live.waiting) < 39:
            batch.maintenance()
        waiting = sorted(each.chunk for each in live.waiting)
        live.waiting = Counted(live.waiting)
        run._skip_some(waiting, "not today")

        assert len(seen) <= 2
        assert [len(live.waiting), run.skips().height] == [0, 39]
        run.cancel()
        held.gate.set()


def test_what_another_instance_took_lets_more_be_claimed_ahead_and_no_result_wait(held: Held) -> None:
    job = each(held.hold)
    with nb.open(":memory:", workers=1) as batch:
        held.gate.set()
        batch.submit(job, 3).wait(20)
        held.gate.clear()
        batch.submit(job, 5)
        ahead: list[Any] = []
        while len(ahead) < 2:
            batch.maintenance()
            ahead = [flight for flight in tuple(engine(batch).flights) if flight.step.node.index == 1]

        assert [flight.work_us for flight in ahead] == [0.0] * len(ahead)
        held.gate.set()


# --- lines ----------------------------------------------------------------------------------------


class Step:
    """As much of a step as a line asks for."""

    def __init__(self, index: int, chunks: int) -> None:
        self.node: Any = self
        self.index, self.chunks = index, chunks

    def claimable(self) -> bool:
        return self.chunks > 0


class Live:
    """Likewise of an instance."""

    paused, failing, status, touched = False, None, "IN_PROGRESS", {}

    def __init__(self, number: int, *chunks: int) -> None:
        self.id = number
        self.steps = [Step(index, each) for index, each in enumerate(chunks)]


def _lines(*lives: Live, line_of: Callable[[Any, Any], str] = lambda live, step: "main") -> Lines:
    return Lines(line_of, lives)  # type: ignore[arg-type]


def test_the_oldest_instance_claims_first_of_its_last_step_and_each_once_a_round() -> None:
    taken: list[tuple[int, int]] = []

    def claim(live: Any, step: Any) -> bool:
        taken.append((live.id, step.index))
        step.chunks -= 1
        return True

    lines = _lines(Live(2, 1, 1), Live(1, 2))
    rounds = [lines.round(claim), lines.round(claim), lines.round(claim)]

    assert taken == [(1, 0), (2, 1), (1, 0), (2, 0)]
    assert rounds == [True, True, False]


def test_a_line_that_is_full_is_not_asked_to_its_end_and_keeps_no_other_waiting() -> None:
    asked: Counter[str] = Counter()

    def claim(live: Any, step: Any) -> bool:
        asked[_line_of(live, step)] += 1
        return False

    def _line_of(live: Any, step: Any) -> str:
        return "main" if live.id < 1_000 else "other"

    lines = _lines(*(Live(number, 1) for number in range(1_003)), line_of=_line_of)

    assert not lines.round(claim)
    assert asked == {"main": REFUSED, "other": 3}
    assert not lines.round(lambda live, step: False)  # all are still there


def test_a_claim_that_raises_costs_nobody_their_place() -> None:
    def broken(live: Any, step: Any) -> bool:
        raise RuntimeError

    taken: list[int] = []
    lines = _lines(Live(1, 1), Live(2, 1))
    with pytest.raises(RuntimeError):
        lines.round(broken)
    lines.round(lambda live, step: bool(taken.append(live.id)))

    assert taken == [1, 2]


# --- what equal parameters mean -------------------------------------------------------------------


def test_equal_parameters_find_the_newest_instance_without_a_look_at_the_others(
    monkeypatch: pytest.MonkeyPatch, held: Held
) -> None:
    job = one_step(held.hold)
    with nb.open(":memory:", workers=1) as batch:
        runs = [batch.submit(job, i) for i in range(30)]
        looked: list[str] = []
        real = commands._means
        monkeypatch.setattr(commands, "_means", lambda live, *more: looked.append(live.id) or real(live, *more))

        assert batch.submit(job, 7).id == runs[7].id
        assert looked == [runs[7].id]
        named = batch.submit(job, 7, key="named")
        newer = batch.submit(job, 7, new=True)
        assert batch.submit(job, 7).id == newer.id != named.id
        newer.cancel()
        assert batch.submit(job, 7).id == runs[7].id
        held.gate.set()


def test_who_is_no_longer_live_is_found_nowhere(held: Held) -> None:
    job = one_step(held.hold)
    with nb.open(":memory:", workers=1) as batch:
        run = batch.submit(job, 1)
        lives: Lives = engine(batch).live
        live = lives[run.id]
        assert [*lives.like(job, live.identity)] == [live]
        run.cancel()
        live.changed = True

        assert [*lives.like(job, live.identity)] == []
        assert lives.to_decide(0) == []
        assert lives.due_us() is None
        held.gate.set()

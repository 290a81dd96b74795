"""The model beside the engine: hypothesis makes up what happens, and after each step both must agree.

    NBBATCH_MODEL_RULES=50000 pytest tests/model/test_model.py       a long run, with other examples each time
    NBBATCH_MODEL_SEED=123 …                                         walks from this seed on

A failing example is printed as a program of rules; one of a walk as a seed, and what was done.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.vendor.pretty import pretty

import nbbatch as nb
from nbbatch.base.states import CHUNK_BY_CODE
from nbbatch.states import CHUNK_TRANSITIONS, INSTANCE_TRANSITIONS, ChunkStatus
from tests import kit
from tests.kit import TickingClock
from tests.model import chains, jobs, world
from tests.model.chains import built
from tests.model.chunks import Chunk
from tests.model.engine import Held, Row, copy_store, made_since, rest
from tests.model.jobs import CLOSED, ENDED, Refused
from tests.model.model import Model
from tests.model.runs import Run

RULES = int(os.environ.get("NBBATCH_MODEL_RULES", "0"))
STEPS = 40  # rules of an example …
WALK = 100 if RULES else STEPS  # … and of a walk: what is read at its end takes long
some = st.integers(0, 10_000)
CODE = ["trouble", "trouble", "trouble_to_come", "trouble_to_come", "mend", "mend_all", "edit"]
SECONDS = [1, 10, 20, 30, 60, 600]
LIKELY = {
    "submit": 2, "work": 8, "work_on": 5, "work_it_off": 3, "ask": 12, "change_code": 5, "wait": 5, "purge": 1,
    "reopen": 2, "crash": 1, "crash_within": 3,
}  # fmt: skip
BY_WORKERS, ON_FILE = ["work", "work_on", "work_it_off", "crash_within"], ["reopen", "crash", "crash_within"]
ASKED = [
    "pause",
    "resume",
    "resume",
    "cancel",
    "skip",
    "skip",
    "retry",
    "retry",
    "mend_and_retry",
    "retry_group",
    "rerun",
    "rerun",
    "rerun",
]
ran: Counter[str] = Counter()

ALLOWED = {
    (str(old), str(new))
    for table in (CHUNK_TRANSITIONS, INSTANCE_TRANSITIONS)
    for old, news in table.items()
    for new in news
}
STANDING = "SELECT chunk, step, status, attempt, errors, polls FROM standing(?, 9000000000000000000)"
SKIPPABLE = ["QUEUED", "GATE_WAITING", "POLL_WAITING", "ERRORED", "FAILED"]
COLUMNS = [
    "queued",
    "gate_waiting",
    "in_progress",
    "poll_waiting",
    "errored",
    "completed",
    "failed",
    "skipped",
    "cancelled",
]


class Beside(RuleBasedStateMachine):
    """Workers are held: which micro-batch ends next is a rule."""

    on_file = False
    held_back = True
    ordered = True  # what comes of options may depend on the order in which chunks are worked on
    troubles = tuple(sorted(world.RAISED))

    def __init__(self) -> None:
        super().__init__()
        self.world = world.reset()
        self.model = Model()
        self.clock = TickingClock()
        self.folder = tempfile.TemporaryDirectory()
        self.files = count()
        self.path: Any = self.fresh_path()
        self.jobs: list[jobs.Job] = []
        self.checked: dict[int, str] = {}
        self.last = 0  # the highest id of a chunk that was seen
        self.told: list[str] = []
        self.moved = True  # something was asked of the engine, or befell it
        self.open()

    def fresh_path(self) -> Any:
        return Path(self.folder.name) / f"store{next(self.files)}.duckdb" if self.on_file else ":memory:"

    def open(self) -> None:
        self.held = Held()
        self.batch = nb.open(self.path, self.held, clock=self.clock)

    def teardown(self) -> None:
        try:
            for run in self.model.runs if sys.exc_info()[0] is None else ():
                ran[f"ends {run.status}"] += 1
                self.check_all(run)
        finally:
            self.batch.close()
            self.folder.cleanup()
        super().teardown()

    # --- what is chosen ---------------------------------------------------------------------------

    def pick(self, place: int, likely: Callable[[Run], Any] = bool) -> Run | None:
        """A run; mostly one that a rule does something to."""
        runs = self.model.runs if place % 8 == 0 else list(filter(likely, self.model.runs))
        return runs[place % len(runs)] if runs else None

    def handle(self, run: Run) -> nb.JobHandle[Any]:
        return self.batch.instance(run.id, built(run.job))

    def both(self, what: str, of_engine: Any, of_model: Any, *, may_refuse: bool = False) -> None:
        """Both do it, or both refuse; in some cases the engine may refuse what the model would do."""
        refusal, refuses = None, False
        try:
            of_engine()
        except nb.NbbatchError as error:
            refusal = error
            if may_refuse:
                return
        try:
            of_model()
        except Refused:
            refuses = True
        ran[f"{what} refused" if refuses else what] += 1
        assert (refusal is not None) == refuses, (
            f"the engine: {refusal or 'done'}; the model: {'no' if refuses else 'yes'}"
        )

    # --- rules ------------------------------------------------------------------------------------

    @initialize(data=st.data(), by_chance=st.booleans(), seed=st.integers(0, 2**32))
    def begin(self, data: Any, by_chance: bool, seed: int) -> None:
        """Chains that hypothesis makes smaller where something is wrong, or any."""
        chance = Random(seed)
        self.start(chance.choice if by_chance else lambda options: data.draw(st.sampled_from(options)))

    def start(self, choose: chains.Choose) -> None:
        self.jobs = [chains.job(choose, ordered=self.ordered) for _ in range(choose([1, 2]))]
        for _ in range(choose([0, 1, 2, 3, 4, 5])):
            self.trouble_to_come(choose(range(10_000)), choose(range(10_000)))
        self.tell(f"jobs {pretty(self.jobs)}")
        self.submit(0, choose([2, 3, 4, 5]), False)

    def tell(self, text: str) -> None:
        """Have it be seen if something is wrong."""
        self.told.append(text)
        if currently_in_test_context():
            note(text)

    @rule(seed=st.integers(0, 2**32))
    def anything(self, seed: int) -> None:
        """What may be done here, all of it as likely as it is likely to matter: hypothesis keeps to few rules at a time."""
        chance = Random(seed)
        weights = LIKELY | ({} if self.held.given else dict.fromkeys(BY_WORKERS, 0))
        weights |= {} if self.on_file else dict.fromkeys(ON_FILE, 0)
        what = chance.choices(list(weights), list(weights.values()))[0]
        place, more, really = chance.randrange(10_000), chance.randrange(10_000), chance.random() < 0.6
        arguments = {
            "submit": (place, more % 6, really), "work_on": (place, 2 + more % 8), "reopen": (really,), "crash": (really,),
            "crash_within": (really, place, more), "ask": (chance.choice(ASKED), place, more),
            "change_code": (chance.choice(CODE), place, more), "wait": (chance.choice(SECONDS),), "purge": (),
        }.get(what, (place,))  # fmt: skip
        self.tell(f"  {what}{arguments}")
        getattr(self, what)(*arguments)

    @rule(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=4))
    def one_after_another(self, seeds: list[int]) -> None:
        for seed in seeds:
            self.anything(seed)
            self.agree()

    @rule(place=some, value=st.integers(0, 4), new=st.booleans())
    def submit(self, place: int, value: int, new: bool) -> None:
        self.moved = True
        if len(self.model.runs) >= 5:
            return
        job = self.jobs[place % len(self.jobs)]
        handle = self.batch.submit(built(job), value, new=new)
        run = self.model.submit(job, value, new=new)
        assert run.id in (0, handle.id)
        run.id = handle.id

    @precondition(lambda self: self.held.given)
    @rule(place=some)
    def work(self, place: int) -> None:
        self.moved = True
        place %= len(self.held.given)
        waited_for = [self.in_progress(*item) for item in self.held.given[place]]
        said = [(chunk, *self.world.outcome(chunk)) for chunk in waited_for if chunk]
        self.held.run(place)
        for plain in (True, False):
            for chunk, what, outputs in said:
                if (what == "done") is plain:
                    self.model.settle(chunk, what, outputs)

    @precondition(lambda self: self.held.given)
    @rule(place=some, times=st.integers(2, 9))
    def work_on(self, place: int, times: int) -> None:
        for _ in range(times):
            if self.held.given:
                self.work(place)
                self.come_to_rest()

    @precondition(lambda self: self.held.given)
    @rule(place=some)
    def work_it_off(self, place: int) -> None:
        """All that can be done now."""
        self.work_on(place, 200)

    @rule(what=st.sampled_from(CODE), place=some, more=some)
    def change_code(self, what: str, place: int, more: int) -> None:
        getattr(self, what)(place, more)

    def trouble(self, place: int, more: int) -> None:
        """With a chunk that has not ended."""
        chunks = [c for run in self.model.runs for c in run.of() if c.state not in CLOSED]
        if chunks:
            found = chunks[place % len(chunks)]
            values = found.value if isinstance(found.value, list) else [found.value]
            for value in values[place % 3 : place % 3 + 1]:
                self.world.trouble[found.node.name, value] = self.troubles[more % len(self.troubles)]

    def trouble_to_come(self, place: int, more: int) -> None:
        job = self.jobs[place % len(self.jobs)]
        job = next((step.job for step in job.steps if step.job and place % 3 == 0), job)
        node = job.steps[place // 10 % len(job.steps)]
        key = node.name, None if node.kind == "reduction" else more // 10 % 6
        self.world.trouble[key] = self.troubles[more % len(self.troubles)]

    def mend(self, place: int, _more: int) -> None:
        troubles = sorted(self.world.trouble, key=repr)
        if troubles:
            del self.world.trouble[troubles[place % len(troubles)]]

    def mend_all(self, _place: int, _more: int) -> None:
        self.world.trouble.clear()

    def edit(self, place: int, more: int) -> None:
        job = self.jobs[place % len(self.jobs)]
        self.world.shift[job.steps[more % len(job.steps)].name] = more // 10 % 3

    @rule(what=st.sampled_from(ASKED), place=some, more=some)
    def ask(self, what: str, place: int, more: int) -> None:
        self.moved = True
        getattr(self, what)(place, more)

    def pause(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.status not in ENDED)
        if run:
            self.both("pause", self.handle(run).pause, lambda: self.model.pause(run))

    def resume(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.status == "PAUSED" or not run.attached)
        if run:
            self.both("resume", self.handle(run).resume, lambda: self.model.resume(run))

    def cancel(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.status not in ENDED)
        if run:
            self.both("cancel", self.handle(run).cancel, lambda: self.model.cancel(run))

    def skip(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.has(*SKIPPABLE))
        chunks = [c for c in run.of() if place % 8 == 0 or c.state in SKIPPABLE] if run else []
        found = chunks[more % len(chunks)] if chunks else None
        if run and found:
            self.both("skip", lambda: self.handle(run).skip(found.id, "by hand"), lambda: self.model.skip(run, found))

    def retry(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.has("FAILED", "CANCELLED"))
        if run:
            handle = self.handle(run)
            reduces = any(c.state == "IN_PROGRESS" and c.node.kind == "reduction" for c in run.of())
            self.both("retry", lambda: handle.retry(quiet=True), lambda: self.model.retry(run), may_refuse=reduces)

    def mend_and_retry(self, place: int, more: int) -> None:
        self.mend_all(place, more)
        self.retry(place, more)

    def retry_group(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.has("FAILED"))
        groups = self.handle(run).failures() if run else []
        if run and len(groups):
            chosen = groups[more % len(groups)]
            chunks = [c for c in run.of() if c.id in chosen.ids]
            self.both(
                "retry of a group",
                lambda: chosen.retry(built(run.job), quiet=True),
                lambda: self.model.retry(run, chunks),
            )

    def rerun(self, place: int, more: int) -> None:
        run = self.pick(place, lambda run: run.status in {"PAUSED", *ENDED}) or self.pick(place)
        if run and run.status not in ENDED and place % 3:
            self.pause_and_wait(run)
        if run:
            steps = [i for i in range(len(run.job.steps)) if place % 8 == 0 or run.of(i)]
            index, which = steps[more % len(steps)], more // 10 % 16
            chosen = [c for nth, c in enumerate(run.of(index)) if not which or which >> nth & 1]
            where = None if not which else pl.col("chunk").is_in([c.id for c in chosen])
            handle = self.handle(run)
            self.both(
                "rerun",
                lambda: handle.rerun(step=run.job.steps[index].name, where=where, quiet=True),
                lambda: self.model.rerun(run, chosen),
            )

    def pause_and_wait(self, run: Run) -> None:
        self.both("pause", self.handle(run).pause, lambda: self.model.pause(run))
        while any(c.state == "IN_PROGRESS" and not c.node.job for c in run.of()) and self.held.given:
            self.work(0)
            self.come_to_rest()

    @rule(seconds=st.sampled_from(SECONDS))
    def wait(self, seconds: int) -> None:
        self.moved = True
        self.clock.advance(seconds)
        self.model.now += seconds

    @precondition(lambda self: sum(run.status in ENDED for run in self.model.runs) > 1)
    @rule()
    def purge(self) -> None:
        self.moved = True
        ended = [run for run in self.model.runs if run.status in ENDED]
        for run in ended:
            self.check_all(run)
        assert self.batch.purge(older_than=timedelta(0)) == len(ended)
        self.model.purge()

    @precondition(lambda self: self.on_file)
    @rule(attach=st.booleans())
    def reopen(self, attach: bool) -> None:
        self.moved = True
        self.batch.close()
        self.open()
        self.model.crash()
        self.attach(attach)

    @precondition(lambda self: self.on_file)
    @rule(attach=st.booleans())
    def crash(self, attach: bool) -> None:
        """Between attempts: what was claimed had not begun."""
        self.moved = True
        self.die(self.path, [])
        self.attach(attach)

    @precondition(lambda self: self.on_file and self.held.given)
    @rule(attach=st.booleans(), place=some, item=some)
    def crash_within(self, attach: bool, place: int, item: int) -> None:
        """In the middle of an attempt."""
        self.moved = True
        place %= len(self.held.given)
        chunks = self.held.given[place]
        calls, until = count(), item % len(chunks)
        left = self.fresh_path()

        def begins(_step: str, _value: Any) -> None:
            if next(calls) == until:
                copy_store(self.path, left)

        self.world.begins = begins
        self.held.run(place)
        self.world.begins = lambda _step, _value: None
        chunk = self.in_progress(*chunks[until])
        self.die(left, [chunk] if chunk else [])
        self.attach(attach)

    def die(self, left: Path, begun: list[Chunk]) -> None:
        if left is self.path:
            left = self.fresh_path()
            copy_store(self.path, left)
        self.batch.close()
        self.path = left
        self.open()
        self.model.crash(begun)

    @precondition(lambda self: any(not run.attached for run in self.model.runs))
    @rule()
    def resume_jobs(self) -> None:
        self.moved = True
        self.attach(True)

    def attach(self, really: bool) -> None:
        """Resume all jobs, or none: then each waits until it is asked for."""
        for job in {run.job: None for run in self.model.runs} if really else ():
            self.batch.resume(built(job))
            for run in [each for each in self.model.runs if each.job == job and each.status not in ENDED]:
                run.attached = True

    # --- what must agree --------------------------------------------------------------------------

    def in_progress(self, chunk: int, attempt: int) -> Chunk | None:
        """The chunk of an attempt; None: it was cancelled or replaced meanwhile, and nobody waits for its end."""
        found = (c for run in self.model.runs for c in run.of() if (c.id, c.attempts) == (chunk, attempt))
        return next((c for c in found if c.state == "IN_PROGRESS"), None)

    @invariant()
    def agree(self) -> None:
        ran["rules"] += 1
        self.compare()

    def compare(self) -> None:
        if self.moved:
            self.come_to_rest()
            self.check_instances()
            self.check_workers()
            for run in self.model.runs:
                stand = repr([(c.state, c.attempts, c.superseded, c.due) for c in run.chunks]) + run.status
                if self.checked.get(run.id) != stand:
                    self.check(run) if not RULES or ran["rules"] % 4 == 0 else self.look(run)
                    self.checked[run.id] = stand
            self.moved = False

    def come_to_rest(self) -> None:
        """What workers take is theirs to choose; whether they may take it is the model's to say."""
        rest(self.batch)
        taken: list[Chunk] = []
        while True:
            self.model.work()
            self.match()
            items = {item for items in self.held.given for item in items}
            chunks = [c for run in self.model.runs for c in run.of()]
            taken = [c for c in chunks if c.state != "IN_PROGRESS" and (c.id, c.attempts + 1) in items]
            for chunk in taken:
                chunk.claim(self.model.now)
            if not taken:
                return

    def match(self) -> None:
        """Give chunks of the model the ids of those that stand in their places, and sub-jobs those of theirs."""
        if all(run.id and all(c.id for c in run.chunks) for run in self.model.runs):
            return
        made = made_since(self.batch, self.last)
        known = {c.id for run in self.model.runs for c in run.chunks}
        for run in self.model.runs:
            if not run.id:
                assert run.parent is not None
                subjob = self.batch.instance(run.parent.run.id).chunk(run.parent.id).subjob
                assert subjob is not None, f"chunk {run.parent.id} has no sub-job"
                run.id = subjob.id
            for row in [each for each in made if each.instance == run.id and each.id not in known]:
                self.place_of(run, row).id = row.id
        self.last = max([self.last, *(row.id for row in made)])

    def place_of(self, run: Run, row: Row) -> Chunk:
        node, places = run.job.steps[row.step], [c for c in run.chunks if c.step == row.step and not c.id]
        if node.kind != "reduction":
            places = [c for c in places if (c.parent.id if c.parent else None) == row.parent]
        assert places, f"chunk {row.id} of step {node.name} should not be there"
        return min(places, key=lambda c: c.seq)

    def check_instances(self) -> None:
        rows = self.batch.instances()
        found = dict(rows.select("id", "status").iter_rows())
        assert set(found) == {run.id for run in self.model.runs}
        for run in self.model.runs:
            allowed = {run.status} if run.attached else {run.status, run.stands()}  # closing may take that in or not
            if any(c.errors and (c.state == "IN_PROGRESS" or not run.attached) for c in run.of()):
                allowed |= {"ERRORED", run.stands()}  # an error lasts until the next attempt has ended, or has begun
            assert found[run.id] in allowed, f"instance {run.id} is {found[run.id]}, not {run.status}"
        for _id, status, progress in rows.select("id", "status", "progress").iter_rows():
            assert 0 <= progress <= 1
            assert progress == 1 or status != "COMPLETED"
            assert progress < 1 or status == "COMPLETED"

    def look(self, run: Run) -> None:
        """A quarter of the work of `check`: in long runs the frames are asked each fourth time and at the end."""
        engine = kit.engine(self.batch)
        rows = engine.store.cursor().execute(STANDING, [run.id]).fetchall()
        seen = {chunk: (step, CHUNK_BY_CODE[code].value, *rest) for chunk, step, code, *rest in rows}
        meant = {c.id: (c.step, c.state, c.attempts, c.errors, c.polls) for c in run.of()}
        wrong = [f"{i}: {seen.get(i)} for {meant.get(i)}" for i in {*seen, *meant} if seen.get(i) != meant.get(i)]
        assert not wrong, f"chunks of run {run.id} stand {'; '.join(wrong)}"
        for index, counts in enumerate(engine.live[run.id].stored_counts if run.id in engine.live else ()):
            states = Counter(c.state for c in run.of(index))
            told = {status.value: counts[status.code] for status in ChunkStatus if counts[status.code]}
            assert told == states, f"counts of {run.job.steps[index].name} are {told}, not {dict(states)}"

    def check(self, run: Run) -> None:
        """What a rule changes."""
        handle = self.handle(run)
        self.check_chunks(run, handle)
        self.check_counts(run, handle)
        if run.status == "COMPLETED":
            assert handle.result(0) == run.report

    def check_all(self, run: Run) -> None:
        """And what stays on record, at the end of an example or of the run's rows: it takes longer."""
        handle = self.handle(run)
        self.check(run)
        self.check_attempts(run, handle)
        self.check_history(run, handle)
        self.check_values(run, handle)

    def check_chunks(self, run: Run, handle: Any) -> None:
        rows = {row["id"]: row for row in handle.chunks().to_dicts()}
        seen = {i: (r["step"], r["status"], r["attempts"], r["errors"], r["polls"]) for i, r in rows.items()}
        meant = {c.id: (c.node.name, c.state, c.attempts, c.errors, c.polls) for c in run.of()}
        wrong = [f"{i}: {seen.get(i)} for {meant.get(i)}" for i in {*seen, *meant} if seen.get(i) != meant.get(i)]
        assert not wrong, f"chunks of run {run.id} are {'; '.join(wrong)}"

    def check_attempts(self, run: Run, handle: Any) -> None:
        attempts = Counter(handle.attempts()["chunk"].to_list())
        meant = Counter({c.id: c.attempts for c in run.of()})
        assert meant == Counter({c.id: attempts[c.id] for c in run.of()}), "attempts"
        skips = Counter(handle.skips()["chunk"].to_list())
        skipped = Counter(c.id for c in run.of() if c.state == "SKIPPED")
        assert skips == skipped, f"skips of run {run.id}: {skips} instead of {skipped}"

    def check_counts(self, run: Run, handle: Any) -> None:
        frame = handle.steps().to_dicts()
        for index, (step, row) in enumerate(zip(run.job.steps, frame, strict=True)):
            states = Counter(c.state for c in run.of(index))
            seen = {name: row[name] for name in COLUMNS}
            meant = {name: states[name.upper()] for name in COLUMNS}
            assert seen == meant, f"counts of {step.name} are {nonzero(seen)}, not {nonzero(meant)}"

    def check_history(self, run: Run, handle: Any) -> None:
        last: dict[int | None, str] = {}
        for row in handle.history().to_dicts():
            old, new = last.get(row["chunk"]), row["status"]
            last[row["chunk"]] = new
            fits = old is None or new == "SUPERSEDED" or (old, new) in ALLOWED
            assert fits, f"chunk {row['chunk']} of {row['step']}: {old} → {new}"
        assert last.pop(None) == handle.status
        replaced = {c.id: "SUPERSEDED" for c in run.chunks if c.superseded}
        meant = {c.id: c.state for c in run.of()} | replaced
        wrong = [f"{i}: {last.get(i)} for {meant.get(i)}" for i in {*last, *meant} if last.get(i) != meant.get(i)]
        assert not wrong, f"last in the history of run {run.id} are {'; '.join(wrong)}"

    def check_values(self, run: Run, handle: Any) -> None:
        for index, step in enumerate(run.job.steps):
            if step.kind in {"none", "reduction"}:
                continue
            meant = [repr(value) for c in run.of(index) if c.state == "COMPLETED" for value in c.outputs]
            seen = [repr(value) for value in handle.outputs(step.name)]
            branches = sum(index in other.sources for other in run.job.steps)
            assert Counter(seen) == Counter(meant * branches), f"outputs of {step.name}"

    def check_workers(self) -> None:
        """Nobody is idle while there is something to do (a chunk that was lost twice waits until it can run apart)."""
        waiting = [c for run in self.model.runs for c in run.of() if c.is_claimable(self.model.now) and c.errors < 2]
        assert not self.held.free() or not waiting, f"{waiting[0].node.name} is not claimed"


def nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


class BesideOnFile(Beside):
    """The same on a file, with reopening and crashes."""

    on_file = True


class Drained(Beside):
    """Nobody holds the workers: after each rule all that can be done has been, in whatever order."""

    held_back = ordered = False
    troubles = tuple(sorted(set(world.RAISED) - {"fail job"}))

    def open(self) -> None:
        self.held = Held()  # holds nothing
        self.batch = nb.open(self.path, nb.inline(), clock=self.clock)

    def come_to_rest(self) -> None:
        rest(self.batch, held=False)
        self.model.work(self.world.outcome)
        self.match()


class OnThreads(Drained):
    """Threads, and a file that is opened again."""

    on_file = True

    def open(self) -> None:
        self.held = Held()
        self.batch = nb.open(self.path, workers=2, clock=self.clock)

    def compare(self) -> None:
        """In the end: between a sub-job's end and its chunk's nothing is in flight."""
        for left in range(500, -1, -1):
            try:
                super().compare()
            except (AssertionError, nb.NbbatchError):
                if not left:
                    raise
            else:
                return


MACHINES = [(Beside, 0.35), (BesideOnFile, 0.35), (Drained, 0.15), (OnThreads, 0.15)]
"""Each with its share of the rules."""
slow = pytest.mark.timeout(0 if RULES else 300)


def examples(share: float, usual: int, steps: int = STEPS) -> int:
    return max(1, int((RULES / 2 if RULES else usual) * share / steps))


@slow
@pytest.mark.parametrize(("machine", "share"), MACHINES)
def test_the_engine_does_what_the_model_says(
    machine: type[Beside], share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    ran.clear()
    quick = {"derandomize": True, "phases": (Phase.generate, Phase.shrink)}
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(share, 240),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **({"print_blob": True} if RULES else quick),
        ),
    )

    with capsys.disabled():
        print(f"\n{summary(machine)}")


@slow
@pytest.mark.parametrize(("machine", "share"), MACHINES)
def test_the_engine_does_so_on_long_random_walks(
    machine: type[Beside], share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hypothesis tends to few kinds of rules and to small numbers; here all are mixed."""
    ran.clear()
    first = int(os.environ.get("NBBATCH_MODEL_SEED", time.time_ns() % 10**9 if RULES else 1))
    for seed in range(first, first + examples(share, 240, WALK)):
        walk(machine, seed)

    with capsys.disabled():
        print(f"\n{summary(machine)}; seeds from {first} on")


def walk(machine: type[Beside], seed: int) -> None:
    """One example by chance. An error tells what was done."""
    chance, state = Random(seed), machine()
    try:
        state.start(chance.choice)
        state.agree()
        for _ in range(WALK if state.held_back else WALK // 2):
            state.anything(chance.randrange(2**32))
            state.agree()
    except Exception as error:
        error.add_note("\n".join([f"{machine.__name__}, seed {seed}:", *state.told]))
        raise
    finally:
        state.teardown()


def summary(machine: type[Beside]) -> str:
    did = ", ".join(f"{what} {count}" for what, count in sorted(ran.items()) if what != "rules")
    return f"{machine.__name__}: {ran['rules']:,} rules without a difference ({did})"

"""One life: a process that opens the store, does what a user may do, and waits for the end or for its death.

It says on a pipe what it is about to do, so that whoever kills it can choose the moment, and what it finds wrong.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import nbbatch as nb
from nbbatch.states import INSTANCE_ENDED, InstanceStatus
from tests.crash.torture import checks
from tests.crash.torture.chains import Chain, Trace
from tests.crash.torture.rules import LEVELS, Rules

STILL = 15.0
"""Seconds without a change in the store after which a run that has not ended hangs."""
HARD = 300.0
"""Seconds after which a life that neither ends nor tells why is ended, with the stacks of its threads on record."""
ROUNDS = 12
"""Retries that the last life needs at most; each mends whatever is left."""
EXECUTORS: dict[str, Callable[[], Any]] = {
    "inline": nb.inline, "threads": lambda: nb.threads(3), "processes": lambda: nb.processes(2),
}  # fmt: skip
REFUSALS = (nb.StateError, nb.NotFoundError)
"""What an action may raise when the moment is wrong for it."""


class Action(NamedTuple):
    """What a user does in a life."""

    name: str
    when: str
    """"before" the job is submitted again, "during" the run, or "late": when it has ended."""
    wait: float
    """Seconds after the one before."""
    seed: int


@dataclass(frozen=True)
class World:
    """What stays the same over the lives of one seed."""

    folder: Path
    chain: Chain
    rules: Rules
    kind: str
    """Of executor."""

    @property
    def store(self) -> Path:
        return self.folder / "store.duckdb"


def live(world: World, actions: tuple[Action, ...], pipe: int, *, last: bool) -> None:
    """A life from its first to its last moment; the last one goes on until all is done, and is checked."""
    life = _Life(world, pipe)
    faulthandler.dump_traceback_later(HARD, exit=True)
    try:
        life.run(actions, last=last)
    except Exception as error:  # whatever it is, it is a finding
        faulthandler.dump_traceback()
        life.found("error", f"{type(error).__name__}: {error}"[:600])
    life.say("bye")


class _Life:
    def __init__(self, world: World, pipe: int) -> None:
        self.world, self._pipe = world, pipe
        self._over = threading.Event()
        self.job = world.chain.job(world.rules)
        self.subs = {each.name: each.job(world.rules) for each in world.chain.subs()}

    def say(self, *words: object) -> None:
        os.write(self._pipe, (" ".join(map(str, words)) + "\n").encode())

    def found(self, kind: str, text: str) -> None:
        self.say("found", json.dumps([kind, text]))

    def run(self, actions: tuple[Action, ...], *, last: bool) -> None:
        self.say("opening")
        executor = EXECUTORS[self.world.kind]()
        workers = None if self.world.kind != "threads" else 3
        self.batch = nb.open(self.world.store, executor=executor, workers=workers)
        self.say("open")
        if len(self.batch.instances(job=self.job.name)):
            self._act(actions, "before")
        self.handle = self._attach(actions)
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        self._act(actions, "during")
        if not self._held() and self._ended() is not None:
            self._act(actions, "late")
        self._finish() if last else self._held() or self._ended()
        self._over.set()
        watch.join()
        self.say("closing")
        self.batch.close()
        executor.shutdown()

    # --- going on --------------------------------------------------------------------------------

    def _attach(self, actions: tuple[Action, ...]) -> nb.JobHandle[Any]:
        """By submitting again, as a cell does, or by resuming the job."""
        if actions and actions[0].seed % 3 == 0:
            self.batch.resume(self.job)
        return self.batch.submit(self.job, "r", key="torture")

    def _act(self, actions: tuple[Action, ...], when: str) -> None:
        for action in (each for each in actions if each.when == when):
            time.sleep(action.wait)
            self._do(action)

    def _held(self) -> bool:
        """Whether a pause keeps the run, or one of its sub-jobs, from its end."""
        return len(self.batch.instances(status="PAUSED")) > 0

    def _ended(self) -> InstanceStatus | None:
        """The state it has ended in; None where it is paused, and with a finding where it hangs."""
        seen, since = None, time.monotonic()
        while time.monotonic() - since < STILL:
            with suppress(TimeoutError):
                return self.handle.wait(0.5)
            if self._held():
                return None
            stored = self.batch.sql("SELECT (SELECT max(id) FROM event), (SELECT max(id) FROM instance_event)").row(0)
            if stored != seen:
                seen, since = stored, time.monotonic()
        self.found("hang", self.picture())
        faulthandler.dump_traceback()
        return None

    def picture(self) -> str:
        """How it stands, in a line."""
        run, shown = self.batch.instance(1), []
        for row in run.steps().iter_rows(named=True):
            counts = {word: row[word] for word in checks.COUNTS if row[word]}
            shown.append(f"{row['step']}{'|' if row['gated'] else ''} {counts}")
        return f"{run.status}; " + "; ".join(shown)

    def _finish(self) -> None:
        """Mend all there is to mend, and retry until nothing is left to do."""
        Path(self.world.rules.mended).write_text(str(LEVELS))
        self.batch.resume(_OTHER)
        jobs = {**self.subs, self.job.name: self.job}
        for _ in range(ROUNDS):
            for each, job in self.batch.instances(status="PAUSED").select("id", "job").rows():
                self.batch.instance(each, jobs[job]).resume()
            status = self._ended()
            if status is None and not self._held():
                return
            if status == "COMPLETED" and not self.handle.steps()["failed"].sum():
                checks.check(self)
                return
            if status is not None:
                self.handle.retry(self.job, quiet=True)
        self.found("stuck", self.picture())

    # --- what a user does --------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        self.say("act", action.name)
        dice = random.Random(action.seed)
        try:
            getattr(self, f"_{action.name}")(dice)
        except REFUSALS as error:
            self.say("refused", action.name, error)

    def _main(self) -> nb.JobHandle[Any]:
        return self.batch.instance(1, self.job)

    def _pause(self, dice: random.Random) -> None:
        self._main().pause()
        self._compare()

    def _resume(self, dice: random.Random) -> None:
        self._main().resume(self.job if dice.random() < 0.5 else None)

    def _pause_resume(self, dice: random.Random) -> None:
        self._main().pause()
        time.sleep(dice.random() * 0.05)
        self._main().resume()

    def _cancel(self, dice: random.Random) -> None:
        self._main().cancel()

    def _retry(self, dice: random.Random) -> None:
        self._main().retry(self.job, quiet=True)

    def _rerun(self, dice: random.Random) -> None:
        """Of a paused or ended run: a step, all of it or some items."""
        import polars as pl

        run = self._main()
        if run.status not in INSTANCE_ENDED:
            run.pause()
            self._quiet(run)
        trace = Trace()
        self.world.chain.evaluate(self.world.rules, "r", trace)
        step = dice.choice([name for name in self.world.chain.steps() if name in trace.given])
        items = [item for item in trace.given[step] if dice.random() < 0.3]
        some = items and "." in items[0] and step not in self.world.chain.paged() and dice.random() < 0.7
        run.rerun(self.job, step=step, where=pl.col("value").is_in(items) if some else None)

    def _quiet(self, run: nb.JobHandle[Any]) -> None:
        """Wait until nothing of a paused run is in progress."""
        until = time.monotonic() + 2
        while run.steps()["in_progress"].sum() and time.monotonic() < until:
            time.sleep(0.005)

    def _skip(self, dice: random.Random) -> None:
        run = self._main()
        frame = run.chunks().filter(step=dice.choice(self.world.chain.steps()))
        open_ones = frame.filter(~frame["status"].is_in(["COMPLETED", "SKIPPED"]))
        if len(open_ones):
            run.skip(dice.choice(open_ones["id"].to_list()), "by hand")

    def _skip_first(self, dice: random.Random) -> None:
        self._main().skip(self._main().chunks(limit=1)["id"][0], "by hand")

    def _retry_group(self, dice: random.Random) -> None:
        groups = self._main().failures()
        if len(groups):
            groups[dice.randrange(len(groups))].retry(self.job)

    def _purge(self, dice: random.Random) -> None:
        for name in self.subs:
            self.batch.purge(older_than=timedelta(0), job=name)

    def _purge_other(self, dice: random.Random) -> None:
        """A small run beside, to its end and away."""
        self.batch.submit(_OTHER, dice.randrange(5)).wait(STILL)
        self.batch.purge(older_than=timedelta(0), job=_OTHER.name)

    def _mend(self, dice: random.Random) -> None:
        path = Path(self.world.rules.mended)
        path.write_text(str(min(LEVELS, int(path.read_text()) + 1)))

    def _sub(self, dice: random.Random) -> None:
        """Pause, resume, cancel or retry a sub-job by itself."""
        rows = [row for row in self.batch.instances().select("id", "job").rows() if row[1] in self.subs]
        if rows:
            instance, job = dice.choice(rows)
            run = self.batch.instance(instance, self.subs[job])
            word = dice.choice(("pause", "resume", "resume", "cancel", "retry"))
            run.retry(quiet=True) if word == "retry" else getattr(run, word)()

    # --- watching ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        """No count is ever negative, at any moment of the run."""
        took = 0.0
        while not self._over.wait(0.03 + 4 * took):  # a fifth of the time at most: the run is to go on beside
            began = time.monotonic()
            for text in checks.negative(self.handle):
                self.found("negative", text)
            took = time.monotonic() - began

    def _compare(self) -> None:
        """What the engine counts of a run at rest is what the store has."""
        run = self._main()
        self._quiet(run)
        if run.status == "PAUSED" and not run.steps()["in_progress"].sum():
            for text in checks.differences(self.batch, run):
                self.found("counts", text)


@nb.step
def _several(n: int) -> list[int]:
    return list(range(n))


@nb.step
def _nothing(items: list[int]) -> None: ...


_OTHER = nb.Job("other", _several >> _nothing)

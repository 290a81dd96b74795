"""What nbbatch promises, as a pure model: plain data, no store, no threads, no clock but a number of seconds.

A method for each thing that may happen: what a person asks, what workers do, what befalls a process. After each of them
`work` does all that follows by itself: waits that are over, gates, reductions, sub-jobs, ends.
"""

from collections.abc import Callable, Iterable
from typing import Any

from tests.model.records import CLOSED, ENDED, Chunk, Job, Run, refuse_if

BACKOFF, POLL = 10, 30  # seconds
# What became of an attempt (done, error, fatal, fail, fail job, later, skip, odd: see `skip_on=`), and its outputs.
Said = tuple[str, list[Any]]


class Model:
    def __init__(self) -> None:
        self.now, self.events, self.runs = 0, 0, list[Run]()

    def submit(self, job: Job, value: Any, parent: Chunk | None = None, *, new: bool = False) -> Run:
        same = [r for r in self.runs if (r.job, r.value, r.parent) == (job, value, parent)]
        for run in [r for r in reversed(same) if parent or not (new or r.status in ENDED)]:
            run.attached |= run.status not in ENDED
            return run
        self.runs.append(Run(job, value, parent))
        self.runs[-1].add(0, value)
        return self.runs[-1]

    def resume(self, run: Run) -> None:
        refuse_if(run.status in ENDED)
        run.attached, run.status = True, "QUEUED" if run.status == "PAUSED" else run.status

    def pause(self, run: Run) -> None:
        refuse_if(run.status in ENDED)
        run.status = "PAUSED"

    def cancel(self, run: Run) -> None:
        if run.status not in ENDED:
            for chunk in [c for c in run.of() if c.state not in CLOSED]:
                self.change(chunk, "CANCELLED")
            self.turn(run, "CANCELLED")
            for child in [r for r in self.runs if r.parent and r.parent.run is run]:
                self.cancel(child)

    def skip(self, run: Run, chunk: Chunk) -> None:
        refuse_if(chunk.node.kind == "reduction" or chunk.state in {"IN_PROGRESS", *CLOSED - {"FAILED"}})
        self.change(chunk, "SKIPPED")
        if run.status == "FAILED" and not run.exceeds() and not any(c.stops and c.state == "FAILED" for c in run.of()):
            self.take_up(run)

    def retry(self, run: Run, chosen: Iterable[Chunk] | None = None) -> None:
        """Failed chunks again, of an ended run cancelled ones too; of one that ended also steps with always=True."""
        refuse_if(run.status == "COMPLETED" and not run.has("FAILED"))
        ended = run.status in ENDED
        for step, node in enumerate(run.job.steps):
            if ended and node.always and chosen is None:
                self.replace(run, [c for c in run.of(step) if c.state == "COMPLETED"])
        for chunk in run.of() if chosen is None else list(chosen):
            if chunk.state == "FAILED" or (ended and chunk.state == "CANCELLED"):
                self.change(chunk, "QUEUED" if run.is_open(chunk.step) else "GATE_WAITING")
                chunk.errors = 0
        self.take_up(run)

    def rerun(self, run: Run, chosen: list[Chunk]) -> None:
        idle = not run.attached or (run.status == "PAUSED" and not run.has("IN_PROGRESS"))
        refuse_if(not chosen or not (run.status in ENDED or idle))
        self.replace(run, chosen)
        for child in [r for r in self.runs if r.parent and r.parent.run is run and r.parent.superseded]:
            self.cancel(child)
        self.turn(run, "IN_PROGRESS")
        self.take_up(run)

    def purge(self) -> None:
        self.runs = [run for run in self.runs if run.status not in ENDED]

    def claim(self, chunk: Chunk) -> None:
        assert chunk.is_claimable(self.now), f"{chunk.state} of step {chunk.node.name} may not be claimed"
        chunk.before, chunk.state, chunk.attempts = chunk.state, "IN_PROGRESS", chunk.attempts + 1
        chunk.run.started = True

    def settle(self, chunk: Chunk, said: str, outputs: list[Any]) -> None:
        """The end of an attempt that is waited for: of a chunk that is IN_PROGRESS, and not superseded."""
        run, node = chunk.run, chunk.node
        skips = node.skips(said)
        if said == "done":
            self.complete(chunk, outputs)
        elif said == "later":
            self.change(chunk, "POLL_WAITING", POLL)
            chunk.polls += 1
        elif skips == "now" and run.may_skip(chunk.step):
            self.change(chunk, "SKIPPED")
        else:
            chunk.errors, chunk.stops = chunk.errors + 1, said == "fail job"
            again = said in {"error", "odd"} and skips != "now" and chunk.errors < node.attempts
            last = "SKIPPED" if skips == "last" and run.may_skip(chunk.step) else "FAILED"
            self.change(chunk, "ERRORED" if again else last, BACKOFF * 2 ** (chunk.errors - 1))
        torn = node.bisect and (chunk.state == "FAILED" or (chunk.state == "SKIPPED" and said == "odd"))
        for seq, half in enumerate(chunk.halves() if torn and said != "fail job" else []):
            chunk.superseded = chunk.split = True
            run.add(chunk.step, half, chunk, seq)
        run.failing |= said == "fail job" or (run.job.fail_fast and said != "done" and run.exceeds())

    def complete(self, chunk: Chunk, outputs: list[Any]) -> None:
        self.change(chunk, "COMPLETED")
        chunk.outputs, takers = outputs, chunk.run.takers(chunk.step, reduction=False)
        for seq, (value, step) in enumerate((value, step) for value in outputs for step in takers):
            chunk.run.add(step, value, chunk, seq)
        chunk.run.report = outputs if chunk.node.kind == "reduction" else chunk.run.report

    def crash(self, begun: Iterable[Chunk] = ()) -> None:
        """The process ends: claims come to nothing, and what had begun has lost an attempt."""
        for run in self.runs:
            run.attached = run.status in ENDED
            for chunk in [c for c in run.of() if c.state == "IN_PROGRESS"]:
                if chunk in begun:
                    chunk.errors, chunk.stops = chunk.errors + 1, False
                    self.change(chunk, "QUEUED" if chunk.errors < chunk.node.attempts else "FAILED")
                else:
                    chunk.state, chunk.attempts = chunk.before, chunk.attempts - 1

    def work(self, outcome: Callable[[Chunk], Said] | None = None) -> None:
        """All that happens by itself: of attempts those of sub-jobs; with outcomes, all others too."""
        while any(self.advance(run) or self.attempt(run, outcome) for run in list(self.runs)):
            pass

    def attempt(self, run: Run, outcome: Callable[[Chunk], Said] | None) -> bool:
        found = [c for c in run.of() if c.is_claimable(self.now) and (outcome or c.node.job)]
        for chunk in found[:1]:
            self.claim(chunk)
            if chunk.node.job:
                child = self.submit(chunk.node.job, chunk.value, chunk)
                if child.status in {"FAILED", "CANCELLED"} and child.touched < chunk.touched:
                    self.retry(child)
                self.tell_parent(child)
            elif outcome:
                self.settle(chunk, *outcome(chunk))
        return bool(found)

    def tell_parent(self, run: Run) -> None:
        chunk = run.parent
        if chunk and run.status in ENDED and chunk.state == "IN_PROGRESS" and not chunk.superseded:
            self.settle(chunk, *(("done", [run.report]) if run.status == "COMPLETED" else ("error", [])))

    def advance(self, run: Run) -> bool:
        """Open gates, end runs. Returns whether anything changed."""
        before = run.status, len(run.opened)
        if run.rests():
            return False
        for step, node in enumerate(run.job.steps):
            if not run.failing and not run.is_open(step) and run.is_ready(step):
                run.opened.add(step)
                if node.kind == "reduction":
                    run.add(step, None)
                for chunk in [c for c in run.of(step) if c.state == "GATE_WAITING"]:
                    self.change(chunk, "QUEUED")
        self.turn(run, run.stands())
        return before != (run.status, len(run.opened))

    def take_up(self, run: Run) -> None:
        """Go on, an ended run too. What stands behind a step that is not done any more waits; a report is made anew."""
        run.attached = True
        if run.status in ENDED:
            self.turn(run, "IN_PROGRESS")
        for step in [s for s in run.opened if not run.is_ready(s)]:
            run.opened.discard(step)
            for chunk in run.of(step):
                chunk.superseded |= chunk.node.kind == "reduction"
                if chunk.state == "QUEUED":
                    self.change(chunk, "GATE_WAITING")

    def replace(self, run: Run, chosen: list[Chunk]) -> None:
        """Supersede chunks and all that came of them; those that came of no other chosen one are made anew."""
        gone = run.family(chosen)
        for chunk in gone:
            chunk.superseded = True
        for chunk in [c for c in chosen if c.parent not in gone]:
            run.add(chunk.step, chunk.value, chunk.parent, chunk.seq)

    def turn(self, run: Run, status: str) -> None:
        """Put a run into a state; an end is told to the chunk that waits for it."""
        self.events += 1
        run.started |= status == "IN_PROGRESS"
        run.failing, run.status, run.touched = run.failing and status not in ENDED, status, self.events
        self.tell_parent(run)

    def change(self, chunk: Chunk, state: str, seconds: int = 0) -> None:
        self.events += 1
        chunk.state, chunk.due, chunk.touched = state, self.now + seconds, self.events

"""What nbbatch promises, as a pure model. `work` does all that follows by itself: gates, reductions, sub-jobs, ends."""

from collections.abc import Callable, Iterable
from typing import Any

from tests.model.chunks import Chunk
from tests.model.jobs import BACKOFF, CLOSED, ENDED, POLL, Job, Said, refuse_if
from tests.model.runs import Run


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
        for child in [r for r in self.runs if r.parent is chunk]:
            self.cancel(child)
        if run.status == "FAILED" and not run.exceeds() and not any(c.stops and c.state == "FAILED" for c in run.of()):
            self.take_up(run)

    def retry(self, run: Run, chosen: Iterable[Chunk] | None = None) -> None:
        """Failed chunks again, of an ended run cancelled ones too; of one that ended also steps with always=True."""
        refuse_if(run.status == "COMPLETED" and not run.has("FAILED"))
        ended = run.status in ENDED
        if ended and chosen is None:
            run.replace([c for c in run.of() if c.node.always and c.state == "COMPLETED"])
        for chunk in run.of() if chosen is None else list(chosen):
            if chunk.state == "FAILED" or (ended and chunk.state == "CANCELLED"):
                self.change(chunk, "QUEUED" if run.is_open(chunk.step) else "GATE_WAITING")
                chunk.errors = 0
        self.take_up(run)

    def rerun(self, run: Run, chosen: list[Chunk]) -> None:
        idle = not run.attached or (run.status == "PAUSED" and not run.has("IN_PROGRESS"))
        refuse_if(not chosen or not (run.status in ENDED or idle))
        run.replace(chosen)
        for child in [r for r in self.runs if r.parent and r.parent.run is run and r.parent.superseded]:
            self.cancel(child)
        self.turn(run, "IN_PROGRESS")
        self.take_up(run)

    def purge(self) -> None:
        self.runs = [run for run in self.runs if run.status not in ENDED]

    def settle(self, chunk: Chunk, said: str, outputs: list[Any]) -> None:
        """The end of an attempt that is waited for: of a chunk that is IN_PROGRESS, and not superseded."""
        run, state = chunk.run, chunk.becomes(said)
        self.change(chunk, state, POLL if said == "later" else BACKOFF * 2 ** max(0, chunk.errors - 1))
        chunk.polls += said == "later"
        if said == "done":
            run.take(chunk, outputs)
        torn = chunk.node.bisect and said != "fail job" and (state == "FAILED" or (state, said) == ("SKIPPED", "odd"))
        for seq, half in enumerate(chunk.halves() if torn else []):
            chunk.superseded = chunk.split = True
            run.add(chunk.step, half, chunk, seq)
        run.failing |= said == "fail job" or (run.job.fail_fast and said != "done" and run.exceeds())

    def crash(self, begun: Iterable[Chunk] = ()) -> None:
        """The process ends: claims come to nothing, and what had begun has lost an attempt."""
        for run in self.runs:
            run.attached = run.status in ENDED
            for chunk in [c for c in run.of() if c.state == "IN_PROGRESS"]:
                if chunk in begun:
                    self.change(chunk, "FAILED" if chunk.becomes("error") == "FAILED" else "QUEUED")
                else:
                    chunk.state, chunk.attempts = chunk.before, chunk.attempts - 1

    def work(self, outcome: Callable[[Chunk], Said] | None = None) -> None:
        """All that happens by itself: of attempts those of sub-jobs; with outcomes, all others too."""
        while any(self.advance(run) or self.attempt(run, outcome) for run in list(self.runs)):
            pass

    def attempt(self, run: Run, outcome: Callable[[Chunk], Said] | None) -> bool:
        found = [c for c in run.of() if c.is_claimable(self.now) and (outcome or c.node.job)]
        for chunk in found[:1]:
            chunk.claim(self.now)
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
        for step in range(len(run.job.steps)):
            if not run.failing and not run.is_open(step) and run.is_ready(step):
                for chunk in run.open(step):
                    self.change(chunk, "QUEUED")
        self.turn(run, run.stands())
        return before != (run.status, len(run.opened))

    def take_up(self, run: Run) -> None:
        """Go on, an ended run too. What stands behind a step that is not done any more waits; a report is made anew."""
        run.attached = True
        if run.status in ENDED:
            self.turn(run, "IN_PROGRESS")
        for step in [s for s in run.opened if not run.is_ready(s)]:
            for chunk in run.shut(step):
                self.change(chunk, "GATE_WAITING")

    def turn(self, run: Run, status: str) -> None:
        """Put a run into a state; an end is told to the chunk that waits for it."""
        self.events += 1
        run.started |= status == "IN_PROGRESS"
        run.failing, run.status, run.touched = run.failing and status not in ENDED, status, self.events
        self.tell_parent(run)

    def change(self, chunk: Chunk, state: str, seconds: int = 0) -> None:
        self.events += 1
        chunk.state, chunk.due, chunk.touched = state, self.now + seconds, self.events

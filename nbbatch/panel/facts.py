"""What a run's page leads with, from its snapshot: one text for the panel, the plain page and the text form. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbbatch.base.display import plural
from nbbatch.base.states import CHUNK_OPEN, STACKED, WAITS_FOR_JOB, ChunkStatus, InstanceStatus, standing
from nbbatch.panel.snapshot import Snapshot
from nbbatch.pictures.chain_picture import StepFacts
from nbbatch.pictures.chain_picture import standing as state_of
from nbbatch.pictures.figures import NONE, Fact, by_state, clock, share
from nbbatch.pictures.markup import clip
from nbbatch.pictures.style import about, duration, spoken

_C = ChunkStatus
ROUGH_US = 10_000_000
SHORT = 16
"""Characters that are shown large."""
_WELL = (_C.COMPLETED, _C.SKIPPED)


# --- the head -------------------------------------------------------------------------------------


def state(now: Snapshot) -> str:
    """Glyph and words of how it stands."""
    since = "" if now.paused_us is None else clock(now.paused_us)
    glyph = now.status.look.glyph if now.known else WAITS_FOR_JOB.glyph
    return f"{glyph} {standing(now.status, known=now.known, failed=now.failed, since=since)}"


def name(now: Snapshot) -> tuple[str, str]:
    """The job, and which run of it this is: the first may be cut where there is no room, the second not."""
    key = "" if now.key is None else f" · {clip(now.key, 60)}"
    return clip(now.job, 120), f"v{now.version} #{now.id}{key}"


def when(now: Snapshot) -> str:
    """Of the run's own time: how long it took, or has worked until now."""
    if now.elapsed is None:
        return "not begun yet"
    if now.ended:
        ended = "" if now.ended_us is None else f"ended {clock(now.ended_us)}, "
        return f"{ended}took {spoken(now.elapsed)}"
    return f"{spoken(now.elapsed)} so far" if now.elapsed >= 1 else "just begun"


def below(now: Snapshot) -> str:
    """The line below the bar."""
    if not now.chunks:
        return "no chunks yet"
    total = f"{now.done:,} of {now.chunks:,} chunks"
    parts = [total + (" so far, more to come" if now.growing and not now.ended else "")]
    if now.reused:
        parts.append(f"reused {now.reused:,}")
    if not now.ended:
        parts.append(f"{share(now.share)} of the work")
    if now.cancelled:
        parts.append(f"{now.cancelled:,} cancelled")
    mended = now.errors - now.failed
    if mended > 0:
        parts.append(f"{plural(now.errors, 'attempt')} ended in an error")
    parts.append(f"took {spoken(now.elapsed)}" if now.ended and now.elapsed is not None else when(now))
    if not now.whole:
        parts.append("reading what was before …")
    return " · ".join(parts)


def bar(now: Snapshot) -> list[tuple[ChunkStatus, int]]:
    """Chunks by state in the order of the bar."""
    states = now.states
    return [(status, states[status]) for status in STACKED if states.get(status)]


def bar_words(now: Snapshot) -> str:
    """What the bar shows, for whoever does not see it."""
    return (
        f"{by_state(now.states) or 'none'} of {now.chunks:,} chunks{' so far' if now.growing and not now.ended else ''}"
    )


# --- the tiles ------------------------------------------------------------------------------------


def facts(now: Snapshot, *, live: bool = True) -> list[Fact]:
    """The figures that tell most: of what goes on, or at the end of how it went.

    Args:
        now: The run.
        live: Whether they are drawn again; a page that is kept says nothing of what is to come.
    """
    return _after(now) if now.ended else _meanwhile(now, live)


def _meanwhile(now: Snapshot, live: bool) -> list[Fact]:
    found = [_done(now), _failed(now), _running(now), _rate(now)]
    return [*found, _eta(now)] if live else found


def _done(now: Snapshot) -> Fact:
    well = sum(now.states.get(status, 0) for status in _WELL)
    of = f"of {now.chunks:,}" + (" so far" if now.growing and not now.ended else "")
    of += f", reused {now.reused:,}" if now.reused else ""
    return Fact(label="Done", value=f"{well:,}", note=of, key="done", opens="chunks")


def _failed(now: Snapshot) -> Fact:
    waits = now.states.get(_C.ERRORED, 0)
    again = f"{waits:,} to be retried" if waits else ""
    return _failures(now, _causes(now), again, "" if now.failed or again else "all well")


def _failures(now: Snapshot, *notes: str) -> Fact:
    note = ", ".join(filter(None, notes))
    return Fact(label="Failed", value=f"{now.failed:,}", note=note, key="failed", opens="failures", bad=now.failed > 0)


def _causes(now: Snapshot) -> str:
    return plural(now.causes, "cause") if now.failed and now.causes else ""


def _running(now: Snapshot) -> Fact:
    if not now.known:
        return Fact(label="Running", value=NONE, note="nobody works on it", key="running")
    of = f"of {plural(now.workers, 'worker')}" if now.workers else "now"
    return Fact(label="Running", value=f"{len(now.running):,}", note=of, key="running", opens="now")


def _rate(now: Snapshot) -> Fact:
    if now.rate is None or now.status is InstanceStatus.PAUSED:
        return Fact(label="Rate", value=NONE, note=_unknown(now), key="rate", line=now.rates if now.known else ())
    return Fact(label="Rate", value=_speed(now.rate), note="records a second", key="rate", line=now.rates)


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _eta(now: Snapshot) -> Fact:
    if now.done_us is None or now.eta is None:
        return Fact(label="Done about", value=NONE, note=_unknown(now), key="eta")
    return Fact(label="Done about", value="{at}", note=f"{about(now.eta)} left", key="eta", at_us=_rough(now.done_us))


def _rough(us: int) -> int:
    """A moment that is not known to the second."""
    return round(us / ROUGH_US) * ROUGH_US


def _unknown(now: Snapshot) -> str:
    """Why a figure is not known."""
    if not now.known:
        return "its job is not known here"
    if now.status is InstanceStatus.PAUSED:
        return "while it is paused"
    return "not known yet"


def _after(now: Snapshot) -> list[Fact]:
    took = NONE if now.elapsed is None else spoken(now.elapsed)
    ended = "" if now.ended_us is None else "until {at}"
    slow = [] if now.slowest is None else [_slowest(*now.slowest)]
    skipped = now.states.get(_C.SKIPPED, 0)
    left_out = (
        [Fact(label="Skipped", value=f"{skipped:,}", note="with a reason", key="skipped", opens="failures")]
        if skipped
        else []
    )
    return [*_outcome(now), Fact(label="Took", value=took, note=ended, key="took", opens="timeline", at_us=now.ended_us), *slow,
            _failures(now, f"of {now.chunks:,} chunks", f"reused {now.reused:,}" if now.reused else "", _causes(now)), *left_out]  # fmt: skip


def _outcome(now: Snapshot) -> list[Fact]:
    """What came of it: the report, or why there is none."""
    if now.report is not None:
        key = "report" if len(now.report) > SHORT else "result"
        return [Fact(label="Report", value=now.report, key=key)]
    if now.error:
        return [Fact(label="Why it failed", value=clip(now.error, 200), key="report", bad=True)]
    if now.status is InstanceStatus.CANCELLED:
        return [
            Fact(
                label="Cancelled",
                value=f"{now.cancelled:,}",
                note=f"of {now.chunks:,} chunks not done",
                key="done",
                opens="chunks",
            )
        ]
    return [_done(now)]


def _slowest(step: str, part: float) -> Fact:
    return Fact(
        label="Slowest step", value=clip(step, 40), note=f"{share(part)} of the time", key="slowest", opens="timeline"
    )


# --- what to do next ------------------------------------------------------------------------------


def following(now: Snapshot) -> list[tuple[str, str]]:
    """What to do next: code, and what it does."""
    if not now.known:
        return [("batch.resume(job)", "goes on with it; so does the cell that submits it")]
    if now.status is InstanceStatus.PAUSED:
        return [("run.resume()", "goes on")]
    if not now.ended:
        return [("run.wait()", "waits for its end")]
    if now.failed:
        return [
            ("run.failures()", "lists them by cause"),
            ("run.retry(job)", "runs only them again, after mending the cell"),
        ]
    if now.status is InstanceStatus.CANCELLED:
        return [("run.retry(job)", "takes it up again")]
    last = next((step.name for step in reversed(now.steps) if step.kind not in ("none", "reduction")), None)
    result = [("run.result()", "gives its report")] if now.report is not None else []
    return result + ([(f"run.outputs({last!r})", "what that step gave")] if last else [])


# --- the chain ------------------------------------------------------------------------------------


def chain(now: Snapshot) -> list[dict[str, Any]]:
    """The steps as a live page gets them."""
    return [_step(now, place, each) for place, each in enumerate(now.steps)]


def _step(now: Snapshot, place: int, step: StepFacts) -> dict[str, Any]:
    status = state_of(step)
    counts = [[each.value, step.counts[each]] for each in STACKED if step.counts.get(each)]
    failed = step.counts.get(_C.FAILED, 0)
    given = {"none": "", "many": f"* {step.gives}"}.get(step.kind, step.gives)
    line, more = chain_line(now, place)
    return {
        "name": clip(step.name, 60), "gated": step.gated, "targets": list(step.targets),
        "state": status.value if status else "", "mark": f"{failed:,} ✗" if failed else status.look.glyph if status else "",
        "counts": counts, "words": by_state(step.counts) or "no chunks yet", "gives": clip(given, 40),
        "line": line, "more": more, "now": bool(step.counts.get(_C.IN_PROGRESS)),
        "idle": status in (None, _C.GATE_WAITING),
    }  # fmt: skip


def chain_line(now: Snapshot, place: int) -> tuple[str, str]:
    """How far a step is, and what else is known of it."""
    step = now.steps[place]
    return progress(step), _given(now, place) or pace(step) or waits(now, place)


def progress(step: StepFacts) -> str:
    """How far a step is."""
    done = sum(step.counts.get(status, 0) for status in (*_WELL, _C.FAILED))
    if not step.total:
        return "nothing to do yet" if step.growing else "not reached"
    if step.growing:
        return f"{done:,} of {step.total:,} so far"
    return f"{done:,} of {step.total:,}"


def _given(now: Snapshot, place: int) -> str:
    """How much a fan-out that goes on has given."""
    given = [each.given for each in now.running if each.step == place and each.given is not None]
    return f"has given {sum(given):,} so far" if given else ""


def pace(step: StepFacts, *, live: bool = True) -> str:
    """How fast a step is, and how long it still takes, which a page that is kept does not tell."""
    median = "took" if step.total == 1 else "median"
    parts = [] if step.median is None else [f"{median} {duration(step.median)}"]
    if step.rate and any(step.counts.get(status) for status in CHUNK_OPEN):
        parts.append(f"{_speed(step.rate)}/s")
    if step.left and live:
        parts.append(f"{about(step.left)} left")
    return " · ".join(parts)


def waits(now: Snapshot, place: int) -> str:
    """What a step that has not begun waits for."""
    step, before = now.steps[place], [each.name for each in now.steps if place in each.targets]
    if step.gated and before and not now.ended:
        return f"waits for all of {clip(' and '.join(before), 40)}"
    return ""


# --- as text --------------------------------------------------------------------------------------


def headline(now: Snapshot) -> str:
    """One line: state, job, run and time."""
    job, which = name(now)
    return f"{state(now)} · {job} {which} · {when(now)}"


def step_lines(steps: Sequence[StepFacts]) -> list[str]:
    """The steps as text, a line each."""
    wide = max((len(clip(step.name, 32)) for step in steps), default=0)
    return [
        f"  {clip(step.name, 32):<{wide}}  {progress(step)}"
        + (f" · {said}" if (said := pace(step, live=False)) else "")
        for step in steps
    ]

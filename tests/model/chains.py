"""Random chains: how they are drawn, and the job of nbbatch that each of them is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import nbbatch as nb
from tests.model import jobs
from tests.model.jobs import BACKOFF
from tests.model.world import Odd, work

SEGMENTS = {"one": 1, "many": 1, "page": 2, "sub": 2, "branch": 2}
"""What stands in the middle of a chain, and of how many steps: a page and a sub-job are followed by a step that unpacks."""


Choose = Callable[[list[Any]], Any]
"""Picks one of some values."""


def job(choose: Choose, *, ordered: bool, inner: bool = False) -> jobs.Job:
    """A job; ``ordered``: also options whose effect depends on the order in which chunks are worked on."""
    kinds = [kind for kind in SEGMENTS if not inner or kind != "sub"]
    steps = [step_of(choose, "first", (), 0, ordered=ordered)]
    tails: tuple[int, ...] = (0,)
    for segment in [choose(kinds) for _ in range(choose([0, 1] if inner else [0, 1, 2, 3]))]:
        here = len(steps)
        first = choose(["one", "many"]) if segment == "branch" else segment
        steps.append(step_of(choose, first, tails, here, ordered=ordered))
        if segment == "branch":
            steps.append(step_of(choose, choose(["one", "many"]), tails, here + 1, ordered=ordered))
        elif SEGMENTS[segment] == 2:
            steps.append(step_of(choose, "flat", (here,), here + 1, ordered=ordered))
        tails = (here, here + 1) if segment == "branch" else (len(steps) - 1,)
    end = "reduction" if inner else choose(["none", "reduction"])
    steps.append(step_of(choose, end, tails, len(steps), ordered=ordered))
    return jobs.Job("inner" if inner else "outer", tuple(steps), ordered and choose([False] * 9 + [True]))


def step_of(choose: Choose, kind: str, sources: tuple[int, ...], index: int, *, ordered: bool) -> jobs.Step:
    given: dict[str, Any] = {"sources": sources, "gated": kind == "reduction"}
    if kind == "sub":
        given |= {"job": job(choose, ordered=ordered, inner=True), "attempts": choose([1, 2])}
    else:
        given |= {"attempts": choose([1, 2, 3]), "always": choose([False] * 7 + [True])}
        given |= {"retries_odd": choose([False, False, False, True])}
    if kind not in {"first", "reduction"}:
        given |= {"gated": choose([False, False, True]), "max_failed": choose([0, 0, 1, 9])}
    if kind not in {"sub", "reduction"}:
        given |= {"skips_odd": choose([False, True]), "max_skipped": choose([None] * 4 + [1]) if ordered else None}
    return jobs.Step(f"{kind}{index}", kind, bisect=kind == "flat" and choose([False, True]), **given)


@cache
def built(job: jobs.Job) -> nb.Job[int, Any]:
    """The job of nbbatch that a job of the model stands for."""
    made = [made_step(step) for step in job.steps]
    chain, done = made[0], 1
    while done < len(made):
        branches = [i for i, step in enumerate(job.steps) if step.sources == job.steps[done].sources]
        chain = chain >> (made[done] if len(branches) == 1 else made[done] | made[done + 1])
        done += len(branches)
    return nb.Job(job.name, chain, fail_fast=job.fail_fast, version=version_of(job))


@cache
def version_of(job: jobs.Job) -> int:
    """One for each shape: jobs of one name and version have one chain."""
    VERSIONS.append(job)
    return len(VERSIONS)


VERSIONS: list[jobs.Job] = []


def made_step(step: jobs.Step) -> Any:
    options: dict[str, Any] = {
        "max_attempts": step.attempts,
        "max_failed": step.max_failed,
        "backoff": nb.Backoff(base=BACKOFF, cap=1_000, jitter=0),
        "gate": step.gated and step.kind != "reduction",
    }
    if step.job is not None:
        return built(step.job).as_step(step.name, **options)
    options |= {"bisect": step.bisect, "always": step.always, "max_skipped": step.max_skipped}
    options |= {"skip_on": Odd} if step.skips_odd else {}
    options |= {"retry_on": Odd} if step.retries_odd else {}
    return nb.step(name=step.name, **options)(function_of(step.name, step.kind))


def function_of(name: str, kind: str) -> Callable[..., Any]:
    def first(value: int) -> Iterator[int]:
        yield from work(name, kind, value)

    def one(value: int) -> int:
        return work(name, kind, value)[0]

    def many(value: int) -> Iterator[int]:
        yield from work(name, kind, value)

    def page(value: int) -> list[int]:
        return work(name, kind, value)[0]

    def flat(value: list[int]) -> Iterator[int]:
        yield from work(name, kind, value)

    def none(value: int) -> None:
        work(name, kind, value)

    def reduction(value: Iterable[int]) -> list[int]:
        return work(name, kind, value)

    kinds: dict[str, Callable[..., Any]] = {
        "first": first, "one": one, "many": many, "page": page, "flat": flat, "none": none, "reduction": reduction,
    }  # fmt: skip
    return kinds[kind]


def short(step: jobs.Step, printer: Any, cycle: bool) -> None:
    """As hypothesis shows it: what is not as usual."""
    plain = jobs.Step("", "")
    said = [f"{key}={value!r}" for key, value in vars(step).items() if value != getattr(plain, key)]
    printer.text(f"Step({', '.join(said)})")


jobs.Step._repr_pretty_ = short  # type: ignore[attr-defined]

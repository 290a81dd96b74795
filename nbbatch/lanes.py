"""Where claimed chunks wait and run, and how much of it is taken: one lane per executor, and one for sub-jobs."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from nbbatch.executors import Replaceable, inline
from nbbatch.live import LiveStep

SLOW_US = 50_000
"""Micro-batches longer than this are claimed only when a worker is free …"""
AHEAD_US = 150_000
"""… and shorter ones ahead, for about this much work per worker, so that a commit takes in many of them …"""
AHEAD = 8
"""… but at most so many per worker."""
SPARE_US = 20_000
"""Work that a worker still has before it when a commit begins; with more, what arrives is waited for."""
SUBJOBS_AT_ONCE = 64
"""Sub-instances that chunks of one step wait for at once, unless ``concurrency=`` says otherwise; they hold no worker."""


@dataclass(slots=True, eq=False)
class Lane:
    """An executor and how much of it is taken."""

    executor: Executor
    workers: int
    tasks: int = 0
    work_us: float = 0.0
    """What is in the pool takes about this long, by what came before."""

    def has_room(self, step: LiveStep) -> bool:
        if self.tasks < self.workers:
            return True
        if isinstance(self.executor, inline) or not step.mean_us:
            return False
        work = step.mean_us * step.size
        ahead = min(AHEAD, int(AHEAD_US / work)) if work < SLOW_US else 0
        return self.tasks < (1 + ahead) * self.workers

    @property
    def is_replaceable(self) -> bool:
        """Whether its workers can be killed, and others take their place."""
        return isinstance(self.executor, Replaceable)

    def spare(self) -> float:
        """Seconds until a worker may want for work, less a margin."""
        running = self.work_us / self.tasks
        return (self.work_us / self.workers - running - max(running, SPARE_US)) / 1e6


class SubjobLane(Lane):
    """Where chunks wait for instances that they submitted."""

    def has_room(self, step: LiveStep) -> bool:
        return step.in_flight < (step.node.step.options.concurrency or SUBJOBS_AT_ONCE)

"""When the listeners of a job are told what: each moment once, after it is stored. Belongs to the dispatcher thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nbbatch.announcer import Announcer
from nbbatch.live import LiveInstance, LiveStep
from nbbatch.progress import done_steps
from nbbatch.settle import Changes
from nbbatch.states import InstanceStatus

Tell = Callable[[LiveInstance, str, str], None]
"""Tells of an instance the moment, and the step's name or how the instance ended; never raises."""


class Moments:
    """The moments of one engine's instances; a job without listeners costs one look at them."""

    def __init__(self, announcer: Announcer, tell: Tell) -> None:
        self._announcer = announcer
        self._tell = tell

    def began(self, live: LiveInstance, step: LiveStep, changes: Changes) -> None:
        """Chunks of a step are claimed: the first ones of the step, or of the instance, are told of."""
        if live.job.listeners:
            if live.status is InstanceStatus.QUEUED:
                self._once(live, "instance_started", changes)
            self._once(live, "step_started", changes, step)

    def advanced(self, live: LiveInstance, changes: Changes) -> None:
        """Counts have changed: tell of steps that are done, and whose predecessors are."""
        if not live.job.listeners:
            return
        for step, ended in zip(live.steps, done_steps(live.job.nodes, live.counts), strict=True):
            if ended and ("step_started", step.node.index) in live.told:
                self._once(live, "step_ended", changes, step)

    def ended(self, live: LiveInstance, status: InstanceStatus) -> None:
        """The end of an instance is stored: tell of its steps that are still open, then of it."""
        job = live.job
        for step in live.steps if job.listeners else ():
            if ("step_started", step.node.index) in live.told and ("step_ended", step.node.index) not in live.told:
                self._announcer.add(live.id, partial(self._tell, live, "step_ended", step.node.step.name))
        if job.listeners or job.on_complete or job.on_error:
            self._announcer.add(live.id, partial(self._tell, live, "instance_ended", status.value))

    def _once(self, live: LiveInstance, moment: str, changes: Changes, step: LiveStep | None = None) -> None:
        name, index = (step.node.step.name, step.node.index) if step else ("", -1)
        if (moment, index) not in live.told:
            live.told.add((moment, index))
            changes.after.append(partial(self._announcer.add, live.id, partial(self._tell, live, moment, name)))

"""Notifies listeners of what happened to an instance, each event once, after it is committed, without blocking the dispatcher.

`Notifier` decides which events are due, on the dispatcher thread. `Announcer` calls the listeners: one thread per
instance that has something to tell, for as long as it has, so that the events of one instance arrive in order and a slow
listener delays no other instance.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from nbbatch.base.states import InstanceStatus
from nbbatch.engine.decide import done_steps
from nbbatch.engine.settle import Changes
from nbbatch.engine.state import LiveInstance, LiveStep

Tell = Callable[[LiveInstance, str, str], None]
"""Tells of an instance the moment, and the step's name or how the instance ended; never raises."""


class Announcer:
    """The announcements of one engine."""

    def __init__(self) -> None:
        self._calls: dict[int, deque[Callable[[], None]]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()

    def add(self, instance: int, call: Callable[[], None]) -> None:
        """Have a function that never raises be called after those of this instance that wait already; any thread."""
        with self._lock:
            self._calls.setdefault(instance, deque()).append(call)
            if instance not in self._threads:
                name = f"nbbatch-tells-of-{instance}"
                thread = self._threads[instance] = threading.Thread(
                    target=self._tell, args=(instance,), name=name, daemon=True
                )
                thread.start()

    def wait(self, timeout: float) -> None:
        """Until all is told, for so many seconds at most; a function that asks for it is not waited for."""
        until = time.monotonic() + timeout
        with self._lock:  # so that each of them has been started
            threads = list(self._threads.values())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _tell(self, instance: int) -> None:
        while call := self._next(instance):
            call()

    def _next(self, instance: int) -> Callable[[], None] | None:
        with self._lock:
            if self._calls[instance]:
                return self._calls[instance].popleft()
            del self._calls[instance], self._threads[instance]
            return None


class Notifier:
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

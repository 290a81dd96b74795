"""Notifies listeners of what happened to an instance: each event once, after it is committed, without blocking the dispatcher.

    dispatcher thread ── began, advanced, ended ──▶ events that are due ── after the commit ──▶ queue ──▶ thread ──▶ listeners

One queue and one thread per instance that has something to tell, for as long as it has: its events arrive in order, and a
slow listener delays no other instance. A job without listeners costs one look at them.
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

Notify = Callable[[LiveInstance, str, str], None]
"""Calls the listeners of an instance with an event and the step's name, or how the instance ended; never raises."""


class Notifications:
    """The events of one engine's instances on their way to the listeners."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._queues: dict[int, deque[Callable[[], None]]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()

    # --- which events are due, on the dispatcher thread -------------------------------------------

    def began(self, live: LiveInstance, step: LiveStep, changes: Changes) -> None:
        """Chunks of a step are claimed: the first ones of the step, or of the instance, are an event."""
        if live.status is InstanceStatus.QUEUED:
            self.started(live, changes)
        if live.job.listeners:
            self._once(live, "step_started", step, changes)

    def started(self, live: LiveInstance, changes: Changes) -> None:
        """An instance starts: by its first claim, or without one, as its first chunk was skipped."""
        if live.job.listeners:
            self._once(live, "instance_started", None, changes)

    def advanced(self, live: LiveInstance, changes: Changes) -> None:
        """Counts have changed: steps may have ended, with all before them."""
        if live.job.listeners:
            for step, done in zip(live.steps, done_steps(live.job.nodes, live.counts), strict=True):
                if done and ("step_started", step.node.index) in live.notified:
                    self._once(live, "step_ended", step, changes)

    def ended(self, live: LiveInstance, status: InstanceStatus) -> None:
        """The end of an instance is stored: its steps that are still open end too, before it."""
        if live.job.listeners:
            for step in live.steps:
                if ("step_started", step.node.index) in live.notified:
                    self._once(live, "step_ended", step, None)
        if live.job.listeners or live.job.on_complete or live.job.on_error:
            self.add(live.id, partial(self._notify, live, "instance_ended", status.value))

    def _once(self, live: LiveInstance, event: str, step: LiveStep | None, changes: Changes | None) -> None:
        """Queue an event that was not queued before, once the changes are stored."""
        name, index = (step.node.step.name, step.node.index) if step else ("", -1)
        if (event, index) not in live.notified:
            live.notified.add((event, index))
            call = partial(self.add, live.id, partial(self._notify, live, event, name))
            call() if changes is None else changes.after.append(call)

    # --- the queues -------------------------------------------------------------------------------

    def add(self, instance: int, call: Callable[[], None]) -> None:
        """Have a function that never raises be called after those of this instance that are queued; any thread."""
        with self._lock:
            self._queues.setdefault(instance, deque()).append(call)
            if instance not in self._threads:
                name = f"nbbatch-listeners-of-{instance}"
                thread = threading.Thread(target=self._run, args=(instance,), name=name, daemon=True)
                self._threads[instance] = thread
                thread.start()

    def wait(self, timeout: float) -> None:
        """Until the queues are empty, for so many seconds at most; a listener that asks for it is not waited for."""
        until = time.monotonic() + timeout
        with self._lock:  # so that each of them has been started
            threads = list(self._threads.values())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self, instance: int) -> None:
        while call := self._next(instance):
            call()

    def _next(self, instance: int) -> Callable[[], None] | None:
        with self._lock:
            if self._queues[instance]:
                return self._queues[instance].popleft()
            del self._queues[instance], self._threads[instance]
            return None

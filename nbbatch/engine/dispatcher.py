"""The dispatcher: one thread that claims, submits to the pool, and commits.

    notebook threads ──call()──▶ ┌────────┐   Changes    ┌───────┐
    pool threads ──Finished────▶ │ inbox  │──▶ turn() ──▶ │ Store │  one transaction per turn
    fan-outs ──────Page────────▶ └────────┘      │        └───────┘
                                                 └──after the commit──▶ executor.submit(run_chunks, MicroBatch)

The inbox is the notification channel: a hint that wakes the thread; the truth is in the store. A turn takes all
that has arrived, settles it, decides (gates, reduction, ends), claims what workers have room for, writes all of it
in one transaction and only then acts on it. So a claim is durable before user code runs, and a completion is
durable together with its outputs before anything builds on them. Commits are grouped by themselves: what arrives
during one commit makes up the next. With nothing to do the thread sleeps on the inbox and uses no CPU.

Only the dispatcher writes and only it touches `LiveInstance`; other threads go through `call`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from nbbatch.base.clock import Clock
from nbbatch.base.errors import StoreClosed, StoreError
from nbbatch.base.rows import ChunkRow, Ended
from nbbatch.base.states import INSTANCE_ENDED, INSTANCE_TRANSITIONS, InstanceStatus
from nbbatch.definition import Kind
from nbbatch.engine.claims import Claims
from nbbatch.engine.completions import Completions
from nbbatch.engine.decide import Decision, decide, has_open
from nbbatch.engine.fallback import Fallback
from nbbatch.engine.fused import Chains, work_us
from nbbatch.engine.internal_errors import InternalErrors, Observer
from nbbatch.engine.known import Known
from nbbatch.engine.leftovers import Leftovers
from nbbatch.engine.limits import Flight, Pace
from nbbatch.engine.lives import Lines, Lives
from nbbatch.engine.lost import failed_future, submitted
from nbbatch.engine.notifications import Notifications, Notify
from nbbatch.engine.now import Now
from nbbatch.engine.paging import Arrived, Sink
from nbbatch.engine.pools import Lane, Lanes, no_subjobs
from nbbatch.engine.reuse import Reuse
from nbbatch.engine.settle import Changes
from nbbatch.engine.slices import move_next
from nbbatch.engine.state import LiveInstance, LiveStep, resolve
from nbbatch.engine.updates import CallUpdate, Update, reason
from nbbatch.store.database import Store
from nbbatch.worker.attempt import run_chunks, run_chunks_async
from nbbatch.worker.context import Cancellation, MicroBatch
from nbbatch.worker.error_text import clean
from nbbatch.worker.remote import Packer, hand_on_logs, run_packed
from nbbatch.worker.running import Marks

T = TypeVar("T")
log = logging.getLogger("nbbatch")

LAST_TURN_SECONDS = 1.0
"""How long a batch that closes waits for the dispatcher once attempts are no longer waited for: to store what has arrived."""


@dataclass(slots=True, eq=False)
class _Call:
    run: Callable[[], Any]
    answer: Future[Any]


class Engine:
    """Runs the live instances of one store."""

    def __init__(
        self, store: Store, marks: Marks, clock: Clock, executor: Executor, workers: int, random: Callable[[], float],
        notify: Notify, executors: Mapping[str, Executor] | None = None,
    ) -> None:  # fmt: skip
        """Take over a store; nothing runs before `start`.

        Args:
            store: Whose only writer the engine is from `start` to `stop`.
            marks: Where workers say what they run.
            clock: Of all times it stores.
            executor: Where steps run.
            workers: How many run at once there; 0: ask the executor.
            random: For the jitter of retries; 0 ≤ value < 1.
            notify: Calls the listeners of an instance (see `Job.on`), in order and in a thread of the instance's own, once an
                event is committed.
            executors: Where steps run that name one.
        """
        self.store, self.marks, self.clock, self.leftovers = store, marks, clock, Leftovers(store)
        self._lanes, self._packer = Lanes(executor, workers, executors or {}), Packer()
        self.live = Lives(self._lanes.line)
        self.error: StoreError | None = None
        """Why the engine stopped claiming; None while it works."""
        self.stopped: dict[int, StoreError] = {}
        """Why instances were stopped, by id; see `fallback`."""
        self.internal_errors = InternalErrors()
        self.observer = Observer(self.internal_errors)
        self.pending: list[CallUpdate] = []
        """What commands leave to be stored by the coming turn."""
        self.dormant = store.has_unfinished()
        """Whether the store may hold unfinished instances that are not live."""
        self.secrets: dict[int, dict[str, str]] = {}
        """Secret parameters that this process was given, by instance: a retry after its end needs them."""
        self.known = Known()
        self.reopened = 0
        """How often an ended instance was taken up again: futures of ends from before are void."""
        self._answers: list[tuple[Future[Any], Any]] = []
        """To be given once the turn is stored."""
        self.turns = 0
        """Turns made so far; an idle engine makes none."""
        self.check = self._lanes.check
        self.launch_subjob: Callable[[Engine, MicroBatch], Future[Any]] = no_subjobs
        """How a chunk of a step that is a job is run; set before `start`."""
        self.notifications = Notifications(notify)
        self._inbox: queue.SimpleQueue[Flight | Arrived | _Call | None] = queue.SimpleQueue()
        self.flights: set[Flight] = set()
        self._pace = Pace(self.flights, getattr(clock, "steady", clock.now))  # a clock of tests may have one time only
        self.now = Now(self.flights, self._lanes, clock.now, self._pace.steady)
        self._chains = Chains(store, self._lanes.of, lambda: not (self._stopping or self._is_held), self.notifications)
        self._completions = Completions(
            store, marks, self.live, self.flights, self._pace, random, self.observer, self._packer.lacked, self._chains.begin
        )  # fmt: skip
        self._fallback = Fallback(self._commit, self._completions.restore, self._stop, clock.now)
        self._claims, self._reuse = Claims(store, self.wake), Reuse(store, self.leftovers, self._first_claim, self.wake)  # fmt: skip
        self._stopping = self._is_held = self._abandoned = False
        """The second: claim nothing more. The third: what still runs is not waited for any more."""
        self._thread = threading.Thread(target=self._loop, name="nbbatch-dispatcher", daemon=True)
        clock.subscribe(self.wake)

    # --- from other threads -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the dispatcher thread."""
        self._lanes.open(self._packer.owner, self.wake, self.live.waiting_us)
        self._thread.start()

    def wake(self) -> None:
        """Have the dispatcher look at the clock and the store again."""
        self._inbox.put(None)

    def call(self, run: Callable[..., T], *args: Any) -> T:
        """Run a function on the dispatcher thread and return what it returns or raises.

        Raises:
            StoreClosed: The engine has stopped.
        """
        if threading.current_thread() is self._thread:
            return self._attempt(partial(run, *args))
        if not self._thread.is_alive():
            raise StoreClosed("this batch is closed; nb.open() opens it again")
        answer: Future[T] = Future()
        self._inbox.put(_Call(partial(run, *args), answer))
        while not answer.done():
            with suppress(TimeoutError):
                answer.exception(timeout=1.0)
            if not self._thread.is_alive() and not answer.done():
                raise StoreClosed("this batch was closed meanwhile; nb.open() opens it again")
        return answer.result()

    def is_refused(self) -> bool:
        """Whether the executor takes no work."""
        return self._lanes.main.refusal is not None

    def hindrance(self, live: LiveInstance) -> str | None:
        """Why chunks of an instance wait that might run, or were handed over just before; None: nothing is in their way."""
        steps = (step for step in live.steps if step.claimable() or step.in_flight)
        return next((why for step in steps if (why := self._lanes.of(step.node).hindrance())), None)

    def aside(self, run: Callable[..., Any], *args: Any) -> None:
        """Run a function for a moment on a thread of this process that may run user code."""
        self._lanes.local.pool.submit(run, *args)

    def hold(self) -> None:
        """Claim nothing more, as the process is to end; what runs goes on, and is not charged where it fails by that. Any thread may call it."""
        self._is_held = self._completions.is_stopping = self._completions.is_terminated = True

    def stop(self, timeout: float) -> None:
        """Claim nothing more, wait for running attempts, store what they gave, end the thread.

        Args:
            timeout: Seconds to wait; attempts that run longer count as lost when the store is opened again.
        """
        self._stopping = self._completions.is_stopping = True
        self._join(timeout)
        self._abandoned = True
        self._join(LAST_TURN_SECONDS)
        self._dismiss(self._ended())
        self._lanes.close(self._packer.owner)
        self._packer.close()
        self.leftovers.close()

    def _ended(self) -> StoreClosed:
        """What those hear who still wait."""
        how = "was closed" if self._stopping else "has stopped working"
        return StoreClosed(f"the batch on {self.store.path} {how}; nb.open() opens it again, and it goes on")

    def _join(self, timeout: float) -> None:
        """Wait for the end of the dispatcher thread, where there is one."""
        self.wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def hung(self) -> str | None:
        """What is said where nothing starts, as calls past their time hold all workers; None: nothing is. Any thread may ask."""
        lanes = [lane for lane in self._lanes.all() if not lane.pool.can_kill]
        return next((text for lane in lanes if (text := self._pace.hung(lane))), None)

    # --- the loop ---------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while not (self._stopping and (self._abandoned or not self.flights)):
                try:
                    self._turn([] if self.pending else self._receive())
                except Exception as error:  # whatever it is, waiting threads must learn of it
                    if self._abandoned:  # the store is closed
                        return
                    self._halt(error)
        finally:
            self._dismiss(self._ended())

    def _receive(self) -> list[Flight | Arrived]:
        """Sleep until something arrives or is due; run calls, return the rest."""
        arrived: list[Flight | Arrived] = []
        try:
            item = self._inbox.get(timeout=self._sleep())
            while True:
                if isinstance(item, _Call):
                    self._run(item)
                    if self.pending:  # a further call may ask the store for what this one made
                        return arrived
                elif item is not None:
                    arrived.append(item)
                    if isinstance(item, Flight):
                        item.lane.work_us -= item.work_us
                item = self._inbox.get(timeout=self._patience(arrived))
        except queue.Empty:
            return arrived

    def _patience(self, arrived: list[Flight | Arrived]) -> float:
        """Seconds to wait for more that can share the commit: while all workers have enough before them, or are about to have nothing.

        A commit costs the same for one attempt as for a hundred, and takes the processor from those who work.
        """
        if not arrived or self._answers or self._stopping or not isinstance(arrived[-1], Flight):
            return 0
        return self._lanes.spare() or self._lanes.soon()

    def _sleep(self) -> float | None:
        if self.error or self._stopping:
            return None
        first = self.live.due_us()
        due = [] if first is None else [first]
        ahead = self.clock.now() - self._pace.steady()
        due.extend(at + ahead for at in [*self._pace.due(), *self._lanes.due(self._pace.steady())])
        seconds = self.clock.until(min(due)) if due else None
        return None if seconds is None else min(seconds, threading.TIMEOUT_MAX)

    def _turn(self, arrived: list[Flight | Arrived]) -> None:
        """Make one transaction of what has arrived and what comes of it; or several, if it cannot be stored in one."""
        self.turns += 1
        if self._stopping:
            self._call_off()
        updates = self._updates(arrived)
        try:
            self._commit(updates, None)
        except Exception as error:
            self._save(updates, list(self.live.values()), error)

    def _commit(self, updates: Sequence[Update], lives: Sequence[LiveInstance] | None) -> None:
        """Settle, decide, claim; one transaction; then act on it. The last three for some instances only, or (None) for all."""
        now = self.clock.now()
        changes = Changes()
        for update in updates:
            update.apply(changes, now)
        if self.error is None:
            self._decide(self.live.to_decide(now) if lives is None else lives, changes, now)
            if not (self._stopping or self._is_held):
                self._reuse.ask(self.live.asking, lives, changes, now)
                self._claim(lives, changes, now)
                if self.live.moving:
                    move_next(self.store, self.live, lives, changes, self.wake)
        if changes:
            self.write(changes, now)
        if changes or self._answers:  # a call may have stored something of its own
            self.live.show(all_of_them=lives is not None)
        self._answer(None)
        for act in changes.after:
            self._act(act)

    def _act(self, act: Callable[[], object]) -> None:
        """Do what follows from a commit; what it raises must not keep the rest from being done."""
        try:
            act()
        except Exception as error:
            self.internal_errors.note(f"what follows from a commit raised {error!r}", error)

    def _save(self, updates: list[Update], lives: list[LiveInstance], error: Exception) -> None:
        """A turn could not be stored: store what can be, unless the store itself is at fault."""
        self._fallback.left = deque([updates])
        try:
            if isinstance(error, StoreError):
                raise error
            self._completions.withdraw()
            self.store.probe()
            self.internal_errors.note(
                f"a turn could not be stored as a whole, and is stored in smaller transactions: {error}", error
            )
            self._answer(None)
            self._fallback.save(updates, lives)
        except Exception as worse:
            self._halt(worse)
            for update in (update for group in self._fallback.left for update in group):
                update.give_up(self.error or worse)
        self.wake()

    def _stop(self, live: LiveInstance, error: Exception) -> None:
        """An instance cannot go on as it is; the others do."""
        self.internal_errors.note(f"instance {live.id} stopped: {error}", error)
        self.live.pop(live.id, None)
        live.cancellation.cancelled = True
        with self.store.transaction():
            self.store.run("release_instance", live.id)
            self.store.run("unclaim_instance", live.id)
        self.dormant = True
        self.reopened += 1
        self.stopped[live.id] = StoreError(f"instance {live.id} stopped: {reason(error)}. run.resume() goes on with it")
        resolve(live.done, error=self.stopped[live.id])

    def _run(self, call: _Call) -> None:
        try:
            value = self._attempt(call.run)
        except BaseException as error:
            call.answer.set_exception(error)
            return
        if self.pending:
            self.pending[-1].answer, self.pending[-1].value = call.answer, value
        else:
            self._answers.append((call.answer, value))

    def _attempt(self, run: Callable[[], T]) -> T:
        """Run a call; if it raises, it leaves nothing to be stored."""
        before = len(self.pending)
        try:
            with self.store.our_errors():
                return run()
        except BaseException:
            for asked in self.pending[before:]:
                asked.undo()
            del self.pending[before:]
            raise

    def _answer(self, error: Exception | None) -> None:
        """Tell who called what came of it, now that the turn is stored or not."""
        for answer, value in self._answers:
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        self._answers.clear()

    def _call_off(self) -> None:
        """Take back from the pool what no worker has begun."""
        begun = [(each.lane, each.future) for each in self.flights if each.future is not None]
        self._lanes.recall(self._packer.owner, begun)

    def write(self, changes: Changes, now: int) -> None:
        """Store a turn's changes in one transaction."""
        with self.store.transaction():
            for row, steps in changes.instances.values():
                self.store.create_instance(row, steps)
            for table, rows in changes.rows():
                self.store.append(table, rows)
            for code, step, hides in changes.codes.values():
                text, parts = step.listed(code)
                self.store.keep_code(code, step.name, clean(text), now, hides, parts)
            self._reuse.keep(changes)
            for write in changes.writes:
                write()
        self._completions.codes.update(changes.codes)

    def _halt(self, error: Exception) -> None:
        """Memory may be ahead of the store: forget it, tell everybody who waits, claim nothing until a resume."""
        self.internal_errors.note(f"nbbatch stopped claiming: {error}", error)
        self.error = error if isinstance(error, StoreError) else StoreError(f"the engine stopped: {error!r}")
        for flight in self.flights:
            flight.live.cancellation.cancelled = True
        self.flights.clear()
        self._pace.forget()
        self._lanes.forget()
        self._dismiss(self.error)

    def _dismiss(self, error: StoreError) -> None:
        """Forget all instances, and tell those who wait for one or for an answer."""
        self._answer(error)
        for asked in self.pending:
            asked.give_up(error)
        self.pending.clear()
        for live in list(self.live.values()):
            live.cancellation.cancelled = True
            resolve(live.done, error=error)
        self.live.clear()

    # --- settle -----------------------------------------------------------------------------------

    def _updates(self, arrived: list[Flight | Arrived]) -> list[Update]:
        """What calls left and what has arrived."""
        now = self.clock.now()
        updates: list[Update] = [*self.pending]
        self.pending.clear()
        for item in arrived:
            if isinstance(item, Arrived):
                updates.append(self._completions.page(item))
            else:
                updates.extend(self._completions.take_back(item, now))
        if self.error is None:
            updates.extend(self._completions.expire(now))
        return updates

    def abandon(self, step: LiveStep) -> None:
        """Wait no longer for what runs of a step, whose chunks were superseded."""
        for flight in [flight for flight in self.flights if flight.step is step]:
            self._pace.abandon(flight)
            flight.call_off()

    def _take_page(self, arrived: Arrived) -> None:
        """A page of a running fan-out; one that runs on this very thread has to wait for no turn."""
        if threading.current_thread() is self._thread:
            self._completions.store_page(arrived, self.write, self.clock.now())
        else:
            self._inbox.put(arrived)

    # --- decide -----------------------------------------------------------------------------------

    def _decide(self, lives: Sequence[LiveInstance], changes: Changes, now: int) -> None:
        for live in lives:
            if not live.paused:
                live.release(now)
            if live.changed:
                live.changed = False
                self._advance(live, changes, now)
                if live.id not in changes.instances and live.is_to_note(now):
                    changes.writes.append(partial(self.store.set_progress, live.id, now, live.progress()))
            self.live.decided(live)

    def _advance(self, live: LiveInstance, changes: Changes, now: int) -> None:
        if live.started_us is None and (live.paused or any(map(has_open, live.counts))):
            return  # it begins with its first claim, or where its first chunk was skipped, but not while it is paused
        self.notifications.advanced(live, changes)
        opened = [step.opened for step in live.steps]
        decision = decide(live.job.nodes, live.counts, opened, failing=live.failing is not None, paused=live.paused)
        if live.sealed and (decision.status in INSTANCE_ENDED or live.reduction in decision.opens):
            return  # until what it was given is there
        for index in decision.opens:
            self._open_gate(live, index, changes, now)
        if decision.status is not live.status:
            self._change_status(live, decision, changes, now)

    def _open_gate(self, live: LiveInstance, index: int, changes: Changes, now: int) -> None:
        step = live.steps[index]
        step.open()
        changes.writes.append(partial(self.store.open_gate, live.id, index, now))
        live.changed = True
        if step.node.step.kind is Kind.REDUCTION and not sum(step.counts):
            chunk = self.store.take_ids("chunk", 1) + 1
            first = self.store.first_chunk(live.id)
            changes.chunks.append(
                ChunkRow(id=chunk, instance=live.id, step=index, parent=first, seq=None, created_us=now)
            )
            step.emit(chunk, [None])

    def _change_status(self, live: LiveInstance, decision: Decision, changes: Changes, now: int) -> None:
        old, new = live.status, decision.status
        if live.id in changes.instances:
            row, steps = changes.instances[live.id]
            changes.instances[live.id] = (replace(row, status=new, started_us=now), steps)
            live.status = new
            return
        if old is InstanceStatus.QUEUED:
            old = self._begin(live, old, new, changes, now)
        text = live.why_failed() if new is InstanceStatus.FAILED else None
        share = 1.0 if new is InstanceStatus.COMPLETED else live.progress()
        write = partial(self.store.set_status, live.id, old, new, now, text=text, progress=share)
        changes.writes.append(write)
        live.status = new
        if new in INSTANCE_ENDED:
            if live.retain != "all":
                finished = new is InstanceStatus.COMPLETED and not live.failed_steps()
                changes.writes.append(partial(self.store.drop_data, live.id, live.retain, finished=finished))
            changes.after.append(partial(self.end, live, new))

    def _begin(
        self, live: LiveInstance, old: InstanceStatus, new: InstanceStatus, changes: Changes, now: int
    ) -> InstanceStatus:
        """An instance whose first chunk was skipped starts without a claim; whatever it becomes, it was IN_PROGRESS before."""
        live.started_us = live.started_us or now
        self.notifications.started(live, changes)
        if new in INSTANCE_TRANSITIONS[old]:
            return old
        changes.writes.append(partial(self.store.set_status, live.id, old, InstanceStatus.IN_PROGRESS, now))
        return InstanceStatus.IN_PROGRESS

    def end(self, live: LiveInstance, status: InstanceStatus) -> None:
        """An instance's end is stored: forget it, and tell who waits."""
        self.live.pop(live.id, None)
        self.known.ended(live, status)
        self.notifications.ended(live, status)
        for each in (self._reuse.forget, self.leftovers.end, self._packer.forget):
            each(live.id)
        resolve(live.done, Ended(status, live.report))

    # --- claim ------------------------------------------------------------------------------------

    def _claim(self, lives: Sequence[LiveInstance] | None, changes: Changes, now: int) -> None:
        """Claim by demand: later steps first, so that what was begun is finished and little is in between."""
        self._pace.limits.forget_refusals()
        self._lanes.look()
        lines = self.live.lines if lives is None else Lines(self._lanes.line, lives)

        def claim(live: LiveInstance, step: LiveStep) -> bool:
            lane = self._lanes.of(step.node)
            self._chains.look(live, step, lane)
            return self._pace.has_room(live, step, lane) and self._claim_from(live, step, lane, changes, now)

        lines.rounds(claim)

    def _claim_from(self, live: LiveInstance, step: LiveStep, lane: Lane, changes: Changes, now: int) -> bool:
        items = self._claims.take(live, step, lane, changes)
        if not items:
            return False
        claim = self._claims.keep(live, step, items, changes, now)
        self._first_claim(live, step, changes, now)
        self.live.unshown[live.id] = live
        live.worked.go(now)
        kind = step.node.step.kind
        inputs = self.store.stream("reduction_inputs", live.id) if kind is Kind.REDUCTION else None
        alone = kind is Kind.REDUCTION or step.node.step.options.timeout is not None  # may be called off by itself
        stop = Cancellation(live.cancellation) if alone else live.cancellation
        sink = Sink(self.store, live, step, stop, self._take_page) if kind is Kind.MANY else None
        slots = self.marks.take(len(items) if lane.is_async else 1) if lane.pool.is_local else []
        micro = MicroBatch(
            live.id, step.node, live.params, items, self.clock.now, stop, sink, inputs, self.marks, slots,
            self._lanes.turnstile(live, step) if lane.is_async else None, live.attachments, live.job.listeners.hooks, self.leftovers.begin(live.id),
            lane.most_us(step), is_fail_fast=live.job.fail_fast, then=self._chains.then(live, step, items, lane, changes),
        )  # fmt: skip
        waits, is_quick = lane.taken >= lane.workers, lane.is_quick(step.likely_us * len(items))
        flight = Flight(live, step, lane, micro, claim, work_us(step, micro), waits=waits, is_quick=is_quick)
        flight.enter()
        self.flights.add(flight)
        self._pace.promise(flight)
        changes.after.append(partial(self._launch, flight))
        return True

    def _first_claim(self, live: LiveInstance, step: LiveStep, changes: Changes, now: int) -> None:
        """Record what changes with a claim: the start, the instance's state."""
        live.started_us = live.started_us or now
        self.notifications.began(live, step, changes)
        reduces = step.node.step.kind is Kind.REDUCTION
        if live.status is InstanceStatus.QUEUED or (reduces and live.status is not InstanceStatus.FINALIZE):
            self._advance(live, changes, now)

    # --- launch -----------------------------------------------------------------------------------

    def _launch(self, flight: Flight) -> None:
        """Hand a durable claim to its executor."""
        try:
            self._pace.start(flight)
            future = self._submit(flight)
        except Exception as error:  # a closed or broken pool, or code that cannot be pickled
            future = failed_future(flight.micro, error, self.clock.now())
        flight.future = future
        future.add_done_callback(lambda _: self._inbox.put(flight))

    def _submit(self, flight: Flight) -> Future[Any]:
        lane, micro = flight.lane, flight.micro
        if lane.is_async:
            micro.cancellation.tell(flight.tell)
            return submitted(lane.pool, run_chunks_async, micro)
        if lane is self._lanes.subjobs:
            return self.launch_subjob(self, micro)
        if lane.pool.shares_memory:
            return submitted(lane.pool, run_chunks, micro)
        is_suspect = len(micro.items) == 1 and micro.items[0].chunk == flight.step.suspect_in_flight
        flight.call = self._packer.pack(micro, is_local=lane.pool.is_local, is_suspect=is_suspect)
        micro.cancellation.tell(flight.tell)
        future = submitted(lane.pool, run_packed, flight.call)
        future.add_done_callback(hand_on_logs)
        return future

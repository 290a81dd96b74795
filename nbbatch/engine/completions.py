"""Turns micro-batches that came back, timed out or were withdrawn into updates of a turn. On the dispatcher thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from nbbatch.base.items import Items
from nbbatch.base.rows import Followed, Item, Results
from nbbatch.definition import Node
from nbbatch.engine.fused import bear
from nbbatch.engine.internal_errors import Observer
from nbbatch.engine.limits import Flight, Pace
from nbbatch.engine.lost import Fate, Losses, lost, timed_out, unanswered, without_called_off
from nbbatch.engine.paging import Arrived
from nbbatch.engine.recovery import reload, restart
from nbbatch.engine.settle import Changes, Clerk
from nbbatch.engine.state import LiveInstance, LiveStep
from nbbatch.engine.updates import (
    AfterCommit,
    Behind,
    CallUpdate,
    DropPages,
    Link,
    PageUpdate,
    PutBack,
    Record,
    ResultsUpdate,
    Unclaimed,
    Update,
    unstorable,
)
from nbbatch.store.database import Store
from nbbatch.worker.context import MicroBatch
from nbbatch.worker.running import Marks

log = logging.getLogger("nbbatch")


class Completions:
    """Handles the micro-batches of one engine from the moment they leave a worker."""

    def __init__(
        self, store: Store, marks: Marks, live: dict[int, LiveInstance], flights: set[Flight], pace: Pace, random: Callable[[], float],
        observer: Observer, lacked: Callable[[], object], begin_behind: Callable[[LiveInstance, LiveStep, Changes], None],
    ) -> None:  # fmt: skip
        """All arguments are shared with the engine."""
        self._store, self._marks, self._live, self._flights = store, marks, live, flights
        self._pace, self._observer, self._lacked = pace, observer, lacked
        self._clerk = Clerk(store.take_ids, store.run, store.set_report, random)
        self._begin_behind = begin_behind
        self.codes: set[str] = set()
        """Fingerprints whose source is stored; with an instance's id, where it has secrets."""
        self.is_stopping = False
        """Workers that are lost from here on are so because the process ends: no chunk is charged."""
        self.is_terminated = False
        """The process was told to end, and with it maybe what steps have started: attempts that fail are not charged."""
        self._losses = Losses(marks)
        self._spoiled: dict[tuple[int, int], Exception] = {}
        """Attempts, by chunk and number, of which a page could not be stored."""

    def page(self, arrived: Arrived) -> Update:
        """A page of a fan-out."""
        if self._live.get(arrived.live.id) is arrived.live and not arrived.stop.cancelled:
            publish = self._clerk.publish if arrived.streams else None
            return PageUpdate(arrived.live, arrived.page, arrived.taken, self._spoil, self._spoiled, publish)
        return AfterCommit(arrived.taken)

    def store_page(self, arrived: Arrived, write: Callable[[Changes, int], None], now: int) -> None:
        """Store a page of a fan-out by itself, in a transaction of its own."""
        changes = Changes()
        self.page(arrived).apply(changes, now)
        try:
            write(changes, now)
        except Exception:
            self._reload(arrived.live, ())
            raise
        finally:
            arrived.taken()

    def _spoil(self, item: Item, error: Exception) -> None:
        self._spoiled[item.chunk, item.attempt] = error

    def take_back(self, flight: Flight, now: int) -> list[Update]:
        """A micro-batch is back: its worker is free, and its results become updates."""
        live, is_ours, is_lost = flight.live, flight in self._flights, flight.is_lost()
        is_live = self._live.get(live.id) is live
        fate = Fate(flight.micro.items)
        lasted = self._pace.lasted_us(flight) if is_lost else 0
        if is_lost and is_ours and is_live:  # what its worker had not begun goes back to the queue
            fate = self._fate(flight)
            live.is_unharmed = False
        self._marks.give_back(flight.micro.slots)
        self._pace.land(flight)
        if not is_ours:
            return []
        self._flights.discard(flight)
        flight.leave()
        if not is_live:
            return self._dropped(live, flight.micro.items)
        if flight.is_called_off() and not is_lost:
            return self._given_back(flight)
        back = PutBack(live, self._store, flight.micro, fate.put_back, lasted, fate.alone) if fate.put_back else None
        return [
            *self._unclaimed(flight, fate.unclaimed, alone=fate.alone),
            *([back] if back else []),
            *self._gave(flight, fate.charged, now, lasted),
        ]

    def _fate(self, flight: Flight) -> Fate:
        assert flight.future is not None
        begun = flight.begun_us()
        items = flight.micro.items
        is_suspect = len(items) == 1 and items[0].chunk == flight.step.suspect_in_flight
        if is_suspect:
            flight.step.accused.add(items[0].chunk)
        return self._losses.judge(
            flight.micro, flight.future.exception(), begun=None if begun is None else begun != 0, is_suspect=is_suspect
        )

    def _given_back(self, flight: Flight) -> list[Update]:
        """What a pool gave back undone is claimed again, as if it never had been, once the pool may work again."""
        error = None if flight.future is None or flight.future.cancelled() else flight.future.exception()
        if flight.is_undone():
            self._lacked()
        elif not self.is_stopping:
            flight.lane.refuse(str(error) if error else "what it had was cancelled", self._pace.steady())
        items = flight.micro.items
        return [*self._dropped(flight.live, items), *self._unclaimed(flight, items)]

    def _unclaimed(self, flight: Flight, items: Items, *, alone: bool = False) -> list[Update]:
        if not items:
            return []
        claimed = [item.chunk for item in flight.micro.items]
        return [Unclaimed(flight.live, self._store, flight.claim, claimed, flight.micro.node.index, items, alone)]

    def _gave(self, flight: Flight, items: Items, now: int, lasted_us: int) -> list[Update]:
        if not items:
            return []
        micro = flight.micro if items is flight.micro.items else replace(flight.micro, items=items)
        if self.is_stopping and flight.is_lost():
            return [PutBack(flight.live, self._store, micro, items, lasted_us)]
        return self._given(flight, micro, flight.claim, self._results(flight, micro, now, lasted_us), self._record)

    def _given(
        self, flight: Flight, micro: MicroBatch, claim: int | None, results: Results, record: Record, before: Link | None = None
    ) -> list[Update]:  # fmt: skip
        """What was not begun, what is to be done again, what has ended, and what followed that."""
        live, items, index = flight.live, micro.items, micro.node.index
        back: list[Update] = []
        if results.left:
            items, rest = items[: -results.left], items[-results.left :]
            claimed = [item.chunk for item in (flight.micro if before is None else micro).items]
            back = [Unclaimed(live, self._store, claim, claimed, index, rest)]
        items, again, results = without_called_off(items, results, failed_too=self.is_terminated)
        results = _by_code_of_now(flight, results)
        link = Link(before) if results.followed else None
        given = [ResultsUpdate(live, micro.node, items, results, record, link)] if items else []
        if again:
            back += [
                *self._dropped(live, again),
                PutBack(live, self._store, micro, again, self._pace.lasted_us(flight)),
            ]
        return [*back, *given, *(self._behind(flight, results.followed, link) if results.followed and link else [])]

    def _behind(self, flight: Flight, followed: Followed, link: Link) -> list[Update]:
        """The same of chunks that followed at once."""
        assert flight.micro.then is not None
        micro = replace(flight.micro, node=flight.micro.then.of(followed.step), items=followed.items)
        updates = self._given(flight, micro, None, followed.results, self._record_behind, link)
        return [each if isinstance(each, Behind) else Behind(each, link) for each in updates]

    def _results(self, flight: Flight, micro: MicroBatch, now: int, lasted_us: int) -> Results:
        assert flight.future is not None
        error = flight.future.exception()
        if error is not None:
            return lost(micro, error, now, lasted_us) if flight.is_lost() else unanswered(micro, error, now)
        results = flight.future.result()
        if not isinstance(results, Results):
            return unanswered(micro, results, now)
        if flight.lane.name is not None:
            results = results.renamed(flight.lane.worker)
        span = results.span_us()
        flight.lane.works()
        self._pace.learn(flight, results.whole_us())
        if self._pace.is_late(flight, span):
            results = timed_out(micro, now, span)
        for place, item in enumerate(micro.items) if self._spoiled else ():
            spoiled = self._spoiled.pop((item.chunk, item.attempt), None)
            if spoiled is not None:
                results.odd[place] = unstorable(spoiled, now)
        return results

    def _record(
        self, live: LiveInstance, node: Node, items: Items, results: Results, changes: Changes, now: int
    ) -> None:
        """Settle what a micro-batch gave."""
        step, failing = live.step_at(node.index), live.failing
        hides = live.params.hides()
        kept = node.code if hides is None else f"{node.code} {live.id}"  # its secrets may stand in what is kept already
        if kept not in self.codes:
            changes.codes[kept] = node.code, node.step, hides
        if results.followed:
            bear(live, items, results, results.followed, self._store.session, changes)
        self._clerk.settle(live, step, items, results, changes, now, node.code)
        if step.asks:
            changes.reusable[live.id, node.index, node.code] = live, node
        if self._observer.function is not None:
            changes.after.append(partial(self._observer.tell, live, step, items, results))
        if live.failing != failing:
            changes.writes.append(partial(self._store.set_failing, live.id, live.failing or ""))

    def _record_behind(
        self, live: LiveInstance, node: Node, items: Items, results: Results, changes: Changes, now: int
    ) -> None:
        """The same where its chunks were never seen waiting."""
        self._begin_behind(live, live.step_at(node.index), changes)
        self._record(live, node, items, results, changes, now)

    def _dropped(self, live: LiveInstance, items: Items) -> list[Update]:
        """The result of an attempt whose instance was cancelled meanwhile."""
        keys = [(item.chunk, item.attempt) for item in items]
        pages = [key for key in keys if live.staged.pop(key, None) is not None]
        return [DropPages(self._store, pages)] if pages else []

    def expire(self, now: int) -> list[Update]:
        """Attempts whose time is over count as errors; their workers are free when they return, or are killed."""
        over = self._pace.expire()
        if not over:
            return []
        updates: list[Update] = [
            ResultsUpdate(
                each.live,
                each.micro.node,
                each.micro.items,
                timed_out(each.micro, now, self._pace.lasted_us(each)),
                self._record,
            )
            for each in over
            if self._live.get(each.live.id) is each.live
        ]
        return [*updates, AfterCommit(partial(self._free_workers, over))]

    def _free_workers(self, over: list[Flight]) -> None:
        """Once the errors are stored: end what took too long, where that is possible."""
        for flight in over:
            flight.call_off()
            if flight.future is not None and flight.lane.pool.can_kill:
                flight.lane.pool.kill(flight.future)
        for lane in {flight.lane for flight in over if not flight.lane.pool.can_kill}:
            if text := self._pace.hung(lane):
                log.warning("%s", text)

    # --- after a commit that failed ---------------------------------------------------------------

    def withdraw(self) -> None:
        """Forget micro-batches whose claims were not stored; none was handed to a worker."""
        for flight in [flight for flight in self._flights if flight.future is None]:
            self._flights.discard(flight)
            flight.leave()
            flight.lane.work_us -= flight.work_us
            self._pace.withdraw(flight)
            self._marks.give_back(flight.micro.slots)

    def restore(self, lives: Sequence[LiveInstance], updates: Sequence[Update]) -> None:
        """Rebuild the memory of some instances from the store, after a commit that failed.

        Args:
            lives: The instances.
            updates: Updates that are not stored yet: their chunks count as claimed.
        """
        self.withdraw()
        born = {update.live: update.born for update in updates if isinstance(update, CallUpdate) and update.born}
        for live in lives:
            if live in born:
                restart(*born[live])
                continue
            self._reload(live, updates)

    def _reload(self, live: LiveInstance, updates: Sequence[Update]) -> None:
        micros = (flight.micro for flight in self._flights if flight.live is live)
        running = [(micro.node.index, item) for micro in micros for item in micro.items]
        running += [each for update in updates if update.live is live for each in update.running()]
        reload(self._store, live, running)


def _by_code_of_now(flight: Flight, results: Results) -> Results:
    """Results without what followed by code that was replaced meanwhile: most of that began later, and is to run the new code."""
    followed, then = results.followed, flight.micro.then
    if followed is None or then is None:
        return results
    is_same = flight.live.step_at(followed.step).node.code == then.of(followed.step).code
    return results if is_same else results._replace(followed=None)

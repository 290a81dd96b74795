"""The updates that a turn stores: the changes of one call, the results of one micro-batch, one page of a fan-out.

An update changes memory and adds rows only when it is applied, and it can be applied again after a failed commit. So if a
turn cannot be committed as a whole, its updates are committed in smaller transactions (see `fallback`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from nbbatch.base.items import Items
from nbbatch.base.rows import Failure, InstanceRow, Item, Outcome, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Node
from nbbatch.engine.lost import put_back, requeue
from nbbatch.engine.settle import Changes, stage
from nbbatch.engine.state import LiveInstance
from nbbatch.store.database import Store
from nbbatch.worker.context import MicroBatch
from nbbatch.worker.error_text import clean, shorten, text_of
from nbbatch.worker.pages import Page

Record = Callable[[LiveInstance, Node, Items, Results, Changes, int], None]
"""Settles the results of a micro-batch."""


class Update(Protocol):
    """One unit of what a turn stores."""

    @property
    def live(self) -> LiveInstance | None:
        """The instance whose state in memory it changes."""
        ...

    def apply(self, changes: Changes, now: int) -> None:
        """Change the state in memory, and add the rows that record the change."""
        ...

    def running(self) -> Sequence[tuple[int, Item]]:
        """Chunks, each with the index of its step, that stay claimed until this update is stored."""
        ...

    def split(self) -> list[Update]:
        """The same as two updates; empty if it cannot be split."""
        ...

    def instead(self, error: Exception, now: int) -> Update | None:
        """The update that replaces this one, which cannot be stored; None if there is none."""
        ...

    def give_up(self, error: Exception) -> bool:
        """Notify those who wait for it that it will not be stored. Returns False if its instance must be stopped."""
        ...


class _Whole:
    """An update that can be neither split nor replaced."""

    __slots__ = ()

    def running(self) -> Sequence[tuple[int, Item]]:
        return ()

    def split(self) -> list[Update]:
        return []

    def instead(self, error: Exception, now: int) -> Update | None:  # noqa: ARG002 - others use them
        return None

    def give_up(self, error: Exception) -> bool:  # noqa: ARG002
        return False


@dataclass(slots=True, eq=False)
class CallUpdate(_Whole):
    """The changes of one call."""

    changes: Changes
    born: tuple[LiveInstance, InstanceRow, int] | None = None
    """The new instance, its row and its first chunk."""
    undo: Callable[[], object] = lambda: None
    """Removes the new instance from the engine."""
    answer: Future[Any] | None = None
    """Resolved after the commit; None if the caller has been answered already."""
    value: Any = None

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002 - its rows are as of the call
        changes.add(self.changes)
        if self.answer is not None:
            changes.after.append(partial(self.answer.set_result, self.value))

    @property
    def live(self) -> LiveInstance | None:
        return self.born[0] if self.born else None

    def give_up(self, error: Exception) -> bool:
        self.undo()
        for future in (self.answer, self.born[0].done if self.born else None):
            if future is not None and not future.done():
                future.set_exception(error)
        return True


@dataclass(slots=True, eq=False)
class PageUpdate(_Whole):
    """One page of a running fan-out."""

    live: LiveInstance
    page: Page
    taken: Callable[[], None]
    """Lets the fan-out continue."""
    spoil: Callable[[Item, Exception], None]
    """Fails the attempt, because one of its pages is missing."""
    spoiled: Container[tuple[int, int]]
    """Attempts, by chunk and number, that fail by that."""
    publish: Callable[[LiveInstance, Page, Changes, int], None] | None = None
    """Has its outputs be there at once; None: they are staged until the attempt ends."""

    def apply(self, changes: Changes, now: int) -> None:
        if self.publish is None:
            stage(self.live, self.page, changes)
        elif (
            self.page.item.chunk,
            self.page.item.attempt,
        ) not in self.spoiled:  # else they would lack some before them
            self.publish(self.live, self.page, changes, now)
        changes.after.append(self.taken)

    def give_up(self, error: Exception) -> bool:
        self.spoil(self.page.item, error)
        self.taken()
        return True


@dataclass(slots=True, eq=False)
class AfterCommit(_Whole):
    """A callback that runs after the commit of the updates before it."""

    act: Callable[[], None]
    live: None = None

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002
        changes.after.append(self.act)

    def give_up(self, error: Exception) -> bool:  # noqa: ARG002
        with suppress(Exception):  # the engine stops: nothing counts on it
            self.act()
        return True


@dataclass(slots=True, eq=False)
class Unclaimed(_Whole):
    """Chunks that were claimed but that no worker has begun: they are queued again, uncharged."""

    live: LiveInstance
    store: Store
    claim: int | None
    claimed: list[int]
    """All chunks of the claim."""
    index: int
    items: Items
    alone: bool = False
    """Whether each of them must run alone, because one of them may have killed the worker."""

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002
        changes.writes.append(partial(self.store.drop_claim, self.live.id, self.claim, self.claimed))
        requeue(self.live.step_at(self.index), self.items, alone=self.alone)
        self.live.changed = True

    def running(self) -> Sequence[tuple[int, Item]]:
        return [(self.index, item) for item in self.items]


@dataclass(slots=True, eq=False)
class PutBack(_Whole):
    """Attempts whose workers were killed because another one timed out, or which somebody called off: recorded, without counting an error."""

    live: LiveInstance
    store: Store
    micro: MicroBatch
    items: Items
    lasted_us: int
    alone: bool = False
    """As in `Unclaimed`."""

    def apply(self, changes: Changes, now: int) -> None:
        before = self.store.take_ids("event", len(self.items))
        step = self.live.step_at(self.micro.node.index)
        put_back(step, self.micro, self.items, changes, before, (now - self.lasted_us, now), alone=self.alone)
        self.live.changed = True

    def running(self) -> Sequence[tuple[int, Item]]:
        return [(self.micro.node.index, item) for item in self.items]


@dataclass(slots=True, eq=False)
class DropPages(_Whole):
    """Deletes staged pages of attempts whose instance was cancelled."""

    store: Store
    pages: list[tuple[int, int]]
    """Chunk and attempt of each."""
    live: None = None

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002
        changes.writes.extend(partial(self.store.run, "unstage", *each) for each in self.pages)

    def give_up(self, error: Exception) -> bool:  # noqa: ARG002 - the next opening forgets them
        return True


@dataclass(slots=True, eq=False)
class Link:
    """Between attempts and those that followed them at once."""

    before: Link | None = None
    """That of the former to those before them."""
    is_torn: bool = False
    """Whether the former are stored in parts, if at all: their outputs become chunks that are claimed like others."""

    def __bool__(self) -> bool:
        return not self.is_torn and (self.before is None or bool(self.before))


@dataclass(slots=True, eq=False)
class Behind:
    """What came of chunks that are made by an update before it; nothing, where their link is torn."""

    update: Update
    link: Link

    @property
    def live(self) -> LiveInstance | None:
        return self.update.live

    def apply(self, changes: Changes, now: int) -> None:
        if self.link:
            self.update.apply(changes, now)

    def running(self) -> Sequence[tuple[int, Item]]:
        return ()  # until the update before it is applied, there are none

    def split(self) -> list[Update]:
        return [Behind(each, self.link) for each in self.update.split()] if self.link else []

    def instead(self, error: Exception, now: int) -> Update | None:
        other = self.update.instead(error, now) if self.link else None
        return None if other is None else Behind(other, self.link)

    def give_up(self, error: Exception) -> bool:
        return self.update.give_up(error) if self.link else True


@dataclass(slots=True, eq=False)
class ResultsUpdate(_Whole):
    """The results of one micro-batch."""

    live: LiveInstance
    node: Node
    items: Items
    results: Results
    record: Record
    link: Link | None = None
    """To those that followed."""
    told: int = field(default=0)
    """How often it was replaced by a smaller update."""

    def apply(self, changes: Changes, now: int) -> None:
        self.record(self.live, self.node, self.items, self.results, changes, now)

    def running(self) -> Sequence[tuple[int, Item]]:
        return [(self.node.index, item) for item in self.items]

    def split(self) -> list[Update]:
        half = len(self.items) // 2
        self._tear()
        return [self._of(0, half), self._of(half, len(self.items))] if half else []

    def _tear(self) -> None:
        if self.link is not None:
            self.link.is_torn = True

    def _of(self, first: int, last: int) -> Update:
        return ResultsUpdate(self.live, self.node, self.items[first:last], self.results.part(first, last), self.record)

    def instead(self, error: Exception, now: int) -> Update | None:
        """The attempt as FAILED, first with its log and warnings, then, if those are at fault, without."""
        self._tear()
        if self.told > 1:
            return None
        said = self.results.odd.get(0) if self.told == 0 else None
        outcome = unstorable(error, now)
        if said is not None:
            outcome = outcome._replace(
                log=said.log, warnings=said.warnings, recovered=said.recovered, fails_job=said.fails_job
            )
        results = Results([], [], [], "", {0: outcome})
        return ResultsUpdate(self.live, self.node, self.items, results, self.record, told=self.told + 1)


def unstorable(error: Exception, now: int) -> Outcome:
    """The outcome of an attempt that FAILED because its result could not be stored."""
    text = f"what this attempt gave cannot be stored: {reason(error)}"
    return Outcome(ChunkStatus.FAILED, now, now, [], [], failure=Failure("nbbatch.ValueNotStorable", text, ""))


def reason(error: Exception) -> str:
    """A short text of why something could not be stored."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return shorten(clean(text_of(cause)), 2_000)

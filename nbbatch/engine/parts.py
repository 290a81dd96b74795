"""What a turn has to store, in parts: what one call asked for, what one micro-batch gave, one page of a fan-out.

A part changes memory and adds rows only when it is applied, and can be applied again after a commit that failed. So a turn
that cannot be stored as a whole is stored in smaller ones, down to the part, and within it the attempt, that is at fault
(see `net`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from nbbatch.base.rows import Failure, InstanceRow, Item, Outcome, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Node
from nbbatch.engine.lost import put_back, requeue
from nbbatch.engine.settle import Changes, stage
from nbbatch.engine.state import LiveInstance
from nbbatch.store.database import Store
from nbbatch.worker.context import MicroBatch, Page
from nbbatch.worker.error_text import clean, shorten, text_of

Record = Callable[[LiveInstance, Node, list[Item], Results, Changes, int], None]
"""Settles what a micro-batch gave."""


class Part(Protocol):
    """One part of a turn."""

    @property
    def live(self) -> LiveInstance | None:
        """The instance whose memory it changes."""
        ...

    def apply(self, changes: Changes, now: int) -> None:
        """Change memory, and add the rows that say so."""
        ...

    def running(self) -> Sequence[tuple[int, Item]]:
        """Chunks, each with the index of its step, that are claimed for as long as this part is not stored."""
        ...

    def split(self) -> list[Part]:
        """The same in two parts; empty: it stands alone."""
        ...

    def instead(self, error: Exception, now: int) -> Part | None:
        """What is stored in its place, as it cannot be stored itself; None: nothing can be."""
        ...

    def give_up(self, error: Exception) -> bool:
        """It will not be stored: say so to whom it concerns. Whether that is all there is to do."""
        ...


class _Whole:
    """A part that stands alone, and cannot be replaced."""

    __slots__ = ()

    def running(self) -> Sequence[tuple[int, Item]]:
        return ()

    def split(self) -> list[Part]:
        return []

    def instead(self, error: Exception, now: int) -> Part | None:  # noqa: ARG002 - others use them
        return None

    def give_up(self, error: Exception) -> bool:  # noqa: ARG002
        return False


@dataclass(slots=True, eq=False)
class Asked(_Whole):
    """What a call leaves to be stored with the coming turn."""

    changes: Changes
    born: tuple[LiveInstance, InstanceRow, int] | None = None
    """The instance it makes, its row and its first chunk."""
    undo: Callable[[], object] = lambda: None
    """Has the engine forget the instance it makes."""
    answer: Future[Any] | None = None
    """To be given once it is stored; None: it was given already, or nobody asks."""
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
class Paged(_Whole):
    """A page of a fan-out that still runs."""

    live: LiveInstance
    page: Page
    taken: Callable[[], None]
    """Lets the fan-out go on."""
    spoil: Callable[[Item, Exception], None]
    """Fails the attempt, as a page of it is missing."""

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002
        stage(self.live, self.page, changes)
        changes.after.append(self.taken)

    def give_up(self, error: Exception) -> bool:
        self.spoil(self.page.item, error)
        self.taken()
        return True


@dataclass(slots=True, eq=False)
class Then(_Whole):
    """Something to be done once what came before it is stored."""

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
    """Chunks of a claim that no worker has begun: they are queued as if never claimed."""

    live: LiveInstance
    store: Store
    claim: int | None
    claimed: list[int]
    """All chunks of the claim."""
    index: int
    items: list[Item]
    alone: bool = False
    """Whether each of them is to run alone, as one may have killed its worker."""

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002
        changes.writes.append(partial(self.store.drop_claim, self.live.id, self.claim, self.claimed))
        requeue(self.live.step_at(self.index), self.items, alone=self.alone)
        self.live.changed = True

    def running(self) -> Sequence[tuple[int, Item]]:
        return [(self.index, item) for item in self.items]


@dataclass(slots=True, eq=False)
class PutBack(_Whole):
    """Attempts whose workers were killed for another one's sake: they are on record, and no error is counted."""

    live: LiveInstance
    store: Store
    micro: MicroBatch
    items: list[Item]

    def apply(self, changes: Changes, now: int) -> None:
        before = self.store.take_ids("event", len(self.items))
        put_back(self.live.step_at(self.micro.node.index), self.micro, self.items, changes, before, now)
        self.live.changed = True

    def running(self) -> Sequence[tuple[int, Item]]:
        return [(self.micro.node.index, item) for item in self.items]


@dataclass(slots=True, eq=False)
class Dropped(_Whole):
    """Pages of attempts whose instance was cancelled meanwhile."""

    store: Store
    pages: list[tuple[int, int]]
    """Chunk and attempt of each."""
    live: None = None

    def apply(self, changes: Changes, now: int) -> None:  # noqa: ARG002
        changes.writes.extend(partial(self.store.run, "unstage", *each) for each in self.pages)

    def give_up(self, error: Exception) -> bool:  # noqa: ARG002 - the next opening forgets them
        return True


@dataclass(slots=True, eq=False)
class Gave(_Whole):
    """What a micro-batch gave."""

    live: LiveInstance
    node: Node
    items: list[Item]
    results: Results
    record: Record
    told: int = field(default=0)
    """How often it was replaced by less, as it could not be stored."""

    def apply(self, changes: Changes, now: int) -> None:
        self.record(self.live, self.node, self.items, self.results, changes, now)

    def running(self) -> Sequence[tuple[int, Item]]:
        return [(self.node.index, item) for item in self.items]

    def split(self) -> list[Part]:
        half = len(self.items) // 2
        return [self._of(0, half), self._of(half, len(self.items))] if half else []

    def _of(self, first: int, last: int) -> Part:
        return Gave(self.live, self.node, self.items[first:last], self.results.part(first, last), self.record)

    def instead(self, error: Exception, now: int) -> Part | None:
        """The attempt as FAILED, with what it said; or, if that is at fault, without."""
        if self.told > 1:
            return None
        said = self.results.odd.get(0) if self.told == 0 else None
        outcome = unstorable(error, now)
        if said is not None:
            outcome = outcome._replace(
                log=said.log, warnings=said.warnings, recovered=said.recovered, fails_job=said.fails_job
            )
        results = Results([], [], [], "", {0: outcome})
        return Gave(self.live, self.node, self.items, results, self.record, self.told + 1)


def unstorable(error: Exception, now: int) -> Outcome:
    """An attempt that FAILED because what it gave could not be stored."""
    text = f"what this attempt gave cannot be stored: {reason(error)}"
    return Outcome(ChunkStatus.FAILED, now, now, [], [], failure=Failure("nbbatch.ValueNotStorable", text, ""))


def reason(error: Exception) -> str:
    """Why something could not be stored, in as few words as there are."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return shorten(clean(text_of(cause)), 2_000)

"""Pages of running fan-outs, on their way from where the step runs to the dispatcher."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from nbbatch.base.errors import FailChunk
from nbbatch.base.rows import Item
from nbbatch.engine.state import LiveInstance, LiveStep
from nbbatch.store.database import Store
from nbbatch.values.digests import digest_of
from nbbatch.worker.context import Cancellation
from nbbatch.worker.pages import Page

PAGES_AHEAD = 4
"""Pages a fan-out may hand over before it waits for the store."""


@dataclass(slots=True, eq=False)
class Arrived:
    """A page of a fan-out that still runs."""

    live: LiveInstance
    page: Page
    stop: Cancellation
    taken: Callable[[], None]
    streams: bool
    """Whether its outputs are to be there at once."""


class Sink:
    """Takes the pages of one micro-batch's fan-outs; it blocks while the store is behind.

    What a step streams is held against what earlier attempts of its chunk gave, before more is taken. Any thread may call it.
    """

    def __init__(
        self, store: Store, live: LiveInstance, step: LiveStep, stop: Cancellation, put: Callable[[Arrived], None]
    ) -> None:
        """Of one micro-batch.

        Args:
            store: Where earlier outputs are.
            live: Its instance.
            step: Its step.
            stop: Set once its pages are not wanted any more.
            put: Hands a page to the dispatcher.
        """
        self._store, self._live, self._stop, self._put = store, live, stop, put
        self._node, self._loaded_last = step.node, step.loaded_last
        self._room = threading.Semaphore(PAGES_AHEAD)
        self._published: dict[int, int] = {}

    def __call__(self, page: Page) -> None:
        """Take a page.

        Raises:
            FailChunk: It is not wanted any more, or differs from what is there.
        """
        if self._stop.cancelled:
            raise FailChunk("the instance was cancelled, or the attempt's time is over")
        streams = self._node.step.options.stream
        if streams and (there := self.published(page.item) - page.first) > 0:
            self._check(page, there)
            page = page._replace(first=page.first + there, outputs=page.outputs[there:], targets=page.targets[there:])
        if page.outputs:
            self._room.acquire()
            self._put(Arrived(self._live, page, self._stop, self._room.release, streams))

    def published(self, item: Item) -> int:
        """How many outputs of a chunk there were before this attempt."""
        if item.chunk not in self._published:
            is_first = item.attempt == 1 and item.chunk > self._loaded_last and item.chunk not in self._live.streamed
            at = self._live.id, item.chunk, self._node.index
            self._published[item.chunk] = 0 if is_first else self._store.fetch("published", *at)[0][0]
        return self._published[item.chunk]

    def end(self, item: Item, given: int) -> None:
        """An attempt has given all.

        Raises:
            FailChunk: It gave less than there is.
        """
        if given < self.published(item):
            raise FailChunk(
                f"this attempt gave {given:,} outputs, but an earlier one had given {self.published(item):,}, which are there. {_advice(item)}"
            )

    def _check(self, page: Page, there: int) -> None:
        """Raises FailChunk where the outputs of a page are not those that are there."""
        part = page.first, page.first + min(there, len(page.outputs))
        found = self._store.fetch("published_part", self._live.id, page.item.chunk, self._node.index, *part)
        stored = {seq: (target, data) for seq, target, data in found}
        for seq, data, target in zip(range(*part), page.outputs, page.targets, strict=False):
            if seq in stored and not (stored[seq][0] == target and self._is_equal(stored[seq][1], data)):
                raise FailChunk(
                    f"output {seq + 1:,} of this attempt is not the one that an earlier attempt gave, which is there. {_advice(page.item)}"
                )

    def _is_equal(self, stored: bytes | None, data: bytes) -> bool:
        if stored is None or stored == data:  # it may have been dropped
            return True
        codec = self._node.output
        return codec is not None and digest_of(codec, stored) == digest_of(codec, data)


def _advice(item: Item) -> str:
    return (
        "A step with stream=True has to yield the same in the same order each time: bring that back and retry, or have chunk "
        f"{item.chunk} done anew with all that came of it by run.rerun(step=…)"
    )

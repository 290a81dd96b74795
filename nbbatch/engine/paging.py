"""Pages of running fan-outs, on their way from where the step runs to the dispatcher."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from nbbatch.base.errors import FailChunk
from nbbatch.engine.state import LiveInstance
from nbbatch.worker.context import Cancellation, Page

PAGES_AHEAD = 4
"""Pages a fan-out may hand over before it waits for the store."""


@dataclass(slots=True, eq=False)
class Arrived:
    """A page of a fan-out that still runs."""

    live: LiveInstance
    page: Page
    stop: Cancellation
    taken: Callable[[], None]


class Sink:
    """Takes the pages of one micro-batch's fan-outs; it blocks while the store is behind."""

    def __init__(self, live: LiveInstance, stop: Cancellation, put: Callable[[Arrived], None]) -> None:
        """Of one micro-batch.

        Args:
            live: Its instance.
            stop: Set once its pages are not wanted any more.
            put: Hands a page to the dispatcher.
        """
        self._live, self._stop, self._put = live, stop, put
        self._room = threading.Semaphore(PAGES_AHEAD)

    def __call__(self, page: Page) -> None:
        """Take a page.

        Raises:
            FailChunk: It is not wanted any more.
        """
        if self._stop.cancelled:
            raise FailChunk("the instance was cancelled, or the attempt's time is over")
        self._room.acquire()
        self._put(Arrived(self._live, page, self._stop, self._room.release))

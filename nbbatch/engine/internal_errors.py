"""Errors of the engine itself, logged and kept for `Batch.problems`; and the observer, which is removed if it keeps raising."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from nbbatch.base.items import Items
from nbbatch.base.rows import Results
from nbbatch.engine.state import LiveInstance, LiveStep

log = logging.getLogger("nbbatch")

MOST = 100
"""Errors that are kept."""
TOLERATED = 3
"""An observer that raises this many times in a row is removed."""

Observe = Callable[[LiveInstance, LiveStep, Items, Results], None]


class InternalErrors:
    """The internal errors of one engine, oldest first."""

    def __init__(self) -> None:
        self.texts: deque[str] = deque(maxlen=MOST)

    def note(self, text: str, error: BaseException | None = None) -> None:
        """Log an error with its traceback, and keep its text for `Batch.problems`."""
        log.error("%s", text, exc_info=error)
        self.texts.append(text)


class Observer:
    """The function that is notified of each micro-batch after its commit; see `otel`."""

    def __init__(self, errors: InternalErrors) -> None:
        self.function: Observe | None = None
        self._errors = errors
        self._failures = 0

    def tell(self, live: LiveInstance, step: LiveStep, items: Items, results: Results) -> None:
        """Notify it. What it raises is logged once and has no other effect."""
        if self.function is None:
            return
        try:
            self.function(live, step, items, results)
        except BaseException as error:  # SystemExit too: it would end the engine
            self._failures += 1
            if self._failures == 1:
                self._errors.note(f"the observer of this batch raised {error!r}; runs are not affected", error)
            elif self._failures == TOLERATED:
                self.function = None
                self._errors.note(f"the observer of this batch raised {TOLERATED} times in a row, and was removed")
        else:
            self._failures = 0

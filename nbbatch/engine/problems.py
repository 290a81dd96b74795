"""What goes wrong in the engine itself: logged and kept for people, and an observer that raises is put out of use."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from nbbatch.base.rows import Item, Results
from nbbatch.engine.state import LiveInstance, LiveStep

log = logging.getLogger("nbbatch")

MOST = 100
"""Problems that are kept."""
TOLERATED = 3
"""An observer that raises so often in a row is told nothing more."""

Observe = Callable[[LiveInstance, LiveStep, list[Item], Results], None]


class Problems:
    """The problems of one engine, the oldest first."""

    def __init__(self) -> None:
        self.texts: deque[str] = deque(maxlen=MOST)

    def note(self, text: str, error: BaseException | None = None) -> None:
        """Log a problem, with the stack of its error, and keep its text for `Batch.problems`."""
        log.error("%s", text, exc_info=error)
        self.texts.append(text)


class Observer:
    """Who is told of each micro-batch once it is stored; see `otel`."""

    def __init__(self, problems: Problems) -> None:
        self.function: Observe | None = None
        self._problems = problems
        self._failures = 0

    def tell(self, live: LiveInstance, step: LiveStep, items: list[Item], results: Results) -> None:
        """Tell it; what it raises is logged once and harms nothing."""
        if self.function is None:
            return
        try:
            self.function(live, step, items, results)
        except BaseException as error:  # SystemExit too: it would end the engine
            self._failures += 1
            if self._failures == 1:
                self._problems.note(f"the observer of this batch raised {error!r}; the runs go on untouched", error)
            elif self._failures == TOLERATED:
                self.function = None
                self._problems.note(
                    f"the observer of this batch raised {TOLERATED} times in a row, and is told nothing more"
                )
        else:
            self._failures = 0

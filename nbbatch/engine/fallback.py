"""What the engine does when a turn's transaction fails: it bisects the turn until the update at fault stands alone.

Finds values that no earlier check has refused. The attempt that returned such a value is FAILED with the reason, or the call
that passed it raises, and everything else is stored. A store that cannot be written (a full disk, for example) is not the
fault of an update: that error is raised, and the engine stops claiming.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from nbbatch.base.errors import StoreError
from nbbatch.engine.state import LiveInstance
from nbbatch.engine.updates import Update


class Fallback:
    """Stores the updates of a turn whose transaction failed."""

    def __init__(
        self, commit: Callable[[Sequence[Update], Sequence[LiveInstance]], None],
        restore: Callable[[Sequence[LiveInstance], Sequence[Update]], None],
        stop: Callable[[LiveInstance, Exception], None], now: Callable[[], int],
    ) -> None:  # fmt: skip
        """For one engine; `save` is called on its dispatcher thread.

        Args:
            commit: Commits some updates, and advances some instances, in one transaction.
            restore: Rebuilds the engine's memory of some instances from the store, given the updates that are not stored yet.
            stop: Removes an instance that cannot continue from the engine, with the reason.
            now: Returns the present time.
        """
        self._commit, self._restore, self._stop, self._now = commit, restore, stop, now
        self.left: deque[list[Update]] = deque()
        """Updates that are neither stored nor given up yet."""

    def save(self, updates: Sequence[Update], lives: Sequence[LiveInstance]) -> None:
        """Store all that can be stored: the updates first, then, if none of them was at fault, each instance's next move.

        Raises:
            StoreError: The store cannot be written.
        """
        self.left = deque([list(updates)])
        self._restore(lives, updates)
        if not self._save_updates():
            for live in lives:
                self._move(live)

    def _save_updates(self) -> bool:
        """Store the updates. Returns whether any was at fault."""
        found = False
        while self.left:
            group = self.left[0]
            before = [(live, live.snapshot()) for live in {update.live for update in group if update.live}]
            try:
                self._commit(group, ())
            except StoreError:
                raise
            except Exception as error:
                for live, stood in before:
                    live.become(stood)
                self.left.popleft()
                found = self._divide(group, error) or found
            else:
                self.left.popleft()
        return found

    def _divide(self, group: list[Update], error: Exception) -> bool:
        """Split a group in halves to be tried separately. Returns whether it was a single update, which is then replaced."""
        half = len(group) // 2
        smaller = [group[:half], group[half:]] if half else [[update] for update in group[0].split()] if group else []
        self.left.extendleft(reversed(smaller))
        if smaller or not group:
            return False
        self._replace(group[0], error)
        return True

    def _replace(self, update: Update, error: Exception) -> None:
        other = update.instead(error, self._now())
        if other is not None:
            self.left.appendleft([other])
        elif not update.give_up(error) and update.live is not None:
            self._stop(update.live, error)

    def _move(self, live: LiveInstance) -> None:
        """Advance one instance in a transaction of its own."""
        try:
            self._commit((), (live,))
        except StoreError:
            raise
        except Exception as error:
            self._restore((live,), ())
            self._stop(live, error)

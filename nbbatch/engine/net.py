"""The net behind a turn that cannot be stored: it is stored in smaller ones, until what is at fault stands alone.

What a value's check at the door has missed is found here: an attempt that gave it is FAILED with the reason, a call that
brought it raises, and all else is stored. A store that cannot be written (a full disk, say) is not what a turn holds: that
is left to who stops the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from nbbatch.base.errors import StoreError
from nbbatch.engine.parts import Part
from nbbatch.engine.state import LiveInstance


class Net:
    """Stores what a failed turn held."""

    def __init__(
        self, commit: Callable[[Sequence[Part], Sequence[LiveInstance]], None],
        restore: Callable[[Sequence[LiveInstance], Sequence[Part]], None],
        stop: Callable[[LiveInstance, Exception], None], now: Callable[[], int],
    ) -> None:  # fmt: skip
        """Of one engine, whose thread calls `save`.

        Args:
            commit: Makes a turn of some parts, in which some instances go on.
            restore: Brings the engine's memory of some instances back to what is stored, given the parts that are not.
            stop: Takes an instance that cannot go on out of the engine, with the reason.
            now: Tells the present.
        """
        self._commit, self._restore, self._stop, self._now = commit, restore, stop, now
        self.left: deque[list[Part]] = deque()
        """Parts that are neither stored nor given up."""

    def save(self, parts: Sequence[Part], lives: Sequence[LiveInstance]) -> None:
        """Store all that can be: the parts first, and if none of them was at fault, each instance's next move.

        Raises:
            StoreError: The store cannot be written.
        """
        self.left = deque([list(parts)])
        self._restore(lives, parts)
        if not self._save_parts():
            for live in lives:
                self._move(live)

    def _save_parts(self) -> bool:
        """Whether any was at fault."""
        found = False
        while self.left:
            group = self.left[0]
            before = [(live, live.snapshot()) for live in {part.live for part in group if part.live}]
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

    def _divide(self, group: list[Part], error: Exception) -> bool:
        """Have the parts of a group be tried apart. Whether it is one that stands alone."""
        half = len(group) // 2
        smaller = [group[:half], group[half:]] if half else [[part] for part in group[0].split()] if group else []
        self.left.extendleft(reversed(smaller))
        if smaller or not group:
            return False
        self._replace(group[0], error)
        return True

    def _replace(self, part: Part, error: Exception) -> None:
        other = part.instead(error, self._now())
        if other is not None:
            self.left.appendleft([other])
        elif not part.give_up(error) and part.live is not None:
            self._stop(part.live, error)

    def _move(self, live: LiveInstance) -> None:
        """Let one instance go on by itself."""
        try:
            self._commit((), (live,))
        except StoreError:
            raise
        except Exception as error:
            self._restore((live,), ())
            self._stop(live, error)

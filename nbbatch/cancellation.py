"""The flag by which those who run learn that their result is no longer wanted."""

from __future__ import annotations


class Cancellation:
    """A flag shared by everything that runs for one instance.

    An attempt with a time limit has one of its own, which is also set when its instance's is.
    """

    __slots__ = ("_own", "_whole")

    def __init__(self, whole: Cancellation | None = None) -> None:
        self._own = False
        self._whole = whole

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self._own or (self._whole is not None and self._whole.cancelled)

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        self._own = value

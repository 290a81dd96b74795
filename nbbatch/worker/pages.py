"""Pages of outputs, which an attempt hands over while it goes on, and what takes them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from nbbatch.base.rows import Item


class Page(NamedTuple):
    """A page of outputs of an attempt that is still running."""

    item: Item
    first: int
    """Sequence number of the first of them."""
    outputs: list[bytes]
    targets: list[int]


class PageSink(Protocol):
    """Takes pages of outputs from running attempts."""

    def __call__(self, page: Page) -> None:
        """Take one; it blocks while the store is behind."""
        ...

    def published(self, item: Item) -> int:
        """How many outputs of a chunk whose step streams are there from earlier attempts."""
        ...

    def end(self, item: Item, given: int) -> None:
        """An attempt whose outputs were streamed has given all."""
        ...

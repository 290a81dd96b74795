"""Names that do not exist, answered with the one that is meant: guesses, and words of other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn


def no_attribute(owner: object, what: str, name: str, meant: Mapping[str, str], names: list[str]) -> AttributeError:
    """The error for an attribute that there is not.

    Args:
        owner: Whose attribute it would be.
        what: What that is, for the text.
        name: The one that was asked for.
        meant: Guess → what to write instead. A key may hold several guesses.
        names: Those there are.
    """
    text = f"{what} has no attribute {name!r}"
    for guesses, ours in meant.items():
        if name in guesses.split():
            return AttributeError(f"{text}; {ours}")
    near = get_close_matches(name, names, 1)
    return AttributeError(f"{text}; {near[0]} may be meant" if near else text, name=name, obj=None if near else owner)


class Answering:
    """Answers attributes and indices that it does not have; `dir` shows none of it, and type checkers see no more than there is."""

    _WHAT: ClassVar[str] = ""
    """What it is, for the text."""
    _MEANT: ClassVar[Mapping[str, str]] = {}
    """Guess → what to write instead."""
    _INDEX: ClassVar[str] = ""
    """What to write instead of an index."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            public = [] if name.startswith("_") else [each for each in dir(type(self)) if not each.startswith("_")]
            raise no_attribute(self, self._WHAT, name, self._MEANT, public)

        def __getitem__(self, key: object) -> NoReturn:
            raise TypeError(f"{self._WHAT} has no items; {self._INDEX}")

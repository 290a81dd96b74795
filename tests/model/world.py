"""What the steps of the model's jobs do: a table that the rules change, which engine and model both go by.

It is reached by name from another module, so that what stands in it is no part of the code of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nbbatch as nb
from tests.model.chunks import Chunk
from tests.model.jobs import POLL, Said, Step


class Odd(ValueError):
    """What ``skip_on=`` of some steps names."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "error": lambda: OSError("again"),
    "fatal": lambda: TypeError("no use"),
    "odd": lambda: Odd("odd"),
    "later": lambda: nb.RetryLater(POLL),
    "skip": lambda: nb.SkipChunk("left out"),
    "fail": lambda: nb.FailChunk("failed"),
    "fail job": lambda: nb.FailJob("stop"),
}


@dataclass
class World:
    trouble: dict[tuple[str, Any], str] = field(default_factory=dict)
    """What comes of a step's work on a value; where nothing is said, it goes well."""
    shift: dict[str, int] = field(default_factory=dict)
    """What a step adds to values: its code, so to speak."""
    begins: Callable[[str, Any], None] = lambda _step, _value: None
    """Called when an attempt has begun."""

    def trouble_of(self, step: str, value: Any) -> str | None:
        """Of the first item of a page that has any."""
        for each in value if isinstance(value, list) else [value]:
            if (step, each) in self.trouble:
                return self.trouble[step, each]
        return None

    def gives(self, step: str, kind: str, value: Any) -> list[Any]:
        """The outputs of an attempt that goes well."""
        shift = self.shift.get(step, 0)
        if kind == "page":
            return [[value * 4 + i for i in range((value + shift) % 5)]]
        if kind == "many":
            return [value * 2 + i for i in range((value + shift) % 3)]
        if kind == "flat":
            return [each + shift for each in value]
        return {"first": list(range(value)), "one": [value + shift], "none": []}[kind]

    def outcome(self, chunk: Chunk) -> Said:
        """What the model hears of an attempt."""
        step: Step = chunk.node
        if step.kind == "reduction":
            said = self.trouble_of(step.name, None)
            return (said or "done"), [] if said else chunk.run.rows(first_of(chunk))
        said = self.trouble_of(step.name, chunk.value)
        return (said or "done"), [] if said else self.gives(step.name, step.kind, chunk.value)


def first_of(chunk: Chunk) -> Chunk:
    return next(each for each in chunk.run.of(0))


world = World()
"""The present one; `reset` makes it anew."""


def reset() -> World:
    world.trouble, world.shift, world.begins = {}, {}, lambda _step, _value: None
    return world


def work(step: str, kind: str, value: Any) -> list[Any]:
    """What a step of the engine does."""
    world.begins(step, value)
    said = world.trouble_of(step, None if kind == "reduction" else value)
    if said is not None:
        error = RAISED[said]()
        raise error
    return list(value) if kind == "reduction" else world.gives(step, kind, value)

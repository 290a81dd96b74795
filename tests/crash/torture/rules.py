"""What the steps of the laboratory do to one item: a pure function of seed, step and item, and of one number in a file.

The number is how much has been mended. An item that is bad fails until the number has reached its level, so that what a
run must give in the end does not depend on when anything was killed, retried or done again.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import nbbatch as nb

LEVELS = 3
"""Bad items have levels from 1 to this; with the file at it, nothing is bad any more."""


class Boom(Exception):
    """What bad and flaky items raise."""


class Left(Exception):
    """What items raise that ``skip_on=`` leaves out for good."""


class Rules(NamedTuple):
    """How the steps of one seed behave; travels into worker processes."""

    seed: int
    mended: str
    """Path of the file that tells how much is mended."""
    pace: float
    """Seconds that an item takes at most."""


def share(*words: object) -> float:
    """A number from 0 to 1 that depends on the words alone."""
    text = "\x1f".join(map(str, words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()) / 2**48


def fault(rules: Rules, step: str, item: str, kinds: tuple[str, ...]) -> tuple[str, int] | None:
    """What is wrong with an item in a step, and its level; None for most.

    Kinds: "bad" raises until it is mended, "failchunk" and "failjob" are signals likewise, "flaky" raises at its first
    attempts, "poll" is not ready at its first, "left" is skipped for good.
    """
    often = 0.12 if "." in item else 0.3  # of an item, or of a reduction
    if not kinds or share(rules.seed, "fault", step, item) > often:
        return None
    place = int(share(rules.seed, "kind", step, item) * len(kinds))
    return kinds[place], 1 + int(share(rules.seed, "level", step, item) * LEVELS)


def level(rules: Rules) -> int:
    """How much is mended."""
    return int(Path(rules.mended).read_text() or 0)


def act(rules: Rules, step: str, item: str, kinds: tuple[str, ...]) -> None:
    """Take some time, and raise what is wrong with the item."""
    time.sleep(share(rules.seed, "pace", step, item) * rules.pace)
    found = fault(rules, step, item, kinds)
    if found is None:
        return
    kind, needed = found
    attempt = nb.context().attempt
    if kind == "left":
        raise Left(item)
    if kind == "flaky" and attempt <= needed:
        raise Boom(f"flaky {item}")
    if kind == "poll" and attempt == 1:
        raise nb.RetryLater(0.003 * needed)
    if kind in SIGNALS and level(rules) < needed:
        raise SIGNALS[kind](f"{kind} {item}")


SIGNALS = {"bad": Boom, "failchunk": nb.FailChunk, "failjob": nb.FailJob}


def width(rules: Rules, step: str, item: str, most: int) -> int:
    """How many outputs a fan-out gives for an item; none for some, except of the parameters."""
    least = 0 if "." in item else most // 2
    return least + int(share(rules.seed, "width", step, item) * (most + 1 - least))

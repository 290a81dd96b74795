"""What a step may declare beside its signature, and which errors a retry may mend. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from nbbatch.base.errors import DefinitionError, NotFoundError, ValueNotStorable

MAX_NAME = 100
"""Characters of a job's or step's name at most."""
FATAL = (
    TypeError, NameError, AttributeError, SyntaxError, ImportError, AssertionError, ValidationError, ValueNotStorable,
    NotFoundError, KeyboardInterrupt, SystemExit,
)  # fmt: skip
"""Errors that a retry cannot mend."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a chunk waits after an error: exponential, capped, with jitter.

    Args:
        base: Seconds before the first retry, on average; 0 or more.
        cap: Seconds at most, before jitter.
        jitter: Share by which a wait is shortened or lengthened at random, 0 to 1.
    """

    base: float = 1.0
    cap: float = 300.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not (self.base >= 0 and self.cap >= 0) or not 0 <= self.jitter <= 1:
            raise DefinitionError(f"{self!r}: base and cap must be 0 or more, jitter from 0 to 1")

    def delay(self, retry: int, random: float) -> float:
        """Seconds before the n-th retry: min(cap, base · 2^(n−1)) · (1 ± jitter).

        Args:
            retry: n, from 1.
            random: 0 gives the shortest wait, 1 the longest.

        >>> [Backoff(jitter=0).delay(n, 0.5) for n in (1, 2, 3, 20)]
        [1.0, 2.0, 4.0, 300.0]
        >>> Backoff(base=10).delay(1, 0), Backoff(base=10).delay(1, 1)
        (8.0, 12.0)
        """
        wait = min(self.cap, self.base * 2.0 ** min(retry - 1, 60))
        return wait * (1 + self.jitter * (2 * random - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a step declares beside its signature; see `step`."""

    max_attempts: int = 4
    backoff: Backoff = Backoff()
    retry_on: tuple[type[BaseException], ...] = ()
    fail_on: tuple[type[BaseException], ...] = ()
    gate: bool = False
    concurrency: int | None = None
    rate: float | None = None
    timeout: float | None = None
    weight: float | None = None
    max_failed: float | None = None
    skip_on: tuple[type[BaseException], ...] = ()
    max_skipped: int | None = None
    bisect: bool = False
    always: bool = False
    description: str = ""

    @property
    def limited(self) -> bool:
        """Whether how many start is limited."""
        return self.concurrency is not None or self.rate is not None or self.timeout is not None

    @property
    def paced(self) -> bool:
        """Whether each chunk is claimed for itself and when a worker is free: to start at once, on a clock of its own."""
        return self.rate is not None or self.timeout is not None


def retryable(options: Options, error: BaseException) -> bool:
    """Whether a retry may mend an error; ``fail_on`` wins over ``retry_on``, and that over the usual judgement.

    An error counts with its chain of causes (``raise … from``).

    >>> retryable(Options(), OSError()), retryable(Options(), TypeError()), retryable(Options(retry_on=(TypeError,)), TypeError())
    (True, False, True)
    """
    chain = list(_causes(error))
    if any(isinstance(link, options.fail_on) for link in chain):
        return False
    if any(isinstance(link, options.retry_on) for link in chain):
        return True
    return not isinstance(error, FATAL)


def skippable(options: Options, error: BaseException) -> bool:
    """Whether an error, or a cause of it, is of a class that ``skip_on`` names.

    >>> skippable(Options(skip_on=(OSError,)), FileNotFoundError()), skippable(Options(), OSError())
    (True, False)
    """
    return bool(options.skip_on) and any(isinstance(link, options.skip_on) for link in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def checked_name(what: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise DefinitionError(f"a {what} needs a name that is not blank, not {name!r}; give name=")
    if len(name) > MAX_NAME or not name.isprintable():
        raise DefinitionError(f"{what} name {name[:120]!r}: at most {MAX_NAME} printable characters")
    return name


def check_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises DefinitionError for the first option that is none, with the one that may be meant.

    >>> check_known("step 'count'", ["max_attempt"], ["gate", "max_attempts"])
    Traceback (most recent call last):
    nbbatch.DefinitionError: step 'count' has no option max_attempt=; max_attempts= may be meant. There are gate, max_attempts
    """
    options = sorted(known)
    for name in given:
        if name not in options:
            near = get_close_matches(name, options, 1)
            meant = f"; {near[0]}= may be meant" if near else ""
            raise DefinitionError(f"{what} has no option {name}={meant}. There are {', '.join(options)}")


def read_options(name: str, given: dict[str, Any]) -> Options:
    check_known(f"step {name!r}", given, (*Options.__slots__, "name"))
    for key in ("retry_on", "fail_on", "skip_on"):
        classes: Any = given.get(key, ())
        given[key] = tuple(classes) if isinstance(classes, Iterable) else (classes,)  # pyright: ignore[reportUnknownArgumentType]
        if not all(isinstance(each, type) and issubclass(each, BaseException) for each in given[key]):
            raise DefinitionError(f"step {name!r}: {key}= takes exception classes, not {classes!r}")
    backoff = given.get("backoff")
    if not (backoff is None or isinstance(backoff, Backoff) or _is_number(backoff)):
        raise DefinitionError(f"step {name!r}: backoff= takes a Backoff or a number of seconds, not {backoff!r}")
    given["backoff"] = (
        backoff if isinstance(backoff, Backoff) else Backoff() if backoff is None else Backoff(base=backoff)
    )
    if isinstance(given.get("timeout"), timedelta):
        given["timeout"] = given["timeout"].total_seconds()
    options = Options(**given)
    _check_options(name, options)
    return options


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_budget(value: Any) -> bool:
    """Whether it can be a number or a share of failed chunks."""
    return _is_number(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 1


def _check_options(name: str, options: Options) -> None:
    rate, timeout, weight = options.rate, options.timeout, options.weight
    rules = {
        "max_attempts": (_is_count(options.max_attempts), "a whole number, 1 or more"),
        "concurrency": (options.concurrency is None or _is_count(options.concurrency), "a whole number, 1 or more"),
        "rate": (rate is None or (_is_number(rate) and rate > 0), "above 0"),
        "timeout": (timeout is None or (_is_number(timeout) and timeout > 0), "above 0 seconds"),
        "weight": (weight is None or (_is_number(weight) and 0 < weight < 1), "above 0 and below 1"),
        "max_failed": (options.max_failed is None or is_budget(options.max_failed), "0 or more"),
        "max_skipped": (
            options.max_skipped in (None, 0) or _is_count(options.max_skipped),
            "a whole number, 0 or more",
        ),
        "gate": (isinstance(options.gate, bool), "True or False"),  # pyright: ignore[reportUnnecessaryIsInstance]
        "bisect": (isinstance(options.bisect, bool), "True or False"),  # pyright: ignore[reportUnnecessaryIsInstance]
        "always": (isinstance(options.always, bool), "True or False"),  # pyright: ignore[reportUnnecessaryIsInstance]
        "description": (isinstance(options.description, str), "text"),  # pyright: ignore[reportUnnecessaryIsInstance]
    }
    for option, (holds, rule) in rules.items():
        if not holds:
            raise DefinitionError(f"step {name!r}: {option}= must be {rule}, not {getattr(options, option)!r}")

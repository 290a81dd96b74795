"""The options of a step, and which errors are retried. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast, get_type_hints

from pydantic import ValidationError

from nbbatch.base import ranges, times
from nbbatch.base.arguments import check_known, taken_by
from nbbatch.base.errors import DefinitionError, FileChanged, NotFoundError, ValueNotStorable
from nbbatch.base.states import ChunkStatus

F = TypeVar("F", bound=Callable[..., Any])

MAX_NAME = 100
"""Characters of a job's or step's name at most."""
FATAL = (
    TypeError, NameError, AttributeError, SyntaxError, ImportError, AssertionError, ValidationError, ValueNotStorable, FileChanged,
    NotFoundError, KeyboardInterrupt, SystemExit,
)  # fmt: skip
"""Errors that a retry cannot mend."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a chunk waits after an error: exponential backoff with a cap and jitter.

    Args:
        base: Mean wait before the first retry: seconds, a timedelta or text, up to ten years.
        cap: Maximum wait, before jitter, of at least ``base``; ``math.inf``: no maximum.
        jitter: Fraction by which a wait is randomly shortened or lengthened, 0 to 1.

    Raises:
        DefinitionError: An argument is out of its range.

    Example:
        >>> @nb.step(max_attempts=6, backoff=nb.Backoff("10 s", cap="5 min"))
        ... def fetch(order: Order) -> Order:
        ...     return order
    """

    base: float = 1.0
    cap: float = 300.0
    _: KW_ONLY
    jitter: float = 0.2

    if TYPE_CHECKING:

        def __init__(self, base: times.Duration = 1.0, cap: times.Duration = 300.0, *, jitter: float = 0.2) -> None: ...

    def __post_init__(self) -> None:
        try:
            base, cap = times.duration(self.base, "base"), times.patience(self.cap, "cap")
            jitter = ranges.portion(self.jitter, "jitter")
        except ValueError as error:
            raise DefinitionError(f"Backoff: {error}") from None
        for name, value in (("base", base), ("cap", times.LONGEST if cap is None else cap), ("jitter", jitter)):
            object.__setattr__(self, name, float(value))

    def delay(self, retry: int, random: float) -> float:
        """Seconds before the n-th retry: min(max(cap, base), base · 2^(n−1)) · (1 ± jitter).

        Args:
            retry: n, from 1.
            random: From 0 (the shortest wait) to 1 (the longest).

        >>> [Backoff(jitter=0).delay(n, 0.5) for n in (1, 2, 3, 20)]
        [1.0, 2.0, 4.0, 300.0]
        >>> Backoff(base=10).delay(1, 0), Backoff(base=10).delay(1, 1)
        (8.0, 12.0)
        >>> Backoff(base=3600, jitter=0).delay(1, 0.5)
        3600.0
        """
        wait = min(max(self.cap, self.base), self.base * 2.0 ** min(retry - 1, 60))
        return wait * (1 + self.jitter * (2 * random - 1))


Read = Callable[[Any, str], Any]
"""Takes a value and what it was given for, and returns it as it is kept; raises ValueError with what it may be."""


def _option(default: Any, read: Read) -> Any:
    return field(default=default, metadata={"read": read})


def _maybe(read: Read) -> Read:
    return lambda value, what: None if value is None else read(value, what)


def _read_backoff(value: Any, what: str) -> Backoff:
    if value is None or isinstance(value, Backoff):
        return value or Backoff()
    try:
        return Backoff(base=times.duration(value, what))
    except ValueError:
        raise ValueError(
            f"{what} must be a Backoff, or seconds, a timedelta or text such as '10 min', up to ten years, not {ranges.shown(value)}"
        ) from None


def _read_classes(value: Any, what: str) -> tuple[type[BaseException], ...]:
    classes = tuple(cast("Iterable[Any]", value if isinstance(value, Iterable) else (value,)))
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        raise ValueError(f"{what} must be exception classes, not {ranges.shown(value)}")
    return classes


def _read_timeout(value: Any, what: str) -> float | None:
    try:
        seconds = times.patience(value, what)
    except ValueError:
        seconds = 0
    if seconds == 0:
        raise ValueError(
            f"{what} must be above 0: seconds, a timedelta or text such as '10 min', not {ranges.shown(value)}"
        )
    return seconds


def _read_executor(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f'{what} of a step takes the name of an executor that nb.open(executors={{"gpu": …}}) is given, not {ranges.shown(value)}'
        )
    return value


def _read_max_skipped(value: Any, what: str) -> int:
    return ranges.limit(value, what, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a step, checked; see `step`."""

    description: str = _option("", ranges.text)
    max_attempts: int = _option(4, ranges.limit)
    backoff: Backoff = _option(Backoff(), _read_backoff)
    retry_on: tuple[type[BaseException], ...] = _option((), _read_classes)
    fail_on: tuple[type[BaseException], ...] = _option((), _read_classes)
    gate: bool = _option(False, ranges.flag)
    concurrency: int | None = _option(None, _maybe(ranges.limit))
    rate: float | None = _option(None, ranges.rate)
    timeout: float | None = _option(None, _read_timeout)
    max_wait: float | None = _option(None, _read_timeout)
    weight: float | None = _option(None, _maybe(ranges.share))
    max_failed: float | None = _option(None, _maybe(ranges.budget))
    skip_on: tuple[type[BaseException], ...] = _option((), _read_classes)
    max_skipped: int | None = _option(None, _maybe(_read_max_skipped))
    bisect: bool = _option(False, ranges.flag)
    always: bool = _option(False, ranges.flag)
    reuse: bool | None = _option(None, _maybe(ranges.flag))
    executor: str | None = _option(None, _maybe(_read_executor))
    stream: bool = _option(False, ranges.flag)

    def reuses(self, of_job: bool) -> bool:
        """Whether chunks may take the outputs of others, given what the job says."""
        return not self.always and (of_job if self.reuse is None else self.reuse)

    @property
    def limited(self) -> bool:
        """Whether the number of chunks that start is limited."""
        return self.concurrency is not None or self.rate is not None or self.timeout is not None

    @property
    def paced(self) -> bool:
        """Whether each chunk is claimed separately, when a worker is free, because its start or its duration is timed."""
        return self.rate is not None or self.timeout is not None


Exceptions = type[BaseException] | Sequence[type[BaseException]]


class SubjobOptions(TypedDict, total=False):
    """The options of a step that is a job."""

    description: str
    max_attempts: int
    backoff: Backoff | times.Duration | None
    retry_on: Exceptions
    fail_on: Exceptions
    gate: bool
    concurrency: int | None
    rate: float | None
    weight: float | None
    max_failed: float | None
    skip_on: Exceptions
    max_skipped: int | None
    bisect: bool
    always: bool
    reuse: bool | None


class StepOptions(SubjobOptions, total=False):
    """The options of a step."""

    timeout: times.Duration | None
    max_wait: times.Duration | None
    executor: str | None
    stream: bool


def named(accepted: type, **defaults: Any) -> Callable[[F], F]:
    """Show the options in the signature of a function that takes them as ``**options``, each with its default.

    Args:
        accepted: `StepOptions` or `SubjobOptions`.
        defaults: Those that differ from the ones of `Options`.
    """

    def give(function: F) -> F:
        own = [each for each in signature(function).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        hints = get_type_hints(accepted)
        options = [
            Parameter(
                each.name,
                Parameter.KEYWORD_ONLY,
                default=defaults.get(each.name, each.default),
                annotation=hints[each.name],
            )
            for each in fields(Options)
            if each.name in hints
        ]
        shown: Any = function
        shown.__signature__ = Signature([*own, *options])
        return function

    return give


def retryable(options: Options, error: BaseException) -> bool:
    """Whether an error is retried. ``fail_on`` takes precedence over ``retry_on``, and ``retry_on`` over the default.

    An error matches with its chain of causes (``raise … from``).

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


def judge(options: Options, error: BaseException) -> tuple[ChunkStatus, bool]:
    """The state of a chunk after an error, and whether it is SKIPPED instead of FAILED once it is out of attempts.

    An error that ``skip_on`` names skips the chunk at once. If ``retry_on`` names it too, it is retried first.

    >>> options = Options(skip_on=(OSError,), retry_on=(TimeoutError,))
    >>> [str(judge(options, error)[0]) for error in (FileNotFoundError(), TimeoutError(), TypeError())]
    ['SKIPPED', 'ERRORED', 'FAILED']
    """
    skips, retries = skippable(options, error), retryable(options, error)
    if skips and not (retries and any(isinstance(link, options.retry_on) for link in _causes(error))):
        return ChunkStatus.SKIPPED, False
    return ChunkStatus.ERRORED if retries else ChunkStatus.FAILED, skips


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


def read_options(name: str, given: Mapping[str, Any]) -> Options:
    """Check the options of a step.

    Raises:
        DefinitionError: An option is unknown, or its value is invalid.
    """
    check_known(f"step {name!r}", given, (*OPTIONS, "name"), DefinitionError)
    if given.get("always") is True and given.get("reuse") is True:
        raise DefinitionError(
            f"step {name!r}: always=True means that it is done again, reuse=True that it is not; give one"
        )
    return Options(**{option: _read(name, option, value) for option, value in given.items()})


def _read(name: str, option: str, value: Any) -> Any:
    try:
        return Options.__dataclass_fields__[option].metadata["read"](value, f"{option}=")
    except ValueError as error:
        raise DefinitionError(f"step {name!r}: {error}") from None


OPTIONS = tuple(each.name for each in fields(Options))
taken_by("nb.step", OPTIONS)

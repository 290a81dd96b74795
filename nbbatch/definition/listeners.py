"""A job's listeners, and what is put around its attempts."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, get_args

from nbbatch.base.errors import DefinitionError

log = logging.getLogger("nbbatch")

Event = Literal["instance_started", "step_started", "before_attempt", "after_attempt", "step_ended", "instance_ended"]
EVENTS: tuple[str, ...] = get_args(Event)
"""In the order in which they come."""
F = TypeVar("F", bound=Callable[..., Any])
TOLERATED = 3
"""A function that is called for each attempt and raises so often in a row is not called any more."""
_REVERSED = {"after_attempt", "step_ended", "instance_ended"}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What runs around each attempt, in the worker; it travels to worker processes with the step's code."""

    before: tuple[Callable[[Any], Any], ...]
    around: tuple[Callable[[Any], Any], ...]
    after: tuple[Callable[[Any, BaseException | None], Any], ...]


class Listeners:
    """A job's listeners by event; a function given again under its name takes the place of the earlier one.

    So a cell that registers one can be run again.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._of: dict[str, dict[str, Callable[..., Any]]] = {}
        self._around: dict[str, Callable[[Any], Any]] = {}
        self.hooks: Hooks | None = None
        """What attempts of the job need; None if nothing, which then costs nothing."""

    def __bool__(self) -> bool:
        """Whether there is any for an event other than an attempt's."""
        return not self._of.keys() <= {"before_attempt", "after_attempt"}

    def __copy__(self) -> Listeners:
        """Others, with the same functions: what is added to one is not added to the other."""
        made = Listeners(self._job)
        made._of = {event: dict(listeners) for event, listeners in self._of.items()}
        made._around, made.hooks = dict(self._around), self.hooks
        return made

    def on(self, event: str) -> Callable[[F], F]:
        """A decorator that registers a listener; see `Job.on`."""
        if event not in EVENTS:
            raise DefinitionError(f"job {self._job!r}: no event {event!r}; there are {', '.join(map(repr, EVENTS))}")
        return lambda function: self._put(self._of.setdefault(event, {}), function, function)

    def around(self, function: F) -> F:
        """Put a context manager, or a generator function that yields once, around each attempt; see `Job.around`."""
        manager = contextmanager(function) if inspect.isgeneratorfunction(function) else function
        return self._put(self._around, function, manager)

    def of(self, event: str) -> tuple[Callable[..., Any], ...]:
        """The listeners of an event, in their order: of an end, the last one first."""
        found = tuple(self._of.get(event, {}).values())
        return found[::-1] if event in _REVERSED else found

    def _put(self, listeners: dict[str, Callable[..., Any]], function: F, called: Callable[..., Any]) -> F:
        if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise DefinitionError(
                f"job {self._job!r}: {function!r} cannot be a listener; use a function that is not async"
            )
        name = getattr(function, "__qualname__", repr(function))
        listeners[f"{getattr(function, '__module__', '')}.{name}"] = called
        found = Hooks(self.of("before_attempt"), tuple(self._around.values()), self.of("after_attempt"))
        self.hooks = found if found.before or found.around or found.after else None
        return function


def begin(hooks: Hooks | None, context: Any) -> Callable[[BaseException | None], None] | None:
    """Notify listeners that an attempt begins, and enter what is put around it; returns what ends it.

    Args:
        hooks: Of the job; None: nothing is done and nothing is returned.
        context: Of the attempt.
    """
    if hooks is None:
        return None
    call = partial(_in_use, where=f"chunk {context.chunk}, whose attempt goes on")
    for listener in hooks.before:
        call(listener, listener, context)
    managers = [(around, call(around, _entered, around, context, is_all=False)) for around in hooks.around]

    def end(error: BaseException | None) -> None:
        """Leave, with what the step raised; then notify the listeners."""
        raised = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        for around, manager in reversed(managers):
            if manager is not None:
                call(around, manager.__exit__, *raised)
        for listener in hooks.after:
            call(listener, listener, context, error)

    return end


def _entered(around: Callable[[Any], AbstractContextManager[Any]], context: Any) -> AbstractContextManager[Any]:
    manager = around(context)
    manager.__enter__()
    return manager


_raised: dict[int, tuple[Callable[..., Any], int]] = {}
"""Functions that are called for each attempt and raised, by id (not all can be hashed), and how often in a row; in this process."""


def _in_use(listener: Callable[..., Any], call: Callable[..., Any], *args: Any, where: str, is_all: bool = True) -> Any:
    """Call a listener as `safely` does, unless it has raised on and on.

    Args:
        listener: Whose failures are counted; a function that a cell defines anew is another one.
        call: It, or a part of it.
        args: For ``call``.
        where: For the log.
        is_all: Whether it has done all it has to do if this call raises nothing.
    """
    _, before = _raised.get(id(listener), (listener, 0))
    if before >= TOLERATED:
        return None
    failed: list[BaseException] = []
    result = safely(listener, call, *args, where=where, failed=failed)
    if failed:
        _raised[id(listener)] = listener, before + 1
        if before + 1 == TOLERATED:
            log.error(
                "listener %s raised %d times in a row and is not called any more; define it anew to have it called again",
                _name(listener), TOLERATED,
            )  # fmt: skip
    elif is_all and before:
        _raised.pop(id(listener), None)
    return result


def _name(listener: Callable[..., Any]) -> str:
    return getattr(listener, "__name__", None) or repr(listener)


def safely(
    listener: Callable[..., Any], call: Callable[..., Any], *args: Any, where: str, failed: list[BaseException] | None = None
) -> Any:  # fmt: skip
    """Call a listener, or a part of it; what it raises is logged, put into ``failed``, and changes nothing."""
    try:
        return call(*args)
    except BaseException as error:  # not even SystemExit may end an attempt, or the thread that has more to call
        log.exception("listener %s raised in %s", _name(listener), where)
        if failed is not None:
            failed.append(error)
        return None

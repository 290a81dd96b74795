"""Who is told of what happens to a job's instances, and what is put around their attempts."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nbbatch.base.errors import DefinitionError

log = logging.getLogger("nbbatch")

When = Literal["instance_started", "step_started", "before_attempt", "after_attempt", "step_ended", "instance_ended"]
MOMENTS: tuple[str, ...] = get_args(When)
"""In the order in which they come."""
_REVERSED = {"after_attempt", "step_ended", "instance_ended"}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What runs around each attempt, in the worker; it travels to worker processes with the step's code."""

    before: tuple[Callable[[Any], Any], ...]
    around: tuple[Callable[[Any], Any], ...]
    after: tuple[Callable[[Any, BaseException | None], Any], ...]


class Listeners:
    """A job's listeners by moment; a function that is given again under the same name takes the place of the earlier one.

    So a cell that registers one can be run again.
    """

    def __init__(self) -> None:
        self._told: dict[str, dict[str, Callable[..., Any]]] = {}
        self._around: dict[str, Callable[[Any], Any]] = {}
        self.hooks: Hooks | None = None
        """What attempts of the job need; None if nothing, which then costs nothing."""
        self._tells = False

    def __bool__(self) -> bool:
        """Whether there is any for a moment other than an attempt's."""
        return self._tells

    def __copy__(self) -> Listeners:
        """Others, with the same functions: what is added to one is not added to the other."""
        made = Listeners()
        made._told = {moment: dict(told) for moment, told in self._told.items()}
        made._around = dict(self._around)
        made._read()
        return made

    def add(self, moment: str, function: Callable[..., Any]) -> None:
        """Have a function be told."""
        self._told.setdefault(moment, {})[_name(function)] = function
        self._read()

    def put_around(self, function: Callable[[Any], Any]) -> None:
        """Have a context manager, or a generator function that yields once, be put around each attempt."""
        manager = contextmanager(function) if inspect.isgeneratorfunction(function) else function
        self._around[_name(function)] = manager
        self._read()

    def of(self, moment: str) -> tuple[Callable[..., Any], ...]:
        """The functions to be told of a moment, in their order: of an end, the last one first."""
        found = tuple(self._told.get(moment, {}).values())
        return found[::-1] if moment in _REVERSED else found

    def _read(self) -> None:
        found = Hooks(self.of("before_attempt"), tuple(self._around.values()), self.of("after_attempt"))
        self.hooks = found if found.before or found.around or found.after else None
        self._tells = any(moment not in ("before_attempt", "after_attempt") for moment in self._told)


def checked_moment(job: str, moment: str) -> str:
    """The moment.

    Raises:
        DefinitionError: There is none of this name.
    """
    if moment not in MOMENTS:
        raise DefinitionError(f"job {job!r}: no moment {moment!r}; there are {', '.join(map(repr, MOMENTS))}")
    return moment


def checked_listener(job: str, function: Callable[..., Any]) -> None:
    """Raises DefinitionError where a function would be called and never run."""
    if not callable(function) or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"job {job!r}: {function!r} cannot listen; give a plain function, which is not async")


def _name(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"


def begin(hooks: Hooks | None, context: Any) -> Callable[[BaseException | None], None] | None:
    """Tell listeners that an attempt begins, and enter what is put around it; returns what ends it.

    Args:
        hooks: Of the job; None: nothing is done and nothing is returned.
        context: Of the attempt.
    """
    if hooks is None:
        return None
    for listener in hooks.before:
        _safely(listener, context, listener, context)
    managers = [(around, _safely(around, context, _entered, around, context)) for around in hooks.around]

    def end(error: BaseException | None) -> None:
        """Leave, with what the step raised; then tell the listeners."""
        raised = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        for around, manager in reversed(managers):
            if manager is not None:
                _safely(around, context, manager.__exit__, *raised)
        for listener in hooks.after:
            _safely(listener, context, listener, context, error)

    return end


def _entered(around: Callable[[Any], AbstractContextManager[Any]], context: Any) -> AbstractContextManager[Any]:
    manager = around(context)
    manager.__enter__()
    return manager


def _safely(listener: Callable[..., Any], context: Any, call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except BaseException:  # a listener must not end an attempt, not even by SystemExit
        name = getattr(listener, "__name__", repr(listener))
        log.exception("%s, which listens, raised in chunk %d; its attempt goes on untouched", name, context.chunk)
        return None

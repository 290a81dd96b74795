"""What a job's listeners put around an attempt, in the worker. Nothing they raise touches the attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from nbbatch.definition.listeners import Hooks

log = logging.getLogger("nbbatch")


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

"""The files among what a step is given: looked at before it begins, and once more when it has ended.

So a step that COMPLETED read what its stored input says, and not what somebody wrote over it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from nbbatch.definition import Node
from nbbatch.values.files import noting
from nbbatch.worker import capture
from nbbatch.worker.context import Context
from nbbatch.worker.older_class import reading


def taking(node: Node) -> Callable[[bytes], Any]:
    """How an attempt reads its input.

    Raises:
        FileChanged, OSError: A file in it is not what it was.
    """
    read = reading(node)
    return checking(read) if node.input.holds_files else read


def checking(read: Callable[..., Any]) -> Callable[..., Any]:
    """The same reading, of values that may hold files. Errors as of `taking`."""

    def checked(*data: Any) -> Any:
        value, files = noting(read, *data)
        if files:
            for each in files:
                each.check()
            context = cast("Context | None", capture.buffer.get())
            if context is not None:
                context.files = files
        return value

    return checked


def calling(node: Node) -> Callable[..., Any]:
    """How a step is called that gives no more once it has returned. Errors as of `taking`."""
    function = node.step.function
    if not node.input.holds_files:
        return function

    def called(*given: Any) -> Any:
        made = function(*given)
        context = cast("Context | None", capture.buffer.get())
        if context is not None:
            confirm(context)
        return made

    return called


def confirm(context: Context) -> None:
    """At the end of an attempt: its files still are what they were. Errors as of `taking`."""
    for each in context.files:
        each.check()

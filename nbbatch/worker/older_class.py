"""Values that a step gives of a class that was defined again, by another class than its hints named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from nbbatch.base.errors import DefinitionError, ValueNotStorable
from nbbatch.base.rows import Failure
from nbbatch.code.renewal import namesakes, stored_form, two_classes
from nbbatch.code.signature import type_name
from nbbatch.definition import Node
from nbbatch.definition.base_step import BaseStep
from nbbatch.values.codec import problems
from nbbatch.values.views import plain


def of_older_class(step: BaseStep, value: Any) -> bytes:
    """The stored form of a value that was refused because its class, or the one that the step names, was defined again since.

    Raises:
        ValueNotStorable: The one does not read what the other has.
        Exception: What the caller caught, where that is not why.
    """
    refused = sys.exception()
    names = namesakes(refused) if isinstance(refused, ValidationError) else []
    if not names or step.output is None:
        raise  # noqa: PLE0704 - what the caller caught
    with suppress(ValidationError, DefinitionError):
        if step.renew():
            return step.output.encode(value)
    try:
        return step.output.encode(step.output.decode(stored_form(value)))
    except ValidationError as error:
        why = problems(error)
    raise ValueNotStorable(f"{why}. The class {two_classes(names[0])}")


def reading(node: Node) -> Callable[[bytes], Any]:
    """How inputs of a step are read; what is not read any more in the form that the job's ``upgrade=`` makes of it."""
    decode, upgrade = node.input.decode, node.upgrade
    if upgrade is None:
        return decode

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except ValueError:
            return decode(json.dumps(upgrade(node.step.name, plain(data))).encode())

    return read


def explained(node: Node, data: bytes | None, failed: Failure | None) -> Failure | None:
    """What is stored of an attempt that failed; where its stored input is not read any more, with why and what to do."""
    if data is None or failed is None or not failed.type.endswith("ValidationError"):
        return failed
    try:
        reading(node)(data)
    except ValidationError as error:
        text = (
            f"the stored input of the chunk is not read as {type_name(node.step.input_type)} any more: {problems(error)}. Its class was "
            "changed since: give new fields a default, or bring it up to date by nb.Job(upgrade=), then run.retry(job)"
        )
        return failed._replace(message=text)
    return failed

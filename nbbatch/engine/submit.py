"""What a person may store with an instance beside its parameters: attachments and user data.

Neither is part of what identifies an instance. Both are stored in the transaction that stores a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nbbatch.base import ranges
from nbbatch.base.errors import ParameterError, StateError
from nbbatch.base.rows import Ended
from nbbatch.definition import JobDefinition
from nbbatch.engine import commands
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.recovery import attachments
from nbbatch.engine.settle import Changes
from nbbatch.engine.updates import CallUpdate
from nbbatch.worker.error_text import clean

MAX_BYTES = 1_000_000_000
"""An attachment may have so many bytes; bigger files are better named by a path in the parameters."""


RETAIN = ("all", "failed", "none")


def check(key: str | None, retain: str, *, new: bool) -> None:
    """Raises ValueError where what is said of an instance is no sense."""
    if key is not None and new:
        raise ValueError("key= and new= exclude each other: a key names one instance, new= makes another one")
    if key is not None and not ranges.text(key, "key=").strip():
        raise ValueError("key= needs a name that is not blank")
    if retain not in RETAIN:
        raise ValueError(f"retain= takes one of {', '.join(map(repr, RETAIN))}, not {retain!r}")


def wish(given: Any, batch: Any) -> int | None:
    """What ``reuse=`` means, as it is stored; see `InstanceRow.reuse`.

    Raises:
        TypeError: It is neither a flag nor a run of this batch.
    """
    if given is None or isinstance(given, bool):
        return None if given is None else -int(given)
    if getattr(given, "batch", None) is not batch:
        raise TypeError(f"reuse= takes True, False or a run of this store, not {given!r:.80}")
    return given.id


class Attachment(NamedTuple):
    """One file to be stored."""

    name: str
    digest: str
    data: bytes


class Extras(NamedTuple):
    """What a submit brings beside the parameters."""

    attached: tuple[Attachment, ...]
    user_data: str | None
    """JSON."""
    replaces: bool
    """Whether the user data takes the place of what an instance has that was there already."""


def read_extras(
    job: JobDefinition[Any, Any], params: Any, attach: Mapping[str, bytes | Path] | None = None,
    user_data: Mapping[str, Any] | None = None,
) -> Extras | None:  # fmt: skip
    """Read and check what is to be stored, files once, and let the job's ``before_store=`` see it; None: nothing.

    Raises:
        ParameterError: ``before_store=`` refuses, a name is blank, a file is missing or too big, or the user data has no
            JSON form.
    """
    replaces = user_data is not None
    if job.before_store is not None:
        user_data = _before_store(job, params, user_data)
    if not attach and user_data is None:
        return None
    problems: list[str] = []
    attached = [_attachment(name, content, problems) for name, content in (attach or {}).items()]
    text = None
    try:
        text = None if user_data is None else json.dumps(dict(user_data), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        problems.append(clean(f"user_data: {error}"))
    if problems:
        raise ParameterError(job.name, problems)
    return Extras(tuple(filter(None, attached)), text, replaces)


def _before_store(
    job: JobDefinition[Any, Any], params: Any, user_data: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The user data as the job's own function leaves it."""
    assert job.before_store is not None
    data = dict(user_data or {})
    try:
        job.before_store(params, data)
    except Exception as error:
        raise ParameterError(job.name, [f"before_store refuses: {type(error).__name__}: {error}"]) from error
    return data if data or user_data is not None else None


def _attachment(name: str, content: bytes | Path, problems: list[str]) -> Attachment | None:
    try:
        name = ranges.text(name, "an attachment's name")
        data = bytes(content) if isinstance(content, bytes | bytearray | memoryview) else Path(content).read_bytes()
    except (OSError, TypeError, ValueError) as error:
        problems.append(clean(f"attach.{name}: {error}"))
        return None
    if not name.strip() or len(data) > MAX_BYTES:
        problems.append(f"attach.{name}: {len(data)} bytes; at most {MAX_BYTES}, under a name that is not blank")
    return Attachment(name, hashlib.sha256(data).hexdigest(), data)


def submit(engine: Engine, extras: Extras | None, *args: Any) -> tuple[int, Future[Ended] | None]:
    """As `commands.submit`, and store what comes with it. On the dispatcher thread.

    Raises:
        StateError: The instance was there already, with other attachments.
    """
    if extras is None:
        return commands.submit(engine, *args)
    before = len(engine.pending)
    instance, end = commands.submit(engine, *args, check=partial(_check_equal, engine, extras))
    made = engine.pending[before:]
    asked, now = made[0] if made else CallUpdate(Changes()), engine.clock.now()
    for each in extras.attached if made else ():
        asked.changes.writes.append(partial(
            engine.store.add, "attachment", instance=instance, name=each.name, digest=each.digest,
            bytes=len(each.data), created_us=now, data=each.data,
        ))  # fmt: skip
    if made and extras.attached:
        engine.live[instance].attachments = attachments(engine.store, instance, [each.name for each in extras.attached])
    if extras.user_data is not None and (made or extras.replaces):
        event = engine.store.take_ids("event", 1) + 1
        asked.changes.writes.append(partial(
            engine.store.add, "user_data", id=event, instance=instance, created_us=now, data=extras.user_data
        ))  # fmt: skip
    if asked.changes and not made:
        engine.pending.append(asked)
    return instance, end


def _check_equal(engine: Engine, extras: Extras, instance: int) -> None:
    stored = dict(engine.store.rows("attachment_digests", instance))
    other = sorted(each.name for each in extras.attached if stored.get(each.name) != each.digest)
    if other:
        raise StateError(
            f"instance {instance} has equal parameters, but was submitted with another content of {', '.join(other)}. "
            "Submit the same content, or new=True or a key= for an instance of its own"
        )

"""What is said of a new instance that somebody may not have meant: equal ones there are, or were."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from nbbatch.base.states import INSTANCE_BY_CODE, INSTANCE_ENDED, InstanceStatus
from nbbatch.definition import JobDefinition
from nbbatch.engine.dispatcher import Engine

log = logging.getLogger("nbbatch")


class Said(NamedTuple):
    """A line of the log."""

    level: int
    text: str

    def say(self) -> None:
        """Log it, in the thread of who submitted."""
        log.log(self.level, "%s", self.text)


def of_new(engine: Engine, job: JobDefinition[Any, Any], identity: str, key: str | None, instance: int) -> list[Said]:
    """What is said of an instance that a submit has just made, without ``new=``. On the dispatcher thread."""
    known = engine.known
    said = [_beside(engine, job, identity, key, instance)]
    if key is not None:
        said.append(_of_version(engine, job, key, instance))
    elif known.has_some(job) and (before := known.end_before(engine.store, job, identity)):
        said.append(_before(instance, *before))
    return [each for each in said if each]


def _before(instance: int, before: int, code: int) -> Said:
    """Equal parameters have ended already, and this is another instance."""
    if (status := INSTANCE_BY_CODE[code]) is InstanceStatus.COMPLETED:
        level, advice = logging.INFO, f"batch.instance({before}).result() is its report, key= names one for good"
    else:
        level, advice = logging.WARNING, f"batch.instance({before}, job).retry() runs what failed there again"
    text = f"instance {instance} begins anew, as instance {before} of equal parameters ended {status}: {advice}, new=True says that a new one is meant"
    return Said(level, text)


def _beside(engine: Engine, job: JobDefinition[Any, Any], identity: str, key: str | None, instance: int) -> Said | None:
    """An unfinished instance of equal parameters that is another one only by its key, or for want of one."""
    lives = engine.live.like(job, identity, keyed=key is None)
    found = next(((live.id, live.key) for live in lives if live.identity == identity), None)
    if found is None and engine.dormant:
        found = engine.known.waiting(engine.store, job, identity, keyed=key is None)
    if found is None:
        return None
    other, its_key = found
    how = (
        f"has key {its_key!r}: submitted with that key="
        if its_key is not None
        else "has no key: submitted without key="
    )
    return Said(
        logging.WARNING,
        f"instance {instance} begins beside instance {other} of equal parameters, which is unfinished and {how} it goes on instead",
    )


def _of_version(engine: Engine, job: JobDefinition[Any, Any], key: str, instance: int) -> Said | None:
    """An instance of another version of the job with this key."""
    found = engine.known.of_other_version(engine.store, job, key)
    if found is None:
        return None
    other, version, code = found
    status = None if code is None else INSTANCE_BY_CODE[code]
    how = f"ended {status}" if status in INSTANCE_ENDED else "is unfinished"
    return Said(
        logging.WARNING,
        f"instance {instance} is a new one, as a key is of one version of a job and this is version {job.version}: instance {other} of "
        f"version {version}, with key {key!r} too, {how}",
    )

"""What a submit has learned of the stored instances of jobs and their versions, so that the next one need not ask again."""

from __future__ import annotations

import json
import logging
from typing import Any

from pydantic import ValidationError

from nbbatch.base.errors import NbbatchError
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import INSTANCE_ENDED
from nbbatch.definition import JobDefinition
from nbbatch.store.database import Store
from nbbatch.values.codec import problems
from nbbatch.values.views import leaves, plain

log = logging.getLogger("nbbatch")


class Known:
    """Chains of jobs and their versions, and unfinished instances whose parameters were stored in an older form."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, int], tuple[int, str]] = {}
        self._older: dict[tuple[str, int, int], tuple[Any, dict[str, int]]] = {}

    def forget(self) -> None:
        """Ask again: instances were removed, or are live no more."""
        self._shapes.clear()
        self._older.clear()

    def has_some(self, job: JobDefinition[Any, Any]) -> bool:
        """Whether a submit found a stored instance of a job's version."""
        return (job.name, job.version) in self._shapes

    def shape(self, store: Store, job: JobDefinition[Any, Any]) -> tuple[int, str] | None:
        """The newest stored instance of a job's version, and the chain it began with."""
        named = job.name, job.version
        if named not in self._shapes:
            self._shapes.update((named, (row[0], row[1])) for row in store.rows("newest_shape", *named))
        return self._shapes.get(named)

    def of_older_form(self, store: Store, job: JobDefinition[Any, Any], identity: str) -> InstanceRow | None:
        """The unfinished, unnamed instance whose parameters mean the same once they are read with the job's present type."""
        kind = job.params.type
        named = job.name, job.version, id(kind)
        if named not in self._older:
            self._older[named] = kind, _by_meaning(store, job)  # the type is kept, lest another one has its id
        instance = self._older[named][1].get(identity)
        row = None if instance is None else store.instance(instance)
        return None if row is None or row.status in INSTANCE_ENDED else row


def _by_meaning(store: Store, job: JobDefinition[Any, Any]) -> dict[str, int]:
    """Unfinished, unnamed instances by what their parameters mean now; those that cannot be read are told."""
    found: dict[str, int] = {}
    for row in store.unfinished_of(job.name, job.version):
        if row.key is None and row.parent is None:
            meaning, why = meant(job, row.params)
            if why:
                log.warning(
                    "instance %d of job %r is unfinished, and its parameters are not read as they are declared now (%s): it waits "
                    "until they are, or until run.cancel()", row.id, row.job, why,
                )  # fmt: skip
            elif meaning != row.identity:
                found[meaning] = row.id
    return found


def meant(job: JobDefinition[Any, Any], params: bytes) -> tuple[str, str]:
    """The identity of stored parameters as the job's present type reads them, and why it does not: one of both is empty."""
    codec = job.params
    try:
        params = current_form(job, params)
        value = codec.masked(params)
        lost = sorted(_fields(params) - _fields(codec.dump(value)))
        return ("", f"{lost[0]} is stored, and is no field any more") if lost else (codec.identity(value), "")
    except ValidationError as error:
        return "", problems(error)
    except (NbbatchError, ValueError) as error:
        return "", str(error)


def current_form(job: JobDefinition[Any, Any], params: bytes) -> bytes:
    """Stored parameters in the form that the job's present type reads, by its ``upgrade=`` where they are of an older one.

    Raises:
        ValidationError: They are not read.
    """
    try:
        job.params.masked(params)
    except ValueError:
        if job.upgrade is None:
            raise
        params = json.dumps(job.upgrade(job.nodes[0].step.name, plain(params))).encode()
        job.params.masked(params)
    return params


def _fields(data: bytes) -> set[str]:
    return {path for path, _ in leaves(plain(data), empty=True)}

"""What a submit has learned of the stored instances of jobs and their versions, so that the next one need not ask again."""

from __future__ import annotations

import json
import logging
from typing import Any

from pydantic import ValidationError

from nbbatch.base.errors import NbbatchError
from nbbatch.base.rows import InstanceRow
from nbbatch.base.states import INSTANCE_ENDED, InstanceStatus
from nbbatch.definition import JobDefinition
from nbbatch.engine.state import LiveInstance
from nbbatch.store.database import Store
from nbbatch.values.codec import problems
from nbbatch.values.views import leaves, plain

log = logging.getLogger("nbbatch")

MOST_ENDS = 20_000
"""Meanings of parameters of one job whose last end is kept in memory: 5 MB."""
End = tuple[int, int]
"""An instance, and the code of the state it ended in."""


class Known:
    """Chains of jobs and their versions, and unfinished instances whose parameters were stored in an older form."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, int], tuple[int, str]] = {}
        self._older: dict[tuple[str, int, int], tuple[Any, dict[str, int]]] = {}
        self._ends: dict[tuple[str, int], dict[str, End] | None] = {}
        """By identity; None: there are too many of them."""
        self._waiting: dict[tuple[str, int], dict[tuple[str, bool], list[InstanceRow]]] = {}
        self._elsewhere: dict[tuple[str, int], dict[str, tuple[int, int, int | None]]] = {}

    def forget(self) -> None:
        """Ask again: instances were removed, or are live no more."""
        self._shapes.clear()
        self._older.clear()
        self._ends.clear()
        self._waiting.clear()
        self._elsewhere.clear()

    def has_some(self, job: JobDefinition[Any, Any]) -> bool:
        """Whether a submit found a stored instance of a job's version."""
        return (job.name, job.version) in self._shapes

    def shape(self, store: Store, job: JobDefinition[Any, Any]) -> tuple[int, str] | None:
        """The newest stored instance of a job's version, and the chain it began with."""
        named = job.name, job.version
        if named not in self._shapes and store.take_ids("instance", 0):
            self._shapes.update((named, (row[0], row[1])) for row in store.rows("newest_shape", *named))
        return self._shapes.get(named)

    def end_before(self, store: Store, job: JobDefinition[Any, Any], identity: str) -> End | None:
        """The newest ended instance of equal parameters that a person submitted without a key, and how it ended."""
        named = job.name, job.version
        if named not in self._ends:
            rows = store.rows("latest_ends", *named, MOST_ENDS + 1)
            self._ends[named] = (
                {same: (instance, code) for same, instance, code in rows} if len(rows) <= MOST_ENDS else None
            )
        ends = self._ends[named]
        if ends is not None:
            return ends.get(identity)
        return next(iter(store.rows("latest_end", *named, identity)), None)  # pyright: ignore[reportReturnType] - (id, code)

    def waiting(
        self, store: Store, job: JobDefinition[Any, Any], identity: str, *, keyed: bool
    ) -> tuple[int, str | None] | None:
        """An unfinished instance of equal parameters, with or without a key, that was stored when this was asked first; and its key."""
        named = job.name, job.version
        if named not in self._waiting:
            found = self._waiting[named] = dict[tuple[str, bool], list[InstanceRow]]()
            for row in store.unfinished_of(*named):
                if row.parent is None:
                    found.setdefault((row.identity, row.key is not None), []).append(row)
        for row in self._waiting[named].get((identity, keyed), ()):
            if store.instance(row.id).status not in INSTANCE_ENDED:
                return row.id, row.key
        return None

    def of_other_version(
        self, store: Store, job: JobDefinition[Any, Any], key: str
    ) -> tuple[int, int, int | None] | None:
        """The newest instance of another version of a job with this key, its version, and the code of the state it came to last."""
        named = job.name, job.version
        if named not in self._elsewhere:
            rows = store.rows("keyed_elsewhere", *named, MOST_ENDS)
            self._elsewhere[named] = {name: (instance, version, code) for name, instance, version, code in rows}
        return self._elsewhere[named].get(key)

    def ended(self, live: LiveInstance, status: InstanceStatus) -> None:
        """An instance has ended."""
        named = live.job.name, live.job.version
        ends = self._ends.get(named)
        if ends is None or live.key is not None or live.parent is not None:
            return
        if ends.get(live.identity, (0, 0))[0] <= live.id:
            ends[live.identity] = live.id, status.code
        if len(ends) > MOST_ENDS:
            self._ends[named] = None

    def of_older_form(self, store: Store, job: JobDefinition[Any, Any], identity: str) -> InstanceRow | None:
        """The unfinished, unnamed instance whose parameters mean the same once they are read with the job's present type."""
        kind = job.params.type
        named = job.name, job.version, id(kind)
        if named not in self._older:
            self._older[named] = kind, _by_meaning(store, job)  # the type is kept, lest another one has its id
        instance = self._older[named][1].get(identity)
        row = None if instance is None else store.instance(instance)
        return None if row is None or row.status in INSTANCE_ENDED else row


def advice(job: JobDefinition[Any, Any], row: InstanceRow) -> str:
    """What to do where a key's instance has other parameters."""
    why = meant(job, row.params)[1]
    if not why:
        return "Submit the same parameters, or choose another key"
    return f"The stored ones are of an older form ({why}): nb.Job(upgrade=) brings them up to date, another version= or key begins anew"


def way_back(job: JobDefinition[Any, Any], row: InstanceRow) -> str:
    """What to do where a job's chain is not the one that an instance began with."""
    if job.version != row.version:
        return f"The job given is version {job.version}: give the definition of version {row.version}"
    return "Raise the job's version=, or bring the old chain back"


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

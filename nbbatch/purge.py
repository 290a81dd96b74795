"""Removing what is no longer wanted: whole instances that ended (purge), and the data of ended ones (retain).

On the dispatcher thread, one transaction each. Only here rows go away or lose their data, and never those of an instance
that has not ended.
"""

from __future__ import annotations

from collections.abc import Collection

from nbbatch.engine import Engine
from nbbatch.states import InstanceStatus


def purge(engine: Engine, before_us: int, statuses: Collection[InstanceStatus], job: str | None) -> int:
    """Remove instances that ended before a time, with all their rows; returns how many."""
    codes = [status.code for status in statuses]
    gone = [instance for (instance,) in engine.store.rows("ended_before", before_us, codes, job)]
    if not gone:
        return 0
    with engine.store.transaction():
        engine.store.keep_counters()
        for table in engine.store.INSTANCE_TABLES:
            engine.store.remove(table, gone)
    for instance in gone:
        engine.secrets.pop(instance, None)
    engine.store.checkpoint()
    return len(gone)

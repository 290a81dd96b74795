"""What a submit would reuse: a new instance that is looked up to its end and never stored."""

from __future__ import annotations

from typing import Any

from nbbatch.base.rows import ChunkRow
from nbbatch.definition import JobDefinition, Kind
from nbbatch.engine.commands import born
from nbbatch.engine.decide import decide
from nbbatch.engine.dispatcher import Engine
from nbbatch.engine.reuse import Reuse
from nbbatch.engine.state import LiveInstance
from nbbatch.worker.context import StoredParams

Foreseen = tuple[list[tuple[Any, ...]], list[int], dict[str, dict[str, str]]]
"""Rows of the query `foreseen`; of each step its chunks that were reached; what names mean in the present code, by fingerprint."""


def foresee(
    engine: Engine, job: JobDefinition[Any, Any], params: StoredParams, identity: str, wish: int | None
) -> Foreseen:
    """Look up all that can be known before anything runs. On the dispatcher thread, in a transaction that is undone.

    Args:
        engine: Whose thread this is.
        job: Of the submit.
        params: Its parameters.
        identity: Digest of those that identify an instance.
        wish: Its ``reuse=``.
    """
    store, now, reuse = (
        engine.store,
        engine.clock.now(),
        Reuse(engine.store, engine.leftovers, _begin_nothing, engine.wake),
    )
    with store.trial():
        row, steps = born(engine, job, params, identity, None, "all", None, wish)
        live = LiveInstance(job, row, params)
        store.create_instance(row, steps)
        _add_chunk(engine, live, 0, None)
        while reuse.look_on(live, now) or _open(engine, live):
            pass
        found, parts = store.rows("foreseen", row.id), {step.node.code: step.node.step.parts for step in live.steps}
    engine.leftovers.end(row.id)
    return found, [sum(step.counts) for step in live.steps], parts


def _begin_nothing(*_: object) -> None:
    """Nobody is told of it."""


def _add_chunk(engine: Engine, live: LiveInstance, index: int, parent: int | None) -> None:
    chunk = engine.store.take_ids("chunk", 1) + 1
    seq = None if parent else 0
    made = ChunkRow(id=chunk, instance=live.id, step=index, parent=parent, seq=seq, created_us=engine.clock.now())
    engine.store.append("chunk", [made])
    live.steps[index].emit(chunk, [None])


def _open(engine: Engine, live: LiveInstance) -> bool:
    """Open the gates behind steps of which all is reused; whether there was any."""
    opened = [step.opened for step in live.steps]
    opens = decide(live.job.nodes, live.counts, opened, failing=False, paused=False).opens
    for index in opens:
        live.steps[index].open()
        if live.steps[index].node.step.kind is Kind.REDUCTION:
            _add_chunk(engine, live, index, engine.store.first_chunk(live.id))
    return bool(opens)

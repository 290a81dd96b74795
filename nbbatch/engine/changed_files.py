"""Files that changed since a chunk was made: doing it again takes them as they are now, as another input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbbatch.base.errors import StoreUnreadable
from nbbatch.definition import JobDefinition
from nbbatch.engine.dispatcher import Engine
from nbbatch.values.files import renewed
from nbbatch.values.outside import whole


def renew_inputs(
    engine: Engine, instance: int, job: JobDefinition[Any, Any], chunks: Iterable[tuple[int, int]]
) -> None:
    """Within the open transaction: have the inputs of chunks that will run again name their files as they are now.

    Args:
        engine: Whose thread this is.
        instance: Theirs.
        job: The definition.
        chunks: Ids and indices of their steps.
    """
    asked = [chunk for chunk, index in chunks if job.nodes[index].input.holds_files]
    if not asked:
        return
    rows = engine.store.rows("inputs_with_files", instance, asked)
    found = [(chunk, now) for chunk, data in rows if (now := _renewed(data)) != data]
    if found:
        engine.store.run("replace_inputs", instance, *map(list, zip(*found, strict=True)))


def _renewed(data: bytes) -> bytes:
    try:
        inside = whole(data)
    except StoreUnreadable:  # which its chunk fails with
        return data
    now = renewed(inside)
    return data if now == inside else now

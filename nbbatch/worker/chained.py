"""Attempts that follow in the worker that has just run those before them: of a chain of quick steps, so that one commit stores all of it.

Each is an attempt of a chunk of its own, as if its micro-batch had been claimed. Its id is promised by the store before (see
`store.ids`): user code may see it, and the chunk is stored with the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat

from nbbatch.base.items import Fresh, Items, columns
from nbbatch.base.rows import Followed, Results
from nbbatch.base.states import ChunkStatus
from nbbatch.definition import Kind
from nbbatch.worker.context import MicroBatch


def followed(micro: MicroBatch, results: Results, run: Callable[[MicroBatch], Results]) -> Results:
    """Results with those of the chunks that were made of them, where these are to follow at once.

    Args:
        micro: What was run.
        results: What it gave.
        run: Runs a micro-batch, and what is to follow it in turn.
    """
    then = micro.then
    if then is None or micro.cancellation.cancelled or not has_completed(results):
        return results
    if micro.node.step.kind is Kind.MANY and len(given(results)) > 1:
        return results  # other workers can share them
    outputs, is_behind = given(results), bool(micro.trail) and micro.trail[-1] is micro
    left_us = micro.most_us - is_behind * results.span_us()  # for all that follows
    if not outputs or left_us <= 0 or not then.takes(len(outputs)):
        return results
    before = then.take_ids(len(outputs))
    if before is None:
        return results
    items = Fresh(range(before + 1, before + 1 + len(outputs)), outputs)
    behind = replace(micro, node=then.node, items=items, sink=None, inputs=None, most_us=left_us, then=then.then)
    micro.trail.append(behind)
    try:
        return results._replace(followed=Followed(behind.node.index, items, run(behind)))
    except Exception:  # before any of them began: what those before them gave stands, and these are claimed like others
        return results


def has_completed(results: Results) -> bool:
    """Whether all was begun and is COMPLETED, and all that it gave is here."""
    odd = results.odd.values()
    return not results.left and all(each.status is ChunkStatus.COMPLETED and not each.staged for each in odd)


def given(results: Results) -> list[bytes]:
    """All outputs, in the order in which their chunks are made."""
    if not results.odd:
        return results.outputs
    return [*results.outputs, *(output for each in results.odd.values() for output in each.outputs)]


def origins(items: Items, results: Results) -> Iterator[tuple[int, int, int]]:
    """Of each of these outputs the chunk that gave it, its place among what that gave, and when that ended."""
    chunks = columns(items)[0]
    if results.outputs:
        plain = (chunk for place, chunk in enumerate(chunks) if place not in results.odd) if results.odd else chunks
        yield from zip(plain, repeat(0), results.ended_us, strict=False)
    for place, outcome in results.odd.items():
        for seq in range(len(outcome.outputs)):
            yield chunks[place], seq, outcome.ended_us

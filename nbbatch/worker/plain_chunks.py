"""The quick way through a micro-batch of a step that gives at most one output for each input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbbatch.base.rows import Outcome, Results
from nbbatch.definition import To
from nbbatch.worker import capture
from nbbatch.worker.context import Context, MicroBatch
from nbbatch.worker.files_given import calling, taking
from nbbatch.worker.older_class import of_older_class
from nbbatch.worker.outcomes import broken, completed, expect_nothing, routed
from nbbatch.worker.running import QUICK_US

Split = Callable[[Any], tuple[list[bytes], list[int]]]
"""Makes stored outputs, and the step that each goes to, of what a call gave."""


def run_plain(micro: MicroBatch, worker: str) -> Results:
    """The same attempts as by `run_item`, with everything that is equal for all of them done once.

    Here a microsecond a chunk is a tenth of what it costs in all. An attempt begins when the one before it has ended.
    """
    node = micro.node
    if node.ways or len(node.targets) > 1:
        return _spread(micro, _run(micro, worker, _routed_call(micro), _to_each))
    gives, targets = node.output is not None, list(node.targets)
    return _run(micro, worker, _plain_call(micro), lambda data: ([data] if gives else [], targets))


def _run(micro: MicroBatch, worker: str, run: Callable[[Any], Any], split: Split) -> Results:
    now, enter = micro.now, capture.buffer.set
    started, ended, outputs, odd = list[int](), list[int](), list[Any](), dict[int, Outcome]()
    gives = micro.node.step.output is not None
    cells, since, _, slot = micro.cell(0)
    before = enter(None)
    begun, told = now(), 0
    for place, item in enumerate(micro.items):
        cells[slot] = item.chunk
        if begun > told:
            since[slot], told = begun, begun + QUICK_US
        ctx = Context(micro, item)
        enter(ctx)
        try:
            data = run(item.data)
        except BaseException as error:
            odd[place] = broken(ctx, begun, worker, error)
            begun = now()
            continue
        end = now()
        if ctx.said:
            odd[place] = completed(ctx, begun, end, worker, *split(data))
        else:
            started.append(begun)
            ended.append(end)
            if gives:
                outputs.append(data)
        begun = end
    cells[slot] = 0
    capture.buffer.reset(before)
    return Results(started, ended, outputs, worker, odd)


def _to_each(given: tuple[bytes, tuple[int, ...]]) -> tuple[list[bytes], list[int]]:
    data, targets = given
    return [data] * len(targets), list(targets)


def _spread(micro: MicroBatch, results: Results) -> Results:
    """Outputs and targets of routed values in columns; attempts whose value went to several steps stand by themselves."""
    outputs, targets, started, ended = list[bytes](), list[int](), list[int](), list[int]()
    places = (place for place in range(len(micro.items)) if place not in results.odd)
    given: list[Any] = results.outputs
    several = dict[int, Outcome]()
    for place, pair, begun, end in zip(places, given, results.started_us, results.ended_us, strict=True):
        data, to = pair
        if len(to) == 1:
            outputs.append(data)
            targets.append(to[0])
            started.append(begun)
            ended.append(end)
        else:
            ctx = Context(micro, micro.items[place])
            several[place] = completed(ctx, begun, end, results.worker, *_to_each(pair))
    odd = dict(sorted((results.odd | several).items()))
    return Results(started, ended, outputs, results.worker, odd, targets=targets)


def _plain_call(micro: MicroBatch) -> Callable[[Any], Any]:
    """Decode, call and encode as one function: stored input → stored output."""
    step = micro.node.step
    function, decode, load = calling(micro.node), taking(micro.node), micro.params.reader(micro.node)
    if micro.node.output is None:
        name = step.name
        if micro.node.takes_params:
            return lambda data: expect_nothing(name, function(decode(data), load()))
        return lambda data: expect_nothing(name, function(decode(data)))
    encode = micro.kept(micro.node.output.encode)

    def encoded(value: Any) -> bytes:
        """What ``nb.to`` made has no stored form; here it can name but the one step that follows."""
        if type(value) is not To:
            try:
                return encode(value)
            except Exception:
                return of_older_class(step, value)
        name, value = value.read()
        micro.node.address(name, value)
        return encode(value)

    if micro.node.takes_params:
        return lambda data: encoded(function(decode(data), load()))
    return lambda data: encoded(function(decode(data)))


def _routed_call(micro: MicroBatch) -> Callable[[Any], tuple[bytes, tuple[int, ...]]]:
    """The same where several steps may follow: stored input → stored output, and the steps that it goes to."""
    node = micro.node
    function, decode, load = calling(node), taking(node), micro.params.reader(node)
    assert node.output is not None
    encode = micro.kept(node.output.encode)

    def run(data: Any) -> tuple[bytes, tuple[int, ...]]:
        return routed(node, encode, function(decode(data), load()) if node.takes_params else function(decode(data)))

    return run

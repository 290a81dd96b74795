"""The quick way through a micro-batch of a step that gives at most one output for each input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbbatch.base.items import columns
from nbbatch.base.rows import Item, Outcome, Results
from nbbatch.definition import To
from nbbatch.values.many import decoded
from nbbatch.values.outside import Writes
from nbbatch.worker import capture
from nbbatch.worker.context import Context, MicroBatch
from nbbatch.worker.files_given import calling, taking
from nbbatch.worker.older_class import of_older_class
from nbbatch.worker.outcomes import broken, completed, expect_nothing, routed
from nbbatch.worker.running import QUICK_US

Split = Callable[[Any], tuple[list[bytes], list[int]]]
"""Makes stored outputs, and the step that each goes to, of what a call gave."""


def run_plain(micro: MicroBatch, worker: str, writes: Writes | None) -> Results:
    """The same attempts as by `run_item`, with everything that is equal for all of them done once.

    Here a microsecond a chunk is a tenth of what it costs in all. An attempt begins when the one before it has ended. What it gives counts
    once it is `written`.
    """
    node = micro.node
    inputs = columns(micro.items)[1]
    values = None if node.input.holds_files else decoded(node.input, inputs)
    decode, given = (taking(node), inputs) if values is None else (None, values)
    before = capture.buffer.set(None)
    try:
        if node.ways or len(node.targets) > 1:
            results = _run(micro, worker, given, _routed_call(micro, decode, writes), _to_each)
            return _spread(micro, results)
        gives, targets = node.output is not None, list(node.targets)
        call = _plain_call(micro, decode, writes)
        return _run(micro, worker, given, call, lambda data: ([data] if gives else [], targets))
    finally:
        capture.buffer.reset(before)


def written(micro: MicroBatch, results: Results, writes: Writes | None) -> Results:
    """The same once all its files are in their places; attempts whose file is not have failed, and what followed counts for nothing."""
    failed = writes.failed() if writes is not None else None
    if not failed:
        return results
    results = results._replace(followed=None)
    odd, kept = dict(results.odd), list[int]()
    for place, outcome in results.odd.items():
        if (error := next((failed[each] for each in outcome.outputs if each in failed), None)) is not None:
            said = {"log": outcome.log, "warnings": outcome.warnings, "recovered": outcome.recovered}
            odd[place] = _unwritten(micro, place, outcome.started_us, error)._replace(worker=results.worker, **said)
    plain = (place for place in range(len(micro.items) - results.left) if place not in results.odd)
    for at, place in enumerate(plain):
        if (error := failed.get(results.outputs[at])) is None:
            kept.append(at)
        else:
            odd[place] = _unwritten(micro, place, results.started_us[at], error)._replace(worker=results.worker)
    return _only(results, kept)._replace(odd=dict(sorted(odd.items())))


def _unwritten(micro: MicroBatch, place: int, started: int, error: BaseException) -> Outcome:
    return broken(Context(micro, micro.items[place]), started, "", error)


def _only(results: Results, kept: list[int]) -> Results:
    columns = (results.started_us, results.ended_us, results.outputs, results.targets)
    started, ended, outputs, targets = ([column[at] for at in kept] if column else column for column in columns)
    return results._replace(started_us=started, ended_us=ended, outputs=outputs, targets=targets)


class _Place(Context):
    """The context of an attempt by its place in the micro-batch: most steps never ask which it is."""

    def __init__(self, micro: MicroBatch, place: int) -> None:  # pyright: ignore[reportMissingSuperCall] - it would set the item
        self._micro = micro
        self._place = place

    @property
    def _item(self) -> Item:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._micro.items[self._place]


def _run(micro: MicroBatch, worker: str, given: Sequence[Any], run: Callable[[Any], Any], split: Split) -> Results:
    now, enter = micro.now, capture.buffer.set
    started, ended, outputs, odd = list[int](), list[int](), list[Any](), dict[int, Outcome]()
    cells, since, _, slot = micro.cell(0)
    begun, told = now(), 0
    until = begun + micro.most_us
    for place, (chunk, data) in enumerate(zip(columns(micro.items)[0], given, strict=True)):
        if begun > until:
            break
        cells[slot] = chunk
        if begun > told:
            since[slot], told = begun, begun + QUICK_US
        ctx = _Place(micro, place)
        enter(ctx)
        try:
            output = run(data)
        except BaseException as error:
            odd[place] = broken(ctx, begun, worker, error)
            begun, until = now(), -1 if micro.is_fail_fast else until
            continue
        end = now()
        if ctx.said:
            odd[place] = completed(ctx, begun, end, worker, *split(output))
        else:
            started.append(begun)
            ended.append(end)
            outputs.append(output)
        begun = end
    cells[slot] = 0
    left = len(given) - len(started) - len(odd)
    return Results(started, ended, outputs if micro.node.output is not None else [], worker, odd, left=left)


def _to_each(given: tuple[bytes, tuple[int, ...]]) -> tuple[list[bytes], list[int]]:
    data, targets = given
    return [data] * len(targets), list(targets)


def _spread(micro: MicroBatch, results: Results) -> Results:
    """Outputs and targets of routed values in columns; attempts whose value went to several steps stand by themselves."""
    outputs, targets, started, ended = list[bytes](), list[int](), list[int](), list[int]()
    places = (place for place in range(len(micro.items) - results.left) if place not in results.odd)
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
    return Results(started, ended, outputs, results.worker, odd, targets=targets, left=results.left)


Decode = Callable[[bytes], Any] | None
"""How an input is read; None: it was read already."""


def _call(micro: MicroBatch, decode: Decode) -> Callable[[Any], Any]:
    """Decode and call as one function: input → what the step returns."""
    function, load = calling(micro.node), micro.params.reader(micro.node)
    if micro.node.takes_params:
        return (
            (lambda value: function(value, load())) if decode is None else (lambda data: function(decode(data), load()))
        )
    return function if decode is None else (lambda data: function(decode(data)))


def _plain_call(micro: MicroBatch, decode: Decode, writes: Writes | None) -> Callable[[Any], Any]:
    """Decode, call and encode as one function: input → stored output."""
    step, call = micro.node.step, _call(micro, decode)
    if micro.node.output is None:
        name = step.name
        return lambda given: expect_nothing(name, call(given))
    encode = micro.kept(micro.node.output, writes)

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

    return lambda given: encoded(call(given))


def _routed_call(
    micro: MicroBatch, decode: Decode, writes: Writes | None
) -> Callable[[Any], tuple[bytes, tuple[int, ...]]]:
    """The same where several steps may follow: input → stored output, and the steps that it goes to."""
    node, call = micro.node, _call(micro, decode)
    assert node.output is not None
    encode = micro.kept(node.output, writes)
    return lambda given: routed(node, encode, call(given))

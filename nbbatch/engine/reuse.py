"""Chunks of steps with ``reuse=`` are looked up before they are claimed: what has not changed is not done again.

A lookup is part of a turn's transaction, many chunks at a time. Whatever equals a completed chunk gets outputs of its own, copied
within the store, and never comes to a worker; the rest is claimed as any other. So nothing of either is lost by a kill. Chunks that are
made of what was taken are looked up in the same transaction, while it has room: what they take is at hand, and most of its digests are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

from nbbatch.base.errors import FileChanged, StoreUnreadable
from nbbatch.base.rows import TYPES
from nbbatch.base.states import INSTANCE_ENDED, ChunkStatus
from nbbatch.code.fingerprint import fingerprint
from nbbatch.code.signature import type_name
from nbbatch.definition import Kind, Node
from nbbatch.engine.leftovers import Leftovers
from nbbatch.engine.settle import Changes
from nbbatch.engine.state import Again, LiveInstance, LiveStep
from nbbatch.store.database import Store
from nbbatch.values.codec import Codec
from nbbatch.values.digests import digest_of, is_loose
from nbbatch.values.files import noting
from nbbatch.values.outside import copied
from nbbatch.values.parameters import ParamsCodec

MOST = 245_760
"""Chunks that one transaction looks up at most: other instances wait meanwhile. Twice as many as DuckDB writes straight into the file …"""
MOST_BYTES = 32_000_000
"""… or about so many bytes of their inputs and outputs."""
FIRST = 500
"""Chunks that are looked up while the size of what they take and give is unknown."""
SINGLE_RESULTS = 10
"""Up to so many results for each chunk it is worth to see whether all are of different inputs."""
MANY = 5_000
"""From so many chunks on it is worth to see what is known of them: their digests, and whether equal ones have several results."""
_COMPLETED = ChunkStatus.COMPLETED.code
_TRIED = (ChunkStatus.ERRORED.code, ChunkStatus.POLL_WAITING.code)


Begin = Callable[[LiveInstance, LiveStep, Changes, int], object]


class Key(NamedTuple):
    """What beside the input decides what a step gives."""

    step: str
    code: str
    """Fingerprint."""
    params: str
    """JSON: of each parameter that it takes a digest, and the types of what it takes and gives."""
    ways: str
    """JSON: where its outputs go, if there is a choice."""


class Part(NamedTuple):
    """Chunks of one step that are looked up together."""

    live: LiveInstance
    step: LiveStep
    end: int
    """The last id of those that are looked up for their first attempt."""
    again: list[Again]
    """Those that have had one."""
    chunks: int
    """About how many they are."""


class Given(NamedTuple):
    """How many outputs of one part a step takes."""

    part: int
    step: int
    reduces: bool
    chunks: int
    there: int
    """So many of them have a value."""
    bytes: int
    places: int | None
    """The sum of their places among all that was taken; None: they have none."""


class Made(NamedTuple):
    """Chunks of one step that a lookup made."""

    live: LiveInstance
    step: LiveStep
    parts: list[int]
    """The places of what they were made of among the parts that were looked up."""
    size: float
    """Their mean size."""
    base: int | None
    """Their ids are their places after this one, and no other chunk of the step is still to be looked up; None: that is not so."""


def key_of(node: Node, codec: ParamsCodec, params: Any, attached: Iterable[tuple[str, str]] = ()) -> Key:
    """The key of a step.

    Args:
        node: The step.
        codec: Of the parameters.
        params: They.
        attached: Names and digests of the instance's attachments, which any step may read.
    """
    taken = {f"attachment {name}": digest for name, digest in attached}
    if node.takes_params or node.index == 0:
        given = codec.parts(params)
        reads = _fields_read(node, given)
        taken |= {name: digest for name, digest in given.items() if reads is None or name in reads}
    given, gives = node.step.input_type, node.step.signature.output_type
    taken[TYPES] = (
        f"{type_name(given)} -> {type_name(gives)}"  # in its text a name may stand for another type than before
    )
    ways = [
        (way.step, way.past, [(fingerprint(each.choice.decider), repr(each.key)) for each in way.conditions])
        for way in node.ways
    ]
    return Key(node.step.name, node.code, json.dumps(taken, sort_keys=True), json.dumps(ways) if ways else "")


def _fields_read(node: Node, given: Iterable[str]) -> set[str] | None:
    """The fields of the parameters that a step looks at, where its text shows that these are all."""
    if node.index == 0 or node.reads is None:
        return None
    names = {use[0] for use in node.reads}
    return names if names <= set(given) else None


class Reuse:
    """Looks up the chunks of one engine. On the dispatcher thread, within its transactions."""

    def __init__(self, store: Store, leftovers: Leftovers, begin: Begin, wake: Callable[[], None]) -> None:
        """Of one engine.

        Args:
            store: Where chunks are looked up.
            leftovers: Is told of instances that get files of values.
            begin: Is told of steps whose chunks are about to be looked up, as of a claim.
            wake: Asks for another turn.
        """
        self._store, self._leftovers, self._begin, self._wake = store, leftovers, begin, wake
        self._of_step: dict[tuple[int, int], Key] = {}
        """Keys by instance and index of a step."""
        self._single = set[int]()
        """Ids of keys that are known to have one result for each input."""

    def ask(
        self, asking: Mapping[int, LiveInstance], lives: Iterable[LiveInstance] | None, changes: Changes, now: int
    ) -> None:
        """Have chunks be looked up in a turn's transaction; the next turn claims those that are to run.

        Args:
            asking: Instances with steps that ask.
            lives: Only these of them; None: all.
            changes: Of the turn.
            now: The present.
        """
        parts = (
            self._due(asking.values() if lives is None else [live for live in lives if live.id in asking])
            if asking
            else []
        )
        for part in parts:
            self._begin(part.live, part.step, changes, now)
            part.live.worked.go(now)
        if parts:
            changes.writes.append(partial(self._look, parts, now, changes))
            changes.after.append(self._wake)

    def look_on(self, live: LiveInstance, now: int) -> bool:
        """Look up what is due of one instance, within the open transaction; whether there was any."""
        parts = self._due([live])
        if parts:
            self._look(parts, now, Changes())
        return bool(parts)

    def _due(self, lives: Iterable[LiveInstance]) -> list[Part]:
        """What is to be looked up now, the oldest instance and the last steps first; a turn's worth of it."""
        parts: list[Part] = []
        room = 1.0
        for live in lives:
            if live.paused or live.failing is not None or live.status in INSTANCE_ENDED:
                continue
            share = 1.0
            for step in reversed(live.steps):
                if step.to_look() and (most := _fitting(step, min(room, share))):
                    parts.append(_part(live, step, most, islice(step.unasked, most)))
                    room -= _room_of(parts[-1])
                share = 0.5 if step.asks else share  # the rest is for what is made of it
        return parts

    def _look(self, parts: list[Part], now: int, changes: Changes) -> None:
        """Look chunks up, and what is made by that, store what that gives, and have memory say so. Within the open transaction."""
        parts, room, made = self._sifted(parts), 1.0, list[Made]()
        while parts:
            made = self._look_once(parts, made, now)
            room -= sum(map(_room_of, parts))
            parts = self._next(made, room)
            for part in parts:
                self._begin(part.live, part.step, changes, now)

    def _next(self, made: list[Made], room: float) -> list[Part]:
        """Those of the chunks that were just made that are looked up in the same transaction."""
        parts: list[Part] = []
        for live, step, _, size, _ in made:
            if step.to_look() <= len(step.unasked):
                continue
            if step.looked_bytes is None and step.last - step.looked > FIRST:
                ((given,),) = self._store.rows("likely_bytes", self._key(live, step.node))
                step.looked_bytes = None if given is None else size + given
            if most := _fitting(step, room):
                parts.append(_part(live, step, most, ()))
                room -= _room_of(parts[-1])
        return parts

    def _look_once(self, parts: list[Part], before: list[Made], now: int) -> list[Made]:
        """Look chunks up and store what that gives; returns what was made of it, as ``before`` was."""
        store = self._store
        store.run("begin_lookup")
        for place, part in enumerate(parts):
            self._fill(place, part, before)
        store.run("begin_finding")
        if any(part.again or part.step.looked < part.step.loaded_last for part in parts):
            store.run("end_lookups", now)
        if not before:
            store.run("find_copies", [part.live.id for part in parts])
            for part in parts:
                if part.step.node.step.options.stream:
                    store.run("find_begun", part.live.id, part.step.node.index)
        store.run("find_only_origins" if self._are_single(parts) else "find_origins")
        found = {place: rest for place, *rest in store.rows("found_counts")}
        if found:
            self._take(parts)
        given = self._bring_files(parts, found) if found else []
        looked = {place: rest for place, *rest in store.rows("looked")}
        if found:
            store.run("note_found", now)
        if sum(chunks for chunks, _ in looked.values()) > sum(chunks for chunks, _ in found.values()):
            store.run("find_near")
            store.run("note_others", now)
        for place, part in enumerate(parts):
            chunks, size = looked.get(place, (0, 0))
            size += sum(each.bytes for each in given if each.part == place)
            again = self._found_again(part) if place in found else set[int]()
            _looked(part, chunks, size, again, all_found=found.get(place, (0, 0))[0] == chunks)
        return self._put(parts, found, given, now) if found else []

    def keep(self, changes: Changes) -> None:
        """Have what ran be found by others, within the open transaction that stores it."""
        if not changes.reusable:
            return
        self._single.clear()  # a purge needs no such thing: in place of what it takes it leaves one result at most
        for live, node in changes.reusable.values():
            self._key(live, node)
        self._store.run("keep_reusable", min(changes.events.column("id")) - 1)

    def forget(self, instance: int) -> None:
        """An instance is not live any more."""
        for place in [place for place in self._of_step if place[0] == instance]:
            del self._of_step[place]

    def _sifted(self, parts: list[Part]) -> list[Part]:
        """Parts without chunks that failed or polled, unless there is an equal one by now: most have none, and a lookup takes a while."""
        kept: list[Part] = []
        for part in parts:
            tried = [each.item.chunk for each in part.again if each.status in _TRIED]
            key = self._key(part.live, part.step.node) if tried else 0
            let = (
                {chunk for (chunk,) in self._store.rows("not_found", part.live.id, key, tried)} if tried else set[int]()
            )
            for again in part.again:
                part.step.unasked.popleft()
                if again.item.chunk in let:
                    part.step.line_up(again)
            part.live.changed = True
            left = part._replace(again=[again for again in part.again if again.item.chunk not in let])
            kept += [left] if left.again or left.end > left.step.looked else []
        return kept

    # --- what is looked up ------------------------------------------------------------------------

    def _fill(self, place: int, part: Part, before: list[Made]) -> None:
        live, step, node, store = part.live, part.step, part.step.node, self._store
        source = live.reuse if live.reuse and live.reuse > 0 else None
        why = "off" if live.reuse == 0 else None
        store.run(
            "add_part",
            place,
            live.id,
            node.index,
            self._key(live, node),
            node.step.name,
            node.code,
            source,
            why,
        )
        made = next((each for each in before if each.step is step and each.base is not None), None)
        if made:
            key, is_many = self._key(live, node), part.chunks >= MANY
            store.run("look_up_taken", made.base, node.index, step.looked, part.end, place, made.parts, key, is_many)
        elif part.end > step.looked:
            store.run("look_up", live.id, node.index, step.looked, part.end, sorted(step.skipped), place)
        if part.again:
            chunks, attempts, _, errors, polls = map(list, zip(*(each.item for each in part.again), strict=True))
            store.run("look_up_again", live.id, chunks, min(chunks), max(chunks), place)
            store.run("note_tried", chunks, attempts, errors, polls)
        if node.step.kind is Kind.REDUCTION:
            self._digest_reduction(place, live, node)
        elif node.index and (is_loose(node.input) or node.input.forms.is_open):
            rows = store.rows("inputs_looked_up", place, is_loose(node.input))
            store.run("set_inputs", [chunk for chunk, _ in rows], [digest_of(node.input, data) for _, data in rows])

    def _digest_reduction(self, place: int, live: LiveInstance, node: Node) -> None:
        if not is_loose(node.input):
            self._store.run("look_for_reduction", live.id, place)
            return
        whole = sha256()
        for (data,) in self._store.rows("reduction_inputs", live.id):
            whole.update(digest_of(node.input, data).encode())
        chunks = [chunk for chunk, _ in self._store.rows("inputs_looked_up", place, True)]
        self._store.run("set_inputs", chunks, [whole.hexdigest()[:32]] * len(chunks))

    def _key(self, live: LiveInstance, node: Node) -> int:
        place = live.id, node.index
        key = self._of_step.get(place)
        if key is None or key.code != node.code:
            attached = self._store.rows("attachment_digests", live.id) if live.attachments else ()
            takes = node.takes_params or node.index == 0
            key = self._of_step[place] = key_of(
                node, live.params.codec, live.params.load() if takes else None, attached
            )
        return self._store.reuse_key(*key)

    def _found_again(self, part: Part) -> set[int]:
        """Which of those that have had an attempt have taken outputs."""
        chunks = [each.item.chunk for each in part.again]
        return {chunk for (chunk,) in self._store.rows("found_again", chunks)} if chunks else set()

    def _are_single(self, parts: list[Part]) -> bool:
        """Whether no key of what is looked up has several results for one input, so that none is the newest. False where that would take long."""
        if sum(part.chunks for part in parts) < MANY:
            return False
        asked = list({self._key(part.live, part.step.node) for part in parts} - self._single)
        if not asked:
            return True
        ((results,),) = self._store.rows("count_results", asked)
        if results > SINGLE_RESULTS * sum(part.chunks for part in parts):
            return False
        several = {key for (key,) in self._store.rows("keys_of_equals", asked)}
        self._single.update(asked)
        self._single -= several
        return not several

    # --- what is taken ----------------------------------------------------------------------------

    def _take(self, parts: list[Part]) -> None:
        nodes = [part.step.node for part in parts]
        targets = [node.targets[0] if node.targets and not node.ways else None for node in nodes]
        if any(target is not None for target in targets):
            reduces = [
                target is not None and part.live.steps[target].node.step.kind is Kind.REDUCTION
                for part, target in zip(parts, targets, strict=True)
            ]
            self._store.run("take_outputs", targets, reduces)
        if several := [place for place, node in enumerate(nodes) if node.ways]:
            self._store.run("take_ways", several)

    def _bring_files(self, parts: list[Part], found: dict[int, list[int]]) -> list[Given]:
        """Values in files: the taker has files of its own. What is not there any more is not taken, nor found. Returns what is."""
        store = self._store
        given = [Given(*row) for row in store.rows("taken_counts")]
        lost = [(-1, b"")] if any(each.there < each.chunks for each in given) else []
        for instance, data in store.rows("taken_references") if given else ():
            self._leftovers.begin(instance)
            try:
                store.run("move_reference", instance, data, copied(data, instance))
            except OSError:
                lost.append((instance, data))
        lost += [
            (parts[place].live.id, data)
            for place in {each.part for each in given}
            if (output := parts[place].step.node.output) and output.holds_files
            for (data,) in store.rows("taken_files", place)
            if _is_changed(output, data)
        ]
        for each in lost:
            store.run("leave_dropped", *each)
        if lost:
            store.run("leave_taken")
            found.clear()
            found.update((place, rest) for place, *rest in store.rows("found_counts"))
            given = [Given(*row) for row in store.rows("taken_counts")]
        return given

    def _put(self, parts: list[Part], found: dict[int, list[int]], given: list[Given], now: int) -> list[Made]:
        """Store what was found, and count it; returns what was made of it."""
        store = self._store
        event = store.take_ids("event", sum(chunks for chunks, _ in found.values()))
        goes = [each for each in given if not each.reduces]
        chunk = store.take_ids("chunk", count := sum(each.chunks for each in goes))
        # different ones from 1 on, of which none is left out
        has_places = sum(each.places or 0 for each in goes) == count * (count + 1) // 2
        store.run("put_events", event, now)
        if count:
            store.run("put_in_place" if has_places else "put_chunks", chunk, now)
        if any(each.reduces for each in given):
            store.run("put_outputs")
        for place, (chunks, records) in found.items():
            _took(parts[place], chunks, records)
            if parts[place].step.node.step.kind is Kind.REDUCTION:
                live = parts[place].live
                ((live.report,),) = store.rows("found_report", place)
                store.set_report(live.id, live.report or b"")
        return _emitted(parts, goes, chunk, count, has_places=has_places)


def _is_changed(codec: Codec, data: bytes) -> bool:
    """Whether a file that was given is not what it was."""
    try:
        for file in noting(codec.decode, data)[1]:
            file.check()
    except (FileChanged, StoreUnreadable, OSError):
        return True
    return False


def _emitted(parts: list[Part], given: list[Given], chunk: int, count: int, *, has_places: bool) -> list[Made]:
    """Count chunks that were made of what was taken, with ids after ``chunk``."""
    made: dict[int, Made] = {}
    for each in given:
        live = parts[each.part].live
        step = live.steps[each.step]
        base = chunk if has_places and step.looked == step.last else None
        last = made.setdefault(id(step), Made(live, step, [], each.bytes / each.chunks, base))
        last.parts.append(each.part)
        step.emit_many(chunk + 1, chunk + count, each.chunks)
    return list(made.values())


def _part(live: LiveInstance, step: LiveStep, most: int, again: Iterable[Again]) -> Part:
    """So many chunks of a step at most, those first that have had an attempt."""
    again = list(again)
    end = min(step.last, step.looked + most - len(again))
    return Part(live, step, end, again, end - step.looked + len(again))


def _fitting(step: LiveStep, room: float) -> int:
    """How many chunks of a step are looked up where so much of a transaction's room is left."""
    if room <= 0:
        return 0
    if step.looked_bytes is None:
        return FIRST
    return max(int(room * _most(step)), int(room >= 0.5))


def _room_of(part: Part) -> float:
    """What looking them up takes of a transaction's room."""
    return part.chunks / (MOST if part.step.looked_bytes is None else _most(part.step))


def _most(step: LiveStep) -> float:
    """How many chunks of a step have room in one transaction."""
    return min(MOST, MOST_BYTES / ((step.looked_bytes or 0) + 1))


def _looked(part: Part, chunks: int, size: int, again: set[int], *, all_found: bool) -> None:
    """A step is looked up so far; chunks and bytes are those that were in that, and some had an attempt before and need no other."""
    step = part.step
    if all_found and step.cursor == step.looked:
        step.cursor = part.end  # none is left to be claimed
    step.looked = part.end
    step.looked_bytes = size / chunks if chunks else step.looked_bytes
    for each in part.again:
        if each.item.chunk in again:
            step.leave(each)
        else:
            step.line_up(each)
    part.live.changed = True


def _took(part: Part, chunks: int, records: int) -> None:
    """So many chunks of a step have COMPLETED; what they gave says nothing of how fast the rest is."""
    step, live = part.step, part.live
    step.counts[step.waits] -= chunks
    step.counts[_COMPLETED] += chunks
    live.reused += chunks
    live.records += records
    live.worked.records += records

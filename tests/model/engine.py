"""The engine beside the model: workers that do nothing until they are told to, and when everything has come to rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import nbbatch as nb
from tests import kit


class Held(nb.inline):
    """Workers that hold what they are given until `run` is called."""

    _max_workers = 2

    def __init__(self) -> None:
        self._given: list[tuple[Callable[[], Any], list[tuple[int, int]], Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keep a micro-batch; the rest, a moment's work for a sub-job, is done at once."""
        if fn.__name__ != "run_chunks":
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        chunks = [(item.chunk, item.attempt) for item in args[0].items]
        self._given.append((lambda: fn(*args, **kwargs), chunks, future))
        return future

    @property
    def given(self) -> list[list[tuple[int, int]]]:
        """The chunks, with the number of the attempt, of each micro-batch that is held and was not called off."""
        self._given = [each for each in self._given if not each[2].cancelled()]
        return [chunks for _, chunks, _ in self._given]

    def run(self, place: int) -> None:
        """Do a micro-batch on this thread."""
        run, _, future = self._given.pop(place)
        future.set_running_or_notify_cancel()
        future.set_result(run())

    def free(self) -> range:
        """A place for each worker that has nothing."""
        return range(self._max_workers - len(self.given))


def copy_store(path: Path, to: Path) -> None:
    """What a kill at this moment would leave: the file, its log, and the marks of what runs."""
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, to.parent / (to.name + file.name.removeprefix(path.name)))


def rest(batch: nb.Batch, *, held: bool = True) -> None:
    """Wait until nothing moves by itself: whatever is in flight is held, or waits for a sub-job.

    A call is answered before the turn that takes what came with it, and that turn may ask for another one.
    """
    engine, quiet = kit.engine(batch), 0

    def moves() -> bool:
        unsettled = any(each.future is None or each.future.done() for each in engine.flights)
        works = not held and any(each.micro.node.step.job is None for each in engine.flights)
        return unsettled or works or not engine._inbox.empty()

    while quiet < 4:
        quiet = 0 if engine.call(moves) else quiet + 1


class Row(NamedTuple):
    """A chunk that was made."""

    instance: int
    id: int
    step: int
    parent: int | None


def made_since(batch: nb.Batch, last: int) -> list[Row]:
    """Chunks with higher ids; parents first, those of one parent in their order. The table is asked, as it is the quickest."""
    query = "SELECT instance, id, step, parent FROM chunk WHERE id > $1 ORDER BY instance, parent NULLS FIRST, seq"
    return [Row(*row) for row in batch.sql(query.replace("$1", str(last))).rows()]


__all__ = ["Held", "Row", "copy_store", "made_since", "rest"]

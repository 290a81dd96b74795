"""What static checkers must infer. Never run; checked by mypy, pyright and ty."""

from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel

import nbbatch as nb


class Params(BaseModel):
    folder: str


class File(BaseModel):
    path: str


class Stats(BaseModel):
    rows: int


class Report(BaseModel):
    total: int


@nb.step
def find(params: Params) -> Iterator[File]:
    yield File(path=params.folder)


@nb.step(max_attempts=3)
def count(file: File) -> Stats:
    return Stats(rows=len(file.path))


@nb.step
def report(stats: Iterable[Stats], params: Params) -> Report:
    return Report(total=sum(s.rows for s in stats))


@nb.step
def end(stats: Stats) -> None: ...


@nb.step
async def fetch(file: File) -> Stats:
    return Stats(rows=1)


@nb.step
async def listing(params: Params) -> AsyncIterator[File]:
    yield File(path=params.folder)


@nb.step(stream=True)
def reading(params: Params) -> Iterator[File]:
    yield File(path=params.folder)


@nb.step(stream=True)
async def hearing(params: Params) -> AsyncIterator[File]:
    yield File(path=params.folder)


@nb.step(max_failed=0.1)
async def later(stats: Iterable[Stats]) -> Report:
    return Report(total=len(list(stats)))


@nb.step(gate=True, weight=0.5)
def either(params: Params) -> Iterator[File | Stats]:
    yield Stats(rows=1)


@nb.step(timeout=3)
async def last(stats: Stats, params: Params) -> None: ...


census = nb.Job("census", find >> count >> report)
assert_type(census, nb.Job[Params, Report])
assert_type(nb.Job("ends", find >> count >> end), nb.Job[Params, None])
assert_type(nb.Job("async", listing >> fetch >> report), nb.Job[Params, Report])
assert_type(nb.Job("streams", reading >> count >> report), nb.Job[Params, Report])
assert_type(nb.Job("streams too", hearing >> count >> report), nb.Job[Params, Report])
assert_type(nb.Job("branches", find >> (count | fetch) >> report), nb.Job[Params, Report])
assert_type(nb.Job("later", find >> count >> later), nb.Job[Params, Report])
assert_type(nb.Job("ends in branches", either >> (count >> last | end)), nb.Job[Params, None])
assert_type(nb.Job("one branch ends", either >> (count | end) >> report), nb.Job[Params, Report])
tail = count >> report
assert_type(nb.Job("from parts", find >> tail), nb.Job[Params, Report])
assert_type(count(File(path="a")), Stats)
assert_type(report([Stats(rows=1)], Params(folder="a")), Report)


@nb.step
def sorting(params: Params) -> Iterator[File | Stats]:
    yield File(path=params.folder)
    yield nb.to(report, Stats(rows=1))
    yield nb.to("report", Stats(rows=1))


def size(file: File) -> str:
    return "large" if file.path else "small"


@nb.step
def drop(file: File) -> None: ...


assert_type(nb.to("report", Stats(rows=1)), Stats)
assert_type(nb.Job("past", sorting >> (count | nb.to(report)) >> report), nb.Job[Params, Report])
assert_type(nb.Job("past an end", sorting >> (count | nb.to(end)) >> end), nb.Job[Params, None])
either_way = nb.choose(size, {"large": count, "small": fetch})
assert_type(nb.Job("choice", find >> either_way >> report), nb.Job[Params, Report])
assert_type(nb.Job("chains", find >> nb.choose(size, {"a": count, "b": fetch}) >> end), nb.Job[Params, None])
assert_type(nb.Job("all end", find >> nb.choose(size, {"a": drop, "b": count >> end})), nb.Job[Params, None])


@nb.step
def here() -> Iterator[File]:
    yield File(path=".")


@nb.step
def size_of(file: File, block: int = 512) -> Stats:
    return Stats(rows=block)


@nb.step
def total_of(stats: Iterable[Stats]) -> Report:
    return Report(total=0)


parameterless = nb.Job("nothing", here >> size_of >> total_of)
assert_type(parameterless, nb.Job[None, Report])
assert_type(list(here()), list[File])

batch = nb.open("census.duckdb")
assert_type(batch.submit(parameterless).result(), Report)
run = batch.submit(census, Params(folder="data"))
assert_type(run, nb.JobHandle[Report])
assert_type(run.result(), Report)


async def awaited() -> None:
    assert_type(await run, Report)


@census.on("step_ended")
def note(run: nb.JobHandle[Report], step: str) -> int:
    return len(step)


assert_type(note(run, "count"), int)
assert_type(run.future(), Future[Report])
assert_type(run.exception(), nb.JobFailed | nb.JobCancelled | None)
assert_type(run.pause().resume().retry().skip(1, "why"), nb.JobHandle[Report])
assert_type(run.chunk(1).outputs, list[Any])
assert_type(run.outputs("count")[:3], list[Any])
assert_type(batch.cancel("census", older_than="2 days"), int)
assert_type(nb.__version__, str)
run.add_done_callback(lambda each: print(each.result().total))
nb.Backoff(timedelta(minutes=1), "1 h", jitter=0.1)
nb.RetryLater(datetime.now(UTC), "not yet")

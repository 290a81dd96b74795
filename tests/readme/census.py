import nbbatch as nb
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydantic import BaseModel


class Params(BaseModel):
    folder: Path


class File(BaseModel):
    path: Path


class Stats(BaseModel):
    rows: int


class Report(BaseModel):
    total: int


@nb.step
def find(params: Params) -> Iterator[File]:  # first step: its input is the parameters
    for path in sorted(params.folder.glob("*.py")):
        yield File(path=path)  # one yield = one durable work chunk


@nb.step(max_attempts=3)
def count(file: File) -> Stats:  # runs once per chunk, in the pool
    return Stats(rows=sum(1 for _ in file.path.open()))


@nb.step
def report(stats: Iterable[Stats], params: Params) -> Report:  # Iterable in = reduction: runs once, last
    return Report(total=sum(s.rows for s in stats))


census = nb.Job("census", find >> count >> report)  # a type mismatch fails here, in this cell

batch = nb.open("census.duckdb")  # kernel died? run the cells again: it resumes
run = batch.submit(census, Params(folder=Path(nb.__file__).parent))  # the lines of this library; or a folder of yours
print(run.result())  # Report(total=...)
print(run.chunks())  # every chunk is a row of a polars DataFrame

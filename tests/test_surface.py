"""The public names: which there are, how they are called, and what guesses are answered."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import polars as pl
import pytest

import nbbatch as nb
from nbbatch import dashboard, otel, testing
from tests.jobs import each, numbers, summing, total
from tests.kit import settle


def test_tab_shows_the_public_names_only() -> None:
    """N1"""
    code = "import nbbatch as nb, nbbatch.testing; print([name for name in dir(nb) if name[0] != '_'] == nb.__all__)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"
    assert "__version__" in dir(nb)
    assert nb.__version__ == version("nbbatch")
    for shown in (nb.Batch, nb.JobHandle, nb.ChunkHandle):
        assert not [name for name in dir(shown) if name in {"run", "get", "map", "value", "state"}]


def test_modules_are_imported_by_their_names_though_tab_does_not_show_them() -> None:
    """N1"""
    code = "import nbbatch.run, nbbatch.batch as b; from nbbatch import chunk; from nbbatch.job import Job; print(b.Batch, chunk)"

    assert "nbbatch.batch" in subprocess.check_output([sys.executable, "-c", code], text=True)


GUESSES: list[tuple[Callable[[nb.JobHandle[Any]], Any], str]] = [
    (lambda run: run.batch.run(summing(), 3), r"batch\.submit\(job, params\)"),
    (lambda run: run.batch.map(summing(), [3]), r"batch\.submit\(job, params\)"),
    (lambda run: run.batch.get(1), r"batch\.instance\(id\)"),
    (lambda run: run.batch[1], r"batch\.instance\(id\)"),
    (lambda run: list(run.batch), r"batch\.instances\(\)"),
    (lambda run: run.batch.delete(1), r"batch\.purge"),
    (lambda run: run.batch.shutdown(), r"batch\.close\(\)"),
    (lambda run: run.batch.instanc(1), r"instance may be meant"),
    (lambda run: run.get(), r"run\.result\(\)"),
    (lambda run: run.join(), r"run\.result\(\)"),
    (lambda run: run.state, r"run\.status"),
    (lambda run: run[1], r"run\.chunk\(id\)"),
    (lambda run: run.row, r"batch\.instances\(\)"),
    (lambda run: run.chunk(1).output, r"chunk\.outputs"),
    (lambda run: run.chunk(1).retry(), r"run\.retry\(\)"),
    (lambda run: run.chunk(1)[0], r"chunk\.input"),
    (lambda _: nb.run(summing(), 3), r"batch\.submit\(job, params\)"),  # type: ignore[attr-defined]
    (lambda _: nb.job("x"), r"nb\.Job\(name"),  # type: ignore[attr-defined]
    (lambda _: nb.task, r"@nb\.step"),  # type: ignore[attr-defined]
    (lambda _: nb.Retry(3), r"max_attempts="),  # type: ignore[attr-defined]
    (lambda _: nb.opem("x"), r"open may be meant"),  # type: ignore[attr-defined]
    (lambda _: nb.Batch("x.duckdb"), r"nb\.open\(path\)"),
]  # fmt: skip


@pytest.mark.parametrize(("guess", "answer"), GUESSES)
def test_a_wrong_guess_is_answered_with_the_right_word(
    batch: nb.Batch, guess: Callable[[nb.JobHandle[Any]], Any], answer: str
) -> None:
    """N2"""
    run = batch.submit(summing(), 3)

    with pytest.raises((AttributeError, TypeError), match=answer):
        guess(run)


def test_what_is_not_guessed_is_an_ordinary_attribute_error(batch: nb.Batch) -> None:
    """N2"""
    run = batch.submit(summing(), 3)

    for name in ("_repr_markdown_", "zzz", "_private"):
        assert not hasattr(run, name)
        assert not hasattr(batch, name)
        assert not hasattr(run.chunk(1), name)
        assert not hasattr(nb, name)


PUBLIC: list[tuple[str, Any]] = [
    *((f"nb.{name}", getattr(nb, name)) for name in nb.__all__),
    *((f"{module.__name__}.{name}", thing) for module in (testing, otel, dashboard) for name, thing in vars(module).items()
      if getattr(thing, "__module__", "") == module.__name__ and not name.startswith("_")),
]  # fmt: skip
MADE_BY_US = (nb.Batch, nb.JobHandle, nb.ChunkHandle, nb.LoadedFailure, nb.Replay, testing.StepRun)


def _callables() -> Iterator[tuple[str, Any]]:
    for name, thing in PUBLIC:
        if not inspect.isclass(thing):
            if callable(thing):
                yield name, thing
            continue
        if thing not in MADE_BY_US and not issubclass(thing, BaseException | str):
            yield name, thing
        for member, value in inspect.getmembers(thing, inspect.isfunction):
            if not member.startswith("_") and value.__module__.startswith("nbbatch"):
                yield f"{name}.{member}", value


def test_two_arguments_at_most_go_by_position() -> None:
    """N3"""
    found = dict(_callables())
    many = {
        name: names
        for name, thing in found.items()
        if len(names := [
            each.name for each in inspect.signature(thing).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.name != "self"
        ]) > 2
    }  # fmt: skip

    assert {"nb.Job", "nb.open", "nb.Batch.submit", "nb.JobHandle.rerun", "nbbatch.testing.survive"} <= set(found)
    assert not many


def test_a_frame_is_read_by_a_method_and_what_acts_gives_the_handle(batch: nb.Batch) -> None:
    """N4"""

    def fail(n: int) -> None:
        raise nb.FailChunk("no")

    run = batch.submit(each(fail), 3)
    run.wait(10)

    for owner in (run, run.chunk(1), run.chain(), run.failures(), batch):
        for name, value in inspect.getmembers(type(owner)):
            if isinstance(value, property) and not name.startswith("_"):
                assert not isinstance(getattr(owner, name), pl.DataFrame), name
    assert run.retry(quiet=True) is run
    run.wait(10)
    assert run.skip(2, "not wanted") is run
    assert run.failures()[0].skip("not wanted") is run
    run.wait(10)
    assert run.rerun(step="numbers") is run
    held = batch.submit(nb.Job("held", numbers >> nb.step(_later)), 1)
    assert held.pause() is held
    assert held.resume() is held
    assert held.cancel() is True  # as a Future's
    assert held.cancel() is False


def _later(n: int) -> None:
    raise nb.RetryLater(60)


def test_everything_of_several_jobs_is_cancelled_only_when_it_is_said(batch: nb.Batch) -> None:
    """N5"""
    runs = [batch.submit(nb.Job(name, numbers >> nb.step(_later)), n) for name in ("a", "b") for n in (1, 2)]
    settle(batch)

    with pytest.raises(
        ValueError, match=r"would end 4 instances of 2 jobs \(a, b\).* cancel\(older_than=0\) cancels all"
    ):
        batch.cancel()
    assert not any(run.done() for run in runs)
    assert batch.cancel(status=["PAUSED", "FINALIZE"]) == 0
    assert batch.cancel("a") == 2
    assert batch.cancel() == 2  # one job's
    again = [batch.submit(nb.Job(name, numbers >> nb.step(_later)), 3) for name in ("a", "b")]
    assert batch.cancel(older_than=0) == 2
    assert all(run.status == "CANCELLED" for run in [*runs, *again])


def test_a_condition_on_the_inputs_may_name_the_chunk_and_a_field_of_that_name_wins(batch: nb.Batch) -> None:
    """L9"""

    @nb.step
    def boxes(n: int) -> Iterator[dict[str, int]]:
        yield from ({"chunk": 10 * i} for i in range(n))

    @nb.step
    def weigh(box: dict[str, int]) -> int:
        return box["chunk"]

    plain = batch.submit(summing(), 3)
    boxed = batch.submit(nb.Job("boxes", boxes >> weigh >> total), 3)
    for run in (plain, boxed):
        run.wait(10)
    plain.rerun(step="double", where=pl.col("chunk") == plain.chunks("double")["id"][1]).wait(10)
    boxed.rerun(step="weigh", where=pl.col("chunk") == 20).wait(10)

    assert plain.attempts("double").height == boxed.attempts("weigh").height == 4
    assert boxed.attempts("weigh")["chunk"].to_list()[-1] == boxed.chunks("weigh")["id"].max()


@pytest.mark.parametrize(
    ("missing", "use", "extra"),
    [
        ("anywidget", "nb.open(':memory:').panel()", "notebooks"),
        ("anywidget", "b = nb.open(':memory:'); b.submit(nb.Job('one', nb.step(one)), 1).panel()", "notebooks"),
        ("ipywidgets", "import nbbatch.dashboard", "notebooks"),
        ("opentelemetry", "import nbbatch.otel", "otel"),
        ("loky", "nb.processes(2)", "processes"),
    ],
)
def test_what_needs_an_extra_names_it(missing: str, use: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None  # as if it were not installed
import nbbatch as nb
def one(i: int) -> None: ...
try:
    {use}
except ImportError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert f"pip install 'nbbatch[{extra}]'" in told.stdout, told.stderr

"""Defining: what is wrong is wrong in the cell that says it."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypedDict

import polars as pl
import pytest
from pydantic import BaseModel, Field

import nbbatch as nb
from nbbatch.code.signature import accepts
from nbbatch.definition import Options
from nbbatch.definition.options import retryable
from tests.jobs import double, drop, numbers, summing, total


class Animal(BaseModel):
    name: str


class Cat(Animal):
    lives: int = 9


class Dog(Animal):
    tricks: int = 0


@dataclass
class Point:
    x: int


class Row(TypedDict):
    a: int


@nb.step
def cats_and_dogs(n: int) -> Iterator[Cat | Dog]:
    for i in range(n):
        yield Cat(name=f"cat {i}")
        yield Dog(name=f"dog {i}")


@nb.step
def pet(cat: Cat) -> str:
    return cat.name


@nb.step
def walk(dog: Dog) -> str:
    return dog.name


@nb.step
def register(animal: Animal) -> str:
    return f"{animal.name} registered"


@nb.step
def names(values: Iterable[str]) -> list[str]:
    return sorted(values)


def test_a_parameter_without_a_hint_is_named_with_what_to_write() -> None:
    """D1"""
    with pytest.raises(nb.DefinitionError, match=r"'untyped'.*'item' has no type hint; write  def"):

        @nb.step  # type: ignore[arg-type]
        def untyped(item) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
            return 1


def test_a_missing_return_type_is_named() -> None:
    """D1"""
    with pytest.raises(TypeError, match="'silent' has no return type"):

        @nb.step
        def silent(item: int):  # type: ignore[no-untyped-def] # noqa: ANN202
            pass


def test_a_hint_that_cannot_be_resolved_is_named() -> None:
    """D1"""
    with pytest.raises(nb.DefinitionError, match=r"the type of 'item' cannot be resolved.*Nowhere"):

        @nb.step
        def lost(item: Nowhere) -> int:  # type: ignore[name-defined] # noqa: F821
            return 1


@pytest.mark.parametrize("function", [lambda a, b, c: 1, lambda *a: 1, lambda a, **b: 1, lambda a, *, b: 1])
def test_more_than_two_parameters_without_a_default_are_refused(function: Any) -> None:
    """D1"""
    function.__annotations__ = dict.fromkeys("abc", int) | {"return": int}

    with pytest.raises(nb.DefinitionError, match="write  def step"):
        nb.step(name="odd")(function)


def test_a_type_without_stored_form_is_refused() -> None:
    """D1"""
    with pytest.raises(nb.DefinitionError, match="no stored form"):

        @nb.step
        def opaque(n: int) -> pytest.Session:
            raise NotImplementedError


def test_types_that_do_not_meet_are_named_with_both_steps() -> None:
    """D2"""
    with pytest.raises(nb.DefinitionError, match="step 'numbers' gives int, but step 'pet' takes Cat"):
        numbers >> pet  # type: ignore[operator]


def test_a_chain_needs_an_end() -> None:
    """D3"""
    with pytest.raises(nb.DefinitionError, match="'endless' has no end: step 'double' gives int to nobody"):
        nb.Job("endless", numbers >> double)  # type: ignore[arg-type]


def test_a_single_step_that_gives_nothing_is_a_chain() -> None:
    """D3"""
    assert len(nb.Job("single", drop).nodes) == 1


def test_two_steps_of_one_name_are_refused() -> None:
    """D3"""
    with pytest.raises(nb.DefinitionError, match="two steps are named 'double'"):
        double >> double


def test_nothing_follows_an_end_or_a_reduction() -> None:
    """D4"""
    for last in (drop, total):
        with pytest.raises(nb.DefinitionError, match=f"{last.name!r} .* nothing can follow it"):
            (numbers >> last) >> double  # type: ignore[operator]


def test_a_reduction_is_gated_and_not_first() -> None:
    """D4"""
    assert summing().nodes[-1].gated
    with pytest.raises(nb.DefinitionError, match="no step before it"):
        nb.Job("alone", total)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "version"), [("", 1), ("  ", 1), ("x" * 101, 1), ("ok", 0), ("a\nb", 1)])
def test_blank_long_or_unprintable_names_and_versions_below_one_are_refused(name: str, version: int) -> None:
    """D5"""
    with pytest.raises(nb.DefinitionError):
        nb.Job(name, drop, version=version)


def test_a_name_may_hold_any_printable_character() -> None:
    """D5"""
    assert nb.Job("Zählung · 集計 ✓", drop).name == "Zählung · 集計 ✓"


def test_a_step_is_still_a_function() -> None:
    """D6"""
    assert double(4) == 8
    assert list(numbers(3)) == [0, 1, 2]
    assert total(iter([1, 2])) == 3


def test_a_step_serves_in_two_jobs_and_a_rerun_cell_touches_neither() -> None:
    """D6"""
    one, two = nb.Job("one", numbers >> double >> total), nb.Job("two", numbers >> double >> drop)
    before = one.nodes[1].step

    @nb.step(name="double")
    def newer(i: int) -> int:
        return 3 * i

    assert one.nodes[1].step is before is two.nodes[1].step
    assert newer.fingerprint != before.fingerprint


def test_the_repr_shows_the_chain_with_its_types() -> None:
    """D7"""
    assert repr(summing()) == "<Job summing v1: int → numbers → * int >> double → int >> | total ⇒ int>"


def test_weights_are_shared_out() -> None:
    """D8"""
    first = nb.step(weight=0.5, name="first")(numbers.function)

    assert [node.weight for node in nb.Job("w", first >> double >> total).nodes] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("weight", [0, 1, -0.5, 1.5])
def test_a_weight_is_between_zero_and_one(weight: float) -> None:
    """D8"""
    with pytest.raises(nb.DefinitionError, match="weight= must be above 0 and below 1"):
        nb.step(weight=weight)(double.function)


def test_weights_leave_a_rest_for_the_others() -> None:
    """D8"""
    heavy = [nb.step(weight=0.6, name=name)(double.function) for name in ("a", "b")]

    with pytest.raises(nb.DefinitionError, match=r"weights add up to 1\.2"):
        nb.Job("w", numbers >> heavy[0] >> heavy[1] >> total)


@pytest.mark.parametrize(
    "option",
    [{"max_attempts": 0}, {"concurrency": 0}, {"rate": 0}, {"timeout": -1}, {"max_failed": -1}, {"nonsense": 1}],
)
def test_an_option_out_of_range_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(nb.DefinitionError, match=next(iter(option))):
        nb.step(**option)(double.function)


def test_each_value_goes_to_the_branches_that_accept_it(batch: nb.Batch) -> None:
    run = batch.submit(nb.Job("pets", cats_and_dogs >> (pet | walk | register) >> names), 2)

    assert run.result(10) == [
        "cat 0", "cat 0 registered", "cat 1", "cat 1 registered", "dog 0", "dog 0 registered", "dog 1", "dog 1 registered",
    ]  # fmt: skip


def test_a_value_that_no_branch_accepts_is_an_error_at_definition() -> None:
    """D2"""
    with pytest.raises(nb.DefinitionError, match="gives Dog, but step 'pet' takes Cat"):
        cats_and_dogs >> (pet | double)  # type: ignore[operator]


def test_a_branch_may_be_a_chain_and_may_end(batch: nb.Batch) -> None:
    ended: list[str] = []

    @nb.step
    def note(name: str) -> None:
        ended.append(name)

    run = batch.submit(nb.Job("branch", cats_and_dogs >> (pet >> note | walk) >> names), 1)

    assert run.result(10) == ["dog 0"]
    assert ended == ["cat 0"]


def test_a_gate_waits_for_all_branches_before_it() -> None:
    job = nb.Job("join", cats_and_dogs >> (pet | walk) >> names)

    assert [node.sources for node in job.nodes] == [(), (0,), (0,), (1, 2)]


@pytest.mark.parametrize(
    ("target", "source", "fits"),
    [
        (Animal, Cat, True),
        (Cat, Animal, False),
        (Any, Cat, True),
        (int | None, int, True),
        (int, int | None, False),
        (list[Animal], list[Cat], True),
        (list[int], list[str], False),
        (float, int, True),
        (str, Literal["a", "b"], True),
        (Literal["a"], Literal["a", "b"], False),
        (Annotated[int, Field(gt=0)], int, True),
        (dict[str, int], dict[str, int], True),
        (Row, Row, True),
        (Point, Row, False),
        (None, None, True),
    ],
)
def test_a_type_accepts_what_static_checkers_accept(target: Any, source: Any, fits: bool) -> None:
    """D2"""
    assert accepts(target, source) is fits


def test_hints_written_as_text_find_local_names() -> None:
    """D1"""

    class Local(BaseModel):
        x: int

    @nb.step
    def local(item: Local) -> None: ...

    assert local.input_type is Local


def test_async_steps_are_read_alike() -> None:
    @nb.step
    async def one(i: int) -> str:
        return str(i)

    @nb.step
    async def many(i: int) -> AsyncIterator[str]:
        yield str(i)

    assert (one.kind, many.kind) == ("one", "many")
    assert one.is_async
    assert many.is_async


def test_errors_a_retry_cannot_mend_are_told_from_the_others() -> None:
    """C8"""
    usual, eager, strict = Options(), Options(retry_on=(TypeError,)), Options(fail_on=(OSError,))
    caused = RuntimeError("outer")
    caused.__cause__ = ConnectionError("inner")

    assert retryable(usual, OSError())
    assert not retryable(usual, TypeError())
    assert retryable(eager, TypeError())
    assert not retryable(strict, ConnectionError())
    assert not retryable(strict, caused)


def test_comments_and_formatting_do_not_change_a_fingerprint() -> None:
    first: dict[str, Any] = {}
    prints = set()
    for body in ("return 2 * i", "# twice\n    return (2*i)", '"""Doubles."""\n    return 2 * i'):
        text = f"def f(i: int) -> int:\n    {body}\n"
        import linecache

        linecache.cache["<cell>"] = (len(text), None, text.splitlines(keepends=True), "<cell>")
        exec(compile(text, "<cell>", "exec"), first)
        prints.add(nb.step(first["f"]).fingerprint)

    assert len(prints) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_attempts", "3"), ("max_attempts", 2.5), ("concurrency", 1.5), ("backoff", "soon"), ("backoff", float("nan")),
        ("weight", "half"), ("retry_on", 5), ("timeout", float("nan")), ("gate", "yes"), ("description", None),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_type_is_refused(option: str, value: Any) -> None:
    with pytest.raises(nb.DefinitionError, match="nan" if option == "backoff" and value != "soon" else option):
        nb.step(**{option: value})(double.function)


def test_a_branch_that_takes_floats_is_given_whole_numbers() -> None:
    """D2"""

    @nb.step
    def mixed(n: int) -> Iterator[int | str]:
        yield n

    @nb.step
    def halve(x: float) -> None: ...

    @nb.step
    def read(x: str) -> None: ...

    first = nb.Job("numbers", mixed >> (halve | read)).nodes[0]

    assert (first.route(1), first.route(True), first.route("1")) == ((1,), (), (2,))


def test_a_type_without_a_stored_form_is_refused() -> None:
    """S3"""

    @nb.step
    def framed(frame: pl.DataFrame) -> None: ...

    nb.Job("framed", framed)
    with pytest.raises(nb.DefinitionError, match="step 'drawn' takes Expr, which cannot be stored: it is a Expr"):

        @nb.step
        def drawn(how: pl.Expr) -> None: ...


def test_annotated_streams_are_streams_and_other_extras_stay() -> None:
    """D1"""

    @nb.step
    def many(n: int) -> Annotated[Iterator[int], "of what"]:
        yield n

    @nb.step
    def small(n: int) -> Annotated[int, Field(lt=10)]:
        return n

    assert (many.kind, small.kind) == ("many", "one")
    assert small.output is not None
    with pytest.raises(ValueError, match="less than 10"):
        small.output.encode(10)


def test_a_reduction_gives_one_report() -> None:
    """D4"""
    with pytest.raises(nb.DefinitionError, match="must return its one report"):

        @nb.step
        def spread(values: Iterable[int]) -> Iterator[int]:
            yield from values


@pytest.mark.parametrize(
    ("define", "text"),
    [
        (
            lambda: nb.step(max_attempt=3)(double.function),
            r"step 'double' has no option max_attempt=; max_attempts= may be meant",
        ),
        (lambda: nb.step(colour="red")(double.function), r"step 'double' has no option colour=. There are .*weight"),
        (
            lambda: nb.Job("job", numbers >> double >> total, gate=True),
            r"nb\.Job has no option gate=; gated= may be meant",
        ),
        (
            lambda: nb.step(retries=3)(double.function),
            r"'double' has no option retries=; max_attempts= is meant: it counts",
        ),
        (lambda: nb.step(retry_delay=3)(double.function), r"no option retry_delay=; backoff= is meant"),
        (
            lambda: nb.step(pool=None)(double.function),
            r"no option pool=; executor= is meant: nb\.open\(executor=…\) is for all steps",
        ),
        (lambda: nb.step(workers=3)(double.function), r"no option workers=; nb\.open\(workers=…\) .*concurrency="),
        (lambda: nb.step(on_failure=print)(double.function), r"no option on_failure=; nb\.Job\(on_error=…\) takes it"),
        (lambda: nb.step(cache=True)(double.function), r"no option cache=: outputs are stored"),
        (
            lambda: nb.Job("job", numbers >> double >> total, on_failure=print),
            r"no option on_failure=; on_error= is meant",
        ),
        (
            lambda: nb.Job("job", numbers >> double >> total, retries=3),
            r"no option retries=; nb\.step\(max_attempts=…\)",
        ),
        (lambda: total_job().as_step(retries=3), r"step 'job' has no option retries=; max_attempts= is meant"),
        (
            lambda: nb.step(partial(max, 1)),
            r"nb\.step decorates a function, not functools\.partial\(<built-in function max>, 1\)",
        ),
        (lambda: nb.step("count"), r"nb\.step decorates a function, not 'count'; options go by name"),
    ],
)
def test_an_option_that_is_none_is_refused_with_the_one_that_may_be_meant(define: Any, text: str) -> None:
    """D1"""
    with pytest.raises(nb.DefinitionError, match=text):
        define()


def total_job() -> nb.Job[Any, Any]:
    return nb.Job("job", numbers >> double >> total)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nb.open(":memory:", max_workers=2), r"nb\.open has no option max_workers=; workers= is meant"),
        (lambda: nb.open(":memory:", timeout=2), r"nb\.open has no option timeout=; nb\.step\(timeout=…\) takes it"),
    ],
)
def test_opening_answers_words_of_other_libraries(call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call()


def test_help_names_the_options_with_their_defaults() -> None:
    """D1"""
    shown = {each: inspect.signature(each).parameters for each in (nb.step, nb.Job, nb.Job.as_step)}

    for parameters in shown.values():
        assert not any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name, default in {"max_attempts": 4, "backoff": nb.Backoff(), "timeout": None, "skip_on": ()}.items():
        assert shown[nb.step][name].default == default
    assert shown[nb.Job]["max_failed"].default == 0
    assert shown[nb.Job.as_step]["max_attempts"].default == 1
    assert "timeout" not in shown[nb.Job.as_step]
    assert "max_attempts: int = 4" in pydoc.render_doc(nb.step)


def test_every_option_is_documented() -> None:
    """D1"""
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(nb.step) or "", re.MULTILINE)

    assert sorted({*documented, "name"} - {"DefinitionError"}) == sorted(inspect.signature(nb.step).parameters)


def test_options_given_in_turn_add_up() -> None:
    """D1"""
    careful = nb.step(max_attempts=7)

    assert careful(gate=True)(double.function).options.max_attempts == 7


def test_the_package_shows_its_public_names_only() -> None:
    assert {name for name in dir(nb) if not name.startswith("_")} == set(nb.__all__)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (list[int], int, r"declare  -> Iterator\[int\]  and yield them"),
        (tuple[int, ...], int, r"declare  -> Iterator\[int\]"),
        (int, list[int], r"declare  Iterable\[int\], which makes it a reduction"),
    ],
)
def test_a_list_where_an_item_is_taken_is_told_with_what_to_declare(before: Any, after: Any, text: str) -> None:
    """D2"""

    def give(n: int) -> before: ...

    def take(value: after) -> None: ...

    with pytest.raises(nb.DefinitionError, match=text):
        nb.step(give) >> nb.step(take)


def test_a_job_lists_its_steps() -> None:
    """D7"""
    assert [step.name for step in nb.Job("job", numbers >> double >> total).steps] == ["numbers", "double", "total"]


def test_a_class_whose_cell_was_run_again_is_told_from_the_one_before() -> None:
    """D2"""

    def cell() -> tuple[Any, Any]:
        class Row(BaseModel):
            k: int

        @nb.step
        def find(n: int) -> Row:
            return Row(k=n)

        @nb.step
        def keep(row: Row) -> None: ...

        return find, keep

    (find, _), (_, keep) = cell(), cell()
    with pytest.raises(nb.DefinitionError, match="two classes named Row: run the cells of both steps again"):
        find >> keep


def test_a_submit_without_the_parameters_that_a_job_needs_says_which(inline: nb.Batch) -> None:
    @nb.step
    def numbers(count: int) -> int:
        return count

    @nb.step
    def keep(number: int) -> None: ...

    with pytest.raises(nb.ParameterError, match=r"none are given, and it takes int: batch\.submit\(job, parameters\)"):
        inline.submit(nb.Job("j", numbers >> keep))
    assert inline.instances().height == 0

"""Code that moves on: parameters and values that were stored before their classes had the form they have now."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, create_model

import nbbatch as nb
from tests.kit import HandClock, settle


def held(model: Any, name: str = "hold") -> nb.Job[Any, None]:
    """A job whose parameters are of a class, and that waits."""

    def hold(params: Any) -> None:
        raise nb.RetryLater(600)

    hold.__annotations__["params"] = model
    return nb.Job(name, nb.step(hold, name="hold"))


def forms() -> tuple[Any, Any]:
    """A class, and the same with a field more that has a default."""

    class Params(BaseModel):
        folder: str

    old = Params

    class Params(BaseModel):  # type: ignore[no-redef]
        folder: str
        strict: bool = False

    return old, Params


@pytest.mark.parametrize("reopened", [True, False])
@pytest.mark.parametrize("key", [None, "mine"])
def test_a_parameter_with_a_new_default_finds_the_unfinished_instance(
    store: Path, reopened: bool, key: str | None
) -> None:
    """S1"""
    old, new = forms()
    batch = nb.open(store, executor=nb.inline())
    first = batch.submit(held(old), old(folder="a"), key=key)
    settle(batch)
    if reopened:
        batch.close()
        batch = nb.open(store, executor=nb.inline())
    with batch:
        again = batch.submit(held(new), new(folder="a"), key=key)

        assert again.id == first.id
        assert batch.submit(held(new), new(folder="a"), key=key).id == first.id
        if key is None:
            assert batch.submit(held(new), new(folder="a", strict=True)).id != first.id


def params_of(**fields: Any) -> Any:
    """A class named Params."""
    return create_model("Params", **{name: (kind, ...) for name, kind in fields.items()})


def test_parameters_that_are_not_read_any_more_are_told(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = params_of(folder=str, old=int)
    with nb.open(store, executor=nb.inline()) as batch:
        first = batch.submit(held(old), old(folder="a", old=1))
        settle(batch)
    for now, given, why in (
        (params_of(folder=str, old=int, lang=str), {"folder": "a", "old": 1, "lang": "de"}, "lang: Field required"),
        (params_of(folder=str), {"folder": "a"}, "old is stored, and is no field any more"),
    ):
        caplog.clear()
        with nb.open(store, executor=nb.inline()) as batch, caplog.at_level(logging.WARNING, "nbbatch"):
            assert batch.submit(held(now), given).id != first.id
            assert f"instance {first.id} of job 'hold' is unfinished" in caplog.text
            assert why in caplog.text


def test_an_instance_whose_parameters_are_not_read_any_more_is_not_taken_up(store: Path) -> None:
    old, now = params_of(folder=str), params_of(folder=str, lang=str)
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(held(old), old(folder="a"))
        settle(batch)
    with (
        nb.open(store, executor=nb.inline()) as batch,
        pytest.raises(nb.StateError, match="that Params does not read any more: lang: Field required"),
    ):
        batch.resume(held(now))


def seeing(model: Any, seen: list[Any], error: Exception | None = None) -> nb.Job[Any, None]:
    """A job whose only step notes its parameters, and may raise."""

    def see(params: Any) -> None:
        seen.append(params)
        if error is not None:
            raise error

    see.__annotations__["params"] = model
    return nb.Job("see", nb.step(see, name="see"))


def test_an_ended_instance_whose_parameters_are_not_read_any_more_is_not_taken_up(batch: nb.Batch) -> None:
    old, now = params_of(folder=str), params_of(folder=str, lang=str)
    run = batch.submit(seeing(old, [], nb.FailChunk("no")), old(folder="a"))
    run.wait()
    for again in (run.retry, lambda job: run.rerun(job, step="see"), run.failures()[0].retry):
        with pytest.raises(nb.StateError, match="that Params does not read any more: lang: Field required"):
            again(seeing(now, []))  # type: ignore[operator]
    assert run.status == "FAILED"


def test_an_instance_that_is_here_goes_on_with_the_new_class_of_its_parameters(
    batch: nb.Batch, clock: HandClock
) -> None:
    old, new = forms()
    seen: list[Any] = []
    run = batch.submit(seeing(old, seen, nb.RetryLater(60)), old(folder="a"))
    settle(batch)
    with pytest.raises(nb.StateError, match="lang: Field required"):
        run.resume(seeing(params_of(folder=str, lang=str), seen))
    run.resume(seeing(new, seen))
    clock.advance(60)
    run.wait()
    assert seen == [old(folder="a"), new(folder="a", strict=False)]


def test_secrets_and_a_new_default_find_the_unfinished_instance(store: Path) -> None:
    class Login(BaseModel):
        user: str
        word: SecretStr

    old = Login

    class Login(BaseModel):  # type: ignore[no-redef]
        user: str
        word: SecretStr
        tries: int = 3

    with nb.open(store, executor=nb.inline()) as batch:
        first = batch.submit(held(old), old(user="a", word=SecretStr("s3cret-word")))
        settle(batch)
    with nb.open(store, executor=nb.inline()) as batch:
        assert batch.submit(held(Login), Login(user="a", word=SecretStr("s3cret-word"))).id == first.id


def chained(item: Any, *, waits: bool) -> nb.Job[int, None]:
    def find(n: int) -> Any:
        return {"n": n}

    def work(value: Any) -> None:
        if waits:
            raise nb.RetryLater(600)

    find.__annotations__["return"] = item
    work.__annotations__["value"] = item
    return nb.Job("chained", nb.step(find, name="find") >> nb.step(work, name="work", max_attempts=1))


@pytest.mark.parametrize("fits", [True, False])
def test_stored_values_are_read_with_a_new_default_and_else_told(store: Path, fits: bool) -> None:
    class Item(BaseModel):
        n: int

    old = Item
    if fits:

        class Item(BaseModel):  # type: ignore[no-redef]
            n: int
            m: int = 0
    else:

        class Item(BaseModel):  # type: ignore[no-redef]
            n: int
            m: int

    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(chained(old, waits=True), 1)
        settle(batch)
        run.cancel()
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1, chained(Item, waits=False)).retry(quiet=True)
        run.wait(10)

        assert run.status == ("COMPLETED" if fits else "FAILED")
        if not fits:
            assert "not read as Item any more: m: Field required" in run.errors()["error"][0]


# --- upgrade= -------------------------------------------------------------------------------------------


def named(name: str, **fields: Any) -> Any:
    return create_model(name, **{field: (kind, ...) for field, kind in fields.items()})


def shop(params: Any, item: Any, waits: bool, **options: Any) -> nb.Job[Any, int]:
    def find(given: Any) -> Any:
        for n in range(2):
            yield item.model_validate({"n": n})

    def price(value: Any) -> int:
        if waits:
            raise nb.RetryLater(600)
        return value.n + value.rate

    def add(values: Iterable[int], given: Any) -> int:
        return sum(values) + given.plus

    find.__annotations__ |= {"given": params, "return": Iterator[item]}
    price.__annotations__["value"] = item
    add.__annotations__["given"] = params
    return nb.Job("shop", nb.step(find) >> nb.step(price, max_attempts=1) >> nb.step(add), **options)


def upgrade(step: str, stored: Any) -> Any:
    return stored | ({"plus": 100} if step == "find" else {"rate": 10})


@pytest.mark.parametrize("workers", [nb.inline, lambda: nb.processes(1)])
def test_what_was_stored_in_an_older_form_is_brought_up_to_date(store: Path, workers: Any) -> None:
    """S9"""
    before = named("Given", k=int), named("Item", n=int)
    now = named("Given", k=int, plus=int), named("Item", n=int, rate=int)
    with nb.open(store, executor=nb.inline()) as batch:
        first = batch.submit(shop(*before, waits=True), {"k": 1})
        settle(batch)
        first.cancel()
    with nb.open(store, executor=workers()) as batch:
        job = shop(*now, waits=False, upgrade=upgrade)
        run = batch.instance(1, job).retry(quiet=True)

        assert run.result(60) == 0 + 1 + 2 * 10 + 100
        assert run.params.plus == 100
        assert [each.rate for each in run.inputs("price")] == [10, 10]
        assert run.chunk(run.chunks("price")["id"][0]).replay().same


def test_an_unfinished_instance_is_found_by_parameters_that_are_brought_up_to_date(store: Path) -> None:
    before = named("Given", k=int), named("Item", n=int)
    now = named("Given", k=int, plus=int), named("Item", n=int, rate=int)
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(shop(*before, waits=True), {"k": 1})
        settle(batch)
    with nb.open(store, executor=nb.inline()) as batch:
        job = shop(*now, waits=True, upgrade=upgrade)

        assert batch.submit(job, {"k": 1, "plus": 100}).id == 1
        assert batch.submit(job, {"k": 1, "plus": 5}).id == 2


def test_values_whose_types_have_changed_come_as_plain_json(store: Path) -> None:
    before = named("Given", k=int), named("Item", n=int)
    now = named("Given", k=int, plus=int), named("Item", n=int, rate=int)
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(shop(*before, waits=True), {"k": 1})
        settle(batch)
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(1, shop(*now, waits=True))

        assert run.params == {"k": 1}
        assert run.inputs("price") == [{"n": 0}, {"n": 1}]
        assert run.outputs("find") == [{"n": 0}, {"n": 1}]
        assert run.chunk(run.chunks("price")["id"][0]).input == {"n": 0}

"""Secret parameters are stored, shown and exported nowhere, however a text writes or cuts them."""

from __future__ import annotations

import base64
import html
import json
import os
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, model_serializer

import nbbatch as nb
from nbbatch.worker.capture import MAX_LOG_CHARS
from nbbatch.worker.error_text import MAX_TEXT_CHARS
from nbbatch.worker.hiding import hider

SECRET = 'p"ss/w\\rd+é &<4711'
LONG = "sk-" + "".join(chr(97 + (i * 7 + i * i * 3) % 26) + str(i % 10) for i in range(35))


class Params(BaseModel):
    key: SecretStr


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON with all letters": lambda key: json.dumps(key, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda key: json.dumps(json.dumps(key))[3:-3],
    "repr": lambda key: repr(key)[1:-1],
    "ascii": lambda key: ascii(key)[1:-1],
    "bytes": lambda key: repr(key.encode())[2:-1],
    "address": quote,
    "part of an address": lambda key: quote(key, safe=""),
    "address in small letters": lambda key: quote(key, safe="").replace("%2F", "%2f").replace("%C3%A9", "%c3%a9"),
    "form": quote_plus,
    "HTML": html.escape,
    "Base64": lambda key: base64.b64encode(key.encode()).decode(),
    "Base64 for addresses": lambda key: base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
    "Basic header": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "Basic header of another user": lambda key: base64.b64encode(f"me:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [SECRET, LONG, "hunter2", "zażółć gęślą"])
def test_a_secret_is_hidden_however_it_is_written(form: str, secret: str) -> None:
    written = FORMS[form](secret)
    shown = hider((secret,))(f"before {written} after {written}")

    assert shown == "before ********** after **********"


def test_texts_without_a_secret_stay_as_they_are() -> None:
    text = "an order of 12 items ... from Basel … to Bern; aGVsbG8gd29ybGQ= 100%25 \\u00e9 " * 100

    assert hider((SECRET, LONG, "hunter2"))(text) == text


def pieces(secret: str, most: int) -> Iterator[str]:
    return (secret[at : at + most] for at in range(len(secret) - most + 1))


def test_no_piece_is_left_where_others_cut_it() -> None:
    hide = hider((LONG,))
    for before in range(60):
        text = f"{'x' * before}{LONG}{'y' * 60}"
        for most in (25, 40, 50):
            cut = hide(f"{text[:most]}...{text[-most:]} [truncated {text[: before + 20]}]")
            assert not any(piece in cut for piece in pieces(LONG, 12))
            assert not cut.partition("...")[0].endswith(tuple(LONG[:n] for n in range(4, 70)))


def test_an_error_and_a_log_are_hidden_before_they_are_cut(inline: nb.Batch) -> None:
    @nb.step(max_attempts=1)
    def fail(params: Params) -> None:
        key = params.key.get_secret_value()
        print("z" * (MAX_LOG_CHARS - 10) + key)
        raise ValueError("a" * (MAX_TEXT_CHARS // 2 - 10) + key + "b" * MAX_TEXT_CHARS)

    run = inline.submit(nb.Job("fail", fail), Params(key=SecretStr(LONG)))
    run.wait(10)
    row = run.errors().row(0, named=True)

    for text in (row["error"], row["traceback"], run.chunk(1).log):
        assert not any(piece in text for piece in pieces(LONG, 5))


class Whole(BaseModel):
    key: SecretStr

    @model_serializer
    def reveal(self) -> dict[str, Any]:
        return {"key": self.key.get_secret_value()}


class OfJson(BaseModel):
    key: SecretStr

    @field_serializer("key", when_used="json")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class Other(BaseModel):
    key: SecretStr

    @field_serializer("key")
    def reveal(self, value: SecretStr) -> str:
        return base64.b64encode(value.get_secret_value().encode()).decode()


class Inside(BaseModel):
    inner: list[OfJson]


@pytest.mark.parametrize("kind", [Whole, OfJson, Other, Inside])
def test_a_model_that_reveals_its_secret_is_stored_without_it(inline: nb.Batch, kind: type[BaseModel]) -> None:
    seen: list[Any] = []

    def use(params: Any) -> None:
        seen.append(params)

    use.__annotations__["params"] = kind
    fields: Any = {"inner": [{"key": SECRET}]} if kind is Inside else {"key": SECRET}
    run = inline.submit(nb.Job("use", nb.step(use)), kind(**fields))
    run.wait(10)

    assert seen == [kind(**fields)]
    assert SECRET.encode() not in inline.instance(run.id)._row.params


class Allowed(BaseModel):
    model_config = ConfigDict(frozen=True)
    key: SecretStr
    empty: SecretStr = SecretStr("")
    none: SecretStr | None = None
    left_out: SecretStr = Field(SecretStr("default"), exclude=True)


def test_an_ordinary_model_with_secrets_is_taken(inline: nb.Batch) -> None:
    @nb.step
    def use(params: Allowed) -> None:
        assert params.key.get_secret_value() == SECRET

    assert inline.submit(nb.Job("use", use), Allowed(key=SecretStr(SECRET))).wait(10) == "COMPLETED"


def stored_in(store: Path) -> bytes:
    return b"".join(each.read_bytes() for each in store.parent.glob("store.duckdb*"))


def test_a_value_that_is_a_secret_parameter_is_no_part_of_the_code(store: Path, tmp_path: Path) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        for number in range(2):  # the first has another secret, and its code is kept already
            run = batch.submit(nb.Job("call", call), Params(key=SecretStr(("another-0815", LITERAL)[number])))
            run.wait(10)
        path = run.chunk(int(run.chunks()["id"][0])).export(tmp_path / "bug.zip")
        source = " ".join(version.source for version in run.code())

    assert "HEADERS" in source
    with zipfile.ZipFile(path) as file:
        parts = [file.read(name) for name in file.namelist()]
    for text in (source.encode(), *parts, stored_in(store)):
        assert LITERAL.encode() not in text
        assert os.environ["NBBATCH_TEST_TOKEN"].encode() not in text


LITERAL = "tok-stands-in-the-cell-4711"
os.environ["NBBATCH_TEST_TOKEN"] = "-".join(map(str, ("only", "in", "the", "environment")))
TOKEN = os.environ["NBBATCH_TEST_TOKEN"]
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Other": LITERAL, "Retries": 3}


@nb.step(max_attempts=1)
def call(params: Params) -> None:
    raise ValueError(f"{len(HEADERS)} headers, {len(LITERAL)}")


def test_a_replay_shows_stars(inline: nb.Batch) -> None:
    @nb.step(max_attempts=1)
    def fail(params: Params) -> None:
        print(params.key.get_secret_value())
        raise KeyError(params.key.get_secret_value())

    job = nb.Job("fail", fail)
    run = inline.submit(job, Params(key=SecretStr(SECRET)))
    run.wait(10)
    replay = run.chunk(1).replay()

    assert isinstance(replay.error, KeyError)
    for shown in (replay, job.preview({"key": SECRET})):
        for text in (repr(shown), str(shown), shown._repr_html_()):
            assert "4711" not in text
    assert "4711" not in replay.log + replay.traceback


class Auth(BaseModel):
    user: str
    token: SecretStr = Field(alias="bearer", min_length=12)


class Pulled(BaseModel):
    server: str
    auth: Auth
    since: int = 0
    folder: Path = Path()


GOOD = "tok-is-good-4711"


@nb.step(max_attempts=1)
def pull(params: Pulled) -> str:
    if params.auth.token.get_secret_value() != GOOD:
        raise PermissionError("the token is refused")
    return f"{params.server} {params.auth.user} {params.since} {params.folder}"


@nb.step
def joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)


PULL = nb.Job("pull", pull >> joined)


@pytest.fixture
def refused(inline: nb.Batch) -> nb.JobHandle[str]:
    """A run whose token was no good, and is to be given again."""
    auth = Auth.model_validate({"user": "ada", "bearer": SECRET})
    run = inline.submit(PULL, Pulled(server="https://x", auth=auth, since=3, folder=Path("in")))
    run.wait(10)
    inline._engine.secrets.clear()
    return run


Doors = dict[str, Callable[[Any, Any, Path], Any]]
DOORS: Doors = {
    "retry": lambda run, params, _: run.retry(params=params, quiet=True),
    "retry of a group": lambda run, params, _: run.failures()[0].retry(params=params, quiet=True),
    "rerun": lambda run, params, _: run.rerun(step="pull", params=params, quiet=True),
    "replay": lambda run, params, _: run.chunk(1).replay(params=params),
    "debug": lambda run, params, _: run.chunk(1).debug(params=params, post_mortem=print),
    "replay of a file": lambda run, params, path: nb.load_failure(run.chunk(1).export(path)).replay(
        pull, params=params
    ),
    "check": lambda run, params, _: PULL.check(params),
    "preview": lambda run, params, _: PULL.preview(params),
}


@pytest.mark.parametrize("door", DOORS)
def test_parameters_that_are_refused_are_not_shown(refused: nb.JobHandle[str], tmp_path: Path, door: str) -> None:
    for wrong in ({"bearer": LONG, "sever": LONG}, {"server": 1, "auth": {"bearer": LONG, "user": [LONG]}}, [LONG]):
        with pytest.raises(nb.ParameterError) as caught:
            DOORS[door](refused, wrong, tmp_path / "bug.zip")
        shown = "".join(traceback.format_exception(caught.value))

        assert not any(piece in shown for piece in pieces(LONG, 8))
        assert caught.value.problems
    assert refused.status == "FAILED"


@pytest.mark.parametrize("name", ["bearer", "token"])
@pytest.mark.parametrize("door", ["retry", "retry of a group", "rerun"])
def test_a_new_secret_is_enough(refused: nb.JobHandle[str], tmp_path: Path, door: str, name: str) -> None:
    run = DOORS[door](refused, {"auth": {name: GOOD}}, tmp_path)

    assert run.result(10) == "https://x ada 3 in"


@pytest.mark.parametrize("door", ["replay", "debug", "replay of a file"])
def test_a_new_secret_is_enough_to_replay(refused: nb.JobHandle[str], tmp_path: Path, door: str) -> None:
    assert DOORS[door](refused, {"auth": {"bearer": GOOD}}, tmp_path / "bug.zip").outputs == ["https://x ada 3 in"]


def test_values_that_are_given_are_those_stored_and_secrets_are_given(refused: nb.JobHandle[str]) -> None:
    with pytest.raises(nb.StateError, match=r"since: 3 → 4.*no new values"):
        refused.retry(params={"auth": {"bearer": GOOD}, "since": 4})
    with pytest.raises(nb.ParameterError, match=r"auth\.bearer: Field required"):
        refused.retry(params={"since": 3})

    assert refused.retry(params={"since": 3, "auth": {"user": "ada", "bearer": GOOD}}, quiet=True).result(10)


@dataclass
class Login:
    user: str
    token: SecretStr
    tries: list[float] = field(default_factory=lambda: [1.5])


def test_a_secret_of_a_dataclass_is_enough(inline: nb.Batch) -> None:
    @nb.step(max_attempts=1)
    def log_in(login: Login) -> str:
        return f"{login.user} {login.tries} {len({GOOD: 1}[login.token.get_secret_value()] * 'x')}"

    run = inline.submit(nb.Job("log-in", log_in >> joined), Login("ada", SecretStr(SECRET), [2.0]))
    run.wait(10)

    assert run.retry(params={"token": GOOD}, quiet=True).result(10) == "ada [2.0] 1"

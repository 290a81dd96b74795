"""A failure as a file that is sent, and the secrets that neither it nor the store has."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

import nbbatch as nb

LEAST = 12
TRIES = 1
DIGITS = re.compile(r"\d+")


class Secretive(BaseModel):
    n: int
    token: SecretStr = Field(min_length=LEAST)


class Color(Enum):
    RED = "red"


@dataclass
class Tags:
    found: list[str] = field(default_factory=list)


class Row(BaseModel):
    number: Annotated[int, Field(ge=0)]
    color: Color = Color.RED

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        return shortened(number)


def shortened(number: int, most: int = LEAST) -> int:
    return min(most, number)


SHORT = {shortened(30): DIGITS}


@lru_cache
def digits(number: int) -> int:
    return len(SHORT[LEAST].findall(str(number)))


@nb.step
def guarded(params: Secretive) -> Iterator[Row]:
    yield from (Row(number=n) for n in range(params.n))


@nb.step(max_attempts=TRIES)
def invert(row: Row, params: Secretive) -> None:
    print("inverting", row, params.token, Tags(), digits(row.number))
    1 / row.number


@nb.step(name="invert", max_attempts=1)
def mended(row: Row, params: Secretive) -> None:
    assert params.token.get_secret_value() == TOKEN


TOKEN = "hush-hush-hush"
PARAMS = Secretive(n=2, token=SecretStr(TOKEN))
JOB = nb.Job("guarded", guarded >> invert)
MENDED = nb.Job("guarded", guarded >> mended)


@pytest.fixture
def failed(batch: nb.Batch) -> nb.JobHandle[None]:
    run = batch.submit(JOB, PARAMS)
    run.wait(10)
    return run


@pytest.fixture
def bug(failed: nb.JobHandle[None], tmp_path: Path) -> Path:
    return failed.chunk(2).export(tmp_path / "bug.zip")


def test_an_exported_failure_shows_all_but_secrets_and_replays_only_when_asked(bug: Path) -> None:
    """S4"""
    shown = nb.load_failure(bug)

    assert (shown.input["number"], shown.params["n"], shown.about["error_type"]) == (0, 2, "ZeroDivisionError")
    assert TOKEN not in repr(shown) + shown._repr_html_() + shown.code + shown.traceback + shown.log
    assert TOKEN.encode() not in bug.read_bytes()
    assert "runs the code inside" in repr(shown)
    with pytest.raises(PermissionError, match="runs the code inside"):
        shown.replay()
    again = shown.replay(invert, params={"n": 2, "token": "another-token"})
    assert isinstance(again.error, ZeroDivisionError)


def test_an_exported_failure_replays_from_its_own_code_and_all_that_reaches(bug: Path) -> None:
    again = nb.load_failure(bug).replay(run_code=True, params=PARAMS.model_dump())

    assert isinstance(again.error, ZeroDivisionError)
    assert again.log.startswith("inverting number=0 color=<Color.RED: 'red'> ")


def rewritten(bug: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(bug) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    change(parts)
    with zipfile.ZipFile(bug, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)


def told(**values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        parts["failure.json"] = json.dumps({**json.loads(parts["failure.json"]), **values}).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.pop("input"),
        lambda parts: parts.update({"failure.json": b"{"}),
        lambda parts: parts.update({"failure.json": b"[]"}),
        lambda parts: parts.update({"params.json": b"[" * 100_000}),
        lambda parts: parts.update({"code.py": b"\xff"}),
        lambda parts: parts.update({"input": b"ARROW1" + b"\xff" * 500}) or told(media="arrow")(parts),
        told(packages=3),
        told(chunk="2"),
        told(format=2),
    ],
    ids=["no input", "cut JSON", "no object", "deep JSON", "no text", "no frame", "packages", "chunk", "newer"],
)
def test_a_broken_file_gives_one_clear_error(bug: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    rewritten(bug, change)

    with pytest.raises(nb.StoreUnreadable, match=r"chunk\.export|upgrade nbbatch"):
        nb.load_failure(bug)


def test_a_file_cut_anywhere_gives_one_clear_error(bug: Path) -> None:
    whole = bug.read_bytes()

    for size in range(0, len(whole), 97):
        bug.write_bytes(whole[:size])
        with pytest.raises(nb.StoreUnreadable, match=r"chunk\.export"):
            nb.load_failure(bug)


def test_a_file_that_claims_to_be_huge_is_not_read(bug: Path) -> None:
    with zipfile.ZipFile(bug, "a") as file:
        file.filelist[-1].file_size = 10**12
        file._didModify = True  # type: ignore[attr-defined]

    with pytest.raises(nb.StoreUnreadable, match="unpacks to more than 300,000,000 bytes"):
        nb.load_failure(bug)


def test_loading_a_file_runs_and_unpacks_nothing(bug: Path) -> None:
    trap = bug.parent / "trapped"
    rewritten(bug, lambda parts: parts.update({
        "code.py": f"open({str(trap)!r}, 'w')\n".encode(), "../trapped": b"", str(trap): b"", "input": b"[1]",
    }))  # fmt: skip
    shown = nb.load_failure(bug)
    repr(shown)
    shown._repr_html_()

    assert sorted(each.name for each in bug.parent.iterdir() if "duckdb" not in each.name) == ["bug.zip"]


def test_a_run_with_secrets_can_be_replayed_retried_and_rerun_after_its_end(failed: nb.JobHandle[None]) -> None:
    """S4 L8 L9"""
    assert isinstance(failed.chunk(2).replay().error, ZeroDivisionError)
    assert failed.retry(MENDED, quiet=True).wait(10) == "COMPLETED"
    assert failed.rerun(step="invert").wait(10) == "COMPLETED"
    assert failed.params.token.get_secret_value() == "**********"


def test_after_a_restart_the_secrets_are_brought_again(failed: nb.JobHandle[None], store: Path) -> None:
    """S4 L8"""
    failed.batch.close()
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.instance(failed.id, MENDED)
        for refused in (run.chunk(2).replay, run.retry, lambda: run.rerun(step="invert")):
            with pytest.raises(nb.StateError, match=r"token is a secret.*params="):
                refused()
        with pytest.raises(nb.StateError, match="n: 2 → 3"):
            run.retry(params={"n": 3, "token": TOKEN})
        assert run.status == "FAILED"

        assert run.chunk(2).replay(params=PARAMS).error is None
        assert run.retry(params=PARAMS, quiet=True).wait(10) == "COMPLETED"


SPOKEN = "k3y/with +signs"


@nb.step(max_attempts=1)
def spoken(row: Row, params: Secretive) -> None:
    token = params.token.get_secret_value()
    print("calling with", token)
    nb.context().warn(f"slow with {token}")
    nb.context().recovered(f"once without {token}")
    if row.number == 0:
        raise ConnectionError(f"GET https://shop.example/?key={quote(token, safe='')} by {token}")


def test_a_secret_that_a_step_prints_or_raises_is_stored_and_exported_as_stars(batch: nb.Batch, tmp_path: Path) -> None:
    run = batch.submit(nb.Job("spoken", guarded >> spoken), Secretive(n=2, token=SecretStr(SPOKEN)))
    run.wait(10)
    bug = run.chunk(2).export(tmp_path / "bug.zip")
    with zipfile.ZipFile(bug) as file:
        told = "".join(file.read(name).decode() for name in file.namelist())
    shown = told + repr(
        [run.logs().rows(), run.errors().rows(), run.history().rows(), run.warnings, run.exception(), run.failures()]
    )

    assert "https://shop.example/?key=********** by **********" in told
    assert SPOKEN not in shown
    assert quote(SPOKEN, safe="") not in shown


def test_parameters_of_this_process_fit_the_code_in_a_file(bug: Path) -> None:
    found = nb.load_failure(bug).replay(run_code=True, params=PARAMS)

    assert isinstance(found.error, ZeroDivisionError)

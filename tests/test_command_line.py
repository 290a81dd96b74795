"""The command ``nbbatch``: what it shows, runs and orders, and what it exits with."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from rich.console import Console

import nbbatch as nb
from nbbatch.panel import terminal
from nbbatch.shell import exit_codes, following, frontend, pipes, printing, seeing, steering, watching
from tests.looked import doubled, going, job, numbers, total
from tests.test_look import Owner, owned

__all__ = ["owned"]

going.set()  # in this process no step waits
ROOT = Path(__file__).parent.parent
Ask = Callable[..., tuple[int, str]]

MODULE = """
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

import nbbatch as nb
from pydantic import BaseModel, Field, SecretStr

class Orders(BaseModel):
    day: date
    count: int = Field(3, description="How many there are")
    shops: list[str] = ["north"]
    key: str = "k"
    token: SecretStr = SecretStr("s3cret")

@nb.step
def orders(params: Orders) -> Iterator[str]:
    for shop in params.shops:
        for number in range(params.count):
            yield f"{params.day} {shop} {number}"

@nb.step(max_attempts=1)
def check(text: str) -> str:
    if Path("broken").exists():
        raise ValueError("broken \\x1b[2J")
    return text

@nb.step
def all_of(texts: Iterable[str]) -> list[str]:
    return list(texts)

class Shop:
    orders = nb.Job("orders", orders >> check >> all_of)

@nb.step
def nothing() -> None: ...

idle = nb.Job("idle", nothing)
"""


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Runs the command in this process, in a folder with a module of jobs; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "shop.py").write_text(MODULE)

    def asking(*words: object) -> tuple[int, str]:
        code = frontend.run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    yield asking
    sys.modules.pop("shop", None)


def done(store: Path, count: int = 20) -> None:
    """A store in which a run has ended."""
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(job, count).wait()


def object_in(said: str) -> dict[str, Any]:
    """The JSON object among what was said on both streams."""
    return json.loads(next(line for line in said.splitlines() if line.startswith("{")))


# --- exit codes -----------------------------------------------------------------------------------


def test_the_exit_codes_are_one_table_in_the_help_and_in_the_documents() -> None:
    said = subprocess.run([sys.executable, "-m", "nbbatch", "--help"], capture_output=True, text=True)
    document = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")

    assert said.returncode == 0
    for code, means in exit_codes.MEANS.items():
        assert f"{code.value:<3} {means}" in said.stdout
        assert f"| {code.value} | {means} |" in document
    assert len(re.findall(r"^\| \d+ \|", document, re.MULTILINE)) == len(exit_codes.MEANS) == len(exit_codes.Exit)


@pytest.mark.parametrize(
    "words",
    [
        ["show", "store.duckdb", 7],
        ["show", "none.duckdb", 1],
        ["show", "store.duckdb", "one"],
        ["chunks", "store.duckdb", 1, "--step", "none"],
        ["purge", "store.duckdb"],
        ["purge", "store.duckdb", "--older-than", "soon"],
        ["purge", "store.duckdb", "--older-than", "1d", "--status", "PAUSED"],
        ["run", "shop", "new.duckdb"],
        ["run", "nowhere:job", "new.duckdb"],
        ["run", "shop:none", "new.duckdb"],
        ["run", "shop:Shop.orders", "new.duckdb"],
        ["run", "shop:Shop.orders", "new.duckdb", "--day", "yesterday"],
        ["run", "shop:Shop.orders", "new.duckdb", "--set", "day"],
        ["run", "shop:Shop.orders", "new.duckdb", "--set", "week=3"],
        ["run", "shop:idle", "new.duckdb", "--set", "week=3"],
        ["run", "shop:Shop.orders", "new.duckdb", "--params", "shop.py"],
        ["run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02", "--key", " "],
        ["retry", "store.duckdb", 1],
        ["resume", "store.duckdb", 1],
        ["skip", "store.duckdb", 1, 2],
        ["nonsense"],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_wrong_use_is_told_from_failure_and_does_nothing(ask: Ask, store: Path, words: list[object]) -> None:
    done(store)
    code, said = ask(*words)

    assert code == 2
    assert said.strip()
    assert "Traceback" not in said
    assert not Path("new.duckdb").exists() or "key" in said  # what only the store can refuse needs one


def test_a_store_that_somebody_holds_is_locked_for_what_needs_to_hold_it(ask: Ask, store: Path, owned: Owner) -> None:
    code, said = ask("run", "tests.looked:job", store, "--set", "count=3")
    assert (code, str(owned.process.pid) in said) == (3, True)


def test_hints_name_commands_and_options_and_every_refusal_begins_alike(ask: Ask, store: Path, owned: Owner) -> None:
    assert ask("backup", store, "copy.duckdb")[0] == 0
    for words, hint in (
        (["show", store, 7], f"nbbatch ls {store} lists"),
        (["backup", store, "copy.duckdb"], "--overwrite replaces it"),
        (["run", "tests.looked:job", store, "--count", 3], f"nbbatch ls {store} lists"),
        (["cancel", "none.duckdb", 1], "does not exist"),
        (["skip", store, 1, 2, "--reason", " "], "nbbatch skip needs a reason"),
        (
            ["run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02", "--key", "k", "--new"],
            "--key and --new exclude",
        ),
    ):
        said = ask(*words)[1]
        assert hint in said
        assert re.search("^nbbatch: ", said, re.MULTILINE), said
        assert not re.search(r"\b(run|batch|look|nb)\.(?!close)\w+\(|\w=True|Error:", said), said


def test_commands_that_are_hinted_at_can_be_pasted(ask: Ask) -> None:
    Path("broken").touch()
    said = ask("run", "shop:Shop.orders", "my new.duckdb", "--day", "2026-01-02")[1]
    assert "nbbatch errors 'my new.duckdb' 1" in said
    assert "nbbatch errors 'my new.duckdb' 1" in ask("show", "my new.duckdb", 1)[1]


def test_what_the_library_warns_of_or_logs_is_a_line_beside_the_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_others = list[object]()

    def showwarning(message: Warning | str, *_: Any) -> None:
        of_others.append(str(message))

    monkeypatch.setattr(warnings, "showwarning", showwarning)
    with warnings.catch_warnings(), printing.notices():
        warnings.simplefilter("always")
        warnings.warn_explicit("run.resume() lets it go on", UserWarning, click.core.__file__, 1)
        warnings.warn_explicit("of another", UserWarning, "other.py", 1)
        assert logging.lastResort
        logging.lastResort.handle(logging.makeLogRecord({"name": "nbbatch", "msg": "instance %d", "args": (3,)}))

    assert capsys.readouterr().err == "nbbatch: nbbatch resume STORE ID lets it go on\nnbbatch: instance 3\n"
    assert of_others == ["of another"]
    assert warnings.showwarning is showwarning


@pytest.mark.parametrize("how", [["-m", "nbbatch"], ["nbbatch"], ["other.py"]], ids=" ".join)
def test_sigterm_while_the_command_is_imported_puts_back_but_not_in_programs_that_import_the_library(
    tmp_path: Path, how: list[str]
) -> None:
    """R40"""
    (tmp_path / "duckdb.py").write_text("import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)")
    for name in ("nbbatch", "other.py"):
        (tmp_path / name).write_text(f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import nbbatch.__main__")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    code = subprocess.run([sys.executable, *how], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}).returncode
    assert code == (-signal.SIGTERM if how == ["other.py"] else 75)


def test_whoever_reads_the_output_may_leave(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    with open(theirs, "w", encoding="utf-8") as raw:  # noqa: PTH123
        stream = pipes.quiet(raw)
        assert pipes.is_read(stream)
        os.close(ours)
        print("nobody reads", file=stream)
        assert not pipes.is_read(stream)
    assert pipes.is_read(sys.stdout)

    (tmp_path / "shop.py").write_text(MODULE)
    command = f"set -o pipefail; {sys.executable} -m nbbatch run shop:idle new.duckdb | true"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    said = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (said.returncode, "roken" in said.stderr) == (0, False), said.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from nbbatch.__main__ import main; main()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "pip install 'nbbatch[cli]'" in said.stderr


# --- run ------------------------------------------------------------------------------------------


def test_the_options_of_run_are_made_of_the_jobs_parameters(ask: Ask) -> None:
    code, said = ask("run", "shop:Shop.orders", "new.duckdb", "--help")

    assert code == 0
    words = " ".join(said.split())
    assert "--day date [required]" in words
    assert "--count int How many there are [default: 3]" in words
    assert "--shops list[str] [default: ['north']]" in words
    assert words.count("--key") == 1  # the command's own; --set gives the job's
    assert "s3cret" not in said


def test_what_is_typed_goes_before_what_a_file_says(ask: Ask) -> None:
    Path("p.json").write_text('{"day": "2026-01-02", "count": 1, "shops": ["a", "b"]}')
    code, said = ask(
        "run", "shop:Shop.orders", "new.duckdb", "--params", "p.json", "--count", 2, "--set", "key=c", "--json"
    )

    told = object_in(said)
    assert code == 0
    assert told["status"] == "COMPLETED"
    assert told["report"] == ["2026-01-02 a 0", "2026-01-02 a 1", "2026-01-02 b 0", "2026-01-02 b 1"]
    assert told["params"] == {"day": "2026-01-02", "count": 2, "shops": ["a", "b"], "key": "c", "token": "**********"}


def test_a_key_has_the_same_command_done_once(ask: Ask) -> None:
    words = ("run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02", "--shops", '["x"]', "--key", "2026-01")
    (code, said), (again, said_again) = [ask(*words) for _ in range(2)]
    assert (code, again) == (0, 0)
    assert "nothing was run" not in said
    assert re.search(r"\(key '2026-01'\) COMPLETED already on 20[\d-]+ [\d:]+; nothing was run", said_again)
    code, said = ask("ls", "new.duckdb", "--json")

    assert (code, [row["id"] for row in json.loads(said)]) == (0, [1])
    assert "COMPLETED · orders v1 #1" in ask("show", "new.duckdb", "key=2026-01")[1]
    assert ask("show", "new.duckdb", "key=2027-01")[0] == 2


def test_a_key_that_failed_runs_again_where_that_is_asked_for(ask: Ask) -> None:
    words = ("run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02", "--key", "k")
    Path("broken").touch()
    assert ask(*words)[0] == 1
    Path("broken").unlink()
    code, said = ask(*words)
    assert code == 1
    assert "FAILED already" in said
    assert "nbbatch retry new.duckdb 1 --job shop:Shop.orders takes it up again" in said
    assert ask(*words, "--retry")[0] == 0
    assert ask(*words[:-2], "--retry")[0] == 2


def test_a_run_that_fails_says_so_and_a_retry_mends_it(ask: Ask) -> None:
    Path("broken").touch()
    code, said = ask("run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02")
    assert code == 1
    assert "nbbatch errors new.duckdb 1" in said

    code, said = ask("errors", "new.duckdb", 1, "--traceback")
    assert (code, "ValueError" in said, "\x1b" in said) == (0, True, False)
    assert re.search(r"FAILED +check +2026-01-02 north 0 +1 +FAILED", said)
    assert re.search(r"check +2026-01-02 north 0 +FAILED", ask("chunks", "new.duckdb", 1)[1])
    Path("broken").unlink()
    code, said = ask("retry", "new.duckdb", 1, "--job", "shop:Shop.orders")
    assert (code, "secrets are never stored" in said) == (1, True)
    Path("p.json").write_text('{"token": "s3cret"}')
    code, said = ask("retry", "new.duckdb", 1, "--job", "shop:Shop.orders", "--params", "p.json")
    assert (code, bool(re.search("check .*3 to retry", said)), "its errors" in said) == (0, True, False)
    code, said = ask("show", "new.duckdb", 1)
    assert (code, "✓ COMPLETED" in said, "2026-01-02 north 2" in said) == (0, True, True)
    assert "lists its errors: no chunk is FAILED by now" in said
    assert re.search(r"COMPLETED +check +2026-01-02 north 0 +1 +FAILED", ask("errors", "new.duckdb", 1)[1])


def test_a_skip_of_all_that_failed_says_what_takes_the_run_to_its_end(ask: Ask, store: Path) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(nb.Job("strict", numbers >> doubled >> total), 9)
        assert run.wait() == "FAILED"
        (chunk,) = run.chunks(status="FAILED")["id"]
    said = ask("skip", store, 1, chunk, "--reason", "known")[1]
    assert f"nothing is FAILED any more: nbbatch retry {store} 1 goes on" in said
    assert "failed in step" not in said  # it was, and is not any more
    assert "what failed was skipped by hand" in said


def test_a_job_without_parameters_and_one_with_a_single_one_run(ask: Ask) -> None:
    assert ask("run", "shop:idle", "new.duckdb")[0] == 0
    assert ask("run", "tests.looked:job", "new.duckdb", "--count", 3)[0] == 0
    assert ask("run", "tests.looked:job", "new.duckdb", "--count", "many")[0] == 2


def test_an_error_in_the_module_of_a_job_is_shown_where_it_is(ask: Ask) -> None:
    Path("faulty.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    code, said = ask("run", "faulty:job", "new.duckdb")

    assert code == 2
    assert "line 2, in f" in said
    assert "faulty could not be imported: ZeroDivisionError" in said


def test_what_others_have_a_command_take_up_is_brought_to_its_end(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told, say = threading.Event(), printing.note

    @nb.step
    def late() -> Iterator[int]:
        told.wait(20)
        yield 1

    @nb.step
    def after(number: int) -> None: ...

    def note(text: str) -> None:
        say(text)
        if "taken up here too" in text:
            told.set()

    monkeypatch.setattr(printing, "note", note)
    with nb.open(store, workers=3) as batch:
        held = nb.Job("late", late >> after)
        paused, other = batch.submit(held, new=True).pause(), batch.submit(held, new=True)
        assert following.follow(lambda: batch.submit(job, 3), json=False) == 0
        assert (other.status, paused.status) == ("COMPLETED", "PAUSED")
    assert f"instance {paused.id} is PAUSED and unfinished: nbbatch resume STORE" in capsys.readouterr().err


def test_a_timeout_puts_back_what_runs(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import time, nbbatch as nb\n@nb.step\ndef wait() -> None: time.sleep(60)\njob = nb.Job('wait', wait)"
    )
    command = [sys.executable, "-m", "nbbatch", "run", "shop:job", "new.duckdb", "--timeout", "0.1", "--grace", "0"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ended.returncode == 75
    assert re.search(r"^20[\d-]+ [\d:]+ --timeout 0.1 is over$", ended.stderr, re.MULTILINE)


def test_lines_of_a_log_have_their_time_once_however_they_are_written() -> None:
    file = io.StringIO()
    stream: Any = following.Dated(file, lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    for part in ("a", "b\nc\n", "\n"):
        stream.write(part)
    assert file.getvalue() == "2026-01-02 03:04:05 ab\n2026-01-02 03:04:05 c\n2026-01-02 03:04:05 \n"


# --- looking --------------------------------------------------------------------------------------


def test_what_is_read_comes_as_a_table_and_whole_as_json(ask: Ask, store: Path) -> None:
    done(store)
    assert "looked at" in ask("ls", store)[1]
    for words, rows in ((["ls", store], 1), (["chunks", store, 1], 41), (["errors", store, 1], 1)):
        code, said = ask(*words, "--json", "--limit", 100)
        assert (code, len(json.loads(said))) == (0, rows)
    assert len(json.loads(ask("chunks", store, 1, "--status", "FAILED", "--json")[1])) == 1
    assert "more" in ask("chunks", store, 1, "--limit", 3)[1]
    assert json.loads(ask("show", store, 1, "--json")[1])["steps"][1]["completed"] == 19
    assert json.loads(ask("ls", store, "--json")[1])[0]["params"] == 20


def test_a_check_asks_for_what_ended_since(ask: Ask, store: Path) -> None:
    done(store)
    failed = ("--status", "failed", "--exit-code")
    assert ask("ls", store, *failed)[0] == 0
    assert ask("ls", store, *failed, "--status", "Completed", "--since", "1 h")[0] == 1
    assert ask("ls", store, "--exit-code", "--since", "0 s")[0] == 0
    assert ask("ls", store, "--since", "some day")[0] == 2


def test_a_run_that_nobody_works_on_is_told_from_one_that_runs(
    ask: Ask, store: Path, owned: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(ask("ls", store, "--json")[1])[0]["process"] == str(owned.process.pid)
    owned.kill()
    assert re.search("looked at +1 .*nobody", ask("ls", store)[1])
    assert (
        f"nobody works on it: it waits for its job; submit it again, or nbbatch resume {store} 1"
        in ask("show", store, 1)[1]
    )
    with nb.look(store) as looking:
        told = list[int]()
        for _ in range(2):
            assert watching.is_over(looking, [looking.instance(1)], told) is False
    assert capsys.readouterr().err.count("nobody works on instance 1") == 1


def test_values_in_json_are_what_is_in_them_whatever_their_types(ask: Ask, store: Path) -> None:
    @nb.step
    def table(seen: set[int]) -> pl.DataFrame:
        return pl.DataFrame({"a": sorted(seen)})

    @nb.step
    def rows(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(frames)

    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(nb.Job("tables", table >> rows), {1, 2}).wait()
    assert json.loads(ask("ls", store, "--json")[1])[0]["params"] == [1, 2]
    shown = json.loads(ask("show", store, 1, "--json")[1])
    assert (shown["params"], shown["report"]) == ([1, 2], [{"a": 1}, {"a": 2}])
    assert json.loads(ask("outputs", store, 1, "--step", "table", "--json")[1]) == [{"a": 1}, {"a": 2}]


def test_frames_and_arrays_of_other_libraries_are_their_rows_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"a": [1], "at": [pd.Timestamp("2026-01-02")], "none": [pd.NaT]})
    for value in (
        rows,
        np.ones((1, 2)),
        pd.Series([1]),
        pa.table({"a": [1]}),
        pl.Series([1]),
        pl.LazyFrame({"a": [1]}),
        np.int16(3),
    ):
        printing.as_json({"held": value})
    rows_given = '[{"a":1,"at":"2026-01-02T00:00:00","none":null}]'
    wanted = (rows_given, "[[1.0,1.0]]", "[1]", '[{"a":1}]', "[1]", '[{"a":1}]', "3")
    assert capsys.readouterr().out.splitlines() == [f'{{"held":{each}}}' for each in wanted]


def test_what_a_step_gave_comes_in_order_a_value_a_line(ask: Ask, store: Path) -> None:
    done(store, 80)
    values = [2 * number for number in range(80) if number != 7]
    code, said = ask("outputs", store, 1, "--step", "doubled", "--json")
    assert (code, [*map(json.loads, said.splitlines())]) == (0, values)
    assert ask("outputs", store, 1, "--json") == (0, f"{sum(values)}\n")
    code, said = ask("outputs", store, 1, "--step", "doubled", "--limit", 2)
    assert (code, said.splitlines()) == (0, ["0", "2", "there are more; a larger --limit shows them"])
    assert ask("outputs", store, 1, "--step", "none")[0] == 2


def test_of_many_errors_the_newest_are_listed(ask: Ask) -> None:
    Path("broken").touch()
    ask("run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02", "--set", "count=5", "--workers", 1)
    for more in range(3):
        code, said = ask("errors", "new.duckdb", 1, "--json", "--limit", 3 + more)
        rows = json.loads(said.splitlines()[0])
        assert (code, [row["chunk"] for row in rows]) == (0, [6, 5, 4, 3, 2][: 3 + more])
        assert ("there are more" in said) is (more < 2)


def test_a_folder_is_listed_store_by_store(ask: Ask, tmp_path: Path) -> None:
    for name in ("a", "b"):
        done(tmp_path / f"{name}.duckdb", 3)
    (tmp_path / "c.duckdb").write_text("no")
    code, said = ask("ls", "--json")

    rows = json.loads(said[said.index("[") : said.rindex("]") + 1])
    assert code == 0
    assert [Path(row["store"]).name for row in rows] == ["b.duckdb", "a.duckdb"]
    assert "c.duckdb" in said
    (tmp_path / "empty").mkdir()
    assert ask("ls", "empty", "--json") == (0, "[]\n")


def test_a_table_in_a_file_has_a_row_a_line(ask: Ask, store: Path) -> None:
    done(store)
    said = ask("chunks", store, 1, "--limit", 41)[1]

    assert len(said.splitlines()) == 42


def test_text_of_others_does_nothing_to_a_terminal() -> None:
    assert printing.safe("a\x1b]0;x\x07\u202e\n\tb") == "a\\x1b]0;x\\x07\\u202e\n\tb"


def test_watching_gives_a_line_now_and_then_and_one_at_the_end() -> None:
    now, shown = [0.0], list[float]()

    class Run:
        @property
        def status(self) -> str:
            return "COMPLETED" if now[0] >= 70 else "IN_PROGRESS"

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 0.01)

    runs: Any = [Run()]
    for _ in terminal.looks(runs, 30.0, lambda: now[0], sleep):
        shown.append(now[0])
    assert [round(each) for each in shown] == [0, 30, 60, 70]


def test_what_is_watched_may_have_ended_or_be_nothing(ask: Ask, store: Path) -> None:
    done(store)
    code, said = ask("watch", store, 1)
    assert (code, said.count("COMPLETED ·")) == (0, 1)
    assert ask("watch", store) == (0, "every instance has ended\n")


def test_a_run_is_watched_from_another_process_to_its_end(store: Path, owned: Owner) -> None:
    command = [sys.executable, "-m", "nbbatch", "watch", str(store), "--every", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert "IN_PROGRESS" in watching.stdout.readline()
        assert owned.end_run() == "COMPLETED"
        owned.kill()
        last = watching.stdout.read().splitlines()[-1]
    assert "COMPLETED" in last
    assert watching.returncode == 0


def drawn(run: Any, width: int, colours: Any = None) -> str:
    """What is drawn of a run on a terminal."""
    console = Console(file=io.StringIO(), width=width, force_terminal=colours is not None, color_system=colours)
    console.print(terminal.Watched(run).drawn())
    return cast("io.StringIO", console.file).getvalue()


def test_a_run_and_a_look_at_it_are_drawn_alike_on_any_terminal(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        run = batch.submit(job, 20)
        assert run.watch() == "COMPLETED"
        plain, narrow, coloured = drawn(run, 100), drawn(run, 30), drawn(run, 100, "truecolor")
    with nb.look(store) as look:
        assert drawn(look.instance(1), 100) == plain

    assert capsys.readouterr().out.count("✓ COMPLETED ·") == 1
    lines = plain.splitlines()
    assert lines[0].startswith("✓ completed, 1 failed · looked at v1 #1 · ended")
    assert set(lines[1].strip()) == {"✓", "✗"}
    assert len(lines[1].strip()) == 100
    assert any("doubled" in line and "20 of 20" in line for line in lines)
    assert "✗ 1 × ValueError in doubled: seven is not taken" in plain
    assert max(map(len, narrow.splitlines())) <= 30
    assert "\x1b[" not in plain
    assert "█" in coloured


def test_on_a_terminal_the_picture_is_redrawn(store: Path) -> None:
    done(store)
    ours, theirs = pty.openpty()
    shown = list[bytes]()

    def read() -> None:
        with suppress(OSError):  # the end of a terminal is an error
            while part := os.read(ours, 10_000):
                shown.append(part)

    command = [sys.executable, "-m", "nbbatch", "watch", str(store), "1"]
    with subprocess.Popen(command, stdout=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "150"}) as watching:
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        assert watching.wait(30) == 0
    reader.join(10)
    os.close(ours)
    said = b"".join(shown)
    assert b"\x1b[" in said
    assert b"41 of 41 chunks" in said


# --- steering -------------------------------------------------------------------------------------


def test_orders_go_to_the_process_that_holds_the_store(ask: Ask, store: Path, owned: Owner) -> None:
    assert ask("pause", store, 1, "--json") == (0, '{"id":1,"status":"PAUSED"}\n')
    assert "was being worked on" not in ask("resume", store, 1)[1]
    assert "not PAUSED: it was being worked on already" in ask("resume", store, 1)[1]
    assert ask("skip", store, 1, 9, "--reason", "by hand", "--json")[0] == 0
    assert json.loads(ask("show", store, 1, "--json")[1])["steps"][1]["skipped"] == 1
    ask("pause", store, 1)
    said = ask("retry", store, 1)[1]
    assert "stays PAUSED: nbbatch resume" in said
    assert "nothing of instance 1 had FAILED" in said
    assert ask("cancel", store, 1, "--json") == (0, '{"id":1,"status":"CANCELLED"}\n')
    assert ask("pause", store, 1)[0] == 1
    assert ask("purge", store, "--older-than", "1 h", "--json") == (0, '{"purged":0}\n')
    assert ask("purge", store, "--older-than", 0) == (0, "1 instance purged\n")
    assert owned.process.poll() is None


def test_orders_are_carried_out_here_where_nobody_holds_the_store(ask: Ask, store: Path) -> None:
    with nb.open(store) as batch:
        batch.submit(job, 3, new=True).pause()
    assert ask("cancel", store, 1, "--json") == (0, '{"id":1,"status":"CANCELLED"}\n')
    assert ask("cancel", store, 1)[0] == 0
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(job, 2, new=True).wait()
    for order in ("cancel", "pause"):
        code, said = ask(order, store, 2)
        assert (code, "COMPLETED" in said) == (1, True)


def test_a_paused_run_goes_on_here_to_its_end(ask: Ask, store: Path) -> None:
    with nb.open(store) as batch:
        batch.submit(job, 3).pause()
    assert ask("run", "tests.looked:job", store, "--count", 3)[0] == 4
    assert ask("resume", store, 1)[0] == 2
    code, said = ask("resume", store, 1, "--job", "tests.looked:job", "--json")
    assert (code, object_in(said)["status"]) == (0, "COMPLETED")


def test_what_has_ended_is_purged_but_for_the_last(ask: Ask, store: Path) -> None:
    with nb.open(store, executor=nb.inline()) as batch:
        for _ in range(4):
            batch.submit(job, 2, new=True).wait()
    assert ask("purge", store, "--older-than", "30d", "--keep-last", 3, "--json") == (0, '{"purged":0}\n')
    assert ask("purge", store, "--keep-last", 3, "--json") == (0, '{"purged":1}\n')
    assert ask("purge", store, "--older-than", 0, "--job", "other", "--json") == (0, '{"purged":0}\n')
    assert ask("purge", store, "--older-than", 0, "--dry-run", "--json") == (0, '{"would_purge":[2,3,4]}\n')
    assert ask("purge", store, "--older-than", 0, "--status", "completed")[0] == 0
    assert ask("ls", store, "--json") == (0, "[]\n")


def test_a_backup_is_a_store_and_takes_the_place_of_nothing(ask: Ask, store: Path) -> None:
    done(store)
    code, said = ask("backup", store, "copy.duckdb", "--json")
    assert (code, json.loads(said)) == (0, {"path": str(Path("copy.duckdb").resolve())})
    assert ask("backup", store, "copy.duckdb")[0] == 1
    assert ask("backup", store, "copy.duckdb", "--overwrite")[0] == 0
    assert json.loads(ask("ls", "copy.duckdb", "--json")[1])[0]["status"] == "COMPLETED"


def test_frames_are_exported_whole_however_they_are_read(
    ask: Ask, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(store)
    monkeypatch.setattr(steering, "PAGE_ROWS", 10)
    code, said = ask("export", store, 1, "out", "--json")
    assert (code, len(json.loads(said))) == (0, len(steering.FRAMES))
    assert pl.read_parquet("out/chunks.parquet")["id"].to_list() == [*range(1, 42)]
    assert ask("export", store, 1, "out", "--format", "csv", "--frame", "errors")[0] == 0
    assert pl.read_csv("out/errors.csv")["error"].to_list() == ["seven is not taken"]
    assert not [each for each in Path("out").iterdir() if each.name.startswith(".")]


def test_runs_that_nobody_works_on_are_told(ask: Ask, store: Path) -> None:
    done(store)
    assert "nobody works" not in ask("ls", store)[1]
    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(cast("Any", job), 3, new=True).pause()
        assert "nobody works" not in ask("ls", store)[1]

    for place in (store, store.parent):
        said = ask("ls", place)[1]
        assert "nobody works on 1 unfinished instance" in said
        assert f"nbbatch resume {store} 2 --job MODULE:JOB" in said


def test_what_is_reused_is_chosen_at_the_command(ask: Ask) -> None:
    words = ("run", "shop:Shop.orders", "new.duckdb", "--day", "2026-01-02", "--new")
    steps = []
    for more in (("--reuse",), ("--reuse",), ("--no-reuse",)):
        code, said = ask(*words, *more, "--json")
        assert code == 0, said
        rows = object_in(ask("show", "new.duckdb", len(steps) + 1, "--json")[1])["steps"]
        steps.append(sum(row["reused"] for row in rows))

    assert steps == [0, 4, 0]


def test_a_long_report_is_shown_in_lines() -> None:
    lines = seeing.report(
        {"bad": [f"line {number} of this file is no good" for number in range(9)], "good": 3}
    ).splitlines()

    assert len(lines) > 3
    assert max(map(len, lines)) <= seeing.WIDE
    assert seeing.report({"a": [1, 2]}) == "{'a': [1, 2]}"
    assert seeing.report("a" * 200) == repr("a" * 200)


def test_values_are_exported_as_json_lines_and_frames_in_them_as_rows(ask: Ask, store: Path) -> None:
    @nb.step(name="a/b é")
    def table(number: int) -> pd.DataFrame:
        return pd.DataFrame({"n": [number, 2 * number]})

    @nb.step
    def whole(tables: Iterable[pd.DataFrame]) -> dict[str, pd.DataFrame]:
        return {"all": pd.concat(tables)}

    @nb.step
    def numbers(count: int) -> Iterator[int]:
        yield from range(1, count)

    with nb.open(store, executor=nb.inline()) as batch:
        batch.submit(nb.Job("tables", numbers >> table >> whole), 3).wait()
    code, said = ask("export", store, 1, "out", "--values", "--frame", "steps", "--json")
    names = [Path(each).name for each in json.loads(said)]
    assert (code, names) == (
        0,
        ["steps.parquet", "outputs-0-numbers.jsonl", "outputs-1-a_b_é.jsonl", "outputs-2-whole.jsonl"],
    )
    assert Path("out/outputs-0-numbers.jsonl").read_text() == "1\n2\n"
    assert Path("out/outputs-1-a_b_é.jsonl").read_text() == '[{"n":1},{"n":2}]\n[{"n":2},{"n":4}]\n'
    assert Path("out/outputs-2-whole.jsonl").read_text() == '{"all":[{"n":1},{"n":2},{"n":2},{"n":4}]}\n'

"""The FHIR import of notebook 01, held to its laws on the generated sample and, where NBBATCH_FHIR_DATA is set, on real data.

What is tested is the notebook itself: its cells tagged ``job`` are executed here and in the processes that get killed.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

import nbbatch as nb

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PAGE_LINES = 50
KILLS = 5
SEED = 7


def load(name: str) -> ModuleType:
    """A script beside the notebooks, as a module."""
    spec = importlib.util.spec_from_file_location(f"notebooks_{name}", NOTEBOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_sample = load("make_sample").write_sample
run_import = load("run_import")
JOB: dict[str, Any] = run_import.job_cells()


def real_export() -> Path:
    named = os.environ.get("NBBATCH_FHIR_DATA")
    if not named:
        pytest.skip("NBBATCH_FHIR_DATA is not set")
    folder = Path(named)
    if not any(folder.glob("*.ndjson")):
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing(f"NBBATCH_FHIR_DATA={named} holds no *.ndjson")
    return folder.resolve()


def import_into(out: Path, folder: Path, **options: int) -> tuple[Any, nb.JobHandle[Any]]:
    """The manifest, and the run in a closed batch's place: an open one, closed when the process ends."""
    batch = nb.open(out / "fhir.duckdb")
    run = batch.submit(JOB["fhir_import"], JOB["Params"](folder=folder, out=out, page_lines=PAGE_LINES, **options))
    return run.result(timeout=120), run


@dataclass(frozen=True)
class Import:
    """An undisturbed import."""

    folder: Path
    out: Path
    manifest: Any
    run: nb.JobHandle[Any]

    def rows(self) -> pl.DataFrame:
        frames = [
            pl.read_parquet(self.out / part.path, glob=False).with_columns(type=pl.lit(kind.type))
            for kind in self.manifest.types for part in kind.parts
        ]  # fmt: skip
        return pl.concat(frames)


@pytest.fixture(scope="module", params=["sample", "real"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Import]:
    if request.param == "real":
        folder = real_export()
    else:
        folder = tmp_path_factory.mktemp("export")
        write_sample(folder)
    out = tmp_path_factory.mktemp("out")
    manifest, run = import_into(out, folder)
    yield Import(folder, out, manifest, run)
    run.batch.close()


def good_resources(folder: Path) -> Counter[tuple[str, str]]:
    """Type and id of every importable line, read by other means than the job's."""
    found: Counter[tuple[str, str]] = Counter()
    for path in folder.glob("*.ndjson"):
        for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            try:
                content = json.loads(line)
                kind, name = content["resourceType"], content["id"]
            except (ValueError, KeyError, TypeError):
                continue
            if kind.isalpha():
                found[kind, name] += 1
    return found


# --- every line ----------------------------------------------------------------------------------


def test_line_counts_equal_those_of_wc(done: Import) -> None:
    counted = {path.name: path.read_bytes().count(b"\n") for path in done.folder.glob("*.ndjson")}

    assert {source.file: source.lines for source in done.manifest.sources} == counted


def test_every_line_is_a_resource_or_blank_or_bad(done: Import) -> None:
    for source in done.manifest.sources:
        assert source.lines + source.unterminated == source.resources + source.blank + source.bad, source.file
        content = (done.folder / source.file).read_bytes()
        assert source.unterminated == (content[-1:] not in {b"", b"\n"}), source.file


def test_every_resource_id_is_in_the_parquet_files_as_often_as_it_was_sent(done: Import) -> None:
    imported = Counter(done.rows().select("type", "id").iter_rows())
    sent_again = {key: times for key, times in imported.items() if times > 1}

    assert imported == good_resources(done.folder)
    assert {(d.type, d.id): len(d.places) for d in done.manifest.duplicates} == sent_again
    assert len(sent_again) == (1 if done.manifest.bad else 0)  # one in the sample, none in the real export


def test_every_row_holds_its_line_as_it_came(done: Import) -> None:
    for (name,), rows in done.rows().group_by("file"):
        lines = (done.folder / str(name)).read_bytes().decode("utf-8-sig", errors="replace").split("\n")
        for line, raw in rows.select("line", "raw").iter_rows():
            assert lines[line - 1].removesuffix("\r") == raw


def test_checksums_are_those_of_the_files_and_every_file_is_listed(done: Import) -> None:
    listed = {part.path: part.sha256 for kind in done.manifest.types for part in kind.parts}
    there = {
        path.relative_to(done.out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in done.out.rglob("*") if path.parent != done.out and path.is_file()
    }  # fmt: skip

    assert listed == there


def test_the_manifest_file_is_the_report_and_names_no_place_of_this_machine(done: Import) -> None:
    text = (done.out / "manifest.json").read_text()

    assert json.loads(text) == done.manifest.model_dump()
    assert str(done.out) not in text
    assert str(done.folder) not in text


# --- again and again -----------------------------------------------------------------------------


def test_importing_again_over_the_same_files_changes_no_byte(done: Import) -> None:
    before = {path: path.read_bytes() for path in done.out.rglob("*.*") if path.suffix in {".parquet", ".json"}}
    for path in before:
        if path.suffix == ".parquet":
            path.write_bytes(b"as a crash may leave it")

    done.run.batch.submit(JOB["fhir_import"], done.run.params, new=True).result(timeout=120)

    assert {path: path.read_bytes() for path in before} == before


def test_killed_five_times_and_run_again_it_writes_the_same_manifest(done: Import, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    page_lines = 50 if len(done.rows()) > 1_000 else 4  # pages enough to be killed in the middle of five times
    undisturbed = tmp_path / "undisturbed"
    assert child(done.folder, undisturbed, page_lines) == 0

    out = tmp_path / "killed"
    for kill in range(KILLS):
        assert child(done.folder, out, page_lines, kill_after=rng.randint(1, 12)) == -9, (
            f"kill {kill + 1} came too late"
        )
        assert not (out / "manifest.json").exists()

    assert child(done.folder, out, page_lines) == 0
    assert (out / "manifest.json").read_bytes() == (undisturbed / "manifest.json").read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    for part in (part for kind in manifest["types"] for part in kind["parts"]):
        assert hashlib.sha256((out / part["path"]).read_bytes()).hexdigest() == part["sha256"]


def child(folder: Path, out: Path, page_lines: int, kill_after: int | None = None) -> int:
    """Import in a process of its own, killed from outside when it has logged so many pages; its exit code."""
    script = str(NOTEBOOKS / "run_import.py")
    command = [sys.executable, script, str(folder), str(out), "--page-lines", str(page_lines)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for page, _ in enumerate(process.stdout, 1):
            if page == kill_after:
                process.kill()
                break
    return process.returncode


# --- bad lines -----------------------------------------------------------------------------------


def test_each_kind_of_bad_line_is_reported_with_file_and_line_and_fails_nothing(tmp_path: Path) -> None:
    expected = write_sample(tmp_path / "export", huge=True)
    manifest, run = import_into(tmp_path, tmp_path / "export")

    with run.batch:
        told = run.logs("flatten").filter(pl.col("kind") == "recovered")["text"].to_list()
        assert [(bad.file, bad.line) for bad in manifest.bad] == [(bad.file, bad.line) for bad in expected]
        assert sorted(told) == sorted(f"BadLine: {bad.file}:{bad.line}: {bad.reason}" for bad in manifest.bad)
        assert run.errors().is_empty()
        assert run.chunks(status="COMPLETED").height == run.chunks().height
    reasons = {bad.kind: found.reason for bad, found in zip(expected, manifest.bad, strict=True)}
    words = {
        "broken JSON": "Invalid JSON", "no resourceType": "resourceType: Field required", "no id": "id: Field required",
        "odd resourceType": "resourceType: String should match", "not an object": "should be an object",
        "wrong UTF-8": "not UTF-8", "empty file": "the file is empty", "huge line": "over the limit",
    }  # fmt: skip
    assert reasons.keys() == words.keys()
    for kind, text in words.items():
        assert text in reasons[kind]


def test_a_huge_line_under_the_limit_is_imported_from_a_page_of_its_own(tmp_path: Path) -> None:
    write_sample(tmp_path / "export", huge=True)
    manifest, run = import_into(tmp_path, tmp_path / "export", line_bytes=20_000_000)

    with run.batch:
        sizes = [
            (page.newlines, page.size > 10_000_000) for page in run.outputs("pages") if page.file.startswith("Doc")
        ]
    assert sizes == [(1, False), (1, True), (1, False)]
    assert [source.resources for source in manifest.sources if source.file.startswith("Doc")] == [3]


def test_reasons_quote_nothing_of_the_line() -> None:
    secret = "Erika Mustermann"
    spoiled = [
        {"resourceType": secret, "id": "1"},
        {"resourceType": "Patient", "id": {"name": secret}},
        {"resourceType": "Patient", "id": "1", "status": [secret]},
        {"resourceType": "Observation", "id": "1", "code": {"coding": [{"code": [secret]}]}},
        [secret],
    ]
    lines = [json.dumps(content).encode() for content in spoiled] + [
        f'{{"name": "{secret}'.encode(),
        f"{secret}ß".encode("latin-1"),
    ]

    for line in lines:
        with pytest.raises(JOB["BadLine"]) as caught:
            JOB["parse"](line)
        assert "Erika" not in str(caught.value)


@pytest.mark.parametrize("kind", ["../../x", "/etc", "Patient/..", "Patient\n", "", "Pätient", "C:"])
def test_a_resource_type_that_is_no_plain_name_is_a_bad_line(kind: str) -> None:
    with pytest.raises(JOB["BadLine"], match="resourceType"):
        JOB["parse"](json.dumps({"resourceType": kind, "id": "1"}).encode())


# --- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a", b"a\n", b"a\nb", b"\n\n\na\r\nbb\n" * 9, b"x" * 50 + b"\ny\n" + b"z" * 50]
)
@pytest.mark.parametrize(("page_lines", "page_bytes"), [(1, 1_000), (3, 1_000), (100, 10), (100, 1_000)])
def test_pages_cover_a_file_without_gap_or_overlap(
    tmp_path: Path, content: bytes, page_lines: int, page_bytes: int
) -> None:
    (tmp_path / "x.ndjson").write_bytes(content)
    params = JOB["Params"](folder=tmp_path, out=tmp_path, page_lines=page_lines, page_bytes=page_bytes)

    found = list(JOB["pages"](JOB["File"](name="x.ndjson"), params))

    assert b"".join(content[page.offset : page.offset + page.size] for page in found) == content
    assert sum(page.newlines for page in found) == content.count(b"\n")
    for page in found:
        assert page.first_line == content[: page.offset].count(b"\n") + 1
        assert page.newlines <= page_lines
        assert page.size <= page_bytes or page.newlines <= 1


def test_a_line_is_measured_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345678\n\n123")

    with (tmp_path / "x").open("rb") as stream:
        assert list(JOB["line_sizes"](stream, piece=4)) == [(9, True), (1, True), (3, False)]


# --- the files beside the notebook ---------------------------------------------------------------


def test_the_sample_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    assert write_sample(tmp_path / "a") == write_sample(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_notebooks_are_stored_stripped() -> None:
    pytest.importorskip("nbformat")
    strip_file = load("strip").strip_file
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        before = notebook.read_bytes()
        changed = strip_file(notebook)
        notebook.write_bytes(before)
        assert not changed, f"run notebooks/strip.py {notebook.name}"


# --- the whole notebook on exports of all kinds -----------------------------------------------------


def patient(name: str) -> bytes:
    return json.dumps({"resourceType": "Patient", "id": name}).encode()


EXPORTS: dict[str, tuple[dict[str, bytes], int]] = {
    "no Condition": (
        {"Patient.ndjson": patient("a") + b"\n", "Device.ndjson": b'{"resourceType": "Device", "id": "d"}\n'},
        2,
    ),
    "one type only": ({"Patient.000.ndjson": b"\n".join(map(patient, "abc"))}, 3),
    "nothing": ({}, 0),
    "other files only": ({"LICENSE": b"free", "a.json": b"{}"}, 0),
    "an empty file": ({"Patient.ndjson": b""}, 0),
    "compressed": (
        {"Patient.ndjson.gz": gzip.compress(b"\n".join(map(patient, "ab"))), "Patient.ndjson": patient("c")},
        3,
    ),
    "folders": (
        {"Patient.ndjson": patient("a"), "x/Patient.ndjson": patient("b"), "x/y/Patient.ndjson": patient("c")},
        3,
    ),
    "numbers first": ({"1.Patient.ndjson": patient("a"), "2.Patient.ndjson": patient("b")}, 2),
    "percent and capitals": ({"a%2Fb.NDJSON": patient("a"), "a/b.ndjson": patient("b"), "ä ö.ndjson": patient("c")}, 3),
    "Windows": ({"Patient.ndjson": b"\xef\xbb\xbf" + patient("a") + b"\r\n\r\n" + patient("b") + b"\r\n"}, 2),
    "bad lines only": ({"Patient.ndjson": b"{}\nno JSON\n"}, 0),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_the_notebook_runs_to_its_end_on_every_export(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, resources = EXPORTS[kind]
    folder = tmp_path / "export"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.setenv("NBBATCH_FHIR_DATA", str(folder))
    monkeypatch.setenv("NBBATCH_DEMO_DIR", str(tmp_path / "demo"))
    monkeypatch.syspath_prepend(NOTEBOOKS)
    report = executed()["report"]

    assert report.resources == resources
    parts = [part.path for each in report.types for part in each.parts]
    assert len(set(parts)) == len(parts)
    assert ("there is no *.ndjson" in capsys.readouterr().out) == (kind in ("nothing", "other files only"))


def executed() -> dict[str, Any]:
    """The names that the notebook's cells define, up to where it kills processes; the batch is closed."""
    cells = json.loads((NOTEBOOKS / "01-fhir-bulk-import.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for cell in cells:
            source = "".join(cell["source"])
            if source.startswith("## Kill it"):
                break
            if cell["cell_type"] == "code":
                exec(compile(source, "<cell>", "exec", dont_inherit=True), names)
    finally:
        if "batch" in names:
            names["batch"].close()
    return names


def test_the_demo_says_plainly_where_there_is_no_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "run_demo.py"], capture_output=True, text=True,
        env={**os.environ, "NBBATCH_FHIR_DATA": str(tmp_path / "nowhere"), "NBBATCH_DEMO_DIR": str(tmp_path)},
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == f"NBBATCH_FHIR_DATA names {tmp_path / 'nowhere'}, which is no folder\n"

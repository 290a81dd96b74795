"""Exports: written for the user alone and through no link, read within limits, shown without characters that act."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.heal import export
from tests.jobs import one_step

LIVE = "\u202e\u2066\u2069\x1b\u200b"


def failed(batch: nb.Batch) -> nb.ChunkHandle:
    @nb.step(max_attempts=1)
    def fail(n: int) -> None:
        raise ValueError(f"boom \ud800 {LIVE}")

    run = batch.submit(nb.Job("fail", fail), 1)
    run.wait(10)
    return run.chunk(1)


def changed(path: Path, new: Path, **parts: bytes) -> Path:
    """The export with other content in some parts."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as file:
        for name in old.namelist():
            file.writestr(name, parts.get(name.partition(".")[0], old.read(name)))
    return new


def test_an_export_is_for_the_user_alone_and_follows_no_link(inline: nb.Batch, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    path = tmp_path / "bug.zip"
    for name in ("bug.zip", "bug.zip.part"):
        (tmp_path / name).symlink_to(mine)

    failed(inline).export(path)

    assert mine.read_text() == "precious"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert nb.load_failure(path).about["step"] == "fail"


def test_the_readme_says_exactly_what_an_export_contains(batch: nb.Batch, tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"An export is a zip of .*?\n\n", readme, re.DOTALL)
    with zipfile.ZipFile(failed(batch).export(tmp_path / "bug.zip")) as file:
        names, about = file.namelist(), json.loads(file.read("failure.json"))

    assert re.findall(r"`([\w.]+)`", said) == names
    assert f"of {('one', 'two', 'three', 'four', 'five', 'six')[len(names) - 1]} parts" in said
    assert all(each in said for each in about["packages"])
    known = {
        "job",
        "version",
        "instance",
        "chunk",
        "step",
        "index",
        "status",
        "attempts",
        "media",
        "error_type",
        "error",
        "format",
    }
    assert about.keys() == known | {"python", "platform", "packages"}  # what the README sums up; add to it what is new


def test_an_export_that_fails_leaves_what_was_there(
    inline: nb.Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bug.zip"
    path.write_text("the one before")
    chunk = failed(inline)
    monkeypatch.setattr(export, "versions", lambda: {object(): "unknown"})

    with pytest.raises(TypeError):
        chunk.export(path)
    assert path.read_text() == "the one before"
    assert not list(tmp_path.glob("*.part"))


def test_an_export_that_unpacks_to_too_much_is_refused_unread(inline: nb.Batch, tmp_path: Path) -> None:
    good = failed(inline).export(tmp_path / "good.zip")
    third = bytes(export.MAX_TEXT_BYTES // 3 + 1)

    for parts in ({"code": third, "traceback": third, "log": third}, {"input": bytes(export.MAX_BYTES + 1)}):
        bomb = changed(good, tmp_path / "bomb.zip", **parts)
        assert bomb.stat().st_size < 1_000_000
        with pytest.raises(nb.StoreUnreadable, match="unpacks to more"):
            nb.load_failure(bomb)


def test_the_code_of_an_export_leaves_no_module(inline: nb.Batch, tmp_path: Path) -> None:
    loaded = nb.load_failure(failed(inline).export(tmp_path / "bug.zip"))
    before = set(sys.modules)

    assert isinstance(loaded.replay(run_code=True).error, ValueError)
    assert {name for name in set(sys.modules) - before if getattr(sys.modules[name], "__spec__", None) is None} == set()


def test_characters_that_act_are_shown_as_marks(inline: nb.Batch, tmp_path: Path) -> None:
    chunk = failed(inline)
    good = chunk.export(tmp_path / "good.zip")
    loaded = nb.load_failure(changed(good, tmp_path / "odd.zip", code=f"# {LIVE} admin\n".encode(), log=LIVE.encode()))
    preview = one_step(lambda _: 1 / 0).preview(1)

    for shown in (loaded, chunk.replay(), preview, chunk.run.job.preview(1)):
        for text in (repr(shown), shown._repr_html_()):
            assert not set(text) & set(LIVE)
            text.encode()

"""Files as values: equal when their content is, and a changed one is another input."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import nbbatch as nb
from nbbatch.values.codec import codec_for
from nbbatch.values.files import content, look
from nbbatch.values.outside import SharedFolder, content_of
from nbbatch.values.parameters import ParamsCodec

LONG_AGO_NS = 1_700_000_000_123_456_789
"""A time of change that is surely not that of the next one."""


def written(path: Path, text: str, mtime_ns: int = LONG_AGO_NS) -> Path:
    path.write_text(text)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


class Source(BaseModel):
    file: nb.File
    page: int = 1


@dataclass
class Export:
    files: list[nb.File]


class TestEquality:
    def test_a_file_is_equal_when_name_and_content_are(self, tmp_path: Path) -> None:
        (tmp_path / "copy").mkdir()
        file = nb.File(written(tmp_path / "a.csv", "1"))
        copied = nb.File(written(tmp_path / "copy" / "a.csv", "1", LONG_AGO_NS + 5))
        changed = nb.File(written(tmp_path / "copy" / "a.csv", "2"))
        renamed = nb.File(written(tmp_path / "b.csv", "1"))

        assert file == copied
        assert hash(file) == hash(copied)
        assert file not in (changed, renamed, "a.csv")

    def test_files_of_a_folder_are_named_within_it(self, tmp_path: Path) -> None:
        for folder in ("monday", "tuesday"):
            (tmp_path / folder / "lyon").mkdir(parents=True)
            written(tmp_path / folder / "lyon" / "a.csv", "1")
            written(tmp_path / folder / "b.csv", "2")
        (tmp_path / "monday" / "lyon" / "notes.txt").touch()

        found = nb.files(tmp_path / "monday", "**/*.csv")

        assert [each.name for each in found] == ["b.csv", "lyon/a.csv"]
        assert found == nb.files(tmp_path / "tuesday", "**/*.csv")
        assert nb.files(tmp_path / "monday", "*.parquet") == []
        assert nb.File(tmp_path / "monday" / "lyon" / "a.csv", folder=tmp_path / "monday") == found[1]

    def test_what_was_read_is_read_again_only_where_it_looks_different(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", "1")
        file = nb.File(path)

        written(path, "2")
        assert file.check() is file  # the quick look: size and time are the same

        os.utime(path, ns=(1, 1))
        with pytest.raises(nb.FileChanged, match=r"a\.csv is not the file"):
            file.check()

    def test_a_file_that_was_only_touched_is_the_same(self, tmp_path: Path) -> None:
        file = nb.File(written(tmp_path / "a.csv", "1"))
        os.utime(file.path, ns=(1, 1))

        assert file.check() is file
        assert file.renew() == file
        assert file.renew().mtime_ns == 1

    def test_what_is_written_in_the_moment_of_the_look_is_not_missed(self, tmp_path: Path) -> None:
        ahead_ns = 4_000_000_000_000_000_000
        file = nb.File(written(tmp_path / "a.csv", "1", ahead_ns))
        written(tmp_path / "a.csv", "2", ahead_ns)

        with pytest.raises(nb.FileChanged):
            file.check()

    def test_what_was_read_in_this_process_is_not_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = nb.File(written(tmp_path / "a.csv", "1"))
        monkeypatch.setattr(hashlib, "file_digest", None)

        assert nb.File(file.path) == file.renew() == nb.files(tmp_path)[0] == file

    def test_a_file_that_is_being_written_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = written(tmp_path / "a.csv", "1")

        def growing(*given: Any) -> Any:
            with path.open("a") as file:
                file.write("more")
            return digest(*given)

        digest = hashlib.file_digest
        monkeypatch.setattr(hashlib, "file_digest", growing)

        with pytest.raises(nb.FileChanged, match="is being written"):
            look(str(path))


class TestUse:
    def test_a_file_stands_where_a_path_does(self, tmp_path: Path) -> None:
        file = nb.File(str(written(tmp_path / "a.csv", "é\n")))

        assert os.fspath(file) == str(file) == str(tmp_path / "a.csv")
        assert file.path == tmp_path / "a.csv"
        assert (file.read_text(encoding="utf-8"), file.read_bytes(), file.size) == ("é\n", "é\n".encode(), 3)
        with open(file, "rb") as one, file.open("rb") as other:  # noqa: PTH123 - that is the law
            assert one.read() == other.read()

    def test_a_changed_file_is_not_opened(self, tmp_path: Path) -> None:
        file = nb.File(written(tmp_path / "a.csv", "1"))
        written(file.path, "22")

        for read in (file.open, file.read_text, file.read_bytes, lambda: os.fspath(file)):
            with pytest.raises(nb.FileChanged, match=r"had 1 bytes .* and has 2 now"):
                read()

    def test_a_file_is_not_written_through_its_value(self, tmp_path: Path) -> None:
        file = nb.File(written(tmp_path / "a.csv", "1"))

        for mode in ("w", "ab", "r+", "x"):
            with pytest.raises(ValueError, match="by its path"):
                file.open(mode)
        assert file.read_text() == "1"

    def test_pickled_it_is_equal_and_looks_at_nothing(self, tmp_path: Path) -> None:
        file = nb.File(written(tmp_path / "a.csv", "1"))
        file.path.unlink()
        copied = pickle.loads(pickle.dumps(file))

        assert copied == file
        assert repr(copied) == repr(file) == f"<File {tmp_path / 'a.csv'} · 1 bytes · {file.digest[:8]}>"

    @pytest.mark.parametrize(
        ("name", "why"), [("none.csv", "No such file"), (".", "nb.files"), ("pipe", "no plain file")]
    )
    def test_what_is_no_file_is_refused_by_name(self, tmp_path: Path, name: str, why: str) -> None:
        os.mkfifo(tmp_path / "pipe")
        path = tmp_path / name

        with pytest.raises(OSError, match=why) as refused:
            nb.File(path)
        with pytest.raises(ValidationError, match=f"{path}: .*{why}"):
            Source.model_validate({"file": str(path)})
        assert str(path) in str(refused.value)


class TestStored:
    @pytest.mark.parametrize("kind", [nb.File, Source, Export, dict[str, nb.File], list[nb.File | None]])
    def test_it_comes_back_equal_with_its_times(self, tmp_path: Path, kind: type) -> None:
        file = nb.File(written(tmp_path / "a.csv", "1"))
        values = {nb.File: file, Source: Source(file=file), Export: Export([file]), dict[str, nb.File]: {"a": file}}
        codec, value = codec_for(kind), values.get(kind, [file, None])
        file.path.unlink()  # to be read, it need not be there

        back = codec.decode(codec.encode(value))

        assert back == value
        assert codec.encode(back) == codec.encode(value)

    def test_a_model_has_it_in_its_json(self, tmp_path: Path) -> None:
        source = Source.model_validate({"file": str(written(tmp_path / "a.csv", "1"))})
        text = source.model_dump_json()

        assert Source.model_validate_json(text).file.digest == source.file.digest
        assert source.model_dump(mode="json")["file"] == {
            "path": str(tmp_path / "a.csv"), "name": "a.csv", "digest": source.file.digest, "size": 1, "mtime_ns": LONG_AGO_NS,
            "settled": True,
        }  # fmt: skip
        with pytest.raises(ValidationError, match="has path, name"):
            Source.model_validate({"file": {"path": "/etc/passwd"}})

    def test_neither_place_nor_time_of_a_file_counts(self, tmp_path: Path) -> None:
        (tmp_path / "copy").mkdir()
        one = Source(file=nb.File(written(tmp_path / "a.csv", "1")))
        same = Source(file=nb.File(written(tmp_path / "copy" / "a.csv", "1", LONG_AGO_NS + 5)))
        other = Source(file=nb.File(written(tmp_path / "a.csv", "2", LONG_AGO_NS + 9)))
        params, codec = ParamsCodec(Source), codec_for(Source)

        assert params.identity(one) == params.identity(same) != params.identity(other)
        assert content(codec.encode(one)) == content(codec.encode(same)) != content(codec.encode(other))

    def test_nor_do_they_in_a_value_that_lies_in_a_shared_folder(self, tmp_path: Path) -> None:
        folder, codec = SharedFolder(str(tmp_path / "values"), "ab12cd34"), codec_for(list[nb.File])
        (tmp_path / "values").mkdir()
        file = nb.File(written(tmp_path / "a.csv", "1"))
        data = codec.encode([file] * 3_000)
        os.utime(file.path, ns=(1, 1))
        later = codec.encode([file.renew()] * 3_000)
        other = codec.encode([file] * 3_001)

        kept = [content_of(folder.put(1, each)) for each in (data, later, other)]

        assert kept[0] == kept[1] != kept[2]
        assert kept == [content_of(each) for each in (data, later, other)]


# --- in runs --------------------------------------------------------------------------------------


@nb.step
def each_file(folder: Path) -> Iterator[nb.File]:
    yield from nb.files(folder)


@nb.step(max_attempts=1)
def count(file: nb.File) -> int:
    return int(file.read_text())


@nb.step
def total(counts: Iterable[int]) -> int:
    return sum(counts)


def ended(run: nb.JobHandle[int]) -> nb.JobHandle[int]:
    run.wait()
    return run


job = nb.Job("files", each_file >> count >> total)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    written(folder / "a.txt", "1")
    written(folder / "b.txt", "two")
    return folder


def test_a_file_that_was_mended_is_another_input_in_a_retry(batch: nb.Batch, folder: Path) -> None:
    run = ended(batch.submit(job, folder))
    before = nb.files(folder)
    written(folder / "b.txt", "20")
    run.retry(quiet=True)

    assert run.result() == 21
    assert list(run.inputs("count")) == nb.files(folder) != before


def test_a_file_that_was_changed_is_another_input_in_a_rerun(batch: nb.Batch, folder: Path) -> None:
    written(folder / "b.txt", "2")
    run = batch.submit(job, folder)
    assert run.result() == 3
    written(folder / "b.txt", "20")

    assert run.rerun(step="count", quiet=True).result() == 21


def test_a_file_that_changes_before_its_step_fails_its_chunk_by_name(batch: nb.Batch, folder: Path) -> None:
    written(folder / "b.txt", "2")

    @nb.step
    def name(folder: Path) -> Iterator[nb.File]:
        yield from nb.files(folder)
        written(folder / "b.txt", "20")

    run = ended(batch.submit(nb.Job("late", name >> count >> total), folder))

    (error,) = run.errors()["error"]
    assert "b.txt is not the file that was given any more" in error
    assert run.errors()["attempt"].to_list() == [1]
    assert run.retry(quiet=True).result() == 21


@pytest.mark.parametrize("many", [False, True])
def test_a_file_that_changes_under_its_step_fails_its_chunk(batch: nb.Batch, folder: Path, *, many: bool) -> None:
    @nb.step
    def one(file: nb.File) -> int:
        found = len(file.read_text())
        written(file.path, "changed")
        return found

    @nb.step
    def several(file: nb.File) -> Iterator[int]:
        yield len(file.read_text())
        written(file.path, "changed")

    run = ended(batch.submit(nb.Job("under", each_file >> (several if many else one) >> total), folder))

    assert run.errors()["error_type"].to_list() == ["nbbatch.FileChanged"] * 2


def test_a_file_among_the_parameters_is_looked_at_too(batch: nb.Batch, folder: Path) -> None:
    @nb.step
    def read(source: Source) -> int:
        return int(source.file.read_text())

    single = nb.Job("single", read >> total)
    assert batch.submit(single, {"file": str(folder / "a.txt")}).result() == 1
    given = Source(file=nb.File(folder / "a.txt"))
    written(folder / "a.txt", "10")

    run = ended(batch.submit(single, given, new=True))
    assert run.errors()["error_type"].to_list() == ["nbbatch.FileChanged"]
    assert batch.submit(single, {"file": folder / "a.txt"}).result() == 10
    with pytest.raises(nb.ParameterError, match=r"file: .*none\.txt: No such file"):
        batch.submit(single, {"file": folder / "none.txt"})


def test_a_file_that_is_gone_fails_its_chunk_by_name(batch: nb.Batch, folder: Path) -> None:
    @nb.step
    def remove(folder: Path) -> Iterator[nb.File]:
        yield from nb.files(folder)
        (folder / "b.txt").unlink()

    @nb.step(max_attempts=1)
    def size(file: nb.File) -> int:
        return file.size

    run = ended(batch.submit(nb.Job("gone", remove >> size >> total), folder))

    (error,) = run.errors()["error"]
    assert "No such file" in error
    assert str(folder / "b.txt") in error


def test_looking_at_what_is_stored_asks_for_no_file(batch: nb.Batch, folder: Path) -> None:
    written(folder / "b.txt", "2")
    run = batch.submit(job, folder)
    run.result()
    (folder / "a.txt").unlink()
    chunk = run.chunk(int(run.chunks().filter(step="count")["id"][0]))

    assert chunk.input.name == "a.txt"
    assert "a.txt" in str(run.inputs("count"))


def test_a_file_whose_name_is_no_text_is_refused_by_it(folder: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.csv"))
    try:
        odd.touch()
    except OSError:
        pytest.skip("names are text here")
    for made in (lambda: nb.File(odd), lambda: nb.files(folder)):
        with pytest.raises(ValueError, match=r"name of a file must be text.*dcff"):
            made()

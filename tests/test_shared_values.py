"""Big values in a shared folder: what is stored, what is read, and what is removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import polars as pl
import pytest

import nbbatch as nb
from nbbatch.values import outside
from nbbatch.values.codec import codec_for
from nbbatch.values.outside import Fresh, Reference, SharedFolder
from tests.kit import engine

BIG = outside.SHARED_BYTES


@nb.step
def arrays(sizes: list[int]) -> Iterator[np.ndarray]:
    for size in sizes:
        yield np.full(size, size % 251, dtype=np.uint8)


@nb.step(max_attempts=1)
def turned(array: np.ndarray) -> np.ndarray:
    return array[::-1] + np.uint8(1)


@nb.step
def total(arrays: Iterable[np.ndarray]) -> int:
    return sum(int(each[0]) * len(each) for each in arrays)


JOB = nb.Job("arrays", arrays >> turned >> total)
SIZES = [10, BIG, BIG + 1]
TOTAL = sum((size % 251 + 1) * size for size in SIZES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "values"


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


# --- there and back -------------------------------------------------------------------------------


def test_big_outputs_go_to_the_folder_and_come_back_equal(store: Path, folder: Path) -> None:
    """C63"""
    with nb.open(store, workers=2, values=folder) as batch:
        run = batch.submit(JOB, SIZES)

        assert run.result(30) == TOTAL
        assert len(files(folder)) == 4
        assert [len(each) for each in run.outputs("arrays")] == SIZES
        assert [len(each) for each in run.inputs("total")] == SIZES
        assert {each.stat().st_mode & 0o777 for each in files(folder)} == {0o600}
    with nb.open(store) as batch:  # without values=: they are where they were put
        assert [len(each) for each in batch.instance(1, JOB).outputs("turned")] == SIZES
        assert batch.submit(JOB, [BIG], new=True).result(30)
        assert len(files(folder)) == 4
    assert store.stat().st_size < 2 * 10**7


def test_worker_processes_write_and_read_them(store: Path, folder: Path) -> None:
    """C63"""
    with nb.processes(1) as pool, nb.open(store, executor=pool, values=folder) as batch:
        assert batch.submit(JOB, SIZES).result(60) == TOTAL
        assert len(files(folder)) == 4


def test_a_text_is_a_value_like_any_other(store: Path, folder: Path) -> None:
    @nb.step
    def text(n: int) -> str:
        return "ä" * n

    @nb.step
    def size(given: str) -> int:
        return len(given)

    @nb.step
    def both(sizes: Iterable[int]) -> list[int]:
        return list(sizes)

    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        assert batch.submit(nb.Job("texts", text >> size >> both), BIG).result() == [BIG]
        assert len(files(folder)) == 1


def test_a_big_frame_writes_itself_to_the_file_that_its_bytes_would_be(folder: Path) -> None:
    codec, shared = codec_for(pl.DataFrame), SharedFolder(str(folder), "ab12cd34")
    frame = pl.concat([pl.DataFrame({"a": np.random.default_rng(n).random(20_000)}) for n in (1, 2)], rechunk=False)
    folder.mkdir()
    encoded = shared.keeping(1, codec.encode, codec.pouring)(frame)  # there is no folder of the instance yet
    (path,) = files(folder)
    path.unlink()
    poured = shared.keeping(1, pytest.fail, codec.pouring)(frame)

    assert poured == encoded
    assert [(each, each.stat().st_mode & 0o777) for each in files(folder)] == [(path, 0o600)]
    assert path.read_bytes() == codec.encode(frame)
    assert codec.decode(poured).equals(frame)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"a": np.zeros(100_000)}),  # gets smaller
        pl.DataFrame({"a": np.random.default_rng(1).random(1_000)}),
        pl.DataFrame({"a": [object()] * 100_000}, schema={"a": pl.Object}),
    ],
)
def test_other_frames_are_encoded_first(frame: pl.DataFrame) -> None:
    assert codec_for(pl.DataFrame).pouring(frame) is None


def test_a_frame_that_cannot_write_itself_is_encoded_and_a_file_that_cannot_be_placed_is_said(folder: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    shared = SharedFolder(str(folder), "ab12cd34")
    (folder / "ab12cd34" / "1").mkdir(parents=True)
    made = Reference.read(shared.keeping(1, lambda _: b"x" * BIG, lambda _: fail)("any"))

    assert files(folder) == [folder / made.name]
    (folder / "ab12cd34" / "1" / sha256(b"y" * BIG).hexdigest() / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        shared.keeping(1, pytest.fail, lambda _: lambda file: file.write(b"y" * BIG))("any")
    assert files(folder) == [folder / made.name]


def test_equal_values_of_an_instance_are_one_file(store: Path, folder: Path) -> None:
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        batch.submit(JOB, [BIG] * 3).result()

        assert len(files(folder)) == 2


def test_a_place_may_be_a_url(store: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with nb.open(store, executor=nb.inline(), values="memory://law/values") as batch:
        run = batch.submit(JOB, SIZES)

        assert run.result() == TOTAL
        assert len(fsspec.filesystem("memory").find("/law/values")) == 4
        batch.purge(older_than=0)
        assert fsspec.filesystem("memory").find("/law/values") == []


def test_no_store_has_a_url_asked_that_this_process_was_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Reference("0" * 64, 5, "memory://somebody", "0" * 16, 1).stored()
    monkeypatch.setattr(outside, "_open", {})
    monkeypatch.setattr(outside, "place_of", lambda root: pytest.fail(f"{root} was asked"))

    with pytest.raises(nb.StoreError, match=r"memory://somebody was not named here.*nb\.open\(values=…\)"):
        codec_for(np.ndarray).decode(made)


@pytest.mark.parametrize(
    "stored",
    [b"@", b"@{}", b'@{"sha256":"../../etc/passwd","bytes":1,"root":"/","store":"00000000","instance":1}'],
)
def test_a_reference_that_nobody_here_wrote_is_refused(stored: bytes) -> None:
    with pytest.raises(nb.StoreError, match="a damaged reference"):
        codec_for(str).decode(stored)


# --- what is not as it was ------------------------------------------------------------------------


@nb.step
def look_at(array: np.ndarray) -> None:
    assert len(array)


def _spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"torn": data[:-9], "longer": data + b"x", "altered": data[:-1] + b"?"}[how])


def test_what_a_worker_has_just_written_is_read_from_its_memory_unless_the_file_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, fresh = SharedFolder(str(tmp_path), "ab12cd34"), Fresh()
    monkeypatch.setattr(outside, "_fresh", fresh)
    fresh.most_bytes = 2 * BIG + 2
    values = [bytes([each]) * BIG for each in range(4)]
    made = [shared.put(1, value) for value in values]
    paths = [tmp_path / Reference.read(each).name for each in made]
    stats = paths[3].stat()
    paths[3].write_bytes(values[0])  # as long, so that only a reader of the file could tell …
    os.utime(paths[3], ns=(stats.st_atime_ns, stats.st_mtime_ns))  # … were its time not that of before

    assert outside.whole(made[3]) == values[3]
    with pytest.raises(nb.StoreError, match="holds something else"):  # it was kept for one reader
        outside.whole(made[3])
    paths[2].unlink()
    with pytest.raises(nb.StoreError, match="No such file"):
        outside.whole(made[2])
    paths[0].write_bytes(b"")
    with pytest.raises(nb.StoreError, match="ends after"):  # two that are newer had no room beside it
        outside.whole(made[0])
    assert outside.whole(made[1]) == values[1]


def test_a_frame_is_read_from_the_file_it_has_just_written_unless_that_was_touched(folder: Path) -> None:
    codec, shared = codec_for(pl.DataFrame), SharedFolder(str(folder), "ab12cd34")
    (folder / "ab12cd34" / "1").mkdir(parents=True)
    keep = shared.keeping(1, codec.encode, codec.pouring)
    frames = [pl.DataFrame({"x": np.random.default_rng(seed).random(BIG // 4)}) for seed in range(4)]
    one, other, third, fourth = (keep(frame) for frame in frames)
    paths = [folder / Reference.read(each).name for each in (one, other, third, fourth)]
    stats = paths[0].stat()
    paths[0].write_bytes(paths[3].read_bytes())
    os.utime(paths[0], ns=(stats.st_atime_ns, stats.st_mtime_ns))  # nobody can tell it from the file that was written
    paths[1].write_bytes(paths[3].read_bytes())
    paths[2].unlink()

    assert codec.decode(one).equals(frames[3])
    with pytest.raises(nb.StoreError, match="holds something else"):  # it is not believed a second time
        codec.decode(one)
    with pytest.raises(nb.StoreError, match="holds something else"):
        codec.decode(other)
    with pytest.raises(nb.StoreError, match="No such file"):
        codec.decode(third)
    assert codec.decode(fourth).equals(frames[3])


def test_what_followed_an_output_that_cannot_be_written_counts_for_nothing(store: Path, folder: Path) -> None:
    @nb.step
    def each(n: int) -> Iterator[int]:
        yield from range(n)

    def made(i: int) -> np.ndarray:
        return np.full(BIG, i, dtype=np.uint8)

    @nb.step(max_attempts=2, backoff=0, max_failed=2)
    def give(i: int) -> np.ndarray:
        return made(i)

    @nb.step
    def look(data: np.ndarray) -> None:
        print(int(data[0]))

    job = nb.Job("gives", each >> give >> look)
    with ThreadPoolExecutor(1) as pool, nb.open(store, nb.executor(pool, workers=1), values=folder) as batch:
        for _ in range(2):  # by then it is known to be quick
            batch.submit(job, 8, new=True).wait(60)
        for i in (1, 6):
            name = sha256(codec_for(np.ndarray).encode(made(i))).hexdigest()
            (folder / engine(batch).leftovers.shared.store / "3" / name / "in the way").mkdir(parents=True)
        run = batch.submit(job, 8, new=True)

        assert run.wait(60) == "COMPLETED"
        assert run.chunks("give", status="FAILED")["seq"].to_list() == [1, 6]
        assert sorted(run.logs()["text"]) == [f"{i}\n" for i in (0, 2, 3, 4, 5, 7)]
        assert run.attempts("look")["status"].to_list() == ["COMPLETED"] * 6
        assert not engine(batch).internal_errors.texts


def test_outputs_that_cannot_be_written_fail_the_chunks_that_gave_them(store: Path, folder: Path) -> None:
    @nb.step
    def each(n: int) -> Iterator[int]:
        yield from range(n)

    def made(i: int) -> np.ndarray:
        return np.full(BIG, i, dtype=np.uint8)

    @nb.step(max_attempts=1, max_failed=2)
    def give(i: int) -> np.ndarray:
        if i < 2:
            nb.context().warn(f"gives {i}")
        return made(i)

    names = [sha256(codec_for(np.ndarray).encode(made(i))).hexdigest() for i in range(4)]
    with nb.processes(1) as pool, nb.open(store, executor=pool, values=folder) as batch:
        for i in (1, 2):
            (folder / engine(batch).leftovers.shared.store / "1" / names[i] / "in the way").mkdir(parents=True)
        run = batch.submit(nb.Job("gives", each >> give >> look_at), 4)

        assert run.wait(60) == "COMPLETED"
        failed = run.chunks("give", status="FAILED")
        assert failed["seq"].to_list() == [1, 2]
        assert failed["error"].str.contains("directory").all()
        assert {path.name for path in files(folder)} == {names[0], names[3]}
        assert len(run.warnings) == 2


@pytest.mark.parametrize(
    ("how", "said"),
    [("missing", "No such file"), ("torn", "ends after"), ("longer", "is longer"), ("altered", "holds something else")],
)
def test_a_file_that_is_not_as_it_was_fails_its_chunk_with_its_name(
    store: Path, folder: Path, how: str, said: str
) -> None:
    """C63"""
    gate = SimpleNamespace(open=False)

    @nb.step(max_attempts=1)
    def look(array: np.ndarray) -> None:
        assert gate.open
        assert len(array)

    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        run = batch.submit(nb.Job("one", arrays >> look), [BIG, 5])
        run.wait()
        (path,) = files(folder)
        _spoil(path, how)
        gate.open = True
        run.retry(quiet=True)
        run.wait()

        error = run.chunks("look").filter(status="FAILED")["error"][0]
        assert str(path) in error
        assert said in error
        assert "run.rerun(step=…)" in error
        run.rerun(step="arrays")
        assert run.wait()
        assert run.status == "COMPLETED"


def test_a_folder_that_is_not_mounted_where_a_worker_runs_is_said(folder: Path) -> None:
    with pytest.raises(OSError, match=f"{folder}, is not there on"):
        outside.SharedFolder(str(folder), "00000000").put(1, b"x")


def test_a_folder_that_takes_no_file_is_named_with_what_to_do(folder: Path) -> None:
    folder.mkdir()
    (folder / "00000000").touch()  # where a folder belongs: as good as a full disk

    with pytest.raises(NotADirectoryError, match=rf"no value can be written to {folder} on .*run\.retry\(\) goes on"):
        outside.SharedFolder(str(folder), "00000000").put(1, b"x")


def test_a_folder_that_was_moved_is_named_anew(store: Path, folder: Path, tmp_path: Path) -> None:
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        batch.submit(JOB, SIZES).result()
    folder.rename(tmp_path / "moved")
    with nb.open(store, executor=nb.inline(), values=tmp_path / "moved") as batch:
        assert [len(each) for each in batch.instance(1, JOB).outputs("turned")] == SIZES
        batch.purge(older_than=0)
    assert files(tmp_path / "moved") == []


# --- what is removed ------------------------------------------------------------------------------


def test_purge_removes_the_files_of_what_it_removes_and_of_nothing_else(store: Path, folder: Path) -> None:
    """C63"""
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        batch.submit(JOB, SIZES).result()
        other = batch.submit(JOB, SIZES, new=True)
        other.result()
        assert batch.purge(keep_last=1) == 1

        assert len(files(folder)) == 4
        assert [len(each) for each in other.outputs("turned")] == SIZES
        batch.purge(older_than=0)
        assert [each for each in folder.rglob("*") if each.name.isdecimal() or each.is_file()] == []


def test_what_an_instance_need_not_keep_is_removed_at_its_end(store: Path, folder: Path) -> None:
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        run = batch.submit(JOB, SIZES, retain="none")
        assert run.result() == TOTAL
        batch.maintenance()

        assert files(folder) == []


def test_what_a_worker_wrote_before_its_chunk_is_committed_is_left_alone(store: Path, folder: Path) -> None:
    """C63"""
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        run = batch.submit(JOB, SIZES)
        run.result()
        leftovers = engine(batch).leftovers
        leftovers.begin(run.id)  # as a claim does, of a retry
        leftovers.shared.put(run.id, b"x" * BIG)
        batch.maintenance()
        assert len(files(folder)) == 5

        leftovers.end(run.id)  # and nothing was committed
        leftovers.settle()
        assert len(files(folder)) == 4


KILLED = """
import os, signal, sys
from collections.abc import Iterator
import numpy as np
import nbbatch as nb
@nb.step
def arrays(sizes: list[int]) -> Iterator[np.ndarray]:
    yield np.zeros(sizes[0], dtype=np.uint8)
    os.kill(os.getpid(), signal.SIGKILL)
@nb.step
def look_at(array: np.ndarray) -> None: ...
with nb.open(sys.argv[1], workers=1, values=sys.argv[2]) as batch:
    batch.submit(nb.Job("killed", arrays >> look_at), [256_000]).result(30)
"""


def test_a_kill_between_file_and_commit_leaves_no_reference_to_nothing_and_no_file_for_nothing(
    store: Path, folder: Path
) -> None:
    """C63"""
    done = subprocess.run([sys.executable, "-c", KILLED, store, folder], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(files(folder)) == 1

    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        batch.maintenance()
        assert files(folder) == []
        assert batch.submit(nb.Job("killed", arrays >> look_at), [BIG]).wait()
        assert len(files(folder)) == 1


def test_a_store_in_memory_leaves_no_file(folder: Path) -> None:
    with nb.open(":memory:", executor=nb.inline(), values=folder) as batch:
        assert batch.submit(JOB, SIZES).result() == TOTAL
        assert len(files(folder)) == 4

    assert list(folder.iterdir()) == []


# --- what else knows of it ------------------------------------------------------------------------


def test_a_backup_has_the_values_itself(store: Path, folder: Path, tmp_path: Path) -> None:
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        batch.submit(JOB, SIZES).result()
        copy = batch.backup(tmp_path / "copy.duckdb")
        batch.purge(older_than=0)
    shutil.rmtree(folder)
    with nb.open(copy, executor=nb.inline()) as batch:
        assert [len(each) for each in batch.instance(1, JOB).outputs("turned")] == SIZES


def test_looks_files_of_failures_replays_and_comparisons_read_them(store: Path, folder: Path, tmp_path: Path) -> None:
    @nb.step(max_attempts=1)
    def fails(array: np.ndarray) -> np.ndarray:
        raise ValueError(len(array))

    job = nb.Job("fails", arrays >> fails >> look_at)
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        run = batch.submit(job, [BIG])
        run.wait()
        chunk = run.chunk(run.chunks("fails")["id"][0])
        assert len(chunk.input) == BIG
        assert " bytes, in a file" in chunk._repr_html_()
        assert str(chunk.replay().error) == str(BIG)
        with nb.look(store) as look:
            assert len(look.instance(1).chunk(chunk.id).input) == BIG
        loaded = nb.load_failure(chunk.export(tmp_path / "bug.zip"))
        shutil.rmtree(folder)
        assert str(loaded.replay(fails).error) == str(BIG)

    with nb.open(tmp_path / "other.duckdb", executor=nb.inline(), values=folder) as batch:
        one, other = batch.submit(JOB, SIZES), batch.submit(JOB, SIZES, new=True)
        one.result(), other.result()
        assert one.diff(other, "turned").same == 3


def test_another_folder_for_a_store_that_is_open_is_said(store: Path, folder: Path, tmp_path: Path) -> None:
    with nb.open(store, executor=nb.inline(), values=folder) as batch:
        assert nb.open(store, values=folder) is batch
        with pytest.warns(UserWarning, match="keeps the executor, workers and values="):
            nb.open(store, values=tmp_path / "another")


@pytest.mark.parametrize("values", [3, "", None.__class__])
def test_what_is_no_folder_is_refused(store: Path, values: object) -> None:
    with pytest.raises(TypeError, match="values= takes a folder or a URL"):
        nb.open(store, values=values)

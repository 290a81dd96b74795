"""A failed chunk as a file that can be sent to somebody, without secrets."""

from __future__ import annotations
import __future__

import importlib
import json
import linecache
import platform
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, TypeAdapter

from nbbatch.base.errors import StoreUnreadable
from nbbatch.base.private_file import replaced
from nbbatch.base.rows import InstanceRow, Item
from nbbatch.definition.base_step import BaseStep
from nbbatch.heal.replay import Replay, node_of, params_of, replay
from nbbatch.pictures.markup import pre, visible
from nbbatch.store.reading import Reader
from nbbatch.values.views import untyped

if TYPE_CHECKING:
    from zipfile import ZipFile

FORMAT = 1
MAX_BYTES = 300_000_000
"""What all parts may take together: more than the largest input does, and little beside what a small zip can claim to hold."""
MAX_TEXT_BYTES = 30_000_000
"""What the parts beside the input may take together."""
_PACKAGES = ("nbbatch", "duckdb", "polars", "pydantic")
_numbers = count(1)
_PARTS = ("failure.json", "params.json", "code.py", "traceback.txt", "log.txt")


def code_of(store: Reader, instance: int, chunk: int, index: int, step: BaseStep | None) -> str:
    """The code that the chunk's newest attempt ran; if none is stored, the step's as it is now."""
    rows = store.fetch("code_of_chunk", instance, chunk, index)
    return rows[0][0] if rows else step.listing if step else ""


def write(
    path: Path, row: Mapping[str, Any], instance: InstanceRow, index: int, media: str, data: bytes | None, code: str,
    traceback: str | None, log: str | None,
) -> Path:  # fmt: skip
    """Write the file; it replaces an existing one only once it is whole."""
    about = {
        "format": FORMAT, "job": instance.job, "version": instance.version, "instance": instance.id, "chunk": row["id"],
        "step": row["step"], "index": index, "status": row["status"], "attempts": row["attempts"], "media": media,
        "error_type": row["error_type"], "error": row["error"], "python": platform.python_version(),
        "platform": platform.platform(), "packages": versions(),
    }  # fmt: skip
    import zipfile

    with replaced(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        texts = (
            json.dumps(about, indent=2, ensure_ascii=False),
            instance.params,
            code,
            traceback or "",
            log or "",
        )
        for name, text in zip(_PARTS, texts, strict=True):
            file.writestr(name, text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace"))
        file.writestr("input", data or b"")
    return path


def versions() -> dict[str, str]:
    """Versions of the packages a replay depends on."""
    from importlib import metadata

    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


class About(BaseModel):
    """What a file says of the failure in it."""

    format: int
    job: str
    version: int
    instance: int
    chunk: int
    step: str
    index: int
    status: str
    attempts: int
    media: str
    error_type: str | None
    error: str | None
    python: str
    platform: str
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class LoadedFailure:
    """A failure that was exported elsewhere; made by `load_failure`. Displaying it runs no code.

    Attributes:
        about: Job, step, chunk, state, error, versions of Python and packages.
        input: The stored input as JSON values, with frames and arrays as such; None if it is the parameters.
        params: The parameters as plain JSON values, secrets masked.
        code: The source that failed, with what it uses of its module.
        traceback: The stored traceback.
        log: The stored log.

    Example:
        >>> failure = nb.load_failure(failed.chunk(10).export("bug.zip"))
        >>> print(failure.traceback)
        Traceback (most recent call last):
          ...
        ValueError: could not convert string to float: '2,50'
    """

    about: dict[str, Any]
    input: Any
    params: Any
    code: str = field(repr=False)
    traceback: str = field(repr=False)
    log: str = field(repr=False)
    _data: bytes = field(repr=False)
    _params: bytes = field(repr=False)

    def replay(self, step: BaseStep | None = None, *, params: Any = None, run_code: bool = False) -> Replay:
        """Run the step on the input, in this thread.

        **This runs the code inside the file, which may do anything that you may.** Read ``code`` first.

        Args:
            step: A step of your own to run instead; then no code of the file runs.
            params: Parameters with their secrets, which the file does not contain; a dict of the secrets is enough.
            run_code: Confirms that the file's code may run.

        Raises:
            PermissionError: Neither a step nor ``run_code=True`` is given.
            StateError: The parameters contain secrets and ``params`` is not given.
            ParameterError: ``params`` is invalid, or lacks a secret.
            StoreUnreadable: The file's code does not define the step.
            DefinitionError: ``step`` is not a step.

        Example:
            >>> failure = nb.load_failure(failed.chunk(10).export("bug.zip"))
            >>> failure.replay(price).error
            ValueError("could not convert string to float: '2,50'")
        """
        if step is None and not run_code:
            raise PermissionError(
                "replay() runs the code inside this file, which may do anything that you may: read .code, then call "
                "replay(run_code=True); or give a step of your own: replay(step)"
            )
        if step is not None:
            return self._replayed(step, params)
        with _module() as module:
            return self._replayed(self._step(module), params)

    def _replayed(self, step: BaseStep, params: Any) -> Replay:
        stored = params_of(step, self.about["index"], self._params, None)
        if params is not None:
            stored = stored.brought(_fields(params), self.about["job"])
        item = Item(self.about["chunk"], self.about["attempts"] + 1, self._data or None)
        return replay(node_of(step, self.about["index"]), item, stored, [])

    def _step(self, module: ModuleType) -> BaseStep:
        """The step that the file's code defines."""
        name = f"<code of chunk {self.about['chunk']}>"
        linecache.cache[name] = (len(self.code), None, self.code.splitlines(keepends=True), name)
        code = compile(self.code, name, "exec", __future__.annotations.compiler_flag, dont_inherit=True)
        exec(code, vars(module))  # noqa: S102 - asked for by run_code=True
        steps = [
            each for each in vars(module).values() if isinstance(each, BaseStep) and each.name == self.about["step"]
        ]
        if not steps:
            raise StoreUnreadable(
                f"the code inside does not define step {self.about['step']!r} with @nb.step; give one: replay(step)"
            )
        return steps[-1]

    def __repr__(self) -> str:
        about = self.about
        return visible(
            f"chunk {about['chunk']} of step {about['step']!r}, job {about['job']!r} v{about['version']}: {about['status']}\n"
            f"{about['error_type']}: {about['error']}\ninput: {self.input!r:.500}\nparams: {self.params!r:.500}\n"
            f"Python {about['python']}, {', '.join(f'{name} {version}' for name, version in about['packages'].items())}\n"
            "replay(run_code=True) runs the code inside this file: read .code first"
        )

    def _repr_html_(self) -> str:
        parts = [("", repr(self)), ("code", self.code), ("traceback", self.traceback), ("log", self.log)]
        return "".join(f"<b>{name}</b>{pre(text)}" for name, text in parts if text)


def _fields(params: Any) -> Any:
    """Parameters by their fields: the class of the same name in a file's code is another one than that of this process."""
    return TypeAdapter[Any](cast("Any", type(params))).dump_python(params)


def load_failure(path: str | PathLike[str]) -> LoadedFailure:
    """Open a file written by ``chunk.export()``. No code of it runs.

    Args:
        path: The file.

    Raises:
        StoreUnreadable: The file was not written by ``chunk.export()``, is damaged or too large, or has a newer format.
        OSError: The file does not exist (FileNotFoundError) or cannot be read.

    Example:
        >>> failure = nb.load_failure(failed.chunk(10).export("bug.zip"))
        >>> failure.about["step"], failure.input["price"]
        ('price', '2,50')
    """
    import zipfile

    with Path(path).open("rb") as opened:
        try:
            with zipfile.ZipFile(opened) as file:
                return _loaded(path, *_unpacked(file))
        except (StoreUnreadable, OSError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever a zip, JSON or Arrow reader says of a broken or hostile file
            raise StoreUnreadable(f"{path} is not a whole file of chunk.export(): {error!r:.300}") from error


def _unpacked(file: ZipFile) -> Iterator[bytes]:
    """The file's parts in memory; nothing is ever unpacked to disk."""
    room, text_room = MAX_BYTES, MAX_TEXT_BYTES
    for name in (*_PARTS, "input"):
        size = file.getinfo(name).file_size  # no more than that is read, whatever there is
        room, text_room = room - size, text_room - (0 if name == "input" else size)
        if room < 0 or text_room < 0:
            raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes, or {MAX_TEXT_BYTES:,} beside the input")
        yield file.read(name)


@contextmanager
def _module() -> Generator[ModuleType]:
    """A module for the file's code, known by its name while the code runs: dataclasses look their module up."""
    module = ModuleType(f"nbbatch_failure_{next(_numbers)}")
    vars(module)["nb"] = importlib.import_module("nbbatch")
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]


def _loaded(path: str | PathLike[str], *parts: bytes) -> LoadedFailure:
    about, code, traceback, log = (part.decode() for part in (parts[0], *parts[2:-1]))
    params, data, told = parts[1], parts[-1], json.loads(about)
    if isinstance(told, dict) and isinstance(version := told.get("format"), int) and version > FORMAT:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        raise StoreUnreadable(f"{path} has format {version}; upgrade nbbatch to read it")
    known = About.model_validate(told, strict=True).model_dump()
    return LoadedFailure(known, untyped(data) if data else None, untyped(params), code, traceback, log, data, params)

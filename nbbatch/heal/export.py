"""A failed chunk as a file that can be sent: all that is needed to see and to replay it, and no secrets."""

from __future__ import annotations

import importlib
import json
import linecache
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from nbbatch.definition.chain import BaseStep
from nbbatch.errors import StoreUnreadable
from nbbatch.heal.replay import Replay, node_of, params_of, replay
from nbbatch.records import InstanceRow, Item
from nbbatch.store import Store

FORMAT = 1
_PACKAGES = ("nbbatch", "duckdb", "polars", "pydantic")
_PARTS = ("failure.json", "params.json", "code.py", "traceback.txt", "log.txt")


def code_of(store: Store, instance: int, chunk: int, index: int, step: BaseStep | None) -> str:
    """The code that the chunk's newest attempt ran; if none is stored, the step's as it is now."""
    rows = store.fetch(
        "SELECT c.source FROM event e JOIN code c ON c.fingerprint = e.code "
        "WHERE e.instance = $1 AND e.chunk = $2 AND e.step = $3 ORDER BY e.id DESC LIMIT 1", instance, chunk, index,
    )  # fmt: skip
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

    part = path.with_name(f"{path.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        texts = (
            json.dumps(about, indent=2, ensure_ascii=False),
            instance.params.decode(),
            code,
            traceback or "",
            log or "",
        )
        for name, text in zip(_PARTS, texts, strict=True):
            file.writestr(name, text.encode("utf-8", "backslashreplace"))
        file.writestr("input", data or b"")
    part.replace(path)
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


@dataclass(frozen=True, slots=True)
class LoadedFailure:
    """A failure that somebody sent; made by `load_failure`. Looking at it runs nothing.

    Attributes:
        about: Job, step, chunk, state, error, Python and package versions.
        input: The stored input as plain JSON values (a frame as polars.DataFrame); None where it is the parameters.
        params: The parameters as plain JSON values, secrets as stars.
        code: The source that failed, with what it reaches in its module.
        traceback, log: As stored.
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
            step: A step of your own to run in its place; then nothing of the file is run.
            params: Parameters with their secrets; the file has none.
            run_code: Say that the file's code may run.

        Raises:
            PermissionError: Neither a step nor ``run_code=True`` is given.
            StateError: The parameters hold secrets and ``params`` does not bring them.
        """
        if step is None and not run_code:
            raise PermissionError(
                "replay() runs the code inside this file, which may do anything that you may: read .code, then call "
                "replay(run_code=True); or give a step of your own: replay(step)"
            )
        found = step or self._step()
        stored = params_of(found, self.about["index"], self._params, None)
        if params is not None:
            valid = stored.codec.validate(params)
            stored = type(stored)(stored.codec, stored.codec.dump(valid), stored.codec.secrets(valid))
        item = Item(self.about["chunk"], self.about["attempts"] + 1, self._data or None)
        return replay(node_of(found, self.about["index"]), item, stored, [])

    def _step(self) -> BaseStep:
        """The step that the file's code defines."""
        name = f"<code of chunk {self.about['chunk']}>"
        linecache.cache[name] = (len(self.code), None, self.code.splitlines(keepends=True), name)
        space: dict[str, Any] = {"__name__": "failure", "nb": importlib.import_module("nbbatch")}
        exec(compile(self.code, name, "exec"), space)  # noqa: S102 - asked for by run_code=True
        steps = [each for each in space.values() if isinstance(each, BaseStep) and each.name == self.about["step"]]
        if not steps:
            raise StoreUnreadable(
                f"the code inside does not define step {self.about['step']!r} with @nb.step; give one: replay(step)"
            )
        return steps[-1]

    def __repr__(self) -> str:
        about = self.about
        return (
            f"chunk {about['chunk']} of step {about['step']!r}, job {about['job']!r} v{about['version']}: {about['status']}\n"
            f"{about['error_type']}: {about['error']}\ninput: {self.input!r:.500}\nparams: {self.params!r:.500}\n"
            f"Python {about['python']}, {', '.join(f'{name} {version}' for name, version in about['packages'].items())}\n"
            "replay(run_code=True) runs the code inside this file: read .code first"
        )

    def _repr_html_(self) -> str:
        parts = [("", repr(self)), ("code", self.code), ("traceback", self.traceback), ("log", self.log)]
        return "".join(f"<b>{name}</b><pre>{escape(text)}</pre>" for name, text in parts if text)


def load_failure(path: str | PathLike[str]) -> LoadedFailure:
    """Open a file of ``chunk.export()``; nothing of it runs.

    Raises:
        StoreUnreadable: It is no such file, or of a newer format.
    """
    import zipfile

    try:
        with zipfile.ZipFile(path) as file:
            about, params, code, traceback, log = (file.read(name).decode() for name in _PARTS)
            data = file.read("input")
    except (zipfile.BadZipFile, KeyError) as error:
        raise StoreUnreadable(f"{path} is not a file of chunk.export(): {error}") from error
    told = json.loads(about)
    if told["format"] > FORMAT:
        raise StoreUnreadable(f"{path} has format {told['format']}; upgrade nbbatch to read it")
    return LoadedFailure(
        told, _value(data, told["media"]), json.loads(params), code, traceback, log, data, params.encode()
    )


def _value(data: bytes, media: str) -> Any:
    if not data:
        return None
    if media == "arrow":
        from nbbatch.codec import decode_frame

        return decode_frame(data)
    return json.loads(data)

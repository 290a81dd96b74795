"""What a process has around its code: environment variables, the current folder, where modules are found.

Threads share it with the notebook. A worker process has it as it was when it started, so what a later cell changes is sent on.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class Surroundings(NamedTuple):
    """As they were at some time."""

    env: dict[str, str]
    folder: str | None
    path: list[str]

    def change_to(self, now: Surroundings) -> Change | None:
        """What has become otherwise; None: nothing has."""
        if now == self:
            return None
        return Change(
            {name: value for name, value in now.env.items() if self.env.get(name) != value},
            [name for name in self.env if name not in now.env],
            now.folder if now.folder != self.folder else None,
            (self.path, now.path) if now.path != self.path else None,
        )


class Change(NamedTuple):
    """Of the surroundings of the process that has the store."""

    env: dict[str, str]
    gone: list[str]
    folder: str | None
    path: tuple[list[str], list[str]] | None

    def make(self) -> None:
        """Have it in this process too. What its steps have changed by themselves stays."""
        os.environ.update(self.env)
        for name in self.gone:
            os.environ.pop(name, None)
        if "TZ" in (*self.env, *self.gone) and hasattr(time, "tzset"):
            time.tzset()
        if self.folder is not None:
            with suppress(OSError):  # removed again: a step that needs it says so
                os.chdir(self.folder)
        if self.path is not None:
            before, now = self.path
            sys.path[:] = [*now, *(each for each in sys.path if each not in before and each not in now)]
        importlib.invalidate_caches()  # a module that was written since


_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Where nobody edits modules."""


class Loaded:
    """Which modules of the user's own this process has loaded, to see when one is loaded anew: by `importlib.reload`, or %autoreload."""

    def __init__(self) -> None:
        """Nothing is looked at before `version`."""
        self._specs = dict[str, Any]()
        self._seen = self._version = 0
        self._lock = threading.Lock()

    def version(self) -> int:
        """It grows when one was loaded anew."""
        with self._lock:
            if len(sys.modules) != self._seen:
                self._seen = len(sys.modules)
                self._specs |= {name: spec for name, spec in _own_modules() if name not in self._specs}
            for name, spec in self._specs.items():
                now = getattr(sys.modules.get(name), "__spec__", None)  # each load makes another one
                if now is not spec and now is not None:
                    self._specs[name] = now
                    self._version += 1
            return self._version


def _own_modules() -> Iterator[tuple[str, Any]]:
    for name, module in tuple(sys.modules.items()):
        spec: Any = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if isinstance(origin, str) and origin.endswith(".py") and not origin.startswith(_LIBRARIES):
            yield name, spec


loaded = Loaded()
"""Of this process."""


def surroundings() -> Surroundings:
    """Those of this process now."""
    folder = None
    with suppress(OSError):  # it was removed
        folder = str(Path.cwd())
    return Surroundings(dict(os.environ), folder, list(sys.path))


def start_method() -> str | None:
    """How this process starts others by ``multiprocessing``; None: as Python does by default."""
    return multiprocessing.get_start_method(allow_none=True)


def start_others_by(method: str | None) -> None:
    """Have ``multiprocessing`` start processes so, whatever started this one: loky leaves a way that works for nobody else."""
    multiprocessing.set_start_method(None, force=True)
    with suppress(ValueError):  # of a library that is not here
        multiprocessing.set_start_method(method, force=True)

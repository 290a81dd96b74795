"""Code as bytes for worker processes, by cloudpickle; big values that it refers to lie beside it, each in a file of its own.

Modules that can be imported travel by their names. A value of a global or closure variable that is big is written into a
file once and named by it, so that it travels to a worker once, whatever steps and versions of them use it. Workers on this
machine map the file: however many there are, its arrays are in memory once, and what one writes into them no other sees.
"""

from __future__ import annotations

import linecache
import logging
import mmap
import os
import pickle
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, cast
from weakref import WeakKeyDictionary

from nbbatch.base import private_folder
from nbbatch.code import big_values
from nbbatch.code.big_values import Shared
from nbbatch.code.dispatched import choices
from nbbatch.worker.pickler import CACHED, pickler_class

log = logging.getLogger("nbbatch")

BIG = 100_000
"""Bytes from which on a value lies in a file of its own …"""
TOLD = 1_000_000
"""… and from which on a line says so."""
ROOM = 8
"""Values lie in memory while there is room for so many of the size of the first."""
MOST, MOST_BYTES = 64, 1 << 31
"""So many values, and bytes of them, are kept that nothing needs just now."""
LOOKED = 1_000
"""So many values in what a variable holds are looked at, whether they are shared."""
ALIGNED = 64
"""Each part of a file begins at a multiple of this."""
_CHUNK = 1 << 22
_SMALL = (int, float, complex, bool, type(None), FunctionType, ModuleType, type, MethodType)
"""Never big by themselves."""


def dumps(code: Any) -> bytes:
    """Anything that steps are made of; what their notebook or script defines travels with it."""
    return _dumps(code, {}, None, set())


def _dumps(
    code: Any, apart: Mapping[int, str], buffers: list[pickle.PickleBuffer] | None, sources: set[str], *, and_names: bool = False
) -> bytes:  # fmt: skip
    buffer = BytesIO()
    pickler = pickler_class()(buffer, protocol=5, buffer_callback=None if buffers is None else buffers.append)
    pickler.apart, pickler.sources, pickler.named = apart, sources, []
    pickler.dump(code)
    if and_names:
        pickler.dump(pickler.named)
    return buffer.getvalue()


def _cells(sources: Iterable[str]) -> dict[str, str]:
    """The text of notebook cells by their names: no file has it, and a traceback shows lines of it."""
    cached = {name: linecache.cache.get(name) for name in sorted(sources) if not Path(name).exists()}
    return {name: "".join(entry[2]) for name, entry in cached.items() if entry is not None and len(entry) == 4}


class Values:
    """The big values that code of one engine refers to, as files in a folder that goes with it."""

    def __init__(self) -> None:
        """Nothing is made before the first big value."""
        self._folder: Path | None = None
        self._remove_folder: Callable[[], object] = lambda: None
        self._paths: dict[str, Path] = {}
        self._mapped: dict[str, memoryview] = {}
        self._shared = WeakKeyDictionary[Shared[Any], tuple[str, int]]()
        self._told = set[tuple[str, str]]()
        big_values.copies.add(self)

    def packed(self, code: Any, functions: Iterable[tuple[str, Any]]) -> tuple[bytes, dict[str, str]]:
        """Code as bytes, and the files of the values it lacks by their names.

        Args:
            code: What is to travel.
            functions: In it, whose variables may hold big values; with what each is called where a line is said about those.
        """
        apart, paths = dict[int, str](), dict[str, str]()
        held = list[Any]()  # an id is good for as long as its object lives
        for whose, name, value in ((whose, *each) for whose, function in functions for each in variables([function])):
            if id(value) in apart or (found := self._kept(value, apart)) is None:
                continue
            key, size = found
            held.append(value)
            apart[id(value)], paths[key] = key, str(self._paths[key])
            if size >= TOLD and (whose, name) not in self._told and not isinstance(value, Shared):
                self._told.add((whose, name))
                log.warning("%s", _advice(whose, name, value, size))
        sources = set[str]()
        data = _dumps(code, apart, None, sources, and_names=True)
        return pickle.dumps(_cells(sources)) + data, paths

    def _kept(self, value: Any, apart: Mapping[int, str]) -> tuple[str, int] | None:
        """The name and size of a value that is big, without those that are apart; None: it is not, or cannot travel by itself."""
        if isinstance(value, Shared) and (known := self._shared.get(value)) and known[0] in self._paths:  # pyright: ignore[reportUnknownArgumentType]
            return known
        if (copy := big_values.copy_of(value)) in self._mapped:  # as it was at the submit, which has just looked
            return copy, len(self._mapped[copy])
        try:
            buffers = list[pickle.PickleBuffer]()
            data = _dumps(value, apart, buffers, set())
            parts = _layout(data, buffers)
            size = sum(map(len, parts))
            if size < BIG:
                return None
            found = self.find(data, buffers) or self._write(parts, size), size
            if isinstance(value, Shared):
                self._shared[value] = found
            return found
        except Exception:  # it travels with the code, or is told there as what it is
            return None

    def find(self, data: bytes, buffers: list[pickle.PickleBuffer]) -> str | None:
        """The file that holds just this pickle; comparing is cheaper than a digest."""
        parts = _layout(data, buffers)
        size = sum(map(len, parts))
        return next(
            (key for key, view in tuple(self._mapped.items()) if len(view) == size and _is_same(view, parts)), None
        )

    def add(self, value: Any) -> tuple[str, str]:
        """A file for a value: its name and path; it is there until `remove`."""
        buffers = list[pickle.PickleBuffer]()
        parts = _layout(_dumps(value, {}, buffers, set()), buffers)
        key = self._write(parts, sum(map(len, parts)))
        return key, str(self._paths[key])

    def remove(self, key: str) -> None:
        """Nobody needs it any more; another thread may just compare with it."""
        del self._mapped[key]
        self._paths.pop(key).unlink(missing_ok=True)

    def close(self) -> None:
        """Nobody needs any more; what workers have of them they keep."""
        self._mapped.clear()
        self._remove_folder()

    def are_many(self) -> bool:
        """Whether there are more than are kept for later."""
        return len(self._mapped) > MOST or sum(map(len, self._mapped.values())) > MOST_BYTES

    def _write(self, parts: list[memoryview], size: int) -> str:
        if self._folder is None:
            folder, self._remove_folder = private_folder.made_for(self, "values", _place_for(size))
            self._folder = Path(folder)
        key = secrets.token_hex(16)
        with (self._folder / key).open("x+b") as file:
            file.writelines(parts)
            file.flush()
            self._mapped[key] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._paths[key] = self._folder / key
        return key


def _place_for(size: int) -> str | None:
    """In memory, where there is plenty; None: in the folder for temporary files."""
    with suppress(OSError):
        if (
            os.access(private_folder.IN_MEMORY, os.W_OK)
            and shutil.disk_usage(private_folder.IN_MEMORY).free > ROOM * size
        ):
            return private_folder.IN_MEMORY
    return None


def _advice(whose: str, name: str, value: Any, size: int) -> str:
    return (
        f"{whose} uses {name} ({type(value).__name__}, {size / 1e6:.1f} MB): it goes to each worker once, and again whenever it changes, for which it is "
        "read at each submit; nb.shared(…) says that it does not change, and a file that the step reads, by a function under "
        "functools.lru_cache, need not travel"
    )


def _layout(data: bytes, buffers: list[pickle.PickleBuffer]) -> list[memoryview]:
    """A pickle and what it refers to as one run of bytes: how many, how long each, and each at an even place."""
    views = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    head = b"".join(length.to_bytes(8, "little") for length in (len(views), *map(len, views)))
    parts = list[memoryview]()
    for view in (memoryview(head), *views):
        parts += [view, memoryview(bytes(-len(view) % ALIGNED))]
    return parts


def _is_same(view: memoryview, parts: list[memoryview]) -> bool:
    """Whether a file holds just this, of the same length."""
    at = 0
    for part in parts:
        for start in range(0, len(part), _CHUNK):  # other threads are to run meanwhile
            piece = part[start : start + _CHUNK]
            if not _equal(view[at : at + len(piece)], piece):
                return False
            at += len(piece)
    return True


def _equal(one: memoryview, other: memoryview) -> bool:
    """By words, which is quicker than by bytes."""
    whole = len(one) & ~7
    return one[:whole].cast("Q") == other[:whole].cast("Q") and one[whole:] == other[whole:]


def with_its_place(error: Exception, functions: list[Callable[..., Any]]) -> Exception:
    """An error of pickling with the variable that holds what cannot travel, if one does."""
    for name, value in variables(functions):
        try:
            dumps(value)
        except Exception as cause:
            if str(cause) == str(error):
                return TypeError(
                    f"{error}, which {name!r} holds: have the step make it, or a function under functools.cache that it calls"
                )
    return error


def variables(functions: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The values of all variables that functions use, and the functions of the notebook or script which those use, by name."""
    seen, left = set[int](), list(functions)
    while left:
        function = left.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        for name, value in _used_by(function):
            if isinstance(value, FunctionType | MethodType | partial | CACHED) or (
                isinstance(value, type) and not _is_imported(value)
            ):
                left.append(value)
            elif not isinstance(value, _SMALL):
                yield from ((name, each) for each in (*_shared_in(value), value))  # what holds others after them


def _shared_in(value: Any) -> Iterator[Any]:
    """The shared values in containers, and in objects of the notebook or script."""
    left = [value]
    for _ in range(LOOKED):
        if not left:
            return
        each = left.pop()
        if isinstance(each, Shared):
            yield each
            continue
        held: Iterable[Any] = () if _is_imported(type(each)) else getattr(each, "__dict__", {}).values()
        if isinstance(each, dict | list | tuple | set | frozenset):
            held = cast("Iterable[Any]", each.values() if isinstance(each, dict) else each)
        left.extend(islice(held, LOOKED))


def _used_by(function: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(function, CACHED):
        yield "", function.__wrapped__
    elif functions := choices(function):
        yield from functions
    elif isinstance(function, partial):
        yield from chain(
            [("", function.func)], (("an argument", each) for each in function.args), function.keywords.items()
        )
    elif isinstance(function, MethodType):
        yield from (("", function.__func__), ("an object", function.__self__))
    elif isinstance(function, type):
        yield from ((name, each) for name, value in vars(function).items() for each in _held_by(value))
    elif isinstance(function, FunctionType) and not _is_imported(function):
        yield from (
            (name, function.__globals__[name]) for name in _names(function.__code__) if name in function.__globals__
        )
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # it is empty
                continue
        yield from (
            ("a default", value)
            for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        )


def _held_by(attribute: Any) -> tuple[Any, ...]:
    """What an attribute of a class refers to, beside the class itself."""
    if isinstance(attribute, classmethod | staticmethod):
        return (attribute.__func__,)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(attribute, property):
        return attribute.fget, attribute.fset, attribute.fdel
    if isinstance(attribute, cached_property):
        return (attribute.func,)
    return () if isinstance(attribute, GetSetDescriptorType | MemberDescriptorType) else (attribute,)


def _is_imported(code: Any) -> bool:
    """Whether it travels by its name."""
    return code.__module__ not in (None, "__main__") and "<locals>" not in code.__qualname__


def _names(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))

"""Big values in a folder that all workers share: whoever makes one writes it there, and the store holds a reference.

    <folder>/<the store's own folder>/<instance>/<SHA-256 of the content>

Each store has a folder of its own in it, and each instance one in that. So what an instance leaves can be removed without asking
who else refers to it. A reference is as long as a line; it says what the file holds, so that one which is missing, torn or altered is
found when it is read. A file is in its place before its reference is stored: a kill in between leaves a file too many, never a
reference to nothing.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from nbbatch.base.errors import StoreUnreadable
from nbbatch.values.files import content
from nbbatch.values.places import Look, Part, is_url, place_of

SHARED_BYTES = 256_000
"""Stored forms from this size on go to the folder; below, a row of the store is cheaper than a file."""
WRITES = 3
"""Files that a micro-batch has on their way to the folder at once."""
FRESH_BYTES = 64_000_000
"""Of what a worker process has written so much stays in its memory, too, for the step that follows …"""
POURED_FILES = 10_000
"""… and of so many files, to which values wrote themselves, what they looked like."""
MARK = b"@"
"""What a reference begins with, and no stored form of a value does."""
T = TypeVar("T")
Write = Callable[["Reference", Callable[[], None]], object]
"""Does what brings a file to its place, now or a little later."""
Pouring = Callable[[Any], Callable[[BinaryIO], None] | None]
"""Gives what writes a value's stored form straight to a file; None: it is to be encoded first."""
_HEX = re.compile(r"[0-9a-f]{8,64}")
_open: dict[str, None] = {}
"""Folders and URLs that this process was told of, in the order of the telling."""


def told(root: str) -> None:
    """Have values be looked for in a folder or at a URL, too.

    Raises:
        ImportError: fsspec is needed, and is not installed.
        ValueError: fsspec does not know such a URL.
    """
    place_of(root)
    _open.setdefault(root)


def checked(values: str | os.PathLike[str]) -> str:
    """What ``values=`` names: the absolute path of a folder, which is made where it is not there, or a URL.

    Raises:
        TypeError: It is neither a path nor a URL.
        OSError: The folder cannot be made.
        ImportError, ValueError: As `told`.
    """
    if not isinstance(values, str | os.PathLike) or not os.fspath(values):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"values= takes a folder or a URL such as 's3://bucket/values', not {values!r:.80}")
    root = os.fspath(values)
    if not is_url(root):
        path = Path(root).expanduser().resolve()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = str(path)
    told(root)
    return root


def may_ask(root: str) -> bool:
    """Whether a place may be looked at: a folder, or a URL that this process was told. No store that somebody sent has another one asked."""
    return not is_url(root) or root in _open


@dataclass(frozen=True, slots=True)
class Reference:
    """What the store holds in a value's place."""

    sha256: str
    bytes: int
    root: str
    """The folder or URL, as the one who wrote it knew it."""
    store: str
    instance: int
    content: str = ""
    """SHA-256 of what counts of it, where that is not all: see `files.content`."""

    @classmethod
    def read(cls, data: bytes) -> Reference:
        """Of its stored form.

        Raises:
            StoreUnreadable: It is none that was written here.
        """
        try:
            found = cls(**json.loads(data[len(MARK) :]))
            if _HEX.fullmatch(found.sha256) and _HEX.fullmatch(found.store) and found.bytes >= 0 <= found.instance:
                return found
        except (TypeError, ValueError):
            pass
        raise StoreUnreadable(f"a value in the store is a damaged reference to a file: {data[:200]!r}")

    def stored(self) -> bytes:
        """Its stored form."""
        given = {name: each for name, each in asdict(self).items() if name != "content" or each}
        return MARK + json.dumps(given, separators=(",", ":")).encode()

    @property
    def name(self) -> str:
        """Of the file within the folder."""
        return f"{self.store}/{self.instance}/{self.sha256}"


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """Where the values of one store go; travels to workers."""

    root: str
    store: str

    def keeping(
        self, instance: int, encode: Callable[[Any], bytes], pouring: Pouring, write: Write | None = None
    ) -> Callable[[Any], bytes]:
        """How the outputs of an instance are stored: as by ``encode``, big ones as references to files that ``write`` writes, by default at once."""

        def keep(value: Any) -> bytes:
            pour = pouring(value)
            if pour is not None and (made := self._poured(instance, pour, write or _at_once)) is not None:
                return made
            data = encode(value)
            return data if len(data) < SHARED_BYTES else self.put(instance, data, write)

        return keep

    def put(self, instance: int, data: bytes, write: Write | None = None) -> bytes:
        """Have a stored form written, by default at once; returns the reference."""
        made = self.reference(instance, data)
        (write or _at_once)(made, partial(self.write, made, data))
        return made.stored()

    def _poured(self, instance: int, pour: Callable[[BinaryIO], None], write: Write) -> bytes | None:
        """The reference to a file that a value writes itself to; None: it could not, and the ordinary way does it or says why."""
        part = place_of(self.root).part(f"{self.store}/{instance}")
        if part is None:
            return None
        try:
            pour(part.file)
            digest, size = part.digest()
        except BaseException as error:  # polars panics with an exception of its own, which is no Exception
            part.drop()
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            return None
        made = Reference(digest, size, self.root, self.store, instance)
        write(made, partial(_place, part, made))
        return made.stored()

    def reference(self, instance: int, data: bytes) -> Reference:
        """To the file of a stored form."""
        digest, counts = sha256(data).hexdigest(), content(data)
        other = "" if counts is data else sha256(counts).hexdigest()
        return Reference(digest, len(data), self.root, self.store, instance, other)

    def write(self, made: Reference, data: bytes) -> None:
        """Write a stored form, in the place of an equal one too, which may be damaged."""
        with _naming(self.root):
            look = place_of(self.root).put(made.name, data)
        if look is not None:
            _fresh.add((self.root, made.name), look, data)


def _place(part: Part, made: Reference) -> None:
    with _naming(made.root):
        _looks[made.root, made.name] = part.place(made.sha256)
    while len(_looks) > POURED_FILES:
        _looks.popitem(last=False)  # in one step, as several threads may be here


@contextmanager
def _naming(root: str) -> Generator[None]:
    """Have an error of the system name the place that takes no value, and what to do: a full disk says neither."""
    try:
        yield
    except OSError as error:
        if not error.errno:  # it says so itself
            raise
        text = f"{error.strerror}: no value can be written to {root} on {socket.gethostname()}; once it takes files, run.retry() goes on"
        raise OSError(error.errno, text) from error


def _at_once(_: Reference, act: Callable[[], None]) -> None:
    act()


_looks = OrderedDict[tuple[str, str], Look]()
"""What files looked like to which values have written themselves in this process: whoever reads one first need not check it."""
_under_way: dict[tuple[str, str], Future[None]] = {}
"""Files that this process is writing: what follows at once may ask for one before it is in its place."""


class Writes:
    """Files that are written while the attempts of a micro-batch go on, which end together with them."""

    def __init__(self, writers: Executor) -> None:
        """``writers``: threads."""
        self._writers = writers
        self._pending = deque[tuple[Reference, Future[None]]]()
        self._failed: dict[bytes, BaseException] = {}

    def write(self, made: Reference, act: Callable[[], None]) -> None:
        """Have a file be brought to its place by another thread; few are on their way at once, as most are in memory till then."""
        if len(self._pending) >= WRITES:
            self._await_first()
        future = _under_way[made.root, made.name] = self._writers.submit(act)
        self._pending.append((made, future))

    def failed(self) -> Mapping[bytes, BaseException]:
        """Wait until all are in their places; which are not, by their references, and why."""
        while self._pending:
            self._await_first()
        return self._failed

    def _await_first(self) -> None:
        made, future = self._pending.popleft()
        if (error := future.exception()) is not None:
            self._failed[made.stored()] = error
        if _under_way.get((made.root, made.name)) is future:  # else an equal value is being written, too
            del _under_way[made.root, made.name]


class Fresh:
    """Values that this process has just written: the next step often runs here, and then need not read and check them."""

    def __init__(self) -> None:
        """Nothing is kept before somebody asks for it."""
        self.most_bytes = 0
        """Kept at most, the newest; in the process that has the store none, as its memory is a notebook's."""
        self._kept: dict[tuple[str, str], tuple[Look, bytes]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, file: tuple[str, str], look: Look, data: bytes) -> None:
        """Keep what was written to a file of a root, by its name."""
        if len(data) > self.most_bytes:
            return
        with self._lock:
            self._drop(file)
            self._kept[file] = look, data
            self._bytes += len(data)
            while self._bytes > self.most_bytes:
                self._drop(next(iter(self._kept)))

    def pop(self, file: tuple[str, str]) -> bytes | None:
        """What was written there, if the file is still as it was; most values are read once, so it is kept no longer."""
        if file not in self._kept:
            return None
        with self._lock:
            look, data = self._drop(file)
        return data if look is not None and place_of(file[0]).look(file[1]) == look else None

    def _drop(self, file: tuple[str, str]) -> tuple[Look | None, bytes]:
        look, data = self._kept.pop(file, (None, b""))
        self._bytes -= len(data)
        return look, data


_fresh = Fresh()


def keep_fresh() -> None:
    """Have this process, a worker, keep some of what it writes in memory."""
    _fresh.most_bytes = FRESH_BYTES


def copied(data: bytes, instance: int) -> bytes:
    """The reference to a copy of a file that an instance has for itself.

    Raises:
        OSError: The file is not there.
    """
    made = Reference.read(data)
    own = replace(made, instance=instance)
    place_of(made.root).copy(made.name, own.name)
    return own.stored()


def is_reference(data: bytes | None) -> bool:
    """Whether a stored value lies in a file.

    >>> is_reference(b'"@"'), is_reference(b'@{}')
    (False, True)
    """
    return data is not None and data[:1] == MARK


def size_of(data: bytes) -> int:
    """Bytes of a stored value, wherever it lies."""
    return Reference.read(data).bytes if data[:1] == MARK else len(data)


def content_of(data: bytes) -> bytes:
    """What is equal for equal stored values, wherever they lie."""
    if data[:1] == MARK:
        made = Reference.read(data)
        return MARK + (made.content or made.sha256).encode()
    counts = content(data)
    return counts if len(data) < SHARED_BYTES else MARK + sha256(counts).hexdigest().encode()


def whole(data: bytes) -> bytes:
    """A stored value, read from its file if it lies in one.

    Raises:
        StoreUnreadable: The file is missing, torn or altered; the text names it and what to do.
    """
    if data[:1] != MARK:
        return data
    made = Reference.read(data)
    why = ""
    for root in _roots(made):
        _await(root, made)
        if (fresh := _fresh.pop((root, made.name))) is not None:
            return fresh
        try:
            found = place_of(root).get(made.name, made.bytes)
        except OSError as error:
            why = why or f"{root}/{made.name} cannot be read: {error.strerror or error}"
            continue
        if sha256(found).hexdigest() == made.sha256:
            return found
        why = f"{root}/{made.name} was altered: {_how(found, made)}"
    raise StoreUnreadable(
        f"a value of {made.bytes:,} bytes lies in a file, and {why or f'{made.root} was not named here'}. "
        "Bring the file back, name its folder where it is now by nb.open(values=…), or have run.rerun(step=…) make it again"
    )


def _await(root: str, made: Reference) -> None:
    """Wait while this process is writing the file."""
    if (future := _under_way.get((root, made.name))) is not None:
        wait((future,))


def drawn(data: bytes, draw: Callable[[BinaryIO], T]) -> T | None:
    """What reads itself from the file of a reference, where a value has written itself to it in this process, and nobody has touched it.

    None: it is to be read `whole`, as nobody knows whether the file is what it was.
    """
    made = Reference.read(data)
    _await(made.root, made)
    look = _looks.pop((made.root, made.name), None)
    if look is None:
        return None
    place = place_of(made.root)
    try:
        with place.open(made.name) as file:
            value = draw(file)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # it was touched, then; polars may panic
        return None
    return value if place.look(made.name) == look else None


def _roots(made: Reference) -> list[str]:
    """Where to look: where it was written, and where this process was told."""
    return [root for root in dict.fromkeys((made.root, *_open)) if may_ask(root)]


def _how(found: bytes, made: Reference) -> str:
    if len(found) < made.bytes:
        return f"it ends after {len(found):,} bytes"
    return "it is longer than what was stored" if len(found) > made.bytes else "it holds something else than was stored"

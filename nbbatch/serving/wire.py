"""What travels between the owner of a store and those who look: JSON out and in, with Arrow IPC behind it; nothing is unpickled.

A message is eight bytes (the lengths of both parts), a JSON object, and the rows that belong to it. The owner says where it
answers in a small file beside the store, ``<store>.serving``, readable for the user alone.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbbatch.base import errors
from nbbatch.base.errors import NbbatchError, StoreError
from nbbatch.base.private_file import replaced

PROTOCOL = 1
MOST_ASKED = 1_000_000
"""Bytes of a request."""
MOST_ANSWERED = 1 << 30
"""Bytes of an answer."""
MOST_ROWS = 1_000_000
"""Rows of an answer."""
ORDERS = ("pause", "resume", "cancel", "retry", "skip")
"""What can be asked for an instance."""
STORE_ORDERS = ("purge",)
"""What can be asked for the whole store."""
Order = Callable[[str, int | None, Mapping[str, Any]], Any]
"""Does what is asked: the order, the id of the instance that it is for or None, further values."""
_LENGTHS = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an owner answers."""

    pid: int
    host: str
    """Name of its machine."""
    at: str | tuple[str, int]
    """The path of a Unix domain socket, or host and port."""
    token: str = ""
    """What a caller must know; on a Unix socket the file's mode and the caller's uid stand for it."""
    protocol: int = PROTOCOL

    @property
    def url(self) -> str:
        """What `look` takes where it cannot read the file beside the store: on another machine."""
        return f"nbbatch://{self.at[0]}:{self.at[1]}/{self.token}" if isinstance(self.at, tuple) else str(self.at)


def beside(path: str) -> Path:
    """Where the owner of a store says how it is reached."""
    return Path(f"{path}.serving")


def announce(path: str, address: Address) -> None:
    """Write how a store's owner is reached.

    Raises:
        StoreError: Something else stands there.
        OSError: It cannot be written.
    """
    place = beside(path)
    if os.path.lexists(place) and found_at(path) is None:
        raise StoreError(f"{place} is in the way: it is no file of nbbatch, and was left as it is")
    with replaced(place) as file:
        file.write(json.dumps({"nbbatch": PROTOCOL, **asdict(address)}).encode())


def found_at(path: str) -> Address | None:
    """How a store's owner said it is reached; None: nobody did. It may be gone since."""
    try:
        fd = os.open(beside(path), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(fd, "rb") as file:
            said = json.loads(file.read(10_000))
        at = said["at"] if isinstance(said["at"], str) else (str(said["at"][0]), int(said["at"][1]))
        return Address(int(said["pid"]), str(said["host"]), at, str(said["token"]), int(said["nbbatch"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def parsed(url: str) -> Address:
    """The address in a text such as ``nbbatch://127.0.0.1:8765/token``.

    Raises:
        ValueError: It is none.
    """
    where, _, token = url.removeprefix("nbbatch://").partition("/")
    host, _, port = where.rpartition(":")
    if not (host and port.isdigit() and token):
        raise ValueError(f"an owner's address reads nbbatch://HOST:PORT/TOKEN, as batch.address gives it, not {url!r}")
    return Address(0, host, (host, int(port)), token)


def send(to: socket.socket, said: dict[str, Any], rows: bytes = b"") -> None:
    """Send one message."""
    text = json.dumps(said).encode()
    to.sendall(_LENGTHS.pack(len(text), len(rows)) + text)
    if rows:
        to.sendall(rows)


def receive(come_from: socket.socket, most: int) -> tuple[dict[str, Any], bytes]:
    """The next message.

    Raises:
        ConnectionError: There is none any more, it is none of ours, or it is longer than ``most`` bytes.
    """
    said, rows = _LENGTHS.unpack(_exactly(come_from, _LENGTHS.size))
    if said > min(most, MOST_ASKED) or said + rows > most:
        raise ConnectionError(f"a message of {said + rows:,} bytes; at most {most:,} are taken")
    try:
        found = dict(json.loads(_exactly(come_from, said)))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConnectionError(f"a message is a JSON object: {error}") from error
    return found, _exactly(come_from, rows)


def _exactly(come_from: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = come_from.recv(min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionError("the connection was closed")
        data += part
    return bytes(data)


class TooSlow(Exception):
    """An owner that works has no time for a query: a copy of the file is to be read."""


def refusal(error: Exception) -> dict[str, Any]:
    """An error as it travels."""
    return {"error": type(error).__name__, "text": str(error)}


def raised(said: dict[str, Any]) -> Exception:
    """The error of an answer, of our own kinds only."""
    if said["error"] == TooSlow.__name__:
        return TooSlow(str(said.get("text")))
    kind = getattr(errors, str(said["error"]), None)
    text = str(said.get("text"))
    if isinstance(kind, type) and issubclass(kind, NbbatchError):
        with suppress(TypeError):  # some are made otherwise than of their text
            return kind(text)
    return {"ValueError": ValueError, "TypeError": TypeError}.get(str(said["error"]), StoreError)(text)

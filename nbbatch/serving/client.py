"""A connection to the owner of a store."""

from __future__ import annotations

import socket
import threading
from typing import Any

from nbbatch.base.errors import StoreError
from nbbatch.serving import wire
from nbbatch.serving.wire import Address

CONNECT_SECONDS = 2.0
HELLO_SECONDS = 5.0
"""For the first word: a process that is stopped takes connections all the same."""
ANSWER_SECONDS = 60.0


class Client:
    """A connection to an owner; any thread may ask."""

    def __init__(self, address: Address) -> None:
        """Connect.

        Raises:
            OSError: Nobody answers there, or does not want to talk to us.
            StoreError: It speaks another version of the protocol.
        """
        self._guard = threading.Lock()
        self._token = address.token
        tcp = isinstance(address.at, tuple)
        self._socket = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        try:
            self._socket.settimeout(CONNECT_SECONDS)
            self._socket.connect(address.at)
            said = self.ask("hello", HELLO_SECONDS)[0]
        except BaseException:
            self._socket.close()
            raise
        self.pid, self.path = int(said["pid"]), str(said["path"])
        if said["protocol"] != wire.PROTOCOL:
            self.close()
            raise StoreError(
                f"the process that holds {self.path} runs another version of nbbatch, which answers differently"
            )

    def ask(self, do: str, within: float = ANSWER_SECONDS, **more: Any) -> tuple[dict[str, Any], bytes]:
        """A request and its answer.

        Args:
            do: What is asked for.
            within: Seconds for each part of the answer.
            more: Its values.

        Raises:
            TimeoutError: The owner does not answer.
            OSError: The owner is gone.
            NbbatchError: As the owner says it.
        """
        with self._guard:
            try:
                self._socket.settimeout(within)
                wire.send(self._socket, {"do": do, "token": self._token, **more})
                said, rows = wire.receive(self._socket, wire.MOST_ANSWERED + wire.MOST_ASKED)
            except BaseException:  # half an answer may still come: nothing else may be read as another one's
                self._socket.close()
                raise
        if "error" in said:
            raise wire.raised(said)
        return said, rows

    def close(self) -> None:
        """Say no more."""
        self._socket.close()

"""The thread behind a panel that looks again and again, and hands over what changed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from nbbatch.panel.session import Session
from nbbatch.panel.snapshot import Snapshot

TICK = 0.25
"""Seconds between two values that are sent, at least …"""
SLOW_TICK = 1.0
"""… after `SLOW_AFTER` seconds."""
SLOW_AFTER = 300.0


class Poller:
    """The thread that steps a session and hands over what changed, until the run has ended and nothing is asked."""

    def __init__(
        self, session: Session, send: Callable[[dict[str, Any]], None], at_end: Callable[[Snapshot], None]
    ) -> None:
        self.session = session
        self._send, self._at_end = send, at_end
        self._wake = threading.Event()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._views = 1
        self._sent: str = ""
        self._told = False
        self.closed = False

    def start(self) -> None:
        """Begin, or go on after the end."""
        with self._guard:
            if self._thread is None and not self.closed:
                self._thread = threading.Thread(target=self._loop, name="nbbatch-panel", daemon=True)
                self._thread.start()

    def ask(self, message: Mapping[str, Any]) -> None:
        """A message of the page; any thread."""
        if message.get("do") == "bye":
            self._views -= 1
            return
        if message.get("do") == "hello":
            self._views = max(1, self._views + 1)
            self._sent = ""  # a page that was drawn anew may have missed the last one
        self.session.ask(message)
        self._wake.set()
        self.start()

    def close(self) -> None:
        """Send nothing more."""
        self.closed = True
        self._wake.set()

    def wait(self, timeout: float | None = None) -> None:
        """Until the thread has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _loop(self) -> None:
        began = time.monotonic()
        while not self.closed:
            asked = time.monotonic()
            self._wake.clear()
            if self._views > 0 or not self.session.asked.empty():
                self.tick()
            if self._is_over():
                return
            pace = SLOW_TICK if asked - began > SLOW_AFTER else TICK
            time.sleep(max(0.0, asked + TICK - time.monotonic()))
            self._wake.wait(max(0.0, asked + pace - time.monotonic()))
        self._thread = None

    def tick(self) -> None:
        """Step once, and send what changed."""
        shown = self.session.step(gently=True)
        text = json.dumps({**shown, "at": 0})
        if text != self._sent:
            self._sent = text
            self._send(shown)

    def _is_over(self) -> bool:
        """Whether nothing more is to come; then the thread is let go, so that the next message starts another."""
        now = self.session.snapshot
        if not (now.ended and now.whole) and not self.session.over:
            self._told = False
            return False
        with self._guard:
            if not self.session.asked.empty():
                return False
            self._thread = None
        if not self._told:
            self._told = True
            self._at_end(now)
        return True

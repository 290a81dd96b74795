"""Files of big values that nothing refers to any more are removed, aside from the work.

Only those of instances nothing runs for: what a worker has written before its chunk is committed looks as if nobody wanted it. So a
claim for an instance stops whoever looks through its files, before any of its steps begins.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from nbbatch.base.errors import StoreClosed
from nbbatch.store import references
from nbbatch.store.connection import MEMORY
from nbbatch.store.database import Store
from nbbatch.values.outside import Reference, SharedFolder, may_ask
from nbbatch.values.places import place_of

log = logging.getLogger("nbbatch")

CLOSING_SECONDS = 5.0
"""How long closing waits for a file that is being removed."""


class Leftovers:
    """Looks through what instances have left in the folders of one store."""

    def __init__(self, store: Store) -> None:
        """Nothing is removed before something is asked for, nor where the store has no such files."""
        self._store = store
        self.shared: SharedFolder | None = None
        """Where workers put big outputs; None: into the store."""
        self._folder, self._roots = "", list[str]()
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Held for the removal of one file, and by whoever says that an instance is worked on."""
        self._gate = threading.Lock()
        """Held while files are removed, or may not be."""
        self._busy: set[int] = set()
        self._turns: dict[int, int] = {}
        """How often an instance was begun here: more often than before, and what was read of it is old."""
        self._thread: threading.Thread | None = None

    @property
    def root(self) -> str | None:
        """The shared folder or URL that big outputs go to."""
        return self.shared and self.shared.root

    def share(self, root: str | None) -> None:
        """Have big outputs be put into a shared folder, and look through what earlier openings put there.

        Args:
            root: A path or a URL; None: into the store from now on.
        """
        self._folder, roots = references.folders(self._store, root)
        self._roots = [each for each in roots if may_ask(each)]
        self.shared = None if root is None else SharedFolder(root, self._folder)
        self.look()

    def begin(self, instance: int) -> SharedFolder | None:
        """From now on workers may write files for an instance; returns where."""
        if instance not in self._busy:
            with self._lock:
                self._busy.add(instance)
                self._turns[instance] = self._turns.get(instance, 0) + 1
        return self.shared

    def end(self, *instances: int) -> None:
        """Instances have ended, or are gone: have their files looked through."""
        for instance in instances:
            self._busy.discard(instance)
            self._ask(lambda instance=instance: self._look_through(instance))

    def look(self) -> None:
        """Have all be looked through of which nothing runs."""
        self._ask(self._look_through_all)

    def settle(self) -> None:
        """Wait until all is done that was asked for."""
        if not self._roots:
            return
        done = threading.Event()
        self._ask(done.set)
        while not done.wait(0.2) and self._thread is not None and self._thread.is_alive():
            pass  # unless it is closed meanwhile

    @contextmanager
    def held(self) -> Generator[None]:
        """Nothing is removed meanwhile."""
        with self._gate:
            yield

    def close(self) -> None:
        """Remove nothing more, but for all that there is of a store in memory."""
        if self._store.path == MEMORY:
            self._ask(self._clear)
        self._asked.put(None)
        if self._thread is not None:
            self._thread.join(CLOSING_SECONDS)

    def _ask(self, act: Callable[[], None]) -> None:
        if not self._roots:
            return
        self._asked.put(act)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nbbatch-values", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while act := self._asked.get():
            try:
                with self._gate:
                    act()
            except StoreClosed:
                pass
            except Exception as error:  # the files stay; the next opening tries again
                log.warning("files of values that are not needed any more could not be removed: %s", error)

    def _clear(self) -> None:
        for root in self._roots:
            place_of(root).clear(self._folder)

    def _look_through_all(self) -> None:
        for root in self._roots:
            for name in place_of(root).names(self._folder):
                if name.isdecimal():
                    self._look_through(int(name))

    def _look_through(self, instance: int) -> None:
        turn = self._turns.get(instance, 0)
        if instance in self._busy:
            return
        folder = f"{self._folder}/{instance}"
        for root in self._roots:
            found = place_of(root).names(folder)
            needed = self._needed(instance) if found else set[str]()
            for name in found:
                if name not in needed and not self._remove(root, f"{folder}/{name}", instance, turn):
                    return
            if found and not needed:
                self._remove(root, folder, instance, turn)

    def _needed(self, instance: int) -> set[str]:
        return {Reference.read(data).sha256 for (data,) in self._store.fetch("references", instance)}

    def _remove(self, root: str, name: str, instance: int, turn: int) -> bool:
        """Remove a file, or a folder that is empty; returns whether the instance is still as it was when its references were read."""
        with self._lock:
            is_still = instance not in self._busy and self._turns.get(instance, 0) == turn
            if is_still:
                place_of(root).remove(name)
            return is_still

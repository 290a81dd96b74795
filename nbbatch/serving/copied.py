"""A store of which no owner answers, as a copy of its file."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from nbbatch.base import private_folder
from nbbatch.base.errors import StoreError, StoreUnreadable
from nbbatch.store import backup, copying


class Copy:
    """A copy of a store's file in a folder of its own, opened."""

    def __init__(self, path: str) -> None:
        """Make it.

        Raises:
            StoreUnreadable: There is no store, or it is damaged.
            StoreError: No whole copy could be made.
        """
        self.taken = time.monotonic()
        source = copying.Source(path)
        folder, self._remove = private_folder.made_for(self, "look")
        try:
            self.state = source.newest()
            copy = Path(folder) / Path(path).name
            copying.take(source, copy)
            self.store = backup.opened(copy)
        except BaseException as error:
            self._remove()
            if isinstance(error, StoreUnreadable):
                raise StoreUnreadable(str(error).replace(folder, str(Path(path).parent))) from None
            raise
        finally:
            source.close()

    def close(self) -> None:
        """Remove it, before its store is closed: a store whose file is gone is not brought in order first, which would take seconds."""
        self._remove()
        with suppress(StoreError):
            self.store.close()

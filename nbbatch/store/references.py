"""What a store notes of files that hold values: the folders they are in, and, in a copy, the values in their place."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from nbbatch.base.errors import StoreUnreadable
from nbbatch.store.writing import Writer

TAKEN_IN = 32
"""Values that a transaction takes in from files."""


def folders(store: Writer, root: str | None) -> tuple[str, list[str]]:
    """The store's own folder, and the shared ones and URLs that it is in, the newest first.

    Args:
        store: An open one.
        root: One that is used from now on.
    """
    found = store.rows("shared_folder")
    noted: dict[str, Any] = json.loads(found[0][0]) if found else {"folder": secrets.token_hex(8), "roots": []}
    if root is not None and noted["roots"][:1] != [root]:
        noted["roots"] = [root, *(each for each in noted["roots"] if each != root)]
        with store.transaction():
            store.run("forget_shared_folder")
            store.run("note_shared_folder", json.dumps(noted))
    return noted["folder"], noted["roots"]


def take_in(store: Writer, read: Callable[[bytes], bytes]) -> list[str]:
    """Put values that lie in files into their rows, so that the store is whole without the files.

    Args:
        store: A copy.
        read: Gives the value of a reference.

    Returns:
        Why some could not be read.
    """
    missing = [
        *_put(store, store.rows("chunk_references"), read, lambda row, data: store.run("put_in_chunk", row, data)),
        *_put(store, store.rows("staged_references"), read, lambda row, data: store.run("put_in_staged", row, data)),
        *_put(store, store.rows("output_references"), read, lambda row, data: store.run("put_in_output", row, data)),
    ]
    if not missing:
        with store.transaction():
            store.run("forget_shared_folder")
    return missing


def _put(
    store: Writer, found: list[tuple[Any, ...]], read: Callable[[bytes], bytes], put: Callable[[int, bytes], None]
) -> list[str]:
    missing: list[str] = []
    for start in range(0, len(found), TAKEN_IN):
        with store.transaction():
            for row, data in found[start : start + TAKEN_IN]:
                try:
                    put(row, read(data))
                except StoreUnreadable as error:
                    missing.append(str(error))
    return missing

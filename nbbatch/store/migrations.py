"""Stores of an older format → the present one: a copy is put beside the file, then one transaction changes it.

A crash at any moment leaves the file as it was, and the next opening begins anew. Nothing here knows DuckDB: the
store brings its connection.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from nbbatch.base.errors import StoreUnreadable
from nbbatch.base.private_file import replaced
from nbbatch.store import queries
from nbbatch.store.copying import Source

SCHEMA, *_parts = re.split(r"^-- from format (\d+): .*$", queries.SCHEMA, flags=re.MULTILINE)
"""The statements that make the present tables."""
MIGRATIONS: Mapping[int, str] = {int(number): text for number, text in zip(_parts[::2], _parts[1::2], strict=True)}
"""From each older format, the statements that make the next one of it. Views and macros are made anew after the last."""
FORMAT = 1 + max(MIGRATIONS, default=0)
"""Version of the tables."""


def check(path: str, found: int, wanted: int) -> None:
    """Raises StoreUnreadable where a store's format is newer than this nbbatch, or too old for it."""
    if found > wanted:
        raise StoreUnreadable(
            f"{path} has store format {found}; this nbbatch knows up to {wanted}. "
            "Upgrade nbbatch (pip install -U nbbatch); the file was left as it is"
        )
    missing = [number for number in range(found, wanted) if number not in MIGRATIONS]
    if missing:
        raise StoreUnreadable(
            f"{path} has store format {found}, which this nbbatch (format {wanted}) can no longer migrate; open it with "
            "an older nbbatch first. The file was left as it is"
        )


def keep_copy(source: Source, found: int) -> Path:
    """Put a copy of a store that is open, and not written to, beside it: ``name.format1.duckdb``, or with a number where another one is there.

    Raises:
        StoreUnreadable: There is no room for it, say; the store is as it was.
    """
    copy = next(each for each in _names(source.path, found) if not each.exists() or source.is_same(each))
    try:
        if source.log.exists() and source.log.stat().st_size:
            with source.log.open("rb") as log, replaced(Path(f"{copy}.wal")) as file:
                shutil.copyfileobj(log, file)
        with replaced(copy) as file:
            source.write_to(file)
    except OSError as error:
        raise StoreUnreadable(
            f"{source.path} has store format {found} and is brought to the present one only once a copy is kept as {copy.name}, "
            f"which could not be made: {error}. Make room for it beside the file; the file was left as it is"
        ) from error
    return copy


def _names(path: Path, found: int) -> Iterator[Path]:
    stem, end = path.with_suffix("").name, path.suffix
    yield path.with_name(f"{stem}.format{found}{end}")
    yield from (path.with_name(f"{stem}.format{found}.{number}{end}") for number in count(2))


def steps(found: int, wanted: int) -> Iterator[str]:
    """The statements that lead from one format to another."""
    return (MIGRATIONS[number] for number in range(found, wanted))

"""Rows on their way to a table, column by column: a micro-batch is added in a few operations, not one per row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

from nbbatch.base.rows import Row

WORTH = 100
"""A part of a column pays for itself from so many rows on; shorter ones are copied into one list."""


class Same(NamedTuple):
    """One value in many rows."""

    value: Any
    total: int


class Column:
    """The values of one column: what many rows share stands there once.

    >>> column = Column()
    >>> for values in (7, range(4, 6), range(6, 9), [1], [2]):
    ...     column.extend(values, 1 if values == 7 else len(values))
    >>> column.parts, column.flat()
    ([Same(value=7, total=1), range(4, 9), [1, 2]], [7, 4, 5, 6, 7, 8, 1, 2])
    """

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[Same | range | list[Any]] = []

    def extend(self, given: Any, total: int) -> None:
        """Add values of so many rows; what is no list, tuple or range is the same in all of them."""
        last = self.parts[-1] if self.parts else None
        if isinstance(given, list | tuple):
            values = cast("Sequence[Any]", given)
            if isinstance(last, list):
                last.extend(values)
            else:
                self.parts.append([*values])
        elif isinstance(given, range):
            if isinstance(last, range) and last.stop == given.start:
                self.parts[-1] = range(last.start, given.stop)
            else:
                self.parts.append(given)
        elif isinstance(last, Same) and last.value == given:
            self.parts[-1] = Same(given, last.total + total)
        else:
            self.parts.append(Same(given, total))

    def add(self, other: Column) -> None:
        """Add all values of another one."""
        for part in other.parts:
            self.extend(*part) if isinstance(part, Same) else self.extend(part, len(part))

    def flat(self) -> list[Any]:
        """All values in one list, which is the column's own: what is changed in it is changed there."""
        if len(self.parts) != 1 or not isinstance(self.parts[0], list):
            parts = ([part.value] * part.total if isinstance(part, Same) else part for part in self.parts)
            self.parts = [[*chain.from_iterable(parts)]]
        found: Any = self.parts[0]
        return found

    def is_worth_parts(self) -> bool:
        """Whether its parts are long enough to be handed on one by one."""
        return 0 < len(self.parts) * WORTH <= len(self)

    def __len__(self) -> int:
        return sum(part.total if isinstance(part, Same) else len(part) for part in self.parts)


class Columns:
    """Rows of one kind."""

    __slots__ = ("_columns", "_row", "_single")

    def __init__(self, row: Row) -> None:
        self._row = row
        self._columns = [Column() for _ in row._fields]
        self._single: list[Sequence[Any]] = []
        """The last rows, which were added one by one: many of them become columns at once."""

    def append(self, row: Sequence[Any]) -> None:
        """Add one row."""
        self._single.append(row)

    @property
    def columns(self) -> list[Column]:
        """By place."""
        if self._single:
            for column, values in zip(self._columns, zip(*self._single, strict=True), strict=True):
                column.extend(values, len(values))
            self._single.clear()
        return self._columns

    def extend(self, total: int, /, **given: Any) -> None:
        """Add many rows by field name; what is no list, tuple or range is the same in all of them.

        >>> from nbbatch.base.rows import ChunkRow
        >>> chunks = Columns(ChunkRow)
        >>> chunks.extend(2, id=range(4, 6), instance=1, step=0, parent=3, seq=[0, 1], created_us=7)
        >>> chunks.rows()
        [(4, 1, 0, 3, 0, 7, None, None), (5, 1, 0, 3, 1, 7, None, None)]
        """
        if total == 1:
            row: Any = self._row
            self.append(row(**{name: _first(value) for name, value in given.items()}))
            return
        values = {**self._row._field_defaults, **given}
        for name, column in zip(self._row._fields, self.columns, strict=True):
            column.extend(values.pop(name), total)
        if values:
            raise TypeError(f"{self._row.__name__} has no {', '.join(values)}")

    def add(self, other: Columns) -> None:
        """Add the rows of others of the same kind."""
        for column, more in zip(self.columns, other.columns, strict=True):
            column.add(more)

    def column(self, name: str) -> list[Any]:
        """One column, to be read or changed."""
        return self.columns[self._row._fields.index(name)].flat()

    def rows(self) -> list[tuple[Any, ...]]:
        """The same, row by row."""
        return list(zip(*(column.flat() for column in self.columns), strict=True))

    def __len__(self) -> int:
        return len(self._columns[0]) + len(self._single)


def _first(given: Any) -> Any:
    """The value of the first row; what is no list, tuple or range is the same in all of them."""
    return cast("Sequence[Any]", given)[0] if isinstance(given, list | tuple | range) else given

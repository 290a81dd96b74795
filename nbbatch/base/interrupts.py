"""Signals that come while DuckDB runs a query: it says that it was interrupted, and loses what the signal's handler raised."""

from __future__ import annotations

_endings: list[SystemExit] = []


def ending(status: int) -> SystemExit:
    """What a handler raises to end the process."""
    made = SystemExit(status)
    _endings[:] = [made]
    return made


def behind(error: Exception) -> BaseException | None:
    """What a signal's handler raised within a query that ended in this error; None: it is an error of its own.

    >>> behind(RuntimeError("Query interrupted")), behind(RuntimeError("no"))
    (KeyboardInterrupt(), None)
    """
    if type(error) is not RuntimeError or str(error) != "Query interrupted":
        return None
    return _endings[0] if _endings else KeyboardInterrupt()

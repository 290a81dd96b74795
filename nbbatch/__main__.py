"""``python -m nbbatch``, which is the command ``nbbatch``."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

from nbbatch.base.display import needing
from nbbatch.base.interrupts import ending


def _put_back(_signal: int, _frame: FrameType | None) -> None:
    raise ending(75)


def main() -> None:
    """Run the command that the process was called with, and exit with its code."""
    # from here on, as process 1 of a container would not hear of it before a store is open
    signal.signal(signal.SIGTERM, _put_back)
    sys.stdout, sys.stderr = (each or open(os.devnull, "w") for each in (sys.stdout, sys.stderr))  # noqa: PTH123, SIM115 - closed, as `>&-` does
    for stream in (sys.stdout, sys.stderr):  # of an old terminal: a sign that it has not is written as an escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with needing("cli"):
            import click  # noqa: F401  # pyright: ignore[reportUnusedImport]
            import rich  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        sys.exit(f"nbbatch: {error}")
    from nbbatch.shell import frontend

    sys.exit(frontend.run())


if __name__ == "__main__":
    main()

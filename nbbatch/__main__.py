"""``python -m nbbatch``, which is the command ``nbbatch``."""

from __future__ import annotations

import io
import os
import sys

from nbbatch.base.display import needing
from nbbatch.base.startup import hear_sigterm
from nbbatch.shell import pipes


def main() -> None:
    """Run the command that the process was called with, and exit with its code."""
    hear_sigterm()
    streams = (each or open(os.devnull, "w") for each in (sys.stdout, sys.stderr))  # noqa: PTH123, SIM115 - closed, as `>&-` does
    sys.stdout, sys.stderr = map(pipes.quiet, streams)
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

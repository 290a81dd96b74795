"""``python -m nbbatch``, which is the command ``nbbatch``."""

from __future__ import annotations

import sys

from nbbatch.base.display import needing


def main() -> None:
    """Run the command that the process was called with, and exit with its code."""
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

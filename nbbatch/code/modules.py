"""Where a function or class is imported from: the same in each process and version of Python, so that digests are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def module_of(value: Any) -> str:
    """Where a function or class is imported from: where it is made, Python 3.13 has ``pathlib._local`` for what was ``pathlib`` before."""
    if value.__module__ == "__main__":
        return _main()
    parts = str(value.__module__).split(".")
    for end in range(1, len(parts)):
        outer = ".".join(parts[:end])
        if getattr(sys.modules.get(outer), value.__qualname__, None) is value:
            return outer
    plain = parts[0].lstrip("_")
    is_there = getattr(sys.modules.get(plain), value.__qualname__, None) is value
    return plain if len(parts) == 1 and is_there else str(value.__module__)


def _main() -> str:
    """The name by which others import what runs as ``__main__``: a script's classes are those of its module."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return spec.name if spec else Path(file).stem if file else "__main__"

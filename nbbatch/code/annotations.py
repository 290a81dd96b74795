"""Type hints as they are written: from Python 3.14 on they are evaluated when asked for, and may name what is not there."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

if sys.version_info >= (3, 14):
    from annotationlib import Format, get_annotations

    def written(value: Any) -> dict[str, Any]:
        """A function's or class's own hints, as text or as what they are."""
        return get_annotations(value, format=Format.STRING)

    def signature(function: Callable[..., Any]) -> inspect.Signature:
        """What it takes; hints may be text."""
        return inspect.signature(function, annotation_format=Format.STRING)

else:
    written, signature = inspect.get_annotations, inspect.signature

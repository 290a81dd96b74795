"""Code as bytes for worker processes, by cloudpickle."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

_CACHED: Any = type(lru_cache(len))


def dumps(code: Any) -> bytes:
    """Anything that steps are made of; what their notebook or script defines travels with it."""
    buffer = BytesIO()
    _pickler()(buffer).dump(code)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _pickler() -> Any:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            """cloudpickle sends a function under lru_cache by its name only, which a worker does not find."""
            if isinstance(obj, _CACHED) and (obj.__module__ == "__main__" or "<locals>" in obj.__qualname__):
                return _cached, (obj.__wrapped__, obj.cache_parameters())
            above: Any = super()
            return above.reducer_override(obj)

    return Pickler


def _cached(function: Callable[..., Any], settings: dict[str, Any]) -> Any:
    """The function with a cache of its own, which fills in each process anew."""
    return lru_cache(**settings)(function)

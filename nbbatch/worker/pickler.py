"""How code is pickled: as cloudpickle does it, but for what would come out as something else in another process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import is_dataclass
from functools import cached_property, lru_cache, singledispatch
from types import FunctionType
from typing import Any, cast, get_type_hints

from nbbatch.code.dispatched import dispatched
from nbbatch.values.hints import is_named_tuple, is_typed_dict

CACHED: Any = type(lru_cache(len))
"""What a function under ``lru_cache`` is."""


@lru_cache(maxsize=1)
def pickler_class() -> Any:
    """The class; cloudpickle is imported where it is asked for."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        apart: Mapping[int, str]
        sources: set[str]
        """Files of the functions that travelled as they are, not by their names."""
        named: list[Any]
        """The classes and functions that did, and that the notebook or script has by their names."""

        def persistent_id(self, obj: Any) -> str | None:
            return self.apart.get(id(obj))

        def reducer_override(self, obj: Any) -> Any:
            """cloudpickle sends a function under lru_cache by its name only, which a worker does not find."""
            if isinstance(obj, CACHED) and _travels(obj):
                return _cached, (obj.__wrapped__, obj.cache_parameters())
            if _travels(obj) and (functions := dispatched(obj)):  # it holds weak references
                return _dispatching, (functions,)
            if isinstance(obj, cached_property):  # before Python 3.12 it holds a lock
                return _cached_property, (obj.func, obj.attrname)
            above: Any = super()
            reduced = _name_of(obj) or above.reducer_override(obj)
            is_code = isinstance(obj, type | FunctionType) and reduced is not NotImplemented
            return _noted(self, obj, reduced) if is_code else reduced

    return Pickler


def _noted(pickler: Any, code: Any, reduced: Any) -> Any:
    """How a class or a function travels that does so as it is, and the pickler keeps in mind that it does."""
    if code.__module__ == "__main__" and code.__qualname__ == code.__name__:
        pickler.named.append(code)
    if isinstance(code, type):
        return _with_types(code, reduced)
    pickler.sources.add(code.__code__.co_filename)
    return reduced


def _travels(function: Any) -> bool:
    """Whether a function is one of a notebook, a script or another function, which no worker can import."""
    return getattr(function, "__module__", "") == "__main__" or "<locals>" in getattr(function, "__qualname__", "")


def _name_of(obj: Any) -> str | None:
    """The name by which the module of its class has an object that holds nothing, such as ``dataclasses.MISSING``; None: any other object.

    All that there is to such an object is which one it is, and a copy is another one.
    """
    kind = cast("type[Any]", type(obj))
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__ in ("builtins", "__main__"):
        return None
    if any(
        getattr(kind, name, None) is not getattr(object, name)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    ):
        return None
    try:
        if obj.__getstate__() is not None:
            return None
    except TypeError:  # it cannot travel
        return None
    return next((name for name, value in vars(module).items() if value is obj), None)


def _with_types(kind: Any, reduced: Any) -> Any:
    """A class that travels with the types of its fields in place of their names, which are looked up where it was defined.

    Args:
        kind: The class.
        reduced: How cloudpickle makes it again: of what, and its attributes.
    """
    if not (is_dataclass(kind) or is_typed_dict(kind) or is_named_tuple(kind)):
        return reduced
    try:
        hints = get_type_hints(kind, include_extras=True)
        attributes: dict[str, Any] = reduced[2][0]
    except Exception:  # a name that only type checkers know, say: it is told where the type is used
        return reduced
    attributes["__annotations__"] = {name: hints[name] for name in attributes.get("__annotations__", ())}
    if fields := attributes.get("__dataclass_fields__"):
        copies = attributes["__dataclass_fields__"] = {name: copy(field) for name, field in fields.items()}
        for name, field in copies.items():
            field.type = hints.get(name, field.type)
    return reduced


def _cached(function: Callable[..., Any], settings: dict[str, Any]) -> Any:
    """The function with a cache of its own, which fills in each process anew."""
    return lru_cache(**settings)(function)


def _dispatching(functions: dict[type, Callable[..., Any]]) -> Any:
    made = singledispatch(functions[object])
    for kind, function in functions.items():
        made.register(kind, function)
    return made


def _cached_property(function: Callable[..., Any], name: str | None) -> Any:
    made = cached_property(function)
    made.attrname = name
    return made

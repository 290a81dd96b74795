"""Type hints taken apart: what values do with them, whatever they stand for."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

_WRAPPERS = {"Required", "NotRequired", "ReadOnly"}
UNIONS = (Union, UnionType)
SECRETS = (SecretStr, SecretBytes, Secret)


def bare(annotation: Any) -> Any:
    """The type without ``Annotated``, ``Required`` and the like, and without a NewType's or alias's name."""
    return _peeled(annotation)[0]


def marks(annotation: Any) -> tuple[Any, ...]:
    """What ``Annotated`` says beside the type, all the way in.

    >>> marks(Annotated[Annotated[int, "a"], "b"])
    ('a', 'b')
    """
    return _peeled(annotation)[1]


def _peeled(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type inside, and what stood around it."""
    found: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *beside = get_args(annotation)
            found += beside
        elif getattr(get_origin(annotation), "__name__", "") in _WRAPPERS:
            annotation = get_args(annotation)[0]
        elif (
            inner := getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
        ) is not None and not isinstance(annotation, TypeVar):
            annotation = inner
        else:
            return annotation, tuple(found)


def is_typed_dict(kind: Any) -> bool:
    """Whether it is a TypedDict."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def typed_dict_fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Types of the fields of a TypedDict, and whether each has to be there."""
    found: dict[str, tuple[Any, bool]] = {}
    for name, hint in field_hints(kind).items():
        wrapper = getattr(get_origin(hint), "__name__", "")
        inner = get_args(hint)[0] if wrapper in _WRAPPERS else hint
        found[name] = inner, wrapper == "Required" or (wrapper != "NotRequired" and name in kind.__required_keys__)
    return found


def is_named_tuple(kind: Any) -> bool:
    """Whether it is a NamedTuple, or of ``collections.namedtuple``."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def field_hints(kind: Any) -> Mapping[str, Any]:
    """Types of the fields of a model, dataclass, NamedTuple or TypedDict, with their marks; none of anything else."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return {name: Annotated[field.annotation, *(field.metadata or [None])] for name, field in fields}
    if not (is_dataclass(kind) or is_typed_dict(kind) or is_named_tuple(kind)):
        return {}
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # what cannot be resolved is anything
        hints = dict[str, Any]()
    names = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "_fields", None) or hints
    return {name: hints.get(name, Any) for name in cast("Mapping[str, Any]", names)}

"""Which declared types pydantic's JSON gives back equal, whatever their value, and what of a value has to be looked at for it.

That is the quick way for common types: scalars, times, and models, dataclasses, lists and dicts of them. All others take the
way of `tree`.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import fields
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin
from uuid import UUID

import annotated_types
from pydantic import BaseModel, RootModel, Strict
from pydantic.fields import FieldInfo
from pydantic_core import TzInfo

from nbbatch.values.hints import SECRETS, UNIONS, bare, field_hints, is_typed_dict, marks

Look = Callable[[Any], bool]
"""Whether a value is odd: one that JSON would change."""

_KINDS: dict[Any, str] = {
    str: "text", int: "number", float: "number", bool: "truth", type(None): "null", None: "null", UUID: "text",
    Decimal: "text", dt.date: "text", dt.datetime: "text", dt.time: "text", dt.timedelta: "text", Path: "text",
    **dict.fromkeys(SECRETS[:2], "text"),
}  # fmt: skip
"""The JSON of leaves."""
_KEYS = (str, int, UUID)
_HARMLESS = {
    "title", "frozen", "populate_by_name", "validate_by_name", "validate_by_alias", "arbitrary_types_allowed", "validate_assignment",
    "validate_default", "validate_return", "alias_generator", "serialize_by_alias", "from_attributes", "use_attribute_docstrings",
    "protected_namespaces", "json_schema_extra", "json_schema_serialization_defaults_required", "json_schema_mode_override",
    "strict", "hide_input_in_errors", "loc_by_alias", "defer_build", "model_title_generator", "field_title_generator",
}  # fmt: skip
"""Settings of models that change no value."""
_CHECKS = {"pattern", "strict", "max_digits", "decimal_places", "allow_inf_nan", "min_length", "max_length"}


_DECORATED = "PydanticDescriptorProxy"
"""What pydantic's decorators leave in a class."""


class Unsafe(Exception):
    """Some value of the type would come back changed."""


class Plain:
    """How values of a type pass as JSON.

    Attributes:
        odd: What has to be looked at; None: nothing.
        verified: Whether to read each value again before it is stored: instances may hold what their type refuses.
        native: Whether JSON says it all, so that it is read equal as any type that accepts it.
    """

    def __init__(self, annotation: Any) -> None:
        self.verified = False
        self.native = True
        self._open: list[Any] = []
        self.odd = self._look(annotation)

    def _look(self, annotation: Any) -> Look | None:
        self._check_marks(marks(annotation))
        kind = bare(annotation)
        if kind in _KINDS:
            self.native = self.native and kind in (str, int, float, bool, type(None), None)
            return _LOOKS.get(kind)
        origin: Any = get_origin(kind)
        if origin in UNIONS:
            return self._union(get_args(kind))
        if origin in _CONTAINERS:
            self.native = self.native and origin in (list, dict)
            return _CONTAINERS[origin](self, get_args(kind))
        self.native = self.native and origin is Literal
        if origin is Literal:
            return self._literal(get_args(kind))
        return self._class(kind)

    def _check_marks(self, given: tuple[Any, ...]) -> None:
        for each in given:
            if isinstance(each, annotated_types.BaseMetadata | annotated_types.GroupedMetadata | Strict):
                self.verified = True
            elif isinstance(each, FieldInfo):
                if each.exclude or each.discriminator or each.annotation is not None:
                    raise Unsafe
                self._check_marks(tuple(each.metadata))
            elif type(each).__module__.startswith("pydantic") or hasattr(each, "__get_pydantic_core_schema__"):
                if not set(getattr(each, "__dict__", {"?": 0})) <= _CHECKS:
                    raise Unsafe
                self.verified = True

    # --- containers -------------------------------------------------------------------------------

    def items(self, args: tuple[Any, ...]) -> Look | None:
        inner = self._look(args[0])
        return None if inner is None else lambda value: any(map(inner, value))

    def sets(self, args: tuple[Any, ...]) -> Look | None:
        if bare(args[0]) not in (str, int, UUID, Decimal, bool, dt.date):
            raise Unsafe
        return self.items(args)

    def tuples(self, args: tuple[Any, ...]) -> Look | None:
        if args[1:] == (Ellipsis,):
            return self.items(args)
        looks = [(place, look) for place, each in enumerate(args) if (look := self._look(each)) is not None]
        return (lambda value: any(look(value[place]) for place, look in looks)) if looks else None

    def dicts(self, args: tuple[Any, ...]) -> Look | None:
        if bare(args[0]) not in _KEYS:
            raise Unsafe
        self._look(args[0])
        self.native = self.native and bare(args[0]) is str
        inner = self._look(args[1])
        return None if inner is None else lambda value: any(map(inner, value.values()))

    def _union(self, args: tuple[Any, ...]) -> Look | None:
        """Of members whose JSON cannot be taken for another's."""
        taken: list[str] = []
        looks: list[tuple[Any, Look]] = []
        for each in args:
            kind = bare(each)
            if (look := self._look(each)) is not None:
                looks.append((get_origin(kind) or kind, look))
            taken.append("" if kind in (int, float) else _json(kind))
        if len({*taken} - {""}) < len([each for each in taken if each]):
            raise Unsafe
        if not looks:
            return None
        return lambda value: any(look(value) for kind, look in looks if isinstance(value, kind))

    def _literal(self, args: tuple[Any, ...]) -> None:
        kinds = {type(each) for each in args} - {type(None)}
        if len(kinds) > 1 or not kinds <= {str, int, bool}:
            raise Unsafe

    # --- classes ----------------------------------------------------------------------------------

    def _class(self, kind: Any) -> Look | None:
        if not isinstance(kind, type):
            raise Unsafe
        if kind in self._open:
            raise Unsafe  # holds itself: how deep is not known
        self._open.append(kind)
        try:
            return self._of_class(kind)
        finally:
            self._open.pop()

    def _of_class(self, kind: Any) -> Look | None:
        if issubclass(kind, Enum):
            return _enum(kind)
        if issubclass(kind, BaseModel):
            self._check_model(kind)
        elif hasattr(kind, "__dataclass_fields__"):
            self._check_dataclass(kind)
        elif is_typed_dict(kind):
            if sys.version_info < (3, 12) and type(kind).__module__ == "typing":
                raise Unsafe  # pydantic does not read it, so JSON would give back its own types
            self._check_config(getattr(kind, "__pydantic_config__", {}))
        else:
            raise Unsafe
        looks = [(name, look) for name, hint in field_hints(kind).items() if (look := self._look(hint)) is not None]
        if is_typed_dict(kind):
            return (lambda value: any(look(value[name]) for name, look in looks if name in value)) if looks else None
        if issubclass(kind, BaseModel):
            return _model_look(kind, looks)
        return _dataclass_look(kind, looks)

    def _check_model(self, kind: type[BaseModel]) -> None:
        made = kind.__pydantic_decorators__
        by_hand = (
            made.validators, made.field_validators, made.root_validators, made.field_serializers, made.model_serializers,
            made.model_validators, kind.__private_attributes__,
        )  # fmt: skip
        own = kind.__get_pydantic_core_schema__.__func__ is not BaseModel.__get_pydantic_core_schema__.__func__  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess, reportUnknownVariableType]
        if (
            any(by_hand)
            or own
            or kind.__pydantic_custom_init__
            or kind.__pydantic_post_init__
            or not kind.__pydantic_complete__
        ):
            raise Unsafe
        self._check_config(cast("dict[str, Any]", kind.model_config))
        names = set(kind.model_fields)
        for name, field in kind.model_fields.items():
            if field.exclude or field.discriminator or field.init_var or _other_names(field) & (names - {name}):
                raise Unsafe

    def _check_dataclass(self, kind: Any) -> None:
        made = getattr(kind, "__pydantic_decorators__", None)
        if hasattr(kind, "__post_init__") or (
            made is not None and any(vars(made).values() if hasattr(made, "__dict__") else _parts(made))
        ):
            raise Unsafe
        self._check_config(getattr(kind, "__pydantic_config__", {}))
        for each in fields(kind):
            if not each.init or isinstance(each.default, FieldInfo):
                raise Unsafe
        written = getattr(kind, "__annotations__", {}).values()
        if any("InitVar" in str(each) for each in written) or any(
            type(each).__name__ == _DECORATED for each in vars(kind).values()
        ):
            raise Unsafe

    def _check_config(self, config: dict[str, Any]) -> None:
        for name, value in config.items():
            if name == "ser_json_inf_nan" and value in ("null", "constants"):
                continue
            if name == "extra" and value in ("ignore", "forbid", None):
                continue
            if name in ("str_min_length", "str_max_length", "allow_inf_nan"):
                self.verified = True
            elif name not in _HARMLESS:
                raise Unsafe


def _parts(made: Any) -> list[Any]:
    return [getattr(made, name) for name in type(made).__slots__ if name != "computed_fields"]


def _other_names(field: FieldInfo) -> set[str]:
    found: set[str] = set()
    for each in (field.alias, field.validation_alias):
        choices = getattr(each, "choices", None) or [each]
        for choice in choices:
            path = getattr(choice, "path", None) or [choice]
            found.add(str(path[0]))
            if len(path) > 1:
                found |= {str(field)}
    return found - {"None"}


def _json(kind: Any) -> str:
    """The kind of JSON that values of a type become."""
    if kind in _KINDS:
        return _KINDS[kind]
    origin: Any = get_origin(kind) or kind
    if origin is Literal:
        return _KINDS[type(get_args(kind)[0])] if None not in get_args(kind) else "?"
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _KINDS[type(next(iter(origin)).value)]
    if isinstance(origin, type) and issubclass(origin, RootModel):
        return _json(bare(origin.model_fields["root"].annotation))  # pyright: ignore[reportUnknownMemberType]
    return "array" if origin in (list, tuple, set, frozenset) else "object"


# --- looks ----------------------------------------------------------------------------------------


def _enum(kind: type[Enum]) -> Look | None:
    kinds = {type(each.value) for each in kind}
    if issubclass(kind, Flag) or kinds not in ({str}, {int}):
        raise Unsafe
    if any(name in vars(base) for base in kind.__mro__[:-1] for name in ("__get_pydantic_core_schema__",)):
        raise Unsafe
    if "_missing_" in {name for base in kind.__mro__ if base is not Enum for name in vars(base)}:
        raise Unsafe
    return lambda value: type(value) is not kind


def _model_look(kind: type, looks: list[tuple[str, Look]]) -> Look:
    if not looks:
        return lambda value: type(value) is not kind

    def odd(value: Any) -> bool:
        if type(value) is not kind:
            return True
        given = value.__dict__
        return any(name not in given or look(given[name]) for name, look in looks)

    return odd


def _dataclass_look(kind: Any, looks: list[tuple[str, Look]]) -> Look:
    names = {each.name for each in fields(kind)}

    def odd(value: Any) -> bool:
        if type(value) is not kind or not names >= {*getattr(value, "__dict__", ())}:
            return True
        return any(look(getattr(value, name)) for name, look in looks)

    return odd


def _odd_moment(value: Any) -> bool:
    kind = type(value)
    if kind is not dt.datetime and kind is not dt.time:
        return value is not None
    zone = value.tzinfo
    return value.fold or not (
        zone is None
        or zone is dt.UTC
        or (type(zone) is TzInfo and cast("dt.timedelta", zone.utcoffset(None)).seconds % 60 == 0)
    )


def _exactly(kind: type) -> Look:
    return lambda value: type(value) is not kind


_LOOKS: dict[Any, Look] = {
    dt.datetime: _odd_moment, dt.time: _odd_moment, **{kind: _exactly(kind) for kind in (dt.date, dt.timedelta)},
}  # fmt: skip
_CONTAINERS: dict[Any, Callable[[Plain, tuple[Any, ...]], Look | None]] = {
    list: Plain.items, set: Plain.sets, frozenset: Plain.sets, tuple: Plain.tuples, dict: Plain.dicts,
}  # fmt: skip


def plain_of(annotation: Any) -> Plain | None:
    """How values of a type pass as JSON; None: not all of them come back equal."""
    try:
        return Plain(annotation)
    except (Unsafe, RecursionError):
        return None

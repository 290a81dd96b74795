"""pydantic's adapters of declared types, of some that pydantic itself does not take too."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

from contextlib import suppress
from dataclasses import is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ConfigDict, GetCoreSchemaHandler, GetPydanticSchema, InstanceOf, PydanticUserError, TypeAdapter
from pydantic_core import CoreSchema
from pydantic_core.core_schema import any_schema, typed_dict_field, typed_dict_schema

from nbbatch.values.hints import UNIONS, is_typed_dict, typed_dict_fields

_CONFIG = ConfigDict(ser_json_inf_nan="constants", arbitrary_types_allowed=True)


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """pydantic's adapter; plain types keep NaN and infinities, models decide for themselves."""
    try:
        return TypeAdapter(annotation, config=_CONFIG)
    except PydanticUserError as error:
        refused = error
    if refused.code == "type-adapter-config-unused":
        with suppress(PydanticUserError):
            return TypeAdapter(annotation)
    if is_dataclass(annotation):
        instance: Any = InstanceOf
        return TypeAdapter(instance[annotation])
    taken = _taken(annotation)
    if taken is annotation:
        raise refused
    return TypeAdapter(taken, config=_CONFIG)


def _taken(annotation: Any) -> Any:
    """A type with each TypedDict in it as what its fields say; itself, if there is none."""
    if is_typed_dict(annotation):
        return _of_fields(annotation)
    args = get_args(annotation)
    origin: Any = get_origin(annotation)
    given = tuple(each if isinstance(each, list) else _taken(each) for each in args)
    if all(one is other for one, other in zip(args, given, strict=True)):
        return annotation
    return Union[given] if origin in UNIONS else origin[given]  # noqa: UP007 - of so many


def _of_fields(kind: Any) -> Any:
    """A TypedDict that pydantic does not take: Python's own before 3.12, or one with frames or arrays in it."""

    def of_field(hint: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        try:
            return handler.generate_schema(hint)
        except PydanticUserError:  # another one inside
            return any_schema()

    def schema(_: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        fields = typed_dict_fields(kind).items()
        return typed_dict_schema(
            {name: typed_dict_field(of_field(hint, handler), required=required) for name, (hint, required) in fields}
        )

    return Annotated[dict[str, Any], GetPydanticSchema(schema)]

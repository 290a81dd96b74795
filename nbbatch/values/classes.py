"""Forms of users' own classes: fields are kept as they are, and no validator, initializer or serializer runs again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import Enum, Flag
from functools import cached_property
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, PydanticUndefined

from nbbatch.values.hints import SECRETS
from nbbatch.values.tree import Form, Reader, Unstorable, Writer

_NO_DEFAULT = object()

# --- models ---------------------------------------------------------------------------------------


def model(cls: type[BaseModel], tag: str) -> Form:
    """The form of a model: its fields, extra ones and private attributes."""

    def write(writer: Writer, value: Any) -> Any:
        given = value.__dict__
        written = writer.fields({name: _got(given, name, cls) for name in cls.model_fields})
        if value.__pydantic_extra__:
            written["$extra"] = writer.pairs(value.__pydantic_extra__)
        if value.__pydantic_private__:
            written["$private"] = _private(writer, value.__pydantic_private__)
        return written

    def read(reader: Reader, tree: Any) -> Any:
        extra, private = tree.pop("$extra", ()), tree.pop("$private", {})
        others = {key: reader.get(value) for key, value in extra}
        return _made(cls, reader.fields(tree), others, _privates(cls, reader.fields(private)))

    return Form(tag, write, read)


def _private(writer: Writer, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return writer.fields(given)
    except Unstorable as error:
        error.why += (
            " (private attributes are part of what == compares; make it a cached_property, or build it in the step)"
        )
        raise


def _privates(cls: type[BaseModel], given: dict[str, Any]) -> dict[str, Any] | None:
    if not cls.__private_attributes__:
        return None
    defaults = {name: each.get_default() for name, each in cls.__private_attributes__.items() if name not in given}
    return given | {name: value for name, value in defaults.items() if value is not PydanticUndefined}


def _made(cls: type[BaseModel], values: dict[str, Any], others: dict[str, Any], private: Any) -> Any:
    others |= {name: values.pop(name) for name in list(values) if name not in cls.model_fields}
    allowed = cls.model_config.get("extra") == "allow"
    if others and not allowed:
        raise ValueError(_gone(cls, next(iter(others))))
    _complete(cls, values, {name: _field_default(field) for name, field in cls.model_fields.items()})
    made = cls.__new__(cls)
    object.__setattr__(made, "__dict__", values)
    object.__setattr__(made, "__pydantic_fields_set__", {*values, *others})
    object.__setattr__(made, "__pydantic_extra__", others if allowed else None)
    object.__setattr__(made, "__pydantic_private__", private)
    return made


def _field_default(field: FieldInfo) -> Callable[[dict[str, Any]], Any]:
    def default(values: dict[str, Any]) -> Any:
        if field.is_required():
            return _NO_DEFAULT
        return field.get_default(call_default_factory=True, validated_data=values)

    return default


def _got(given: Mapping[str, Any], name: str, cls: type) -> Any:
    if name not in given:
        raise Unstorable(f"was never set, so there is no whole {cls.__name__}").under(f".{name}")
    return given[name]


def _complete(cls: type, values: dict[str, Any], defaults: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
    """Put in what the class has now and had not when the value was stored."""
    for name, default in defaults.items():
        if name not in values:
            values[name] = default(values)
            if values[name] is _NO_DEFAULT:
                raise ValueError(
                    f"field {name!r} of {cls.__name__} is not in what was stored; give it a default, or submit the job with new=True"
                )


def _gone(cls: type, name: str) -> str:
    return f"{cls.__name__} was stored with a field {name!r} that it has no more; put it back, or submit the job with new=True"


# --- dataclasses, named tuples, enums -------------------------------------------------------------


def dataclass(cls: Any, tag: str) -> Form:
    """The form of a dataclass: its fields, and what else its instances hold."""
    names = [each.name for each in fields(cls)]
    defaults = {each.name: _dataclass_default(each) for each in fields(cls)}

    def write(writer: Writer, value: Any) -> Any:
        given = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return writer.fields({name: _got(given, name, cls) for name in names} | _others(cls, value, given))

    def read(reader: Reader, tree: Any) -> Any:
        values = reader.fields(tree)
        _complete(cls, values, defaults)
        made = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    return Form(tag, write, read)


def _others(cls: Any, value: Any, fields_given: Mapping[str, Any]) -> dict[str, Any]:
    """What an instance of a dataclass holds beside its fields, but for what it has computed."""
    return {
        name: each
        for name, each in getattr(value, "__dict__", {}).items()
        if name not in fields_given
        and not isinstance(getattr(cls, name, None), cached_property)
        and not name.startswith("__pydantic_")
    }


def _dataclass_default(each: Any) -> Callable[[dict[str, Any]], Any]:
    def default(_: dict[str, Any]) -> Any:
        if isinstance(each.default, FieldInfo):
            return _field_default(each.default)(_)
        if each.default is not MISSING:
            return each.default
        return _NO_DEFAULT if each.default_factory is MISSING else each.default_factory()

    return default


def named_tuple(cls: Any, tag: str) -> Form:
    """The form of a named tuple."""

    def write(writer: Writer, value: Any) -> Any:
        return writer.items(value)

    def read(reader: Reader, tree: Any) -> Any:
        values = reader.get(tree)
        missing = [cls._field_defaults.get(name, _NO_DEFAULT) for name in cls._fields[len(values) :]]
        if _NO_DEFAULT in missing or len(values) > len(cls._fields):
            raise ValueError(f"{cls.__name__} was stored with {len(values)} fields, and has {len(cls._fields)} now")
        return tuple.__new__(cls, [*values, *missing])

    return Form(tag, write, read)


def enum(cls: type[Enum], tag: str) -> Form:
    """The form of an Enum: a member by its value where that is a text or number, else by its name."""

    def write(_: Writer, value: Enum) -> Any:
        if isinstance(value, Flag):
            return value._value_
        by_value = type(value._value_) in (str, int) and cls._value2member_map_.get(value._value_) is value
        return value._value_ if by_value and str(value._value_).isascii() else [value.name]

    def read(_: Reader, tree: Any) -> Any:
        return cls[tree[0]] if isinstance(tree, list) else cls(tree)

    return Form(tag, write, read)


# --- others ---------------------------------------------------------------------------------------


def foreign(cls: Any, tag: str) -> Form:
    """The form of a type that pydantic knows in its own way; each value is read again and compared."""
    adapter: TypeAdapter[Any] = TypeAdapter(cls)

    def write(_: Writer, value: Any) -> Any:
        try:
            data = adapter.dump_json(value, round_trip=True, warnings="error")
            back = adapter.validate_json(data)
        except (PydanticSerializationError, ValidationError, ValueError, RecursionError) as error:
            raise Unstorable(f"has no JSON form: {str(error).splitlines()[0]}") from None
        if type(back) is not type(value) or back != value:
            raise Unstorable(f"is a {type(value).__name__}, which pydantic does not read back equal from its JSON")
        return json.loads(data)

    def read(_: Reader, tree: Any) -> Any:
        return adapter.validate_json(json.dumps(tree))

    return Form(tag, write, read)


def _secret(writer: Writer, value: Any) -> Any:
    if writer.secrets is None:
        raise Unstorable(NO_SECRETS)
    secret = value.get_secret_value()
    if not isinstance(secret, str | bytes):
        raise Unstorable(f"is a Secret of {type(secret).__name__}; make it a SecretStr")
    try:
        writer.secrets.append(secret.decode() if isinstance(secret, bytes) else secret)
    except UnicodeDecodeError:
        raise Unstorable("is a SecretBytes that is not UTF-8; give it as text, in Base64") from None
    return MASK


NO_SECRETS = "is a secret, and secrets are not stored; make it a field of the job's parameters and take params as the step's second argument"
MASK = "**********"
_OTHER = Form("$secret.other", _secret, lambda _, tree: tree)


def secret_form(kind: type) -> Form | None:
    """The form of a secret; None of anything else."""
    return SECRET_FORMS.get(kind) or (_OTHER if issubclass(kind, SECRETS) else None)


SECRET_FORMS: dict[type, Form] = {
    SecretStr: Form("$secret", _secret, lambda _, tree: SecretStr(tree)),
    SecretBytes: Form("$secret.bytes", _secret, lambda _, tree: SecretBytes(tree.encode())),
}
"""As which the reader makes what stands there: stars, unless they were filled in before."""

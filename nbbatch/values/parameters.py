"""The parameters of a job: validated, stored without their secrets, and told apart by what they mean."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, cast, final, get_args, get_origin, get_type_hints

from pydantic import BaseModel, RootModel, SecretBytes, SecretStr, ValidationError

from nbbatch.base.errors import StateError, ValueNotStorable
from nbbatch.values.codec import (
    MASK,
    MASK_BYTES,
    REFUSED,
    SECRETS,
    STORED,
    UNIONS,
    adapter_of,
    bare,
    leaves,
    problems,
    tree_of,
    why_refused,
)  # fmt: skip


@final
class NonIdentifying:
    """Marks a parameter that does not identify the instance: ``Annotated[int, nb.NonIdentifying]``."""


class ParamsCodec:
    """The parameters of a job: validating, storing without secrets, telling which are equal."""

    __slots__ = ("_adapter", "type")

    def __init__(self, annotation: Any) -> None:
        self.type = annotation
        self._adapter = adapter_of(annotation)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParamsCodec, (self.type,)

    def validate(self, params: Any) -> Any:
        """The parameters as their declared type; a dict is taken too, unknown fields are an error.

        Raises:
            pydantic.ValidationError: They do not fit.
        """
        return self._adapter.validate_python(params, extra="forbid")

    def dump(self, params: Any) -> bytes:
        """Their stored form, secrets masked.

        Raises:
            ValueNotStorable: They would not come back equal; the text names the field.
        """
        data = self._json(params)
        secrets = self.secrets(params)
        _check_hidden(data, secrets, dict(_held(params)))
        try:
            back = self.load(data, secrets)
        except ValidationError as error:
            raise ValueNotStorable(f"parameters do not come back from their stored form: {problems(error)}") from None
        if lost := self._lost(params, back):
            raise ValueNotStorable(f"parameter {lost} does not come back equal from its stored form")
        return data

    def _json(self, params: Any) -> bytes:
        try:
            return self._adapter.dump_json(params, **STORED, warnings="error")
        except REFUSED as error:
            why = why_refused(self._adapter, params, error, shown=False)  # a value may be a secret
            raise ValueNotStorable(f"parameter {why}") from None

    def _lost(self, before: Any, after: Any) -> str:
        """Path of the first leaf that differs; "" if there is none."""
        if before == after:
            return ""
        old, new = (list(leaves(tree_of(self._adapter, each))) for each in (before, after))
        if len(old) != len(new):
            return "value"
        pairs = ((path, a, b) for (path, a), (_, b) in zip(old, new, strict=True) if "{}" not in path)
        return next((path or "value" for path, a, b in pairs if a != b and _comparable(a, b)), "")

    def identity(self, params: Any) -> str:
        """A digest that is equal for parameters that mean the same instance."""
        tree = _identifying(json.loads(self._json(params)), self.type)
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    def secrets(self, params: Any) -> dict[str, str]:
        """The secrets by path, in plain text: for memory only."""
        found: dict[str, str] = {}
        for path, leaf in leaves(tree_of(self._adapter, params)):
            if isinstance(leaf, SECRETS):
                found[path] = _revealed(path, leaf)
        return found

    def load(self, data: bytes, secrets: Mapping[str, str]) -> Any:
        """The parameters from their stored form, fresh.

        Raises:
            StateError: They hold secrets that this process was not given.
        """
        if MASK_BYTES not in data:
            return self._read(data)
        tree = json.loads(data)
        missing = {path for path, leaf in leaves(tree) if leaf == MASK} - set(secrets)
        try:
            params = self._read(json.dumps(_unmask(tree, secrets)).encode())
        except ValidationError:  # stars are not what the field's constraints ask for
            if missing:
                raise _forgotten(min(missing)) from None
            raise
        for path, leaf in leaves(tree_of(self._adapter, params)):
            if isinstance(leaf, SECRETS) and path in missing:
                raise _forgotten(path)
        return params

    def masked(self, data: bytes) -> Any:
        """The parameters from their stored form, secrets as stars: to look at."""
        try:
            return self._read(data)
        except ValidationError:  # stars are not what the field's constraints ask for
            if MASK_BYTES not in data:
                raise
            return _unchecked(json.loads(data), self.type)

    def _read(self, data: bytes) -> Any:
        return self._adapter.validate_json(data, by_alias=True, by_name=True)

    def difference(self, old: bytes, new: bytes) -> str:
        """The fields in which two stored forms differ, as ``field: old → new``."""
        before, after = dict(leaves(json.loads(old))), dict(leaves(json.loads(new)))
        paths = sorted({*before, *after})
        changed = [
            f"{path or 'value'}: {before.get(path)!r} → {after.get(path)!r}"
            for path in paths
            if before.get(path) != after.get(path)
        ]
        return ", ".join(changed) or "only in secrets or non-identifying fields"


def _unmask(tree: Any, secrets: Mapping[str, str], path: str = "") -> Any:
    if isinstance(tree, dict):
        return {key: _unmask(value, secrets, f"{path}.{key}" if path else str(key)) for key, value in tree.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(tree, list):
        return [_unmask(value, secrets, f"{path}[{index}]") for index, value in enumerate(tree)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return secrets.get(path, tree) if tree == MASK else tree


def _unchecked(tree: Any, annotation: Any) -> Any:
    """A value whose secrets are stars, without the checks of fields that hold one; as stored, where its type is not clear."""
    if tree == MASK and _is_secret(annotation):
        return SecretStr(MASK)
    if MASK not in json.dumps(tree):
        return adapter_of(annotation).validate_json(json.dumps(tree), by_alias=True, by_name=True)
    kind = _matching(tree, annotation)
    if isinstance(tree, list):
        return [_unchecked(*each) for each in zip(tree, _item_types(kind, len(tree)), strict=True)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(tree, dict):
        return tree
    hints, inner = _field_hints(kind), (get_args(kind) or (Any,))[-1]
    values = {name: _unchecked(value, hints.get(name, inner)) for name, value in tree.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not hints or _is_a(kind, Mapping):
        return values  # pyright: ignore[reportUnknownVariableType]
    made = kind.model_construct(**values) if issubclass(kind, BaseModel) else object.__new__(kind)
    for name, value in values.items():  # pyright: ignore[reportUnknownVariableType]
        object.__setattr__(made, name, value)  # pyright: ignore[reportUnknownArgumentType]
    return made


def _check_hidden(data: bytes, secrets: Mapping[str, str], held: Mapping[str, str]) -> None:
    """Raises ValueNotStorable where the stored form has a secret that is not stars: a serializer of the model gives it.

    Args:
        data: The stored form.
        secrets: By path, those that the serializers leave as secrets.
        held: By path, those that there are.
    """
    if not held:
        return
    stored = dict(leaves(json.loads(data)))
    bare = {path for path, secret in secrets.items() if secret and stored.get(path) != MASK}
    others = {path for path, secret in held.items() if secret and secret not in secrets.values()}
    if bare or others:
        raise ValueNotStorable(
            f"parameter {min(bare | others) or 'value'} is a secret that a serializer of its model reveals or changes, and secrets are "
            "not stored; leave the field to pydantic, and call get_secret_value() in the step"
        )


def _held(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The secrets in a value by path, whatever its serializers make of them."""
    if isinstance(value, SecretStr | SecretBytes):
        secret = value.get_secret_value()
        yield path, secret if isinstance(secret, str) else secret.decode("utf-8", "replace")
    inner: Mapping[Any, Any] = {}
    if isinstance(value, BaseModel):
        kept = [name for name, field in type(value).model_fields.items() if not field.exclude]
        inner = {name: getattr(value, name, None) for name in kept} | (value.model_extra or {})
    elif is_dataclass(value) and not isinstance(value, type):
        inner = {each.name: getattr(value, each.name, None) for each in fields(value)}
    elif isinstance(value, Mapping):
        inner = cast("Mapping[Any, Any]", value)
    elif isinstance(value, list | tuple | AbstractSet):
        inner = dict(enumerate(cast("Sequence[Any]", value)))
    for name, each in inner.items():
        yield from _held(each, f"{path}.{name}" if path else str(name))


def _forgotten(path: str) -> StateError:
    return StateError(
        f"parameter {path} is a secret, and secrets are never stored: submit the job again with the same parameters; "
        "of an instance that ended, run.retry(), run.rerun() and chunk.replay() take them as params="
    )


def _revealed(path: str, secret: Any) -> str:
    if "{}" in path:
        raise ValueNotStorable(f"parameter {path} is a secret in a set, which has no order to find it by; use a list")
    value = secret.get_secret_value()
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise ValueNotStorable(
            f"parameter {path} is a SecretBytes that is not UTF-8; give it as text, in Base64"
        ) from None
    if not isinstance(text, str):
        raise ValueNotStorable(f"parameter {path} is a Secret of {type(value).__name__}; make it a SecretStr")
    return text


def _comparable(old: Any, new: Any) -> bool:
    """Whether unequal means different: not for NaN, nor for types that compare by identity."""
    is_nan = old != old and new != new  # noqa: PLR0124 - only NaN differs from itself
    return not is_nan and any("__eq__" in vars(base) for base in type(old).__mro__[:-1])


# --- which parameters mean the same instance -----------------------------------------------------


def _identifying(tree: Any, annotation: Any) -> Any:
    """The tree without secrets and fields that are marked NonIdentifying, at any depth; sets in an order of their own."""
    annotation = _matching(tree, annotation)
    if isinstance(tree, list):
        values = [_identifying(*each) for each in zip(tree, _item_types(annotation, len(tree)), strict=True)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return sorted(values, key=json.dumps) if _is_set(annotation) else values
    if not isinstance(tree, dict):
        return tree
    hints = _field_hints(annotation)
    inner = (get_args(annotation) or (Any,))[-1]
    return {  # pyright: ignore[reportUnknownVariableType]
        key: _identifying(value, hints.get(key, inner))  # pyright: ignore[reportUnknownArgumentType]
        for key, value in tree.items()  # pyright: ignore[reportUnknownVariableType]
        if not _is_marked(hints.get(key)) and not _is_secret(hints.get(key))  # pyright: ignore[reportUnknownArgumentType]
    }


def _matching(tree: Any, annotation: Any) -> Any:
    """The bare type that the tree is of; of a union, the member that looks like it."""
    annotation = bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _matching(tree, annotation.model_fields["root"].annotation)  # pyright: ignore[reportUnknownMemberType]
    if _field_hints(annotation) or _class(annotation) is not None:
        return cast("Any", annotation)
    members = [_matching(tree, member) for member in get_args(annotation)]
    return next((member for member in members if _looks_like(tree, member)), Any)


def _looks_like(tree: Any, annotation: Any) -> bool:
    if isinstance(tree, dict):
        hints = _field_hints(annotation)
        return set(tree) <= set(hints) if hints else _is_a(annotation, Mapping)  # pyright: ignore[reportUnknownArgumentType]
    listed = _is_a(annotation, AbstractSet) or _is_a(annotation, Sequence)
    return isinstance(tree, list) and listed and _class(annotation) not in (str, bytes)


def _class(annotation: Any) -> Any:
    """The class behind a type or its generic form; None of unions and special forms."""
    origin: Any = get_origin(annotation) or annotation
    return None if origin in UNIONS or not inspect.isclass(origin) else origin


def _is_a(annotation: Any, parent: type) -> bool:
    origin = _class(annotation)
    return origin is not None and issubclass(origin, parent)


def _is_set(annotation: Any) -> bool:
    return _is_a(annotation, AbstractSet)


def _item_types(annotation: Any, count: int) -> Sequence[Any]:
    args = get_args(annotation) or (Any,)
    if _is_a(annotation, tuple) and len(args) == count and Ellipsis not in args:
        return args
    return [args[0]] * count


def _is_marked(hint: Any) -> bool:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return any(mark is NonIdentifying or isinstance(mark, NonIdentifying) for mark in marks)


def _is_secret(hint: Any) -> bool:
    kind = bare(hint)
    return kind in SECRETS or (get_origin(kind) in UNIONS and any(map(_is_secret, get_args(kind))))


def _field_hints(annotation: Any) -> dict[str, Any]:
    """Types of a model's, dataclass's or TypedDict's fields; none of anything else."""
    origin = _class(annotation)
    if origin is not None and issubclass(origin, BaseModel):
        fields = origin.model_fields.items()
        return {name: Annotated[field.annotation, *(field.metadata or [None])] for name, field in fields}
    if origin is None or not (is_dataclass(origin) or hasattr(origin, "__total__")):
        return {}
    try:
        return get_type_hints(origin, include_extras=True)
    except NameError:
        return {}

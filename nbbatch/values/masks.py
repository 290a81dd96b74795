"""Secrets in parameters: stored as stars, filled in from memory, and what can be looked at without them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_args, get_origin

from pydantic import BaseModel, RootModel, SecretBytes, SecretStr

from nbbatch.base.errors import StateError, ValueNotStorable
from nbbatch.values.classes import MASK
from nbbatch.values.hints import SECRETS, UNIONS, bare, field_hints
from nbbatch.values.type_adapters import adapter_of
from nbbatch.values.views import leaves

# --- in JSON with tags ----------------------------------------------------------------------------

_SECRET = {"$secret", "$secret.bytes"}


def places(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The secrets in JSON with tags: the path of each, and the object that holds its stars, in the order they were written."""
    if isinstance(tree, list):
        for index, each in enumerate(cast("list[Any]", tree)):
            yield from places(each, f"{path}[{index}]")
    if not isinstance(tree, dict):
        return
    given = cast("dict[str, Any]", tree)
    if len(given) == 1 and next(iter(given))[:1] == "$":
        ((tag, inner),) = given.items()
        if tag in _SECRET:
            yield path, given
        elif tag in ("$dict", "$ordered", "$defaultdict"):
            yield from _in_pairs(inner[1] if tag == "$defaultdict" else inner, path)
        else:
            yield from places(inner, f"{path}{{}}" if tag in ("$set", "$frozenset") else path)
        return
    for name, each in given.items():
        if name == "$extra":
            yield from _in_pairs(each, path)
        else:
            yield from places(each, f"{path}.{name}" if path else name)


def _in_pairs(pairs: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, each in pairs:
        yield from places(each, f"{path}.{key}" if path else str(key))


def forgotten(path: str) -> StateError:
    """A secret parameter that this process was not given."""
    return StateError(
        f"parameter {path} is a secret, and secrets are never stored: submit the job again with the same parameters; "
        "of an instance that ended, run.retry(), run.rerun() and chunk.replay() take a dict of its secrets as params="
    )


# --- in plain JSON --------------------------------------------------------------------------------


def filled(tree: Any, secrets: Mapping[str, str], path: str = "") -> Any:
    """JSON with the secrets in the place of their stars."""
    if isinstance(tree, dict):
        return {key: filled(value, secrets, f"{path}.{key}" if path else str(key)) for key, value in tree.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(tree, list):
        return [filled(value, secrets, f"{path}[{index}]") for index, value in enumerate(tree)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return secrets.get(path, tree) if tree == MASK else tree


def unchecked(tree: Any, annotation: Any) -> Any:
    """A value whose secrets are stars, without the checks of fields that hold one; as stored, where its type is not clear."""
    if tree == MASK and _is_secret(annotation):
        return SecretStr(MASK)
    if MASK not in json.dumps(tree):
        return adapter_of(annotation).validate_json(json.dumps(tree), by_alias=True, by_name=True)
    kind = _matching(tree, annotation)
    if isinstance(tree, list):
        return [unchecked(*each) for each in zip(tree, _item_types(kind, len(tree)), strict=True)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(tree, dict):
        return tree
    hints, inner = field_hints(kind), (get_args(kind) or (Any,))[-1]
    values = {name: unchecked(value, hints.get(name, inner)) for name, value in tree.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not hints or _is_a(kind, Mapping):
        return values  # pyright: ignore[reportUnknownVariableType]
    made = kind.model_construct(**values) if issubclass(kind, BaseModel) else object.__new__(kind)
    for name, value in values.items():  # pyright: ignore[reportUnknownVariableType]
        object.__setattr__(made, name, value)  # pyright: ignore[reportUnknownArgumentType]
    return made


def check_hidden(data: bytes, secrets: Mapping[str, str], held: Mapping[str, str]) -> None:
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


def held(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
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
        yield from held(each, f"{path}.{name}" if path else str(name))


def revealed(path: str, secret: Any) -> str:
    """The text of a secret.

    Raises:
        ValueNotStorable: It is none, or has no place to be found again.
    """
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


def _matching(tree: Any, annotation: Any) -> Any:
    """The bare type that the tree is of; of a union, the member that looks like it."""
    annotation = bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _matching(tree, annotation.model_fields["root"].annotation)  # pyright: ignore[reportUnknownMemberType]
    if field_hints(annotation) or _class(annotation) is not None:
        return cast("Any", annotation)
    members = [_matching(tree, member) for member in get_args(annotation)]
    return next((member for member in members if _looks_like(tree, member)), Any)


def _looks_like(tree: Any, annotation: Any) -> bool:
    if isinstance(tree, dict):
        hints = field_hints(annotation)
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


def _item_types(annotation: Any, count: int) -> Sequence[Any]:
    args = get_args(annotation) or (Any,)
    if _is_a(annotation, tuple) and len(args) == count and Ellipsis not in args:
        return args
    return [args[0]] * count


def _is_secret(hint: Any) -> bool:
    kind = bare(hint)
    return kind in SECRETS or (get_origin(kind) in UNIONS and any(map(_is_secret, get_args(kind))))

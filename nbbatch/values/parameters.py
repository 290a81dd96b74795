"""The parameters of a job: validated, stored without their secrets, and told apart by what they mean."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nbbatch.base.errors import ValueNotStorable
from nbbatch.values.classes import MASK
from nbbatch.values.codec import (
    MASK_BYTES,
    REFUSED,
    STORED,
    forms_of,
    has_long_number,
    problems,
    python_of,
    why_refused,
)
from nbbatch.values.completed import completed
from nbbatch.values.hints import SECRETS
from nbbatch.values.identity import digest, parts
from nbbatch.values.masks import check_hidden, filled, forgotten, held, places, revealed, unchecked
from nbbatch.values.plain_json import plain_of
from nbbatch.values.storable import Storable, received, told
from nbbatch.values.tree import Reader, Writer, is_tree, joined, parted, tree_of
from nbbatch.values.type_adapters import adapter_of
from nbbatch.values.views import is_table, leaves, plain, table


class ParamsCodec:
    """The parameters of a job: validating, storing without secrets, telling which are equal."""

    __slots__ = ("_adapter", "_forms", "_plain", "type")

    def __init__(self, annotation: Any) -> None:
        self.type = annotation
        self._adapter = adapter_of(annotation)
        self._forms = forms_of((annotation,))
        self._plain = plain_of(annotation)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.type, told(self._forms))

    def validate(self, params: Any) -> Any:
        """The parameters as their declared type; a dict is taken too, unknown fields are an error.

        Raises:
            pydantic.ValidationError: They do not fit.
        """
        return self._adapter.validate_python(params, extra="forbid")

    def completed(self, given: Any, data: bytes) -> Any:
        """The parameters of a dict that may lack stored values, but no secrets.

        Raises:
            pydantic.ValidationError: They do not fit.
        """
        whole = completed(given, self.masked(data))
        return self._adapter.validate_python(whole, extra="forbid", by_alias=True, by_name=True)

    # --- storing ----------------------------------------------------------------------------------

    def dump(self, params: Any) -> bytes:
        """Their stored form, secrets masked.

        Raises:
            ValueNotStorable: They would not come back equal; the text names the field.
        """
        return self._as_json(params) or self._as_tree(params)[0]

    def _as_json(self, params: Any) -> bytes | None:
        """As pydantic's JSON; None where that would change them."""
        plain_type = self._plain
        if plain_type is None or (plain_type.odd is not None and plain_type.odd(params)):
            return None
        data = self._json(params)
        secrets = self._secrets(params)
        check_hidden(data, secrets, dict(held(params)))
        try:
            back = self.load(data, secrets)
        except ValidationError as error:
            if has_long_number(data) or b"null" in data:  # which may stand for a NaN
                return None
            raise ValueNotStorable(f"parameters do not come back from their stored form: {problems(error)}") from None
        return data if params == back else None

    def _json(self, params: Any) -> bytes:
        try:
            return self._adapter.dump_json(params, **STORED, warnings="error")
        except REFUSED as error:
            why = why_refused(self._adapter, params, error, shown=False)  # a value may be a secret
            raise ValueNotStorable(f"parameter {why}") from None

    def _as_tree(self, params: Any) -> tuple[bytes, dict[str, str]]:
        """JSON with tags and its parts, and the secrets by path."""
        given: list[str] = []
        try:
            tree, parts = tree_of(params, Writer(self._forms, given))
        except ValueNotStorable as error:
            raise ValueNotStorable(f"parameter {error}") from None
        paths = [path for path, _ in places(tree)]
        if inside := next((path for path in paths if "{}" in path), None):
            raise ValueNotStorable(
                f"parameter {inside} is a secret in a set, which has no order to find it by; use a list"
            )
        return joined(tree, parts), dict(zip(paths, given, strict=True))

    def secrets(self, params: Any) -> dict[str, str]:
        """The secrets by path, in plain text: for memory only."""
        if not any(True for _ in held(params)):
            return {}
        return self._as_tree(params)[1] if self._as_json(params) is None else self._secrets(params)

    def _secrets(self, params: Any) -> dict[str, str]:
        found = ((path, leaf) for path, leaf in leaves(python_of(self._adapter, params)) if isinstance(leaf, SECRETS))
        return {path: revealed(path, leaf) for path, leaf in found}

    # --- reading ----------------------------------------------------------------------------------

    def load(self, data: bytes, secrets: Mapping[str, str]) -> Any:
        """The parameters from their stored form, fresh.

        Raises:
            StateError: They hold secrets that this process was not given.
        """
        if is_tree(data):
            return self._load_tree(data, secrets)
        if MASK_BYTES not in data:
            return self._read(data)
        tree = json.loads(data)
        missing = {path for path, leaf in leaves(tree) if leaf == MASK} - set(secrets)
        try:
            params = self._read(json.dumps(filled(tree, secrets)).encode())
        except ValidationError:  # stars are not what the field's constraints ask for
            if missing:
                raise forgotten(min(missing)) from None
            raise
        for path, leaf in leaves(python_of(self._adapter, params)):
            if isinstance(leaf, SECRETS) and path in missing:
                raise forgotten(path)
        return params

    def _load_tree(self, data: bytes, secrets: Mapping[str, str]) -> Any:
        tree, parts = parted(data)
        for path, holder in places(tree):
            if path not in secrets:
                raise forgotten(path)
            holder.update(dict.fromkeys(holder, secrets[path]))
        return Reader(self._forms, parts).get(tree)

    def masked(self, data: bytes) -> Any:
        """The parameters from their stored form, secrets as stars: to look at."""
        if is_tree(data):
            tree, parts = parted(data)
            return Reader(self._forms, parts).get(tree)
        try:
            return self._read(data)
        except ValidationError:  # stars are not what the field's constraints ask for
            if MASK_BYTES not in data:
                raise
            return unchecked(json.loads(data), self.type)

    def _read(self, data: bytes) -> Any:
        return self._adapter.validate_json(data, by_alias=True, by_name=True)

    # --- comparing --------------------------------------------------------------------------------

    def identity(self, params: Any) -> str:
        """A digest that is equal for parameters that mean the same instance."""
        return digest(params, self.type, self._forms)

    def parts(self, params: Any) -> dict[str, str]:
        """Of each field that identifies an instance a digest; of parameters without fields one, under ""."""
        return parts(params, self.type, self._forms)

    def difference(self, old: bytes, new: bytes) -> str:
        """The fields in which two stored forms differ, as ``field: old → new``."""
        was, now = plain(old), plain(new)
        if is_table(was) or is_table(now):
            first, then = (table(each) if is_table(each) else f"{each!r:.200}" for each in (was, now))
            return f"value: {first} → {then if then != first else 'another one'}"
        before, after = dict(leaves(was)), dict(leaves(now))
        paths = sorted({*before, *after})
        changed = [
            f"{path or 'value'}: {before.get(path)!r} → {after.get(path)!r}"
            for path in paths
            if before.get(path) != after.get(path)
        ]
        return ", ".join(changed) or "only in secrets or non-identifying fields"


def _received(annotation: Any, given: tuple[Storable, ...]) -> ParamsCodec:
    received(given)
    return ParamsCodec(annotation)

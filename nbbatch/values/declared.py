"""What a declared type may hold: the classes it reaches, and what in it has no stored form.

Only these classes, and those that `storable` was told of, are read from a store.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (types and values of user code are Any all the way down)

from __future__ import annotations

import collections.abc as cabc
from collections.abc import Iterable
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError

from nbbatch.values import classes, libraries, storable
from nbbatch.values.hints import SECRETS, UNIONS, bare, field_hints, is_named_tuple, is_typed_dict
from nbbatch.values.standard import ABSTRACT, NAMED, STANDARD
from nbbatch.values.tree import Form, Unstorable

_ATOMS = (int, str, float, bool, type(None), list, object)
_ONE_WAY = (
    cabc.Callable, cabc.Iterator, cabc.Iterable, cabc.Generator, cabc.AsyncIterator, cabc.AsyncIterable, cabc.AsyncGenerator,
    cabc.Awaitable, cabc.Coroutine, type,
)  # fmt: skip
"""What is called or run through, not kept."""
HOW = "write a pydantic model or dataclass of its fields, or say before the step how it is stored: nb.storable({}, dump=..., load=...)"


class Declared:
    """The classes that types reach, with their forms.

    Attributes:
        refused: Paths to what has no stored form, and why.
        is_open: Whether anything may come somewhere in it: Any, object, a bare list or dict.
        is_mixed: Whether a dict may stand for itself where one may also stand for the fields of a class, as in ``Item | Any``.
    """

    def __init__(self, annotations: Iterable[Any]) -> None:
        self.kinds: dict[type, Any] = {}
        self.refused: list[tuple[str, str]] = []
        self.is_open = self.is_mixed = False
        self._seen: set[Any] = set()
        for each in annotations:
            self._visit(each, "")
        self._by_type: dict[type, Form] = {}
        self._by_tag: dict[str, Form] = {}
        for kind in self.kinds:
            self._add(kind)

    def names(self, kind: type) -> bool:
        """Whether a type stands somewhere in it.

        >>> Declared((dict[str, list[float]],)).names(float), Declared((dict[str, int],)).names(float)
        (True, False)
        """
        return kind in self._seen

    # --- reading the types ------------------------------------------------------------------------

    def _visit(self, annotation: Any, path: str) -> None:
        annotation = bare(annotation)
        if isinstance(annotation, TypeVar):
            self._visit_variable(annotation, path)
            return
        kind: Any = get_origin(annotation) or annotation
        if annotation in (Any, object) or (kind in (list, dict, set, frozenset, tuple) and not get_args(annotation)):
            self.is_open = True
        if kind is Literal:
            self.kinds |= {type(each): None for each in get_args(annotation) if isinstance(each, Enum)}
            return
        if kind in _ONE_WAY or kind is type:
            self.refused.append((path, f"is {_name(annotation)}, which is used up or called, not stored"))
            return
        self.is_mixed |= kind in UNIONS and any(map(_is_open, get_args(annotation)))
        for each in get_args(annotation):
            if each is not Ellipsis and not isinstance(each, list):
                self._visit(each, path)
        if isinstance(kind, type) and kind not in UNIONS and kind not in self._seen:
            self._seen.add(kind)
            self._visit_class(cast("type", kind), path)

    def _visit_variable(self, variable: TypeVar, path: str) -> None:
        for each in variable.__constraints__ or (Any if variable.__bound__ is None else variable.__bound__,):
            self._visit(each, path)

    def _visit_class(self, kind: type, path: str) -> None:
        if (
            kind in _ATOMS
            or kind in STANDARD
            or issubclass(kind, ABSTRACT)
            or kind in SECRETS
            or issubclass(kind, SECRETS)
        ):
            return
        if not _is_users(kind):
            self._visit_other(kind, path)
            return
        if not is_typed_dict(kind):
            self.kinds[kind] = None
        for name, hint in field_hints(kind).items():
            self._visit(hint, f"{path}.{name}" if path else name)

    def _visit_other(self, kind: type, path: str) -> None:
        """A class that is no collection of fields."""
        if storable.known(kind) is not None:
            self.kinds[kind] = None
        elif kind.__module__ in ("collections.abc", "typing") and not getattr(kind, "_is_protocol", False):
            return
        elif libraries.form_for(kind) is None:
            if _knows(kind):
                self.kinds[kind] = None
            else:
                self.refused.append(
                    (path, f"is a {kind.__name__}, which has no stored form; {HOW.format(kind.__name__)}")
                )

    # --- forms ------------------------------------------------------------------------------------

    def _add(self, kind: type) -> None:
        name = kind.__qualname__.rpartition("<locals>.")[2]
        tag = f"$:{name}" if f"$:{name}" not in self._by_tag else f"$:{kind.__module__}.{kind.__qualname__}"
        self._by_type[kind] = self._by_tag[tag] = _form_of(kind, tag)

    def of(self, kind: type) -> Form:
        """The form of a type; see `Forms`."""
        form = STANDARD.get(kind) or self._by_type.get(kind) or classes.secret_form(kind)
        if form is None:
            form = self._found(kind)
            self._by_type[kind] = form
        return form

    def _found(self, kind: type) -> Form:
        told = storable.known(kind)
        if told is not None:
            return storable.form_of(told, f"$:{told.kind.__qualname__.rpartition('<locals>.')[2]}")
        form = libraries.form_for(kind)
        if form is None:
            raise Unstorable(self._unknown(kind))
        return form

    def _unknown(self, kind: type) -> str:
        name = kind.__name__
        bases = [base for base in kind.__mro__[1:] if base in self.kinds]
        if bases:
            return (
                f"is a {name}, and would come back as a plain {bases[0].__name__}: declare {name} too, as in "
                f"{bases[0].__name__} | {name}, or give a {bases[0].__name__}"
            )
        if _is_users(kind):
            return f"is a {name}, which the declared type does not name: write {name} there, or a union with it"
        if base := next((base for base in kind.__mro__[1:] if base in STANDARD or base in _ATOMS[:-1]), None):
            return f"is a {name}, and would come back as a plain {base.__name__}: give {base.__name__}(value)"
        return f"is a {name}, which has no stored form; {HOW.format(name)}"

    def named(self, tag: str) -> Form:
        """The form behind a tag; see `Forms`."""
        form = NAMED.get(tag) or self._by_tag.get(tag) or _SECRETS.get(tag) or libraries.named(tag)
        if form is None:
            form = next((storable.form_of(each, tag) for each in storable.all_known() if _tag(each.kind) == tag), None)
        if form is None:
            name = tag.removeprefix("$:")
            raise ValueError(
                f"a value of type {name} is stored there, and the declared type names no {name}: was it renamed? "
                "Of a type that nb.storable() is told of, run that cell first"
            )
        return form


_SECRETS = {form.tag: form for form in classes.SECRET_FORMS.values()}


def _is_open(annotation: Any) -> bool:
    kind = bare(annotation)
    kind = get_origin(kind) or kind
    return kind in (Any, object) or (isinstance(kind, type) and issubclass(kind, cabc.Mapping))


def _tag(kind: type) -> str:
    return f"$:{kind.__qualname__.rpartition('<locals>.')[2]}"


def _is_users(kind: type) -> bool:
    """Whether it is a class of fields, or an Enum."""
    return (
        issubclass(kind, BaseModel | Enum) or is_dataclass(kind) or is_named_tuple(kind) or is_typed_dict(kind)
    )  # fmt: skip


def _form_of(kind: Any, tag: str) -> Form:
    told = storable.known(kind)
    if told is not None:
        return storable.form_of(told, tag)
    if issubclass(kind, BaseModel):
        return classes.model(kind, tag)
    if issubclass(kind, Enum):
        return classes.enum(kind, tag)
    if is_named_tuple(kind):
        return classes.named_tuple(kind, tag)
    return classes.dataclass(kind, tag) if is_dataclass(kind) else classes.foreign(kind, tag)


def _knows(kind: type) -> bool:
    """Whether pydantic has a form of its own for a class."""
    if getattr(kind, "_is_protocol", False):
        return False
    try:
        TypeAdapter(kind)
    except (PydanticUserError, TypeError):
        return False
    return True


def _name(annotation: Any) -> str:
    text = str(annotation)
    return (
        getattr(annotation, "__name__", text)
        if "[" not in text
        else text.replace("typing.", "").replace("collections.abc.", "")
    )

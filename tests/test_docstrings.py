"""What `help()` shows: every public name has a docstring that names the errors it raises."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, get_type_hints

import pytest

import nbbatch as nb
from nbbatch import dashboard, otel, testing
from nbbatch.future import RunFuture
from nbbatch.instance import Frames
from tests.jobs import summing

Function = Callable[..., Any]


def functions_of(name: str, owner: Any) -> Iterator[tuple[str, Function, type | None]]:
    """Public functions of a module, or methods of a class, with what they are called in a document."""
    if isinstance(owner, type):
        for key, value in vars(owner).items():
            function = code_of(value)
            if not key.startswith("_") and function is not None and function.__module__.startswith("nbbatch"):
                yield f"{name}.{key}", function, owner
    elif isinstance(owner, FunctionType):
        yield name, inspect.unwrap(owner), None


def code_of(value: Any) -> FunctionType | None:
    """The function behind a method, property or decorated function."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", None) or getattr(value, "func", None) or value
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, FunctionType) else None


def public() -> dict[str, tuple[Function, type | None]]:
    modules: list[tuple[ModuleType, str]] = [
        (nb, "nb."),
        (testing, "testing."),
        (otel, "otel."),
        (dashboard, "dashboard."),
    ]
    found: dict[str, tuple[Function, type | None]] = {}
    for module, prefix in modules:
        for name in getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"]):
            owner = getattr(module, name)
            if module is not nb and getattr(owner, "__module__", "") != module.__name__:
                continue
            for each in (owner, *(owner.__mro__[1:] if isinstance(owner, type) else ())):
                if getattr(each, "__module__", "").startswith("nbbatch"):
                    for path, function, kind in functions_of(f"{prefix}{name}", each):
                        found.setdefault(path, (function, kind))
    return found


PUBLIC = public()


@cache
def tree_of(function: Function) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


class Place:
    """Where an expression stands: what its names mean, and of which class ``self`` is."""

    def __init__(self, function: Function, owner: type | None) -> None:
        self.tree, self.owner = tree_of(function), owner
        self.names = dict(function.__globals__)
        self.kinds: dict[str, Any] = {"self": owner, "cls": owner, **hints_of(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                exec(ast.unparse(node), self.names)
            if isinstance(node, ast.Assign):
                self._assign(node)

    def _assign(self, node: ast.Assign) -> None:
        (target, *_), values = node.targets, node.value
        pairs = (
            zip(target.elts, values.elts, strict=False)
            if isinstance(target, ast.Tuple) and isinstance(values, ast.Tuple)
            else [(target, values)]
        )
        for name, value in pairs:
            if isinstance(name, ast.Name):
                self.kinds.setdefault(name.id, self.kind_of(value))

    def value_of(self, node: ast.AST) -> Any:
        """What an expression of names and attributes stands for, as far as it is known without running anything."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, getattr(builtins, node.id, None))
        if isinstance(node, ast.Attribute):
            base = self.kind_of(node.value) or self.value_of(node.value)
            return inspect.getattr_static(base, node.attr, None) if isinstance(base, (type, ModuleType)) else None
        return None

    def kind_of(self, node: ast.AST) -> Any:
        """The class of what an expression gives, as far as annotations tell."""
        if isinstance(node, ast.Name):
            return self.kinds.get(node.id)
        if isinstance(node, ast.Call):
            called = self.value_of(node.func)
            return called if isinstance(called, type) else class_in(hints_of(code_of(called)).get("return"))
        if isinstance(node, ast.Attribute):
            base = self.kind_of(node.value)
            found = inspect.getattr_static(base, node.attr, None) if isinstance(base, type) else None
            if isinstance(found, property):
                return class_in(hints_of(found.fget).get("return"))
            return attributes_of(base).get(node.attr) if isinstance(base, type) else None
        return None


def class_in(hint: Any) -> Any:
    hint = getattr(hint, "__origin__", hint)
    return hint if isinstance(hint, type) else None


@cache
def hints_of(function: Any) -> dict[str, Any]:
    try:
        return {name: class_in(hint) or hint for name, hint in get_type_hints(function).items()} if function else {}
    except (NameError, TypeError):
        return {}


KNOWN: dict[type, dict[str, Any]] = {}


def attributes_of(kind: type) -> dict[str, Any]:
    """Classes of a class's attributes: as annotated, or as ``__init__`` sets them, which may need those it has set before."""
    if kind in KNOWN:
        return KNOWN[kind]
    found = KNOWN[kind] = dict[str, Any]()
    for each in reversed(kind.__mro__):
        init = code_of(vars(each).get("__init__"))
        if each.__module__.startswith("nbbatch"):
            found |= {name: hint for name, hint in hints_of(each).items() if isinstance(hint, type)}
        if init is None or not each.__module__.startswith("nbbatch") or init.__code__.co_filename.startswith("<"):
            continue
        place = Place(init, each)
        for node in ast.walk(place.tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                (target, *_) = node.targets if isinstance(node, ast.Assign) else [node.target]
                both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                for name, value in zip(target.elts, node.value.elts, strict=False) if both else [(target, node.value)]:
                    if isinstance(name, ast.Attribute) and (known := place.kind_of(value)):
                        found[name.attr] = known
    return found


def raised_by(function: Function, owner: type | None) -> set[type[BaseException]]:
    """Errors that the body of a function raises."""
    place, found = Place(function, owner), set[type[BaseException]]()
    for node in ast.walk(place.tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            kind = place.value_of(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            if isinstance(kind, type) and issubclass(kind, BaseException):
                found.add(kind)
    return found


def caught_in(tree: ast.AST) -> Iterator[ast.AST]:
    """What stands where a handler takes whatever is raised."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            ast.unparse(each.type or node) in ("Exception", "BaseException") for each in node.handlers
        ):
            for statement in node.body:
                yield from ast.walk(statement)


def called_by(function: Function, owner: type | None) -> Iterator[tuple[Function, type | None]]:
    """Functions of the package that a body names: it calls them, or has the engine do so."""
    place = Place(function, owner)
    caught = set(caught_in(place.tree))
    for node in ast.walk(place.tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and node not in caught:
            found = code_of(place.value_of(node))
            if found is not None and found.__module__.startswith(("nbbatch", __name__)) and found is not function:
                yield found, place.kind_of(node.value) if isinstance(node, ast.Attribute) else None


def section(text: str, name: str) -> set[str]:
    """The names that a section of a docstring explains."""
    found = re.search(rf"^{name}:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
    return set(re.findall(r"^    ([\w.]+):", found[1], re.MULTILINE)) if found else set()


def documented(function: Function, owner: type | None) -> set[str]:
    """Errors that the docstring names, or that of its class does for all of its methods."""
    texts = [inspect.getdoc(function), *(inspect.getdoc(each) for each in CLASSES.get(owner, ()))]
    return set().union(*(section(text or "", "Raises") for text in texts))


CLASSES: dict[type | None, tuple[type, ...]] = {
    Frames: (nb.JobHandle,),
    RunFuture: (nb.JobHandle,),
    nb.JobHandle: (nb.JobHandle,),
    nb.ChunkHandle: (nb.ChunkHandle,),
}
"""The class whose docstring says what every method of another one raises: they are parts of a handle."""


def missing(function: Function, owner: type | None) -> set[str]:
    """Errors that a function raises, itself or through one it calls, and does not name; a base class names its subclasses."""
    raised = set(raised_by(function, owner))
    for called, of in called_by(function, owner):
        raised |= raised_by(called, of)
    named = documented(function, owner)
    return {kind.__name__ for kind in raised if not named & {each.__name__ for each in kind.__mro__[:-2]}}


def explained_arguments(function: Function) -> bool:
    """Whether a docstring explains all arguments, or leaves them to the method it refers to."""
    explained = section(inspect.getdoc(function) or "", "Args")
    args, more, named = inspect.getargs(function.__code__)
    return not explained or explained == {*args, *filter(None, (more, named))} - {"self"}


def test_a_public_function_says_in_its_first_line_what_it_does() -> None:
    texts = {path: inspect.getdoc(function) or "" for path, (function, _) in PUBLIC.items()}

    assert [
        path for path, text in texts.items() if not text.partition("\n")[0] or text.splitlines()[1:2] not in ([], [""])
    ] == []


def test_a_docstring_explains_all_arguments_or_none() -> None:
    assert [path for path, (function, _) in PUBLIC.items() if not explained_arguments(function)] == []


def test_a_docstring_names_every_error_that_is_raised() -> None:
    found = {path: missing(*of) for path, of in PUBLIC.items()}

    assert {path: names for path, names in found.items() if names} == {}
    assert sum(bool(documented(*of)) for of in PUBLIC.values()) > 50


class Sample:
    """What the check above is tried on."""

    def unnamed(self) -> None:
        """Raise."""
        raise nb.StateError("x")

    def through_another(self) -> None:
        """Raise."""
        self.unnamed()

    def named(self) -> None:
        """Raise.

        Raises:
            NbbatchError: Always.
        """
        self.unnamed()


@pytest.mark.parametrize(
    ("method", "found"), [("unnamed", {"StateError"}), ("through_another", {"StateError"}), ("named", set())]
)
def test_an_error_that_no_docstring_names_is_found(method: str, found: set[str]) -> None:
    assert missing(getattr(Sample, method), Sample) == found


def test_what_is_called_on_a_closed_batch_says_that_it_raises(inline: nb.Batch) -> None:
    run = inline.submit(summing(), 3)
    run.result()
    chunk = run.chunk(1)
    inline.close()

    for handle, name in ((inline, "nb.Batch"), (run, "nb.JobHandle"), (chunk, "nb.ChunkHandle")):
        for path, (function, owner) in PUBLIC.items():
            if path.startswith(f"{name}."):
                raised = raised_on(handle, path.split(".")[-1])
                assert not isinstance(raised, nb.StoreClosed) or {"StoreClosed", "StoreError"} & documented(
                    function, owner
                ), path


def raised_on(handle: Any, name: str) -> BaseException | None:
    """What using an attribute, or calling a method with something for each argument it needs, raises."""
    try:
        value = getattr(handle, name)
        if callable(value):
            needed = [each for each in inspect.signature(value).parameters.values() if each.default is each.empty]
            given = {each.name: {"job": summing(), "other": handle}.get(each.name, 1) for each in needed}
            value(**given)
    except Exception as error:
        return error
    return None

"""The text of a step that runs by itself: what it reaches in its module or notebook, each piece after those it needs.

It is kept with each fingerprint, shown as a step's code, and what a failure that somebody sent is replayed from.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any, cast

from nbbatch.code.dispatched import choices
from nbbatch.code.fingerprint import evaluated, is_ours, names_of, part_of, unwrapped
from nbbatch.code.syntax import steadily

LEAST_TEXT = 4
"""Texts of fewer characters are shown wherever they come from."""


def listing(function: Callable[..., Any]) -> str:
    """The source of a function after all that it reaches: imports, values, classes, functions; it can be run as it is."""
    if not isinstance(function, FunctionType):
        return ""
    texts = _texts(function)
    own = texts.get(function.__name__, "")
    order = [text for text in dict.fromkeys(texts[name] for name in _order(texts)) if text and text != own]
    return "\n\n".join([*_together(order), *([own] if own else [])])


def _together(texts: list[str]) -> list[str]:
    """One-line texts (imports, values) that follow each other as one paragraph, longer ones each as its own."""
    found: list[str] = []
    for text in texts:
        if found and "\n" not in text and "\n" not in found[-1].split("\n")[-1] and _is_short(found[-1]):
            found[-1] += f"\n{text}"
        else:
            found.append(text)
    return found


def _is_short(text: str) -> bool:
    return not text.endswith("\n") and not re.search(r"^\s", text, re.MULTILINE)


def _texts(function: FunctionType) -> dict[str, str]:
    """By name, the text of the function and of all it reaches, at once or when its definition runs."""
    found: dict[str, str] = {}
    known, seen = function.__globals__, dict[int, Any]()
    waiting: list[tuple[str, Any]] = [(function.__name__, function)]
    while waiting:
        name, value = waiting.pop()
        if name in found:
            continue
        waiting.extend(choices(value))
        value = unwrapped(value, function)
        if not name.isidentifier():  # what a value holds
            if id(value) in seen:
                continue
            seen[id(value)] = value
        else:
            found[name] = _text(name, value, function, ours=is_ours(value, function))
            waiting.extend((each, known[each]) for each in evaluated(_parsed(found[name])) if each in known)
        waiting.extend(names_of(value, function))
    return found


def _text(name: str, value: Any, function: FunctionType, *, ours: bool) -> str:
    """Source of a name: of plain values as they are now, of what is imported as the module has it.

    A text that stands in no source may be a token from the environment: how it is made is told instead of what it is.
    """
    text = part_of(name, value, ours=ours).text
    if text.startswith(f"{name} = ") and not _is_written(value, function):
        return _bound(name, function) or f"{name} = {starred(value)!r}"
    if text and (ours or not text.startswith(("import ", "from "))):
        return text
    return _bound(name, function) or text


def _is_written(value: Any, function: FunctionType) -> bool:
    """Whether all texts in a plain value stand in the function's module or notebook; where that has no source, they may."""
    texts = [each for each in _texts_in(value) if len(each) >= LEAST_TEXT]
    sources = list(filter(None, _sources(function))) if texts else []
    return not sources or all(any(each in source for source in sources) for each in texts)


def _texts_in(value: Any) -> Iterator[str]:
    """Texts of a plain value, as they are written."""
    if isinstance(value, str | bytes):
        yield repr(value)[1:-1] if isinstance(value, str) else repr(value)[2:-1]
    elif isinstance(value, dict):
        for each in cast("dict[Any, Any]", value).items():
            yield from _texts_in(each)
    elif isinstance(value, tuple | list | set | frozenset):
        for each in cast("Iterable[Any]", value):
            yield from _texts_in(each)


def starred(value: Any) -> Any:
    """A plain value with stars for its texts.

    >>> starred({"a": ["b", 1]})
    {'a': ['**********', 1]}
    """
    if isinstance(value, str | bytes):
        return "**********" if isinstance(value, str) else b"**********"
    if isinstance(value, dict):
        return {key: starred(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, tuple | list | set | frozenset):
        return type(value)(map(starred, cast("Iterable[Any]", value)))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value


def _order(texts: Mapping[str, str]) -> list[str]:
    """Names so that each text comes after those it needs: all they reach of a value, of others what their definition runs."""
    placed: list[str] = []
    begun: set[str] = set()

    def place(name: str, *, whole: bool) -> None:
        if name in begun or name not in texts:
            return
        begun.add(name)
        tree = _parsed(texts[name])
        whole = whole or not any(
            isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for each in tree
        )
        for each in sorted(set(_named(tree) if whole else evaluated(tree))):
            place(each, whole=whole)
        placed.append(name)

    for name in sorted(texts, key=lambda each: (_rank(texts[each]), each)):
        place(name, whole=False)
    return placed


def _named(tree: list[ast.stmt]) -> Iterator[str]:
    for statement in tree:
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _rank(text: str) -> int:
    if text.startswith(("import ", "from ")):
        return 0
    return (
        2 if re.search(r"^class ", text, re.MULTILINE) else 3 if re.search(r"^(async )?def ", text, re.MULTILINE) else 1
    )


def _bound(name: str, function: FunctionType) -> str:
    """The last statement of a module or notebook that gives a name its value; "" where there is none to be found."""
    for source in _sources(function):
        for statement in reversed(_parsed(source)):
            if isinstance(statement, ast.ImportFrom | ast.Import):
                if text := _import(statement, name, function):
                    return text
            elif name in _targets(statement):
                return ast.get_source_segment(source, statement) or ""
    return ""


def _sources(function: FunctionType) -> Iterator[str]:
    """Texts that may define what a function reaches, the newest first."""
    cells = [entry for key, entry in list(linecache.cache.items()) if "ipykernel" in key or "ipython-input" in key]
    yield from ("".join(entry[2]) for entry in reversed(cells) if len(entry) > 1)
    module = sys.modules.get(function.__module__)
    try:
        yield inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):
        return


def _targets(statement: ast.stmt) -> set[str]:
    """Names that an assignment binds."""
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target] if statement.value is not None else []
    else:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _import(statement: ast.ImportFrom | ast.Import, name: str, function: FunctionType) -> str:
    """The import of one name alone; "" where the statement does not bind it."""
    for alias in statement.names:
        if (alias.asname or alias.name) != name:
            continue
        renamed = f" as {alias.asname}" if alias.asname else ""
        if isinstance(statement, ast.Import):
            return f"import {alias.name}{renamed}"
        module = "." * statement.level + (statement.module or "")
        package = function.__globals__.get("__package__") or ""
        whole = importlib.util.resolve_name(module, package) if statement.level and package else module
        return f"from {whole} import {alias.name}{renamed}"
    return ""


@lru_cache(maxsize=256)
def _parsed(text: str) -> list[ast.stmt]:
    try:
        return steadily(ast.parse, text).body
    except SyntaxError:  # a cell with magics, or the part of a statement that is a lambda's line
        return []

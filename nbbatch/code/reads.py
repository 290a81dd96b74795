"""What a function only reads of one of its arguments, where its own text says so beyond doubt.

So what is big and expensive to make can be shared by all calls of a function that changes nothing of it. Beyond doubt means:
the text compiles to the very bytecode that runs, and the argument appears in it only at the head of chains such as
``params.codes[key]``. Whether such a chain leads to something that cannot be changed depends on the value.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from nbbatch.base.uses import EACH, GET, ITEM, Use
from nbbatch.code.syntax import bytecode, definition_of

_ALL = ("items", "keys", "values")
_REACHES = {"locals", "vars", "eval", "exec", "dir", "currentframe", "_getframe", "f_locals"}
"""Names by which code gets at variables without naming them."""


def reads_of(function: Callable[..., Any], place: int) -> frozenset[Use] | None:
    """How a function uses an argument; None where it may be used in any other way.

    Args:
        function: A plain function whose source is known.
        place: Of the argument, from 0.
    """
    if not isinstance(function, FunctionType) or function.__code__.co_argcount <= place:
        return None
    if "len" in function.__globals__ or "len" in function.__code__.co_varnames + function.__code__.co_freevars:
        return None
    return _reads(function.__code__, function.__code__.co_filename, place)


@lru_cache(maxsize=1024)
def _reads(code: CodeType, file: str, place: int) -> frozenset[Use] | None:  # noqa: ARG001 - equal code of two cells is told apart
    tree = definition_of(code)
    if tree is None or not _REACHES.isdisjoint(_names(code)) or not _is_text_of(tree, code):
        return None
    name, above = code.co_varnames[place], _parents(tree)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    found = {_use(node, above) for node in nodes}
    return None if None in found else frozenset(filter(None, found))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _is_text_of(tree: ast.FunctionDef | ast.AsyncFunctionDef, code: CodeType) -> bool:
    """Whether a definition compiles to this code: a file may have been edited since it was imported."""
    tree.decorator_list = []
    arguments = [ast.arg(name) for name in code.co_freevars]
    around = ast.FunctionDef(
        "_", ast.arguments([], arguments, None, [], [], None, []), [tree], [], **_type_parameters()
    )
    module = ast.fix_missing_locations(ast.Module([around], []))
    made = compile(module, code.co_filename, "exec", flags=code.co_flags & _FUTURE, dont_inherit=True)
    return any(bytecode(inner) == bytecode(code) for inner in _inner(_inner_one(made)))


_FUTURE = 0x1000000
"""``from __future__ import annotations``."""


def _type_parameters() -> dict[str, Any]:
    return {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}


def _inner_one(code: CodeType) -> CodeType:
    return next(iter(_inner(code)))


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (each for each in code.co_consts if isinstance(each, CodeType))


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _use(name: ast.Name, above: dict[ast.AST, ast.AST]) -> Use | None:
    """What is done with the argument in one place, as far as that stays within it; None: it is bound anew, or handed on as it is."""
    if not isinstance(name.ctx, ast.Load):
        return None
    chain: list[str] = []
    node: ast.expr = name
    while True:
        match above[node]:
            case ast.Attribute(value=value, attr=attr, ctx=ast.Load()) as found if value is node:
                call = above[found]
                called = isinstance(call, ast.Call) and call.func is found
                if called and attr in _ALL:
                    return (*chain, EACH)
                node, part = (call, GET) if isinstance(call, ast.Call) and called and attr == "get" else (found, attr)
            case ast.Subscript(value=value, slice=key, ctx=ast.Load()) as found if value is node and _is_key(key):
                node, part = found, ITEM
            case found:
                return (*chain, EACH) if _only_looks(found, node) else tuple(chain) or None
        chain.append(part)


def _is_key(key: ast.expr) -> bool:
    return not isinstance(key, ast.Slice | ast.Tuple)


def _only_looks(found: ast.AST, node: ast.expr) -> bool:
    """Whether a container is iterated, searched or measured."""
    match found:
        case ast.For(iter=each) | ast.comprehension(iter=each):
            return each is node
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[each]):
            return each is node
        case ast.Call(func=ast.Name(id="len"), args=[each]):
            return each is node
        case _:
            return False

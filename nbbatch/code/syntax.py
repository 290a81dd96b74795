"""Syntax trees of functions and classes: as their source has them, and as text that is the same in each version of Python."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any, TypeVar, cast

READS = 20
"""Attempts at reading a source that may fail by chance."""
Tree = TypeVar("Tree", bound=ast.AST)
_SILENT = {"ctx", "kind", "type_comment"}
"""Fields of a syntax tree that say nothing, or nothing new."""


def definition_of(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """A function's definition as its source has it; None where there is none."""
    try:
        tree = steadily(ast.parse, textwrap.dedent(steadily(inspect.getsource, code))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    return tree if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) and tree.name == code.co_name else None


def lambda_of(code: CodeType) -> ast.Lambda | None:
    """A lambda as its source has it, the innermost of those whose text holds all of the code; None where there is none."""
    try:
        tree = parsed("".join(steadily(inspect.findsource, code)[0])) if code.co_name == "<lambda>" else []
    except (OSError, TypeError):
        return None
    places = [
        ((line, at), (end, to)) for line, end, at, to in code.co_positions() if line and end and to and at is not None
    ]
    places = [(first, last) for first, last in places if first < last]
    found = [
        each
        for node in tree
        for each in ast.walk(node)
        if isinstance(each, ast.Lambda)
        and places
        and _names(each.args) == code.co_varnames[: len(_names(each.args))]
        and all(_begin(each.body) <= a and b <= _end(each.body) for a, b in places)
    ]
    return max(found, key=_begin, default=None)


def _names(args: ast.arguments) -> tuple[str, ...]:
    """Of all arguments, in the order of the code's variables."""
    ends = [each for each in (args.vararg, args.kwarg) if each is not None]
    return tuple(each.arg for each in (*args.posonlyargs, *args.args, *args.kwonlyargs, *ends))


def _begin(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0


def bytecode(code: CodeType) -> str:
    """What runs, as text: equal for equal code, wherever it stands."""
    consts = [bytecode(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code, consts, code.co_names, code.co_varnames))


def shape(node: Any) -> str:
    """A syntax tree as text that is the same in each version of Python: without what is empty, which each has other names for."""
    if isinstance(node, list):
        return f"[{', '.join(map(shape, cast('list[Any]', node)))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    valued = isinstance(node, ast.Constant | ast.MatchSingleton)  # None may be the value of these
    fields = [
        (name, value)
        for name, value in ast.iter_fields(node)
        if name not in _SILENT and (valued or value not in (None, []))
    ]
    return f"{type(node).__name__}({', '.join(f'{name}={shape(value)}' for name, value in fields)})"


def bare(tree: Tree) -> Tree:
    """A tree without decorators, hints' formatting and docstrings, of inner functions and classes too."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.JoinedStr):  # some versions of Python add empty texts
            node.values = [each for each in node.values if not (isinstance(each, ast.Constant) and each.value == "")]
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        tree.decorator_list = []
    return tree


def steadily(read: Callable[..., Any], *args: Any) -> Any:
    """Read source; again where Python 3.11's parser raises SystemError, as it may while another thread parses too."""
    for _ in range(READS):
        try:
            return read(*args)
        except SystemError:
            continue
    return read(*args)


@lru_cache(maxsize=1024)
def parsed(text: str) -> list[ast.stmt]:
    try:
        return steadily(ast.parse, text).body
    except SyntaxError:  # a cell with magics
        return []

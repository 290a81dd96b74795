"""What code a step is: a digest that changes when its meaning does, and the text to read.

A function's meaning is its own text without comments, formatting, decorators and docstring, together with what it
reaches: closure values, defaults, and the module-level names it uses. Functions and classes of the same module or notebook
count with all that they reach in turn; anything imported counts by its name.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import linecache
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from nbbatch.code.big_values import digest_of
from nbbatch.code.dispatched import choices
from nbbatch.code.modules import module_of
from nbbatch.code.signature import written
from nbbatch.code.syntax import bare, bytecode, definition_of, lambda_of, parsed, shape, steadily
from nbbatch.code.type_values import made_of

_PLAIN = (int, float, complex, bool, str, bytes, type(None), range)
MAX_VALUE_CHARS = 2_000
"""Values whose text is longer are shown as they were assigned."""
MAX_HELD = 1_000
"""Members of a list, dict or object that are looked into."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a function reaches."""

    name: str
    mark: str
    """Equal for equal meaning."""
    text: str
    """Python source of it; "" where there is none."""


def fingerprint(function: Callable[..., Any], instead: str = "") -> str:
    """Twelve hex digits that are equal for functions of equal meaning, as things stand now; of ``instead``, if given.

    >>> def make(rate):
    ...     return lambda value: value * rate
    >>> fingerprint(make(2)) == fingerprint(make(2)), fingerprint(make(2)) == fingerprint(make(3))
    (True, False)
    """
    marks = [instead] if instead else sorted({f"{part.name}={part.mark}" for part in reached(function)})
    return digested("\n".join(marks))


def digested(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def source_of(function: Callable[..., Any]) -> str:
    """A function's source text as written; "" where Python cannot tell."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return _text_of(code, code.co_filename) if isinstance(code, CodeType) else ""


@lru_cache(maxsize=4096)
def _text_of(code: CodeType, file: str) -> str:  # noqa: ARG001 - equal code of two cells may differ in its comments
    """Read once: finding where a function ends takes 0.1 ms, and each submit asks."""
    try:
        return textwrap.dedent(steadily(inspect.getsource, code))
    except (OSError, TypeError):
        return ""


# --- what a function reaches ---------------------------------------------------------------------


def _own_name(function: Any) -> str:
    return str(getattr(function, "__name__", "") or type(function).__name__)


def reached(function: Any) -> list[Part]:
    """The function itself and everything it reaches, once by each name, in whatever order it is come upon."""
    inner = _inner(function)
    if inner is None:
        return [Part(_own_name(function), _mark(function), "")]
    found: list[Part] = []
    seen: dict[int, tuple[Any, set[str]]] = {}
    waiting: list[tuple[str, Any]] = [(_own_name(function), function)]
    while waiting:
        name, value = waiting.pop()
        waiting.extend(choices(value))
        value = unwrapped(value, inner)
        _, names = seen.setdefault(id(value), (value, set()))
        if name in names:
            continue
        if not names:
            waiting.extend(names_of(value, inner))
        names.add(name)
        found.append(part_of(name, value, ours=is_ours(value, inner)))
    return found


def _inner(function: Any) -> FunctionType | None:
    """The function that a partial, a method or an object is called for; None: it is none of Python's."""
    while not isinstance(function, FunctionType):
        if isinstance(function, partial):
            function = cast("Any", function.func)
        elif isinstance(function, MethodType):
            function = function.__func__
        elif isinstance(wrapped := getattr(function, "__wrapped__", None), FunctionType):
            function = wrapped
        else:
            call = getattr(cast("Any", type(function)), "__call__", None)  # noqa: B004 - that of its class is what is called
            return call if isinstance(call, FunctionType) else None
    return function


def _or_else(otherwise: Callable[..., Any]) -> Callable[[F], F]:
    """Have a function look at any value: methods of the value's own run here, and may raise anything, or never end their recursion."""

    def decorator(look: F) -> F:
        @wraps(look)
        def looked(*args: Any, **options: Any) -> Any:
            try:
                return look(*args, **options)
            except (Exception, SystemExit):
                return otherwise(*args)

        return cast("F", looked)

    return decorator


def _not_ours(*_: Any) -> bool:
    return False


def _as_it_is(value: Any, _: FunctionType) -> Any:
    return value


def _by_type(name: str, value: Any) -> Part:
    """By the name of its type, without asking a method of its own."""
    return Part(name, f"<{type.__dict__['__qualname__'].__get__(type(value))}>", "")


def _nothing(*_: Any) -> list[Any]:
    return []


@_or_else(_not_ours)
def is_ours(value: Any, function: FunctionType) -> bool:
    """Whether a value is a function or class of a function's own module or notebook."""
    if isinstance(value, FunctionType):
        return value.__globals__ is function.__globals__
    return isinstance(value, type) and value.__module__ == function.__module__


@_or_else(_as_it_is)
def unwrapped(value: Any, function: FunctionType) -> Any:
    """The function of a step, or of a well-behaved decorator that is not of the function's own module."""
    inner = getattr(value, "__wrapped__", None)
    wraps = isinstance(inner, FunctionType) and not isinstance(value, type)
    return inner if wraps and not is_ours(value, function) else value


@_or_else(_by_type)
def part_of(name: str, value: Any, *, ours: bool) -> Part:
    """What a name stands for: how it is marked, and its text."""
    if isinstance(value, ModuleType):
        alias = f" as {name}" if name != value.__name__ else ""
        return Part(name, f"module {value.__name__}", f"import {value.__name__}{alias}")
    if ours and isinstance(value, FunctionType):
        return Part(name, _function_mark(value), source_of(value))
    if ours:
        return Part(name, _class_mark(value), _class_source(value))
    if isinstance(value, FunctionType | type) or inspect.isbuiltin(value):
        module = module_of(value)
        simple = module and value.__qualname__.isidentifier()
        alias = f" as {name}" if name != value.__qualname__ else ""
        text = f"from {module} import {value.__qualname__}{alias}" if simple else ""
        return Part(name, f"{module}.{value.__qualname__}", text)
    mark = _mark(value)
    is_text = len(mark) <= MAX_VALUE_CHARS and _is_plain(value) and bool(parsed(mark))  # no digest of a long one
    return Part(name, mark, f"{name} = {mark}" if is_text else "")


@_or_else(_nothing)
def names_of(value: Any, function: FunctionType) -> list[tuple[str, Any]]:
    """What a value refers to, by name: a function or class of ours by its text, others by what they hold."""
    if not is_ours(value, function):
        return list(_held(value, function))
    return list(_names_of_class(value, function) if isinstance(value, type) else _names_of_function(value))


def _held(value: Any, function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Functions, classes and objects of ours in a value: what it does may change though its text does not."""
    holder, is_object = f"in {type(value).__qualname__}", is_ours(type(value), function)
    held: Iterable[Any]
    if isinstance(value, partial):
        held = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        held = (value.__func__, value.__self__)
    elif isinstance(value, Mapping):
        held = value.values()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    elif isinstance(value, tuple | list | AbstractSet):
        held = value  # pyright: ignore[reportUnknownVariableType]
    elif parts := made_of(value):
        held = parts
    elif is_object:
        held = [cast("Any", type(value)), *getattr(value, "__dict__", {}).values()]
    else:
        return
    for each in islice(cast("Iterable[Any]", held), MAX_HELD):
        if is_object or not _is_plain(each):
            yield each.__name__ if isinstance(each, FunctionType | type) else holder, each


def _names_of_class(value: type, function: FunctionType) -> Iterator[tuple[str, Any]]:
    known = function.__globals__
    yield from ((base.__name__, base) for base in value.__bases__ if base is not object)
    tree = parsed(_class_source(value))
    yield from ((name, known[name]) for name in evaluated(tree) if name in known)
    for method in _methods(value, tree):
        yield from _names_of_function(method)
    yield from _hinted(written(value), known)


def _names_of_function(value: FunctionType) -> Iterator[tuple[str, Any]]:
    names, free = _loaded(value.__code__)
    yield from ((name, value.__globals__[name]) for name in sorted(names) if name in value.__globals__)
    cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=False))
    yield from ((name, cells[name].cell_contents) for name in sorted(free) if name in cells and _filled(cells[name]))
    yield from _hinted(written(value), value.__globals__)


def _methods(value: type, tree: list[ast.stmt]) -> Iterator[FunctionType]:
    """Functions of a class that its text has, not those that a decorator or metaclass made; without a text, all."""
    named = {
        each.name
        for node in tree
        for each in ast.walk(node)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for name, member in vars(value).items():
        plain = getattr(member, "fget", None) or getattr(member, "__func__", member)
        plain = getattr(plain, "wrapped", plain)  # what pydantic makes of a decorated method
        plain = getattr(plain, "__func__", plain)
        if isinstance(plain, FunctionType) and (not tree or name in named):
            yield plain


def evaluated(tree: Iterable[ast.AST]) -> Iterator[str]:
    """Names that are looked up when definitions run, not when what they define is called.

    >>> sorted(evaluated(ast.parse("def f(a: Hint = LIMIT): return body").body))
    ['Hint', 'LIMIT']
    """
    for node in tree:
        if isinstance(node, ast.Name):
            yield node.id
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from evaluated([*node.decorator_list, node.args, *([node.returns] if node.returns else [])])
        else:
            yield from evaluated(ast.iter_child_nodes(node))


def _hinted(annotations: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names that stand in type hints: a model's fields decide what a step gets."""
    for hint in annotations.values():
        words = re.findall(
            r"[A-Za-z_]\w*", hint if isinstance(hint, str) else f"{hint!r} {getattr(hint, '__name__', '')}"
        )
        yield from ((word, known[word]) for word in words if word in known)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - reading it is the test
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)
def _loaded(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names that code loads from its module, and from its closure; inner functions included."""
    names: set[str] = set()
    free: set[str] = set(code.co_freevars)
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            names.add(instruction.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names |= _loaded(inner)[0]
    return frozenset(names), frozenset(free)


# --- marks ---------------------------------------------------------------------------------------


def _function_mark(function: FunctionType) -> str:
    defaults = (function.__defaults__, function.__kwdefaults__)
    return f"{_meaning(function.__code__, function.__code__.co_filename)}{_mark(defaults)}"


@lru_cache(maxsize=4096)
def _meaning(code: CodeType, file: str) -> str:  # noqa: ARG001 - equal code of two cells may differ in its hints
    """Digest of a function's own text; of its bytecode, which is another one with each version of Python, where there is no text."""
    tree = definition_of(code) or lambda_of(code)
    text = bytecode(code) if tree is None else shape(bare(tree))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _class_mark(value: type) -> str:
    """A class by its members, since a notebook's classes have no source that Python finds."""
    if source := _class_source(value):
        return hashlib.sha256(shape(bare(steadily(ast.parse, source).body[0])).encode()).hexdigest()
    hints = written(value)
    fields = sorted(f"{name}:{hint if isinstance(hint, str) else repr(hint)}" for name, hint in hints.items())
    methods = sorted(
        f"{name}={_function_mark(plain)}"
        for name, member in vars(value).items()
        if isinstance(plain := getattr(member, "__func__", member), FunctionType)
    )
    constants = sorted(
        f"{name}={_mark(each)}" for name, each in vars(value).items() if _is_plain(each) and name[:2] != "__"
    )
    return f"class {value.__qualname__} {fields} {methods} {constants}"


_class_sources: WeakKeyDictionary[type, tuple[tuple[int, ...], str]] = WeakKeyDictionary()


def _class_source(value: type) -> str:
    """Its source: of a module by inspect, of a notebook from the newest cell that defines it.

    Read once, as it takes milliseconds and each submit asks; again once its members are others (``%autoreload``).
    """
    members = tuple(map(id, vars(value).values()))
    known, source = _class_sources.get(value, ((), ""))
    if known != members:
        source = _in_module(value) or _in_cells(value.__qualname__, value.__module__)
        _class_sources[value] = members, source
    return source


def _in_module(value: type) -> str:
    """What inspect finds, if that is the class: from Python 3.13 on it goes by the line, in whatever file its module has."""
    try:
        source = textwrap.dedent(steadily(inspect.getsource, value))
    except (OSError, TypeError):
        return ""
    match parsed(source):
        case [ast.ClassDef(name=value.__name__)]:
            return source
        case _:
            return ""


def _in_cells(name: str, module: str) -> str:
    if not name.isidentifier():
        return ""
    for text in reversed(_cells(module)):
        if re.search(rf"^class {name}\b", text, re.MULTILINE):
            for node in parsed(text):
                if isinstance(node, ast.ClassDef) and node.name == name:
                    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                    return "\n".join(text.splitlines()[first - 1 : node.end_lineno]) + "\n"
    return ""


def _cells(module: str) -> list[str]:
    """What a notebook ran, the newest last; where that is not known, its cells in the order they were first run."""
    ran: list[str] = getattr(sys.modules.get(module), "_ih", [])
    cells = [entry for key, entry in list(linecache.cache.items()) if "ipykernel" in key or "ipython-input" in key]
    return ["".join(entry[2]) for entry in cells if len(entry) > 1] + ran


def _is_plain(value: Any) -> bool:
    if type(value) in _PLAIN:
        return value == value  # noqa: PLR0124 - NaN has no literal
    if type(value) in (tuple, list, set, frozenset):
        return all(map(_is_plain, value))
    return type(value) is dict and all(_is_plain(key) and _is_plain(each) for key, each in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _mark(value: Any) -> str:
    """Text that is equal for equal values; of objects whose text is only an address, their type."""
    if type(value) in _PLAIN:  # a table of millions of them takes a moment, not seconds
        return digest_of(value) or repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_mark(key)}: {_mark(each)}' for key, each in value.items()))}}}"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, AbstractSet):
        return f"{{{', '.join(sorted(map(_mark, value)))}}}" if value else f"{type(value).__name__}()"  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, tuple | list):
        inner = ", ".join(map(_mark, value))  # pyright: ignore[reportUnknownArgumentType]
        return f"({inner},)" if isinstance(value, tuple) and value else f"[{inner}]"
    if isinstance(value, FunctionType | MethodType | partial | type):
        return _call_mark(value)
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    if told := digest_of(value) or ", ".join(map(_mark, made_of(value))):
        return told
    if held := _fields_of(value):  # its text has sets in it in any order
        return f"{kind.__qualname__}({', '.join(f'{name}={_mark(each)}' for name, each in held.items())})"
    if kind.__repr__ is object.__repr__:
        return f"<{module_of(kind)}.{kind.__qualname__}>"
    try:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    except Exception:  # a repr that raises is the value's own affair
        return f"<{module_of(kind)}.{kind.__qualname__}>"


def _call_mark(value: Any) -> str:
    if isinstance(value, type):
        return f"<class '{module_of(value)}.{value.__qualname__}'>"
    if isinstance(value, MethodType):
        return f"{_mark(value.__func__)} of {_mark(value.__self__)}"
    if isinstance(value, partial):
        return f"{_mark(value.func)} given {_mark(value.args)} {_mark(value.keywords)}"  # pyright: ignore[reportUnknownMemberType]
    return _function_mark(value)


def _fields_of(value: Any) -> dict[str, Any]:
    """What a dataclass or a model of pydantic's holds; nothing of anything else."""
    names = getattr(value, "__dataclass_fields__", None) or getattr(value, "__pydantic_fields__", None)
    return {name: getattr(value, name) for name in names if hasattr(value, name)} if isinstance(names, dict) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]

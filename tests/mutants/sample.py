"""Which mutants there are: cosmic-ray's, without those that change annotations alone, which nothing evaluates."""

from __future__ import annotations

import ast
import difflib
import random
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray import plugins
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_db import WorkDB, use_db

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("nbbatch/engine", "nbbatch/store")


class Mutant(NamedTuple):
    """One change to one file."""

    path: str
    line: int
    operator: str
    code: str

    def diff(self) -> str:
        before = (ROOT / self.path).read_text(encoding="utf-8").splitlines()
        return "\n".join(
            difflib.unified_diff(before, self.code.splitlines(), self.path, self.operator, n=1, lineterm="")
        )


def mutants(seed: int) -> Iterator[Mutant]:
    """Mutants in an order of their own for each seed: those that change what the code does, as far as its syntax tells."""
    found = _mutations()
    random.Random(seed).shuffle(found)
    for spec in found:
        code = Path(spec.module_path).read_text(encoding="utf-8")
        changed = mutate_code(code, plugins.get_operator(spec.operator_name)(), spec.occurrence)
        if changed and _bare(changed) not in ("", _bare(code)):
            yield Mutant(str(Path(spec.module_path).relative_to(ROOT)), spec.start_pos[0], spec.operator_name, changed)


def _mutations() -> list[Any]:
    """All that cosmic-ray would change."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.name != "__init__.py"]
    with tempfile.TemporaryDirectory() as folder, use_db(f"{folder}/session.sqlite", WorkDB.Mode.create) as session:
        init(paths, session, {})
        return sorted(
            (item.mutations[0] for item in session.pending_work_items),
            key=lambda each: (str(each.module_path), each.operator_name, each.occurrence),
        )


class _Unannotated(ast.NodeTransformer):
    """A syntax tree without annotations."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name is ast's


@lru_cache(maxsize=8)
def _bare(code: str) -> str:
    """The code without what nothing evaluates; empty if it is no code."""
    try:
        return ast.dump(_Unannotated().visit(ast.parse(code)))
    except SyntaxError:
        return ""

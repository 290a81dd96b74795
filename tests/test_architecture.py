"""The shape of the house: layers, sizes, surface, and what no file may say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import nbbatch as nb
from nbbatch.base import rows, states
from nbbatch.base.states import ChunkStatus, InstanceStatus
from nbbatch.store import queries
from nbbatch.store.queries import QUERIES
from tests.house import house, imports

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "nbbatch").rglob("*.py"))
HOME = Path(nb.__file__).parent
PAGES = sorted((HOME / "panel").glob("*.[cj]s*"))
SUBJECTS = sorted((HOME / "store" / "sql").glob("*.sql"))
SQL = re.compile(
    r"\bSELECT\b.*\bFROM\b|\bINSERT\s+INTO\b|\bUPDATE\b.*\bSET\b|\bDELETE\s+FROM\b|\b(CREATE|DROP|ALTER)\s+(TABLE|VIEW|MACRO)\b",
    re.DOTALL,
)
ASKS = {"rows", "run", "fetch", "frame", "stream", "count"}
"""What of a store takes the name of a query."""
TABLES = {
    "chunk": rows.ChunkRow, "event": rows.EventRow, "detail": rows.DetailRow, "output": rows.OutputRow,
    "staged": rows.StagedRow, "claim": rows.ClaimRow,
}  # fmt: skip
MOST = {
    "base": (350, 20),  # tables and values: nothing in it decides
    "values": (400, 20),
    "code": (450, 25),  # reading code is one subject with many cases
    "pictures": (350, 25),
    "store": (350, 25),  # a statement each
    "definition": (450, 25),
    "worker": (350, 30),  # the quick way through a micro-batch is one loop
    "engine": (600, 40),  # the dispatcher's turn is read as a whole
    "heal": (350, 25),
    "serving": (350, 25),
    "panel": (500, 25),
    "shell": (350, 25),
    "": (600, 35),  # public: half of it says what the rest does
}
"""Lines of a module, without its examples, and of a function at most that fit what a room is for; "" is the public modules on top."""


def test_imports_point_down_the_layers() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_rooms_have_no_circle_and_few_floors() -> None:
    each, together = house(), house(public="public")

    assert each.circles == together.circles == []
    assert together.rooms <= 16
    assert together.floors <= 11


def test_a_circle_between_rooms_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    arrows = frozenset({("nbbatch.heal.plan", "nbbatch.panel.widgets"), *imports()})
    monkeypatch.setattr("tests.house.imports", lambda: arrows)

    assert house().circles == [["heal", "panel"]]


def test_no_two_modules_have_one_name() -> None:
    names = [
        path.stem for path in MODULES if path.stem != "__init__" and path != HOME / "states.py"
    ]  # shows base.states

    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_modules_and_functions_fit_their_room(module: Path) -> None:
    most, most_of_function = MOST[module.parent.name if module.parent.parent == HOME else ""]
    text = module.read_text(encoding="utf-8")
    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := _code_lines(node)) > most_of_function
    ]

    assert len(text.splitlines()) - _example_lines(text) <= most
    assert not long


def _example_lines(text: str) -> int:
    """Lines that examples add to docstrings: whoever reads the code reads past them."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docs = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    parts = [doc.partition("\n\nExample:\n") for doc in docs]
    return sum(len(example.splitlines()) + (2 if "\n" in said else 3) for said, _, example in parts if example)


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert node.end_lineno is not None
    first = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node.end_lineno - (first[0].lineno if first else node.end_lineno) + 1


def test_the_public_names_are_sorted_and_documented() -> None:
    assert nb.__all__ == sorted(nb.__all__)
    for name in nb.__all__:
        assert getattr(nb, name).__doc__, name


def test_a_light_import_pulls_in_no_notebook_and_no_polars() -> None:
    code = (
        "import sys, nbbatch\n"
        "heavy = {'polars', 'IPython', 'ipywidgets', 'anywidget', 'altair', 'matplotlib', 'numpy', 'pandas', 'loky'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_importing_takes_less_than_half_a_second_of_the_processor() -> None:
    code = "import time; t = time.process_time(); import nbbatch; print(time.process_time() - t)"
    best = min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5))

    assert best < 0.5


def test_every_state_has_its_own_code_and_its_transitions() -> None:
    for enum, table in (
        (states.ChunkStatus, states.CHUNK_TRANSITIONS),
        (states.InstanceStatus, states.INSTANCE_TRANSITIONS),
    ):
        assert sorted(member.code for member in enum) == list(range(1, len(enum) + 1))
        assert set(table) == set(enum)


def test_no_file_names_a_local_path_or_a_download_host() -> None:
    told = re.compile(r"/wo" r"rk/|\.\./sha" r"red|py" r"pi\.org|pythonhos" r"ted|registry\.np" r"mjs|/ro" r"ot/")
    files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    guilty = [
        name
        for name in files
        if not name.startswith(".ci/")
        and (ROOT / name).is_file()
        and told.search((ROOT / name).read_bytes().decode("utf-8", "replace"))
    ]

    assert files or not os.environ.get("CI")
    assert not guilty


def test_the_design_has_a_line_for_every_room() -> None:
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    lines = [
        line.split("|")[1] for line in text.split("## Rooms")[1].split("## ")[0].splitlines() if line.startswith("| `")
    ]
    modules = {
        path.stem for path in (ROOT / "nbbatch").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert sorted({name for line in lines for name in re.findall("`(.+?)`", line)}) == sorted(modules - {"__init__"})


# --- SQL, states and rows: each has one home ------------------------------------------------------


def nodes(module: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(module.read_text(encoding="utf-8")))


def texts(module: Path) -> list[str]:
    """Texts in a module's code, docstrings aside; of an f-string its fixed parts together."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else "{}" for each in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            found.append(node.value)
    return found


def in_modules(look: Callable[[Path], list[str]], *, but: str = "") -> dict[str, list[str]]:
    """What is found in each module, where anything is."""
    return {module.name: found for module in MODULES if module.name != but and (found := look(module))}


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def sql_in(module: Path) -> list[str]:
    return [text for text in texts(module) if SQL.search(text)]


# --- queries --------------------------------------------------------------------------------------


def test_sql_stands_in_sql_files() -> None:
    assert in_modules(sql_in) == {}


@pytest.mark.parametrize(
    ("line", "finds"),
    [
        ('rows = fetch("SELECT 1 FROM chunk")', True),
        ('run("INSERT  INTO chunk VALUES (1)")', True),
        ('run(f"UPDATE {table}\\nSET id = 1")', True),
        ('run(f"DELETE FROM {table}")', True),
        ('"""SELECT a FROM b, as a reader would write it."""', False),
        ('raise ValueError("select another one from the list")', False),
    ],
)
def test_what_looks_for_sql_finds_it(tmp_path: Path, line: str, finds: bool) -> None:
    module = tmp_path / "module.py"
    module.write_text(line)

    assert bool(sql_in(module)) is finds


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda path: path.stem)
def test_every_query_has_a_name_of_its_own_and_a_sentence(subject: Path) -> None:
    if subject.stem in ("schema", "views"):
        return
    text = subject.read_text(encoding="utf-8")
    heads = re.findall(r"^-- (\w+): ((?:.*\n-- )*.*)\n", text, flags=re.MULTILINE)

    assert re.match(r"-- [A-Z].*\.\n", text)
    assert heads
    assert [name for name, said in heads if not re.match(r"[A-Z].*\.$", said.replace("\n-- ", " "))] == []
    assert len(re.findall(r"^-- \w+: ", "".join(each.read_text() for each in SUBJECTS), re.MULTILINE)) >= len(QUERIES)


def test_every_query_is_asked_for_and_what_is_asked_for_is_there() -> None:
    written = {text for module in MODULES for text in texts(module)}
    asked = {
        node.args[0].value
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Call)
        and called(node) in ASKS
        and ast.unparse(node.func).split(".")[-2:-1] in (["store"], ["_store"])
        if node.args and isinstance(node.args[0], ast.Constant)
    }

    assert sorted(set(QUERIES) - written) == []
    assert asked
    assert sorted(asked - set(QUERIES)) == []


# --- states ---------------------------------------------------------------------------------------

CODE = re.compile(
    r"\bstatus\b\s*(=|<>|!=|<=?|>=?|(NOT\s+)?IN\s*\()\s*\d|\bcounts\[\d|\b(THEN|ELSE)\s+\d+\s+END\s+AS\s+status"
)


def names_twice(texts: Iterable[str]) -> list[str]:
    """Names that several queries have: of two queries of one name, the first could never be run."""
    names = Counter(name for text in texts for name, _ in queries._named(text))
    return sorted(name for name, times in names.items() if times > 1)


def test_no_two_queries_have_one_name() -> None:
    assert names_twice(subject.read_text(encoding="utf-8") for subject in SUBJECTS) == []


def test_what_looks_for_queries_of_one_name_finds_them() -> None:
    assert names_twice(["-- one: A.\nSELECT 1;\n-- two: B.\nSELECT 2;", "-- one: C.\nSELECT 3;"]) == ["one"]


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda path: path.stem)
def test_states_stand_by_name_in_sql(subject: Path) -> None:
    assert [line for line in subject.read_text(encoding="utf-8").splitlines() if CODE.search(line)] == []


def test_states_stand_by_name_in_python() -> None:
    assert in_modules(lambda module: [ast.unparse(node) for node in nodes(module) if stands_for_a_state(node)]) == {}


@pytest.mark.parametrize(
    ("line", "is_bare"),
    [
        ("found = status == 6", True),
        ("found = row.status in (6, 7)", True),
        ("found = code >= 4", True),
        ("counts[7] += 1", True),
        ("step.counts[ChunkStatus.FAILED.code] += 1", False),
        ("found = count == 6", False),
    ],
)
def test_what_looks_for_codes_finds_them(line: str, is_bare: bool) -> None:
    assert any(stands_for_a_state(node) for node in ast.walk(ast.parse(line))) is is_bare


def stands_for_a_state(node: ast.AST) -> bool:
    """Whether a number is compared with a state, or counts are looked up by it."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        named = [each for each in sides if re.search(r"\b(status|state|code)$", ast.unparse(each))]
        return bool(named) and any(is_number(each) for side in node.comparators for each in ast.walk(side))
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value).endswith("counts") and is_number(node.slice)
    return False


def is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_have_no_list_of_states_of_their_own(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    states = (*ChunkStatus, *InstanceStatus)

    assert {status.value for status in states if re.search(rf"\b{status.value}\b", text)} == set()
    assert {status.look.colour for status in states if status.look.colour in text.lower()} == set()


def test_colours_of_states_stand_with_the_states() -> None:
    colours = {status.look.colour for status in (*ChunkStatus, *InstanceStatus)}

    def told(module: Path) -> list[str]:
        return [text for text in texts(module) if any(colour in text.lower() for colour in colours)]

    assert in_modules(told, but="states.py") == {}


# --- rows -----------------------------------------------------------------------------------------


def test_rows_have_the_columns_of_their_tables(batch: nb.Batch) -> None:
    columns = dict[str, list[str]]()
    for table, column, *_ in batch._store.rows("columns"):
        columns.setdefault(table, []).append(column)

    assert {table: list(row._fields) for table, row in TABLES.items()} == {table: columns[table] for table in TABLES}
    assert ["chain", *rows.StepRow._fields] == columns["chain_step"]
    assert batch.sql("FROM instance").columns == [field.name for field in fields(rows.InstanceRow)]


def test_rows_are_made_by_field_name() -> None:
    kinds = {row.__name__ for row in TABLES.values()} | {"StepRow", "InstanceRow"}

    def by_place(module: Path) -> list[str]:
        calls = [node for node in nodes(module) if isinstance(node, ast.Call) and node.args]
        rows_made = [call for call in calls if called(call) in kinds]
        added = [call for call in calls if called(call) in ("append", "add") and isinstance(call.args[0], ast.Constant)]
        added = [
            call
            for call in added
            if any(isinstance(each, ast.Tuple) for part in call.args[1:] for each in ast.walk(part))
        ]
        return [ast.unparse(call) for call in [*rows_made, *added]]

    assert in_modules(by_place) == {}

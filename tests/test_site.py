"""The site, without building it: nothing public is missing from it, and its links and tables are true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pytest

import nbbatch as nb
from docs._site import drawings, from_code, llms
from nbbatch import dashboard, otel, testing
from nbbatch.definition.options import OPTIONS
from tests.jobs import each

ROOT = Path(__file__).parent.parent
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
BESIDE = [ROOT / f"{name}.md" for name in ("DESIGN", "SECURITY", "CONTRIBUTING", "CHANGELOG")]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *BESIDE]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FENCED = re.compile(r"^(`{3,}|:{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)


def words_of(kind: str) -> list[str]:
    """What the reference asks of the code, of one kind."""
    asked = [line for page in REFERENCE for line in from_code.FENCE.findall(page.read_text(encoding="utf-8"))]
    return [word for line in asked for word in line.split()[1:] if line.split()[0] == kind]


# --- nothing is missing ---------------------------------------------------------------------------


def public() -> dict[str, Any]:
    """Public names and what they stand for."""
    named = {f"nbbatch.{name}": getattr(nb, name) for name in nb.__all__}
    for module in (testing, otel, dashboard):
        own = {
            name: thing for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__
        }
        named |= {
            f"{module.__name__}.{name}": thing
            for name, thing in own.items()
            if name[0] != "_" and not isinstance(thing, TypeVar)
        }
    return named


def test_every_public_name_stands_in_the_reference_once() -> None:
    told = Counter(words_of("api"))

    assert sorted(public().keys() - told.keys()) == []
    assert [name for name, times in told.items() if times > 1] == []
    assert {name: from_code.thing(name) for name in public()} == public()


def told() -> Iterator[tuple[str, str]]:
    """Public names and the members of classes, with their docstrings."""
    for name, value in public().items():
        yield name, from_code._doc(value)
        for member, function in from_code.members(value).items() if inspect.isclass(value) else ():
            yield f"{value.__name__}.{member}", inspect.getdoc(from_code._function(function)) or ""


def test_every_public_name_has_an_example() -> None:
    assert [name for name, doc in told() if ">>> " not in doc] == []


def test_nothing_is_left_out_that_is_not_there() -> None:
    there = {f"{value.__name__}.{each}" for value in public().values() if inspect.isclass(value) for each in dir(value)}

    assert there >= from_code.NOT_TOLD


def test_the_examples_of_public_names_are_run() -> None:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(nb.__path__, "nbbatch.")
        if not found.name.endswith("__main__")
    ]
    found = [each for module in (nb, *modules) for each in doctest.DocTestFinder().find(module) if each.examples]
    run = {each.source for test in found for each in test.examples}
    examples = {name: doctest.DocTestParser().get_examples(doc) for name, doc in told()}

    assert [name for name, given in examples.items() if not {each.source for each in given} <= run] == []


def test_no_signature_hides_its_arguments() -> None:
    """What Shift-Tab shows of a name says what can be given, with defaults."""
    functions = [
        (path, member)
        for name, value in public().items()
        for path, member in (
            [(name, value)] if callable(value) and not inspect.isclass(value)
            else [(f"{value.__name__}.{key}", each) for key, each in from_code.members(value).items()] if inspect.isclass(value)
            else []
        )
        if callable(member)
    ]  # fmt: skip
    hidden = [path for path, each in functions if {"args", "kwargs", "options"} & {*inspect.signature(each).parameters}]

    assert functions
    assert hidden == []


def test_a_class_is_told_with_its_members_those_of_private_bases_included() -> None:
    told = from_code.api("nbbatch.JobHandle", "nbbatch.Look", "nbbatch.look.LookedRun")

    for heading in (
        "#### JobHandle.retry(job=None, *, params=None, quiet=False)",
        "#### JobHandle.chunks(step=None, ",
        "#### JobHandle.result(",
        "#### JobHandle.status\n",
        "#### Look.instances(",
        "#### LookedRun.pause()",
    ):
        assert heading in told
    assert "LookedRun.chunks" not in told  # which JobHandle has, to which its page leads
    assert "._" not in told


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.stem)
def test_what_is_made_from_code_is_made_and_no_table_is_empty(page: Path) -> None:
    made = from_code.filled(page.read_text(encoding="utf-8"))

    assert "{from-code}" not in made
    assert not re.search(r"^\|( -+ \|)+\n(?!\|)", made, re.MULTILINE)


def test_arguments_are_read_from_a_docstring_over_several_lines() -> None:
    doc = "Do.\n\nArgs:\n    a: One,\n        or two.\n    b: More.\n\nRaises:\n    X: Never."

    assert from_code.arguments(doc) == {"a": "One, or two.", "b": "More."}


def test_every_option_stands_with_its_default_and_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", from_code.options("nbbatch.step"), re.MULTILINE)

    assert {name for name, _, _ in rows} == {"function", "name", *OPTIONS}
    assert ("max_attempts", "`4`", "Number of errors after which a chunk is FAILED; 1 or more.") in rows
    assert all(said for _, _, said in rows)


def test_every_command_stands_with_its_options() -> None:
    from nbbatch.shell.frontend import nbbatch

    told = from_code.commands()

    assert re.findall(r"^## nbbatch (\w+)$", told, re.MULTILINE) == list(nbbatch.commands)
    assert "--keep-last" in told
    assert "--older-than" in told


def test_every_variable_of_the_environment_stands_in_the_reference_and_is_read() -> None:
    read = {
        name
        for module in (ROOT / "nbbatch").rglob("*.py")
        for name in re.findall(r'"(NBBATCH_\w+)"', module.read_text())
    }
    told = set(re.findall(r"^\| `(NBBATCH_\w+)`", (ROOT / "docs/reference/environment.md").read_text(), re.MULTILINE))

    assert read == told


def test_every_table_and_column_of_a_store_stands_in_the_reference(batch: nb.Batch) -> None:
    told = dict(re.findall(r"### (\w+)\n\n.*\n\n((?:\|.*\n?)+)", from_code.tables()))
    columns: dict[str, list[str]] = {}
    for table, column, *_ in batch._store.rows("columns"):
        columns.setdefault(table, []).append(column)

    assert told.keys() == columns.keys()
    for table, text in told.items():
        assert sorted(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == sorted(columns[table]), table


# --- frames ---------------------------------------------------------------------------------------


def frames() -> Iterator[tuple[str, pl.DataFrame]]:
    """Each frame under the heading of its page."""

    def fail(n: int) -> None:
        raise nb.FailChunk("no")

    job = each(fail)
    with testing.batch() as batch:
        run = batch.submit(job, 1)
        run.wait()
        first = job.steps[0].name
        yield from (("batch.instances()", batch.instances()), ("batch.jobs()", batch.jobs()))
        for name in (
            "steps",
            "chunks",
            "attempts",
            "reuse",
            "now",
            "errors",
            "skips",
            "history",
            "logs",
            "attachments",
        ):
            yield f"run.{name}()", getattr(run, name)()
        yield "run.failures().frame()", run.failures().frame()
        yield "run.diff(other, step).frame()", run.diff(run, first).frame()
        yield "run.chain().frame()", run.chain().frame()
    yield 'job.preview(params)["step"].frame()', job.preview(1)[first].frame()


def test_frames_have_the_columns_and_types_that_the_reference_says() -> None:
    text = (ROOT / "docs" / "reference" / "frames.md").read_text(encoding="utf-8")
    told = {
        head: re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", part, re.MULTILINE)
        for head, part in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    }
    time = pl.Datetime("us", "UTC")
    found = {
        head: [(column, "time" if dtype == time else str(dtype)) for column, dtype in frame.schema.items()]
        for head, frame in frames()
    }

    assert told == found


def test_every_method_that_gives_a_frame_stands_there() -> None:
    text = (ROOT / "docs" / "reference" / "frames.md").read_text(encoding="utf-8")
    owners = {"batch": nb.Batch, "run": nb.JobHandle}
    given = {
        f"## {owner}.{name}()"
        for owner, kind in owners.items()
        for name, method in from_code.members(kind).items()
        if getattr(method, "__annotations__", {}).get("return") == "pl.DataFrame" and name != "sql"
    }

    assert "## run.chunks()" in given
    assert sorted(given - set(text.splitlines())) == []


# --- drawings -------------------------------------------------------------------------------------


def test_drawings_of_states_are_those_of_the_tables() -> None:
    for name, svg in drawings.drawings().items():
        stored = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
        assert stored == f"{svg}\n", f"{name} is outdated: python -m docs._site.drawings"


def test_a_state_that_is_drawn_nowhere_is_missed() -> None:
    assert drawings.CHUNK_PLACES.keys() == set(nb.ChunkStatus)
    assert drawings.INSTANCE_PLACES.keys() == set(nb.InstanceStatus)


# --- pages and links ------------------------------------------------------------------------------


def test_every_page_has_one_place_in_the_tables_of_contents() -> None:
    placed = Counter(target for page in PAGES for target in contents(page))
    pages = {path for path in [*PAGES, *NOTEBOOKS] if path != ROOT / "docs" / "index.md"}

    assert {path.relative_to(ROOT) for path in pages ^ placed.keys()} == set()
    assert [path for path, times in placed.items() if times > 1] == []


def contents(page: Path) -> Iterator[Path]:
    """The pages that the tables of contents of a page name."""
    for table in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for name in (line for line in table.split() if line[0] != ":"):
            base = ROOT / name[1:] if name[0] == "/" else page.parent / name
            yield next((path for end in (".md", ".ipynb") if (path := base.with_name(base.name + end)).exists()), base)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS, ROOT / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8") if page.suffix == ".md" else llms.as_markdown(page))
    for target in re.findall(r"(?<!`)\]\(<?([^)>\s]+)>?\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        led = (page.parent / name).resolve() if name else page
        assert led.exists(), target
        assert not anchor or anchor in anchors(led), target


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page make, as GitHub and MyST do."""
    text = from_code.filled(page.read_text(encoding="utf-8")) if "reference" in page.parts else page.read_text()
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)}


def slug(heading: str) -> str:
    """An anchor.

    >>> slug("What is *not* guaranteed, and why")
    'what-is-not-guaranteed-and-why'
    """
    kept = (char for char in heading.lower().strip() if char in " -_" or unicodedata.category(char)[0] in "LN")
    return "".join(kept).replace(" ", "-")


# --- for those who ask a machine ------------------------------------------------------------------


def test_pages_are_written_as_markdown_without_directives_of_code(tmp_path: Path) -> None:
    titles = {"docs/reference/options": "Options", "notebooks/03-debug-and-heal": "Debug and heal"}
    llms.write(tmp_path, titles)

    for page in PAGES:
        made = llms.as_markdown(page)
        assert not re.search(r"^```\{|\A---|\{\.", made, re.MULTILINE), page
        assert ".ipynb)" not in made
    assert "@nb.step" in llms.as_markdown(ROOT / "docs" / "index.md")
    assert "- [Options](docs/reference/options.md)" in (tmp_path / "llms.txt").read_text(encoding="utf-8")
    assert "| `max_attempts` | `4` |" in (tmp_path / "docs/reference/options.md").read_text(encoding="utf-8")
    told = (tmp_path / "notebooks/03-debug-and-heal.md").read_text(encoding="utf-8")
    assert "```python\n" in told
    assert "```text\nPriced(shop='berlin', euros=12.5)\n```" in told  # what a cell shows
    assert (tmp_path / "notebooks/loopback.py").exists()  # which notebooks import
    assert (tmp_path / "notebooks/03-debug-and-heal.ipynb").exists()

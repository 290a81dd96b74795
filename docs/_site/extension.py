"""The Sphinx extension of the site: parts from code, references of docstrings, and the pages as Markdown beside the HTML."""

from __future__ import annotations

import enum
import inspect
import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs._site import from_code, llms


class FromCode(SphinxDirective):
    """A part of a page that is made from code."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The part's nodes."""
        kind, *names = self.arguments[0].split()
        text = _autodoc(names) if kind == "api" else from_code.markdown(self.arguments[0])
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _autodoc(names: list[str]) -> str:
    return "\n".join(["```{eval-rst}", *(line for name in names for line in _directive(name)), "```"])


def _directive(path: str) -> list[str]:
    value = from_code.thing(path)
    module, _, name = path.rpartition(".")
    if inspect.isclass(value):
        shown = "autoexception" if issubclass(value, BaseException) else "autoclass"
        lines = [f".. {shown}:: {path}"]
        if issubclass(value, enum.Enum):
            return [*lines, "   :members:", "   :undoc-members:", "   :member-order: bysource", ""]
        return [*lines, "", *(line for each in from_code.members(value).items() for line in _member(path, *each))]
    if inspect.isroutine(value) and path not in sys.modules:  # autodoc would take the module of that name
        return [f".. autofunction:: {path}", ""]
    called = value if inspect.isroutine(value) else type(value).__call__ if callable(value) else None
    call = f".. py:function:: {name}{from_code.signature(called)}" if called else f".. py:data:: {name}"
    doc = _google(inspect.getdoc(value) or "")
    return [call, f"   :module: {module}", "", *(f"   {line}" for line in doc), ""]


def _member(owner: str, name: str, value: Any) -> list[str]:
    shown = "autoproperty" if isinstance(value, property) else "automethod"
    return [f"   .. {shown}:: {owner}.{name}", ""]


def shown_signature(
    _app: Sphinx, what: str, _name: str, value: Any, _options: Any, given: str | None, _returns: str | None
) -> tuple[str, str] | None:
    """None of a class that users do not call; any other is shown as it is."""
    is_hidden = what in ("class", "exception") and given and not from_code.is_made_by_users(value)
    return ("", "") if is_hidden else None


def _google(doc: str) -> list[str]:
    from sphinx.ext.napoleon import Config
    from sphinx.ext.napoleon.docstring import GoogleDocstring

    return str(
        GoogleDocstring(
            doc, Config(napoleon_use_rtype=False, napoleon_custom_sections=[("Attributes", "returns_style")])
        )
    ).splitlines()


# --- references -----------------------------------------------------------------------------------


def resolve(app: Sphinx, _env: Any, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """What a docstring names as its reader knows it: `Batch`, `nb.to`, `JobHandle.retry`, `step`."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("nb.").removesuffix("()")
    domain = app.env.get_domain("py")
    for path in (f"nbbatch.{target}", f"{node.get('py:class')}.{target}", f"{node.get('py:module')}.{target}"):
        found = domain.objects.get(path)  # type: ignore[attr-defined]
        if found:
            uri = app.builder.get_relative_uri(node["refdoc"], found.docname)
            return nodes.reference("", "", content, internal=True, refuri=f"{uri}#{found.node_id}")
    return None


# --- pictures -------------------------------------------------------------------------------------


DRAWING = re.compile(r"docs/pictures/.*\.svg")


PLOT = "The picture that the cell above draws"


def inline_drawings(app: Sphinx, tree: nodes.document, _page: str) -> None:
    """Drawings stand in the page itself, so that they follow its theme, dark or light."""
    if app.builder.format == "html":
        for image in [node for node in tree.findall(nodes.image) if "alt" not in node]:
            image["alt"] = PLOT
        for image in [node for node in tree.findall(nodes.image) if DRAWING.fullmatch(node["uri"])]:
            svg = (Path(app.srcdir) / image["uri"]).read_text(encoding="utf-8")
            image.replace_self(
                nodes.raw("", svg.replace("<svg", f'<svg aria-label="{escape(image["alt"])}"', 1), format="html")
            )


# --- Markdown beside the pages --------------------------------------------------------------------


def write_markdown(app: Sphinx, error: Exception | None) -> None:
    """Each page as Markdown, and llms.txt, which lists them."""
    if error is None and app.builder.format == "html":
        pages = {name: app.env.titles[name].astext() for name in sorted(app.env.found_docs) if name in app.env.titles}
        llms.write(Path(app.outdir), pages)


def tell_pages(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Which pages there are as Markdown, for the template that links them."""
    context["markdown_pages"] = {name for name in app.env.found_docs if llms.source(name) is not None}


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_directive("from-code", FromCode)
    app.add_lexer("crontab", TextLexer)
    app.connect("autodoc-process-signature", shown_signature)
    app.connect("missing-reference", resolve)
    app.connect("doctree-resolved", inline_drawings)
    app.connect("html-page-context", tell_pages)
    app.connect("build-finished", write_markdown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

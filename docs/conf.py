"""The site: ``make docs``. Pages are the Markdown files of the repository where they stand, so a link works here and there."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]

project = "nbbatch"
author = "the authors of nbbatch"
copyright = "the authors of nbbatch, Apache-2.0"  # noqa: A001 - Sphinx calls it so
version = release = installed("nbbatch")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs._site.extension"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "DESIGN.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = [".*", "build", "dist", "nbbatch", "tests", "benchmarks", "binder", "docs/_*", "**/__pycache__"]
templates_path = ["_templates"]
suppress_warnings = [
    "mystnb.unknown_mime_type",  # a live panel that was saved: its static page stands beside it
]

# --- Markdown and notebooks -----------------------------------------------------------------------
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks are stored with what they show; the tests execute them
nb_ipywidgets_js = {}  # nothing is fetched from elsewhere
nb_merge_streams = True

# --- docstrings -----------------------------------------------------------------------------------
default_role = "py:obj"
autoclass_content = "both"
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # the signature has them as they are written
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "returns_style")]
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# --- how it looks ---------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_title = "nbbatch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_additional_pages = {"index": "home.html"}
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "nbbatch"},
    "github_url": SOURCE,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
    "secondary_sidebar_items": ["page-toc", "page-markdown"],
}
html_sidebars = {f"docs/{page}": [] for page in ("index", "start", "concepts", "which-tool")}

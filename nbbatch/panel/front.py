"""What a page is given to show a run and a batch: the texts of its two modules and of the style sheet."""

from __future__ import annotations

from pathlib import Path

from nbbatch.pictures.style import variables

_HERE = Path(__file__).parent


def _read(*names: str) -> str:
    """Files one after another, without comments and indents: they travel with every panel."""
    lines = (line.strip() for name in names for line in (_HERE / name).read_text(encoding="utf-8").splitlines())
    return "\n".join([line for line in lines if line and not line.startswith("//")] + [""])


# texts, not paths: of a path anywidget remembers every widget, for reloading it
PANEL = _read("notebook.js", "head.js", "chain.js", "tabs.js", "panel.js")
OVERVIEW = _read("notebook.js", "overview.js")
CSS = variables(".nbc") + _read("panel.css", "head.css")

"""What a page is given to show a run and a batch: the texts of its two modules and of the style sheet."""

from __future__ import annotations

from pathlib import Path

from nbbatch.pictures.style import variables

_HERE = Path(__file__).parent


def _read(*names: str) -> str:
    return "".join((_HERE / name).read_text(encoding="utf-8") for name in names)


# texts, not paths: of a path anywidget remembers every widget, for reloading it
PANEL = _read("notebook.js", "head.js", "chain.js", "tabs.js", "panel.js")
OVERVIEW = _read("notebook.js", "overview.js")
CSS = variables(".nbc") + _read("panel.css", "head.css")

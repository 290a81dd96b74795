"""A run as a page that is kept and as text: the facts of its panel in the same words, as they stood when it was drawn."""

from __future__ import annotations

from nbbatch.base.rows import InstanceRow
from nbbatch.engine.dispatcher import Engine
from nbbatch.panel import facts, run_pages
from nbbatch.panel.snapshot import Snapshot, plain
from nbbatch.pictures import static
from nbbatch.pictures.figures import as_html, as_text
from nbbatch.store.reading import Reader


def html(store: Reader, engine: Engine, row: InstanceRow) -> str:
    """A run as plain HTML."""
    now = plain(store, engine, row, engine.clock.now())
    head = static.Head(
        facts.headline(now),
        facts.bar_words(now),
        as_html(facts.facts(now, live=False)),
        now.waits or "",
        facts.following(now),
    )
    return run_pages.run_page(store, engine, row, head, now.steps)


def text(store: Reader, engine: Engine, row: InstanceRow) -> str:
    """A run as lines of text."""
    now = plain(store, engine, row, engine.clock.now())
    return "\n".join([facts.headline(now), *_figures(now), *facts.step_lines(now.steps), *_next(now)])


def _figures(now: Snapshot) -> list[str]:
    return [as_text(facts.facts(now, live=False)), *([now.waits] if now.waits else [])]


def _next(now: Snapshot) -> list[str]:
    found = " · ".join(f"{code} {what}" for code, what in facts.following(now))
    return [f"Next: {found}"] if found else []

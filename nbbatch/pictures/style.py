"""How pictures are coloured: patterns beside colours, paper and ink that follow the theme, lengths and counts in few letters.

The looks of states are in `nbbatch.base.states`. Every colour serves light and dark; only paper and ink follow the theme: the
notebook's if there is one, else the system's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nbbatch.base.states import AMBER, BLUE, GREEN, GREY, VIOLET, WAITS_FOR_JOB, ChunkStatus, InstanceStatus, Look
from nbbatch.pictures.markup import tag

WAITS: Final = "WAITS"
"""In ``data-status``, of an instance that waits for its job."""
STEP_COLOURS = (BLUE, GREEN, AMBER, VIOLET, "#0e96a8", "#d1479c", GREY, "#8a8f1e")
"""Of steps in a timeline, used again after the last; the pattern goes round with another period."""
STEP_PATTERNS = ("", "M-1 7L7 -1M-1 1L1 -1M5 7L7 5", "M0 3h6", "M2 3h2", "M3 0v6", "M0 6L3 0L6 6", "M1.5 3h3M3 1.5v3")

STYLE = (
    ".nbp{--p:var(--jp-layout-color1,var(--vscode-editor-background,#fff));"
    "--i:var(--jp-content-font-color1,var(--vscode-editor-foreground,#1f2328));"
    "font-family:var(--jp-ui-font-family,system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif);"
    "font-size:12px;max-width:100%;height:auto}"
    "@media(prefers-color-scheme:dark){.nbp{--p:var(--jp-layout-color1,var(--vscode-editor-background,#111519));"
    "--i:var(--jp-content-font-color1,var(--vscode-editor-foreground,#e6edf3))}}"
    ".nbp text{fill:var(--i);unicode-bidi:plaintext}.nbp .paper{fill:var(--p)}.nbp .b{font-weight:600}"
    ".nbp .s{font-size:11px}.nbp .q{opacity:.78}.nbp .m{font-variant-numeric:tabular-nums}"
    ".nbp .line{stroke:var(--i);stroke-opacity:.55;fill:none;stroke-width:1.3}.nbp .tip{fill:var(--i);fill-opacity:.7}"
    ".nbp .grid{stroke:var(--i);stroke-opacity:.14;fill:none}.nbp .track{fill:var(--i);fill-opacity:.09}"
    ".nbp .hatch{stroke:var(--p);stroke-opacity:.75;stroke-width:1.1;fill:none}"
)


def variables(scope: str) -> str:
    """CSS: the colours of chunk states as variables, that of the state in ``data-status`` as ``--state``, and what fills a chunk state in ``data-s``.

    On screens fills are plain; in high contrast and in print each has its pattern too.

    >>> variables(".here").splitlines()[0][:30]
    '.here { --queued: #7d8590; --g'
    """
    chunk = " ".join(f"--{status.value.lower().replace('_', '-')}: {status.look.colour};" for status in ChunkStatus)
    looks = {str(status): status.look for status in (*ChunkStatus, *InstanceStatus)}
    lines = [f'{scope} [data-status="{name}"] {{ --state: {look.colour}; }}' for name, look in looks.items()]
    lines.append(f'{scope} [data-status="{WAITS}"] {{ --state: {WAITS_FOR_JOB.colour}; }}')
    fills = [f'{scope} [data-s="{status}"] {{ background: {_plain(status.look)}; }}' for status in ChunkStatus]
    marked = [
        f'{scope} [data-s="{status}"] {{ background: {_tile(status.look)} {status.look.colour}; }}'
        for status in ChunkStatus
        if status.look.pattern
    ]
    exact = f"{scope} [data-s] {{ forced-color-adjust: none; print-color-adjust: exact; }}"
    media = ["@media (forced-colors: active), print {", exact, *marked, "}"]
    return "\n".join([f"{scope} {{ {chunk} }}", *lines, *fills, *media, ""])


def _plain(look: Look) -> str:
    return f"color-mix(in srgb, {look.colour} 45%, transparent)" if look.quiet else look.colour


def _tile(look: Look) -> str:
    """The pattern of a look as a picture that CSS repeats."""
    drawn = f"<svg xmlns='http://www.w3.org/2000/svg' width='6' height='6'><path d='{look.pattern}' stroke='white' stroke-width='1.2' fill='none'/></svg>"
    return f'url("data:image/svg+xml,{drawn}")'


def fill(key: str, name: str, look: Look) -> str:
    """What to write into ``fill=`` for a look of this name in the picture ``key``."""
    return f"url(#{key}-{name})" if look.pattern else look.colour


def patterns(key: str, looks: Iterable[tuple[str, Look]]) -> str:
    """Definitions of the patterns that `fill` refers to."""
    tiles = (
        tag(
            "pattern",
            tag("path", d="M0 0h6v6h-6z", fill=look.colour),
            tag("path", d=look.pattern, class_="hatch"),
            id=f"{key}-{name}", width=6, height=6, patternUnits="userSpaceOnUse",
        )
        for name, look in looks
        if look.pattern
    )  # fmt: skip
    return tag("defs", *tiles)


def step_look(position: int) -> Look:
    """How the attempts of the step at this place in the chain are drawn."""
    return Look("", "", STEP_COLOURS[position % len(STEP_COLOURS)], STEP_PATTERNS[position % len(STEP_PATTERNS)])


def spoken(seconds: float) -> str:
    """A length of time as people say it, in two units at most.

    >>> spoken(0.044), spoken(8.4), spoken(75), spoken(412), spoken(7265), spoken(200_000)
    ('44 ms', '8 s', '1 min 15 s', '6 min 52 s', '2 h 1 min', '2 d 7 h')
    """
    if seconds < 10:
        return duration(seconds) if seconds < 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    first = next(place for place, (_, size) in enumerate(units) if whole >= size)
    name, size = units[first]
    said = f"{whole // size} {name}"
    if first + 1 < len(units) and (rest := whole % size // units[first + 1][1]):
        said += f" {rest} {units[first + 1][0]}"
    return said


def about(seconds: float) -> str:
    """What is left, as roughly as it is known.

    >>> about(3), about(47), about(75), about(400), about(5000), about(90_000)
    ('a few seconds', '45 s', '1 min', '7 min', '1 h 23 min', '1 d 1 h')
    """
    if seconds < 8:
        return "a few seconds"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)} s"
    return spoken(60 * round(seconds / 60)) if seconds < 86_400 else spoken(seconds)


def ago(seconds: float) -> str:
    """How long ago something was, as people say it; it changes seldom.

    >>> ago(3), ago(47), ago(400), ago(7265), ago(200_000)
    ('just now', '1 min ago', '7 min ago', '2 h ago', '2 d ago')
    """
    if seconds < 30:
        return "just now"
    for name, size in (("d", 86_400), ("h", 3_600)):
        if seconds >= size:
            return f"{seconds // size:.0f} {name} ago"
    return f"{max(1, round(seconds / 60))} min ago"


def duration(seconds: float | None) -> str:
    """A length of time as people write it.

    >>> duration(0.00005), duration(0.025), duration(2.25), duration(75), duration(7265), duration(200_000), duration(None)
    ('50 µs', '25 ms', '2.2 s', '1:15', '2:01:05', '2 d 7 h', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms" if seconds >= 0.001 else f"{seconds * 1e6:.0f} µs"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def lasted(seconds: float, usual: float | None, most: float | None, given: int | None) -> str:
    """For how long something has run, beside how long that usually takes where it is late, and what it has given so far.

    >>> lasted(41, 0.044, 0.05, None), lasted(0.03, 0.044, 0.05, None), lasted(12, None, None, 1300)
    ('41 s · usually 44 ms', '30 ms', '12 s · 1,300 given so far')
    """
    words = duration(max(0.0, seconds))
    if most is not None and seconds > most:
        words += f" · usually {duration(usual)}"
    return words if given is None else f"{words} · {given:,} given so far"


def short(count: int) -> str:
    """A count that fits into a narrow place.

    >>> short(950), short(12_345), short(999_988), short(1_000_000), short(2_345_678_901)
    ('950', '12.3k', '999.9k', '1M', '2.3G')
    """
    for unit, name in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= 10 * unit or (count >= unit > 1_000):
            return f"{count * 10 // unit / 10:.1f}".removesuffix(".0") + name  # never rounded up to what is not there
    return f"{count:,}"

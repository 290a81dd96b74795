"""``python -m benchmarks.table build/bench.json``: the figures as the Markdown table of docs/performance.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.measure import Figure


def table(kept: dict[str, object]) -> str:
    """The table, with what it was measured on."""
    machine: dict[str, object] = kept["machine"]  # pyright: ignore[reportAssignmentType]
    lines = [
        f"Measured {str(machine['when'])[:10]} with Python {machine['python']} on {machine['cores']} cores, {machine['system']}.",
        "",
        "| | | median | least to most | claim |",
        "| --- | --- | ---: | --- | --- |",
    ]
    for row in kept["figures"]:  # pyright: ignore[reportGeneralTypeIssues]
        figure = Figure(*(row[name] for name in ("workload", "what", "unit", "values", "bound")))
        lines.append(figure.row())
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))

"""How code uses an argument that it only reads: as chains of attributes and items, such as ``params.codes[key]``."""

from __future__ import annotations

Use = tuple[str, ...]
"""Names of attributes, and the marks below, from the argument on: ``("codes", "[]")``."""
ITEM, GET, EACH = "[]", ".get()", "*"
"""An item by its key or number; the same by ``get``; any or all of the items: iterated, or searched."""

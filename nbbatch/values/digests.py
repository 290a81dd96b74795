"""Digests of stored values: equal for equal ones, in whatever process they were stored and wherever their files lie."""

from __future__ import annotations

import hashlib
from collections.abc import MutableSet
from collections.abc import Set as AbstractSet

from nbbatch.values.codec import Codec
from nbbatch.values.files import CONTENT, File, changed
from nbbatch.values.identity import in_order
from nbbatch.values.outside import whole
from nbbatch.values.tree import is_tree, joined, parted, write

_LOOSE: tuple[type, ...] = (set, frozenset, AbstractSet, MutableSet, File)


def is_loose(codec: Codec) -> bool:
    """Whether equal values may have several stored forms: a set has no order, and a file may lie elsewhere."""
    return any(map(codec.forms.names, _LOOSE))


def digest_of(codec: Codec, data: bytes) -> str:
    """A digest of what a stored value means: sets are put in order, and files count by their content."""
    inside = whole(data)
    tree, parts = parted(inside if is_tree(inside) else write(codec.decode(inside), codec.forms))
    return hashlib.sha256(joined(in_order(changed(tree, CONTENT)), parts)).hexdigest()[:32]

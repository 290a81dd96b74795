"""A stored page in two: what ``bisect=True`` makes of one that fails. Pure."""

from __future__ import annotations

import collections.abc as cabc
import json
from typing import Annotated, Any, cast, get_args, get_origin

from nbbatch.values.codec import codec_for, decode_frame

_PAGES = (list, tuple, cabc.Sequence, cabc.MutableSequence)


def is_page(annotation: Any) -> bool:
    """Whether values of a type can be split: lists, tuples of any length, frames.

    >>> is_page(list[int]), is_page(tuple[int, ...]), is_page(tuple[int, str]), is_page(str)
    (True, True, False, False)
    """
    if get_origin(annotation) is Annotated:
        return is_page(get_args(annotation)[0])
    kind = get_origin(annotation) or annotation
    if kind is tuple:
        return get_args(annotation)[1:] == (Ellipsis,)
    return kind in _PAGES or codec_for(annotation).media == "arrow"


def halves(data: bytes | None) -> list[bytes]:
    """The two halves of a stored page, in order; nothing if it has fewer than two items.

    >>> halves(b"[1,2,3]"), halves(b"[1]")
    ([b'[1]', b'[2, 3]'], [])
    """
    if data is None:
        return []
    if data.startswith(b"ARROW1"):
        frame = decode_frame(data)
        encode = codec_for(type(frame)).encode
        middle = frame.height // 2
        return [encode(frame[:middle]), encode(frame[middle:])] if middle else []
    items = json.loads(data)
    if not isinstance(items, list):
        return []
    page = cast("list[Any]", items)
    middle = len(page) // 2
    return [json.dumps(half, ensure_ascii=False).encode() for half in (page[:middle], page[middle:])] if middle else []

"""Types that code has as values, such as ``TypeAdapter(list[Patient])``: what they are made of counts as code."""

# pyright: reportUnknownMemberType=false
# (types of user code are Any all the way down)

from __future__ import annotations

from typing import Any, cast, get_args, get_origin

from pydantic import TypeAdapter

from nbbatch.code.renewal import UNIONS


def made_of(value: Any) -> tuple[Any, ...]:
    """What a type is made of that is no class; nothing of anything else.

    >>> made_of(dict[str, int]), made_of(int | None), made_of(TypeAdapter(list[int])), made_of(int)
    ((<class 'dict'>, <class 'str'>, <class 'int'>), ('|', <class 'int'>, <class 'NoneType'>), ('TypeAdapter', list[int]), ())
    """
    if isinstance(value, TypeAdapter):
        return "TypeAdapter", getattr(cast("Any", value), "_type", None)
    args = get_args(value)
    origin = get_origin(value)
    return ("|" if origin in UNIONS else origin, *args) if args else ()

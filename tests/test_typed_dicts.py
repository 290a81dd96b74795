"""A TypedDict keeps its values and is checked, whichever module it is of and whatever stands in it."""

from __future__ import annotations

import datetime as dt
from typing import Any, NotRequired, Required, TypedDict

import numpy as np
import pytest
import typing_extensions
from pydantic import ValidationError

from nbbatch.values.codec import codec_for

DAY = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Page(TypedDict):
    at: dt.datetime
    place: NotRequired[tuple[int, str]]


class Loose(TypedDict, total=False):
    seen: Required[set[int]]
    pages: list[Page]


class Picture(typing_extensions.TypedDict):
    pixels: np.ndarray[Any, Any]
    size: tuple[int, int]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Page, {"at": DAY}),
        (Page, {"at": DAY, "place": (1, "a")}),
        (Loose, {"seen": {1}, "pages": [{"at": DAY, "place": (1, "a")}]}),
        (list[Page], [{"at": DAY}]),
        (dict[str, Loose | int], {"x": {"seen": {1}}, "y": 3}),
        (tuple[Page | None, ...], ({"at": DAY, "place": (1, "a")}, None)),
    ],
)
def test_the_values_of_a_typed_dict_come_back_with_their_types(kind: Any, value: Any) -> None:
    """S3."""
    codec = codec_for(kind)
    back = codec.decode(codec.encode(value))
    assert back == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Page, {"at": DAY, "place": (1, 2)}),
        (Page, {"place": (1, "a")}),
        (Page, {"at": DAY, "other": 1}),
        (Loose, {}),
        (list[Page], [{"place": (1, "a")}]),
        (Picture, {"pixels": [1, 2], "size": (1, 2)}),
    ],
)
def test_a_dict_that_is_none_of_the_declared_ones_is_refused(kind: Any, value: Any) -> None:
    """C12."""
    with pytest.raises(ValidationError):
        codec_for(kind).encode(value)


def test_an_array_in_a_typed_dict_comes_back() -> None:
    """S3."""
    codec = codec_for(Picture)
    back = codec.decode(codec.encode({"pixels": np.arange(3), "size": (1, 3)}))
    assert back["size"] == (1, 3)
    assert back["pixels"].tolist() == [0, 1, 2]

"""Forms of other libraries' types, each imported once one of its values, or its tag, turns up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from nbbatch.values.tree import Form


class Library(NamedTuple):
    """The forms that one library's types have."""

    form_for: Callable[[type], Form | None]
    named: Mapping[str, Form]


def _numpy() -> Library:
    from nbbatch.values import numpy_forms

    return Library(numpy_forms.form_for, numpy_forms.NAMED)


def _pandas() -> Library:
    from nbbatch.values import pandas_forms

    return Library(pandas_forms.form_for, pandas_forms.NAMED)


def _arrow() -> Library:
    from nbbatch.values import arrow_forms

    return Library(arrow_forms.form_for, arrow_forms.NAMED)


LIBRARIES: dict[str, Callable[[], Library]] = {"numpy": _numpy, "pandas": _pandas, "pyarrow": _arrow, "polars": _arrow}
"""By package; that of a tag stands before its first dot."""


def form_for(kind: type) -> Form | None:
    """The form of a type of another library; None where it has none."""
    library = LIBRARIES.get(kind.__module__.partition(".")[0])
    return None if library is None else library().form_for(kind)


def named(tag: str) -> Form | None:
    """The form behind a tag."""
    library = LIBRARIES.get(tag[1:].partition(".")[0])
    return None if library is None else library().named.get(tag)

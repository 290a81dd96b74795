"""Doctests of the package: each has the names of `docs/_site/shop.py`, in a folder of its own."""

from __future__ import annotations

import os
import re
import runpy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from _pytest.doctest import DoctestItem

import nbbatch as nb

SHOP = Path(__file__).parent / "docs" / "_site" / "shop.py"
USES = re.compile(r"\b(nb|batch|run|failed|job|Dashboard)\b")

STATE = """
SELECT id, status, (SELECT count(*) FROM attempts WHERE instance = instances.id) FROM instances WHERE id <= 2 ORDER BY id
"""


class Shop:
    """The names, made anew once an example has changed what is in the store."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder, self.place = folder, Path()
        self._names, self._before = dict[str, Any](), None

    def names(self) -> dict[str, Any]:
        """Names of their own for an example, whose working directory is that of the store."""
        if not self._names or not self._names["batch"].usable or self._state() != self._before:
            self.close()
            self.place = self._folder()
            os.chdir(self.place)
            import polars as pl

            beside = {"Annotated": Annotated, "Counter": Counter, "contextmanager": contextmanager, "os": os, "pl": pl}
            self._names = {**beside, **runpy.run_path(str(SHOP))}
            self._before = self._state()
        os.chdir(self.place)
        return dict(self._names)

    def _state(self) -> Any:
        return self._names["batch"].sql(STATE).rows()

    def close(self) -> None:
        if self._names:
            self._names["batch"].close()


@pytest.fixture(scope="session")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(lambda: tmp_path_factory.mktemp("shop"))
    yield shop
    shop.close()


@pytest.fixture(autouse=True)
def _names_of_examples(request: pytest.FixtureRequest) -> Iterator[None]:
    """For examples of what users call; others need no names."""
    item: Any = request.node
    if not isinstance(item, DoctestItem) or not any(USES.search(each.source) for each in item.dtest.examples):
        yield
        return
    here, display = Path.cwd(), nb.options.display
    request.getfixturevalue("doctest_namespace").update(request.getfixturevalue("_shop").names())
    yield
    nb.options.display = display
    os.chdir(here)

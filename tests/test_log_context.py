"""Which attempt a log record belongs to."""

from __future__ import annotations

import logging
from typing import Any

import nbbatch as nb
from tests.jobs import each, one_step


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.ids = list[tuple[Any, ...]]()

    def emit(self, record: logging.LogRecord) -> None:
        names = ("nb_instance", "nb_step", "nb_chunk", "nb_attempt")
        self.ids.append(tuple(getattr(record, name, None) for name in names))


def test_each_record_made_in_a_step_carries_its_attempt(batch: nb.Batch) -> None:
    """C15"""
    logger, kept = logging.getLogger("somewhere.else"), Kept()
    logger.addHandler(kept)

    def work(value: int) -> None:
        logger.warning("at %d", value)

    try:
        run = batch.submit(each(work), 3)
        run.result(10)
        logger.warning("outside")
    finally:
        logger.removeHandler(kept)

    chunks = run.chunks("visit")["id"].to_list()
    assert sorted(kept.ids[:-1]) == [(run.id, "visit", chunk, 1) for chunk in chunks]
    assert kept.ids[-1] == (None,) * 4


def test_extra_fields_of_the_user_do_not_clash_with_the_ids(batch: nb.Batch) -> None:
    def work(value: int) -> None:
        nb.context().log.info("mine", extra={"step": "s", "chunk": 1, "instance": 2, "attempt": 3})

    assert batch.submit(one_step(work), 1).wait(10) == "COMPLETED"

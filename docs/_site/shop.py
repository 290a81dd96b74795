"""What the examples of the reference use: a job, a batch with a run that succeeded and one that failed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

import nbbatch as nb
import nbbatch.testing


class Order(BaseModel):
    id: int
    price: str


@nb.step
def read(count: int) -> Iterator[Order]:
    for number in range(count):
        yield Order(id=number, price="2,50" if number == 3 else "2.50")


@nb.step(max_attempts=1)
def price(order: Order) -> float:
    return float(order.price)


@nb.step
def total(prices: Iterable[float]) -> float:
    return sum(prices)


@nb.step(max_wait="1 hour")
def poll(path: Path) -> None:
    if not path.exists():
        raise nb.RetryLater("10 min", "the file is not there yet")


job = nb.Job("shop", read >> price >> total)
batch = nb.open("shop.duckdb", nb.inline())
run = batch.submit(job, 3)
run.wait()
failed = batch.submit(job, 5)
failed.wait()

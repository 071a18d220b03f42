"""Orders: asks the catalog for the price, takes from the stock, remembers the order."""

import itertools
from typing import Annotated, Protocol

import msgspec

from microcosmos import Service, errors

Quantity = Annotated[int, msgspec.Meta(ge=1)]


class Product(msgspec.Struct):
    id: str
    name: str
    cents: int


class Left(msgspec.Struct):
    quantity: int


class Catalog(Protocol):
    """What this service asks of `catalog`."""

    async def read(self, id: str) -> Product: ...


class Stock(Protocol):
    """What this service asks of `stock`."""

    async def take(self, product: str, quantity: int) -> Left: ...


class Order(msgspec.Struct):
    id: int
    product: str
    quantity: int
    total_cents: int


orders = Service("orders")
catalog = orders.client("catalog", Catalog)
stock = orders.client("stock", Stock)

ORDERS: dict[int, Order] = {}
NUMBERS = itertools.count(1)


@orders.endpoint(retry=False)
async def place(product: str, quantity: Quantity = 1) -> Order:
    """Order a product."""
    found = await catalog.read(id=product)
    await stock.take(product=product, quantity=quantity)
    order = Order(next(NUMBERS), found.name, quantity, found.cents * quantity)
    ORDERS[order.id] = order
    return order


@orders.endpoint
async def read(id: int) -> Order:
    """An order that was placed."""
    if id not in ORDERS:
        raise errors.NotFound("orders.Read", f"there is no order {id}")
    return ORDERS[id]


if __name__ == "__main__":
    orders.run()

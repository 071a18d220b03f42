"""How much of each product is left."""

from typing import Annotated

import msgspec

from microcosmos import Service, errors

Quantity = Annotated[int, msgspec.Meta(ge=1)]


class Left(msgspec.Struct):
    product: str
    quantity: int


stock = Service("stock")

# In memory, to keep the example small: a restart fills the shelves again.
SHELVES = {"tea": 20, "pot": 1, "cup": 6}


@stock.endpoint
async def read(product: str) -> Left:
    """What is left of a product."""
    return Left(product, SHELVES.get(product, 0))


@stock.endpoint(retry=False)
async def take(product: str, quantity: Quantity = 1) -> Left:
    """Take some of a product off the shelf; all or nothing."""
    left = SHELVES.get(product, 0)
    if left < quantity:
        raise errors.Conflict("stock.Take", f"only {left} of {product!r} left, not {quantity}")
    SHELVES[product] = left - quantity
    return Left(product, SHELVES[product])


if __name__ == "__main__":
    stock.run()

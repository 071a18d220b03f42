"""What is for sale, and for how much."""

import msgspec

from microcosmos import Service, errors


class Product(msgspec.Struct):
    id: str
    name: str
    cents: int


catalog = Service("catalog")

PRODUCTS = {
    product.id: product
    for product in (
        Product("tea", "Green tea, 100 g", 450),
        Product("pot", "Teapot, cast iron", 5900),
        Product("cup", "Cup, porcelain", 1200),
    )
}


@catalog.endpoint
async def read(id: str) -> Product:
    """One product."""
    if id not in PRODUCTS:
        raise errors.NotFound("catalog.Read", f"there is no product {id!r}")
    return PRODUCTS[id]


@catalog.endpoint
async def list_products() -> list[Product]:
    """Everything that is for sale."""
    return list(PRODUCTS.values())


if __name__ == "__main__":
    catalog.run()

"""examples/shop: three services that call each other, and errors of one seen through another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.doors import DOORS, Door, Fault, grpc_protobuf
from ..e2e.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture(scope="module")
def shop(live: Live) -> Iterator[Live]:
    starting = [live.typing("run", name, cwd=SHOP) for name in ("./catalog", "./stock", "./orders")]
    for one in starting:
        assert live.ended(one).code == 0
    yield live
    for name in ("catalog", "stock", "orders"):
        live.micro("kill", name)


@pytest.mark.parametrize("door", DOORS)
def test_an_order_is_placed_through_every_door(shop: Live, door: Door) -> None:
    order = door(shop, "orders", "Place", {"product": "tea", "quantity": 2})
    id = order.pop("id")
    assert id > 0
    assert order == {"product": "Green tea, 100 g", "quantity": 2, "total_cents": 900}
    assert door(shop, "orders", "Read", {"id": id}) == {"id": id, **order}


def test_an_order_is_placed_from_the_command_line(shop: Live) -> None:
    order = shop.call("orders", "place", "--product=tea", "--quantity=1")
    assert order["total_cents"] == 450
    assert shop.call("orders", "read", f"--id={order['id']}") == order


@pytest.mark.parametrize("door", DOORS)
def test_the_errors_of_others_come_through_as_they_are(shop: Live, door: Door) -> None:
    unknown = door(shop, "orders", "Place", {"product": "unicorn"})
    assert unknown == Fault("catalog.Read", 404, "there is no product 'unicorn'")
    empty = door(shop, "orders", "Place", {"product": "pot", "quantity": 2})
    assert empty == Fault("stock.Take", 409, "only 1 of 'pot' left, not 2")
    wrong = door(shop, "orders", "Place", {"product": "tea", "quantity": 0})
    assert wrong == Fault("orders", 400, "expected `int` >= 1 - at `$.quantity`")


@pytest.mark.parametrize(
    ("words", "code", "detail"),
    [
        (("--product=unicorn",), 4, "there is no product 'unicorn'"),
        (("--product=pot", "--quantity=2"), 127, "only 1 of 'pot' left, not 2"),
    ],
)
def test_the_command_line_says_it_in_one_line_and_a_code(
    shop: Live, words: tuple[str, ...], code: int, detail: str
) -> None:
    line = shop.refused(code, "orders", "place", *words)
    assert line.startswith(f"micro: {detail} (trace ")


# Protobuf has no missing fields.
@pytest.mark.parametrize("door", [door for door in DOORS if door is not grpc_protobuf])
def test_a_missing_field_is_the_callers_fault(shop: Live, door: Door) -> None:
    fault = door(shop, "orders", "Place", {})
    assert (fault.id, fault.code) == ("orders", 400)
    assert "product" in fault.detail

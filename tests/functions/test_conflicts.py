"""Conflicts: routes that meet, and names that services and functions cannot both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import context, errors
from microcosmos.base.patterns import Pattern, parts_of
from microcosmos.functions.conflicts import Services, ancestors, meets, overlap
from microcosmos.registry.interface import Node, Service
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.runtime.deployment import CreateRequest, Deployment
from microcosmos.runtime.source import Source

from ..runtime.platform import world

_PART = st.sampled_from(["a", "b", "{x}", "{y}"])
_ROUTE = st.builds(
    lambda parts, star: "/" + "/".join([*parts, "{rest*}"] if star else parts),
    st.lists(_PART, max_size=3, unique=True),
    st.booleans(),
)
_PATHS = [
    [*path]
    for size in range(5)
    for path in __import__("itertools").product(("a", "b", "c"), repeat=size)
]


@given(_ROUTE, _ROUTE)
def test_routes_meet_if_there_is_a_path_that_both_fit(one: str, other: str) -> None:
    both = [
        path
        for path in _PATHS
        if Pattern(one).match(path) is not None and Pattern(other).match(path) is not None
    ]
    assert (overlap("f", [one], "f", [other]) is not None) == bool(both), (one, other, both[:1])


def test_routes_of_functions_below_each_other() -> None:
    assert overlap("shop", ["/cart/{id}"], "shop.cart", ["/{x}"]) == ("/cart/{id}", "/{x}")
    assert overlap("shop", ["/cart/{id}"], "shop.stock", ["/{x}"]) is None
    assert overlap("shop", ["/{any*}"], "shop.cart", ["/x"]) == ("/{any*}", "/x")
    assert list(ancestors("a.b.c")) == ["a.b", "a"]
    assert parts_of("/a//b/") == ["a", "b"]


@pytest.mark.parametrize(
    ("service", "function", "both"),
    [
        ("shop", "shop", True),
        ("shop.cart", "shop", True),
        ("shop", "shop.cart", True),
        ("shop-cart", "shop.cart", True),
        ("shops", "shop", False),
        ("v1.shop", "shop", False),
    ],
)
def test_which_names_are_in_each_others_way(service: str, function: str, both: bool) -> None:
    assert meets(service, function) is both


class Runtime:
    """Deployments that are given."""

    def __init__(self, *deployments: Deployment) -> None:
        self._deployments = deployments

    async def read(self, name: str = "", namespace: str = "") -> list[Deployment]:
        return [one for one in self._deployments if one.namespace == namespace]


async def test_services_that_are_deployed_or_run_are_in_the_way() -> None:
    registry = MemoryRegistry()
    await registry.register(Service(name="cart", nodes=[Node(id="cart-1")]))
    source = Source(kind="folder", location="/x")
    runtime = Runtime(Deployment(name="shop", source=source, owner="ann"))
    services = Services(runtime, registry)
    assert await services.others("micro", "shop.x") == {"shop": "service shop of ann"}
    assert await services.others("micro", "cart") == {"cart": "service cart, which runs"}
    assert await services.others("micro", "free") == {}
    assert await services.others("acme", "cart") == {}


async def test_the_registry_refuses_a_service_of_a_functions_name_but_not_the_function() -> None:
    async def taken(namespace: str, name: str) -> str:
        return "/shop belongs to functions of ann" if name == "shop" else ""

    class Caller:
        id, namespace, type = "shop", "micro", "service"

        def enters(self, namespace: str) -> bool:
            return True

        def administers(self, namespace: str) -> bool:
            return self.type == "platform"

    registry, account = MemoryRegistry(), Caller()
    service = RegistryService(registry, guarded=True, taken=taken)
    node = Service(name="shop", nodes=[Node(id="shop-1")])
    here: Any = context.Context(account=account)
    context.set_current(here)
    with pytest.raises(errors.Conflict, match="shop cannot be registered: /shop belongs to"):
        await service.register(node)
    account.type = "platform"
    await service.register(node)
    assert [one.name for one in registry.known("micro")] == ["shop"]


async def test_a_service_cannot_be_run_under_a_functions_name(tmp_path: Path) -> None:
    async def taken(namespace: str, name: str) -> str:
        return "/shop belongs to functions of ann" if name.startswith("shop") else ""

    async with world(tmp_path) as here, here.core(taken=taken) as runtime:
        for name in ("shop", "shop.cart"):
            source = Source(kind="folder", location=str(here.write(name)))
            with pytest.raises(errors.Conflict) as refused:
                await runtime.create(CreateRequest(source=source, name=name))
            assert refused.value.detail == (
                "/shop belongs to functions of ann; choose another with --name"
            )
        assert await runtime.read() == []

"""A service whose process died is expected back: known, but with nobody alive."""

from __future__ import annotations

import pytest

from microcosmos.base import errors
from microcosmos.registry import Node, Service, Table
from microcosmos.registry.memory import MemoryRegistry

HELLO = Service(name="helloworld", nodes=[Node(id="1")])


@pytest.fixture
def table() -> Table:
    return Table()


def follow(table: Table) -> MemoryRegistry:
    registry = MemoryRegistry()
    registry.listen(table.apply)
    return registry


async def test_a_lost_service_is_known_but_not_listed(table: Table) -> None:
    registry = follow(table)
    await registry.register(HELLO)
    await registry.lose(HELLO)
    assert table.knows("helloworld")
    assert table.services() == []
    assert await registry.list_services() == []
    with pytest.raises(errors.NotFound):
        await registry.get_service("helloworld")


async def test_a_lost_service_that_comes_back_is_listed_again(table: Table) -> None:
    registry = follow(table)
    await registry.register(HELLO)
    await registry.lose(HELLO)
    await registry.register(HELLO)
    assert [service.name for service in table.services()] == ["helloworld"]


async def test_a_forgotten_service_is_unknown(table: Table) -> None:
    registry = follow(table)
    await registry.register(HELLO)
    await registry.lose(HELLO)
    await registry.forget("helloworld")
    assert not table.knows("helloworld")


async def test_forgetting_does_not_touch_the_living(table: Table) -> None:
    registry = follow(table)
    await registry.register(HELLO)
    await registry.forget("helloworld")
    assert table.knows("helloworld")


async def test_a_service_that_says_goodbye_is_unknown(table: Table) -> None:
    registry = follow(table)
    await registry.register(HELLO)
    await registry.deregister(HELLO)
    assert not table.knows("helloworld")


async def test_a_closed_registry_lets_go_of_who_waits() -> None:
    import asyncio

    registry = MemoryRegistry()
    waiting = asyncio.create_task(registry.changes(0, timeout=None))
    await asyncio.sleep(0)
    registry.close()
    with pytest.raises(errors.Unavailable):
        await waiting

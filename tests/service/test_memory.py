"""The platform in this process."""

from __future__ import annotations

from microcosmos.base.clock import ManualClock
from microcosmos.registry.interface import TTL
from microcosmos.service.memory import MemoryPlatform

from .test_platforms import make


async def test_a_service_is_known_as_long_as_it_runs(microcosmos_runner: object) -> None:
    clock = ManualClock()
    platform = MemoryPlatform(clock)
    hello, _ = make()
    async with hello.on(platform):
        await clock.advance(10 * TTL)
        (found,) = await platform.registry.list_services()
        assert found.name == "helloworld"
        assert platform.table.knows("helloworld")
    assert not platform.table.knows("helloworld")

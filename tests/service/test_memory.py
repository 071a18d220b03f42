"""The platform in this process."""

from __future__ import annotations

from microcosmos.base.clock import ManualClock
from microcosmos.registry.interface import TTL
from microcosmos.service.memory import in_memory

from .test_platforms import make


async def test_a_service_is_known_as_long_as_it_runs(microcosmos_runner: object) -> None:
    clock = ManualClock()
    hello, _ = make()
    async with in_memory(clock=clock) as platform, hello.on(platform):
        await clock.advance(10 * TTL)
        found = await platform.registry.list_services()
        assert "helloworld" in {one.name for one in found}
        assert platform.table.knows("helloworld")
    assert not platform.table.knows("helloworld")

"""What services use is told to the ledger, once each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from microcosmos import errors
from microcosmos.monitor.ledger import Line
from microcosmos.monitor.ledger.client import RemoteLedger
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.monitor.ledger.pace import unpaced
from microcosmos.monitor.ledger.service import LedgerService
from microcosmos.rpc import Client, Hosted, MemoryNetwork, Server
from microcosmos.rpc.handler import endpoint
from microcosmos.service.metering import Metering
from microcosmos.store import open_store


async def greet(name: str = "World") -> str:
    """Say hello."""
    if name == "bad":
        raise errors.Conflict("greeter", "no")
    if name == "busy":
        until = time.process_time() + 0.03
        while time.process_time() < until:
            pass
    return f"hi {name}"


class Counted:
    """A service, a ledger, and what meters the one for the other."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.hosted = [self._hosted("greeter"), self._hosted("other")]
        self.core, services = Server(), Server()
        self.core.add(LedgerService(ledger).hosted())
        for hosted in self.hosted:
            services.add(hosted)
        self.network = MemoryNetwork()
        self.network.join(self.core)
        self.network.join(services)
        self.client = Client([self.network])

    def _hosted(self, name: str) -> Hosted:
        return Hosted(name, [endpoint(greet, name, name=f"{name.title()}.Greet")], version="1.0")

    def metering(self, *names: str) -> Metering:
        services = [one for one in self.hosted if one.name in names]
        return Metering(RemoteLedger(self.client), services)

    async def call(self, name: str, service: str = "greeter") -> None:
        with contextlib.suppress(errors.Conflict):
            await self.client.call(
                service, f"{service.title()}.Greet", b'{"name":"%s"}' % name.encode()
            )

    async def used(self, name: str = "greeter") -> Any:
        return await self.ledger.used(Line(namespace="micro", kind="service", name=name))


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Counted]:
    async with open_store("memory://") as store:
        yield Counted(Ledger(store, pace=unpaced()))


async def test_what_a_service_is_asked_is_told_once() -> None:
    async with opened() as counted:
        metering = counted.metering("greeter")
        for name in ("Ann", "bad", "busy"):
            await counted.call(name)
        await metering.tell()
        await metering.tell()
        used = await counted.used()
        assert (used.requests, used.errors, used.failures) == (3, 1, {"409": 1})
        assert used.request_bytes == sum(
            len(b'{"name":""}') + len(n) for n in ("Ann", "bad", "busy")
        )
        assert used.response_bytes == len('"hi Ann"') + len('"hi busy"')
        assert used.execution_ns > 25_000_000
        assert used.cpu_ns > 25_000_000
        assert used.heap > 10_000_000
        assert used.byte_ms == used.heap * used.execution_ns // 1_000_000
        assert (used.cold_starts, used.shared) == (1, False)
        await counted.call("Ben")
        await metering.tell()
        used = await counted.used()
        assert (used.requests, used.cold_starts) == (4, 1)


async def test_what_was_not_heard_is_told_again_and_added_once() -> None:
    async with opened() as counted:
        metering = counted.metering("greeter")
        await counted.call("Ann")
        counted.network.cut(counted.core)
        with pytest.raises(errors.NotFound):
            await metering.tell()
        await counted.call("Ben")
        counted.network.join(counted.core)
        await metering.tell()
        assert (await counted.used()).requests == 1
        await metering.tell()
        assert (await counted.used()).requests == 2
        # The core has heard it, but could not say so.
        await counted.call("Cleo")
        count = metering._ledger.count

        async def unheard(*said: Any) -> None:
            await count(*said)
            raise errors.ConnectionLost("rpc", "the line broke")

        metering._ledger.count = unheard  # type: ignore[method-assign]
        with pytest.raises(errors.ConnectionLost):
            await metering.tell()
        metering._ledger.count = count  # type: ignore[method-assign]
        await metering.tell()
        assert (await counted.used()).requests == 3


async def test_services_of_one_process_share_what_it_uses() -> None:
    async with opened() as counted:
        metering = counted.metering("greeter", "other")
        await counted.call("busy")
        await counted.call("Ann", "other")
        await metering.tell()
        busy, quiet = await counted.used(), await counted.used("other")
        assert busy.shared
        assert quiet.shared
        assert busy.cpu_ns > quiet.cpu_ns
        assert busy.heap > quiet.heap


async def test_one_that_does_nothing_tells_nothing() -> None:
    async with opened() as counted:
        metering = counted.metering("greeter")
        await metering.tell()
        told = []
        counted.ledger.listen(told.extend)
        for _ in range(5):
            await metering.tell()
        assert told == []


async def test_a_platform_without_a_ledger_is_asked_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microcosmos.service.metering.EVERY", 0.001)
    async with opened() as counted:
        metering, asked = counted.metering("greeter"), 0

        async def gone(*_: Any) -> None:
            nonlocal asked
            asked += 1
            raise errors.NotFound("monitor", "there is no service monitor")

        metering._ledger.count = gone  # type: ignore[method-assign]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(metering.keep(), 0.1)
        assert asked == 1

"""What a service sees: from memory, current, with its own secrets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from microcosmos.base import context, errors
from microcosmos.config import following
from microcosmos.config.client import ConfigClient
from microcosmos.config.following import ServiceConfig
from microcosmos.rpc import Call, Client, MemoryNetwork

from .conftest import ADMIN, Account, Platform, opened

ORDERS = Account("orders")


@contextlib.asynccontextmanager
async def followed(**options: Any) -> AsyncIterator[tuple[ServiceConfig, ConfigClient, Platform]]:
    async with opened(**options) as platform:
        admin = ConfigClient(platform.client(ADMIN))
        async with ServiceConfig(platform.client(ORDERS), "orders") as config:
            yield config, admin, platform


async def until(config: ServiceConfig, condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await config._moved.wait()


async def test_reading_is_from_memory_and_never_raises_for_what_is_missing() -> None:
    async with followed() as (config, admin, _):
        assert config.get("key.subkey").int(5) == 5
        assert not config.get("key.subkey").exists()
        assert not config.get().list()
        await admin.set("key.subkey", "42")
        await until(config, config.get("key.subkey").exists)
        assert config.get("key.subkey").int(5) == 42
        assert config.get("key").map() == {"subkey": "42"}
        assert config.get().map() == {"key": {"subkey": "42"}}
        assert not config.get("key.subkey.more").exists()
        await admin.delete("key")
        await until(config, lambda: not config.get("key").exists())
        with pytest.raises(errors.BadRequest):
            config.get("key..subkey")


class Limits(msgspec.Struct):
    a: str
    b: int = 1


async def test_ones_own_writes_are_read_at_once() -> None:
    async with followed() as (config, _, __):
        for number in range(50):
            await config.set("orders.number", number)
            assert config.get("orders.number").int(-1) == number
        # Nothing is told where nothing changes; that is waited for, too.
        await config.set("orders.number", 49)
        await config.set("orders.limits", Limits("x", 5), secret=True)
        assert config.get("orders.limits", secret=True).struct(Limits) == Limits("x", 5)
        assert config.get("orders.limits.a").str() == "[secret]"
        await config.delete("orders.limits")
        assert not config.get("orders.limits").exists()
        with pytest.raises(errors.NotFound):
            await config.delete("orders.limits")
        with pytest.raises(errors.Forbidden, match=r"under its name \(orders\)"):
            await config.set("stock.limit", 1)


class Gated:
    """A network whose streams hold back their messages while a gate is shut."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, call: Call) -> bytes:
        return await self._network.call(call)

    async def open(self, call: Call) -> Any:
        stream = await self._network.open(call)
        gate, plain = self.gate, stream

        class Held:
            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> bytes:
                message = await anext(plain)
                await gate.wait()
                return message

            async def close(self, reason: Any = None) -> None:
                await plain.close(reason)

        return Held()


async def test_a_write_returns_when_it_can_be_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as platform:
        signed = platform.client(ORDERS)._transports[0]
        gated = Gated(signed)
        async with ServiceConfig(Client([gated]), "orders") as config:
            gated.gate.clear()
            writing = asyncio.ensure_future(config.set("orders.a", 1))
            async with contextlib.aclosing(platform.config.follow("micro")) as documents:
                async for document in documents:
                    if document.revision:
                        break
            for _ in range(50):
                await asyncio.sleep(0)
            assert not writing.done()
            assert not config.get("orders.a").exists()
            gated.gate.set()
            await writing
            assert config.get("orders.a").int() == 1
            # Who is never told hears so: it is written all the same.
            gated.gate.clear()
            monkeypatch.setattr(following, "SEEN", 0.02)
            with pytest.raises(errors.DeadlineExceeded, match="it is written"):
                await config.delete("orders.a")
            gated.gate.set()


async def test_back_and_forth_is_waited_for_although_nothing_is_another() -> None:
    async with followed() as (config, _, __):
        await config.set("orders.a", 1)
        await asyncio.gather(*(config.set("orders.a", number % 2) for number in range(10)))
        assert config.get("orders.a").int(-1) in (0, 1)


async def test_secrets_of_others_are_refused_where_they_are_asked_for() -> None:
    async with followed() as (config, admin, _):
        await admin.set("stock.password", "hush", secret=True)
        await admin.set("shared.password", "shh", secret=True)
        await admin.set("orders.password", "own", secret=True)
        await until(config, config.get("orders.password").exists)
        assert config.get("stock.password").str() == "[secret]"
        assert config.get("shared.password", secret=True).str() == "shh"
        assert config.get("orders", secret=True).map() == {"password": "own"}
        for path in ("stock.password", "stock", ""):
            with pytest.raises(errors.Forbidden, match=r"orders may not read the secret stock\."):
                config.get(path, secret=True)
        assert "own" not in repr(config.get("orders", secret=True))


async def test_a_secret_whose_key_is_lost_is_an_error_of_its_own() -> None:
    async with followed() as (_, admin, platform):
        await admin.set("orders.password", "own", secret=True)
        await admin.set("orders.limit", 5)
        platform.config.keys._keys = []
        async with ServiceConfig(platform.client(ORDERS), "orders") as later:
            assert later.get("orders.limit").int() == 5
            with pytest.raises(errors.InternalServerError, match="put that key back"):
                later.get("orders.password", secret=True)


async def test_watching_by_iteration() -> None:
    async with followed() as (config, admin, _):
        everything, limit = config.watch(), config.watch("orders.limit")
        await admin.set("orders.limit", 5)
        assert (await anext(limit)).int() == 5
        assert (await anext(everything)).map() == {"orders": {"limit": 5}}
        await admin.set("stock.limit", 7)
        assert "stock" in (await anext(everything)).map()
        # Who is slow is told of the last state only.
        for number in range(20):
            await admin.set("orders.limit", number)
        await until(config, lambda: config.get("orders.limit").int() == 19)
        assert (await anext(limit)).int() == 19
        await admin.delete("orders")
        assert not (await anext(limit)).exists()
        # What is somewhere else does not wake it, and closing it does.
        waiting = asyncio.ensure_future(anext(limit, None))
        await admin.set("stock.limit", 8)
        await until(config, lambda: config.get("stock.limit").int() == 8)
        limit.close()
        assert await waiting is None


async def test_watching_by_callback(caplog: pytest.LogCaptureFixture) -> None:
    async with followed() as (config, admin, _):
        told: asyncio.Queue[Any] = asyncio.Queue()

        async def later(value: Any) -> None:
            await told.put(("async", value.int()))

        def broken(value: Any) -> None:
            told.put_nowait(("broken", value.int()))
            raise RuntimeError("no")

        ends = [
            config.watch("orders.limit", lambda value: told.put_nowait(("plain", value.int()))),
            config.watch("orders.limit", later),
            config.watch("orders", broken),
        ]
        await admin.set("orders.limit", 5)
        got = {await told.get() for _ in range(3)}
        assert {one[0] for one in got} == {"plain", "async", "broken"}
        ends[0]()
        await admin.set("orders.limit", 6)
        got = {await told.get() for _ in range(2)}
        assert got == {("async", 6), ("broken", 0)}
        assert "a callback of config failed" in caplog.text
        caplog.clear()


async def test_the_last_known_values_stand_while_the_platform_is_away() -> None:
    async with followed() as (config, admin, platform):
        await admin.set("orders.limit", 5)
        await until(config, lambda: config.get("orders.limit").int() == 5)
        limit = config.watch("orders.limit")
        # The core goes, others change things, and it comes back.
        network = platform._network
        network.leave(platform.server)
        platform.config.close()
        await platform.config.set("micro", "orders.limit", 6)
        await platform.config.delete("micro", "orders.limit")
        await platform.config.set("micro", "orders.other", 7)
        assert config.get("orders.limit").int() == 5
        platform.config._closed = False
        network.join(platform.server)
        assert not (await anext(limit)).exists()
        assert config.get("orders.other").int() == 7
        await config.set("orders.limit", 8)
        assert config.get("orders.limit").int() == 8


async def test_who_may_not_read_config_starts_and_is_told_when_it_reads() -> None:
    async with opened() as platform, ServiceConfig(platform.client(), "orders") as config:
        with pytest.raises(errors.Unavailable, match=r"config could not be read: .*anonymous"):
            config.get("a")


async def test_without_the_platform_a_service_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.05)
    with caplog.at_level(logging.WARNING):
        async with ServiceConfig(Client([MemoryNetwork()]), "orders") as config:
            with pytest.raises(errors.Unavailable, match="service config not found"):
                config.get("a")
    assert "orders starts without its config" in caplog.text


async def test_it_is_the_services_own_whomever_it_serves() -> None:
    """A handler's caller, deadline and metadata are not those of the service's settings."""
    async with opened() as platform:
        context.set_current(context.Context(deadline=0.0))
        async with ServiceConfig(platform.client(ORDERS), "orders") as config:
            assert not config.get("a").exists()


async def test_many_followers_see_every_last_value() -> None:
    async with opened(trusting=True) as platform, contextlib.AsyncExitStack() as stack:
        admin = ConfigClient(platform.client(ADMIN))
        configs = [
            await stack.enter_async_context(ServiceConfig(platform.client(ORDERS), "orders"))
            for _ in range(20)
        ]
        await asyncio.gather(*(admin.set(f"orders.k{number}", number) for number in range(30)))
        for config in configs:
            await until(config, lambda config=config: len(config.get("orders").map()) == 30)
            assert config.get("orders").map() == {f"k{number}": number for number in range(30)}

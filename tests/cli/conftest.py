"""A command line in this process, and a small platform for it to talk to."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import argon2
import msgspec
import pytest

from microcosmos.auth.authority import Authority
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords
from microcosmos.auth.service import AuthService
from microcosmos.auth.topics import open_to_all
from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.cli.main import main
from microcosmos.events.memory import MemoryLog
from microcosmos.events.schema.registry import Registry
from microcosmos.events.schema.service import SchemasService
from microcosmos.events.service import EventsService
from microcosmos.registry import this_host
from microcosmos.registry.interface import HOST, LANE, Endpoint, Node, Service
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Hosted, Server
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.lane import listen
from microcosmos.store import MemoryStore, open_store
from microcosmos.store.table import Table


class Result(msgspec.Struct):
    """How a command ended."""

    code: int
    out: str
    err: str


T = TypeVar("T")
Micro = Callable[..., Result]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An empty MICRO_HOME, with a path short enough for sockets."""
    for name in [name for name in os.environ if name.startswith("MICRO_")]:
        monkeypatch.delenv(name)
    folder = tempfile.mkdtemp(prefix="cli-", dir="/tmp")
    monkeypatch.setenv("MICRO_HOME", folder)
    yield Home(folder)
    shutil.rmtree(folder)


@pytest.fixture
def micro(home: Home, capfd: pytest.CaptureFixture[str]) -> Micro:
    """Run a command line in this process."""

    def run(*words: str) -> Result:
        capfd.readouterr()
        code = main(words)
        said = capfd.readouterr()
        return Result(code, said.out, said.err)

    return run


class Address(msgspec.Struct, frozen=True, kw_only=True):
    street: str = ""
    zip_code: int = 0


class Echo(msgspec.Struct):
    """The request of `echo`."""

    text: str = ""
    count: int = 0
    ratio: float = 0.0
    loud: bool = False
    tags: list[str] = []
    numbers: list[int] = []
    labels: dict[str, str] = {}
    address: Address = Address()
    address_street: str = ""


class Greeting(msgspec.Struct):
    msg: str


async def call(name: str = "World") -> Greeting:
    """Say hello."""
    return Greeting(f"Hello {name}")


async def echo(request: Echo) -> Echo:
    """Give back what came."""
    return request


async def fail(code: int, detail: str = "it went wrong") -> None:
    raise errors.of_code(code, "things.Fail", detail)


async def seen_metadata() -> dict[str, str]:
    from microcosmos.base import context

    return dict(context.current().metadata)


async def thing() -> str:
    return "a thing"


async def read(name: str = "") -> list[dict[str, str]]:
    """What is deployed, as far as a completion wants to know it."""
    return [{"name": "helloworld", "status": "running"}, {"name": "broken", "status": "error"}]


HELLOWORLD = Hosted("helloworld", [endpoint(call, "helloworld")])
THINGS = Hosted(
    "things",
    [
        endpoint(echo, "things"),
        endpoint(fail, "things"),
        endpoint(seen_metadata, "things"),
        endpoint(thing, "things", name="Other.Thing"),
    ],
)


class Tick(msgspec.Struct):
    n: int


STOPPED = threading.Event()
"""Set when `ticks` has been given up by its caller."""


async def ticks(count: int = 3, pause: float = 0.0) -> AsyncIterator[Tick]:
    """Count, and wait in between."""
    try:
        for n in range(count):
            yield Tick(n)
            await asyncio.sleep(pause)
        if count < 0:
            raise errors.Conflict("ticker.Ticks", "nothing to be counted")
    except asyncio.CancelledError:
        STOPPED.set()
        raise


async def total(items: AsyncIterator[Tick]) -> Tick:
    """Sum up."""
    return Tick(sum([item.n async for item in items]))


async def times(factor: int, items: AsyncIterator[Tick]) -> AsyncIterator[Tick]:
    """Multiply."""
    async for item in items:
        yield Tick(item.n * factor)


# The runtime's place is known without the registry; the other is registered by its tests.
RUNTIME = Hosted("runtime", [endpoint(read, "runtime")])
TICKER = Hosted("ticker", [endpoint(one, "ticker") for one in (ticks, total, times)])


async def _settled() -> None:
    """Close what somebody has opened in the moment in which the platform ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)


class Platform:
    """A registry and two services on a lane, in a thread of their own.

    Attributes:
        registry: that of the platform.
        home: where it answers.
        log: what the service `events` serves, once a test has registered it.
        schemas: the schemas that it serves.

    Args:
        home: where it answers.
        guarded: whether it has accounts and asks who calls.
    """

    def __init__(self, home: Home, *, guarded: bool = False) -> None:
        self.home = home
        self.guarded = guarded
        self.registry = MemoryRegistry()
        self.log = MemoryLog()
        self.schemas = Registry(Table(MemoryStore()))
        served = EventsService(lambda _: self.log, open_to_all).hosted()
        schemas = SchemasService(self.schemas, open_to_all).endpoints()
        self.events = Hosted("events", [*served.endpoints.values(), *schemas])
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(_settled())

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            authority = None
            if self.guarded:
                store = await stack.enter_async_context(open_store("memory://"))
                quick = Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
                authority = Authority(store, TokenKeys(), passwords=quick)
                await stack.enter_async_context(authority)
            await self._answer(authority)

    async def _answer(self, authority: Authority | None) -> None:
        self.home.make()
        server = Server(verifier=authority.access if authority else None)
        server.add(RUNTIME)
        server.add(TICKER)
        server.add(self.events)
        registry = RegistryService(self.registry, guarded=self.guarded).hosted()
        hosted = [registry, HELLOWORLD, THINGS]
        if authority is not None:
            hosted.append(AuthService(authority).hosted())
        for one in hosted:
            server.add(one)
            await self.registry.register(self.record(one))
        async with listen(self.home.core_lane, server):
            addresses = {"api": "127.0.0.1:8080", "proxy": "127.0.0.1:18081"}
            addresses["nats"] = "127.0.0.1:4222"
            info = ServerInfo("0.1.0", time.time(), {"server": os.getpid()}, addresses)
            self.home.write_server_info(info)
            self._ready.set()
            await self._stop.wait()

    def record(self, hosted: Hosted, lane: Path | None = None) -> Service:
        """What the registry knows of a service."""
        metadata = {LANE: str(lane or self.home.core_lane), HOST: this_host()}
        return Service(
            name=hosted.name,
            endpoints=[
                Endpoint(
                    name=one.name,
                    request=one.request,
                    response=one.response,
                    metadata=dict(one.metadata),
                )
                for one in hosted.endpoints.values()
            ],
            nodes=[Node(id=f"{hosted.name}-1", metadata=metadata)],
        )

    def register(self, service: Service) -> None:
        """Put one more service into the registry."""
        self.do(self.registry.register(service))

    def do(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something where the platform runs."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(60)


@pytest.fixture
def platform(home: Home) -> Iterator[Platform]:
    """A platform that runs on the MICRO_HOME."""
    running = Platform(home)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def guarded(home: Home) -> Iterator[Platform]:
    """A platform that asks who calls, as a server does."""
    running = Platform(home, guarded=True)
    running.start()
    yield running
    running.stop()

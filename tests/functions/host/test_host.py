"""The host as a whole: functions are services, and run by events; it dies and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.auth.interface import Resource, Rule
from microcosmos.base import errors
from microcosmos.events.interface import Draft as EventDraft
from microcosmos.functions.host.door import reply
from microcosmos.functions.host.running import Answer
from microcosmos.functions.wire import GIVEN, HTML, JSON, TEXT
from microcosmos.registry.interface import LANE
from microcosmos.rpc import Client
from microcosmos.rpc.lane import LaneTransport
from microcosmos.rpc.one_socket import OneSocket

from ...events.engine import Engine
from ..web import said, web
from ..zygotes import until
from .hosting import World, lines, script, world


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.kill()


async def known(here: World, name: str, there: bool = True) -> None:
    """Wait until the platform's table knows a function, or does not any more."""
    await until(lambda: here.platform.table.knows(name) == there)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.01)


async def call(here: World, name: str, endpoint: str, body: Any, **metadata: str) -> Any:
    data = json.dumps(body).encode()
    return json.loads(await here.client.call(name, endpoint, data, metadata=metadata))


async def test_a_function_is_a_service(engine: Engine) -> None:
    async with world(engine) as here, here.host():
        await (await here.admin()).deploy(script("shop.cart"))
        await known(here, "shop.cart")
        answer = await call(here, "shop.cart", "Cart.Call", {"n": 1}, **{"X-Note": "a"})
        assert answer == {"got": {"n": 1}, "x": "a", "path": ""}
        (service,) = await here.registry.get_service("shop.cart")
        assert service.nodes[0].metadata[LANE] == str(here.home.functions_lane)
        with pytest.raises(errors.NotFound, match=r"it has: Cart\.Call"):
            await call(here, "shop.cart", "Cart.Drop", {})
        async with here.client.stream("shop.cart", "Cart.Call", b'{"n":2}') as stream:
            assert [json.loads(one)["got"] async for one in stream] == [{"n": 2}]


async def heard(nc: NatsClient, subject: str, body: bytes) -> Msg:
    """The answer of who is about to listen: the engine hears of that on another connection."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(nats.errors.NoRespondersError):
                return await nc.request(subject, body, timeout=60)


async def test_a_function_is_called_by_nats(engine: Engine) -> None:
    async with world(engine) as here, here.host() as host, engine.connection() as nc:
        admin = await here.admin()
        await admin.deploy(script("shop.cart"))
        await known(here, "shop.cart")
        await host.settled()
        subject = "rpc.shop~cart.Cart.Call"
        answer = await heard(nc, subject, b'{"n":1}')
        assert json.loads(answer.data)["got"] == {"n": 1}
        refused = await nc.request("rpc.shop~cart.Cart.Drop", b"{}", timeout=60)
        assert refused.headers is not None
        assert refused.headers["Nats-Service-Error-Code"] == "404"
        opened = await nc.request(
            subject, b'{"n":2}', timeout=5, headers={"Micro-Stream": "replies"}
        )
        assert json.loads(opened.data)["got"] == {"n": 2}
        await admin.delete("shop.cart")
        await known(here, "shop.cart", there=False)
        await host.settled()
        with pytest.raises(nats.errors.NoRespondersError):
            await nc.request(subject, b"{}", timeout=60)


async def test_rules_are_about_functions_as_about_services(engine: Engine) -> None:
    async with world(engine) as here, here.host():
        await (await here.admin()).deploy(script("shop"))
        await known(here, "shop")
        await call(here, "shop", "Shop.Call", {})
        rule = Rule(id="no", resource=Resource("service", "shop", "*"), access="DENIED", priority=1)
        await here.plane.auth.authority.rules.create("micro", rule)

        async def refused() -> bool:
            try:
                await call(here, "shop", "Shop.Call", {})
            except errors.Unauthorized:
                return True
            return False

        await eventually(refused)


async def test_only_the_platform_asks_where_functions_run(engine: Engine) -> None:
    async with world(engine) as here, here.host():
        socket = OneSocket("workers", here.home.functions_lane)
        lane = LaneTransport(socket)
        token = await here.plane.auth.make("jane")
        for client in (Client([lane]), Client([lane], identity=lambda: f"Bearer {token}")):
            with pytest.raises((errors.Unauthorized, errors.Forbidden)):
                await client.call("workers", "Workers.Place", b"{}")
        await lane.close()


EVENTS = """
const handler = (request, env) => env.store.get('seen')

async function consume(event, env) {
  console.log('consumed', event.topic, event.attempt)
  if (event.attempt === 1) throw new Error('not yet')
  await env.store.set('seen', event.payload)
}
"""


async def test_an_event_runs_a_function_until_it_has_worked(engine: Engine) -> None:
    async with world(engine) as here, here.host() as host:
        draft = script("shop", EVENTS, on=["events:orders"], grants=["store"])
        await (await here.admin()).deploy(draft)
        await known(here, "shop")
        await host.settled()
        await here.log.publish(EventDraft("orders", b'{"n":7}'))
        table = here.plane.store.table("shop", database="micro")
        await eventually(lambda: table.has("seen"))
        assert await table.get("seen") == {"n": 7}
        await until(lambda: "consumed orders 2" in lines(here.home, "shop"))
        assert "not yet" in lines(here.home, "shop")


async def test_a_function_of_another_namespace(engine: Engine) -> None:
    async with world(engine) as here, here.host() as host:
        await here.plane.auth.make("ann", "admin", namespace="dev")
        token = await here.plane.auth.login("ann", "password of ann", options={"namespace": "dev"})
        await (await here.admin()).deploy(script("shop", OTHER))
        await known(here, "shop")
        async with here.joined("dev") as dev:
            theirs = here.functions(token, dev)
            await theirs.deploy(script("shop"))
            await until(lambda: dev.table.knows("shop"))

            async def answers() -> bool:
                """Not until the host has heard of the namespace, which is new too."""
                try:
                    data = await dev.client.showing(None).call("shop", "Shop.Call", b'{"n":1}')
                except errors.NotFound:
                    return False
                return bool(json.loads(data)["got"] == {"n": 1})

            await eventually(answers)
            assert await call(here, "shop", "Shop.Call", {}) == "another"
            await theirs.delete("shop")
            await until(lambda: not dev.table.knows("shop"))
        assert await call(here, "shop", "Shop.Call", {}) == "another"
        await host.settled()


OTHER = """
function handler() {
  console.log('called')
  return 'another'
}
"""


async def test_the_next_host_finds_what_runs(engine: Engine) -> None:
    async with world(engine) as here:
        admin = await here.admin()

        async def counted(requests: int) -> None:
            async def enough() -> bool:
                return (await admin.consumption("shop")).requests == requests

            await eventually(enough)

        async with here.host():
            await admin.deploy(script("shop", OTHER))
            await known(here, "shop")
            assert await call(here, "shop", "Shop.Call", {}) == "another"
            await counted(1)
        async with here.host():
            await known(here, "shop")
            assert await call(here, "shop", "Shop.Call", {}) == "another"
            await counted(2)
        assert lines(here.home, "shop").count("called") == 2


FETCHING = """
async function handler(request) {
  const { url } = await request.json()
  return (await fetch(url)).text()
}
"""


async def test_a_sub_request_goes_where_it_may(engine: Engine) -> None:
    async with web(said(b"from outside")) as server, world(engine) as here, here.host():
        admin = await here.admin()
        await admin.deploy(script("fetching", FETCHING, hosts=[server.host]))
        await admin.deploy(script("locked", FETCHING))
        await known(here, "fetching")
        await known(here, "locked")
        asked = {"url": server.url}
        assert await call(here, "fetching", "Fetching.Call", asked) == "from outside"
        with pytest.raises(errors.InternalServerError):
            await call(here, "locked", "Locked.Call", asked)
        await until(lambda: "is no public address" in lines(here.home, "locked"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, JSON, [], b'{"a":1}'), {"a": 1}),
        (Answer(201, TEXT, [], b"hello"), "hello"),
        (Answer(200, HTML, [], b"<html>"), "<html>"),
        (Answer(200, GIVEN, [("Content-Type", "application/problem+json; x=y")], b"[1]"), [1]),
        (Answer(200, GIVEN, [("content-type", "image/png")], b"\x00\xff"), "AP8="),
        (Answer(200, GIVEN, [], b"\xff"), "/w=="),
        (Answer(204, GIVEN, [], b""), {}),
    ],
)
def test_an_answer_as_the_json_of_a_call(answer: Answer, expected: Any) -> None:
    assert json.loads(reply("shop", answer)) == expected


@pytest.mark.parametrize(
    ("answer", "code", "detail"),
    [
        (Answer(404, TEXT, [], b"no such\nthing"), 404, "no such thing"),
        (Answer(418, TEXT, [], b""), 418, ""),
        (Answer(302, GIVEN, [("location", "/")], b""), 502, "shop answered a call with status 302"),
        (Answer(200, JSON, [], b"{"), 502, "shop says that its answer is JSON"),
        (Answer(409, JSON, [], b'{"Id":"x","Code":409,"Detail":"taken"}'), 409, "taken"),
        (Answer(400, JSON, [], b'{"Id":"x","Code":200,"Detail":"ok"}'), 400, '{"Id":"x"'),
    ],
)
def test_an_answer_that_is_an_error(answer: Answer, code: int, detail: str) -> None:
    with pytest.raises(errors.Error) as caught:
        reply("shop", answer)
    assert caught.value.code == code
    assert caught.value.detail.startswith(detail)

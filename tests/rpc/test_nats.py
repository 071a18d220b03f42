"""What only NATS does: callers and services in other languages, its own limits, a lost server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import nats.errors
import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from microcosmos.base import errors
from microcosmos.base.context import Context
from microcosmos.rpc import MAX_BODY, Client, Endpoint
from microcosmos.rpc import nats as by_nats

from .conformance import MB, Failing, Gate, call, echo, greet
from .wires import NatsServer, nats_net, until


async def seen(here: Context) -> dict[str, str]:
    return {**here.metadata, "left": str(here.remaining())}


@contextlib.asynccontextmanager
async def foreign(url: str) -> AsyncIterator[NatsClient]:
    """A plain connection, as programs in other languages have one."""
    nc = await nats.connect(url)
    try:
        yield nc
    finally:
        await nc.close()


async def test_a_plain_request_is_answered(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await net.serve(call)
        answer = await nc.request("rpc.demo.Demo.Call", b'{"name":"John"}')
        assert (answer.data, answer.headers) == (b'{"msg":"Hello John"}', None)
        assert (await nc.request("rpc.demo.Demo.Call")).data == b'{"msg":"Hello World"}'


async def test_headers_of_a_plain_request_are_metadata_in_any_case(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await net.serve(seen)
        headers = {"x-user": "jo", "timeout": "2000000000"}
        answer = await nc.request("rpc.demo.Demo.Seen", headers=headers)
        found = msgspec.json.decode(answer.data)
        assert found["X-User"] == "jo"
        assert 0 < float(found["left"]) <= 2
        assert set(found) == {"X-User", "left"}


@pytest.mark.parametrize("timeout", ["soon", "", "1e3", "9" * 400, "9" * 5000, "inf", "nan", "٣x"])
async def test_a_timeout_that_makes_no_sense_is_none(nats_url: str, timeout: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await net.serve(seen)
        answer = await nc.request("rpc.demo.Demo.Seen", headers={"Timeout": timeout})
        assert msgspec.json.decode(answer.data) == {"left": "None"}


async def test_a_timeout_that_has_passed_cancels_the_handler(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        gate = Gate()
        await net.serve(gate.endpoint, call)
        await nc.publish("rpc.demo.Demo.Wait", reply="nobody", headers={"Timeout": "20000000"})
        await nc.publish("rpc.demo.Demo.Wait", reply="nobody", headers={"Timeout": "-5"})
        await until(lambda: gate.entered and gate.entered == gate.cancelled)
        assert await greet(net) == b'{"msg":"Hello Jo"}'


async def test_an_error_has_the_headers_that_adr_32_gives_it(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await net.serve(Failing(errors.NotFound("users", "no\r\nuser  é")).endpoint)
        answer = await nc.request("rpc.demo.Demo.Fail")
        assert answer.headers == {
            "Nats-Service-Error": "no user é",
            "Nats-Service-Error-Code": "404",
        }
        assert msgspec.json.decode(answer.data) == {
            "id": "users",
            "code": 404,
            "detail": "no\r\nuser  é",
            "status": "Not Found",
        }


async def test_an_error_without_a_detail_has_its_status_in_the_header(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await net.serve(Failing(errors.Conflict("users")).endpoint)
        answer = await nc.request("rpc.demo.Demo.Fail")
        assert answer.headers is not None
        assert answer.headers["Nats-Service-Error"] == "Conflict"


async def test_a_message_that_wants_no_answer_is_handled_too(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        failing = Failing(RuntimeError("x"))
        await net.serve(failing.endpoint)
        for _ in range(3):
            await nc.publish("rpc.demo.Demo.Fail")
        await until(lambda: failing.calls == 3)


async def test_requests_with_one_reply_subject_are_each_answered(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        gate = Gate()
        await net.serve(gate.endpoint)
        answers = await nc.subscribe("shared.inbox")
        for _ in range(3):
            await nc.publish("rpc.demo.Demo.Wait", reply="shared.inbox")
        await until(lambda: gate.entered == 3)
        gate.opened.set()
        for _ in range(3):
            assert (await answers.next_msg(timeout=60)).data == b'"through"'


async def _answer_all(nc: NatsClient, data: bytes, headers: dict[str, str] | None) -> None:
    async def answer(msg: Msg) -> None:
        await nc.publish(msg.reply, data, headers=headers)

    await nc.subscribe("rpc.demo.*.*", cb=answer)
    await by_nats.settle(nc)


@pytest.mark.parametrize(
    ("data", "headers", "kind", "detail"),
    [
        (b"", {"Nats-Service-Error": "no such", "Nats-Service-Error-Code": "404"},
         errors.NotFound, "no such"),
        (b'{"reason":1}', {"Nats-Service-Error": "no such", "Nats-Service-Error-Code": "404"},
         errors.NotFound, "no such"),
        (b"text", {"Nats-Service-Error": "x", "Nats-Service-Error-Code": "418"},
         errors.Error, "x"),
        (b"", {"Nats-Service-Error": "x", "Nats-Service-Error-Code": "many"},
         errors.InternalServerError, "x"),
        (b"", {"Nats-Service-Error": "x", "Nats-Service-Error-Code": "7"},
         errors.InternalServerError, "x"),
        (b"", {"Nats-Service-Error-Code": "400"}, errors.BadRequest, ""),
    ],
)  # fmt: skip
async def test_an_error_of_a_foreign_service_is_read_from_its_headers(
    nats_url: str, data: bytes, headers: dict[str, str], kind: type[errors.Error], detail: str
) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await _answer_all(nc, data, headers)
        with pytest.raises(errors.Error) as caught:
            await net.client.call("demo", "Demo.Call", retry=False)
        assert (type(caught.value), caught.value.detail) == (kind, detail)


async def test_an_answer_with_headers_of_its_own_is_an_answer(nats_url: str) -> None:
    async with nats_net(nats_url) as net, foreign(nats_url) as nc:
        await _answer_all(nc, b'"fine"', {"X-Any": "thing", "Status": "503"})
        assert await net.client.call("demo", "Demo.Call") == b'"fine"'


async def test_a_request_over_the_servers_limit_is_a_413_and_the_connection_lives(
    own_nats: NatsServer,
) -> None:
    async with nats_net(own_nats.url) as net:
        gate = Gate()
        await net.serve(call, echo(), gate.endpoint)
        waiting = asyncio.create_task(net.client.call("demo", "Demo.Wait", timeout=60))
        await until(lambda: gate.entered)
        for size in (2 * MB, MB, MB - 20):
            with pytest.raises(errors.TooLarge, match=f"the limit of one call is {MB}"):
                await net.client.call("demo", "Demo.Echo", bytes(size))
        assert len(await net.client.call("demo", "Demo.Echo", bytes(MB - 1000))) == MB - 1000
        gate.opened.set()
        assert await waiting == b'"through"'


async def test_an_answer_over_the_servers_limit_is_a_413(own_nats: NatsServer) -> None:
    async def large(body: bytes) -> bytes:
        return bytes(MB + 1)

    async with nats_net(own_nats.url) as net:
        await net.serve(call, Endpoint("Demo.Large", large))
        with pytest.raises(errors.TooLarge, match=f"the answer has {MB + 1} bytes"):
            await net.client.call("demo", "Demo.Large")
        assert await greet(net) == b'{"msg":"Hello Jo"}'


async def test_metadata_that_makes_a_call_too_large_is_a_413(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        gate = Gate()
        await net.serve(echo(), gate.endpoint)
        waiting = asyncio.create_task(net.client.call("demo", "Demo.Wait", timeout=60))
        await until(lambda: gate.entered)
        with pytest.raises(errors.TooLarge, match="with its metadata"):
            await net.client.call(
                "demo", "Demo.Echo", bytes(MAX_BODY), metadata={"x-large": "x" * 100_000}
            )
        gate.opened.set()
        assert await waiting == b'"through"'


async def test_a_lost_server_fails_what_waits_and_comes_back(own_nats: NatsServer) -> None:
    async with nats_net(own_nats.url) as net:
        gate = Gate()
        await net.serve(call, gate.endpoint)
        waiting = asyncio.create_task(net.client.call("demo", "Demo.Wait", timeout=60, retry=False))
        await until(lambda: gate.entered)
        own_nats.kill()
        with pytest.raises(errors.ConnectionLost, match="the connection to NATS broke before"):
            await waiting
        own_nats.start()
        while True:
            try:
                answer = await net.client.call("demo", "Demo.Call", timeout=1)
                break
            except (errors.NotFound, errors.Unavailable, errors.DeadlineExceeded):
                continue  # the server's side has not connected again yet
        assert answer == b'{"msg":"Hello World"}'
        gate.opened.set()


async def test_who_waits_for_a_service_whose_last_replica_died_is_told(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        gates = {"demo": Gate(), "other": Gate()}
        for name, gate in gates.items():
            await net.serve(gate.endpoint, service=name)
        dead, other = (
            asyncio.create_task(net.client.call(name, "Demo.Wait", timeout=60, retry=False))
            for name in gates
        )
        await until(lambda: all(gate.entered for gate in gates.values()))
        net.transport.changed("demo")  # a replica more, say
        net.addresses.dead.add("demo")
        net.transport.changed("other")
        await asyncio.sleep(0)
        assert not dead.done()
        net.transport.changed("demo")
        with pytest.raises(errors.ConnectionLost, match="last replica died before demo"):
            await dead
        for gate in gates.values():
            gate.opened.set()
        assert await other == b'"through"'


async def test_nobody_at_the_address_is_told_soon_and_with_its_cause(own_nats: NatsServer) -> None:
    own_nats.kill()
    with pytest.raises(errors.Unavailable, match=f"cannot connect to {own_nats.url}"):
        async with by_nats.connect(own_nats.url, patience=0.2):
            raise AssertionError("there is nobody")


async def test_the_password_of_an_address_is_not_told(own_nats: NatsServer) -> None:
    own_nats.kill()
    url = own_nats.url.replace("://", "://ann:hunter2@")
    with pytest.raises(errors.Unavailable, match=r"nats://ann:\[secret\]@") as caught:
        async with by_nats.connect(url, patience=0.2):
            raise AssertionError("there is nobody")
    assert "hunter2" not in caught.value.detail


async def test_a_closed_connection_reaches_nobody(nats_url: str) -> None:
    async with by_nats.connect(nats_url) as nc:
        transport = by_nats.NatsTransport(nc)
        client = Client([transport])
    with pytest.raises(errors.NotFound):
        await client.call("demo", "Demo.Call")


async def test_first_calls_that_come_together_are_all_answered(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        await net.serve(call)
        first = asyncio.create_task(greet(net, "first"))
        others = [asyncio.create_task(greet(net, str(n))) for n in range(20)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [b'{"msg":"Hello %d"}' % n for n in range(20)]


async def test_services_whose_names_begin_alike_hear_only_their_own_calls(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        gate, other = Gate(), Failing()
        await net.serve(gate.endpoint, service="a.b")
        await net.serve(other.endpoint, service="a")
        waiting = asyncio.create_task(net.client.call("a.b", "Demo.Wait", timeout=60))
        await until(lambda: gate.entered)
        waiting.cancel()
        await until(lambda: gate.cancelled)
        assert await net.client.call("a", "Demo.Fail") == b'"well"'
        assert other.calls == 1


async def test_every_replica_is_asked_only_once_per_call(nats_url: str) -> None:
    async with nats_net(nats_url) as net:
        handlers = [Failing() for _ in range(3)]
        for handler in handlers:
            await net.serve(handler.endpoint)
        for _ in range(30):
            await net.client.call("demo", "Demo.Fail")
        assert sum(handler.calls for handler in handlers) == 30

"""The broker over rpc: its endpoints as others call them, and a core that dies."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from microcosmos.base import context, errors
from microcosmos.broker import Message, Subscriber, wire
from microcosmos.broker.client import RemoteBroker
from microcosmos.broker.memory import MemoryBroker

from .nets import Core, Heard, handling, until


async def test_micros_own_requests() -> None:
    broker = MemoryBroker()
    client = Core(broker).client()
    request = {
        "topic": "health",
        "message": {"header": {"content-type": "text/x", "foo": "bar"}, "body": "aGVsbG8="},
    }
    subscribe = json.dumps({"topic": "health", "queue": ""}).encode()
    async with client.stream("broker", "Broker.Subscribe", subscribe) as stream:
        await until(lambda: broker._groups)
        answer = await client.call("broker", "Broker.Publish", json.dumps(request).encode())
        assert answer == b"{}"
        message = json.loads(await anext(stream))
    assert base64.b64decode(message["body"]) == b"hello"
    assert message["header"]["Foo"] == "bar"
    assert message["header"]["Content-Type"] == "text/x"


async def test_a_calls_metadata_is_the_messages() -> None:
    broker = MemoryBroker()
    heard = Heard()
    await broker.subscribe("t", heard)
    client = Core(broker).client()
    body = b'{"topic":"t","message":{"header":{"Mine":"wins"},"body":"MQ=="}}'
    metadata = {
        "mine": "loses",
        "foobar": "mycustomval",
        "authorization": "Bearer x",
        "cookie": "c=1",
        "micro-trace": "ab" * 16,
    }
    await client.call("broker", "Broker.Publish", body, metadata=metadata)
    (message,) = await heard.first(1)
    assert message.headers == {"Mine": "wins", "Foobar": "mycustomval", "Micro-Trace": "ab" * 16}


@pytest.mark.parametrize(
    ("endpoint", "request_", "told"),
    [
        ("Publish", {}, "topic"),
        ("Publish", {"topic": ""}, "no topic"),
        ("Publish", {"topic": "a b"}, "no topic"),
        ("Publish", {"topic": "t", "message": {"body": "no base64!"}}, "body"),
        ("Publish", {"topic": "t", "message": {"header": {"a\nb": "c"}}}, "metadata"),
        ("Publish", {"topic": "t", "message": {"header": {"a": 1}}}, "header"),
        ("Publish", {"topic": "t", "mesage": {}}, "mesage"),
        ("Report", {"topic": "t"}, "report"),
        ("Report", {"report": "r", "topic": "*", "subscriber": "s"}, "no topic"),
    ],
)
async def test_bad_requests(endpoint: str, request_: Any, told: str) -> None:
    client = Core(MemoryBroker()).client()
    with pytest.raises(errors.BadRequest, match=told):
        await client.call("broker", f"Broker.{endpoint}", json.dumps(request_).encode())


async def test_who_may_not() -> None:
    asked: list[tuple[str, str]] = []
    closed: list[str] = []

    def authorise(topic: str, verb: str) -> None:
        asked.append((topic, verb))
        if topic in closed:
            raise errors.Forbidden("topic", f"you may not {verb} {topic}")

    core = Core(MemoryBroker(), authorise)
    remote = RemoteBroker(core.client())
    closed.append("secret.>")
    with pytest.raises(errors.Forbidden, match=r"you may not subscribe secret\.>"):
        await remote.subscribe("secret.>", Heard())
    closed.append("secret")
    with pytest.raises(errors.Forbidden, match="publish secret"):
        await remote.publish("secret", b"1")
    with pytest.raises(errors.Forbidden, match="subscribe secret"):
        await remote.report(Message("secret", b"", {}, "1"), "s", "r")
    heard = Heard()
    subscription = await remote.subscribe("open", heard)
    await core.broker.publish("open", b"1")
    await heard.first(1)
    # The rules change: what is published from now on is not for this one.
    closed.append("open")
    await core.broker.publish("open", b"2")
    await until(lambda: asked.count(("open", "subscribe")) >= 4)
    closed.remove("open")
    await until(lambda: core.broker._groups)  # type: ignore[attr-defined]
    await core.broker.publish("open", b"3")
    await heard.first(2)
    assert heard.bodies == [b"1", b"3"]
    await subscription.close()
    await remote.close()


async def test_a_core_that_dies_and_comes_back_is_heard_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    core = Core(MemoryBroker())
    remote = RemoteBroker(core.client())
    heard = Heard()
    await remote.subscribe("t", heard)
    await core.broker.publish("t", b"before")
    await heard.first(1)
    core.die()
    await until(lambda: not core.broker._groups)  # type: ignore[attr-defined]
    await core.broker.publish("t", b"lost")
    core.come_back()
    await until(lambda: core.broker._groups)  # type: ignore[attr-defined]
    await core.broker.publish("t", b"after")
    await heard.first(2)
    assert heard.bodies == [b"before", b"after"]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in lines] == ["messages of t are not heard for a while"]
    await remote.close()


async def test_without_a_core() -> None:
    core = Core(MemoryBroker())
    core.die()
    remote = RemoteBroker(core.client())
    with pytest.raises(errors.NotFound, match="broker"):
        await remote.subscribe("t", Heard())
    with pytest.raises(errors.NotFound, match="broker"):
        await remote.publish("t", b"1")
    core.come_back()
    await remote.publish("t", b"1")
    await remote.close()
    with pytest.raises(errors.Unavailable):
        await remote.subscribe("t", Heard())


async def test_reports_go_on_after_the_core_was_away() -> None:
    core = Core(MemoryBroker())
    remote = RemoteBroker(core.client())

    async def handle() -> None:
        raise errors.Conflict("x", "no")

    async with Subscriber(handle, "t").on(core.broker, service="s"):
        await remote.publish("t", b"1")
        await until(lambda: remote.failures.reported["t"] == 1)
        address = remote._told.address if remote._told else ""
        core.die()
        core.come_back()
        await until(lambda: remote._told and remote._told.address != address)
        await remote.publish("t", b"1")
        await until(lambda: remote.failures.reported["t"] == 2)
    await remote.close()


async def test_a_message_that_is_too_large_for_rpc_ends_no_stream() -> None:
    core = Core(MemoryBroker())
    remote = RemoteBroker(core.client())
    heard = Heard()
    await remote.subscribe("t", heard)
    await core.broker.publish("t", b"x" * (wire.MAX_BODY + 1))
    await core.broker.publish("t", b"small")
    await heard.first(1)
    assert heard.bodies == [b"small"]
    assert core.broker.failures.failed == {"t": 1}
    await remote.close()


async def test_a_remote_subscriber_that_does_not_read_fills_nothing() -> None:
    core = Core(MemoryBroker())
    client = core.client()
    async with client.stream("broker", "Broker.Subscribe", b'{"topic":"t"}') as stream:
        await until(lambda: core.broker._groups)  # type: ignore[attr-defined]
        for _ in range(wire.MAX_WAITING + 50):
            await core.broker.publish("t", b"{}")
        assert core.broker.failures.dropped["t"] == 50
        await anext(stream)


async def test_closing_ends_the_stream_in_the_core() -> None:
    core = Core(MemoryBroker())
    remote = RemoteBroker(core.client())
    subscription = await remote.subscribe("t", Heard())
    assert core.broker._groups  # type: ignore[attr-defined]
    await subscription.close()
    await until(lambda: not core.broker._groups)  # type: ignore[attr-defined]
    await remote.close()


async def test_a_remote_publishes_as_itself_whomever_it_serves() -> None:
    seen: list[Any] = []

    def authorise(topic: str, verb: str) -> None:
        seen.append(context.current().metadata.get("Authorization"))

    core = Core(MemoryBroker(), authorise)
    mine = core.client().showing(lambda: "Bearer mine")
    remote = RemoteBroker(mine)
    with handling(Authorization="Bearer theirs"):
        await remote.publish("t", b"1")
    assert seen == ["Bearer mine"]
    await remote.close()


async def test_many_that_publish_first_ask_for_one_address() -> None:
    broker = MemoryBroker()
    remote = RemoteBroker(Core(broker).client())
    await asyncio.gather(*(remote.publish("t", b"1") for _ in range(20)))
    assert len(broker._addresses) == 2
    await remote.close()


async def test_what_begins_in_a_call_outlives_it() -> None:
    core = Core(MemoryBroker())
    remote = RemoteBroker(core.client())
    heard = Heard()
    # Of a call whose time is up: with that for a deadline no stream could begin.
    here = context._current.set(context.Context(None, 0.0))
    await remote.subscribe("t", heard)
    await remote.reports(lambda failure: None)
    context._current.reset(here)
    await remote.publish("t", b"1")
    await heard.first(1)
    await remote.close()
